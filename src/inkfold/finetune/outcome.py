"""What became of a fold in training, and how far it is, as a checkpoint holds it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from inkfold.heads.fit import Epoch

PLAIN = ("epoch", "step", "sums", "best", "micro_batch", "notes")


@dataclass(slots=True)
class Outcome:
    """What became of a fold, and, while it is trained, how far it is.

    Attributes:
        epoch: Of the next step.
        step: The next one in it.
        sums: Losses and drawings of the epoch so far.
        curve: A point an epoch.
        right: Who of the held-out drawings was named rightly after each epoch.
        best: The epoch whose weights are kept, where the best one is.
        micro_batch: Drawings a forward.
        notes: What the user should know.
        trained: Drawings that went forwards and backwards in this call.
        changes: What training changed of the backbone, in its own names.
        head: With one member.
    """

    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    curve: list[Epoch] = field(default_factory=list)
    right: list[Bool[np.ndarray, " rows"]] = field(default_factory=list)
    best: int | None = None
    micro_batch: int = 0
    notes: list[str] = field(default_factory=list)
    trained: int = 0
    changes: dict[str, torch.Tensor] = field(default_factory=dict)
    head: dict[str, np.ndarray] = field(default_factory=dict)

    def kept(self, rows: int) -> tuple[UInt8[torch.Tensor, "epochs rows"], dict[str, Any]]:
        """Give what a checkpoint holds of it.

        Args:
            rows: Held-out drawings.

        Returns:
            Who was named rightly, and the rest as JSON values.
        """
        right = torch.from_numpy(np.array(self.right, np.uint8).reshape(len(self.right), rows))
        curve = [[None if math.isnan(value) else value for value in asdict(one).values()] for one in self.curve]
        return right, {"curve": curve, **{name: getattr(self, name) for name in PLAIN}}

    @classmethod
    def of(cls, right: UInt8[torch.Tensor, "epochs rows"], plain: Mapping[str, Any]) -> "Outcome":
        """Rebuild from what `kept` gave."""
        curve = [Epoch(*(math.nan if value is None else value for value in one)) for one in plain["curve"]]
        return cls(**{name: plain[name] for name in PLAIN}, curve=curve, right=[one.astype(bool) for one in right.numpy()])
