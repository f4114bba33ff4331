"""Which epoch's head to keep, and how much the choice flatters: pure numpy on who was right when."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool


@dataclass(frozen=True, slots=True)
class EpochSelection:
    """Which epochs were kept.

    Attributes:
        epochs: Of each member, from 0.
        accuracy: On the members' own held-out parts, by which the epochs were chosen.
        nested_accuracy: The same where half of a part chooses for the other half: what the choice is worth on new drawings.
    """

    epochs: tuple[int, ...]
    accuracy: float
    nested_accuracy: float

    @property
    def optimism(self) -> float:
        """By how much the accuracy flatters."""
        return self.accuracy - self.nested_accuracy


def select_epochs(right: list[Bool[np.ndarray, "epochs rows"]]) -> EpochSelection:
    """Take each member's best epoch, the first of equals; the last where nothing is held out.

    Args:
        right: For each member, who was right on its held-out rows after each epoch; rows in an order that says nothing.

    Returns:
        The epochs and both estimates; NaN where nothing is held out.
    """
    epochs, hits, nested, count = [], 0, 0, 0
    for answers in right:
        best = int(answers.sum(1).argmax()) if answers.shape[1] else len(answers) - 1
        epochs.append(best)
        hits += int(answers[best].sum())
        count += answers.shape[1]
        halves = answers[:, ::2], answers[:, 1::2]
        for chooser, judge in (halves, halves[::-1]):
            nested += int(judge[chooser.sum(1).argmax()].sum())
    if not count:
        return EpochSelection(tuple(epochs), float("nan"), float("nan"))
    return EpochSelection(tuple(epochs), hits / count, nested / count)
