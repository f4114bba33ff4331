"""The pages' statistics on disk: a record of each drawing, by which training chooses how to read pages without decoding any."""

from typing import ClassVar, final

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from inkfold.images.page import Page
from inkfold.images.preprocess import FITTING_VERSION
from inkfold.images.statistics import STATISTICS, STATISTICS_VERSION, page_statistics
from inkfold.storage.pixels import SingleSetStore


@final
class StatisticsStore(SingleSetStore):
    """The pages' statistics, found by the digest of the drawing's file."""

    name = "page"
    made_by: ClassVar = {"statistics": STATISTICS_VERSION, "fitting": FITTING_VERSION, "columns": list(STATISTICS.names or ())}

    @property
    def row_bytes(self) -> int:
        """Bytes of a record."""
        return STATISTICS.itemsize

    def row(self, page: Page) -> Float32[np.ndarray, " columns"]:
        """Compute a page's record, as plain numbers."""
        return page_statistics(page).reshape(1).view(np.float32)

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
        records: np.ndarray = self.read_rows(digests).view(STATISTICS)[:, 0]
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
