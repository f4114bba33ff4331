"""Fetches icon sets under permissive licences and turns them into line drawings of named objects, for pretraining ink-small.

The same name in many sets teaches the object behind the style. Names are joined across sets and with Quick, Draw!'s class
words; icons of the classes that ink-small must not see are left out (`benchmarks/ink_small.py`: left_out).

    pip install -r pretraining/requirements.txt
    python pretraining/icons.py --quickdraw DIR --out OUT [--package FILE.tgz] [--processes 2]

`--quickdraw` is the competition's layout (train.csv names the classes). The package comes from the npm registry by `npm pack`,
a hundred megabytes once; `--package` takes a file that is already here. Both are checked against icon_sets.yaml's digest.
Written to OUT, which is not for the repository:

    icons.npy       [n, 128, 128] uint8, dark ink on white
    icons.csv       row, name, class (its number in names.csv), set, variant (the icon's name there), kind
    names.csv       class, name, count, sets, quickdraw (the word it joins, or empty); most sets first
    left_out.csv    name, set, class: what was left out because it shows an unseen class
    attribution.md  set, author, licence and address
"""

import argparse
import base64
import csv
import hashlib
import json
import subprocess
import sys
import tarfile
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path += [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "benchmarks")]
from icon_names import UnseenClasses, is_dropped, join_tails, object_name, split_words, without_style  # noqa: I001
from icon_pictures import SIDE_PX, DrawError, Icon, draw
from ink_small import left_out

SETS = Path(__file__).with_name("icon_sets.yaml")
MAX_SET_BYTES = 40_000_000
CLASS_SETS = 4  # a name in so many sets is a class
PER_SET, PER_SET_RARE = 4, 1  # drawings of a name by one set: of classes, and of names in fewer sets
PER_NAME, PER_QUICKDRAW_NAME = 8, 40  # drawings of a name
SINGLE_NAMES = 2000  # names of one set, by digest


class IconError(ValueError):
    """The package or a set can't be used."""


@dataclass(frozen=True)
class IconSet:
    """A set as its file says.

    Attributes:
        name: The set's short name, such as "ph".
        info: Author, licence and palette as the set's file states them.
        icons: Body and size of each icon by its name, in the file's order.
        size: Width and height of icons that state none.
    """

    name: str
    info: Mapping[str, Any]
    icons: Mapping[str, Mapping[str, Any]]
    size: tuple[float, float]


@dataclass(frozen=True)
class Drawing:
    """An icon with the name under which it is joined."""

    name: str
    set_name: str
    variant: str
    icon: Icon


def fetch(settings: Mapping[str, Any], folder: Path) -> Path:
    """Fetch the package by npm, unless the folder has it, and return the file."""
    stem = settings["package"].lstrip("@").replace("/", "-")
    file = folder / f"{stem}-{settings['version']}.tgz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", "--ignore-scripts", f"{settings['package']}@{settings['version']}"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=900)
    return file


def check_package(file: Path, settings: Mapping[str, Any]) -> None:
    """Compare a package's size and digest with the settings.

    Raises:
        IconError: If either differs.
    """
    size = file.stat().st_size
    if size > settings["max_bytes"]:
        raise IconError(f"{file.name}: {size} bytes, expected at most {settings['max_bytes']}. Fetch the pinned version.")
    with file.open("rb") as stream:
        digest = "sha512-" + base64.b64encode(hashlib.file_digest(stream, "sha512").digest()).decode()
    if digest != settings["integrity"]:
        raise IconError(f"{file.name}: digest {digest}, expected {settings['integrity']}. Fetch the pinned version.")


def read_sets(file: Path, settings: Mapping[str, Any]) -> list[IconSet]:
    """Read the sets that the settings name, in their order.

    Raises:
        IconError: If a set is missing, too large, or not under an accepted licence; all of them are reported.
    """
    wanted, found, problems = settings["sets"], {}, []
    with tarfile.open(file) as package:
        for member in package:
            name = Path(member.name).stem
            if not (member.isfile() and member.name == f"package/json/{name}.json" and name in wanted):
                continue
            stream = package.extractfile(member)
            if stream is None or member.size > MAX_SET_BYTES:
                problems.append(f"{name}: {member.size} bytes, expected at most {MAX_SET_BYTES}")
                continue
            found[name] = parse_set(name, json.load(stream))
    problems += [f"{name}: not in {file.name}" for name in wanted if name not in found]
    problems += [line for one in found.values() if (line := licence_problem(one, settings["licences"]))]
    if problems:
        raise IconError("\n".join([*problems, "Take these out of icon_sets.yaml."]))
    return [found[name] for name in wanted]


def parse_set(name: str, content: Mapping[str, Any]) -> IconSet:
    """Take what is needed from a set's file, without hidden icons: those are older names of others."""
    icons = {key: icon for key, icon in content["icons"].items() if not icon.get("hidden")}
    return IconSet(name, content.get("info", {}), icons, (content.get("width", 16), content.get("height", 16)))


def licence_problem(one: IconSet, accepted: Collection[str]) -> str | None:
    """Say why a set's licence isn't accepted; None if it is."""
    spdx = one.info.get("license", {}).get("spdx")
    return None if spdx in accepted else f"{one.name}: licence {spdx}, expected one of {', '.join(accepted)}"


def name_drawings(
    sets: Sequence[IconSet], unseen: UnseenClasses, category_first: Collection[str]
) -> tuple[list[Drawing], list[tuple[str, str, str]], int]:
    """Name all icons, without those that show an unseen class, a company's sign or the like.

    Returns:
        The drawings in the sets' order; (icon, set, class) of those left out as unseen; how many others were dropped.
    """
    drawings, hidden, dropped = [], [], 0
    for one in sets:
        siblings = {" ".join(split_words(name)) for name in one.icons}
        for variant in one.icons:
            parts = split_words(variant)
            if is_dropped(parts):
                dropped += 1
            elif (found := unseen.match(parts)) or (found := unseen.match(split_words(object_name(parts)))):
                hidden.append((variant, one.name, found))
            else:
                drawings.append(Drawing(object_name(without_style(variant, siblings)), one.name, variant, _icon(one, variant)))
    return _without_categories(drawings, category_first), hidden, dropped


def _without_categories(drawings: Sequence[Drawing], category_first: Collection[str]) -> list[Drawing]:
    """Join the names of sets that put categories before their names by the endings that other sets know."""
    pairs = {(one.name, one.set_name) for one in drawings if one.set_name not in category_first}
    known = Counter(name for name, _ in pairs)
    names = [one.name if one.set_name not in category_first else join_tails([one.name], known)[0] for one in drawings]
    return [Drawing(name, one.set_name, one.variant, one.icon) for name, one in zip(names, drawings, strict=True)]


def _icon(one: IconSet, variant: str) -> Icon:
    content = one.icons[variant]
    view = tuple(
        float(content.get(key, value)) for key, value in zip(("left", "top", "width", "height"), (0, 0, *one.size), strict=True)
    )
    return Icon(str(content["body"]), view, bool(one.info.get("palette")), number(f"{one.name}:{variant}"))  # type: ignore[arg-type]


def number(text: str) -> int:
    """Turn a text into a number that is the same everywhere."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def select(drawings: Sequence[Drawing], quickdraw: Collection[str]) -> list[Drawing]:
    """Choose at most so many drawings of a name, each set's first ones before any set's second.

    Args:
        drawings: In the order in which sets are preferred.
        quickdraw: Joined names of Quick, Draw!'s classes, of which more are kept.
    """
    by_name: dict[str, dict[str, list[Drawing]]] = defaultdict(lambda: defaultdict(list))
    for drawing in drawings:
        by_name[drawing.name][drawing.set_name].append(drawing)
    single = sorted((name for name, sets in by_name.items() if len(sets) == 1 and name not in quickdraw), key=number)
    skipped = set(single[SINGLE_NAMES:])
    kept = []
    for name in sorted(by_name.keys() - skipped):
        sets = by_name[name]
        joined = name in quickdraw
        per_set = PER_SET if len(sets) >= CLASS_SETS or joined else PER_SET_RARE
        columns = [spread(members, per_set) for members in sets.values()]
        turns = [one for row in zip_longest(*columns) for one in row if one is not None]
        kept += turns[: PER_QUICKDRAW_NAME if joined else PER_NAME]
    return kept


def spread(members: Sequence[Drawing], most: int) -> list[Drawing]:
    """Take drawings from all over a set's variants of a name."""
    places = dict.fromkeys(round(place) for place in np.linspace(0, len(members) - 1, min(most, len(members))))
    return [members[place] for place in places]


def _drawn(icon: Icon) -> list[tuple[str, np.ndarray]] | str:
    try:
        return draw(icon)
    except DrawError as error:
        return str(error).split(":")[0]


def draw_all(drawings: Sequence[Drawing], processes: int) -> Iterator[tuple[Drawing, list[tuple[str, np.ndarray]] | str]]:
    """Draw all, in their order; what can't be drawn comes as the reason."""
    if processes == 1:
        yield from ((drawing, _drawn(drawing.icon)) for drawing in drawings)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from zip(drawings, pool.map(_drawn, [drawing.icon for drawing in drawings], chunksize=64), strict=True)


def write_pictures(drawings: Sequence[Drawing], out: Path, processes: int) -> tuple[list[tuple[Drawing, str]], Counter[str]]:
    """Draw and store the pictures, each only once.

    Returns:
        The drawing and kind of every row of icons.npy; how many were skipped, by reason.
    """
    rows: list[tuple[Drawing, str]] = []
    skipped: Counter[str] = Counter()
    seen: set[bytes] = set()
    raw = out / "icons.raw"
    with raw.open("wb") as file:
        for drawing, drawn in draw_all(drawings, processes):
            if isinstance(drawn, str):
                skipped[drawn] += 1
                continue
            for kind, picture in drawn:
                digest = hashlib.sha256(picture.tobytes()).digest()
                if digest in seen:
                    skipped["seen already"] += 1
                    continue
                seen.add(digest)
                file.write(picture.tobytes())
                rows.append((drawing, kind))
    pictures = np.memmap(raw, np.uint8, "r", shape=(len(rows), SIDE_PX, SIDE_PX))
    np.save(out / "icons.npy", pictures, allow_pickle=False)
    raw.unlink()
    return rows, skipped


def write_tables(rows: Sequence[tuple[Drawing, str]], quickdraw: Mapping[str, str], out: Path) -> Counter[int]:
    """Write icons.csv and names.csv.

    Args:
        rows: The drawing and kind of every picture.
        quickdraw: Quick, Draw!'s class by joined name.
        out: Where the tables are written.

    Returns:
        How many names occur in how many sets.
    """
    sets: dict[str, set[str]] = defaultdict(set)
    for drawing, _ in rows:
        sets[drawing.name].add(drawing.set_name)
    count = Counter(drawing.name for drawing, _ in rows)
    names = sorted(sets, key=lambda name: (-len(sets[name]), -count[name], name))
    place = {name: i for i, name in enumerate(names)}
    table = [(place[name], name, count[name], len(sets[name]), quickdraw.get(name, "")) for name in names]
    write_csv(out / "names.csv", ("class", "name", "count", "sets", "quickdraw"), table)
    lines = [(i, one.name, place[one.name], one.set_name, one.variant, kind) for i, (one, kind) in enumerate(rows)]
    write_csv(out / "icons.csv", ("row", "name", "class", "set", "variant", "kind"), lines)
    return Counter(len(one) for one in sets.values())


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def attribution(sets: Sequence[IconSet], count: Mapping[str, int]) -> str:
    """Write a line for each set of which a drawing is used: title, author, licence, addresses."""
    lines = ["| set | drawings | author | licence |", "|---|---|---|---|"]
    for one in sets:
        author, licence = one.info.get("author", {}), one.info.get("license", {})
        by = f"[{author.get('name', '?')}]({author.get('url', '')})"
        under = f"[{licence.get('spdx')}]({licence.get('url', '')})"
        if count.get(one.name):
            lines.append(f"| {one.info.get('name', one.name)} (`{one.name}`) | {count[one.name]} | {by} | {under} |")
    return "\n".join(lines) + "\n"


def quickdraw_names(classes: Sequence[str], hidden: Collection[str]) -> dict[str, str]:
    """Map joined names to the Quick, Draw! classes that may be seen."""
    return {object_name(split_words(name)): name for name in classes if name not in hidden}


def main() -> None:
    """Fetch, name, choose, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quickdraw", type=Path, required=True, help="the competition's layout, whose train.csv names the classes"
    )
    parser.add_argument("--out", type=Path, required=True, help="where the data are written; not into the repository")
    parser.add_argument("--package", type=Path, help="the package's file; default: fetched by npm into OUT")
    parser.add_argument("--processes", type=int, default=2, help="processes that draw")
    options = parser.parse_args()
    start = time.monotonic()
    settings = yaml.safe_load(SETS.read_text(encoding="utf-8"))
    options.out.mkdir(parents=True, exist_ok=True)
    package = options.package or fetch(settings, options.out)
    check_package(package, settings)
    with (options.quickdraw / "train.csv").open(newline="", encoding="utf-8") as file:
        classes = sorted({row["class_name"] for row in csv.DictReader(file)})
    hidden = left_out(classes)
    quickdraw = quickdraw_names(classes, hidden)
    sets = read_sets(package, settings)
    drawings, unseen, dropped = name_drawings(sets, UnseenClasses(hidden), settings["category_first"])
    write_csv(options.out / "left_out.csv", ("icon", "set", "class"), unseen)
    chosen = select(drawings, quickdraw)
    print(f"{len(drawings)} icons named, {dropped} dropped, {len(unseen)} left out as unseen, {len(chosen)} chosen", flush=True)
    for name, group in groupby(sorted((found, icon) for icon, _, found in unseen), key=lambda pair: pair[0]):
        icons = [icon for _, icon in group]
        print(f"  {name}: {len(icons)}, such as {', '.join(list(dict.fromkeys(icons))[:: max(1, len(icons) // 4)][:4])}")
    rows, skipped = write_pictures(chosen, options.out, options.processes)
    spans = write_tables(rows, quickdraw, options.out)
    (options.out / "attribution.md").write_text(attribution(sets, Counter(one.set_name for one, _ in rows)), encoding="utf-8")
    print(f"skipped {dict(skipped)}; kinds {dict(Counter(kind for _, kind in rows))}")
    in_many = sum(count for span, count in spans.items() if span >= CLASS_SETS)
    joined = len({one.name for one, _ in rows} & quickdraw.keys())
    print(
        f"RESULT pictures={len(rows)} names={sum(spans.values())} classes={in_many} quickdraw={joined} left_out={len(unseen)} "
        f"minutes={(time.monotonic() - start) / 60:.1f}"
    )


if __name__ == "__main__":
    main()
