"""How many of the labels that the audit lists are wrong: planted errors like real ones, on easy and hard data.

Labels of 1, 3 and 10 % of the drawings are changed to the class that is most similar by a model that the audit doesn't ask:
templates of pixels for the generator's drawings, ink-small for Quick, Draw! (whose drawings it was trained on, so that the
audit doesn't ask it). Data of accuracy 0.95, 0.8 and 0.5 are, of the generator, drawings of which a window of falling size is
left, whose labels are right by construction; of Quick, Draw!, fewer and more classes. Quick, Draw! has wrong labels of its own,
which count as false here; so its drawings are taken once as they are, and once only those that ink-small gets right.
Each row trains a run and audits it. `before` is the ranking by the run's own probability of the label, cut where half of the
list was estimated to be wrong (inkfold before several models were asked), on the same run.

    .venv/bin/python benchmarks/label_errors.py [--data DIR] [--weights DIR] [--seeds N] [--quick]
"""

import argparse
import csv
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import inkfold
from inkfold.audit.run_audit import audit_run
from inkfold.audit.views import HeldOut, computed_views
from inkfold.data.synthetic import write_sketches
from inkfold.evaluation.metrics import wilson_interval
from inkfold.evaluation.predictions import Predictions
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
        root: Folder below which the paths lie.
        paths: Path of each drawing.
        labels: Its class id.
        names: Class names by id.
        similar: The class most similar to each class.
    """

    name: str
    root: Path
    paths: list[str]
    labels: np.ndarray
    names: list[str]
    similar: np.ndarray


def main() -> None:
    """Plant, train, audit, count, and print the RESULT line."""
    given = parse()
    with tempfile.TemporaryDirectory() as temp:
        os.environ["INKFOLD_HOME"] = str(given.home or Path(temp) / "home")
        if given.weights:
            os.environ["INKFOLD_WEIGHTS"] = str(given.weights)
        sets = [] if given.only == "quickdraw" else generated(Path(temp), given.quick)
        if given.data and not given.quick and given.only != "generated":
            sets += quickdraw(given.data)
        results: dict[str, float] = {}
        print(
            "data                 planted  accuracy | before: listed precision recall | now: listed precision recall "
            "expected (95 %)   estimated wrong"
        )
        for data in sets:
            for rate in RATES[1:2] if given.quick else RATES:
                rows = [one_run(data, rate, seed, Path(temp) / "run", given) for seed in range(given.seeds)]
                results |= summary(data, rate, rows)
    print("RESULT " + " ".join(f"{name}={value:.3f}" for name, value in results.items()))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Quick, Draw! in the competition's layout; the generator alone without it")
    parser.add_argument("--weights", type=Path, help="directory of NAME.safetensors; ink-small alone without it")
    parser.add_argument("--home", type=Path, help="keep the bank here")
    parser.add_argument("--only", choices=("generated", "quickdraw"), help="one source of drawings; both without it")
    parser.add_argument("--seeds", type=int, default=1, help="of what is planted: so many runs a row")
    parser.add_argument("--quick", action="store_true", help="the generator at one level and rate, under a minute")
    return parser.parse_args()


def generated(temp: Path, quick: bool) -> list[Labelled]:
    """Draw the generator's classes, of which a window is left."""
    sets = []
    for level in ("0.8",) if quick else WINDOWS:
        source = write_sketches(temp / f"sketches{level}", train_per_class=20 if quick else 60, test_per_class=1, size_px=96)
        paths, labels, names = read_table(source)
        rng = np.random.default_rng(0)
        for path in paths:
            leave_a_window(source / "train" / path, WINDOWS[level], rng)
        pixels = np.stack([template(source / "train" / path) for path in paths])
        sets.append(
            Labelled(f"generated {level}", source / "train", paths, labels, names, most_similar(pixels, labels, len(names)))
        )
    return sets


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
    paths, labels, names = read_table(root)
    recipe = settle_recipe("cpu-small", ("backbone.name=ink-small", "image.resize=crop_to_ink", "image.paper=keep"), root)
    read = read_files(inkfold.read_dataset(root), Cost())
    inputs = prepare_inputs(build_plan(recipe), read, Cost(), silent)
    features = inputs.features.read()[np.argsort(inputs.prepared.rows)]
    labels = labels[np.sort(inputs.prepared.rows)]
    paths = [paths[row] for row in np.sort(inputs.prepared.rows)]
    parts = np.random.default_rng(0).integers(0, 5, len(paths))
    held = np.stack([parts == part for part in range(5)])
    probs = computed_views("ink-small", features, labels, HeldOut(~held, held), len(names))[0].probs
    certain = probs[np.arange(len(labels)), labels] > ORACLE_SURE
    order = np.random.default_rng(1).permutation(len(names))
    sets = []
    for level, count in CLASSES.items():
        for kind, kept in (("as it is", np.ones(len(labels), bool)), ("cleaned", certain)):
            rows = np.flatnonzero(np.isin(labels, order[:count]) & kept)
            present, own = np.unique(labels[rows], return_inverse=True)
            similar = most_similar(features[rows].astype(np.float32), own, len(present))
            own_names, own_paths = [names[number] for number in present], [paths[row] for row in rows]
            sets.append(Labelled(f"quickdraw {kind} {level}", root / "train", own_paths, own, own_names, similar))
    return sets


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
    return cosines.argmax(1)


def one_run(data: Labelled, rate: float, seed: int, out: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Plant wrong labels, train a run, audit it, and count."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(data.labels), max(1, round(rate * len(data.labels))), replace=False)
    labels = data.labels.copy()
    labels[wrong] = data.similar[labels[wrong]]
    shutil.rmtree(out, ignore_errors=True)
    table = out.with_name("table") / "train.csv"
    table.parent.mkdir(exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image_path", "class_name"])
        writer.writerows(zip(data.paths, [data.names[label] for label in labels], strict=True))
    settings = [
        f"data.image_root={data.root}",
        "image.resize=crop_to_ink",
        "data.on_blank=keep",
        "folds.group_duplicates=false",
    ]
    recipe = "cpu-small" if given.weights else "first"
    run = inkfold.train(recipe, *settings, data=table, out=out)
    audit = audit_run(run.path)["labels"]
    planted = {data.paths[row] for row in wrong}
    out_of_fold = run.files.out_of_fold
    assert out_of_fold is not None
    before = by_self_confidence(out_of_fold)
    listed = [issue["image_path"] for issue in audit["doubtful"]]
    return {
        "planted": len(planted),
        "accuracy": max(model["accuracy"] for model in audit["models"]),
        "own_accuracy": audit["accuracy"],
        "before": (len(before), len(planted & {*before})),
        "now": (len(listed), len(planted & {*listed})),
        "expected": (audit["doubts"]["expected_wrong"], audit["doubts"]["expected_wrong_ci95"]),
        "wrong": audit["estimated_wrong_fraction"],
    }


def by_self_confidence(predictions: Predictions) -> list[str]:
    """List labels as inkfold did before: the least probable first, as far as half of them are estimated to be wrong."""
    probs, targets = predictions.probs, predictions.targets
    assert targets is not None
    rows, n = np.arange(len(targets)), len(targets)
    shifts = np.unique(np.linspace(1, max(n - 1, 1), 64).astype(np.int64))
    by_chance = np.sort(np.concatenate([probs[rows, targets[(rows + shift) % n]] for shift in shifts]))
    scores = np.sort(probs[rows, targets])
    below = np.searchsorted(scores, scores, side="right") / n
    below_by_chance = np.searchsorted(by_chance, scores, side="right") / len(by_chance)
    enough = np.flatnonzero(below_by_chance >= 0.2)
    ratios = below[enough] / below_by_chance[enough]
    cut = scores[enough[np.flatnonzero(ratios.min() / ratios >= 0.5)[-1]]]
    listed = (predictions.preds != targets) & (probs[rows, targets] <= cut)
    return [str(path) for path in predictions.image_paths[listed].tolist()]


def summary(data: Labelled, rate: float, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Print a row, summed over the seeds, and return its figures."""
    planted = sum(row["planted"] for row in rows)
    cells, figures = [], {}
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
