"""Paired comparisons: two classifiers' figures on the same drawings, tested over drawings or over groups of drawings.

A test and the interval beside it agree: the interval holds 0 exactly where the p-value is at least 0.05.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int64

from inkfold.errors import PredictionError
from inkfold.evaluation.intervals import (
    DIGITS,
    PRIOR,
    TAIL,
    Z95,
    Figure,
    Mean,
    has_groups,
    mean_statistics,
    standard_error,
    student_quantile,
)
from inkfold.evaluation.resampling import RESAMPLES, group_sums

if TYPE_CHECKING:
    from inkfold.evaluation.resampling import Statistics

SIGNIFICANT = 0.05
NO_DRAWINGS = "paired difference: got no drawings, expected one at least. Give drawings whose class is known."
SMALLEST_DISTANCE = 1e-6  # of a bound from 0, in differences, where the last bit would decide on which side it lies
# Beyond so many cells of the exact distribution the normal one takes its place, which by then has the same tails.
MAX_CELLS = 1 << 24


def mcnemar(
    first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"], groups: Int64[np.ndarray, " n"] | None = None
) -> float:
    """Test whether two classifiers have the same accuracy, from their predictions of the same drawings (McNemar's test).

    Only the drawings count on which exactly one classifier is right; if both are equally good, each of these is a fair coin.
    The test is the exact two-sided binomial one at any n. Where drawings form groups, `paired_difference` says what is tested.

    Args:
        first: For each drawing, whether the first classifier is right.
        second: Whether each prediction of the second classifier is right, in the same order of drawings.
        groups: Number of each drawing's group; None where nothing is known of groups.

    Returns:
        The p-value: the probability of a difference at least this large by chance.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12 (1947).
    """
    if groups is not None and has_groups(groups):
        return _grouped_comparison(first, second, groups)[1]
    from scipy.special import betainc  # noqa: PLC0415 - 200 ms

    differ, fewer = int((first != second).sum()), int(min((first & ~second).sum(), (second & ~first).sum()))
    if differ == 0:
        return 1.0
    # the probability of at most so few heads, by the incomplete beta function: Abramowitz and Stegun, 26.5.24
    return min(1.0, 2 * float(betainc(differ - fewer, fewer + 1, 0.5)))


def paired_difference(
    first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"], groups: Int64[np.ndarray, " n"] | None = None
) -> dict[str, Any]:
    """Compare the accuracy of two classifiers on the same drawings, with a 95 % interval of the difference.

    Without groups, or with groups of one drawing each, the test is McNemar's, and the interval the union of two: the exact one
    (Clopper and Pearson's, of the share of drawings that the second classifier has right among those that exactly one has
    right) and the normal one. The exact one alone takes the number of such drawings as known, and is too short where nearly
    all favour one side; the normal one alone disagrees with the exact test where there are few. Where the test finds a
    difference, the normal one excludes 0 too (by 0.2 % at the least, tried up to 60,000 such drawings), so that the interval
    contains 0 exactly where the test finds no difference.

    Under groups, the p-value is the larger of two. If both classifiers are equally good, swapping their answers to a whole
    group changes nothing: the exact distribution of the difference over all such swaps is McNemar's test with groups for
    drawings, and few groups can't mislead it. Student's t of the difference over its standard error, by resampling whole
    groups, can't be misled where one large group makes most of the difference. Where few groups have drawings that one alone
    has right, that standard error is unreliable, and is drawn towards the largest likely one. The interval is the difference
    and the standard error, widened to where the swaps' p-value has it.

    Args:
        first: For each drawing, whether the first classifier is right.
        second: Whether each prediction of the second classifier is right, in the same order of drawings.
        groups: Number of each drawing's group; None where nothing is known of groups.

    Returns:
        JSON values: `difference` (accuracy of the second minus that of the first), `difference_ci95`, `p_value`, and
        `distinguishable`, whether the p-value is below 0.05. Under groups also `groups_resampled`, how many there are.

    Raises:
        PredictionError: If there are no drawings.

    Source: Clopper and Pearson, Biometrika 26 (1934); the normal one: Agresti, "Categorical Data Analysis" (2013), chapter 11;
        swaps: Pitman, J. R. Stat. Soc. Suppl. 4 (1937); groups: Field and Welsh, J. R. Stat. Soc. B 69 (2007); the widening is
        Miettinen's "test-based" interval, Am. J. Epidemiol. 103 (1976).
    """
    n = len(first)
    if n == 0:
        raise PredictionError(NO_DRAWINGS)
    if groups is not None and has_groups(groups):
        half, p_value = _grouped_comparison(first, second, groups)
        difference = (int(second.sum()) - int(first.sum())) / n
        return {
            **_comparison(difference, difference - half, difference + half, p_value),
            "groups_resampled": len(np.unique(groups)),
        }
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    difference = (only_second - only_first) / n
    half = Z95 * math.sqrt(max(only_first + only_second - (only_second - only_first) ** 2 / n, 0.0)) / n
    low, high = _exact_bounds(only_first, only_second, n)
    return _comparison(difference, min(low, difference - half), max(high, difference + half), mcnemar(first, second))


def compare_figures(
    figure: Figure, first: "Statistics", second: "Statistics", groups: Int64[np.ndarray, " n"] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Compare any figure of two classifiers on the same drawings, with a 95 % interval of the difference.

    Whole groups are resampled, single drawings where there are no groups, each time the same ones for both classifiers; the
    difference over its standard error is Student's t. Where so few groups have a difference that no swap of the
    classifiers' answers to them could be significant, none is found. For accuracy `paired_difference` is exact.

    Args:
        figure: What is compared: gives its value, such as macro F1, for sums of drawings' statistics.
        first: The figure's statistics by the first classifier's predictions, one row per drawing.
        second: Those by the second classifier's, in the same order of drawings.
        groups: Number of each drawing's group; None where nothing is known of groups.
        seed: Seed of the random draws.

    Returns:
        JSON values as of `paired_difference`; the difference is the second's figure minus the first's.

    Raises:
        PredictionError: If there are no drawings, or a statistic is not finite.

    Source: see `paired_difference`.
    """
    if not first.shape[0]:
        raise PredictionError(NO_DRAWINGS)
    # the lower figure first, so that the order of the two changes no byte
    values = [float(figure.value(np.asarray(statistics.sum(0)))) for statistics in (first, second)]
    lower, upper, sign = (second, first, -1) if values[1] < values[0] else (first, second, 1)
    difference, error, informative, count = _resampled_difference(figure, lower, upper, groups, seed)
    half, p_value = _agreeing(difference, error, count, min(1.0, 2.0 ** (1 - informative)))
    difference *= sign
    widest = math.inf if figure.limits is None else figure.limits[1] - figure.limits[0]
    compared = _comparison(difference, difference - half, difference + half, p_value, widest)
    return {**compared, "groups_resampled": count} if has_groups(groups) else compared


def _resampled_difference(
    figure: Figure, first: "Statistics", second: "Statistics", groups: Int64[np.ndarray, " n"] | None, seed: int
) -> tuple[float, float, int, int]:
    """Return the difference, its standard error, the number of groups that have some, and that of all groups."""
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        both: Statistics = np.concatenate([first, second], axis=1)
    else:
        from scipy.sparse import hstack  # noqa: PLC0415 - whoever has a sparse array has imported it

        both = hstack([first, second], format="csr")
    width = first.shape[1]
    sums = group_sums(both, groups, seed)
    parts = [figure.value(block[:, width:]) - figure.value(block[:, :width]) for block in sums.resample(RESAMPLES, seed)]
    difference = float(figure.value(sums.total[width:]) - figure.value(sums.total[:width]))
    changed = group_sums(first - second, groups, seed).informative
    return difference, standard_error(np.concatenate(parts), sums.groups), changed, sums.groups


def _grouped_comparison(
    first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"], groups: Int64[np.ndarray, " n"]
) -> tuple[float, float]:
    """Return the half width of the difference's interval, and the p-value."""
    changes = second.astype(np.int64) - first
    changes = changes if changes.sum() >= 0 else -changes  # the order of the two must not change a byte
    codes = np.unique(groups, return_inverse=True)[1]
    by_group = np.bincount(codes, changes).astype(np.int64)
    sums = group_sums(mean_statistics(changes), groups)
    resampled = np.concatenate([Mean().value(block) for block in sums.resample()])
    error = _steadied(standard_error(resampled, sums.groups), changes != 0, codes)
    return _agreeing(float(changes.sum()) / len(changes), error, sums.groups, swap_test(by_group))


def _steadied(error: float, differ: Bool[np.ndarray, " n"], codes: Int64[np.ndarray, " n"]) -> float:
    """Draw a standard error towards the largest likely one, where few groups have drawings that one classifier alone has right.

    The largest is that of groups in which all drawings that differ favour one side, with one such group added to those seen.
    """
    if not differ.any():
        return error
    worth = len(codes) ** 2 / float((np.bincount(codes) ** 2).sum())  # Kish's number of groups of equal sizes
    largest = (float(differ.mean()) * worth + 1) / (worth + 2) / worth
    weight = float((np.bincount(codes, differ) > 0).sum()) ** 2
    return math.sqrt((weight * error * error + PRIOR * largest) / (weight + PRIOR))


def _agreeing(difference: float, error: float, count: int, p_swaps: float) -> tuple[float, float]:
    """Return the half width of an interval and the p-value by both tests, so that both say the same."""
    from scipy.special import stdtr  # noqa: PLC0415 - 200 ms

    size, errors = abs(difference), student_quantile(count)
    if size == 0:
        return errors * error, 1.0
    p_value = max(2 * float(stdtr(max(count - 1, 1), -size / error)) if error > 0 else 0.0, p_swaps)
    if p_value >= SIGNIFICANT:
        return max(errors * error, size), p_value
    half = errors * max(error, size / student_quantile(count, p_swaps / 2))
    return min(half, (1 - SMALLEST_DISTANCE) * size), p_value


def swap_test(differences: Int64[np.ndarray, " groups"]) -> float:
    """Test whether differences lie about 0, by the exact distribution of their sum if each had either sign by a fair coin.

    The distribution is computed, not sampled, so that the p-value can be as small as it is: by its Fourier transform, tilted
    towards the sum that was seen so that the far tail keeps its precision.

    Args:
        differences: Whole numbers, one per group: how many more drawings the second classifier has right.

    Returns:
        The two-sided p-value, 1 where all differences are 0.

    Source: Pitman, "Significance tests which may be applied to samples from any populations", J. R. Stat. Soc. Suppl. 4 (1937).
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    total, seen = int((sizes * counts).sum()), abs(int(differences.sum()))
    if seen == 0:
        return 1.0
    if seen == total:
        return 2.0 ** (1 - int(counts.sum()))
    if len(sizes) * total > MAX_CELLS:
        return math.erfc((seen - 1) / math.sqrt(2 * float((sizes**2 * counts).sum())))
    return min(1.0, float(f"{2 * _upper_tail(sizes, counts, seen):.12g}"))  # the last bits are the processor's


def _upper_tail(sizes: Int64[np.ndarray, " sizes"], counts: Int64[np.ndarray, " sizes"], seen: int) -> float:
    """Give the probability that a sum of numbers with signs by fair coins is at least the one seen, less than their total."""
    from scipy.special import expit  # noqa: PLC0415 - 200 ms

    total, tilt = int((sizes * counts).sum()), _tilt(sizes, counts, seen)
    # the sum is the total less twice those with a minus, which the tilted coin gives them with this chance
    minus = expit(-2 * tilt * sizes)
    angles = 2 * np.pi * np.arange((total + 1) // 2 + 1) / (total + 1)
    transform = np.ones(len(angles), np.complex128)
    for size, count, chance in zip(sizes, counts, minus, strict=True):
        transform *= (1 - chance + chance * np.exp(-1j * angles * size)) ** count
    turned = np.arange((total - seen) // 2 + 1)
    tilted = np.maximum(np.fft.irfft(transform, total + 1)[turned], 0)
    log_scale = float((counts * (np.logaddexp(tilt * sizes, -tilt * sizes) - math.log(2))).sum())
    return float((tilted * np.exp(log_scale - tilt * (total - 2 * turned))).sum())


def _tilt(sizes: Int64[np.ndarray, " sizes"], counts: Int64[np.ndarray, " sizes"], seen: int) -> float:
    """Find the tilt of the coins under which the expected sum is the one seen, by halving."""
    low, high = 0.0, 1.0
    while float((counts * sizes * np.tanh(high * sizes)).sum()) < seen:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        below = float((counts * sizes * np.tanh(middle * sizes)).sum()) < seen
        low, high = (middle, high) if below else (low, middle)
    return high


def _comparison(difference: float, low: float, high: float, p_value: float, widest: float = 1.0) -> dict[str, Any]:
    return {
        "difference": _rounded_off_zero(difference),
        "difference_ci95": [_rounded_off_zero(max(low, -widest)), _rounded_off_zero(min(high, widest))],
        "p_value": p_value,
        "distinguishable": p_value < SIGNIFICANT,
    }


def _exact_bounds(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """Bound the difference by Clopper and Pearson's interval of the share that the second has right where just one is right."""
    from scipy.special import betaincinv  # noqa: PLC0415 - 200 ms

    low = betaincinv(only_second, only_first + 1, TAIL) if only_second else 0.0
    high = 1 - betaincinv(only_first, only_second + 1, TAIL) if only_first else 1.0
    scale = (only_first + only_second) / n
    return float((2 * low - 1) * scale), float((2 * high - 1) * scale)


def _rounded_off_zero(value: float) -> float:
    """Round a value, but never to 0 unless it is 0."""
    return round(float(value), DIGITS) or float(value)
