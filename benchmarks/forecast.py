"""Does the forecast of a search hold? Simulated searches, whose best figure rises in ever smaller steps, and what comes next.

    .venv/bin/python benchmarks/forecast.py --quick
    .venv/bin/python benchmarks/forecast.py [--searches 1000]

Steps come as a Poisson process over log time and are of exponential size; the size decays by `exp(-decay)` in each unit of
log time, 2.7 times the time. Printed are the share of searches whose next period lies in the 95 % interval, and the mean of
the forecasts beside that of the truth. A forecast knows neither rate nor decay; searches of fewer than three points have none.
"""

import argparse
import math

import numpy as np

from inkfold.auto.forecast import forecast
from inkfold.auto.record import AutoRecord

RATES, DECAYS, SPENT_S = (1.0, 2.0, 4.0), (0.3, 0.5, 0.8), (30.0, 600.0, 3600.0)
FIRST_GAIN, FIRST_FIGURE = 0.03, 0.4


def main() -> None:
    """Simulate, and print a table and a line with the worst and the mean coverage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50 searches of each kind, for a quick look")
    parser.add_argument("--searches", type=int, default=400, help="searches of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    print(f"{'rate':>5} {'decay':>6} {'spent':>7} {'searches':>9} {'covered':>8} {'forecast':>9} {'truth':>7}")
    coverages, forecasts, truths = [], [], []
    for rate in RATES:
        for decay in DECAYS:
            for spent_s in SPENT_S:
                found = [simulate(rng, rate, decay, spent_s) for _ in range(50 if arguments.quick else arguments.searches)]
                known = [one for one in found if one is not None]
                covered = float(np.mean([low - 1e-9 <= truth <= high + 1e-9 for _, low, high, truth in known]))
                mean, truth = (float(np.mean([one[place] for one in known])) for place in (0, 3))
                print(f"{rate:>5} {decay:>6} {spent_s:>7.0f} {len(known):>9} {covered:>8.3f} {mean:>9.4f} {truth:>7.4f}")
                coverages.append(covered)
                forecasts.append(mean)
                truths.append(truth)
    print(
        f"RESULT least_coverage={min(coverages):.3f} mean_coverage={np.mean(coverages):.3f} "
        f"mean_forecast={np.mean(forecasts):.4f} mean_truth={np.mean(truths):.4f}"
    )


def simulate(rng: np.random.Generator, rate: float, decay: float, spent_s: float) -> tuple[float, float, float, float] | None:
    """Simulate a search; return what was forecast, from where to where, and what came; None where nothing was forecast."""
    began_s = rng.uniform(4, 15)
    seen, period = math.log(spent_s / began_s), forecast(AutoRecord(spent_s=spent_s, budget_s=spent_s))["seconds"]
    end = seen + math.log1p(period / spent_s)
    places = np.sort(rng.uniform(0, end, rng.poisson(rate * end)))
    gains = rng.exponential(FIRST_GAIN * np.exp(-decay * places))
    is_seen = places <= seen
    figures = FIRST_FIGURE + np.concatenate([[0.0], np.cumsum(gains[is_seen])])
    times = began_s * np.exp(np.concatenate([[0.0], places[is_seen]]))
    record = AutoRecord(spent_s=spent_s, budget_s=spent_s)
    for seconds, figure in zip(times.tolist(), figures.tolist(), strict=True):
        record.best.append({"seconds": seconds, "step": "step", "accuracy": figure, "accuracy_ci95": None})
    told = forecast(record)
    if told["gain"] is None or told["low"] is None or told["high"] is None:
        return None
    return told["gain"], told["low"], told["high"], float(gains[~is_seen].sum())


if __name__ == "__main__":
    main()
