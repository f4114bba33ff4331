"""The index of a run's training drawings: from its feature bank and its drawings to the file beside its exported model."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from PIL import Image

from inkfold.augment.views import IDENTITY
from inkfold.ensemble.model import first_run, load_any
from inkfold.images.preprocess import ImageOptions, read_drawing
from inkfold.pipeline.build import read_again
from inkfold.pipeline.prepare import Prepared, decode
from inkfold.report.thumbnails import grey_png
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.serve.nearest import build_nearest, index_path, save_nearest

SIDE_PX = 64
MOST = 16_000  # drawings: at 1,280 features a search then takes 3 ms of one core, or 27 for 16 at once, and the file 40 MB


def write_index(path: str | Path, model: Path, data: str | Path | None = None, progress: Progress = silent) -> Path:
    """Write the index that belongs to an exported model.

    Features are those of the run's first backbone for drawings as they are; they lie in the bank where the run was trained.

    Args:
        path: The finished run or ensemble.
        model: Its exported file, which need not exist.
        data: Where the drawings are, if they have moved.
        progress: Told of each stage.

    Returns:
        The index's file.

    Raises:
        PredictionError: If the drawings aren't those that the run learnt from.
        DataError: If the data can't be read any more.
        WeightsError: If features are missing and the backbone's weights are gone.
    """
    run = first_run(load_any(path), "it has no features. Name a run.")
    extractor, cost = run.seers()[0][0], Cost()
    read = read_again(run, cost, progress, data)
    prepared = decode(read, extractor, run.recipe.data.on_broken, cost, progress, test_views=())
    chosen = _choose(prepared.targets)
    features = extractor.extract(prepared.digests[chosen], cost, progress).read(IDENTITY)
    image = ImageOptions(SIDE_PX, fit=run.recipe.image.fit, invert=run.recipe.image.invert)
    index = build_nearest(features, prepared.targets[chosen], _thumbnails(prepared, chosen, image))
    save_nearest(index_path(model), index)
    return index_path(model)


def _choose(targets: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " k"]:
    """Take as many drawings of each class as fit; their order is by content, so nobody picked them."""
    turn = np.empty(len(targets), np.int64)
    for target in np.unique(targets):
        of_class = np.flatnonzero(targets == target)
        turn[of_class] = np.arange(len(of_class))
    return np.sort(np.argsort(turn, kind="stable")[:MOST])


def _thumbnails(prepared: Prepared, chosen: Int64[np.ndarray, " k"], image: ImageOptions) -> list[bytes]:
    files = prepared.read.train.files[prepared.rows[chosen]]
    return [_png(Path(file), image) for file in files.tolist()]


def _png(file: Path, image: ImageOptions) -> bytes:
    pixels = read_drawing(file.read_bytes(), image)
    if pixels.ndim == 2:
        return grey_png(pixels)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", optimize=True)
    return data.getvalue()
