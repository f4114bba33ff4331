"""Features of drawings that are in memory: plan, batches and threads are those of the cached path, so the bits are the same."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float16, Shaped

from inkfold.augment.views import View
from inkfold.features.executors import InlineExecutor
from inkfold.features.extractor import Extractor, ViewFeatures, by_settled_view, extract
from inkfold.features.tasks import Chunk, ChunkTracker, Worker, plan_chunks
from inkfold.images.decode import Pixels
from inkfold.images.preprocess import stack_squares
from inkfold.runtime.progress import Progress, silent


class InMemoryExtractor:
    """Computes one backbone's features of drawings in memory, and keeps the backbone from call to call.

    Args:
        extractor: Names the backbone, the image options of the squares, and the device; those beside it are ignored.
        cache: Whether features are taken from the feature bank where it has them, and new ones are stored there. Otherwise
            no file is read or written.
    """

    def __init__(self, extractor: Extractor, *, cache: bool = False) -> None:
        self._job, self._cache = extractor.job(), cache
        self._executor = InlineExecutor(Worker(self._job, self._read, None if cache else self._keep))
        self._squares: Mapping[bytes, Pixels] = {}
        self._rows: dict[tuple[View, bytes], np.ndarray] = {}

    def extract(
        self,
        squares: Mapping[bytes, Pixels],
        digests: Shaped[np.ndarray, " n"],
        views: Sequence[View],
        progress: Progress = silent,
    ) -> list[Float16[np.ndarray, "n d"]]:
        """Compute the features of some drawings.

        Args:
            squares: Every drawing's square of pixels, by its digest.
            digests: Digests of the drawings, at least one; a drawing that occurs several times goes through the backbone once.
            views: Views under which the backbone sees the drawings.
            progress: Called with the number of drawings done, over all views.

        Returns:
            One array for each view, in the order of the digests.
        """
        needed = {view: digests[rows] for view, rows in by_settled_view(digests, views).items()}
        self._squares = squares
        try:
            if self._cache:
                features = ViewFeatures(digests, extract(self._job, needed, self._executor, progress).banks)
                return [features.read(view) for view in views]
            chunks = plan_chunks(self._job, needed)
            self._executor.run(chunks, ChunkTracker(chunks, progress))
            return [self._gather(digests, view) for view in views]
        finally:
            self._squares, self._rows = {}, {}

    def _read(self, digests: np.ndarray) -> np.ndarray:
        return stack_squares([self._squares[drawing] for drawing in digests.tolist()])

    def _keep(self, chunk: Chunk, features: np.ndarray) -> None:
        self._rows.update(((chunk.view, drawing), row) for drawing, row in zip(chunk.drawings, features, strict=True))

    def _gather(self, digests: np.ndarray, view: View) -> np.ndarray:
        names, rows = digests.tolist(), [np.empty(0, np.float16)] * len(digests)
        for settled, places in by_settled_view(digests, [view]).items():
            for place in places.tolist():
                rows[place] = self._rows[settled, names[place]]
        return np.stack(rows)
