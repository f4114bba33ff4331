"""What a run costs: forward passes, decoded drawings and seconds, added up by the stages and written to cost.json."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Cost:
    """What a run has cost so far.

    Attributes:
        forwards: Drawings that went through the backbone.
        forwards_cached: Drawings whose features were in the bank.
        decoded: Drawings that were decoded from their files; not those in the pixel store.
        trained: Drawings that training sent forwards and backwards through the backbone.
        waited: Fraction of the training time spent waiting for drawings, 0 to 1; None where nothing was trained.
        seconds: Wall time of each stage in seconds, by the stage's name.
        started: When the run began, in seconds of `time.perf_counter`.
    """

    forwards: int = 0
    forwards_cached: int = 0
    decoded: int = 0
    trained: int = 0
    waited: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the wall time of the block to a stage.

        Args:
            stage: The name under which `seconds` holds the sum.
        """
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON values, with the total time until now."""
        seconds = {**self.seconds, "total": time.perf_counter() - self.started}
        trained = {} if self.waited is None else {"trained": self.trained, "waited_for_data_fraction": self.waited}
        return {
            "forwards": self.forwards,
            "forwards_cached": self.forwards_cached,
            "decoded": self.decoded,
            **trained,
            "seconds": {stage: round(took, 3) for stage, took in seconds.items()},
        }
