"""Runs trained on clean drawings and evaluated on photographs of drawings on paper, by each way of reading.

    python benchmarks/paper.py --data DIR --weights DIR [--count 400]
    python benchmarks/paper.py --quick               # the sample that inkfold draws, ink-small, three kinds

For each backbone and each way of reading, the recipe `first` (frozen backbone, linear head, five folds) is trained on the
training drawings. A fixed sample of the test drawings, whose labels are in `test_labels.csv`, is photographed as
`inkfold.augment.photographs` describes, one kind after the other, saved as files and predicted by every run: the same
pictures for all. `lost` is the share of the run's accuracy on the clean drawings that a kind takes. At the end, the ways take
turns to read a clean and a photographed page of 512 px, in one thread.
"""

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
from PIL import Image

from inkfold.augment.photographs import PHOTOGRAPHS, photograph
from inkfold.augment.rng import Draws
from inkfold.data.synthetic import prepare_demo
from inkfold.images.decode import Pixels, decode_image
from inkfold.images.preprocess import read_drawing
from inkfold.pipeline.predict import predict_folds
from inkfold.pipeline.run import Run
from inkfold.pipeline.train import train
from inkfold.runtime.parallel import map_in_processes

BACKBONES = ("ink-small", "tf_efficientnet_lite0", "mobilenetv2_100")
READINGS = ("image.paper=keep,image.resize=pad", "image.paper=auto,image.resize=auto")
QUICK_KINDS = ("photographed", "ruled", "small")
SEED = 20
TIMED_PX, TURNS = 512, 15
JPEG_QUALITY = 95  # of the saved picture, beside that of the kind


def sample(data: Path, count: int) -> list[tuple[Path, int]]:
    """Choose test drawings that have ink, with their class numbers, the same ones each time."""
    with (data / "test_labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen = np.random.default_rng(SEED).permutation(len(rows))[:count]
    return [(data / "test" / rows[i]["image_path"], int(rows[i]["target"])) for i in sorted(chosen.tolist())]


def take(path: Path, kind: str, out: Path) -> Path:
    """Photograph one drawing and save the picture, as PNG where the kind is no photograph."""
    picture = photograph(clean(path), kind, Draws(f"{SEED} {kind} {path.name}".encode()))
    if PHOTOGRAPHS[kind].camera.jpeg is None:
        target = out / f"{path.stem}.png"
        Image.fromarray(picture).save(target, compress_level=1)
    else:
        target = out / f"{path.stem}.jpg"
        Image.fromarray(picture).save(target, quality=JPEG_QUALITY)
    return target


def clean(path: Path) -> Pixels:
    """Decode a drawing as it is."""
    return decode_image(path.read_bytes(), colour="grey")


def fit(data: Path, out: Path, backbone: str, reading: str) -> Run:
    """Train one run on the clean drawings."""
    return train("first", f"backbone.name={backbone}", *reading.split(","), data=data, out=out)


def evaluate(runs: Sequence[Run], drawings: Sequence[tuple[Path, int]], kind: str, scratch: Path) -> list[float]:
    """Measure every run's accuracy on one kind's pictures."""
    out = scratch / kind
    out.mkdir(parents=True, exist_ok=True)
    files = map_in_processes(take, [(path, kind, out) for path, _ in drawings], [1] * len(drawings), kind)
    targets = np.array([target for _, target in drawings])
    probs = predict_folds(runs, files)
    for file in files:
        file.unlink()
    numbers = [np.asarray(run.class_targets) for run in runs]  # the data's own, which needn't count from 0
    return [float((own[folds.mean(0).argmax(1)] == targets).mean()) for own, folds in zip(numbers, probs, strict=True)]


def milliseconds(path: Path, runs: Sequence[Run], scratch: Path) -> list[tuple[float, float]]:
    """Time how long each run takes to read a page: clean and grey, and photographed in colour; the medians of turns."""
    page = np.asarray(Image.fromarray(clean(path)).resize((TIMED_PX, TIMED_PX)))
    contents = []
    for kind, mode in (("clean", "L"), ("photographed", "RGB")):
        file = scratch / f"{kind}.png"
        Image.fromarray(photograph(page, kind, Draws(b"time"), TIMED_PX)).convert(mode).save(file)
        contents.append(file.read_bytes())
    options = [run.extractors()[0][0].image for run in runs]
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in runs]
    for _ in range(TURNS):
        for image, both in zip(options, times, strict=True):
            for content, each in zip(contents, both, strict=True):
                start = time.perf_counter()
                read_drawing(content, image)
                each.append(1000 * (time.perf_counter() - start))
    return [(statistics.median(first), statistics.median(second)) for first, second in times]


def print_losses(names: Sequence[str], rows: dict[str, list[float]]) -> list[list[float]]:
    """Print accuracies and losses, and return the losses: a list for each run."""
    losses: list[list[float]] = []
    for i, name in enumerate(names):
        print(f"\n{name}\n{'':20s} accuracy    lost")
        whole = rows["clean"][i]
        lost = {kind: 1 - accuracies[i] / whole if whole else 0.0 for kind, accuracies in rows.items()}
        for kind, share in lost.items():
            print(f"{kind:20s} {rows[kind][i]:8.3f} {share:7.1%}")
        losses.append([share for kind, share in lost.items() if kind != "clean"])
    return losses


def compare(options: argparse.Namespace, scratch: Path) -> None:
    """Train, photograph, predict, and print a table and one line of results."""
    kept = options.runs or scratch
    os.environ["INKFOLD_HOME"] = str(kept / "home")
    data = options.data or prepare_demo(scratch)
    pairs = [(backbone, reading) for backbone in options.backbones for reading in options.reading]
    runs = [fit(data, kept / f"{name}-{reading}", name, reading) for name, reading in pairs]
    drawings = sample(data, options.count)
    print(f"{len(drawings)} test drawings of {data.name}; " + " | ".join(options.reading))
    rows = {}
    for kind in options.kinds:
        rows[kind] = evaluate(runs, drawings, kind, scratch)
        print(f"{kind:20s} " + " ".join(f"{accuracy:.3f}" for accuracy in rows[kind]), flush=True)
    losses = print_losses([f"{name}, {reading}" for name, reading in pairs], rows)
    print(f"\nms to read a page of {TIMED_PX} px: clean, photographed")
    ways = len(options.reading)
    for reading, (plain, taken) in zip(options.reading, milliseconds(drawings[0][0], runs[:ways], scratch), strict=True):
        print(f"{reading:50s} {plain:6.2f} {taken:6.2f}")
    before, after = np.array(losses[::ways]), np.array(losses[ways - 1 :: ways])
    print(f"RESULT worst_before={before.max():.4f} worst_after={after.max():.4f}", end=" ")
    print(f"mean_before={before.mean():.4f} mean_after={after.mean():.4f} pictures={len(drawings) * (len(rows) - 1)}")


def main() -> None:
    """Read the options, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the competition's layout with test_labels.csv; by default inkfold's sample")
    parser.add_argument("--weights", type=Path, help="directory with the other backbones' weights")
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--reading", nargs="+", default=READINGS, help="each: overrides with commas between them")
    parser.add_argument("--kinds", nargs="+", default=list(PHOTOGRAPHS), help="kinds of photographs")
    parser.add_argument("--count", type=int, default=400, help="test drawings")
    parser.add_argument("--runs", type=Path, help="directory that keeps the runs and the caches for the next time")
    parser.add_argument("--quick", action="store_true", help="ink-small, three kinds and 60 drawings")
    options = parser.parse_args()
    if options.weights:
        os.environ["INKFOLD_WEIGHTS"] = str(options.weights.absolute())
    if options.quick:
        options.backbones, options.kinds, options.count = options.backbones[:1], QUICK_KINDS, min(60, options.count)
    options.kinds = list(dict.fromkeys(["clean", *options.kinds]))
    with tempfile.TemporaryDirectory() as directory:
        compare(options, Path(directory))


if __name__ == "__main__":
    main()
