"""How many of the labels that the audit lists are wrong: planted errors like real ones, on easy and hard data.

Labels of 1, 3 and 10 % of the drawings are changed to the class that is most similar by a model that the audit doesn't ask:
templates of pixels for the generator's drawings, ink-small for Quick, Draw! (whose drawings it was trained on, so that the
audit doesn't ask it). Data of accuracy 0.95, 0.8 and 0.5 are, of the generator, drawings of which a window of falling size is
left, whose labels are right by construction; of Quick, Draw!, fewer and more classes. Quick, Draw! has wrong labels of its own,
which count as false here; so its drawings are taken once as they are, and once only those that ink-small gets right.
Features are computed once; each planting fits the audit's heads anew, in five folds. `before` is the list of inkfold before
several models were asked: ranked by one model's probability of the label (here the best head on the first backbone), and cut
where half of the list was estimated to be wrong. A precision is of all plantings of a row together.

    .venv/bin/python benchmarks/label_errors.py [--data DIR] [--weights DIR] [--seeds N] [--only NAME] [--quick]
"""

import argparse
import csv
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import inkfold
from inkfold.audit.label_issues import find_label_issues
from inkfold.audit.views import HeldOut, computed_views, hold_out, pooled
from inkfold.data.synthetic import write_sketches
from inkfold.evaluation.intervals import wilson_interval
from inkfold.pipeline.build import build_plan, settle_recipe
from inkfold.pipeline.inputs import prepare_inputs
from inkfold.pipeline.prepare import read_files
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import silent

RATES = (0.01, 0.03, 0.1)
WINDOWS = {"0.95": 0.72, "0.8": 0.47, "0.5": 0.28}  # side of what is left of a generated drawing, by the accuracy that it gives
CLASSES = {"0.95": 15, "0.8": 60, "0.5": 345}  # of Quick, Draw!
ORACLE_SURE = 0.5


@dataclass
class Labelled:
    """Drawings with their given labels, and how similar the classes are.

    Attributes:
        name: Of the data and their level.
        labels: The class id of each drawing.
        similar: The class most similar to each class.
        features: Features of the drawings by the backbones that the audit asks.
    """

    name: str
    labels: np.ndarray
    similar: np.ndarray
    features: dict[str, np.ndarray]


def main() -> None:
    """Plant, train, audit, count, and print the RESULT line."""
    given = parse()
    with tempfile.TemporaryDirectory() as temp:
        os.environ["INKFOLD_HOME"] = str(given.home or Path(temp) / "home")
        if given.weights:
            os.environ["INKFOLD_WEIGHTS"] = str(given.weights)
        sets = [] if given.only == "quickdraw" else generated(Path(temp), given)
        if given.data and not given.quick and given.only != "generated":
            sets += quickdraw(given.data)
        results: dict[str, float] = {}
        print(
            "data                 planted  accuracy | before: listed precision recall | now: listed precision recall "
            "expected (95 %)   estimated wrong"
        )
        for data in sets:
            for rate in RATES[1:2] if given.quick else RATES:
                rows = [one_planting(data, rate, seed) for seed in range(given.seeds)]
                results |= summary(data, rate, rows)
    print("RESULT " + " ".join(f"{name}={value:.3f}" for name, value in results.items()))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Quick, Draw! in the competition's layout; the generator alone without it")
    parser.add_argument("--weights", type=Path, help="directory of NAME.safetensors; ink-small alone without it")
    parser.add_argument("--home", type=Path, help="keep the bank here")
    parser.add_argument("--only", choices=("generated", "quickdraw"), help="one source of drawings; both without it")
    parser.add_argument("--seeds", type=int, default=5, help="number of plantings a row")
    parser.add_argument("--quick", action="store_true", help="the generator at one level and rate, under a minute")
    return parser.parse_args()


def generated(temp: Path, given: argparse.Namespace) -> list[Labelled]:
    """Draw the generator's classes, of which a window is left."""
    sets = []
    for level in ("0.8",) if given.quick else WINDOWS:
        per_class = 20 if given.quick else 60
        source = write_sketches(temp / f"sketches{level}", train_per_class=per_class, test_per_class=1, size_px=96)
        paths, _, _ = read_table(source)
        rng = np.random.default_rng(0)
        for path in paths:
            leave_a_window(source / "train" / path, WINDOWS[level], rng)
        backbones = ("ink-small",) if given.quick or not given.weights else ("tf_efficientnet_lite0", "ink-small")
        features = {name: extracted(source, name) for name in backbones}
        pixels = np.stack([template(source / "train" / path) for path in paths])
        labels = features[backbones[0]].labels
        similar = most_similar(pixels, labels, int(labels.max()) + 1)
        own = {name: one.features for name, one in features.items()}
        sets.append(Labelled(f"generated {level}", labels, similar, own))
    return sets


@dataclass
class Extracted:
    """Features of a data set's usable drawings in the table's order, and their class ids."""

    features: np.ndarray
    labels: np.ndarray


def extracted(root: Path, backbone: str) -> Extracted:
    """Compute a backbone's features of a data set, or read them from the bank."""
    settings = (f"backbone.name={backbone}", "image.resize=crop_to_ink", "image.paper=keep", "data.on_blank=keep")
    recipe = settle_recipe("cpu-small", settings, root)
    inputs = prepare_inputs(build_plan(recipe), read_files(inkfold.read_dataset(root), Cost()), Cost(), silent)
    order = np.argsort(inputs.prepared.rows)
    return Extracted(inputs.features.read()[order], inputs.prepared.targets[order])


def leave_a_window(file: Path, side: float, rng: np.random.Generator) -> None:
    """Cover a drawing with paper, but for a square window about a point of its ink."""
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("L")).copy()
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    paper = int(np.bincount(edge).argmax())
    ink = np.argwhere(np.abs(pixels.astype(int) - paper) > 40)
    y, x = ink[rng.integers(len(ink))] if len(ink) else (pixels.shape[0] // 2, pixels.shape[1] // 2)
    half = int(side * max(pixels.shape) / 2)
    window = np.full_like(pixels, paper)
    place = (slice(max(0, y - half), y + half + 1), slice(max(0, x - half), x + half + 1))
    window[place] = pixels[place]
    Image.fromarray(window).save(file)


def template(file: Path) -> np.ndarray:
    """Return a drawing's 16 x 16 pixels."""
    with Image.open(file) as image:
        return np.asarray(image.convert("L").resize((16, 16)), np.float32).reshape(-1)


def quickdraw(root: Path) -> list[Labelled]:
    """Take fewer and more classes of Quick, Draw!, as they are and without those that ink-small gets wrong."""
    oracle = extracted(root, "ink-small")
    features = {name: extracted(root, name).features for name in ("tf_efficientnet_lite0", "mobilenetv2_100")}
    labels, classes = oracle.labels, int(oracle.labels.max()) + 1
    held_out = five_folds(len(labels), 0)
    probs = computed_views("ink-small", oracle.features, labels, held_out, classes)[0].probs
    certain = probs[np.arange(len(labels)), labels] > ORACLE_SURE
    order = np.random.default_rng(1).permutation(classes)
    sets = []
    for level, count in CLASSES.items():
        for kind, kept in (("as it is", np.ones(len(labels), bool)), ("cleaned", certain)):
            rows = np.flatnonzero(np.isin(labels, order[:count]) & kept)
            present, own = np.unique(labels[rows], return_inverse=True)
            similar = most_similar(oracle.features[rows].astype(np.float32), own, len(present))
            parts = {name: one[rows] for name, one in features.items()}
            sets.append(Labelled(f"quickdraw {kind} {level}", own, similar, parts))
    return sets


def five_folds(n: int, seed: int) -> HeldOut:
    """Hold each drawing out once."""
    folds = np.random.default_rng(seed).permutation(n) % 5
    return hold_out(folds, np.ones(n, bool))


def read_table(root: Path) -> tuple[list[str], np.ndarray, list[str]]:
    """Read paths and classes of a competition's training table."""
    with (root / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names, labels = np.unique([row["class_name"] for row in rows], return_inverse=True)
    return [row["image_path"] for row in rows], labels, names.tolist()


def most_similar(features: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Find each class's most similar one: of which the mean, less the mean of all, has the highest cosine."""
    means = np.stack([features[labels == number].mean(0) for number in range(classes)])
    means -= means.mean(0)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
    cosines = means @ means.T
    np.fill_diagonal(cosines, -2)
    most: np.ndarray = cosines.argmax(1)
    return most


def one_planting(data: Labelled, rate: float, seed: int) -> dict[str, Any]:
    """Plant wrong labels, ask the models, and count."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(data.labels), max(1, round(rate * len(data.labels))), replace=False)
    labels = data.labels.copy()
    labels[wrong] = data.similar[labels[wrong]]
    held_out, classes = five_folds(len(labels), seed), int(data.labels.max()) + 1
    views = [view for name, one in data.features.items() for view in computed_views(name, one, labels, held_out, classes)]
    doubts = find_label_issues(views, labels)
    planted, before = {*wrong.tolist()}, by_self_confidence(views[0].probs, labels)
    listed = [issue.row for issue in doubts.issues]
    return {
        "planted": len(planted),
        "accuracy": float((pooled(views).argmax(1) == labels).mean()),
        "before": (len(before), len(planted & {*before})),
        "now": (len(listed), len(planted & {*listed})),
        "expected": (doubts.expected_wrong, doubts.expected_wrong_ci95),
        "wrong": doubts.wrong_fraction,
    }


def by_self_confidence(probs: np.ndarray, targets: np.ndarray) -> list[int]:
    """List labels as inkfold did before: the least probable first, as far as half of them are estimated to be wrong."""
    rows, n = np.arange(len(targets)), len(targets)
    shifts = np.unique(np.linspace(1, max(n - 1, 1), 64).astype(np.int64))
    by_chance = np.sort(np.concatenate([probs[rows, targets[(rows + shift) % n]] for shift in shifts]))
    scores = np.sort(probs[rows, targets])
    below = np.searchsorted(scores, scores, side="right") / n
    below_by_chance = np.searchsorted(by_chance, scores, side="right") / len(by_chance)
    enough = np.flatnonzero(below_by_chance >= 0.2)
    ratios = below[enough] / below_by_chance[enough]
    cut = scores[enough[np.flatnonzero(ratios.min() / ratios >= 0.5)[-1]]]
    listed: list[int] = np.flatnonzero((probs.argmax(1) != targets) & (probs[rows, targets] <= cut)).tolist()
    return listed


def summary(data: Labelled, rate: float, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Print a row, summed over the seeds, and return its figures."""
    planted = sum(row["planted"] for row in rows)
    cells, figures = [], dict[str, float]()
    key = f"{data.name.replace(' ', '_')}_{rate:g}"
    for name in ("before", "now"):
        listed, hits = (sum(row[name][place] for row in rows) for place in (0, 1))
        precision = f"{hits / listed:.2f}" if listed else "  - "
        cells.append(f"{listed:6d} {precision:>9} {hits / planted:6.2f}")
        figures |= {
            f"{key}_{name}_precision": hits / listed if listed else float("nan"),
            f"{key}_{name}_recall": hits / planted,
        }
    listed, hits = (sum(row["now"][place] for row in rows) for place in (0, 1))
    low, high = wilson_interval(hits, listed) if listed else (float("nan"),) * 2
    expected = [row["expected"] for row in rows if row["expected"][0] is not None]
    said = (
        f"{np.mean([one[0] for one in expected]):.2f} ({np.mean([one[1][0] for one in expected]):.2f}-"
        f"{np.mean([one[1][1] for one in expected]):.2f})"
        if expected
        else "no list"
    )
    accuracy = np.mean([row["accuracy"] for row in rows])
    now = f"{cells[1]} ({low:.2f}-{high:.2f})"
    print(
        f"{data.name:26} {rate:4.0%} {planted / len(rows):5.0f}  {accuracy:.2f} | {cells[0]} | {now} | "
        f"{said} | {np.mean([row['wrong'] for row in rows]):.3f}",
        flush=True,
    )
    return figures


if __name__ == "__main__":
    main()
