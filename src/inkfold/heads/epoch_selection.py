"""Chooses each head's best epoch by held-out predictions, and estimates how optimistic the accuracy of that choice is."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool


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
    """

    epochs: tuple[int, ...]
    accuracy: float
    nested_accuracy: float
    nested_right: tuple[Bool[np.ndarray, " rows"], ...] = field(default=(), compare=False, repr=False)

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
