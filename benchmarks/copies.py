"""Labels drawn at random can't be learnt, unless copies of a drawing are parted: what folds make of copies of each kind.

    python benchmarks/copies.py --data DIR [--count 500] [--seed 1]
    python benchmarks/copies.py --quick              # the generator's drawings, 40 of them, four kinds
    python benchmarks/copies.py --data DIR --ink-only      # by ink alone, as before lines were compared
    python benchmarks/copies.py --untouched --data DIR --omniglot strokes.npz   # pairs that are found where no copy was planted

For each kind, `--count` training drawings of DIR get one of ten labels each, drawn at random, and a copy of that kind with the
same label. The recipe `first` (frozen ink-small, linear head, five folds) is trained on them: with inkfold's own groups, and,
as every run does, once more with folds that part the copies it found. The accuracy's 95 % interval, by a bootstrap of pairs,
must not lie above chance, 0.10; of many kinds, one in forty does by chance alone. (It lies below more often: where classes are
held out evenly, a class's own drawings are missing from what is trained on.) `found` is the share of planted pairs in one
group, `false` counts pairs of different drawings.

`--untouched` looks for copies where none was planted: in DIR's training and test drawings, among Omniglot's characters by
different people, and among the generator's drawings, which follow 30 patterns. Straight lines apart, they are hard to tell.
"""

import argparse
import csv
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import cv2
import numpy as np
from PIL import Image, ImageOps

from inkfold.augment.camera import CameraSettings, SceneSettings
from inkfold.augment.page import PageSettings
from inkfold.augment.photographs import PHOTOGRAPHS, PhotographSettings, photograph
from inkfold.augment.rng import Draws
from inkfold.data import duplicates
from inkfold.data.duplicates import Match, find_copies, group_matches
from inkfold.data.lines import CopyStores
from inkfold.data.synthetic import CLASS_NAMES, draw_sketch, prepare_demo
from inkfold.evaluation.metrics import bootstrap_interval
from inkfold.images.decode import Pixels, decode_image
from inkfold.pipeline.train import train
from inkfold.storage.cache import home
from inkfold.storage.pixels import digest_files

CLASSES = 10
CHANCE = 1 / CLASSES
QUICK_KINDS = ("mirrored", "3 px thicker", "pencil", "photographed")
SETTINGS = ("image.size=96", "image.resize=crop_to_ink", "image.paper=auto")
OMNIGLOT_PX, PEN_PX = 256, 3
Change = Callable[[Pixels, Draws], Pixels]

SCANNED = PhotographSettings(
    "a flat-bed scan without stamps and dust",
    PageSettings(paper_shade=(0, 5), pens=("felt_pen", "ball_pen", "weak_ink", "pencil"), fill=(0.4, 0.8)),
    SceneSettings(turn_degrees=1.5),
    CameraSettings(focus=(0.2, 0.5), grain=(0, 2), jpeg=(60, 92)),
    (0.71, 1.41),
    view_mm=(200, 297),
)


def thicker(px: int) -> Change:
    """Let strokes grow by so many pixels."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (px + 1, px + 1))
    return lambda page, _: cv2.erode(np.pad(page, px, constant_values=255), kernel)


def turned(degrees: float) -> Change:
    """Turn on a page that is large enough."""
    return lambda page, _: np.asarray(
        Image.fromarray(page).rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
    )


def pencil(page: Pixels, draws: Draws) -> Pixels:
    """Draw in pale, grainy strokes on white."""
    noise = np.random.default_rng(int(draws.uniform(0, 2**31))).normal(size=page.shape).astype(np.float32)
    grain = cv2.GaussianBlur(noise, (0, 0), 1.0)
    pressed = np.clip(0.75 + 0.3 * grain / grain.std(), 0.1, 1)
    ink = (255 - cv2.GaussianBlur(page, (0, 0), 0.7)).astype(np.float32) * pressed
    drawn: np.ndarray = np.rint(255 - ink * (1 - draws.uniform(110, 190) / 255)).astype(np.uint8)
    return drawn


def pictured(kind: str | PhotographSettings) -> Change:
    """Take a picture of the drawing on paper."""
    return lambda page, draws: photograph(page, kind, draws)


def everything(page: Pixels, draws: Draws) -> Pixels:
    """Mirror, turn by a quarter and 6 degrees, thicken and scan."""
    page = thicker(2)(np.ascontiguousarray(np.rot90(page[:, ::-1])), draws)
    return photograph(turned(-6)(page, draws), SCANNED, draws)


CHANGES: dict[str, Change] = {
    "identical bytes": lambda page, _: page,
    "re-encoded": lambda page, _: page,
    "resized": lambda page, _: cv2.resize(page, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
    "mirrored": lambda page, _: page[:, ::-1],
    "turned by a quarter": lambda page, _: np.rot90(page),
    "turned by 7 degrees": turned(7),
    "moved on the page": lambda page, _: np.asarray(ImageOps.expand(Image.fromarray(page), (90, 20, 10, 60), 255)),
    "inverted": lambda page, _: 255 - page,
    "1 px thicker": thicker(1),
    "2 px thicker": thicker(2),
    "3 px thicker": thicker(3),
    "thinner": lambda page, _: cv2.dilate(page, np.ones((2, 2), np.uint8)),
    "pencil": pencil,
    "photographed": pictured(PHOTOGRAPHS["photographed"]),
    "scanned": pictured(SCANNED),
    "all at once": everything,
}
AS_JPEG = ("re-encoded", "photographed", "scanned", "all at once")


@dataclass(frozen=True, slots=True)
class Planted:
    """Drawings with their copies.

    Attributes:
        files: Paths of the originals, then of their copies.
        count: Number of originals.
    """

    files: list[str]
    count: int


def read_paths(data: Path, part: str) -> list[Path]:
    """List the drawings of a table of the competition's layout."""
    with (data / f"{part}.csv").open(newline="", encoding="utf-8") as file:
        return [data / part / row["image_path"] for row in csv.DictReader(file)]


def plant(drawings: Sequence[Path], kind: str, out: Path, seed: int) -> Planted:
    """Write drawings and their copies into class folders that are drawn at random, under names that say nothing."""
    rng = np.random.default_rng(seed)
    labels, numbers = rng.integers(0, CLASSES, len(drawings)), rng.choice(10**9, 2 * len(drawings), replace=False)
    files = [out / f"class {label}" / f"{number}.png" for label, number in zip([*labels, *labels], numbers, strict=True)]
    for label in range(CLASSES):
        (out / f"class {label}").mkdir(parents=True, exist_ok=True)
    for place, (path, original) in enumerate(zip(drawings, files[: len(drawings)], strict=True)):
        copy = files[len(drawings) + place]
        shutil.copyfile(path, original)
        if kind == "identical bytes":
            shutil.copyfile(path, copy)
            continue
        page = decode_image(path.read_bytes(), colour="grey")
        changed = Image.fromarray(np.ascontiguousarray(CHANGES[kind](page, Draws(f"{seed} {kind} {path.name}".encode()))))
        if kind in AS_JPEG:
            files[len(drawings) + place] = copy = copy.with_suffix(".jpg")
        changed.save(copy, quality=85)  # which PNG takes no notice of
    return Planted([str(file) for file in files], len(drawings))


def probe(drawings: Sequence[Path], kind: str, scratch: Path, seed: int) -> dict[str, float]:
    """Train on random labels, and count what was found of the planted pairs."""
    data = scratch / kind.replace(" ", "-")
    planted = plant(drawings, kind, data / "drawings", seed)
    run = train("first", *SETTINGS, data=data / "drawings", out=data / "run")
    out_of_fold = run.files.out_of_fold
    assert out_of_fold is not None
    right = dict(zip(out_of_fold.image_paths.tolist(), (out_of_fold.preds == out_of_fold.targets).tolist(), strict=True))
    names = [str(Path(file).relative_to(data / "drawings")) for file in planted.files]
    pairs = np.array([[right[names[row]], right[names[planted.count + row]]] for row in range(planted.count)], float)
    low, high = bootstrap_interval(pairs.mean(axis=1))
    matches, groups = search(planted.files)
    parted = groups[: planted.count] != groups[planted.count :]
    false = sum(match.first % planted.count != match.second % planted.count for match in matches)
    shutil.rmtree(data)
    split = run.metrics.get("duplicates", {}).get("parted", {}).get("accuracy", float(pairs.mean()))
    return {
        "accuracy": float(pairs.mean()),
        "low": low,
        "high": high,
        "split": split,
        "found": 1 - parted.mean(),
        "false": false,
    }


def search(files: Sequence[str]) -> tuple[list[Match], np.ndarray]:
    """Find copies among files: the matches, and each file's group."""
    digests, _ = digest_files(files)
    stores = CopyStores.open(home())
    stores.build(files, digests)
    matches = find_copies(digests, stores).matches
    return matches, group_matches(len(files), matches)


def omniglot_pages(path: Path, count: int) -> Iterator[Pixels]:
    """Draw the first characters of Omniglot's strokes with a pen of 3 px."""
    with np.load(path, allow_pickle=False) as archive:
        points, offsets = archive["points"].astype(np.float64), archive["offsets"]
    for start, end in pairwise(offsets[: count + 1]):
        places, lifted = points[start:end, :2].cumsum(axis=0), np.flatnonzero(points[start:end, 2]) + 1
        low, high = places.min(axis=0), places.max(axis=0)
        scale = 2 * (OMNIGLOT_PX - 24) / max(float((high - low).max()), 1.0)
        places = (places - (low + high) / 2) * scale + OMNIGLOT_PX
        page = np.full((2 * OMNIGLOT_PX, 2 * OMNIGLOT_PX), 255, np.uint8)
        for stroke in np.split(places, lifted)[: len(lifted)]:
            cv2.polylines(page, [np.rint(stroke * 16).astype(np.int32)], False, 0, 2 * PEN_PX, cv2.LINE_AA, 4)
        yield cv2.resize(page, (OMNIGLOT_PX, OMNIGLOT_PX), interpolation=cv2.INTER_AREA)


def untouched(options: argparse.Namespace, data: Path, scratch: Path) -> dict[str, float]:
    """Count the pairs that are found where none was planted."""
    sets: dict[str, list[str]] = {"data": [str(path) for part in ("train", "test") for path in read_paths(data, part)]}
    pages: dict[str, Iterator[Pixels]] = {
        "generated": (
            draw_sketch(CLASS_NAMES[row % len(CLASS_NAMES)], seed=11, index=row, size_px=256) for row in range(options.pages)
        )
    }
    if options.omniglot:
        pages["omniglot"] = omniglot_pages(options.omniglot, options.pages)
    for name, drawn in pages.items():
        (scratch / name).mkdir()
        sets[name] = []
        for number, page in enumerate(drawn):
            sets[name].append(str(scratch / name / f"{number}.png"))
            Image.fromarray(page).save(sets[name][-1], compress_level=1)
    result = {}
    for name, files in sets.items():
        matches = [match for match in search(files)[0] if not match.identical]
        by_lines = sum(match.width_ratio is not None for match in matches)
        print(f"{name}: {len(matches)} pairs among {len(files):,} drawings, {by_lines} of them by their lines")
        for match in matches[: options.show]:
            print(f"  {files[match.first]} {files[match.second]} {match.similarity} {match.width_ratio}")
        result[f"false_{name}"] = float(len(matches))
    return result


def probes(options: argparse.Namespace, data: Path, scratch: Path) -> dict[str, float]:
    """Probe every kind, and print the table."""
    paths = read_paths(data, "train")
    chosen = np.random.default_rng(options.seed).choice(len(paths), min(options.count, len(paths)), replace=False)
    drawings = [paths[row] for row in sorted(chosen.tolist())]
    print(f"{len(drawings)} drawings of {data.name}, {CLASSES} random labels, chance {CHANCE:.2f}")
    print(f"{'copies':22s} accuracy (95 %)         above chance  if split  found  false")
    rows = {}
    for kind in options.kinds:
        row = rows[kind] = probe(drawings, kind, scratch, options.seed)
        above = row["low"] > CHANCE
        figures = f"{row['accuracy']:.3f} ({row['low']:.3f}-{row['high']:.3f})"
        shares = f"{row['split']:9.3f} {row['found']:6.3f} {row['false']:6.0f}"
        print(f"{kind:22s} {figures:23s} {'YES' if above else 'no':12s} {shares}", flush=True)
    worst = max(rows.values(), key=lambda row: row["accuracy"])
    least = min(rows.values(), key=lambda row: row["found"])
    return {
        "kinds": len(rows),
        "above_chance": sum(row["low"] > CHANCE for row in rows.values()),
        "worst_accuracy": worst["accuracy"],
        "least_found": least["found"],
        "false": sum(row["false"] for row in rows.values()),
    }


def main() -> None:
    """Read the options, probe, and print the RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the competition's layout; by default inkfold's sample")
    parser.add_argument("--count", type=int, default=500, help="drawings that get a copy")
    parser.add_argument("--seed", type=int, default=1, help="of the drawings, labels and changes")
    parser.add_argument("--kinds", nargs="+", default=list(CHANGES), choices=list(CHANGES), help="kinds of copies")
    parser.add_argument("--ink-only", action="store_true", help="compare no lines")
    parser.add_argument("--untouched", action="store_true", help="count the pairs that are found where none was planted")
    parser.add_argument("--omniglot", type=Path, help="strokes.npz of Omniglot, for --untouched")
    parser.add_argument("--pages", type=int, default=4000, help="drawings of the generator and of Omniglot, for --untouched")
    parser.add_argument("--show", type=int, default=0, help="pairs to name, for --untouched")
    parser.add_argument("--quick", action="store_true", help="40 drawings and four kinds")
    options = parser.parse_args()
    if options.quick:
        options.count, options.kinds, options.pages = 40, list(QUICK_KINDS), 300
    if options.ink_only:
        duplicates.LINE_FARTHEST = duplicates.INK_OF_LINES_FARTHEST = 0.0
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        os.environ["INKFOLD_HOME"] = str(scratch / "home")
        data = options.data or prepare_demo(scratch)
        result = (untouched if options.untouched else probes)(options, data, scratch)
    print("RESULT " + " ".join(f"{name}={value:.4g}" for name, value in result.items()))


if __name__ == "__main__":
    main()
