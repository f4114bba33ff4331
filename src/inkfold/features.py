"""The feature bank: each (backbone, view, drawing) goes through the network once, and its vector stays on disk.

The key names everything that made a vector: the drawing's bytes, decoding, size, fit, view, the backbone's name, weights
digest, normalisation, arguments and precision. A stale feature is impossible; 100 added drawings cost 100 forwards.
"""

import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float16, Shaped

from inkfold.ahead import ahead
from inkfold.atomic import write_json
from inkfold.augment import IDENTITY, View, render_batch, resampling
from inkfold.errors import CacheError
from inkfold.progress import Progress, silent
from inkfold.shards import ShardSet
from inkfold.store import ImageStore, available_cores

if TYPE_CHECKING:
    from inkfold.backbone import Backbone

SHARD_ROWS = 2048
MAPPED_FROM_BYTES = 2 << 30
RATE, RATED_FROM = "rate.json", 64  # fewer drawings say little
SHARD_SECONDS = 20.0  # a kill loses at most the shard in hand: a slow backbone writes smaller ones


@dataclass(frozen=True, slots=True)
class Extraction:
    """What it took to have the features.

    Attributes:
        forwards: Drawings that went through the backbone now.
        cached: Drawings whose features were there.
        seconds: Time in the backbone, building it included.
    """

    forwards: int
    cached: int
    seconds: float


class FeatureBank:
    """The features of one backbone for one view.

    Args:
        parent: Directory of all banks.
        backbone: The resolved backbone's key.
        store: The drawings' pixels.
        view: How they are shown to the backbone.
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

    def extract(
        self, digests: Shaped[np.ndarray, " n"], build: Callable[[], "Backbone"], progress: Progress = silent
    ) -> Extraction:
        """Compute what is missing.

        Another run that extracts the same features is waited for, and what it left is taken.

        Args:
            digests: Of drawings that are in the pixel store.
            build: Gives the backbone; called only when something is missing.
            progress: Told after each batch.

        Returns:
            What it took.
        """
        started = time.perf_counter()
        self.shards.create()
        wanted = np.unique(digests)
        if not self.shards.missing(wanted).any():
            return Extraction(0, len(wanted), time.perf_counter() - started)
        with self.shards.lock():
            todo = wanted[self.shards.missing(wanted)]
            if len(todo):
                self._run(build(), todo, progress)
            self.shards.missing(wanted)
        return Extraction(len(todo), len(wanted) - len(todo), time.perf_counter() - started)

    def read(self, digests: Shaped[np.ndarray, " n"]) -> Float16[np.ndarray, "n d"]:
        """Gather features that `extract` has computed; more than fit well into memory stay on disk."""
        return self.shards.read(digests, self.empty)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Make room, in memory or on disk."""
        if math.prod(shape) * dtype.itemsize <= MAPPED_FROM_BYTES:
            return np.empty(shape, dtype)
        try:
            with tempfile.TemporaryFile(dir=self.shards.directory) as file:  # it goes with the last one who reads it
                if hasattr(os, "posix_fallocate"):  # a full disk is told now, not by a signal when pages are written
                    os.posix_fallocate(file.fileno(), 0, math.prod(shape) * dtype.itemsize)
                return np.memmap(file, dtype, "w+", shape=shape)
        except OSError as error:
            raise CacheError(f"{self.shards.directory}: {error.strerror}. Free some space or set INKFOLD_HOME.") from None

    def _run(self, backbone: "Backbone", todo: np.ndarray, progress: Progress) -> None:
        from inkfold.backbone import keep_freed_memory  # noqa: PLC0415 - torch is loaded by now, not before

        pending: list[np.ndarray] = []
        begun, done, flushed, started = 0, 0, time.monotonic(), time.perf_counter()
        with keep_freed_memory():
            for pixels in self._rendered(todo, backbone.batch_size, on_cpu=backbone.device.type == "cpu"):
                pending.append(backbone.extract(pixels))
                done += len(pixels)
                progress("features", done, len(todo))
                slow = time.monotonic() - flushed >= SHARD_SECONDS
                if done == len(todo) or done - begun >= SHARD_ROWS or slow:
                    self.shards.append(todo[begun:done], np.concatenate(pending))
                    pending, begun, flushed = [], done, time.monotonic()
        if done >= RATED_FROM:
            rate = done / (time.perf_counter() - started)
            write_json(self.shards.directory / RATE, {"images_per_s": round(rate, 2), "device": str(backbone.device)})

    def rate(self) -> float | None:
        """Give the drawings a second that went through the backbone when these features were computed, if that is known."""
        try:
            return float(json.loads((self.shards.directory / RATE).read_text(encoding="utf-8"))["images_per_s"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _rendered(self, todo: np.ndarray, batch_size: int, *, on_cpu: bool) -> Iterator[np.ndarray]:
        """Show batches as the view has them, ahead of the backbone and beside it, in threads that OpenCV leaves free."""
        batches = (todo[start : start + batch_size] for start in range(0, len(todo), batch_size))
        if not self.view.operations and self.store.options.size_px == self.size_px:
            yield from (self.store.read(batch) for batch in batches)
            return
        workers = 1 if on_cpu else available_cores()
        read = ((self.store.read(batch), batch.tolist()) for batch in batches)
        yield from ahead(lambda task: render_batch(task[0], self.view, task[1], self.size_px), read, workers, workers + 1)
