"""Predicts drawings by each fold of finished runs: one path for all forms of drawings, and for runs and ensembles.

Each drawing is read once, in batches of bounded size, and leaves nothing behind unless the caller wants its features cached.
Its probabilities depend on no other drawing and on no batch: backbones and heads take rows in steps that never change.
"""

import logging
import os
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float32, Int64

from inkfold.data.blank import shorten
from inkfold.data.from_memory import Drawing, DrawingSource, draw, read_drawings
from inkfold.errors import DataError
from inkfold.features.extractor import Extractor, refuse_broken
from inkfold.features.in_memory import InMemoryExtractor
from inkfold.images.blank import is_blank
from inkfold.images.decode import BrokenImage, Pixels, settle_colour
from inkfold.images.page import Page
from inkfold.images.preprocess import ImageOptions, preprocess, square_of
from inkfold.runtime.parallel import ahead, available_cores
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.hashing import DIGEST_DTYPE, digest
from inkfold.storage.pixels import BrokenFile, missing_file

if TYPE_CHECKING:
    from inkfold.pipeline.run import Run

log = logging.getLogger("inkfold.pipeline")

# Drawings in a batch; as many of the next one are read meanwhile. 256 MB are 1,783 coloured drawings of 224 px.
BATCH_ROWS, BATCH_BYTES = 4096, 256 << 20
PENDING_PER_WORKER = 16  # drawings that are held as they were given: 12 megapixels in colour are 36 MB
KEPT_WEIGHTS_BYTES = 2 << 30  # backbones of more weights are built again for each batch, one in memory at a time

Square = tuple[bytes, Pixels]  # the digest, of the file or of an array's square, decides its random views


class DrawsStrokes(Protocol):
    """A model that knows in which line style strokes are drawn for it."""

    @property
    def look(self) -> Mapping[str, Any]:
        """The line style, from `images.line_style.measure_line_style`."""


@dataclass(frozen=True, slots=True)
class ReadDrawing:
    """A drawing that was read once.

    Attributes:
        name: The path of a file, else its place, for messages.
        squares: For each of the image options a digest and the square, or why there is none.
        blank: Whether its page is blank.
    """

    name: str
    squares: list[Square | BrokenFile]
    blank: bool = False


def predict_folds(
    runs: Sequence["Run"],
    images: Any,
    progress: Progress = silent,
    on_broken: str = "error",
    *,
    cache: bool = False,
    blank: list[int] | None = None,
) -> list[Float32[np.ndarray, "folds n classes"]]:
    """Predict drawings with every fold of every run.

    Args:
        runs: Finished runs, at least one. Each drawing is read once for all of them.
        images: Drawings in any form that `data.from_memory.read_drawings` takes, generators among them.
        progress: Called with the number of forward passes done; the total of a generator grows with what was read of it.
        on_broken: `error` raises an error when all drawings have been read; `skip` leaves rows of NaN.
        cache: Whether features are looked up in the feature bank and stored there.
        blank: A list to which the row numbers of drawings without ink are added, from 0; None if nobody asks. They are
            predicted like the others, and their answers mean nothing.

    Returns:
        For each run, class probabilities by fold; rows of NaN for drawings that can't be read.

    Raises:
        DataError: With every drawing that can't be read, or the first thing that isn't a drawing.
        WeightsError: If a backbone's weights are missing or have changed.
    """
    source = read_drawings(images, what="images")
    if source.count == 0:
        return [np.empty((len(run.folds), 0, len(run.classes_)), np.float32) for run in runs]
    predictors = [_RunPredictor(run, cache=cache) for run in runs]
    options = list(dict.fromkeys(image for predictor in predictors for image in predictor.images))
    rows = _batch_rows(predictors, options)
    is_large = source.count is None or source.count > rows
    keep = is_large and sum(map(_weights_bytes, predictors)) <= KEPT_WEIGHTS_BYTES
    forwards = _ForwardCounter(progress, source.count, sum(predictor.forwards for predictor in predictors))
    amount = "drawings" if source.count is None else f"{source.count} drawings"
    log.info("predicting %s, %d at a time, %s the cache", amount, rows, "with" if cache else "without")
    broken, blank_rows, read = dict[int, tuple[str, BrokenFile]](), dict[int, str](), 0
    with closing(read_ahead(source, options, rows, runs[0])) as drawings:
        while batch := list(islice(drawings, rows)):
            broken |= {row: (one.name, fault) for row, one in enumerate(batch, read) if (fault := broken_part(one)) is not None}
            blank_rows |= {row: one.name for row, one in enumerate(batch, read) if one.blank}
            forwards.expect(read + len(batch))
            if not broken or on_broken != "error":  # else only the other broken drawings are of interest
                for predictor in predictors:
                    predictor.predict(read, _squares_of(batch, predictor.images, options), forwards, keep=keep)
            read += len(batch)
            del batch  # before the next one is gathered: no more than two batches are in memory
    names = {row: name for row, (name, _) in broken.items()}
    refuse_broken([("drawing", names, [fault for _, fault in broken.values()])], on_broken, "on_broken")
    if blank is not None:
        blank += blank_rows
    elif blank_rows:
        log.warning("%d blank drawing(s), whose answers mean nothing: %s", len(blank_rows), shorten([*blank_rows.values()]))
    return [predictor.finish(read) for predictor in predictors]


def read_ahead(
    source: DrawingSource, options: Sequence[ImageOptions], rows: int, model: "DrawsStrokes"
) -> Generator[ReadDrawing, None, None]:
    """Read drawings in threads, a batch ahead; of those that are in memory, a few at once are held as they were given.

    Args:
        source: The drawings.
        options: How each of them becomes squares.
        rows: Number of drawings in a batch.
        model: Says in which line style strokes are drawn.
    """
    workers = min(available_cores(), source.count or available_cores())
    room = threading.Semaphore(PENDING_PER_WORKER * workers)

    def tasks() -> Iterator[tuple[int, Drawing, Any]]:
        for index, drawing in enumerate(source):
            room.acquire()  # until a thread has made the squares of an earlier one
            yield index, drawing, model.look if _is_strokes(drawing) else None

    def read(task: tuple[int, Drawing, Any]) -> ReadDrawing:
        try:
            return _read(*task, options)
        finally:
            room.release()

    yield from ahead(read, tasks(), workers, rows)


def _is_strokes(drawing: Drawing) -> bool:
    return not isinstance(drawing.content, str | bytes | np.ndarray | BrokenImage)


def read_squares(image: Any, options: Sequence[ImageOptions], run: "Run") -> tuple[list[Pixels], bool]:
    """Read one drawing as prediction does.

    Args:
        image: One drawing in any form that `data.from_memory.read_drawings` takes.
        options: How it becomes squares.
        run: The run in whose training drawings' line style strokes are drawn.

    Returns:
        A square for each of the options, and whether the page is blank.

    Raises:
        DataError: If it can't be read, or isn't a single drawing.
    """
    drawings = [*islice(read_drawings(image, what="drawing"), 2)]
    if len(drawings) != 1:
        raise DataError(f"drawing: got {'several drawings' if drawings else 'none'}, expected one.")
    drawing = _read(0, drawings[0], run.look if _is_strokes(drawings[0]) else None, options)
    if (broken := broken_part(drawing)) is not None:
        refuse_broken([("drawing", {0: drawing.name}, [broken])], "error", "on_broken")
    return [one[1] for one in drawing.squares if not isinstance(one, BrokenFile)], drawing.blank


def thumbnail(drawing: Drawing, run: "Run", side_px: int = 64) -> Pixels | None:
    """Make a small square of a drawing as a run reads it, for people to look at; None if it can't be read."""
    own = options_of([run])[0]
    option = ImageOptions(size_px=side_px, resize=own.resize, paper=own.paper, invert=own.invert)
    made = _read(0, drawing, run.look if _is_strokes(drawing) else None, [option]).squares[0]
    return None if isinstance(made, BrokenFile) else made[1]


def read_as_squares(index: int, drawing: Drawing, options: Sequence[ImageOptions]) -> list[Square | BrokenFile]:
    """Read a drawing once: for each of the options its digest and its square, or why there is none."""
    return _read(index, drawing, None, options).squares


def predict_squares(
    runs: Sequence["Run"], squares: Mapping[ImageOptions, Sequence[Pixels]], progress: Progress = silent
) -> list[Float32[np.ndarray, "folds n classes"]]:
    """Predict drawings that are squares already, with every fold of every run.

    Args:
        runs: Finished runs, at least one.
        squares: For each of the image options of the runs' backbones, the squares of the same drawings in the same order.
        progress: Called with the number of forward passes done.

    Returns:
        For each run, class probabilities by fold; those that `predict_folds` gives for drawings of these squares.

    Raises:
        WeightsError: If a backbone's weights are missing or have changed.
    """
    count = len(next(iter(squares.values())))
    predictors = [_RunPredictor(run, cache=False) for run in runs]
    forwards = _ForwardCounter(progress, count, sum(predictor.forwards for predictor in predictors))
    named = {image: [(digest(made.tobytes()).encode(), made) for made in own] for image, own in squares.items()}
    for predictor in predictors:
        predictor.predict(0, {image: named[image] for image in predictor.images}, forwards, keep=False)
    return [predictor.finish(count) for predictor in predictors]


def options_of(runs: Sequence["Run"]) -> list[ImageOptions]:
    """List the ways in which the runs' backbones take drawings as squares, each once."""
    extractors = [run.extractors(remember=False)[0][0] for run in runs]
    return list(dict.fromkeys(part.image for extractor in extractors for part in extractor.parts))


def _squares_of(
    batch: Sequence[ReadDrawing], images: Sequence[ImageOptions], options: Sequence[ImageOptions]
) -> dict[ImageOptions, list[Square | BrokenFile]]:
    """Return a batch's squares by the image options that a run needs."""
    return {image: [drawing.squares[options.index(image)] for drawing in batch] for image in images}


class _RunPredictor:
    """Gathers one run's probabilities, batch by batch."""

    def __init__(self, run: "Run", *, cache: bool) -> None:
        self.views, self.extractors = run.views, run.extractors(remember=cache)
        self.images = tuple(dict.fromkeys(part.image for part in self.extractors[0][0].parts))
        self._probs = _Probabilities(len(run.folds), len(run.classes_))
        self._cache, self._backbones = cache, dict[tuple[int, int], InMemoryExtractor]()
        self._heads = [_StepwiseHeads(run, folds, self._probs) for _, folds in self.extractors]

    @property
    def forwards(self) -> int:
        """Number of forward passes for each drawing."""
        return sum(len(extractor.parts) for extractor, _ in self.extractors) * len(self.views)

    def predict(
        self,
        start: int,
        squares: Mapping[ImageOptions, Sequence[Square | BrokenFile]],
        forwards: "_ForwardCounter",
        *,
        keep: bool,
    ) -> None:
        """Predict the batch that begins with drawing number `start`; `keep` holds the backbones for the next batch."""
        whole = {image: [one for one in made if not isinstance(one, BrokenFile)] for image, made in squares.items()}
        first = squares[self.images[0]]
        rows = np.array([row for row, square in enumerate(first, start) if not isinstance(square, BrokenFile)], np.int64)
        for number, (extractor, _) in enumerate(self.extractors):
            parts = []
            for place, part in enumerate(extractor.parts):
                if len(rows):
                    parts.append(self._features((number, place), part, whole[part.image], forwards, keep=keep))
                forwards.add(len(first) * len(self.views))
            if parts:
                joined = [np.concatenate(blocks, axis=1) for blocks in zip(*parts, strict=True)]
                self._heads[number].predict(rows, parts[0] if len(parts) == 1 else joined)

    def _features(
        self, place: tuple[int, int], part: Extractor, squares: Sequence[Square], forwards: "_ForwardCounter", *, keep: bool
    ) -> list[np.ndarray]:
        """Compute one backbone's features of drawings under each view."""
        backbone = self._backbones.get(place) or InMemoryExtractor(part, cache=self._cache)
        if keep:
            self._backbones[place] = backbone
        digests = np.array([name for name, _ in squares], DIGEST_DTYPE)
        return backbone.extract(dict(squares), digests, self.views, forwards.report)

    def finish(self, count: int) -> Float32[np.ndarray, "folds n classes"]:
        """Predict the drawings that wait for a whole step, and return the probabilities of `count` drawings."""
        for heads in self._heads:
            heads.finish()
        return self._probs.first(count)


class _Probabilities:
    """Probabilities of as many drawings as come: rows of NaN where none were set."""

    def __init__(self, folds: int, classes: int) -> None:
        self._values = np.full((folds, 0, classes), np.nan, np.float32)

    def set(self, fold: int, rows: Int64[np.ndarray, " m"], probs: Float32[np.ndarray, "m classes"]) -> None:
        """Set a fold's probabilities of some drawings."""
        self._reserve(int(rows.max()) + 1)
        self._values[fold, rows] = probs

    def first(self, count: int) -> Float32[np.ndarray, "folds n classes"]:
        """Return the probabilities of the first drawings."""
        self._reserve(count)
        return self._values if self._values.shape[1] == count else self._values[:, :count].copy()

    def _reserve(self, count: int) -> None:
        folds, reserved, classes = self._values.shape
        if count > reserved:
            wider = np.full((folds, max(count, reserved * 3 // 2), classes), np.nan, np.float32)
            wider[:, :reserved] = self._values
            self._values = wider


class _ForwardCounter:
    """Counts the forward passes over all batches and backbones.

    Args:
        progress: Receives the passes that are done and their total.
        count: Number of drawings; None as long as it isn't known.
        passes: Forward passes for each drawing.
    """

    def __init__(self, progress: Progress, count: int | None, passes: int) -> None:
        self._progress, self._done, self._reported = progress, 0, 0
        self._is_known, self._passes, self._total = count is not None, passes, (count or 0) * passes

    def expect(self, count: int) -> None:
        """Note that there are so many drawings at least."""
        if not self._is_known:
            self._total = count * self._passes

    def report(self, stage: str, done: int, total: int) -> None:
        """Report the forward passes that a backbone has done of its batch."""
        self._reported = self._done + done
        self._progress("predicting", self._reported, self._total)

    def add(self, count: int) -> None:
        """Count the forward passes of a batch that a backbone has done."""
        self._done += count
        if self._reported < self._done:  # drawings that were equal, broken or in the cache
            self.report("predicting", 0, 0)


class _StepwiseHeads:
    """The heads of some folds. They take features in whole steps wherever batches end: steps decide the last bits."""

    def __init__(self, run: "Run", folds: Sequence[int], probs: _Probabilities) -> None:
        self._run, self._probs = run, probs
        self._steps = {fold: run.rows_at_once(fold) for fold in folds}
        self._predicted, self._dropped = dict.fromkeys(folds, 0), 0
        self._rows, self._features = np.empty(0, np.int64), list[np.ndarray]()

    def predict(self, rows: np.ndarray, features: Sequence[np.ndarray]) -> None:
        """Add the features of drawings with these row numbers, an array for each view, and predict the whole steps."""
        self._rows = np.concatenate([self._rows, rows])
        waiting = self._features or [view[:0] for view in features]
        self._features = [np.concatenate(pair) for pair in zip(waiting, features, strict=True)]
        received = self._dropped + len(self._rows)
        self._predict_until({fold: received // step * step for fold, step in self._steps.items()})

    def finish(self) -> None:
        """Predict the drawings that are left."""
        self._predict_until(dict.fromkeys(self._steps, self._dropped + len(self._rows)))

    def _predict_until(self, ends: Mapping[int, int]) -> None:
        for fold, end in ends.items():
            ready = slice(self._predicted[fold] - self._dropped, end - self._dropped)
            if end > self._predicted[fold]:
                probs = self._run.fold_probs([view[ready] for view in self._features], fold)
                self._probs.set(fold, self._rows[ready], probs)
                self._predicted[fold] = end
        done = min(self._predicted.values()) - self._dropped
        self._rows = self._rows[done:]
        self._features = [view[done:] for view in self._features]
        self._dropped += done


def _batch_rows(predictors: Sequence[_RunPredictor], options: Sequence[ImageOptions]) -> int:
    """Compute how many drawings a batch has: whole forward passes."""
    batch_size = max(part.job().batch_size for predictor in predictors for part in predictor.extractors[0][0].parts)
    rows = min(BATCH_ROWS, BATCH_BYTES // sum(3 * image.size_px**2 for image in options))
    return max(1, rows // batch_size) * batch_size


def _weights_bytes(predictor: _RunPredictor) -> int:
    parts = [part for extractor, _ in predictor.extractors for part in extractor.parts]
    files = [part.backbone.weights_file or os.devnull for part in parts]
    return sum(Path(file).stat().st_size for file in files)


def broken_part(drawing: ReadDrawing) -> BrokenFile | None:
    """Return why a drawing can't be read; None for one that can."""
    return next((square for square in drawing.squares if isinstance(square, BrokenFile)), None)


def _read(index: int, drawing: Drawing, look: Mapping[str, Any] | None, options: Sequence[ImageOptions]) -> ReadDrawing:
    """Read and decode a drawing once, and make a square for each of the image options."""
    name, content = drawing.name, drawing.content
    if isinstance(content, BrokenImage):
        return ReadDrawing(name, [BrokenFile(index, content.kind, str(content))] * len(options))
    if not isinstance(content, str | bytes):
        pixels = content if isinstance(content, np.ndarray) else draw(content, look)
        made = [preprocess(pixels, option) for option in options]
        return ReadDrawing(name, [(digest(square.tobytes()).encode(), square) for square in made], _is_blank(pixels))
    try:
        data = content if isinstance(content, bytes) else Path(content).read_bytes()
    except OSError as error:
        return ReadDrawing(name, [missing_file(index, error)] * len(options))
    key = digest(data).encode()
    pages = {limit: Page(data, limit) for limit in dict.fromkeys(option.pixel_limit for option in options)}
    squares = [_square(pages[option.pixel_limit], key, index, option) for option in options]
    whole = [pages[option.pixel_limit] for option, square in zip(options, squares, strict=True) if isinstance(square, tuple)]
    return ReadDrawing(name, squares, bool(whole) and is_blank(whole[0].pixels()))


def _is_blank(pixels: Pixels) -> bool:
    return is_blank(settle_colour(pixels, "auto"))


def _square(page: Page, name: bytes, index: int, options: ImageOptions) -> Square | BrokenFile:
    try:
        return name, square_of(page, options)
    except BrokenImage as error:
        return BrokenFile(index, error.kind, str(error))
