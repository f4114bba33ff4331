"""Real drawings of a run's own data, to try an exported file on: which, where they lie, and what is known of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Shaped

from inkfold.evaluation.predictions import Predictions
from inkfold.images.decode import BrokenImage, Pixels
from inkfold.images.preprocess import ImageOptions, decode_drawing
from inkfold.pipeline.build import read_again
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_files import OUT_OF_FOLD
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent

CALIBRATION = 256
JUDGED = 2000  # drawings on which a loss of accuracy is measured
MOST_BYTES = 1 << 30  # of decoded pixels at once: 500 scans of 12 megapixels would be 18 GB


@dataclass(frozen=True, slots=True)
class Samples:
    """Drawings, and what is known of them.

    Attributes:
        files: Where they lie.
        targets: True class ids; None where they aren't known.
        folds: The fold that has not seen each; None where no fold has seen any.
    """

    files: Shaped[np.ndarray, " n"]
    targets: Int64[np.ndarray, " n"] | None = None
    folds: Int64[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def some(self, count: int) -> "Samples":
        """Take so many, evenly spread."""
        return self.rows(spread(len(self), count))

    def rows(self, rows: Int64[np.ndarray, " m"]) -> "Samples":
        """Take rows."""
        known = [None if values is None else values[rows] for values in (self.targets, self.folds)]
        return Samples(self.files[rows], *known)

    def decoded(self, image: ImageOptions) -> "tuple[Samples, list[Pixels]]":
        """Decode those that can be read, as the run does; of large pages every second, fourth ... where all would not fit.

        Args:
            image: The run's options.

        Returns:
            Those that were, and their pixels before they are fitted.
        """
        whole: list[int] = []
        pixels: list[Pixels] = []
        step = 1
        for row, file in enumerate(self.files.tolist()):
            if row % step:
                continue
            try:
                pixels.append(decode_drawing(Path(file).read_bytes(), image))
            except (BrokenImage, OSError):
                continue
            whole.append(row)
            while len(whole) > 1 and sum(one.nbytes for one in pixels) > MOST_BYTES:
                step *= 2
                kept = [place for place, one in enumerate(whole) if one % step == 0]
                whole, pixels = [whole[place] for place in kept], [pixels[place] for place in kept]
        return self.rows(np.array(whole, np.int64)), pixels


@dataclass(frozen=True, slots=True)
class Collection:
    """A run's drawings.

    Attributes:
        train: Training drawings, with the fold that has not seen each where one hasn't.
        test: Test drawings; None without any.
    """

    train: Samples
    test: Samples | None

    @property
    def all(self) -> Samples:
        """All that there are, with nothing known of them."""
        parts = [self.train.files] + ([] if self.test is None else [self.test.files])
        return Samples(np.concatenate(parts))

    def apart(self, *, folds: bool) -> tuple[Samples, Samples | None]:
        """Part the drawings to calibrate on from those to judge by.

        Args:
            folds: Whether each training drawing can be judged by the fold that has not seen it.

        Returns:
            Training drawings; and test drawings whose class is known, else other training drawings, else nothing.
        """
        calibration = spread(len(self.train), CALIBRATION)
        if self.test is not None and self.test.targets is not None:
            return self.train.rows(calibration), self.test.some(JUDGED)
        if not folds or self.train.folds is None:
            return self.train.rows(calibration), None
        others = np.setdiff1d(np.flatnonzero(self.train.folds >= 0), calibration)
        return self.train.rows(calibration), self.train.rows(others).some(JUDGED) if len(others) else None


def collect(run: Run, data: str | Path | None = None, progress: Progress = silent) -> Collection:
    """Find a run's drawings.

    Args:
        run: A finished run.
        data: Where they are, if they have moved.
        progress: Told of each thousand files.

    Returns:
        Those that have files.

    Raises:
        PredictionError: If they aren't those that the run learnt from.
        DataError: If the data can't be read any more.
    """
    read = read_again(run, Cost(), progress, data)
    held_out = Predictions.load(run.path / OUT_OF_FOLD)
    assert held_out.folds is not None
    fold_of = dict(zip(held_out.image_paths.tolist(), held_out.folds.tolist(), strict=True))
    folds = np.array([fold_of.get(name, -1) for name in read.dataset.train.image_paths.tolist()], np.int64)
    there = np.flatnonzero(read.train.digests != b"")
    train = Samples(read.train.files, read.dataset.train.targets, folds).rows(there)
    if read.test is None:
        return Collection(train, None)
    test = Samples(read.test.files, read.test_targets)
    return Collection(train, test.rows(np.flatnonzero(read.test.digests != b"")))


def spread(total: int, count: int) -> Int64[np.ndarray, " m"]:
    """Choose rows evenly: so many, or all."""
    return np.unique(np.linspace(0, total - 1, min(total, count)).round().astype(np.int64)) if total else np.zeros(0, np.int64)
