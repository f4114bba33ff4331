"""Whether the strokes that `Run.explain` names are those that the answer rests on: a deletion test on real drawings.

Of each test drawing the strokes are erased one after the other, those that are said to raise the answer most first, and the
answer's probability is watched over the share of ink that is gone. The same is done in random orders of the same strokes and
in orders by gradients. An explanation that says something drops the probability sooner. All orders erase the same strokes, so
that no side erases more ink in finer pieces.

    .venv/bin/python benchmarks/explain.py --run RUN --drawings DIR [--count 100] [--strokes 12 24] [--gradients]
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import inkfold
from inkfold.explain.explanation import Explanation
from inkfold.explain.occlusion import erased
from inkfold.pipeline.explain import explain
from inkfold.pipeline.gradients import AT_THE_DRAWING, attribute
from inkfold.pipeline.predict import options_of, predict_squares
from inkfold.pipeline.run import Run

SHARES = np.linspace(0, 1, 21)  # of the ink that is gone
REPORTED = (0.1, 0.2, 0.3)
RANDOM_ORDERS = 3


def main() -> None:
    """Run the test for each number of strokes and print a table and a RESULT line each."""
    given = parse()
    model = inkfold.load_run(given.run)
    if not isinstance(model, Run):
        raise SystemExit(f"{given.run}: is an ensemble, expected a run of one model.")
    files = sorted(path for path in given.drawings.rglob("*") if path.is_file())
    chosen = np.random.default_rng(0).permutation(len(files))[: given.count]
    for strokes in given.strokes:
        measure(model, [files[place] for place in sorted(chosen.tolist())], strokes, gradients=given.gradients)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a finished run of one model")
    parser.add_argument("--drawings", type=Path, required=True, help="drawings that it wasn't trained on, at any depth")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--strokes", type=int, nargs="+", default=[24])
    parser.add_argument(
        "--gradients", action="store_true", help="compare with orders by gradients, which take minutes on a CPU"
    )
    return parser.parse_args()


def measure(model: Run, files: Sequence[Path], strokes: int, *, gradients: bool) -> None:
    """Delete strokes of all drawings in all orders, and print what is left of the answers."""
    curves: dict[str, list[np.ndarray]] = {}
    seconds: dict[str, float] = {}
    answers = model.decide(model.predict_proba([str(file) for file in files]))
    drawn = 0
    for number, (file, answer) in enumerate(zip(files, answers.tolist(), strict=True)):
        began = time.perf_counter()
        found = explain(model, file, strokes=strokes)
        seconds["erased alone"] = seconds.get("erased alone", 0.0) + time.perf_counter() - began
        if len(found.strokes) < 2:
            continue
        orders = {"erased alone": [[one.number for one in found.strokes]]}
        orders["least first"] = [orders["erased alone"][0][::-1]]
        rng = np.random.default_rng(number)
        numbers = np.arange(1, len(found.strokes) + 1)
        orders["random"] = [rng.permutation(numbers).tolist() for _ in range(RANDOM_ORDERS)]
        if gradients:
            began = time.perf_counter()
            by_gradients = explain(model, file, strokes=strokes, method="gradients")
            seconds["gradients"] = seconds.get("gradients", 0.0) + time.perf_counter() - began
            orders["gradients"] = [[one.number for one in by_gradients.strokes]]
            steep = attribute(model, found.square, answer, shares=AT_THE_DRAWING)
            sums = np.bincount(found.labels.ravel(), weights=steep.ravel(), minlength=len(numbers) + 1)[1:]
            orders["input x gradient"] = [numbers[np.argsort(-sums, kind="stable")].tolist()]
        drawn += len(found.strokes)
        for name, curve in delete(model, found, orders, answer).items():
            curves.setdefault(name, []).append(curve)
    report(curves, seconds, len(files), drawn / max(1, len(curves["random"])), strokes)


def delete(model: Run, found: Explanation, orders: dict[str, list[list[int]]], answer: int) -> dict[str, np.ndarray]:
    """Erase strokes in each order, and return the answer's probability at `SHARES` of erased ink, the mean of a name's orders.

    All are predicted in one batch.
    """
    squares, gone = [], []
    share_of = {one.number: one.ink_fraction for one in found.strokes}
    for order in [order for own in orders.values() for order in own]:
        shares = np.cumsum([0.0, *(share_of[number] for number in order)])
        for count in range(len(order) + 1):
            squares.append(erased(found.square, np.isin(found.labels, order[:count])))
        gone.append(shares / shares[-1])
    [option] = options_of([model])
    probs = model.pool_folds(predict_squares([model], {option: squares}))[:, answer]
    curves, start, place = {}, 0, 0
    for name, own in orders.items():
        each = []
        for order in own:
            each.append(np.interp(SHARES, gone[place], probs[start : start + len(order) + 1]))
            start, place = start + len(order) + 1, place + 1
        curves[name] = np.mean(each, axis=0)
    return curves


def report(
    curves: dict[str, list[np.ndarray]], seconds: dict[str, float], count: int, mean_strokes: float, strokes: int
) -> None:
    """Print the mean probabilities, the area below each curve with its 95 % interval, and the RESULT line."""
    random = np.array(curves["random"])
    print(f"{len(random)} drawings, at most {strokes} strokes, {mean_strokes:.1f} on average")
    print(f"{'order':16} {'area':>6} {'below random (95 %)':>24} " + " ".join(f"{share:>6.0%}" for share in REPORTED))
    figures = []
    for name, own in curves.items():
        values = np.array(own)
        areas = values.mean(1)
        less = random.mean(1) - areas
        error = 1.96 * less.std(ddof=1) / len(less) ** 0.5
        at = [float(values[:, np.abs(SHARES - share).argmin()].mean()) for share in REPORTED]
        interval = f"{less.mean():+.3f} ({less.mean() - error:+.3f} to {less.mean() + error:+.3f})"
        print(f"{name:16} {areas.mean():6.3f} {interval:>24} " + " ".join(f"{value:6.3f}" for value in at))
        figures += [f"{name.replace(' ', '_')}_area={areas.mean():.4f}", f"{name.replace(' ', '_')}_at_20={at[1]:.4f}"]
    wins = float(np.mean(random.mean(1) > np.array(curves["erased alone"]).mean(1)))
    took = " ".join(f"{name.replace(' ', '_')}_s={value / count:.3f}" for name, value in seconds.items())
    print(f"RESULT strokes={strokes} drawings={len(random)} {' '.join(figures)} sooner_than_random={wins:.3f} {took}")


if __name__ == "__main__":
    main()
