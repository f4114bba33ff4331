"""Real drawings of a run's own data, on which exported files are checked and line styles measured: files, classes, folds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Shaped

from inkfold.evaluation.predictions import Predictions
from inkfold.images.decode import BrokenImage, Pixels
from inkfold.images.preprocess import ImageOptions, decode_drawing
from inkfold.pipeline.build import read_again
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_files import OUT_OF_FOLD, TEST
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent

CALIBRATION_DRAWINGS = 256
EVALUATION_DRAWINGS = 2000  # at the most, for the loss of accuracy
MAX_DECODED_BYTES = 1 << 30  # at once: 500 scans of 12 megapixels would be 18 GB


@dataclass(frozen=True, slots=True)
class Samples:
    """Drawings' files with their classes and folds.

    Attributes:
        files: Absolute path of each drawing's image file.
        targets: True class ids; None if they aren't known.
        folds: For each drawing, the fold that held it out of training, -1 for none; None if no fold was trained on any.
        groups: Number of each drawing's group; None where nothing is known of groups.
    """

    files: Shaped[np.ndarray, " n"]
    targets: Int64[np.ndarray, " n"] | None = None
    folds: Int64[np.ndarray, " n"] | None = None
    groups: Int64[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def take_evenly(self, count: int) -> "Samples":
        """Select `count` drawings, or all if there are fewer, evenly spread over their order."""
        return self.select(spread(len(self), count))

    def select(self, rows: Int64[np.ndarray, " m"]) -> "Samples":
        """Select drawings by their row numbers."""
        known = (None if values is None else values[rows] for values in (self.targets, self.folds, self.groups))
        return Samples(self.files[rows], *known)

    def decode(self, image: ImageOptions) -> "tuple[Samples, list[Pixels]]":
        """Decode the drawings as the run does, skipping unreadable ones.

        Where all pixels would take more than 1 GiB, only every second, fourth, ... drawing is kept.

        Args:
            image: How the run reads drawings: size, colour, polarity and the like.

        Returns:
            The drawings that were decoded, and their pixels before they are resized.
        """
        rows: list[int] = []
        pixels: list[Pixels] = []
        step = 1
        for row, file in enumerate(self.files.tolist()):
            if row % step:
                continue
            try:
                pixels.append(decode_drawing(Path(file).read_bytes(), image))
            except (BrokenImage, OSError):
                continue
            rows.append(row)
            while len(rows) > 1 and sum(drawing.nbytes for drawing in pixels) > MAX_DECODED_BYTES:
                step *= 2
                kept = [i for i, decoded_row in enumerate(rows) if decoded_row % step == 0]
                rows, pixels = [rows[i] for i in kept], [pixels[i] for i in kept]
        return self.select(np.array(rows, np.int64)), pixels


@dataclass(frozen=True, slots=True)
class RunSamples:
    """The drawings that a run was trained and tested on.

    Attributes:
        train: Training drawings, with the fold that held each out.
        test: Test drawings; None if the data has no test part.
    """

    train: Samples
    test: Samples | None

    @property
    def all(self) -> Samples:
        """Training and test drawings together, without their classes and folds."""
        parts = [self.train.files] + ([] if self.test is None else [self.test.files])
        return Samples(np.concatenate(parts))

    def split_for_calibration(self, *, folds: bool) -> tuple[Samples, Samples | None]:
        """Choose the drawings that quantisation is calibrated on, and others that its accuracy is measured on.

        Args:
            folds: Whether a training drawing can be predicted by the fold that held it out.

        Returns:
            Training drawings for the calibration; for the accuracy the test drawings if their classes are known, otherwise
            other training drawings, otherwise None.
        """
        calibration = spread(len(self.train), CALIBRATION_DRAWINGS)
        if self.test is not None and self.test.targets is not None:
            return self.train.select(calibration), self.test.take_evenly(EVALUATION_DRAWINGS)
        if not folds or self.train.folds is None:
            return self.train.select(calibration), None
        others = np.setdiff1d(np.flatnonzero(self.train.folds >= 0), calibration)
        return self.train.select(calibration), self.train.select(others).take_evenly(EVALUATION_DRAWINGS) if len(
            others
        ) else None


def collect_samples(run: Run, data: str | Path | None = None, progress: Progress = silent) -> RunSamples:
    """Find the drawings that a run was trained and tested on, of those whose files exist.

    Args:
        run: A finished run of one model; its out-of-fold predictions say which fold held a drawing out.
        data: The drawings' present directory; None takes the one that the run was trained on.
        progress: Called after each thousand files.

    Raises:
        PredictionError: If the data isn't what the run was trained on.
        DataError: If the data can't be read.
    """
    read = read_again(run, Cost(), progress, data)
    held_out = Predictions.load(run.path / OUT_OF_FOLD)
    assert held_out.folds is not None
    fold_of = dict(zip(held_out.image_paths.tolist(), held_out.folds.tolist(), strict=True))
    folds = np.array([fold_of.get(name, -1) for name in read.dataset.train.image_paths.tolist()], np.int64)
    readable = np.flatnonzero(read.train.digests != b"")
    groups = _groups_of(held_out, read.dataset.train.image_paths)
    train = Samples(read.train.files, read.dataset.train.targets, folds, groups).select(readable)
    if read.test is None or read.dataset.test is None:
        return RunSamples(train, None)
    tested = Predictions.load(run.path / TEST) if (run.path / TEST).is_file() else None
    groups = None if tested is None else _groups_of(tested, read.dataset.test.image_paths)
    test = Samples(read.test.files, read.dataset.test.targets, groups=groups)
    return RunSamples(train, test.select(np.flatnonzero(read.test.digests != b"")))


def _groups_of(predictions: Predictions, image_paths: Shaped[np.ndarray, " n"]) -> Int64[np.ndarray, " n"] | None:
    """Give the groups of drawings by their paths; a drawing that wasn't predicted is a group of its own."""
    if predictions.groups is None:
        return None
    group_of = dict(zip(predictions.image_paths.tolist(), predictions.groups.tolist(), strict=True))
    return np.array([group_of.get(path, -1 - row) for row, path in enumerate(image_paths.tolist())], np.int64)


def spread(total: int, count: int) -> Int64[np.ndarray, " m"]:
    """Choose `count` row numbers of `total`, or all, evenly spread."""
    return np.unique(np.linspace(0, total - 1, min(total, count)).round().astype(np.int64)) if total else np.zeros(0, np.int64)
