"""What ink-small is worth on drawings of classes that it never saw, against backbones with ImageNet weights.

Every fifth class of the competition's layout is left out of ink-small's own training. On those, five folds and the test
drawings judge it and the others by the same recipes: frozen with a linear head, frozen with the best cached recipe, and
fine-tuned. The classes that it saw are judged too, by the test drawings: these figures flatter it.

    .venv/bin/python benchmarks/ink_small.py --data DIR --weights DIR [--tune] [--quick]
    .venv/bin/python benchmarks/ink_small.py --data DIR --prepare OUT    # the data that ink-small is trained on

What is prepared: the training drawings of the classes that it sees, and drawings that inkfold makes, of classes that
aren't left out.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from inkfold.data.synthetic import write_sketches
from inkfold.data.synthetic_shapes import CLASS_NAMES

EVERY, FIRST = 5, 2  # of the class names in order, which are left out
MADE_PER_CLASS, SEED = 40, 2026
BACKBONES = ("ink-small", "tf_efficientnet_lite0", "mobilenetv2_100")
FROZEN = {"linear": "cpu-small", "best": "cpu-best"}
TUNING, TUNED = "cpu-finetune", ["finetune.epochs=10"]  # at 128 px, ink-small at its own 64


def left_out(names: Collection[str]) -> list[str]:
    """Name the classes that ink-small doesn't see."""
    return sorted(names)[FIRST::EVERY]


def read(path: Path) -> list[dict[str, str]]:
    """Read a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def part(data: Path, out: Path, keep: Collection[str]) -> Path:
    """Copy some classes' training and test drawings into a data set of their own."""
    train, test = read(data / "train.csv"), read(data / "test_labels.csv")
    name_of = {row["target"]: row["class_name"] for row in train}
    number = {name: i for i, name in enumerate(sorted(keep))}
    train = [row for row in train if row["class_name"] in number]
    test = [row for row in test if name_of[row["target"]] in number]
    for folder, rows in (("train", train), ("test", test)):
        for row in rows:
            target = out / folder / row["image_path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / folder / row["image_path"], target)
    columns = ("class_name", "image_path", "target")
    write(out / "train.csv", columns, [(row["class_name"], row["image_path"], number[row["class_name"]]) for row in train])
    write(out / "test.csv", ("image_path",), [(row["image_path"],) for row in test])
    answers = [(i, row["image_path"], number[name_of[row["target"]]]) for i, row in enumerate(test)]
    write(out / "test_labels.csv", ("ID", "image_path", "target"), answers)
    write(out / "sample_submission.csv", ("ID", "image_path", "target"), [(i, path, 0) for i, path, _ in answers])
    return out


def prepare(data: Path, out: Path) -> None:
    """Put together what ink-small is trained on, as class folders."""
    rows = read(data / "train.csv")
    hidden = set(left_out({row["class_name"] for row in rows}))
    for row in rows:
        if row["class_name"] not in hidden:
            target = out / row["class_name"] / Path(row["image_path"]).name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / "train" / row["image_path"], target)
    made = sorted(set(CLASS_NAMES) - hidden)
    with tempfile.TemporaryDirectory() as scratch:
        drawn = write_sketches(
            Path(scratch) / "made", train_per_class=MADE_PER_CLASS, test_per_class=0, classes=made, seed=SEED
        )
        for file in sorted((drawn / "train").rglob("*.png")):
            target = out / file.parent.name / f"made_{file.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    files = sum(1 for _ in out.rglob("*.png"))
    print(
        f"{files} drawings of {len(list(out.iterdir()))} classes, {len(made)} of them made too; left out: {len(hidden)} classes"
    )


def judge(recipe: str, name: str, data: Path, out: Path, settings: Sequence[str]) -> dict[str, Any]:
    """Train one run in a process of its own."""
    command = [sys.executable, "-m", "inkfold", "train", recipe, f"data={data}", f"out={out}", f"backbone.name={name}"]
    subprocess.run([*command, "data.test_targets=test_labels.csv", *settings], check=True, capture_output=True)
    metrics, cost = (json.loads((out / file).read_text()) for file in ("metrics.json", "cost.json"))
    forwards = cost["forwards"] / cost["seconds"]["features"] if cost["forwards"] else float("nan")
    held_out = metrics["out_of_fold"]
    return {
        "held_out": held_out["accuracy"],
        "interval": held_out["accuracy_ci95"],
        "test": metrics["test"]["accuracy"],
        "rate": forwards,
        "minutes": sum(cost["seconds"].values()) / 60,
    }


def table(title: str, data: Path, scratch: Path, recipes: dict[str, str], settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Judge every backbone by every recipe and print a line each."""
    print(f"\n{title}\n{'':34s}  held out (95 %)        test   drawings/s  minutes")
    rows = {}
    for how, recipe in recipes.items():
        for name in BACKBONES:
            own = ["image.size=null"] if name == BACKBONES[0] and recipe == TUNING else []
            row = judge(recipe, name, data, scratch / f"{data.name}-{how}-{name}", [*settings, *own])
            rows[f"{how} {name}"] = row
            low, high = row["interval"]
            figures = (
                f"{row['held_out']:.3f} ({low:.3f}-{high:.3f})  {row['test']:.3f}  {row['rate']:10.0f}  {row['minutes']:7.1f}"
            )
            print(f"{how + ', ' + name:34s}  {figures}", flush=True)
    return rows


def main() -> None:
    """Judge, or prepare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the competition's layout with test_labels.csv")
    parser.add_argument("--weights", type=Path, help="directory with the other backbones' weights")
    parser.add_argument("--prepare", type=Path, metavar="OUT", help="only write ink-small's training data")
    parser.add_argument("--tune", action="store_true", help="fine-tune too: minutes a row")
    parser.add_argument("--quick", action="store_true", help="the linear head only")
    given = parser.parse_args()
    if given.prepare:
        prepare(given.data, given.prepare)
        return
    if given.weights:
        os.environ["INKFOLD_WEIGHTS"] = str(given.weights.absolute())
    names = {row["class_name"] for row in read(given.data / "train.csv")}
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        os.environ["INKFOLD_HOME"] = str(scratch / "home")
        unseen = part(given.data, scratch / "unseen", left_out(names))
        recipes = dict(list(FROZEN.items())[: 1 if given.quick else None])
        rows = table(f"{len(left_out(names))} classes that ink-small never saw", unseen, scratch, recipes, [])
        if given.tune:
            rows |= table("fine-tuned whole on them", unseen, scratch, {"tuned": TUNING}, TUNED)
        if not given.quick:
            table("all classes; ink-small was trained on most of these", given.data, scratch, {"linear": FROZEN["linear"]}, [])
    own, others = rows["linear ink-small"], [rows[f"linear {name}"] for name in BACKBONES[1:]]
    best = max(other["held_out"] for other in others)
    speed = own["rate"] / max(other["rate"] for other in others)
    print(f"RESULT unseen={own['held_out']:.4f} best_other={best:.4f} gain={own['held_out'] - best:.4f} ratio={speed:.2f}")


if __name__ == "__main__":
    main()
