"""Loads batches of drawings for training: pixels from the store, rendered under an epoch's view by threads ahead of the device.

The view is passed along with each batch, so a new stage of the curriculum reaches every worker with its first batch.
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

AHEAD = 2  # batches per worker
MEMORY = 2**30  # B that rendered batches may take while they wait


class DrawingLoader:
    """Loads batches of drawings in the order in which they are trained on.

    Args:
        store: The store with the drawings' pixels.
        digests: Digests of all drawings' bytes, under which their pixels are stored.
        size_px: Side of the squares that the network takes, in px.
        workers: Number of threads; OpenCV works outside of Python's lock. 0 takes one where training needs the CPU itself, else
            this process's share of the machine's cores.
        on_cpu: Whether training runs on the CPU too.

    Attributes:
        waited_s: Seconds that training waited for drawings.
    """

    def __init__(
        self, store: ImageStore, digests: Shaped[np.ndarray, " n"], size_px: int, workers: int = 0, *, on_cpu: bool
    ) -> None:
        self.store, self.digests, self.size_px = store, digests, size_px
        self.workers = workers or (1 if on_cpu else max(1, available_cores() // processes_here()))
        self.waited_s = 0.0
        self._again = partial(DrawingLoader, store, digests, size_px, workers, on_cpu=on_cpu)
        self._lock = threading.Lock()
        store.look()  # checksums were read when the drawings were decoded

    def __reduce__(self) -> tuple[Any, ...]:
        """Build a new loader when unpickled in another process, with as many threads as suit that one."""
        return self._again, ()

    def batches(self, rows: Sequence[np.ndarray], view: View) -> Generator[UInt8[np.ndarray, "n size size *channels"]]:
        """Load batches of drawings, rendered under one view, in the order of their rows.

        Args:
            rows: Rows of the drawings of each batch.
            view: The view that all of them are rendered under.

        Yields:
            The pixels of a batch; the time that the caller waits for the next one is added to `waited_s`.
        """
        depth = self._depth(max(map(len, rows), default=0))
        rendered = ahead(lambda batch: self._render(batch, view), rows, min(self.workers, depth), depth)
        with contextlib.closing(rendered):
            while True:
                started = time.perf_counter()
                pixels = next(rendered, None)
                self.waited_s += time.perf_counter() - started
                if pixels is None:
                    return
                yield pixels

    def _depth(self, rows: int) -> int:
        """Return how many batches of so many drawings, in colour, may wait at once."""
        return max(2, min(AHEAD * self.workers, MEMORY // max(1, 3 * rows * self.size_px**2)))

    def _render(self, rows: np.ndarray, view: View) -> np.ndarray:
        digests = self.digests[rows]
        with self._lock:
            pixels = self.store.read(digests)
        return render_batch(pixels, view, digests.tolist(), self.size_px)
