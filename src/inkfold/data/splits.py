"""Assigns drawings to folds: stratified, grouped, and as a function of content and seed alone."""

import logging
from collections import Counter
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from inkfold.storage.hashing import digest

log = logging.getLogger("inkfold.data")


@final
@dataclass(frozen=True, eq=False)
class Folds:
    """What each fold does with each drawing: trains on it, holds it out, or neither, where a copy of it is held out.

    Attributes:
        trained_on: True where a fold trains on a drawing.
        held_out: True where a fold holds a drawing out, to be measured on it; never where it is trained on.
        look_alike: Classes whose drawings look so alike that folds train on copies of held-out ones, but for equal files.
        k: Number of parts that the drawings were divided into, of which each fold holds out one; None where that isn't known.
    """

    trained_on: Bool[np.ndarray, "folds n"]
    held_out: Bool[np.ndarray, "folds n"]
    look_alike: tuple[int, ...] = ()
    k: int | None = None

    @classmethod
    def of(cls, trained_on: Bool[np.ndarray, "folds n"]) -> "Folds":
        """Hold out all that a fold doesn't train on."""
        return cls(trained_on, ~trained_on)

    def __len__(self) -> int:
        return len(self.trained_on)

    @property
    def purged(self) -> Int64[np.ndarray, " folds"]:
        """How many drawings each fold neither trains on nor holds out."""
        counts: np.ndarray = (~(self.trained_on | self.held_out)).sum(1)
        return counts

    @property
    def measured(self) -> Bool[np.ndarray, " n"]:
        """True for drawings that some fold holds out."""
        return np.asarray(self.held_out.any(0))

    def select(self, rows: Bool[np.ndarray, " n"]) -> "Folds":
        """Keep only some drawings."""
        return replace(self, trained_on=self.trained_on[:, rows], held_out=self.held_out[:, rows])

    def first(self, parts: int) -> "Folds":
        """Keep only the first folds, as they are beside all others.

        Args:
            parts: How many folds are kept, from 1 to the number of folds.
        """
        return replace(self, trained_on=self.trained_on[:parts], held_out=self.held_out[:parts], k=self.k or len(self))


def assign_folds(
    targets: Int64[np.ndarray, " n"],
    digests: Shaped[np.ndarray, " n"],
    k: int,
    seed: int,
    groups: Shaped[np.ndarray, " n"] | None = None,
) -> Int64[np.ndarray, " n"]:
    """Assign drawings to k folds of equal size and equal class shares.

    Groups stay in one fold; without any, files with the same bytes do. Each unit, largest first and otherwise in an order
    drawn from seed and content, goes where its classes are rarest, then where fewest drawings are. scikit-learn's
    StratifiedGroupKFold is not used: its shuffling has known faults (issue 32540), and it depends on row order.

    Args:
        targets: Class id of each drawing, from 0.
        digests: Digest of each drawing's file, in the order of `targets`; the same bytes have the same digest.
        k: Number of folds, at least 2.
        seed: Seed of the order in which units are assigned.
        groups: Each drawing's group, which stays in one fold, whatever bytes its files share with other groups'; None for
            files of the same bytes.

    Returns:
        Each drawing's fold, 0 to k - 1; the order of the rows doesn't matter.
    """
    units = _units(digests if groups is None else groups)
    lots = _lots(digests, units, seed)
    order = sorted(range(len(units)), key=lambda unit: (-len(units[unit]), lots[unit]))
    class_counts = [[0] * k for _ in range(int(targets.max()) + 1)]
    totals = [0] * k
    folds = np.empty(len(targets), np.int64)
    for unit in order:
        classes = [int(target) for target in targets[units[unit]]]
        turn = int(lots[unit][:8], 16)
        crowding = [
            (sum(class_counts[target][part] for target in classes), totals[part], (part + turn) % k) for part in range(k)
        ]
        fold = crowding.index(min(crowding))
        folds[units[unit]] = fold
        totals[fold] += len(classes)
        for target in classes:
            class_counts[target][fold] += 1
    sizes = (min(totals), max(totals))
    log.info("%d drawings in %d groups that stay together: %d folds of %d to %d", len(folds), len(units), k, *sizes)
    return folds


def connected(first: Int64[np.ndarray, " rows"], second: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
    """Number the groups of rows that are connected by sharing a value of either array.

    The label is the lowest value of `first` in the component; values are 0 or above.
    """
    if not len(first):
        return first
    labels = first.copy()
    while True:
        before = labels
        for values in (second, first):
            lowest = np.full(values.max() + 1, labels.max(), labels.dtype)
            np.minimum.at(lowest, values, labels)
            labels = lowest[values]
        if np.array_equal(before, labels):
            return labels


def count_split_groups(groups: Shaped[np.ndarray, " n"], parts: Int64[np.ndarray, " n"]) -> int:
    """Count the groups, of which each row has one, that have rows in more than one fold."""
    _, of_group = np.unique(groups, return_inverse=True)
    pairs = np.unique(np.stack([of_group, parts]), axis=1)
    return int((np.bincount(pairs[0]) > 1).sum())


def _units(groups: np.ndarray) -> list[np.ndarray]:
    """Return each group's rows."""
    _, labels = np.unique(groups, return_inverse=True)
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def _lots(digests: np.ndarray, units: list[np.ndarray], seed: int) -> list[str]:
    """Draw a lot for each unit from its first digest; from all of them where another unit has the same first one."""
    names = [min(digests[rows]) for rows in units]
    counts = Counter(names)
    names = [
        name if counts[name] == 1 else b" ".join(np.sort(digests[rows]).tolist())
        for name, rows in zip(names, units, strict=True)
    ]
    return [digest(f"{seed}:".encode() + name) for name in names]
