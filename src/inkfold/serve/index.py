"""The index of a run's training drawings: from its feature bank and its drawings to the file beside its exported model."""

import io
import logging
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from PIL import Image

from inkfold.augment.views import IDENTITY
from inkfold.ensemble.model import first_run, load_run
from inkfold.evaluation.error_analysis import turns_by_class
from inkfold.images.preprocess import ImageOptions, read_drawing
from inkfold.pipeline.build import read_again
from inkfold.pipeline.prepare import Needed, decode
from inkfold.report.thumbnails import grey_png
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.serve.nearest import build_index, index_path, save_index

log = logging.getLogger("inkfold.serve")

SIDE_PX = 64
MAX_DRAWINGS = 16_000  # at 1,280 features a search then takes 3 ms of one core, or 27 for 16 at once, and the file 40 MB


def write_index(path: str | Path, model: Path, data: str | Path | None = None, progress: Progress = silent) -> Path:
    """Write the index of training drawings that belongs to an exported model.

    Its features are the first backbone's, of the drawings without augmentation; the cache has them where the run was trained.

    Args:
        path: Directory of the finished run or ensemble.
        model: The exported file, which need not exist.
        data: Where the drawings are now; None takes the place that the run recorded.
        progress: Called as each stage goes on.

    Raises:
        PredictionError: If the drawings aren't those that the run was trained on.
        DataError: If the data can't be read any more.
        WeightsError: If features are missing and the backbone's weights are gone.
    """
    run = first_run(load_run(path))  # the model's features are its backbone's
    extractor, cost = run.extractors()[0][0], Cost()
    read = read_again(run, cost, progress, data)
    prepared = decode(read, extractor, run.recipe.data, cost, progress, Needed(test_views=()))
    chosen = _choose(prepared.targets)
    log.info("%s: its index holds %d of %d drawings, at most %d", path, len(chosen), len(prepared.targets), MAX_DRAWINGS)
    features = extractor.extract(prepared.digests[chosen], cost, progress).read(IDENTITY)
    read_as = run.extractors()[0][0].image
    image = ImageOptions(size_px=SIDE_PX, resize=read_as.resize, paper=read_as.paper, invert=read_as.invert)
    thumbnails = [_png(Path(file), image) for file in prepared.read.train.files[prepared.rows[chosen]].tolist()]
    index = build_index(features, prepared.targets[chosen], thumbnails)
    save_index(index_path(model), index)
    return index_path(model)


def _choose(targets: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " k"]:
    """Take equally many drawings of each class, as many as fit; their order is by content, so the choice is arbitrary."""
    return np.sort(np.argsort(turns_by_class(targets.tolist()), kind="stable")[:MAX_DRAWINGS])


def _png(file: Path, image: ImageOptions) -> bytes:
    pixels = read_drawing(file.read_bytes(), image)
    if pixels.ndim == 2:
        return grey_png(pixels)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", optimize=True)
    return data.getvalue()
