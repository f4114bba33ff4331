"""Chooses each head's best epoch by held-out predictions, and estimates how optimistic the accuracy of that choice is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from inkfold.evaluation.scores import Metric

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, slots=True)
class EpochSelection:
    """Which epochs were kept, with the accuracy of that choice.

    Attributes:
        epochs: The epoch, from 0, whose weights each head keeps.
        accuracy: On the heads' own held-out parts, by which the epochs were chosen; in 0..1, optimistic.
        nested_accuracy: The same where each half of a held-out part chooses the epoch for the other half: an estimate for new
            drawings.
        nested_right: For each head, which held-out drawings are predicted rightly at the epoch that the other half of them
            chooses: `nested_accuracy` is the mean over all heads' drawings.
        score: The metric of all heads' held-out predictions at these epochs, where epochs are chosen by another metric than
            accuracy; None where accuracy chooses.
        nested_score: The same where each half of a held-out part chooses for the other half.
    """

    epochs: tuple[int, ...]
    accuracy: float
    nested_accuracy: float
    nested_right: tuple[Bool[np.ndarray, " rows"], ...] = field(default=(), compare=False, repr=False)
    score: float | None = None
    nested_score: float | None = None

    @property
    def optimism(self) -> float:
        """By how much the accuracy is optimistic: its difference to the nested one."""
        return self.accuracy - self.nested_accuracy


def select_epochs(right: list[Bool[np.ndarray, "epochs rows"]]) -> EpochSelection:
    """Choose each head's best epoch, the first of equals; the last where nothing is held out.

    Args:
        right: For each head, whether each held-out drawing was predicted rightly after each epoch; the order of drawings must
            not depend on their classes.

    Returns:
        The epochs and both accuracies, which are NaN where nothing is held out.
    """
    epochs, hits, count = [], 0, 0
    nested_right = [np.zeros(own.shape[1], bool) for own in right]
    for own, nested in zip(right, nested_right, strict=True):
        best = int(own.sum(1).argmax()) if own.shape[1] else len(own) - 1
        epochs.append(best)
        hits += int(own[best].sum())
        count += own.shape[1]
        for parity in (0, 1):
            nested[parity::2] = own[own[:, 1 - parity :: 2].sum(1).argmax(), parity::2]
    if not count:
        return EpochSelection(tuple(epochs), float("nan"), float("nan"))
    nested_hits = sum(int(nested.sum()) for nested in nested_right)
    return EpochSelection(tuple(epochs), hits / count, nested_hits / count, tuple(nested_right))


def select_epochs_by(
    metric: Metric, right: Sequence[Bool[np.ndarray, "epochs rows"]], statistics: Sequence[Sequence["csr_array"]]
) -> EpochSelection:
    """Choose each head's best epoch by a metric; see `select_epochs`.

    Args:
        metric: What an epoch is chosen by, whether greater or smaller values of it are better.
        right: For each head, whether each held-out drawing was predicted rightly after each epoch.
        statistics: For each head, the metric's statistics of its held-out drawings after each epoch.

    Returns:
        The epochs, their accuracies and their scores.
    """
    epochs, hits, count = [], 0, sum(own.shape[1] for own in right)
    kept, nested = list[np.ndarray](), list[np.ndarray]()
    nested_right = [np.zeros(own.shape[1], bool) for own in right]
    for own, by_epoch, own_nested in zip(right, statistics, nested_right, strict=True):
        everything = np.arange(own.shape[1])
        best = _best_epoch(metric, by_epoch, everything)
        epochs.append(best)
        hits += int(own[best].sum())
        kept.append(by_epoch[best].sum(0))
        for parity in (0, 1):
            chosen = _best_epoch(metric, by_epoch, everything[1 - parity :: 2])
            nested.append(by_epoch[chosen][everything[parity::2]].sum(0))
            own_nested[parity::2] = own[chosen, parity::2]
    if not count:
        return select_epochs(list(right))
    scores = [float(metric.value(np.sum(sums, axis=0))) for sums in (kept, nested)]
    nested_hits = sum(int(own.sum()) for own in nested_right)
    return EpochSelection(tuple(epochs), hits / count, nested_hits / count, tuple(nested_right), *scores)


def _best_epoch(metric: Metric, by_epoch: Sequence["csr_array"], rows: np.ndarray) -> int:
    """The first of the best epochs; the last without drawings."""
    if not len(rows):
        return len(by_epoch) - 1
    return int(np.argmax([metric.signed(float(metric.value(statistics[rows].sum(0)))) for statistics in by_epoch]))
