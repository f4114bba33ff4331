"""The pages' statistics on disk: a record of each drawing, by which training chooses how to read pages without decoding any."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from inkfold.images.decode import DEFAULT_PIXEL_LIMIT
from inkfold.images.page import Page
from inkfold.images.preprocess import FITTING_VERSION
from inkfold.images.statistics import STATISTICS, STATISTICS_VERSION, page_statistics
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.pixels import BrokenFile, build_rows
from inkfold.storage.shards import ShardSet


class StatisticsStore:
    """The pages' statistics, found by the digest of the drawing's file.

    Args:
        parent: Directory that holds all sets of statistics.
        pixel_limit: Drawings with more pixels are refused as broken.
    """

    def __init__(self, parent: Path, pixel_limit: int = DEFAULT_PIXEL_LIMIT) -> None:
        self.pixel_limit = pixel_limit
        key = {"statistics": STATISTICS_VERSION, "fitting": FITTING_VERSION, "columns": list(STATISTICS.names or ())}
        self.shards = ShardSet(parent, "page", {**key, "pixel_limit": pixel_limit})

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to other processes without the index, which each of them reads by itself."""
        return StatisticsStore, (self.shards.directory.parent, self.pixel_limit)

    @property
    def directory(self) -> Path:
        """The store's directory."""
        return self.shards.directory

    @property
    def row_bytes(self) -> int:
        """Bytes of a record."""
        return STATISTICS.itemsize

    def create(self) -> None:
        """Create the directory."""
        self.shards.create()

    def lock(self) -> AbstractContextManager[None]:
        """Hold the lock that keeps two runs from computing the same records."""
        return self.shards.lock()

    def missing(self, digests: Shaped[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Read the directory again, and return which drawings have no record."""
        return self.shards.missing(digests)

    def row(self, page: Page) -> Float32[np.ndarray, " columns"]:
        """Compute a page's record, as plain numbers."""
        return page_statistics(page).reshape(1).view(np.float32)

    def append(self, digests: Shaped[np.ndarray, " n"], rows: Sequence[np.ndarray]) -> None:
        """Write the records of some drawings."""
        self.shards.append(digests, np.stack(rows))

    def build(
        self, files: Sequence[str], digests: Shaped[np.ndarray, " n"], progress: Progress = silent, workers: int = 0
    ) -> list[BrokenFile]:
        """Compute the records that are missing; takes, returns and raises the same as `storage.pixels.build_rows`."""
        return build_rows({self: np.ones(len(digests), bool)}, files, digests, progress, workers)

    def read(self, digests: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
        """Read the records of drawings, in the order of the digests.

        Args:
            digests: Digests of drawings that have records.

        Returns:
            An array of `images.statistics.STATISTICS`, whose fields are float32.

        Raises:
            CacheError: If a record is absent.
        """
        if not len(digests):
            return np.empty(0, STATISTICS)
        if not self.shards.present(digests).all():  # written since the directory was last read
            self.shards.look()
        records: np.ndarray = self.shards.read(digests).view(STATISTICS)[:, 0]
        return records

    def blank(self, digests: Shaped[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Return which drawings are blank pages.

        Args:
            digests: Digests of drawings that have records.

        Raises:
            CacheError: If a record is absent.
        """
        blank: np.ndarray = self.read(digests)["blank"] > 0
        return blank
