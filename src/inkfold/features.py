"""The feature bank: each (backbone, view, drawing) goes through the network once, and its vector stays on disk.

The key names everything that made a vector: the drawing's bytes, decoding, size, fit, view, the backbone's name, weights
digest, normalisation, arguments and precision. A stale feature is impossible; 100 added drawings cost 100 forwards.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float16, Shaped

from inkfold.augment import IDENTITY, View, render_batch, resampling
from inkfold.progress import Progress, silent
from inkfold.shards import ShardSet
from inkfold.store import ImageStore, available_cores

if TYPE_CHECKING:
    from inkfold.backbone import Backbone

SHARD_ROWS = 2048
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
        """Gather features that `extract` has computed."""
        return self.shards.read(digests)

    def _run(self, backbone: "Backbone", todo: np.ndarray, progress: Progress) -> None:
        from inkfold.backbone import keep_freed_memory  # noqa: PLC0415 - torch is loaded by now, not before

        pending: list[np.ndarray] = []
        begun, done, flushed = 0, 0, time.monotonic()
        with keep_freed_memory():
            for pixels in self._rendered(todo, backbone.batch_size, on_cpu=backbone.device.type == "cpu"):
                pending.append(backbone.extract(pixels))
                done += len(pixels)
                progress("features", done, len(todo))
                slow = time.monotonic() - flushed >= SHARD_SECONDS
                if done == len(todo) or done - begun >= SHARD_ROWS or slow:
                    self.shards.append(todo[begun:done], np.concatenate(pending))
                    pending, begun, flushed = [], done, time.monotonic()

    def _rendered(self, todo: np.ndarray, batch_size: int, *, on_cpu: bool) -> Iterator[np.ndarray]:
        """Show batches as the view has them, ahead of the backbone and beside it, in threads that OpenCV leaves free."""
        batches = (todo[start : start + batch_size] for start in range(0, len(todo), batch_size))
        if not self.view.operations and self.store.options.size_px == self.size_px:
            yield from (self.store.read(batch) for batch in batches)
            return
        workers = 1 if on_cpu else available_cores()
        with _one_opencv_thread(), ThreadPoolExecutor(workers) as pool:
            ahead: list[Future[np.ndarray]] = []

            def submit(batch: np.ndarray) -> Future[np.ndarray]:
                return pool.submit(render_batch, self.store.read(batch), self.view, batch.tolist(), self.size_px)

            ahead.extend(submit(batch) for batch in islice(batches, workers + 1))
            while ahead:
                pixels = ahead.pop(0).result()
                ahead.extend(submit(batch) for batch in islice(batches, 1))
                yield pixels


@contextlib.contextmanager
def _one_opencv_thread() -> Iterator[None]:
    import cv2  # noqa: PLC0415 - 160 ms that views of drawings as they are needn't pay

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
