"""The feature bank: each (backbone, view, drawing) goes through the network once, and its vector stays on disk.

The key names everything that made a vector: the drawing's bytes, decoding, size, resizing, view, the backbone's name, weights
digest, normalisation, arguments and precision. A stale feature is impossible, and 100 added drawings cost 100 forward passes.
`extractor` computes what is missing.
"""

import logging
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Shaped

from inkfold.augment.views import IDENTITY, View, resampling
from inkfold.errors import CacheError
from inkfold.storage.pixels import ImageStore
from inkfold.storage.sealed import read_sealed, write_sealed
from inkfold.storage.shards import ShardSet

log = logging.getLogger("inkfold.features")

MAPPED_FROM_BYTES = 2 << 30
RATE, RATED_FROM = "rate.json", 64  # the rate of fewer drawings says little


class FeatureBank:
    """Features on disk of all drawings that one backbone has seen under one view.

    Args:
        parent: Directory that holds all banks.
        backbone: Key of the resolved backbone; see `BackboneInfo.key`.
        store: Pixel store whose settings, among others, name the bank's directory.
        view: View under which the backbone sees the drawings.
    """

    def __init__(self, parent: Path, backbone: dict[str, Any], store: ImageStore, view: View = IDENTITY) -> None:
        pixels = {name: value for name, value in store.grey.key.items() if name != "channels"}
        key = {"backbone": backbone, "pixels": pixels, "view": view.key(), "form": 1}
        self.view = view
        self.size_px: int = backbone["image_size"]
        if store.options.size_px != self.size_px:
            key["resampling"] = resampling()
        name = backbone["name"].replace("/", "_")[:60]
        self.shards = ShardSet(parent, name, key)
        self.store = store

    def read(self, digests: Shaped[np.ndarray, " n"]) -> Float16[np.ndarray, "n d"]:
        """Read features of drawings in their order; more than 2 GiB of them stay on disk, as a memory-mapped array.

        Args:
            digests: Digests of drawings whose features `shards.missing` has just found to be there.

        Returns:
            One row per digest.
        """
        try:
            return self.shards.read(digests, self.empty)
        finally:
            self.shards.close()  # a curriculum has dozens of banks, and a process about a thousand file descriptors

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Create an array that isn't filled, in memory or, if it is large, on disk."""
        if math.prod(shape) * dtype.itemsize <= MAPPED_FROM_BYTES:
            return np.empty(shape, dtype)
        try:
            with tempfile.TemporaryFile(dir=self.shards.directory) as file:  # it is gone when the last array on it is
                if hasattr(os, "posix_fallocate"):  # a full disk is reported now, not by a signal when pages are written
                    os.posix_fallocate(file.fileno(), 0, math.prod(shape) * dtype.itemsize)
                return np.memmap(file, dtype, "w+", shape=shape)
        except OSError as error:
            raise CacheError(f"{self.shards.directory}: {error.strerror}. Free some space or set INKFOLD_HOME.") from None

    def note_rate(self, rows: int, seconds: float, device: str) -> None:
        """Store how fast these features were computed, unless fewer than 64 of them were."""
        if rows >= RATED_FROM and seconds > 0:
            write_sealed(self.shards.directory / RATE, {"images_per_s": round(rows / seconds, 2), "device": device})

    def rate(self) -> float | None:
        """Return how many drawings per second went through the backbone for these features; None if that isn't known."""
        path = self.shards.directory / RATE
        try:
            return float(read_sealed(path, must_be_sealed=True)["images_per_s"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: %s, so the rate is measured again", path, error)
            return None
