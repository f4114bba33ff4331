"""The drawings on which backbones are compared: an order of all drawings, of which each beginning is a fair sample."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from inkfold.data.splits import Folds, assign_folds
from inkfold.pipeline.prepare import Prepared
from inkfold.storage.hashing import digest

CLASSES_AT_ONCE, FIRST_TURNS = 100, 8  # of the classes with which a sample begins so many drawings come before other classes
UNSEEN_PER_SEEN = 3  # drawings of a class that are new to all backbones come so much faster than others
OF_ONE_UNIT = 4  # drawings of one class and unit that come before other units' drawings
FEWEST, FEWEST_UNITS = 12, 2
FEWEST_HALVED = 1.5  # drawings of each class to learn from, on average


def sample_order(prepared: Prepared, k: int, seed: int, seen: Bool[np.ndarray, " n"] | None = None) -> Int64[np.ndarray, " n"]:
    """Order the training drawings so that each beginning is a fair sample of them, and contains all shorter ones.

    Classes take turns, at first 100 of them where there are more, so that there are enough drawings of each to learn from.
    Within a class, drawings that belong together follow each other, at most four at a time, the same groups first in all
    classes: groups stay whole where they are small, and one large group is not the whole sample. Drawings and classes that
    are new to all backbones come first and three times as fast, as only by them can be judged.

    Args:
        prepared: The training drawings with their groups and copies.
        k: Number of folds, by which chains of copies are cut, at least 2.
        seed: Seed of the order, with the drawings' content.
        seen: Which drawings some backbone was pretrained on, which come last of their class; None where that isn't known.

    Returns:
        Indices of the training drawings, each once.
    """
    targets, units = prepared.targets, np.unique(prepared.units(k), return_inverse=True)[1]
    lots = _lots(prepared.digests, seed)
    unit_lots = np.full(int(units.max()) + 1, np.inf)
    np.minimum.at(unit_lots, units, lots)
    number_in_unit = _numbers((targets, units), lots)
    last = np.zeros(len(targets), bool) if seen is None else seen
    turn = _numbers((targets,), np.lexsort((lots, unit_lots[units], number_in_unit // OF_ONE_UNIT, last)).argsort())
    turn = np.where(last, UNSEEN_PER_SEEN * turn, turn)
    class_lots = np.full(int(targets.max()) + 1, np.inf)
    np.minimum.at(class_lots, targets, lots + len(lots) * last)
    class_block = class_lots.argsort().argsort() // CLASSES_AT_ONCE
    first = (class_block[targets] == 0) & (turn < FIRST_TURNS)
    order: np.ndarray = np.lexsort((lots, turn, ~first))
    return order


def _lots(digests: Shaped[np.ndarray, " n"], seed: int) -> Float[np.ndarray, " n"]:
    """Draw a number for each drawing by its content; equal files differ by their place, which content decides too."""
    drawn = [int(digest(f"{seed}|".encode() + name)[:13], 16) for name in digests.tolist()]
    ranks: np.ndarray = np.argsort(np.argsort(np.array(drawn, np.float64), kind="stable"), kind="stable").astype(np.float64)
    return ranks


def _numbers(keys: tuple[np.ndarray, ...], order: np.ndarray) -> Int64[np.ndarray, " n"]:
    """Number the rows of each combination of keys from 0, in an order."""
    rows = np.lexsort((order, *keys))
    sorted_keys = np.stack([key[rows] for key in keys])
    starts = np.r_[True, (sorted_keys[:, 1:] != sorted_keys[:, :-1]).any(0)]
    places = np.arange(len(rows))
    numbers = np.empty(len(rows), np.int64)
    numbers[rows] = places - np.maximum.accumulate(np.where(starts, places, 0))
    return numbers


@dataclass(frozen=True, slots=True)
class Sample:
    """Some training drawings with the folds in which they are compared.

    Attributes:
        rows: Indices of the prepared training drawings, ascending.
        targets: Class of each drawing, from 0 without gaps.
        folds: Which of them each fold trains on, and which it holds out.
        groups: Number of each drawing's group; None where nothing is known of groups.
        num_classes: Number of classes among them.
    """

    rows: Int64[np.ndarray, " n"]
    targets: Int64[np.ndarray, " n"]
    folds: Folds
    groups: Int64[np.ndarray, " n"] | None
    num_classes: int

    def halved(self) -> Self | None:
        """Train each fold on half of its drawings of each class; None where hardly any class would have two to learn from."""
        trained_on = self.folds.trained_on.copy()
        for own in trained_on:
            order = np.argsort(self.targets, kind="stable")
            rows = order[own[order]]
            own[rows[_numbers((self.targets[rows],), np.arange(len(rows))) % 2 == 1]] = False
        if trained_on.sum() < FEWEST_HALVED * self.num_classes * len(trained_on):
            return None
        return replace(self, folds=replace(self.folds, trained_on=trained_on))


def draw_sample(prepared: Prepared, rows: Int64[np.ndarray, " n"], k: int, seed: int) -> Sample | None:
    """Divide some training drawings into folds by their groups and copies.

    Args:
        prepared: The training drawings.
        rows: Which of them, a beginning of `sample_order`.
        k: Number of folds, at least 2; fewer are taken where there are fewer groups.
        seed: Seed of the folds.

    Returns:
        The sample; None where there are too few drawings, groups or classes to compare anything.
    """
    rows = np.sort(rows)
    units = prepared.units(k)[rows]
    k = min(k, len(np.unique(units)))
    classes, targets = np.unique(prepared.targets[rows], return_inverse=True)
    if len(rows) < FEWEST or k < FEWEST_UNITS or len(classes) < 2:
        return None
    parts = assign_folds(targets, prepared.digests[rows], k, seed, units)
    held_out = np.stack([parts == part for part in np.unique(parts)])
    folds = prepared.copies.select(rows).leave_out(held_out, k, targets)
    if not all(len(np.unique(targets[own])) > 1 for own in folds.trained_on):
        return None
    groups = None if prepared.groups is None else np.unique(prepared.groups[rows], return_inverse=True)[1]
    return Sample(rows, targets, folds, groups, len(classes))
