"""Whether what `inkfold train auto` says of itself is true of drawings that it never saw: many small tasks, each with a test.

    python benchmarks/auto_honesty.py --data DIR --weights DIR [--omniglot FILE.zip] [--tasks 10] [--budget 30s]
    python benchmarks/auto_honesty.py --quick                   # two tasks out of the sample that inkfold draws, 20 s each

Tasks of 10 to 60 classes with 8 to 20 training drawings each are cut out of a data set's training drawings; as many of each
class are set aside as the task's test, whose labels the search never gets. Kinds of tasks, never mixed:

- `unknown`: classes that `ink-small` was not trained on (places 3, 8, 13 ... of quickdraw345's names), all backbones at hand.
- `known`: classes that it was trained on. Its out-of-fold figure is then of drawings that it knows, which the run says; the
  test is the data's own, which it doesn't know.
- `others`: any classes, with one of the other backbones that `--weights` has.
- `people`: characters of Omniglot, half of the people train and the others test; no backbone knows them. FILE.zip is
  `python/images_background_small1.zip` of brendenlake/omniglot.

`claimed` is the accuracy that the run reports (of drawings new to the backbone where it knows some), `nested` the one of the
choice where other drawings make it. Both should be that of the test, on average. The test is answered by all folds together,
which are better than each by itself, and out of fold one answers alone; `one fold` is the test accuracy of the folds' own
answers, and what the claim is above it is the optimism that choosing leaves. `covered`: the share of tasks in which the
interval of claim less test holds 0.
"""

import argparse
import csv
import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inkfold.auto.record import AUTO, AutoRecord
from inkfold.auto.train import train_any
from inkfold.data.synthetic import prepare_demo
from inkfold.ensemble.model import load_run
from inkfold.evaluation.intervals import wilson_interval
from inkfold.evaluation.predictions import Predictions

SEED = 22
CLASSES, DRAWINGS = (10, 60), (8, 20)  # of a task; drawings of a class that train
UNKNOWN_FROM, UNKNOWN_EVERY = 2, 5  # places from 0; as in ink_small.py
OMNIGLOT_PEOPLE = 20
LEAST_NEW = 20  # drawings new to the backbone: a figure of fewer is none

Drawing = tuple[str, str, Callable[[], bytes]]  # class, name, content


@dataclass(frozen=True, slots=True)
class Task:
    """A small data set in the competition's layout, and the classes of its test drawings."""

    kind: str
    root: Path
    settings: tuple[str, ...]
    truth: dict[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search said of itself and what was true.

    Attributes:
        claimed: Accuracy that the run reports, 0 to 1; nan if it reports none.
        claimed_error: Standard error of it, from its interval.
        nested: Accuracy where other drawings choose; nan if there was nothing to choose.
        test: Accuracy on the drawings set aside.
        one_fold: Accuracy there of each fold's models alone, the mean over folds; nan if not known.
        n: Number of drawings set aside.
        backbones: What was chosen.
    """

    claimed: float
    claimed_error: float
    nested: float
    test: float
    one_fold: float
    n: int
    backbones: str

    @property
    def is_covered(self) -> bool:
        """Whether the claim and the test differ by no more than their intervals allow."""
        low, high = wilson_interval(self.test * self.n, self.n)
        return abs(self.claimed - self.test) <= 1.96 * float(np.hypot(self.claimed_error, (high - low) / (2 * 1.96)))


def write_task(root: Path, train: Sequence[Drawing], test: Sequence[Drawing]) -> dict[str, str]:
    """Write a task without the test's labels, and return these."""
    names = sorted({name for name, _, _ in train})
    truth = {}
    rows = [("class_name", "image_path", "target")]
    for name, file, content in train:
        path = root / "train" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content())
        rows.append((name, f"{name}/{file}", str(names.index(name))))
    (root / "test").mkdir()
    for number, (name, file, content) in enumerate(test):
        truth[f"{number}{Path(file).suffix}"] = name
        (root / "test" / f"{number}{Path(file).suffix}").write_bytes(content())
    for table, lines in (("train.csv", rows), ("test.csv", [("image_path",), *((path,) for path in truth)])):
        with (root / table).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(lines)
    return truth


def of_folders(data: Path) -> dict[str, list[Drawing]]:
    """List the training drawings of each class."""
    listed: dict[str, list[Drawing]] = {}
    for path in sorted((data / "train").glob("*/*")):
        listed.setdefault(path.parent.name, []).append((path.parent.name, path.name, path.read_bytes))
    return listed


def own_test(data: Path) -> dict[str, list[Drawing]]:
    """List the data's own test drawings of each class."""
    with (data / "train.csv").open(newline="", encoding="utf-8") as file:
        names = {row["target"]: row["class_name"] for row in csv.DictReader(file)}
    listed: dict[str, list[Drawing]] = {}
    with (data / "test_labels.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name, path = names[row["target"]], data / "test" / row["image_path"]
            listed.setdefault(name, []).append((name, path.name, path.read_bytes))
    return listed


def cut(drawings: dict[str, list[Drawing]], rng: np.random.Generator) -> tuple[list[Drawing], list[Drawing]]:
    """Cut a task out: some classes, so many drawings of each that train, as many set aside."""
    count = min(int(rng.integers(CLASSES[0], CLASSES[1] + 1)), len(drawings))
    each = int(rng.integers(DRAWINGS[0], DRAWINGS[1] + 1))
    train: list[Drawing] = []
    test: list[Drawing] = []
    for name in rng.permutation(sorted(drawings))[:count].tolist():
        order = rng.permutation(len(drawings[name])).tolist()
        half = min(each, len(order) // 2)
        train += [drawings[name][i] for i in order[:half]]
        test += [drawings[name][i] for i in order[half : 2 * half]]
    return train, test


def of_people(archive: Path, rng: np.random.Generator) -> tuple[list[Drawing], list[Drawing]]:
    """Cut a task out of Omniglot: some characters, half of the people train."""
    with zipfile.ZipFile(archive) as file:
        files = [name for name in sorted(file.namelist()) if name.endswith(".png") and not name.startswith("__")]
        characters: dict[str, list[str]] = {}
        for name in files:
            characters.setdefault("_".join(Path(name).parts[-3:-1]), []).append(name)
        count = min(int(rng.integers(CLASSES[0], CLASSES[1] + 1)), len(characters))
        training = {f"{person + 1:02d}" for person in rng.permutation(OMNIGLOT_PEOPLE)[: OMNIGLOT_PEOPLE // 2].tolist()}
        parts: tuple[list[Drawing], list[Drawing]] = ([], [])
        for character in rng.permutation(sorted(characters))[:count].tolist():
            for name in characters[character]:
                person = Path(name).stem[-2:]
                content = io.BytesIO(file.read(name)).getvalue
                parts[person not in training].append((character, f"person{person}.png", content))
    return parts


def tasks(options: argparse.Namespace, scratch: Path) -> Iterator[Task]:
    """Write all tasks, one after the other."""
    data = options.data or prepare_demo(scratch)
    drawings, own = of_folders(data), own_test(data)
    unknown = set(sorted(drawings)[UNKNOWN_FROM::UNKNOWN_EVERY])
    for kind in options.kinds:
        for number in range(options.tasks):
            rng = np.random.default_rng([SEED, sum(kind.encode()), number])
            settings: tuple[str, ...] = ()
            if kind == "people":
                train, test = of_people(options.omniglot, rng)
                settings = ("folds.group_pattern=person(\\d+)",)
            else:
                chosen = {name for name in drawings if kind == "others" or (name in unknown) == (kind == "unknown")}
                train, test = cut({name: drawings[name] for name in chosen}, rng)
            if kind == "known":
                test = [drawing for name in sorted({name for name, _, _ in train}) for drawing in own.get(name, [])]
            if kind == "others":
                settings = (f"backbone.name={options.others[number % len(options.others)]}",)
            root = scratch / f"{kind}{number}"
            root.mkdir()
            yield Task(kind, root, settings, write_task(root, train, test))


def judge(task: Task, budget: str) -> Outcome:
    """Search in a task, and compare what the run says with the test."""
    out = task.root / "run"
    train_any("auto", f"budget={budget}", *task.settings, data=task.root, out=out)
    metrics = load_run(out).files.metrics
    figures: dict[str, Any] = metrics["out_of_fold"]
    if "learnt_by_backbone" in metrics and "new" in metrics["learnt_by_backbone"]:
        figures = metrics["learnt_by_backbone"]["new"]
    is_figure = figures["n"] >= LEAST_NEW
    low, high = figures["accuracy_ci95"] if is_figure else (float("nan"), float("nan"))
    record = AutoRecord.load(out / AUTO)
    test = Predictions.load(out / "predictions" / "test.parquet")
    truth = np.array([task.truth[Path(path).name] for path in test.image_paths.tolist()])
    names = np.array(test.class_names)
    folds = [] if test.fold_probs is None else [float((names[probs.argmax(1)] == truth).mean()) for probs in test.fold_probs]
    choice = record.choice
    nested = None if choice is None else choice.get("nested")
    members = [] if choice is None else [*(choice.get("members") or [choice["step"]])]
    return Outcome(
        claimed=float(figures["accuracy"]) if is_figure else float("nan"),
        claimed_error=(high - low) / (2 * 1.96),
        nested=float("nan") if nested is None else nested,
        test=float((names[test.preds] == truth).mean()),
        one_fold=float(np.mean(folds)) if folds else float("nan"),
        n=len(truth),
        backbones=" + ".join(members),
    )


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of the values that are known, and its standard error."""
    known = np.array([value for value in values if np.isfinite(value)])
    if not len(known):
        return float("nan"), float("nan")
    return float(known.mean()), float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else float("nan")


def main() -> None:
    """Search in all tasks and print the differences."""
    options = parse()
    outcomes: dict[str, list[Outcome]] = {}
    print("kind     classes train   n   claimed  nested   test  one fold  claimed-test  chosen")
    with tempfile.TemporaryDirectory() as directory:
        os.environ["INKFOLD_HOME"] = str(Path(directory) / "home")
        for task in tasks(options, Path(directory)):
            outcome = judge(task, options.budget)
            outcomes.setdefault(task.kind, []).append(outcome)
            counts = len(set(task.truth.values())), len(list((task.root / "train").glob("*/*")))
            print(
                f"{task.kind:<8} {counts[0]:>6} {counts[1]:>6} {outcome.n:>5} {outcome.claimed:>8.3f} {outcome.nested:>7.3f} "
                f"{outcome.test:>7.3f} {outcome.one_fold:>8.3f} {outcome.claimed - outcome.test:>+12.3f}   {outcome.backbones}",
                flush=True,
            )
    figures = []
    print("\nkind     tasks   claimed - test      nested - test       claimed - one fold  covered")
    for kind, listed in outcomes.items():
        line = f"{kind:<8} {len(listed):>5}"
        for name, differences in {
            "difference": [one.claimed - one.test for one in listed],
            "nested": [one.nested - one.test for one in listed],
            "one_fold": [one.claimed - one.one_fold for one in listed],
        }.items():
            mean, error = mean_and_error(differences)
            line += f"   {mean:+.4f} (SE {error:.4f})"
            figures.append(f"{name}_{kind}={mean:+.4f} {name}_{kind}_se={error:.4f}")
        covered = mean_and_error([float(one.is_covered) for one in listed if np.isfinite(one.claimed)])[0]
        print(f"{line}   {covered:.2f}")
        figures.append(f"covered_{kind}={covered:.2f}")
    print(f"RESULT {' '.join(figures)} tasks={sum(map(len, outcomes.values()))}")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="quickdraw345 with test_labels.csv; by default inkfold's sample")
    parser.add_argument("--weights", type=Path, help="directory of NAME.safetensors")
    parser.add_argument("--omniglot", type=Path, help="images_background_small1.zip of brendenlake/omniglot, for `people`")
    parser.add_argument("--tasks", type=int, default=10, help="of each kind")
    parser.add_argument("--budget", default="30s", help="of each task")
    parser.add_argument(
        "--kinds", nargs="+", choices=("unknown", "known", "others", "people"), help="by default all that can be"
    )
    parser.add_argument("--quick", action="store_true", help="inkfold's sample, two tasks, 20 s each")
    options = parser.parse_args()
    if options.quick:
        options.data, options.tasks, options.budget, options.kinds = None, 2, "20s", ["unknown"]
    if options.weights:
        os.environ["INKFOLD_WEIGHTS"] = str(options.weights.absolute())
        options.others = sorted(path.stem for path in options.weights.glob("*.safetensors"))
    if options.kinds is None:
        options.kinds = [
            "unknown",
            "known",
            *(["others"] if options.weights else []),
            *(["people"] if options.omniglot else []),
        ]
    if ("others" in options.kinds and not options.weights) or ("people" in options.kinds and not options.omniglot):
        parser.error("`others` needs --weights, `people` needs --omniglot")
    return options


if __name__ == "__main__":
    main()
