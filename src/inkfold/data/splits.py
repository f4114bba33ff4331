"""Assigns drawings to folds: stratified, grouped, and as a function of content and seed alone."""

import logging

import numpy as np
from jaxtyping import Int64, Shaped

from inkfold.storage.hashing import digest

log = logging.getLogger("inkfold.data")


def assign_folds(
    targets: Int64[np.ndarray, " n"],
    digests: Shaped[np.ndarray, " n"],
    k: int,
    seed: int,
    groups: Shaped[np.ndarray, " n"] | None = None,
) -> Int64[np.ndarray, " n"]:
    """Assign drawings to k folds of equal size and equal class shares.

    Files with the same bytes stay in one fold, and so do groups. Each unit, largest first and otherwise in an order drawn
    from seed and content, goes where its classes are rarest, then where fewest drawings are. scikit-learn's
    StratifiedGroupKFold is not used: its shuffling has known faults (issue 32540), and it depends on row order.

    Args:
        targets: Class id of each drawing, from 0.
        digests: Digest of each drawing's file, in the order of `targets`; the same bytes have the same digest.
        k: Number of folds, at least 2.
        seed: Seed of the order in which units are assigned.
        groups: Each drawing's group, which stays in one fold; None for no groups.

    Returns:
        Each drawing's fold, 0 to k - 1; the order of the rows doesn't matter.
    """
    units = _units(digests, groups)
    names = [min(digests[rows]).decode() for rows in units]
    lots = [digest(f"{seed}:{name}".encode()) for name in names]
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


def join_groups(
    first: Shaped[np.ndarray, " n"] | None, second: Shaped[np.ndarray, " n"] | None
) -> Shaped[np.ndarray, " n"] | None:
    """Join two groupings to one, in which rows share a group if they do in either of the two; None is no grouping."""
    if first is None or second is None:
        return second if first is None else first
    places = [np.unique(groups, return_inverse=True)[1] for groups in (first, second)]
    return connected(*places)


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


def _units(digests: np.ndarray, groups: np.ndarray | None) -> list[np.ndarray]:
    """Connect rows with equal bytes or equal groups, and return each component's rows."""
    labels = join_groups(np.unique(digests, return_inverse=True)[1], groups)
    assert labels is not None
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
