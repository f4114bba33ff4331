"""Drawings on their way to training: read from the pixel store and shown under an epoch's view, ahead of the device.

Which view belongs to a batch travels with it, so a new stage of the curriculum reaches every worker with its first batch.
"""

import contextlib
import threading
import time
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from inkfold.augment.views import View, render_batch
from inkfold.finetune.distributed import processes_here
from inkfold.runtime.parallel import ahead, available_cores
from inkfold.storage.pixels import ImageStore

AHEAD = 2  # batches a worker
MEMORY = 2**30  # B that batches may take that are shown and wait


class DrawingLoader:
    """Shows batches of drawings.

    Args:
        store: Holds the drawings' pixels.
        digests: Of all drawings' bytes.
        size_px: Side of what the network takes.
        workers: Threads; OpenCV works outside of Python's lock. 0 takes one beside a CPU's training, else a core each, the
            machine's cores shared among its processes.
        on_cpu: Whether training runs on the CPU too.
    """

    def __init__(
        self, store: ImageStore, digests: Shaped[np.ndarray, " n"], size_px: int, workers: int = 0, *, on_cpu: bool
    ) -> None:
        self.store, self.digests, self.size_px = store, digests, size_px
        self.workers = workers or (1 if on_cpu else max(1, available_cores() // processes_here()))
        self.waited_s = 0.0
        self._again = partial(DrawingLoader, store, digests, size_px, workers, on_cpu=on_cpu)
        self._lock = threading.Lock()
        store.look()  # whoever decoded them has read their checksums

    def __reduce__(self) -> tuple[Any, ...]:
        """Begin anew in another process, with as many threads as are right there."""
        return self._again, ()

    def batches(self, rows: Sequence[np.ndarray], view: View) -> Generator[UInt8[np.ndarray, "n size size *channels"]]:
        """Show batches in their order.

        Args:
            rows: Of the drawings, a batch each.
            view: How they are shown.

        Yields:
            Their pixels; how long the next one had to be waited for is added to `waited_s`.
        """
        depth = self._depth(max(map(len, rows), default=0))
        shown = ahead(lambda batch: self._show(batch, view), rows, min(self.workers, depth), depth)
        with contextlib.closing(shown):
            while True:
                started = time.perf_counter()
                pixels = next(shown, None)
                self.waited_s += time.perf_counter() - started
                if pixels is None:
                    return
                yield pixels

    def _depth(self, rows: int) -> int:
        """Say how many batches of so many drawings, in colour, may lie ready."""
        return max(2, min(AHEAD * self.workers, MEMORY // max(1, 3 * rows * self.size_px**2)))

    def _show(self, rows: np.ndarray, view: View) -> np.ndarray:
        digests = self.digests[rows]
        with self._lock:
            pixels = self.store.read(digests)
        return render_batch(pixels, view, digests.tolist(), self.size_px)
