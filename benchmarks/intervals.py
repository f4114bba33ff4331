"""How often 95 % intervals hold the truth, and how often a paired test finds a difference that isn't there, in simulated data.

    .venv/bin/python benchmarks/intervals.py [--quick] [--sets 500]

Drawings come in groups. Each classifier has a skill on each group and on each drawing, both normal; a drawing is recognised
where their sum is above a threshold, so that accuracy and the correlation within groups are known. The second classifier's
skills are correlated with the first's. Wilson's interval and the plain percentile bootstrap of groups are measured on the same
data.
"""

import argparse
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from inkfold.evaluation.intervals import Mean, figure_interval, mean_statistics, proportion_interval, wilson_interval
from inkfold.evaluation.paired import paired_difference
from inkfold.evaluation.resampling import group_sums

SEED = 21
SHARED_SKILL = 0.8  # correlation of both classifiers' skills
GAIN = 0.04  # of the second classifier's accuracy, where there is one
UNEQUAL = 0  # drawings per group: from 1 to dozens, log-normal


@dataclass(frozen=True, slots=True)
class Setting:
    """How data are simulated: groups, drawings in each, their correlation, and accuracy."""

    groups: int
    size: int
    correlation: float
    accuracy: float


def settings(*, quick: bool) -> Iterator[Setting]:
    """List the settings; the first four are those that issue 21 asks about."""
    for size, correlation in ((1, 0.0), (5, 0.3), (25, 0.3), (25, 0.0)):
        yield Setting(200, size, correlation, 0.7)
    if not quick:
        for groups, size in itertools.product((20, 60, 500), (1, 5, 25, UNEQUAL)):
            for correlation, accuracy in itertools.product((0.0, 0.5) if size != 1 else (0.0,), (0.8, 0.95)):
                yield Setting(groups, size, correlation, accuracy)


def simulate(setting: Setting, gain: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simulate which drawings two classifiers recognise, and the drawings' groups."""
    if setting.size == UNEQUAL:
        sizes = np.maximum(1, np.round(np.exp(rng.normal(1.2, 0.8, setting.groups)))).astype(int)
    else:
        sizes = np.full(setting.groups, setting.size)
    groups = np.repeat(np.arange(setting.groups), sizes)

    def skills(count: int) -> tuple[np.ndarray, np.ndarray]:
        first, other = rng.normal(size=(2, count))
        return first, SHARED_SKILL * first + math.sqrt(1 - SHARED_SKILL**2) * other

    right = []
    for of_group, of_drawing, accuracy in zip(
        skills(setting.groups), skills(len(groups)), (setting.accuracy, setting.accuracy + gain), strict=True
    ):
        skill = math.sqrt(setting.correlation) * of_group[groups] + math.sqrt(1 - setting.correlation) * of_drawing
        right.append(skill > norm.ppf(1 - accuracy))
    return right[0], right[1], groups


def percentile_interval(right: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Compute the plain percentile interval of resampled groups."""
    resampled = np.concatenate([Mean().value(block) for block in group_sums(mean_statistics(right), groups).resample()])
    low, high = np.percentile(resampled, (2.5, 97.5))
    return float(low), float(high)


def measure(setting: Setting, sets: int) -> dict[str, float]:
    """Measure coverage, width and errors of the first kind over so many simulated data sets."""
    rng = np.random.default_rng(
        [SEED, setting.groups, setting.size, round(100 * setting.correlation), round(100 * setting.accuracy)]
    )
    held: dict[str, list[float]] = {
        name: [] for name in ("ours", "wilson", "percentile", "loss", "difference", "found", "width")
    }
    for _ in range(sets):
        first, second, groups = simulate(setting, 0.0, rng)
        interval, wilson = proportion_interval(first, groups), wilson_interval(int(first.sum()), len(first))
        percentile = percentile_interval(first, groups)
        for name, (low, high) in (("ours", interval.bounds), ("wilson", wilson), ("percentile", percentile)):
            held[name].append(low <= setting.accuracy <= high)
        held["width"].append((interval.high - interval.low) / (wilson[1] - wilson[0]))
        held["found"].append(paired_difference(first, second, groups)["distinguishable"])
        losses = np.where(first, 0.2, 2.0)
        low, high = figure_interval(Mean(limits=None), mean_statistics(losses), groups).bounds
        held["loss"].append(low <= 0.2 * setting.accuracy + 2.0 * (1 - setting.accuracy) <= high)
        first, second, groups = simulate(setting, GAIN, rng)
        low, high = paired_difference(first, second, groups)["difference_ci95"]
        held["difference"].append(low <= GAIN <= high)
    return {name: float(np.mean(values)) for name, values in held.items()}


def main() -> None:
    """Print a table, and the extremes over all settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=500, help="simulated data sets per setting")
    parser.add_argument("--quick", action="store_true", help="four settings only, of 150 data sets each")
    given = parser.parse_args()
    sets = min(given.sets, 150) if given.quick else given.sets
    heading = "groups size corr accuracy   interval wilson percentile width/wilson   loss   difference   type-I error"
    print(f"coverage of 95 % intervals over {sets} data sets each\n{heading}")
    rows, start = [], time.perf_counter()
    for setting in settings(quick=given.quick):
        row = measure(setting, sets)
        rows.append(row)
        size = "1-30" if setting.size == UNEQUAL else str(setting.size)
        cells = f"{setting.groups:6d} {size:>4s} {setting.correlation:4.1f} {setting.accuracy:8.2f}"
        cells += f"{row['ours']:11.3f} {row['wilson']:6.3f} {row['percentile']:10.3f} {row['width']:12.2f}"
        print(f"{cells} {row['loss']:6.3f} {row['difference']:12.3f} {row['found']:14.3f}", flush=True)
    share = np.mean([0.93 <= row["ours"] <= 0.97 for row in rows])
    names = {"interval": "ours", "wilson": "wilson", "percentile": "percentile", "difference": "difference"}
    lowest = " ".join(f"{name}_lowest={min(row[key] for row in rows):.3f}" for name, key in names.items())
    asked = " ".join(
        f"interval_{count}={row['ours']:.3f} difference_{count}={row['difference']:.3f}"
        for row, count in zip(rows, (1, 5, 25), strict=False)
    )
    errors, took = max(row["found"] for row in rows), time.perf_counter() - start
    print(f"RESULT {asked} {lowest} within_93_97={share:.2f} type_1_highest={errors:.3f} seconds={took:.0f}")


if __name__ == "__main__":
    main()
