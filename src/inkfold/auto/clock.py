"""The time that a search has: how much is spent, how much is left, and the end of what takes longer."""

import time
from collections.abc import Callable

from inkfold.runtime.progress import Progress

Now = Callable[[], float]


class OutOfTime(Exception):  # noqa: N818 - no error: what was ready is used
    """The time of a step is over."""


class Clock:
    """Counts a search's time, over all calls on the same directory.

    Args:
        budget_s: Seconds that all calls together may take.
        spent_s: Seconds that earlier calls took.
        now: Gives the time in seconds, from any start; tests give one of their own.
    """

    def __init__(self, budget_s: float, spent_s: float = 0.0, now: Now = time.monotonic) -> None:
        self.budget_s, self._now = budget_s, now
        self._earlier, self._started = spent_s, now()

    @property
    def call_s(self) -> float:
        """Seconds of this call alone."""
        return self._now() - self._started

    @property
    def spent_s(self) -> float:
        """Seconds that all calls have taken so far."""
        return self._earlier + self.call_s

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; below 0 after it."""
        return self.budget_s - self.spent_s

    def watched(self, progress: Progress, end_s: float) -> Progress:
        """Return a progress that ends what reports to it once the search has spent a time.

        Args:
            progress: Receives every report.
            end_s: Seconds of the search's time, after which the next report raises `OutOfTime`.
        """

        def report(stage: str, done: int, total: int) -> None:
            progress(stage, done, total)
            if self.spent_s > end_s:
                raise OutOfTime

        return report
