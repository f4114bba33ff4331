"""Sums over drawings, over and over: whole groups of drawings are drawn with replacement (the cluster bootstrap).

A figure that depends on the drawings through sums alone needs no row to be copied: how often each group was drawn, times the
groups' sums, is all that a resample is. Equal data give equal bytes, in whatever order its rows and however its groups are
numbered: values are rounded to a fixed point, so that sums are exact, and groups are ordered by what is in them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Float, Int64, UInt64

from inkfold.errors import PredictionError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    Statistics: TypeAlias = Float[np.ndarray, "n s"] | csr_array

RESAMPLES = 2000
MANTISSA_BITS = 52
# Groups of equal sums are drawn together while they are of so few kinds.
MAX_KINDS = 200
# More groups are first joined at random into so many blocks: the spread of the resamples stays the same on average, and its
# own error, 1 / sqrt(2 * 4000), is below that of 2,000 resamples.
MAX_BLOCKS = 4000
BLOCK_CELLS = 1 << 22
DENSE_CELLS = 1 << 24


@dataclass(frozen=True, slots=True)
class GroupSums:
    """Sums over the drawings of each group, as they are resampled.

    Attributes:
        rows: Sums of each kind or block of groups.
        weights: How many groups are of each kind; None where each row is drawn alike.
        groups: Number of groups that are resampled, at least 1, whether or not they are kept as kinds or blocks.
        informative: Number of groups that have some sum other than 0.
        total: Sums over all drawings.
    """

    rows: "Statistics"
    weights: Int64[np.ndarray, " rows"] | None
    groups: int
    informative: int
    total: Float[np.ndarray, " s"]

    def resample(self, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Float[np.ndarray, "block s"]]:
        """Draw as many groups as there are, with replacement, and sum up their drawings.

        Args:
            resamples: Number of resamples, at least 1.
            seed: Seed of the random draws.

        Yields:
            Sums over all drawings of some resamples, in blocks that bound the memory; all blocks have `resamples` rows.
        """
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 21])))
        count = self.rows.shape[0]
        size = max(1, BLOCK_CELLS // max(self.rows.shape))
        for start in range(0, resamples, size):
            block = min(size, resamples - start)
            if self.weights is not None:
                drawn = rng.multinomial(self.groups, self.weights / self.groups, block)
            else:
                picks = rng.integers(0, count, (block, count)) + np.arange(block)[:, None] * count
                drawn = np.bincount(picks.ravel(), minlength=block * count).reshape(block, count)
            yield (self.rows.T @ drawn.T.astype(np.float64)).T


def group_sums(statistics: "Statistics", groups: Int64[np.ndarray, " n"] | None = None, seed: int = 0) -> GroupSums:
    """Sum up drawings by group.

    Args:
        statistics: One row of finite numbers per drawing, such as (1, 1) for a right and (0, 1) for a wrong prediction; an
            array, or one of scipy.sparse where most are 0.
        groups: Number of each drawing's group; None takes each drawing for a group of its own.
        seed: Seed by which groups are joined at random where there are more than 4,000 kinds of them.

    Raises:
        PredictionError: If there are no drawings, or a number is not finite.
    """
    values = statistics if isinstance(statistics, np.ndarray) else statistics.data
    n = statistics.shape[0]
    if n == 0:
        raise PredictionError("interval: got no drawings, expected one at least. Give drawings whose class is known.")
    if not np.isfinite(values).all():
        raise PredictionError("interval: got NaN or infinity, expected finite numbers. Give probabilities that are finite.")
    codes = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    largest = int(np.bincount(codes).max()) * float(np.abs(values).max(initial=0.0))
    sums = _summed(_fixed_point(statistics, (int(codes.max()) + 1) * largest), codes)
    count = sums.shape[0]
    keys = _content_keys(sums)
    informative = int((keys != 0).sum())
    _, first, weights = np.unique(keys, return_index=True, return_counts=True)
    total = _summed(sums, np.zeros(count, np.int64))
    total = (total if isinstance(total, np.ndarray) else total.toarray())[0]
    if len(first) <= MAX_KINDS:
        return GroupSums(_dense(sums[first]), weights, count, informative, total)
    rows = sums[np.repeat(first, weights)]
    if count > MAX_BLOCKS:
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 22])))
        rows = _summed(rows, rng.permutation(count) % MAX_BLOCKS)
    return GroupSums(_dense(rows), None, count, informative, total)


def _fixed_point(statistics: "Statistics", bound: float) -> "Statistics":
    """Round numbers to a multiple of a power of 2, so fine that a sum up to the bound is still exact."""
    scale = 2.0 ** (MANTISSA_BITS - math.ceil(math.log2(bound))) if bound > 0 else 1.0
    if isinstance(statistics, np.ndarray):
        rounded: np.ndarray = np.rint(statistics.astype(np.float64) * scale) / scale
        return rounded
    fixed = statistics.tocsr().astype(np.float64)
    fixed.data = np.rint(fixed.data * scale) / scale
    return fixed


def _summed(values: "Statistics", codes: Int64[np.ndarray, " n"]) -> "Statistics":
    """Sum up the rows that have the same code."""
    count = int(codes.max()) + 1
    if isinstance(values, np.ndarray):
        return np.stack([np.bincount(codes, column, count) for column in values.T], axis=1)
    from scipy.sparse import csr_array  # noqa: PLC0415 - whoever has a sparse array has imported it

    member = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(count, len(codes)))
    return (member @ values).tocsr()


def _content_keys(sums: "Statistics") -> UInt64[np.ndarray, " groups"]:
    """Digest each row by its content; a sparse row has the key of the same dense one."""
    if isinstance(sums, np.ndarray):
        keys = np.zeros(len(sums), np.uint64)
        for column, values in enumerate(sums.T):
            keys += _mixed(values, np.full(len(values), column))
        return keys
    places = np.repeat(np.arange(sums.shape[0]), np.diff(sums.indptr))
    keys = np.zeros(sums.shape[0], np.uint64)
    np.add.at(keys, places, _mixed(sums.data, sums.indices))
    return keys


def _mixed(values: Float[np.ndarray, " n"], columns: np.ndarray) -> UInt64[np.ndarray, " n"]:
    """Mix numbers and their columns to 64 bits that look random; 0 stays 0. Source: Steele et al., OOPSLA 2014 (SplitMix64)."""
    bits = (values + 0.0).view(np.uint64) + (columns.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.where(values == 0, np.uint64(0), bits ^ (bits >> np.uint64(31)))


def _dense(rows: "Statistics") -> "Statistics":
    if isinstance(rows, np.ndarray) or rows.shape[0] * rows.shape[1] > DENSE_CELLS:
        return rows
    return rows.toarray()
