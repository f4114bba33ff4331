"""Predicts held-out drawings that are photographed on paper first and then read from the picture, as the run reads any file.

Pictures are made in memory. Their features go to the feature bank under names of their own: a second time, nothing is computed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float16, Int64, Shaped

from inkfold.augment.photographs import PHOTOGRAPHS_VERSION, photograph
from inkfold.augment.rng import Draws
from inkfold.augment.views import IDENTITY
from inkfold.data.splits import Folds
from inkfold.evaluation.predictions import Predictions
from inkfold.features.extractor import Extractor, refuse_broken
from inkfold.features.in_memory import InMemoryExtractor
from inkfold.images.decode import BrokenImage, Pixels
from inkfold.images.preprocess import ImageOptions, decode_drawing, on_paper, paper_colour, preprocess
from inkfold.pipeline.out_of_fold import FoldFeatures, predict_held_out
from inkfold.pipeline.prepare import Prepared
from inkfold.runtime.cost import Cost
from inkfold.runtime.parallel import map_in_processes
from inkfold.runtime.progress import Progress
from inkfold.storage.hashing import DIGEST_DTYPE, digest
from inkfold.storage.pixels import BrokenFile, missing_file, read_unchanged

if TYPE_CHECKING:
    from inkfold.heads.fit import FittedHeads

MOST = 500  # drawings that are photographed: a tenth of a second each, and a standard error of 0.02
DRAWINGS_PER_TASK = 16
PICTURE_SCALE, LEAST_PX, MOST_PX = 2.5, 320, 800  # longer side of a picture: from the network's input side, within limits

Photographed = tuple[list[tuple[bytes, Pixels]], list[BrokenFile]]


def predict_photographs(
    extractors: Sequence[Extractor],
    prepared: Prepared,
    folds: Folds,
    fitted: "FittedHeads",
    kinds: Sequence[str],
    *,
    cost: Cost,
    progress: Progress,
) -> list[Predictions]:
    """Predict photographs of held-out drawings, each by the fold that held the drawing out.

    Args:
        extractors: The backbone of all folds, or one for each.
        prepared: The training drawings, decoded; held-out ones are taken.
        folds: Which drawings each fold held out.
        fitted: The heads of all folds.
        kinds: Names of `photographs.PHOTOGRAPHS`.
        cost: Forward passes and seconds are added to it.
        progress: Called as pictures are made and predicted.

    Returns:
        Predictions for each kind, of at most 500 drawings, the same ones for all kinds: those with the lowest digests.

    Raises:
        DataError: If a file has changed since it was read.
    """
    folds = _held_out_by_few(folds, MOST)
    rows = np.flatnonzero(folds.measured)
    predictions = []
    for kind in kinds:
        if len(extractors) == 1:
            features = _features(extractors[0], prepared, rows, kind, cost, progress)
            held_out = [features[own[rows]] for own in folds.held_out]
        else:
            own = [(extractor, np.flatnonzero(each)) for extractor, each in zip(extractors, folds.held_out, strict=True)]
            held_out = [_features(extractor, prepared, each, kind, cost, progress) for extractor, each in own]
        shown = FoldFeatures(lambda fold, view, held_out=held_out: held_out[fold], None)  # type: ignore[misc]
        with cost.timed("predict"):
            predictions.append(predict_held_out(shown, prepared, (IDENTITY,), folds, fitted))
    return predictions


def _held_out_by_few(folds: Folds, most: int) -> Folds:
    """Let each fold hold out its share of at most so many drawings, the first ones."""
    few = np.zeros_like(folds.held_out)
    for fold, own in enumerate(folds.held_out):
        few[fold, np.flatnonzero(own)[: max(1, most // len(folds))]] = True
    return Folds(folds.trained_on, few)


def _features(
    extractor: Extractor, prepared: Prepared, rows: Int64[np.ndarray, " n"], kind: str, cost: Cost, progress: Progress
) -> Float16[np.ndarray, "n d"]:
    """Photograph the drawings whose features the bank lacks, and return the features of all."""
    drawings = prepared.digests[rows]
    names = np.array([_name(drawing, kind).encode() for drawing in drawings.tolist()], DIGEST_DTYPE)
    missing = extractor.lacking(names)
    files = prepared.read.train.files[prepared.rows[rows[missing]]].tolist()
    images = dict.fromkeys(part.image for part in extractor.parts)
    with cost.timed("photograph"):
        squares = {image: _take_all(files, drawings[missing], kind, image, progress) for image in images}
    cost.forwards += len(set(names[missing].tolist())) * len(extractor.parts)
    cost.forwards_cached += len(set(names[~missing].tolist())) * len(extractor.parts)
    blocks = []
    with cost.timed("features"):
        for part in extractor.parts:
            pixels = dict(zip(names[missing].tolist(), squares[part.image], strict=True))
            blocks.append(InMemoryExtractor(part, cache=True).extract(pixels, names, (IDENTITY,), progress)[0])
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)


def _name(drawing: bytes, kind: str) -> str:
    return digest(drawing + f"|photograph {PHOTOGRAPHS_VERSION} {kind}".encode())


def _take_all(
    files: Sequence[str], digests: Shaped[np.ndarray, " n"], kind: str, options: ImageOptions, progress: Progress
) -> list[Pixels]:
    parts = [slice(start, start + DRAWINGS_PER_TASK) for start in range(0, len(files), DRAWINGS_PER_TASK)]
    tasks = [(list(files[part]), digests[part], kind, options) for part in parts]
    taken = map_in_processes(_take, tasks, [len(task[0]) for task in tasks], "photographing", progress) if tasks else []
    broken = [(task[0], part[1]) for task, part in zip(tasks, taken, strict=True) if part[1]]
    refuse_broken([("drawing", names, each) for names, each in broken], "error")
    return [square for known, _ in taken for _, square in known]


def _take(files: list[str], digests: Shaped[np.ndarray, " n"], kind: str, options: ImageOptions) -> Photographed:
    """Photograph some drawings and read the pictures to squares."""
    longer = round(min(MOST_PX, max(LEAST_PX, PICTURE_SCALE * options.size_px)))

    def take(data: bytes) -> Pixels:
        picture = photograph(
            _on_white(decode_drawing(data, options), options), kind, Draws(_name(digest(data).encode(), kind).encode()), longer
        )
        return preprocess(picture, options)

    known, broken = [], []
    for index, (file, expected) in enumerate(zip(files, digests.tolist(), strict=True)):
        try:
            known.append((expected, take(read_unchanged(file, expected))))
        except BrokenImage as error:
            broken.append(BrokenFile(index, error.kind, str(error)))
        except OSError as error:
            broken.append(missing_file(index, error))
    return known, broken


def _on_white(pixels: Pixels, options: ImageOptions) -> Pixels:
    """Turn a page to dark ink on white, whatever its paper: what the paper's own colour is has no ink."""
    page = on_paper(pixels, options.model_copy(update={"invert": "auto"}))
    white: Pixels = np.minimum(page.astype(np.uint16) * 255 // np.maximum(paper_colour(page), 1), 255).astype(np.uint8)
    return white
