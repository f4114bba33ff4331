"""The feature bank: each (backbone, view, drawing) goes through the network once, and its vector stays on disk.

The key names everything that made a vector: the drawing's bytes, decoding, size, fit, view, the backbone's name, weights
digest, normalisation, arguments and precision. A stale feature is impossible; 100 added drawings cost 100 forwards.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float16, Shaped

from inkfold.progress import Progress, silent
from inkfold.shards import ShardSet
from inkfold.store import ImageStore

if TYPE_CHECKING:
    from inkfold.backbone import Backbone

IDENTITY_VIEW = {"operations": [], "seed": 0, "index": 0}
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
        store: The drawings as the backbone sees them.
    """

    def __init__(self, parent: Path, backbone: dict[str, Any], store: ImageStore) -> None:
        pixels = {name: value for name, value in store.grey.key.items() if name != "channels"}
        key = {"backbone": backbone, "pixels": pixels, "view": IDENTITY_VIEW, "form": 1}
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
        begun, flushed = 0, time.monotonic()
        with keep_freed_memory():
            for start in range(0, len(todo), backbone.batch_size):
                done = min(start + backbone.batch_size, len(todo))
                pending.append(backbone.extract(self.store.read(todo[start:done])))
                progress("features", done, len(todo))
                slow = time.monotonic() - flushed >= SHARD_SECONDS
                if done == len(todo) or done - begun >= SHARD_ROWS or slow:
                    self.shards.append(todo[begun:done], np.concatenate(pending))
                    pending, begun, flushed = [], done, time.monotonic()
