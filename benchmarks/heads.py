"""Fitting heads on cached features: all folds and trials in one program against the usual loops.

Random separable features of the reference's size: 15,021 x 1,024, 500 classes, 5 folds, batch 64, Adam. The alternative is
what its users write: fold by fold and trial by trial, `torch.nn`, a `DataLoader` over the fold's own rows, float32; and
scikit-learn's LogisticRegression for one trial's folds. Both sides have the same threads. Beside every row stands the floor:
the operations that cannot be left out (two matrix products a layer and one more for each hidden layer, own rows only),
divided by this machine's measured rate of matrix products in the row's precision.

Where a side would take too long, it is measured on fewer trials and scaled up, and the table says so.

    .venv/bin/python benchmarks/heads.py [--epochs N] [--trials N ...] [--device cuda] [--quick]
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader, TensorDataset

from inkfold.config.sections import MlpHeadSettings, StepSchedule, TrainHeadSettings
from inkfold.data.splits import Folds
from inkfold.heads.fit import FittedHeads, Trial, fit_trials
from inkfold.heads.head import HeadSpec, mean_probs
from inkfold.heads.training_set import TrainingSet
from inkfold.models.backbone import choose_device, choose_precision

SPECS = {"linear": HeadSpec(), "mlp 1024": HeadSpec(MlpHeadSettings(kind="mlp"))}
BATCH, FOLDS, LR = 64, 5, 1e-3


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: What was fitted, and how.
        seconds: For all trials.
        floor: Seconds below which it can't be done here.
        accuracy: Out of fold, mean over the first two trials.
        remark: What was scaled up.
    """

    name: str
    seconds: float
    floor: float
    accuracy: float
    remark: str = ""


def main() -> None:
    """Fit on all sides in turns, print the tables and the RESULT line."""
    given = parse()
    device = choose_device(given.device)
    precision = choose_precision("auto", device)
    lessons = make_lessons(given)
    rates = {one: gemm_rate(one, device) for one in dict.fromkeys(("float32", precision))}
    measured = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in rates.items())
    print(f"{torch.get_num_threads()} threads, {device}; matrix products: {measured} GFLOP/s")
    result: dict[str, float] = {}
    for name, spec in SPECS.items():
        result |= study(given, name, spec, lessons, rates, device)
    print("RESULT " + " ".join(f"{name}={value:.2f}" for name, value in result.items()))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--trials", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--most-seconds", type=float, default=300, help="of one side of one row; more is scaled up")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the drawings, 2 epochs, 1 and 8 trials; under a minute"
    )
    given = parser.parse_args()
    given.rows, given.features, given.classes = (1500, 256, 100) if given.quick else (15_021, 1_024, 500)
    if given.quick:
        given.epochs, given.trials, given.most_seconds = 2, [1, 8], 5.0
    return given


def make_lessons(given: argparse.Namespace) -> TrainingSet:
    """Draw a Gaussian cloud a class; close enough together that heads differ, far enough that they can be told apart."""
    rng = np.random.default_rng(0)
    targets = np.arange(given.rows) % given.classes
    centres = rng.normal(0, 0.16, (given.classes, given.features))
    features = (centres[targets] + rng.normal(0, 1, (given.rows, given.features))).astype(np.float16)
    parts = rng.permutation(given.rows) % FOLDS
    return TrainingSet(features, targets, Folds.of(np.stack([parts != fold for fold in range(FOLDS)])), given.classes, seed=1)


def gemm_rate(precision: str, device: torch.device) -> float:
    """Measure operations a second of a large matrix product."""
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    one, other = (torch.randn(2048, 2048, device=device).to(kind) for _ in range(2))
    times = []
    for _ in range(12):
        started = time.perf_counter()
        (one @ other)[0, 0].item()
        times.append(time.perf_counter() - started)
    return 2 * 2048**3 / statistics.median(times[2:])


def floor_seconds(spec: HeadSpec, lessons: TrainingSet, epochs: int, trials: int, rate: float) -> float:
    """Count what cannot be left out."""
    widths = spec.widths(lessons.features.shape[1], lessons.num_classes)
    layers = [inputs * outputs for inputs, outputs in itertools.pairwise(widths)]
    operations = sum((4 if i == 0 else 6) * layer for i, layer in enumerate(layers))
    return operations * int(lessons.folds.trained_on.sum()) * epochs * trials / rate


def study(
    given: argparse.Namespace, name: str, spec: HeadSpec, lessons: TrainingSet, rates: dict[str, float], device: torch.device
) -> dict[str, float]:
    """Measure one kind of head."""
    result: dict[str, float] = {}
    print(f"{name}, {len(lessons.targets)} x {lessons.features.shape[1]}, {lessons.num_classes} classes, {given.epochs} epochs")
    print(f"  {'':<48}{'seconds':>9}{'floor':>8}{'x floor':>9}{'accuracy':>10}{'ratio':>8}")
    one_trial = torch_loop(given, spec, lessons, rates, device)
    for count in given.trials:
        base = Row(
            f"{count} trial(s), torch.nn and a DataLoader",
            one_trial.seconds * count,
            one_trial.floor * count,
            one_trial.accuracy,
            one_trial.remark if count == 1 else f"{one_trial.remark} x {count}".strip(),
        )
        show(base, base)
        for precision, rate in rates.items():
            row = inkfold_side(given, spec, lessons, (count, precision, rate), device)
            show(row, base)
            suffix = f"{name.split(maxsplit=1)[0]}_{count}" + ("" if precision != "float32" or len(rates) == 1 else "_float32")
            result |= {f"ratio_{suffix}": base.seconds / row.seconds, f"floor_ratio_{suffix}": row.seconds / row.floor}
    if name == "linear":
        row = sklearn_side(lessons, one_trial.floor)
        show(row, one_trial)
        result["ratio_sklearn"] = row.seconds / one_trial.seconds
    return result


def show(row: Row, base: Row) -> None:
    """Print a row beside the alternative's."""
    figures = f"{row.seconds:>9.1f}{row.floor:>8.1f}{row.seconds / row.floor:>9.2f}{row.accuracy:>10.4f}"
    print(f"  {row.name:<48}{figures}{base.seconds / row.seconds:>8.2f}  {row.remark}", flush=True)


def inkfold_side(
    given: argparse.Namespace, spec: HeadSpec, lessons: TrainingSet, what: tuple[int, str, float], device: torch.device
) -> Row:
    """Fit trials that differ in their rates in one program."""
    count, precision, rate = what
    affordable = max(1, int(given.most_seconds / (2 * floor_seconds(spec, lessons, given.epochs, 1, rate))))
    done = min(count, affordable)
    step = StepSchedule(kind="step")
    settings = TrainHeadSettings(epochs=given.epochs, batch_size=BATCH, lr=LR, schedule=step, precision=precision)
    trials = [Trial(spec, settings.model_copy(update={"lr": LR * (1 + i / 64)})) for i in range(done)]
    started = time.perf_counter()
    fitted = fit_trials(lessons, trials, device=device)
    seconds = (time.perf_counter() - started) * count / done
    accuracy = statistics.mean(out_of_fold(one, lessons) for one in fitted[:2])
    remark = "" if done == count else f"measured on {done} trials"
    floor = floor_seconds(spec, lessons, given.epochs, count, rate)
    return Row(f"{count} trial(s), inkfold {precision}", seconds, floor, accuracy, remark)


def out_of_fold(fitted: FittedHeads, lessons: TrainingSet) -> float:
    """Give the accuracy on held-out rows."""
    assert fitted.heads is not None
    right = [
        (mean_probs(fitted.heads, fitted.spec, lessons.features[~own], [fold]).argmax(1) == lessons.targets[~own])
        for fold, own in enumerate(lessons.folds.trained_on)
    ]
    return float(np.concatenate(right).mean())


def torch_loop(
    given: argparse.Namespace, spec: HeadSpec, lessons: TrainingSet, rates: dict[str, float], device: torch.device
) -> Row:
    """Fit fold by fold as it is usually written; some folds if all take too long."""
    features, targets = torch.from_numpy(lessons.features).float(), torch.from_numpy(lessons.targets)
    right, times, rows = 0, [], 0
    for own in lessons.folds.trained_on:
        started = time.perf_counter()
        model = build(spec, features.shape[1], lessons.num_classes).to(device)
        optimiser = torch.optim.Adam(model.parameters(), LR)
        scheduler = torch.optim.lr_scheduler.StepLR(optimiser, 10, 0.1)
        loader = DataLoader(TensorDataset(features[own], targets[own]), BATCH, shuffle=True)
        for _ in range(given.epochs):
            for x, y in loader:
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(model(x.to(device)), y.to(device)).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            scheduler.step()
        times.append(time.perf_counter() - started)
        with torch.no_grad():
            right += int((model(features[~own].to(device)).argmax(1).cpu() == targets[~own]).sum())
            rows += int((~own).sum())
        if sum(times) > given.most_seconds:
            break
    seconds = statistics.mean(times) * len(lessons.folds)
    remark = "" if len(times) == len(lessons.folds) else f"measured on {len(times)} of {len(lessons.folds)} folds"
    floor = floor_seconds(spec, lessons, given.epochs, 1, rates["float32"])
    return Row("1 trial(s), torch.nn and a DataLoader", seconds, floor, right / rows, remark)


def build(spec: HeadSpec, inputs: int, classes: int) -> torch.nn.Sequential:
    """Build the head of plain layers."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    widths: Sequence[int] = spec.widths(inputs, classes)
    for i, (rows, columns) in enumerate(itertools.pairwise(widths)):
        layers += [torch.nn.Linear(rows, columns)] + ([torch.nn.ReLU()] if i < len(spec.hidden) else [])
    return torch.nn.Sequential(*layers)


def sklearn_side(lessons: TrainingSet, floor: float) -> Row:
    """Fit one fold with scikit-learn's default solver and scale it to all."""
    own = lessons.folds.trained_on[0]
    features = lessons.features.astype(np.float32)
    started = time.perf_counter()
    model = LogisticRegression(max_iter=100).fit(features[own], lessons.targets[own])
    seconds = (time.perf_counter() - started) * len(lessons.folds)
    accuracy = float((model.predict(features[~own]) == lessons.targets[~own]).mean())
    return Row("1 trial, scikit-learn's LogisticRegression", seconds, floor, accuracy, "measured on 1 fold")


if __name__ == "__main__":
    main()
