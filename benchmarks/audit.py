"""What the audit finds of planted truth, what parted copies flatter, and what the search costs.

Into the training drawings go 300 copies (mirrored, turned by quarters and by 7 degrees, re-encoded as JPEG, resized, with
margins, and all of that at once) and 100 wrong labels; of the copies a fifth goes to another class and a fifth to the test
drawings. Then a run is trained and audited. Copies of other classes carry wrong labels too: they count neither way. Pairs that
were not planted count as false alarms, also where the data hold true copies; `--found` draws them for a look.

    .venv/bin/python benchmarks/audit.py [--data DIR] [--weights DIR] [--recipe NAME] [--set KEY=VALUE ...] [--quick]
    .venv/bin/python benchmarks/audit.py --sizes 10000 100000    # time and memory of the search alone, a process a size
"""

import argparse
import csv
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

import inkfold
from inkfold.audit.run_audit import audit_run
from inkfold.data.duplicates import find_copies
from inkfold.data.lines import CopyStores
from inkfold.data.synthetic import write_sketches
from inkfold.images.preprocess import paper_colour
from inkfold.storage.pixels import digest_files

Change = Callable[[Image.Image], Image.Image]


def _paper(image: Image.Image) -> int:
    return int(paper_colour(np.asarray(image)))


def _turned(degrees: float) -> Change:
    return lambda image: image.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=_paper(image))


def _scaled(factor: float) -> Change:
    return lambda image: image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def _with_margins(image: Image.Image) -> Image.Image:
    return ImageOps.expand(image, (image.width // 8, image.height // 4, image.width // 3, image.height // 16), _paper(image))


def _everything(image: Image.Image) -> Image.Image:
    return _with_margins(_scaled(0.6)(_turned(-7)(_turned(90)(ImageOps.mirror(image)))))


CHANGES: dict[str, Change] = {
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "90 degrees": _turned(90),
    "180 degrees": _turned(180),
    "270 degrees": _turned(270),
    "7 degrees": _turned(7),
    "-7 degrees": _turned(-7),
    "mirrored, 97 degrees": lambda image: _turned(97)(ImageOps.mirror(image)),
    "jpeg": lambda image: image,
    "half the size": _scaled(0.5),
    "1.7 times the size": _scaled(1.7),
    "margins": _with_margins,
    "everything at once": _everything,
}
AS_JPEG = ("jpeg", "everything at once")


@dataclass
class Planted:
    """What was put into the data.

    Attributes:
        copies: By the copy's part and path: the original's path, and what was done to it.
        wrong: Paths of drawings with a planted wrong label, and their true class.
        conflicting: Paths of copies that went to another class.
    """

    copies: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    conflicting: set[str] = field(default_factory=set)


def main() -> None:
    """Plant, train, audit, count, and print the RESULT line."""
    given = parse()
    if given.search:
        print(json.dumps(search(given.search)))
        return
    if given.sizes:
        sizes(given.sizes)
        return
    with tempfile.TemporaryDirectory() as temp:
        os.environ["INKFOLD_HOME"] = str(given.home or Path(temp) / "home")
        if given.weights:
            os.environ["INKFOLD_WEIGHTS"] = str(given.weights)
        source = given.data or write_sketches(
            Path(temp) / "drawings", train_per_class=12 if given.quick else 40, test_per_class=4
        )
        data = Path(temp) / "planted"
        planted = plant(source, data, random.Random(given.seed), given.copies, given.wrong)
        settings = [*given.set, *([] if given.weights else ["backbone.weights=untrained"])]
        settings += ["image.size=64"] if given.quick else []
        run = inkfold.train(given.recipe, *settings, data=data, out=Path(temp) / "run")
        started = time.perf_counter()
        audit = audit_run(run.path)
        print(f"audit: {time.perf_counter() - started:.1f} s, signatures made before")
        if given.keep:
            shutil.copytree(run.path, given.keep, dirs_exist_ok=True)
            (given.keep / "planted.json").write_text(json.dumps(planted.__dict__, default=str))
        result = duplicates_found(audit, planted, given.found, data) | labels_found(audit, planted)
        result |= flattery(run.metrics)
    print("RESULT " + " ".join(f"{name}={value:.4f}" for name, value in result.items()))


def parse() -> argparse.Namespace:
    """Parse the command line; `--search` is how the script calls itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="competition layout; inkfold's own sketches without it")
    parser.add_argument("--weights", type=Path, help="directory of NAME.safetensors; random weights without it")
    parser.add_argument("--recipe", default="cpu-small")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="overrides")
    parser.add_argument("--home", type=Path, help="keep the bank here")
    parser.add_argument("--keep", type=Path, help="keep the run and the planted truth here")
    parser.add_argument("--found", type=Path, help="draw the pairs that were found but not planted")
    parser.add_argument("--seed", type=int, default=0, help="of what is planted")
    parser.add_argument("--copies", type=int, default=300)
    parser.add_argument("--wrong", type=int, default=100)
    parser.add_argument("--sizes", type=int, nargs="*", help="time the search on so many drawings of the generator")
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="own sketches, 60 copies, 30 wrong labels; under a minute")
    given = parser.parse_args()
    if given.quick:
        given.copies, given.wrong, given.data = 60, 30, None
    return given


def plant(source: Path, data: Path, rng: random.Random, copies: int, wrong: int) -> Planted:
    """Copy a data set of the competition's layout, with copies and wrong labels in it."""
    planted = Planted()
    shutil.copytree(source / "train", data / "train")
    shutil.copytree(source / "test", data / "test")
    for directory in (data, *(path for path in data.rglob("*") if path.is_dir())):
        directory.chmod(0o755)  # a read-only source's are read-only too
    train, test = read_rows(source / "train.csv"), read_rows(source / "test.csv")
    classes = {row["class_name"]: row["target"] for row in train}
    chosen = rng.sample(range(len(train)), copies + wrong)
    for number, place in enumerate(chosen[:copies]):
        kind = list(CHANGES)[number % len(CHANGES)]
        original = train[place]
        name = f"planted/{number}.{'jpg' if kind in AS_JPEG else 'png'}"
        part = "test" if number % 5 == 4 else "train"
        write_changed(data / "train" / original["image_path"], data / part / name, kind)
        planted.copies[part, name] = (original["image_path"], kind)
        if part == "test":
            test.append({"image_path": name})
            continue
        label = original["class_name"]
        if number % 5 == 3:
            label = rng.choice([one for one in classes if one != label])
            planted.conflicting.add(name)
        train.append({"class_name": label, "image_path": name, "target": classes[label]})
    for place in chosen[copies:]:
        row = train[place]
        planted.wrong[row["image_path"]] = row["class_name"]
        label = rng.choice([one for one in classes if one != row["class_name"]])
        train[place] = {**row, "class_name": label, "target": classes[label]}
    write_rows(data / "train.csv", train)
    write_rows(data / "test.csv", test)
    return planted


def write_changed(source: Path, file: Path, kind: str) -> None:
    """Write a changed copy of a drawing."""
    file.parent.mkdir(exist_ok=True)
    with Image.open(source) as image:
        changed = CHANGES[kind](image.convert("L"))
    changed.save(file, quality=70)  # which PNG takes no notice of


def duplicates_found(audit: dict[str, Any], planted: Planted, found: Path | None, data: Path) -> dict[str, float]:
    """Count planted pairs that were found, and found pairs that were not planted."""
    truth = {frozenset({copy, ("train", original)}): kind for copy, (original, kind) in planted.copies.items()}
    pairs = [
        frozenset(
            (group["members"][pair[end]]["part"], group["members"][pair[end]]["image_path"]) for end in ("first", "second")
        )
        for group in audit["duplicates"]["groups"]
        for pair in group["pairs"]
    ]
    missed = [kind for pair, kind in truth.items() if pair not in pairs]
    others = [sorted(pair) for pair in pairs if pair not in truth]
    print(f"copies: {len(truth) - len(missed)} of {len(truth)} found, and {len(others)} pairs that were not planted")
    print(f"missed: {', '.join(f'{kind} {missed.count(kind)}' for kind in sorted(set(missed))) or 'none'}")
    for pair in others:
        print(f"  not planted: {pair[0][0]} {pair[0][1]}, {pair[1][0]} {pair[1][1]}")
    if found and others:
        rows = [
            [np.asarray(Image.open(data / part / path).convert("L").resize((128, 128))) for part, path in pair]
            for pair in others
        ]
        Image.fromarray(np.vstack([np.hstack(row) for row in rows])).save(found)
    hits = len(truth) - len(missed)
    return {"duplicate_recall": hits / len(truth), "duplicate_precision": hits / max(len(pairs), 1)}


def labels_found(audit: dict[str, Any], planted: Planted) -> dict[str, float]:
    """Count planted wrong labels in the list of doubtful ones, at its own cut and among the first as many as were planted."""
    listed = [one for one in audit["labels"]["doubtful"] if one["image_path"] not in planted.conflicting]
    hits = [one["image_path"] in planted.wrong for one in listed]
    n = len(planted.wrong)
    suggested = sum(planted.wrong.get(one["image_path"]) == one["suggested"] for one in listed)
    print(
        f"labels: {sum(hits)} of {n} wrong ones among {len(listed)} doubtful, {sum(hits[:n])} among the first {n}; the true "
        f"class suggested for {suggested}; out-of-fold accuracy {audit['labels']['accuracy']:.3f}"
    )
    recall, precision = sum(hits) / n, sum(hits) / max(len(hits), 1)
    return {"label_recall": recall, "label_precision": precision, f"label_precision_at_{n}": sum(hits[:n]) / n}


def flattery(metrics: dict[str, Any]) -> dict[str, float]:
    """Show what folds that part copies flatter."""
    told = metrics.get("duplicates")
    if told is None:
        return {}
    for name in ("parted", "grouped"):
        low, high = told[name]["accuracy_ci95"]
        accuracy, of_copies = told[name]["accuracy"], told[name]["accuracy_of_copies"]
        print(f"copies {name}: {accuracy:.4f} ({low:.4f}-{high:.4f}), {of_copies:.4f} on the copies alone")
    low, high = told["difference_ci95"]
    print(f"difference {told['difference']:+.4f} ({low:+.4f} to {high:+.4f}), p = {told['p_value']:.3g}")
    names = ("accuracy", "accuracy_of_copies")
    return {f"{part}_{name}": told[part][name] for part in ("grouped", "parted") for name in names}


def sizes(counts: Sequence[int]) -> None:
    """Time the search on drawings of the generator, a process a size."""
    result: dict[str, float] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as temp:
            classes = 40
            write_sketches(Path(temp) / "drawings", train_per_class=-(-count // classes), test_per_class=1, size_px=128)
            command = [sys.executable, __file__, "--search", temp]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            cost = json.loads(done.stdout)
        print(f"{count} drawings: {cost}")
        result |= {
            f"seconds_{count}": cost["first_s"],
            f"again_{count}": cost["again_s"],
            f"peak_mib_{count}": cost["peak_mib"],
        }
    print("RESULT " + " ".join(f"{name}={value:.1f}" for name, value in result.items()))


def search(root: Path) -> dict[str, float]:
    """Search drawings for copies twice, signatures made and read."""
    files = [str(file) for file in sorted((root / "drawings" / "train").rglob("*.png"))]
    took = []
    for _ in range(2):
        started = time.perf_counter()
        digests, _ = digest_files(files)
        stores = CopyStores.open(root)
        stores.build(files, digests)
        matches = find_copies(digests, stores).matches
        took.append(time.perf_counter() - started)
        for path in stores.ink.shards.directory.glob("copies-*.json"):
            path.unlink()  # so that the second pass compares again
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    told = {"n": len(files), "first_s": took[0], "again_s": took[1], "peak_mib": peak, "worker_mib": workers}
    return {**{name: round(value, 1) for name, value in told.items()}, "matches": len(matches)}


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write a table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main()
