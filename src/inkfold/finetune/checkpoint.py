"""Checkpoints: everything that training goes on from, in one safetensors file that is whole or absent.

Plain values lie in the file's header as JSON. Nothing random is kept: each draw is a function of seed, epoch and step.
"""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors

from inkfold.errors import CacheError
from inkfold.heads.fit import Epoch
from inkfold.storage.files import atomic_file

PROGRESS = ("epoch", "step", "sums", "best", "micro_batch", "notes")
PLAIN = "plain"


def save_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], plain: Mapping[str, Any]) -> None:
    """Write a checkpoint in the old one's place.

    Args:
        path: The file; a kill at any moment leaves the old one or the new one.
        tensors: By name, on any device.
        plain: JSON values.

    Raises:
        CacheError: If the disk is full or can't be written; the old file stays.
    """
    on_cpu = {name: values.detach().cpu().contiguous() for name, values in tensors.items()}
    metadata = {PLAIN: json.dumps(plain, allow_nan=False), "crc32": str(_checksum(on_cpu))}
    data = to_safetensors(on_cpu, metadata=metadata)
    try:
        with atomic_file(path) as file:
            file.write(data)
    except OSError as error:
        raise CacheError(
            f"{path}: {error.strerror}. Free some space and run again: the run goes on from its last checkpoint."
        ) from None


def load_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Read a checkpoint.

    Args:
        path: The file.

    Returns:
        Tensors on the CPU, and the plain values; None where there is no file, or not a whole and intact one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        plain = dict(json.loads(metadata[PLAIN]))
        intact = int(metadata["crc32"]) == _checksum(tensors)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return None
    return (tensors, plain) if intact else None


def _checksum(tensors: Mapping[str, torch.Tensor]) -> int:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, zlib.crc32(name.encode(), total))
    return total


@dataclass(slots=True)
class FoldState:
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
        return right, {"curve": curve, **{name: getattr(self, name) for name in PROGRESS}}

    @classmethod
    def of(cls, right: UInt8[torch.Tensor, "epochs rows"], plain: Mapping[str, Any]) -> "FoldState":
        """Rebuild from what `kept` gave."""
        curve = [Epoch(*(math.nan if value is None else value for value in one)) for one in plain["curve"]]
        return cls(**{name: plain[name] for name in PROGRESS}, curve=curve, right=[one.astype(bool) for one in right.numpy()])
