"""Which trials of a batch are fitted on: the better half, after a quarter and after half of their epochs.

Decided for a whole batch at once, so that the same trials go on whatever the threads do: asynchronous halving compares a trial
with those that happened to come first.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

RUNGS = 2  # after a quarter and after half of the epochs
PARTS = 4


def rung_epoch(epochs: int, rung: int) -> int:
    """Return after how many epochs a trial is compared with others.

    Args:
        epochs: Number of epochs that the trial would take, at least 1.
        rung: Number of the rung, 0 or 1.

    Returns:
        A number of epochs, at least 1; a trial without so many isn't compared there.
    """
    return max(1, epochs // PARTS) * (rung + 1)


@dataclass(frozen=True, slots=True)
class Halving:
    """Successive halving of a batch of trials, among all trials before it.

    Attributes:
        earlier: For each rung, the scores that trials of earlier batches had there, greater for better ones.
        spared: Indices of the trials of the batch that are fitted to their end in any case.
        reached: For each trial that was compared, by its index in the batch, its score at one rung after the other.

    Source: Jamieson and Talwalkar, arXiv 1502.07943; with all earlier batches among those compared, as in Li et al., arXiv
    1810.05934, but one batch after the other.
    """

    earlier: Sequence[Sequence[float]]
    spared: Collection[int] = ()
    reached: dict[int, list[float]] = field(default_factory=dict)

    def stopped(self, rung: int, accuracies: Mapping[int, float]) -> set[int]:
        """Decide which trials are fitted no further.

        Args:
            rung: Number of the rung, 0 or 1.
            accuracies: Each trial's score at this rung, greater for better ones, by its index in the batch.

        Returns:
            Indices of the trials that are not in the better half of all that have reached this rung; of equal ones all stay.
        """
        for i, accuracy in accuracies.items():
            self.reached.setdefault(i, []).append(accuracy)
        own = [values[rung] for values in self.reached.values() if len(values) > rung]
        compared = sorted([*self.earlier[rung], *own], reverse=True)
        if not compared:
            return set()
        least = compared[max(1, len(compared) // 2) - 1]
        return {i for i, accuracy in accuracies.items() if accuracy < least and i not in self.spared}
