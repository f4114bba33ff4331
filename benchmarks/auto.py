"""`inkfold train auto` against what else would use the same time: fastai, timm's `train.py`, inkfold's own recipes.

    python benchmarks/auto.py --data DIR --weights DIR --fastai-python fastai/bin/python --timm-train train.py [--keep DIR]
    python benchmarks/auto.py --quick                 # the sample that inkfold draws, 20 s, `first`

For each budget, one command after the other on an idle machine, each in a process of its own, from empty caches and the same
weights, without the test's labels:

- `auto`: `inkfold train auto budget=B`.
- `fastai`, `timm`: `fastai_driver.py` and `timm_driver.py`, whose docstrings list the settings. Epochs are as many as their own
  measured time for a drawing lets in; measuring isn't counted. The largest image size that lets 20 epochs in is taken, else the
  smallest.
- recipes: those that end in the budget. They know no budget, so each is run once, for at most the largest one.

The table has test accuracy with its 95 % interval, seconds of wall-clock, and for each side what `auto` is ahead of it on the
same drawings, with the p-value of McNemar's test; `behind` in the last line counts where auto is behind by more than chance.
fastai goes into an environment of its own (`fastai_driver.py`); timm's script isn't in its wheel: take `train.py` of the
installed release from its repository. A side whose program isn't named is left out. With `--keep`, results stay and are not
measured again.
"""

import argparse
import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from inkfold.config.sections import duration_s
from inkfold.data.synthetic import prepare_demo
from inkfold.evaluation.intervals import wilson_interval
from inkfold.evaluation.paired import paired_difference
from inkfold.evaluation.predictions import Predictions
from inkfold.models.backbone import choose_device, choose_training_precision

RECIPES = ("first", "cpu-best", "cpu-hour", "cpu-ensemble")
SIZES_PX = (224, 160, 128, 96, 64)
MEASURED_PX, FEWEST_EPOCHS = 128, 20
USED_SHARE = 0.95  # of the time, which epochs are planned for
LATE_SHARE, LATE_S = 0.1, 20.0  # beyond the budget, which still counts as within it
HERE = Path(__file__).parent


@dataclass(slots=True)
class Result:
    """What one command did: its answers by test drawing (none if it didn't end), its seconds, and notes."""

    answers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""


def call(command: Sequence[str | Path], directory: Path, weights: Path | None, limit_s: float) -> tuple[str | None, float]:
    """Run a command from empty caches, ended at the limit: what it wrote (None: it didn't end), and its seconds."""
    directory.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "INKFOLD_HOME": str(directory / "home"), "OMP_NUM_THREADS": str(os.cpu_count())}
    environment |= {"INKFOLD_WEIGHTS": str(weights)} if weights else {}
    started = time.perf_counter()
    with (directory / "log.txt").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = time.perf_counter() - started
        log.seek(0)
        text = log.read()
    if code not in (0, None):
        raise SystemExit(f"{' '.join(map(str, command))}\n{text[-4000:]}")
    return (text if code == 0 else None), seconds


def blind_copy(data: Path, out: Path) -> Path:
    """Copy the data without the test's labels."""
    return Path(shutil.copytree(data, out, ignore=shutil.ignore_patterns("test_labels.csv", ".*")))


def true_classes(data: Path) -> dict[str, str]:
    """Read the class of each test drawing."""
    with (data / "train.csv").open(newline="", encoding="utf-8") as file:
        names = {row["target"]: row["class_name"] for row in csv.DictReader(file)}
    with (data / "test_labels.csv").open(newline="", encoding="utf-8") as file:
        return {row["image_path"]: names[row["target"]] for row in csv.DictReader(file)}


def run_inkfold(options: argparse.Namespace, recipe: Sequence[str], directory: Path, limit_s: float) -> Result:
    """Train a recipe or the search by the command line."""
    out = directory / "run"
    command = [sys.executable, "-m", "inkfold", "train", *recipe, f"data={options.blind}", f"out={out}", *options.set]
    log, seconds = call(command, directory, options.weights, limit_s)
    if log is None:
        return Result({}, seconds, "did not end")
    test = Predictions.load(out / "predictions" / "test.parquet")
    names = np.array(test.class_names)[test.preds].tolist()
    return Result({Path(path).name: name for path, name in zip(test.image_paths.tolist(), names, strict=True)}, seconds)


def run_other(options: argparse.Namespace, side: str, directory: Path, budget_s: float) -> Result:
    """Measure what a drawing costs fastai or timm, choose size and epochs, train and answer."""
    command: list[str | Path] = [options.fastai_python, HERE / "fastai_driver.py"]
    if side == "timm":
        command = [sys.executable, HERE / "timm_driver.py", "--script", options.timm_train]
        if choose_training_precision("auto", choose_device("cpu")) == "bfloat16":
            command.append("--bfloat16")
    weights = options.weights / f"{options.model}.safetensors" if options.weights else None
    command += ["--train", options.data / "train", "--test", options.data / "test", "--model", options.model]
    command += ["--out", directory / "answer.json", *(["--weights", weights] if weights else [])]
    size, costs = choose_size(command, directory, options, budget_s)
    frozen = 1 if side == "fastai" else 0  # an epoch of the head alone
    epochs = epochs_within(budget_s, costs, options) - frozen
    if epochs < 1 - frozen:
        return Result({}, 0.0, f"not even one epoch of {size} px ends")
    command += ["--size", str(size), "--epochs", str(epochs)]
    if side == "fastai":
        command += ["--seconds", f"{budget_s}", "--train-s", str(costs["train_s"]), "--predict-s", str(costs["predict_s"])]
    log, seconds = call(command, directory, options.weights, budget_s * (1 + LATE_SHARE) + LATE_S)
    if log is None:
        return Result({}, seconds, "did not end")
    answer = json.loads((directory / "answer.json").read_text(encoding="utf-8"))
    return Result(answer["answers"], seconds, ", ".join(f"{name}={value:.3g}" for name, value in answer["about"].items()))


def choose_size(
    command: Sequence[str | Path], directory: Path, options: argparse.Namespace, budget_s: float
) -> tuple[int, dict[str, float]]:
    """Choose the image's side, in px, by what a drawing costs, and measure that at the chosen one."""
    costs = measure(command, directory, MEASURED_PX, options.weights)
    for size in SIZES_PX:
        scale = (size / MEASURED_PX) ** 2
        expected = {**costs, "train_s": costs["train_s"] * scale, "predict_s": costs["predict_s"] * scale}
        if epochs_within(budget_s, expected, options) >= FEWEST_EPOCHS or size == SIZES_PX[-1]:
            return size, costs if size == MEASURED_PX else measure(command, directory, size, options.weights)
    raise AssertionError


def measure(command: Sequence[str | Path], directory: Path, size: int, weights: Path | None) -> dict[str, float]:
    """Measure seconds for the start, for a trained drawing and for an answered one."""
    log, _ = call([*command, "--size", str(size), "--measure"], directory, weights, float("inf"))
    assert log is not None
    costs: dict[str, float] = json.loads(log.splitlines()[-1])
    return costs


def epochs_within(budget_s: float, costs: dict[str, float], options: argparse.Namespace) -> int:
    """Count the epochs that end in the budget."""
    left_s = USED_SHARE * budget_s - costs["startup_s"] - costs["predict_s"] * options.n_test
    return int(left_s / (costs["train_s"] * options.n_train))


def remembered(directory: Path, produce: Any) -> Result:
    """Return a result that is kept from before, or produce and keep it."""
    file = directory / "result.json"
    if file.is_file():
        return Result(**json.loads(file.read_text(encoding="utf-8")))
    result: Result = produce()
    file.write_text(json.dumps(asdict(result)), encoding="utf-8")
    return result


def run_all(options: argparse.Namespace, budgets: dict[str, float]) -> dict[str, dict[str, Result]]:
    """Run every side for every budget, one after the other."""
    others = [side for side, program in (("fastai", options.fastai_python), ("timm", options.timm_train)) if program]
    longest_s = max(budgets.values())
    recipes = {}
    for name in options.recipes:
        place = options.keep / name
        recipes[name] = remembered(
            place, lambda place=place, name=name: run_inkfold(options, [name], place, longest_s + LATE_S)
        )
        print(f"{name}: {recipes[name].seconds:.0f} s", flush=True)
    results: dict[str, dict[str, Result]] = {}
    for text, budget_s in budgets.items():
        sides = {}
        place, recipe = options.keep / f"auto-{text}", ["auto", f"budget={text}"]
        sides["auto"] = remembered(
            place, lambda place=place, recipe=recipe, seconds=budget_s: run_inkfold(options, recipe, place, 2 * seconds + 60)
        )
        for side in others:
            place = options.keep / f"{side}-{text}"
            sides[side] = remembered(
                place, lambda place=place, side=side, seconds=budget_s: run_other(options, side, place, seconds)
            )
        results[text] = sides | recipes
        print(f"{text}: {', '.join(f'{name} {result.seconds:.0f} s' for name, result in sides.items())}", flush=True)
    return results


def print_budget(text: str, budget_s: float, sides: dict[str, Result], truth: dict[str, str]) -> int:
    """Print a budget's part of the table; the number of sides that auto is behind by more than chance."""
    latest_s = budget_s + max(LATE_SHARE * budget_s, LATE_S)
    right = {
        name: np.array([side.answers[path] == truth[path] for path in truth])
        for name, side in sides.items()
        if side.answers and (side.seconds <= latest_s or name == "auto")
    }
    behind = 0
    print(f"\nbudget {text:<12}  test accuracy      seconds   auto ahead by            p")
    for name, side in sides.items():
        if name not in right:
            print(f"{name:<20} {side.note if not side.answers and side.note else 'did not end':<18} {side.seconds:>7.0f}")
            continue
        low, high = wilson_interval(int(right[name].sum()), len(truth))
        line = f"{name:<20} {right[name].mean():.3f} ({low:.3f}-{high:.3f}) {side.seconds:>7.0f}"
        if name != "auto" and "auto" in right:
            paired = paired_difference(right[name], right["auto"])
            low, high = paired["difference_ci95"]
            line += f"   {paired['difference']:+.3f} ({low:+.3f} to {high:+.3f}) {paired['p_value']:.2g}"
            behind += paired["distinguishable"] and paired["difference"] < 0
        print(f"{line}   {side.note}" if side.note else line)
    return behind


def main() -> None:
    """Read the options, run everything and print the table."""
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the running command is ended too
    budgets = {text: duration_s(text) for text in options.budgets}
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        options.keep = (options.keep or scratch / "kept").absolute()
        options.data = (options.data or prepare_demo(scratch)).absolute()
        options.blind = blind_copy(options.data, scratch / "blind")
        truth = true_classes(options.data)
        options.n_train, options.n_test = sum(1 for _ in (options.data / "train").glob("*/*")), len(truth)
        print(f"{options.data.name}: {options.n_train} training drawings, {options.n_test} test drawings", flush=True)
        results = run_all(options, budgets)
        behind = sum(print_budget(text, budgets[text], sides, truth) for text, sides in results.items())
    figures = []
    for text, sides in results.items():
        for name, side in sides.items():
            if side.answers:
                accuracy = np.mean([side.answers[path] == truth[path] for path in truth])
                figures.append(f"{name.replace('-', '_')}_{text}={accuracy:.4f}")
        figures.append(f"seconds_{text}={sides['auto'].seconds:.0f}")
    print(f"RESULT {' '.join(figures)} behind={behind} n={len(truth)}")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the competition's layout with test_labels.csv; by default inkfold's sample")
    parser.add_argument("--weights", type=Path, help="directory of NAME.safetensors, for all sides; untrained without it")
    parser.add_argument("--budgets", nargs="+", default=["1m", "10m", "60m"], help="durations such as 30s, 10m or 1h")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), help="inkfold's recipes to run")
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="timm's name of the backbone of fastai and timm")
    parser.add_argument("--fastai-python", type=Path, help="a Python that has fastai")
    parser.add_argument("--timm-train", type=Path, help="timm's train.py")
    parser.add_argument("--set", nargs="*", default=[], help="key=value for inkfold's runs")
    parser.add_argument("--keep", type=Path, help="directory that keeps runs and results, for the next time")
    parser.add_argument("--quick", action="store_true", help="inkfold's sample, a budget of 20 s and `first`; under a minute")
    options = parser.parse_args()
    if options.quick:
        options.data, options.budgets, options.recipes = None, ["20s"], ["first"]
    for name in ("weights", "timm_train", "fastai_python"):
        path = getattr(options, name)
        setattr(options, name, path and Path(os.path.abspath(path)))  # noqa: PTH100 - an environment's python is a link
    return options


if __name__ == "__main__":
    main()
