"""95 % intervals of figures: Wilson's for proportions of independent drawings, the cluster bootstrap where there are groups.

Drawings of one origin (one photo, one person, copies of each other) are right or wrong together, and an interval that takes
them as independent is too narrow. Where groups are known, whole groups are resampled.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, final

import numpy as np
from jaxtyping import Bool, Float, Int64

from inkfold.evaluation.resampling import RESAMPLES, group_sums

if TYPE_CHECKING:
    from inkfold.evaluation.resampling import Statistics

Z95 = 1.959963984540054
DIGITS = 6
TAIL = 0.025
# How many drawings the groups are worth is estimated from the groups that disagree. Where those are few, it is drawn towards
# the fewest possible, which has this weight against the square of their number. By simulation, see docs/statistics.md.
PRIOR = 2.0

Method = Literal["wilson", "bootstrap", "cluster bootstrap"]
SOURCES: dict[Method, str] = {
    "wilson": "Wilson, J. Am. Stat. Assoc. 22 (1927)",
    "bootstrap": "Efron, Ann. Stat. 7 (1979); Hesterberg, Am. Stat. 69 (2015)",
    "cluster bootstrap": "Field and Welsh, J. R. Stat. Soc. B 69 (2007); Dean and Pagano, J. Surv. Stat. Methodol. 3 (2015)",
}


class Figure(Protocol):
    """A figure that depends on predictions through sums over drawings alone: a mean, macro F1, quadratic kappa.

    Whoever defines one makes a row of numbers, the statistics, for each drawing, and the figure from the sums of these rows:
    for accuracy (right, 1) and `sums[0] / sums[1]`; for balanced accuracy, for each class, (is of the class, and is right).
    Statistics are an array, or one of scipy.sparse where most of them are 0.
    """

    @property
    def limits(self) -> tuple[float, float] | None:
        """Lowest and highest value that the figure can have, near which its intervals keep their coverage; None without."""
        ...

    def value(self, sums: Float[np.ndarray, "*batch s"]) -> Float[np.ndarray, "*batch"]:
        """Compute the figure from sums of the statistics over drawings; for every leading index on its own.

        A resample may lack whole classes: the figure must be finite there too, such as a mean over the classes that occur.
        """
        ...


@final
@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of one number per drawing; its statistics are (number, 1), see `mean_statistics`.

    Attributes:
        limits: Lowest and highest possible number; None where there is none.
    """

    limits: tuple[float, float] | None = (0.0, 1.0)

    def value(self, sums: Float[np.ndarray, "*batch s"]) -> Float[np.ndarray, "*batch"]:
        """Divide the sum of the numbers by their count."""
        means: np.ndarray = sums[..., 0] / sums[..., 1]
        return means


def mean_statistics(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    """Make the statistics of a mean: each drawing's number, and 1."""
    return np.stack([values.astype(np.float64), np.ones(len(values))], axis=1)


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval, and how it was made.

    Attributes:
        low: Lower bound, in the unit of the figure; not below the least value that the figure can have.
        high: Upper bound, in the unit of the figure; not above the greatest value that the figure can have.
        method: `wilson`: drawings count as independent; `bootstrap`: single drawings are resampled; `cluster bootstrap`:
            whole groups of drawings are.
        groups: Number of groups that were resampled; None where drawings count as independent.
        independent: How many independent drawings would have this interval, by Wilson's formula; None of a figure without
            limits.
    """

    low: float
    high: float
    method: Method
    groups: int | None = None
    independent: float | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """Both bounds, as they are."""
        return self.low, self.high

    @property
    def ci95(self) -> list[float]:
        """Both bounds, rounded."""
        return [round(self.low, DIGITS), round(self.high, DIGITS)]

    def about(self) -> dict[str, Any]:
        """Say in JSON values how the interval was made."""
        independent = None if self.independent is None else round(self.independent, 1)
        return {"method": self.method, "source": SOURCES[self.method], "groups": self.groups, "independent": independent}


def wilson_interval(successes: float, n: float) -> tuple[float, float]:
    """Compute the 95 % confidence interval of a proportion by Wilson's method.

    Unlike the normal approximation it stays within 0..1 and holds its coverage at small n and extreme proportions.

    Args:
        successes: Number of successes, 0 to `n`.
        n: Number of trials; above 0, and whole unless it is the number of independent trials that dependent ones are worth.

    Returns:
        The lower and upper bound.

    Source: Wilson, "Probable Inference", J. Am. Stat. Assoc. 22 (1927).
    """
    share = successes / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def has_groups(groups: Int64[np.ndarray, " n"] | None) -> bool:
    """Return whether some group has more than one drawing, so that drawings can't be taken as independent."""
    return groups is not None and bool((np.unique(groups, return_counts=True)[1] > 1).any())


def proportion_interval(hits: Bool[np.ndarray, " n"], groups: Int64[np.ndarray, " n"] | None = None, seed: int = 0) -> Interval:
    """Compute the 95 % interval of a proportion of drawings, such as accuracy.

    Without groups, or with groups of one drawing each, it is Wilson's. Otherwise whole groups are resampled, their spread says
    how many independent drawings the groups are worth, and Wilson's formula takes that number, lowered by Student's t for few
    groups. Where nearly all groups are all right, or all wrong, that spread is unreliable, and the number is drawn towards
    the least possible. Percentiles of the resamples would cover less than they say for few groups and near 0 and 1.

    Args:
        hits: For each drawing, whether it counts, such as whether its prediction is right; one at least.
        groups: Number of each drawing's group; None where nothing is known of groups.
        seed: Seed of the random draws.

    Source: Dean and Pagano, "Evaluating Confidence Interval Methods for Binomial Proportions in Clustered Surveys",
        J. Surv. Stat. Methodol. 3 (2015); Field and Welsh, "Bootstrapping clustered data", J. R. Stat. Soc. B 69 (2007).
    """
    n = len(hits)
    if groups is None or not has_groups(groups):
        return Interval(*wilson_interval(int(hits.sum()), n), "wilson", independent=n)
    return figure_interval(Mean(), mean_statistics(hits), groups, seed)


def accuracy_figures(right: Bool[np.ndarray, " n"], groups: Int64[np.ndarray, " n"] | None = None) -> dict[str, Any]:
    """Measure an accuracy, with its 95 % interval.

    Args:
        right: Whether each prediction is right; one at least.
        groups: Number of each drawing's group; None where nothing is known of groups.

    Returns:
        JSON values: `accuracy`, `accuracy_ci95`, and `interval`, which says how the bounds were made, by `describe_interval`.
    """
    interval = proportion_interval(right, groups)
    return {
        "accuracy": float(right.mean()),
        "accuracy_ci95": list(interval.bounds),
        "interval": describe_interval(interval, right),
    }


def describe_interval(interval: Interval, hits: Bool[np.ndarray, " n"]) -> dict[str, Any]:
    """Say how the interval of a proportion was made, and give Wilson's beside it, which takes drawings as independent.

    Args:
        interval: The proportion's interval.
        hits: The drawings that it is of, as `proportion_interval` has them.

    Returns:
        JSON values: `method`, `source` (the literature), `groups` (their number; None where drawings count as independent),
        `independent` (how many independent drawings the drawings are worth) and `wilson_ci95`.
    """
    wilson = wilson_interval(int(hits.sum()), len(hits))
    return {**interval.about(), "wilson_ci95": [round(bound, DIGITS) for bound in wilson]}


def interval_in_words(figures: Mapping[str, Any]) -> str:
    """Say how the interval of an accuracy was made; empty where drawings count as independent.

    Args:
        figures: Has `interval` of `describe_interval`, unless it is from an older run.
    """
    about = figures.get("interval")
    if about is None or about["groups"] is None:
        return ""
    low, high = about["wilson_ci95"]
    return (
        f"95 %, {about['groups']:,} groups resampled ({about['method']}); "
        f"Wilson's, which takes drawings as independent, would be {low:.3f}-{high:.3f}"
    )


def coarsest_groups(candidates: Iterable[Int64[np.ndarray, " n"] | None]) -> Int64[np.ndarray, " n"] | None:
    """Choose among several groupings of the same drawings the one with the fewest groups; None where there is none."""
    return min((groups for groups in candidates if groups is not None), key=lambda groups: len(np.unique(groups)), default=None)


def figure_interval(
    figure: Figure, statistics: "Statistics", groups: Int64[np.ndarray, " n"] | None = None, seed: int = 0
) -> Interval:
    """Compute the 95 % interval of any figure of sums over drawings, by resampling groups, or drawings where there are none.

    A figure with limits gets Wilson's formula with the number of independent drawings that have the resamples' spread. Another
    one gets the percentiles of the resamples, further out for few groups.

    Args:
        figure: What the interval is of: gives its value, such as macro F1, for sums of drawings' statistics.
        statistics: The figure's statistics, one row per drawing.
        groups: Number of each drawing's group; None where nothing is known of groups.
        seed: Seed of the random draws.

    Raises:
        PredictionError: If there are no drawings, or a statistic is not finite.

    Source: Hesterberg, "What Teachers Should Know About the Bootstrap", Am. Stat. 69 (2015), section 5; for figures with limits
        see `proportion_interval`.
    """
    sums = group_sums(statistics, groups, seed)
    resampled = np.concatenate([figure.value(block) for block in sums.resample(RESAMPLES, seed)])
    method: Method = "cluster bootstrap" if has_groups(groups) else "bootstrap"
    count = sums.groups if method == "cluster bootstrap" else None
    if figure.limits is None:
        return Interval(*_expanded_percentiles(resampled, sums.groups), method, count)
    low, high = figure.limits
    share = min(max((float(figure.value(sums.total)) - low) / (high - low), 0.0), 1.0)
    effect = _design_effect(figure, share, statistics, groups, standard_error(resampled, sums.groups) / (high - low))
    independent = statistics.shape[0] / effect * (Z95 / student_quantile(sums.groups)) ** 2
    bounds = [low + (high - low) * bound for bound in wilson_interval(share * independent, independent)]
    return Interval(bounds[0], bounds[1], method, count, independent)


def student_quantile(groups: int, tail: float = TAIL) -> float:
    """Give how many standard errors a bound is away from a figure, by the number of groups that were resampled."""
    from scipy.special import stdtrit  # noqa: PLC0415 - 200 ms

    return -float(stdtrit(max(groups - 1, 1), tail))


def standard_error(resampled: Float[np.ndarray, " resamples"], groups: int) -> float:
    """Give the standard error of a figure by its resamples, whose spread is too small by the share of one group."""
    return float(resampled.std()) * math.sqrt(groups / max(groups - 1, 1))


def _design_effect(
    figure: Figure, share: float, statistics: "Statistics", groups: Int64[np.ndarray, " n"] | None, error: float
) -> float:
    """Give how many drawings are worth an independent one, by the standard error of a figure scaled to 0..1."""
    n, sizes = int(statistics.shape[0]), np.ones(1) if groups is None else np.unique(groups, return_counts=True)[1]
    largest = float((sizes**2).sum() / sizes.sum())  # where each group is all right or all wrong: Kish (1965)
    if error == 0 or not 0 < share < 1:
        return largest
    disagreeing = _disagreeing(figure, statistics, groups)
    weight = disagreeing * disagreeing
    return (weight * error * error * n / (share * (1 - share)) + PRIOR * largest) / (weight + PRIOR)


def _disagreeing(figure: Figure, statistics: "Statistics", groups: Int64[np.ndarray, " n"] | None) -> int:
    """Count the groups that show how far groups differ: of a proportion, those with a hit or those with a miss."""
    codes = np.arange(statistics.shape[0]) if groups is None else np.unique(groups, return_inverse=True)[1]
    if not isinstance(figure, Mean) or figure.limits is None or not isinstance(statistics, np.ndarray):
        return int(codes.max()) + 1
    low, high = figure.limits
    sides = (np.bincount(codes, statistics[:, 0] > low), np.bincount(codes, statistics[:, 0] < high))
    return min(int((counts > 0).sum()) for counts in sides)


def _expanded_percentiles(resampled: Float[np.ndarray, " resamples"], groups: int) -> tuple[float, float]:
    from scipy.special import ndtr  # noqa: PLC0415 - 200 ms

    tail = float(ndtr(-math.sqrt(groups / max(groups - 1, 1)) * student_quantile(groups)))
    low, high = np.quantile(resampled, (tail, 1 - tail))
    return float(low), float(high)
