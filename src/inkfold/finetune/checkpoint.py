"""Checkpoints: everything that a training continues from, in one safetensors file that is whole or absent.

Plain values lie in the file's header as JSON. No random state is kept: each draw is a function of seed, epoch and step.
"""

import json
import logging
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
from inkfold.storage.hashing import key_digest

PLAIN_FIELDS = ("epoch", "step", "sums", "best", "micro_batch", "notes")
PLAIN, HEADER = "plain", "header"
_DTYPES = {
    **{f"F{bits}": f"torch.float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"torch.int{bits}" for bits in (8, 16, 32, 64)},
    **{"BF16": "torch.bfloat16", "U8": "torch.uint8", "BOOL": "torch.bool"},
}
log = logging.getLogger("inkfold.finetune")


def save_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], plain: Mapping[str, Any]) -> None:
    """Replace a checkpoint by a new one.

    Args:
        path: The file; a kill at any moment leaves the old one or the new one.
        tensors: The tensors that the training continues from, by name, on any device.
        plain: Everything else that the training continues from, by name: finite JSON values.

    Raises:
        CacheError: If the disk is full or can't be written; the old file stays.
    """
    on_cpu = {name: values.detach().cpu().contiguous() for name, values in tensors.items()}
    metadata = {PLAIN: json.dumps(plain, allow_nan=False), "crc32": str(_checksum(on_cpu))}
    kinds = {name: [str(values.dtype), list(values.shape)] for name, values in on_cpu.items()}
    assert {kind for kind, _ in kinds.values()} <= {*_DTYPES.values()}, "else it couldn't be read"
    data = to_safetensors(on_cpu, metadata={**metadata, HEADER: key_digest({**metadata, "tensors": kinds})})
    try:
        with atomic_file(path) as file:
            file.write(data)
    except OSError as error:
        raise CacheError(
            f"{path}: {error.strerror}. Free some space and run again: the run continues from its last checkpoint."
        ) from None


def load_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Read a checkpoint.

    Args:
        path: A file that `save_checkpoint` wrote; it need not exist.

    Returns:
        Tensors on the CPU, and the plain values; None where there is no file, or it is incomplete or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            plain = _read_plain(file)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            if int(file.metadata()["crc32"]) != _checksum(tensors):
                raise ValueError("its tensors aren't what was written")
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        log.warning("%s: not a whole checkpoint (%s), so it isn't continued from", path, error)
        return None
    return tensors, plain


def _read_plain(file: Any) -> dict[str, Any]:
    """Read the plain values of an open checkpoint, and check its header; those of older versions have no digest of it."""
    metadata = dict(file.metadata() or {})
    expected = metadata.pop(HEADER, None)
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    kinds = {name: [_DTYPES.get(part.get_dtype()), list(part.get_shape())] for name, part in slices.items()}
    if expected is not None and key_digest({**metadata, "tensors": kinds}) != expected:
        raise ValueError("its header isn't what was written")
    return dict(json.loads(metadata[PLAIN]))


@dataclass(frozen=True, slots=True)
class FoldProgress:
    """How far the training of a fold is, by its last checkpoint.

    Attributes:
        fold: Number of the fold, from 0.
        epoch: Number of finished epochs.
        step: Number of finished steps of the epoch that is trained.
        steps: Number of steps of an epoch.
    """

    fold: int
    epoch: int
    step: int
    steps: int

    @property
    def done(self) -> int:
        """Number of finished steps over all epochs."""
        return self.epoch * self.steps + self.step


def read_progress(directory: Path) -> tuple[FoldProgress, ...]:
    """Read how far each fold of an unfinished fine-tuning is; a fold without a readable checkpoint is left out.

    Args:
        directory: The directory of checkpoints in a run's directory; it need not exist.

    Returns:
        The folds' progress, in the order of the folds. Only the files' headers are read.
    """
    found = []
    for path in directory.glob("fold*.last.safetensors"):
        number = path.name.removeprefix("fold").partition(".")[0]
        try:
            with safe_open(path, framework="np") as file:
                plain = _read_plain(file)
            found.append(FoldProgress(int(number), *(int(plain[name]) for name in ("epoch", "step", "steps"))))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            continue
    return tuple(sorted(found, key=lambda progress: progress.fold))


def _checksum(tensors: Mapping[str, torch.Tensor]) -> int:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, zlib.crc32(name.encode(), total))
    return total


@dataclass(slots=True)
class FoldState:
    """How far the training of a fold is, and at its end what came out of it.

    Attributes:
        epoch: Epoch of the next step, from 0.
        step: Number of the next step in its epoch, from 0.
        sums: Sum of losses and number of drawings of the epoch so far.
        curve: Losses and held-out accuracy of each finished epoch, in order.
        right: Whether each held-out drawing was predicted rightly, after each finished epoch.
        best: The epoch whose weights are kept; None unless the best one is.
        micro_batch: Drawings per forward pass, at least 1 while it trains; halved where the memory ran out.
        notes: Sentences for the user about what training changed by itself, such as smaller forward passes; empty without any.
        trained: Drawings that went forwards and backwards in this call.
        changes: Tensors that training changed of the backbone, under the backbone's own names; filled at the end.
        head: The trained head's tensors, with a first axis of 1; filled at the end.
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

    def to_checkpoint(self, held_out: int) -> tuple[UInt8[torch.Tensor, "epochs rows"], dict[str, Any]]:
        """Return what a checkpoint holds of the state.

        Args:
            held_out: Number of held-out drawings.

        Returns:
            The field `right` as a tensor, and the other fields that training continues from as JSON values.
        """
        right = torch.from_numpy(np.array(self.right, np.uint8).reshape(len(self.right), held_out))
        curve = [[None if math.isnan(value) else value for value in asdict(point).values()] for point in self.curve]
        return right, {"curve": curve, **{name: getattr(self, name) for name in PLAIN_FIELDS}}

    @classmethod
    def from_checkpoint(cls, right: UInt8[torch.Tensor, "epochs rows"], plain: Mapping[str, Any]) -> "FoldState":
        """Rebuild a state from what `to_checkpoint` returned."""
        curve = [Epoch(*(math.nan if value is None else value for value in point)) for point in plain["curve"]]
        fields = {name: plain[name] for name in PLAIN_FIELDS}
        return cls(**fields, curve=curve, right=[epoch.astype(bool) for epoch in right.numpy()])
