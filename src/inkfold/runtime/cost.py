"""TODO: the contract of this file."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Cost:
    """What a run took so far.

    Attributes:
        forwards: Drawings that went through the backbone.
        forwards_cached: Drawings whose features were in the bank.
        decoded: Drawings that were decoded.
        trained: Drawings that went through the backbone forwards and backwards.
        waited: Share of the training's time in which it waited for drawings; None where nothing was trained.
        seconds: Wall time by stage.
        started: When, on `time.perf_counter`'s clock.
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
        """Add the block's wall time to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started

    def as_json(self) -> dict[str, Any]:
        """Give the figures, with the total time until now."""
        seconds = {**self.seconds, "total": time.perf_counter() - self.started}
        trained = {} if self.waited is None else {"trained": self.trained, "waited_for_data_fraction": self.waited}
        return {
            "forwards": self.forwards,
            "forwards_cached": self.forwards_cached,
            "decoded": self.decoded,
            **trained,
            "seconds": {stage: round(took, 3) for stage, took in seconds.items()},
        }
