"""Checkpoints: everything that training goes on from, in one safetensors file that is whole or absent.

Plain values lie in the file's header as JSON. Nothing random is kept: each draw is a function of seed, epoch and step.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors

from inkfold.errors import CacheError
from inkfold.storage.files import atomic_file

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
