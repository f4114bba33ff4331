"""Signatures of drawings, which resizing, re-encoding and another page don't change.

A signature is the ink, centred on its centre of mass and scaled by its spread, as a square of 64 x 64. A turned or mirrored
copy's signature is the turned or mirrored signature. Signatures are kept by the digest of the
file's bytes: a second look at the same drawings decodes nothing.
"""

import logging
from collections.abc import Sequence
from typing import ClassVar, final

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

from inkfold.errors import DataError, Problem
from inkfold.images.decode import Pixels
from inkfold.images.page import Page
from inkfold.images.preprocess import FITTING_VERSION, ink_depth, paper_colour
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.pixels import BrokenFile, SingleSetStore

log = logging.getLogger("inkfold.data")

SIGNATURE_VERSION = 3
SIDE = 64
REACH = 2.5  # spreads from the centre to the signature's edge; a straight line ends at 1.7
FEWEST_SPREAD_PX = 20.0  # ink that is spread over less is enlarged first
MOST_SIDE_PX = 256  # larger ink is reduced: a signature's cell is then about five pixels wide
CHUNK = 512
LEAST_INK_PX = 12
LEAST_SPREAD_PX = 2.0
LEAST_ROUNDNESS = 0.001


@final
class SignatureStore(SingleSetStore):
    """Signatures on disk, found by the digest of the drawing's file."""

    name = f"ink-{SIDE}"
    made_by: ClassVar = {"signature": SIGNATURE_VERSION, "fitting": FITTING_VERSION, "side": SIDE}

    @property
    def row_bytes(self) -> int:
        """Bytes of a signature."""
        return SIDE**2

    def row(self, page: Page) -> UInt8[np.ndarray, "64 64"]:
        """Compute a drawing's signature."""
        return sign_ink(page.ink())

    def build_all(
        self, files: Sequence[str], names: Sequence[str], digests: Shaped[np.ndarray, " n"], progress: Progress = silent
    ) -> None:
        """Compute the missing signatures of training drawings, none of which may be broken.

        Args:
            files: Absolute paths of the drawings.
            names: The drawings' paths in the table, for messages.
            digests: Digests of the files' bytes; empty for unreadable files.
            progress: Called after each chunk.

        Raises:
            DataError: If drawings can't be decoded; all are reported together.
            CacheError: If the disk is full, or a worker was killed.
        """
        refuse_undecodable(self.build(files, digests, progress), names)

    def count_unusable(self, digests: Shaped[np.ndarray, " n"]) -> int:
        """Count the drawings with too little ink to compare."""
        parts = np.array_split(digests, -(-len(digests) // CHUNK)) if len(digests) else []
        return sum(int((~self.read(part).any(axis=(1, 2))).sum()) for part in parts)

    def read(self, digests: Shaped[np.ndarray, " n"]) -> UInt8[np.ndarray, "n 64 64"]:
        """Read signatures that `build` has stored."""
        return self.read_rows(digests)


def refuse_undecodable(broken: Sequence[BrokenFile], names: Sequence[str]) -> None:
    """Report drawings that were decoded before and can't be decoded now.

    Args:
        broken: The drawings, by their place in `names`.
        names: The drawings' paths in the table, for messages.

    Raises:
        DataError: If there are any; all are reported together.
    """
    if broken:
        raise DataError([Problem(f"broken_{file.kind}", f"train {names[file.index]}", file.message) for file in broken])


def sign(pixels: Pixels) -> UInt8[np.ndarray, "64 64"]:
    """Compute a drawing's signature: its ink, centred and scaled.

    Args:
        pixels: (h, w), or (h, w, 3) in RGB; any colours, on any paper.

    Returns:
        Ink in 0..255; all zero if there is too little to tell drawings apart: a blank page, a dot, a straight line.
    """
    return sign_ink(ink_depth(pixels, paper_colour(pixels)))


def sign_ink(ink: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "64 64"]:
    """Compute the signature of ink, as `sign` does of a page.

    Args:
        ink: How far each pixel is from the paper, 0 for paper: `images.preprocess.ink_depth` of a page.

    Returns:
        Ink in 0..255; all zero if there is too little to tell drawings apart.
    """
    ink = without_margins(ink)
    if max(ink.shape) > MOST_SIDE_PX:
        ink = _scaled(ink, MOST_SIDE_PX / max(ink.shape), cv2.INTER_AREA)
    ys, xs, depths = _inked(ink)
    blank = np.zeros((SIDE, SIDE), np.uint8)
    if len(ys) < LEAST_INK_PX:
        return blank
    y, x, spread, round_by = moments(ys, xs, depths)
    if spread < LEAST_SPREAD_PX or round_by < LEAST_ROUNDNESS:
        return blank
    if spread < FEWEST_SPREAD_PX:
        part = np.pad(ink[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1], 1)
        ys, xs, depths = _inked(_scaled(part, FEWEST_SPREAD_PX / spread, cv2.INTER_LINEAR))
        y, x, spread, _ = moments(ys, xs, depths)
    scale = SIDE / (2 * REACH * spread)
    square = splat((ys - y) * scale + (SIDE - 1) / 2, (xs - x) * scale + (SIDE - 1) / 2, depths)
    signature: np.ndarray = np.rint(square * (255 / square.max())).astype(np.uint8)
    return signature


def without_margins(ink: np.ndarray) -> np.ndarray:
    """Cut away the rows and columns without ink; a page without any keeps its first pixel."""
    left, top, width, height = cv2.boundingRect(ink)
    return ink[top : top + max(1, height), left : left + max(1, width)]


def _inked(ink: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and depths of what isn't paper; np.nonzero takes ten times as long."""
    flat = ink.ravel()
    inked = np.flatnonzero(flat != 0)
    ys, xs = np.divmod(inked.astype(np.int32), np.int32(ink.shape[1]))
    return ys, xs, flat[inked].astype(np.float32)


def _scaled(ink: np.ndarray, factor: float, interpolation: int) -> np.ndarray:
    height, width = ink.shape
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(ink, size, interpolation=interpolation)


def moments(
    ys: Shaped[np.ndarray, " n"], xs: Shaped[np.ndarray, " n"], depths: Shaped[np.ndarray, " n"]
) -> tuple[float, float, float, float]:
    """Compute the moments of the ink.

    Args:
        ys: Row of each pixel with ink, from 0 at the top.
        xs: Column of each pixel with ink, from 0 at the left.
        depths: Depth of the ink of each pixel, above 0.

    Returns:
        Row and column of the centre of mass, the root mean square distance from it, and roundness: the ratio of the
        covariance's eigenvalues, 0 for a straight line and 1 for a circle.
    """
    weights = depths.astype(np.float64) / depths.sum(dtype=np.float64)
    y, x = float(weights @ ys), float(weights @ xs)
    dy, dx = ys - y, xs - x
    yy, xx, yx = float(weights @ dy**2), float(weights @ dx**2), float(weights @ (dy * dx))
    trace = yy + xx
    root = np.sqrt((yy - xx) ** 2 + 4 * yx**2)
    return y, x, float(np.sqrt(trace)), float((trace - root) / (trace + root)) if trace else 0.0


def splat(ys: np.ndarray, xs: np.ndarray, depths: np.ndarray) -> np.ndarray:
    """Distribute each pixel's ink over the four cells around its position."""
    square = np.zeros((SIDE + 2) * (SIDE + 2))
    inside = (ys > -1) & (ys < SIDE) & (xs > -1) & (xs < SIDE)
    ys, xs, depths = ys[inside] + 1, xs[inside] + 1, depths[inside]
    rows, columns = ys.astype(np.int64), xs.astype(np.int64)
    down, right = ys - rows, xs - columns
    for row, column, share in (
        (0, 0, (1 - down) * (1 - right)),
        (0, 1, (1 - down) * right),
        (1, 0, down * (1 - right)),
        (1, 1, down * right),
    ):
        square += np.bincount((rows + row) * (SIDE + 2) + columns + column, depths * share, len(square))
    return square.reshape(SIDE + 2, SIDE + 2)[1:-1, 1:-1]
