"""The lines of drawings, one pixel wide: what thick, thin, pale and photographed strokes of one drawing have in common.

Ink is blurred, cut at a share of its own depth and thinned to its centre lines, on a page whose longer side the ink fills.
Like signatures, lines are kept by the digest of the file's bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, NamedTuple, final

import cv2
import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped, UInt8

from inkfold.data.fingerprints import REACH, SIDE, SignatureStore, refuse_undecodable, splat, without_margins
from inkfold.data.ink_matching import DESCRIPTOR_NUMBERS, descriptors_of
from inkfold.images.decode import DEFAULT_PIXEL_LIMIT
from inkfold.images.page import Page
from inkfold.images.preprocess import FITTING_VERSION
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.pixels import BrokenFile, SingleSetStore, build_rows

LINES_VERSION = 1
LINES_PX = 176  # side of the page of lines: a multiple of 8, as eight pixels are one byte
BLUR_PX = 1.5  # closes the grain of pencils
CUT = 0.3  # of the ink's usual depth: what is fainter is paper
USUAL_PERCENT, FAINTEST = 60, 0.25  # the usual depth is a percentile of what is deeper than a share of the deepest
NEIGHBOUR_BITS = np.array([[128, 1, 2], [64, 0, 4], [32, 16, 8]], np.uint8)  # clockwise from the north
DESCRIBED_AT_ONCE = 4096  # rows of 4 KB
MOST_THIN_STEPS = LINES_PX  # a step takes a pixel off each side: ink is gone long before
BITMAP_BYTES = LINES_PX * LINES_PX // 8
TAIL = np.dtype([("width", "<f4"), ("descriptor", "<f4", (DESCRIPTOR_NUMBERS,))])  # what stands after the bitmap in a row

Lines = Bool[np.ndarray, "176 176"]


class Drawing(NamedTuple):
    """A drawing's lines, and how wide its strokes are.

    Attributes:
        lines: True on the centre lines.
        width_px: Mean width of the strokes in px of the page of lines; 0 without ink.
    """

    lines: Lines
    width_px: float


@final
class LineStore(SingleSetStore):
    """Lines on disk, found by the digest of the drawing's file."""

    name = f"lines-{LINES_PX}"
    made_by: ClassVar = {"lines": LINES_VERSION, "fitting": FITTING_VERSION, "side": LINES_PX}

    @property
    def row_bytes(self) -> int:
        """Bytes of a drawing's lines."""
        return BITMAP_BYTES + TAIL.itemsize

    def row(self, page: Page) -> UInt8[np.ndarray, " bytes"]:
        """Compute a drawing's lines, eight pixels a byte, followed by what `TAIL` says."""
        return pack(find_lines(page.ink()))

    def read(self, digests: Shaped[np.ndarray, " n"]) -> list[Drawing]:
        """Read the lines that `build` has stored."""
        return [unpack(row) for row in self.read_rows(digests)]

    def describe(
        self, digests: Shaped[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " usable"], Float64[np.ndarray, "usable 30"]]:
        """Read the descriptors that no turn and no flip changes: the rows with lines to compare, and theirs."""
        parts = [np.empty((0, DESCRIPTOR_NUMBERS))]
        for start in range(0, len(digests), DESCRIBED_AT_ONCE):
            rows = self.read_rows(digests[start : start + DESCRIBED_AT_ONCE])
            parts.append(_tails(rows)["descriptor"].astype(np.float64))
        descriptors = np.concatenate(parts)
        usable = np.flatnonzero(descriptors.any(axis=1))
        return usable, descriptors[usable]


@dataclass(frozen=True, slots=True)
class CopyStores:
    """What copies of drawings are found by.

    Attributes:
        ink: Store of the drawings' signatures.
        lines: Store of the drawings' lines.
    """

    ink: SignatureStore
    lines: LineStore

    @classmethod
    def open(cls, home: Path, pixel_limit: int = DEFAULT_PIXEL_LIMIT) -> "CopyStores":
        """Open the stores of a cache.

        Args:
            home: inkfold's directory of caches.
            pixel_limit: Drawings with more pixels are refused as broken.
        """
        parent = home / "signatures"
        return cls(SignatureStore(parent, pixel_limit), LineStore(parent, pixel_limit))

    @property
    def both(self) -> tuple[SignatureStore, LineStore]:
        """The two stores, to be built in one look at each drawing."""
        return self.ink, self.lines

    def build(self, files: Sequence[str], digests: Shaped[np.ndarray, " n"], progress: Progress = silent) -> list[BrokenFile]:
        """Compute what is missing, in one look at each drawing; takes, returns and raises the same as `build_rows`."""
        return build_rows(dict.fromkeys(self.both, np.ones(len(digests), bool)), files, digests, progress)

    def build_all(
        self, files: Sequence[str], names: Sequence[str], digests: Shaped[np.ndarray, " n"], progress: Progress = silent
    ) -> None:
        """Compute what is missing of drawings, none of which may be broken: as `SignatureStore.build_all`."""
        refuse_undecodable(self.build(files, digests, progress), names)


def pack(drawing: Drawing) -> UInt8[np.ndarray, " bytes"]:
    """Pack lines, width and descriptor into bytes, as the store keeps them."""
    tail = np.zeros(1, TAIL)
    tail["width"], tail["descriptor"] = drawing.width_px, descriptors_of(sign_lines(drawing)[None])
    return np.concatenate([np.packbits(drawing.lines), tail.view(np.uint8)])


def unpack(row: UInt8[np.ndarray, " bytes"]) -> Drawing:
    """Unpack the lines and the width that `pack` has packed."""
    lines = np.unpackbits(row[:BITMAP_BYTES]).reshape(LINES_PX, LINES_PX).astype(bool)
    return Drawing(lines, float(_tails(row[None])["width"][0]))


def _tails(rows: UInt8[np.ndarray, "n bytes"]) -> np.ndarray:
    """What stands after the bitmap in each row, by `TAIL`."""
    return np.ascontiguousarray(rows[:, BITMAP_BYTES:]).view(TAIL)[:, 0]


def find_lines(ink: UInt8[np.ndarray, "h w"]) -> Drawing:
    """Thin ink to its centre lines, on a page whose longer side it fills.

    Args:
        ink: How far each pixel is from the paper, 0 for paper: `images.preprocess.ink_depth` of a page.

    Returns:
        The lines and the strokes' width; no lines without ink.

    Source: Zhang and Suen, "A fast parallel algorithm for thinning digital patterns", Comm. ACM 27 (1984).
    """
    ink = without_margins(ink)
    factor = (LINES_PX - 4) / max(ink.shape)
    size = [max(1, round(side * factor)) for side in ink.shape[::-1]]
    page = np.zeros((LINES_PX, LINES_PX), np.uint8)
    page[2 : 2 + size[1], 2 : 2 + size[0]] = cv2.resize(
        ink, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )
    soft = cv2.GaussianBlur(page, (0, 0), BLUR_PX)
    counts = np.bincount(soft.ravel(), minlength=256)
    counts[: round(FAINTEST * int(soft.max())) + 1] = 0
    if not counts.any():
        return Drawing(np.zeros(soft.shape, bool), 0.0)
    usual = int(np.searchsorted(np.cumsum(counts), USUAL_PERCENT / 100 * counts.sum()))
    stroke = (soft >= max(1.0, CUT * usual)).astype(np.uint8)
    lines = thin(stroke)
    return Drawing(lines.astype(bool), float(stroke.sum() / max(1, lines.sum())))


def thicken(drawing: Drawing, width_px: float) -> Drawing:
    """Redraw lines in strokes of a width, and thin those again: loops that such strokes fill are gone.

    Args:
        drawing: Centre lines, and the width of the strokes that they were thinned from.
        width_px: The strokes' width, px of the page of lines.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (max(1, round(width_px)),) * 2)
    strokes = cv2.dilate(drawing.lines.astype(np.uint8), kernel)
    lines = thin(strokes)
    return Drawing(lines.astype(bool), float(strokes.sum() / max(1, lines.sum())))


def thin(strokes: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Take pixels off both sides of strokes until they are one pixel wide; see `find_lines` for the source.

    Args:
        strokes: 1 for ink, 0 for paper.

    Returns:
        1 on the lines, which are connected as the strokes are.
    """
    lines = strokes.copy()
    for _ in range(MOST_THIN_STEPS):
        changed = False
        for removable in _removable():
            neighbours = cv2.filter2D(lines, cv2.CV_8U, NEIGHBOUR_BITS, borderType=cv2.BORDER_CONSTANT)
            gone = cv2.LUT(neighbours, removable) & lines
            if cv2.countNonZero(gone):
                lines ^= gone
                changed = True
        if not changed:
            break
    return lines


@cache
def _removable() -> tuple[np.ndarray, np.ndarray]:
    """For the two halves of a step: 1 where a pixel with these eight neighbours, as bits, can go."""
    tables = np.zeros((2, 256), np.uint8)
    for code in range(256):
        around = [code >> bit & 1 for bit in range(8)]
        crossings = sum(around[bit] < around[(bit + 1) % 8] for bit in range(8))
        north, east, south, west = around[::2]
        if crossings == 1 and 2 <= sum(around) <= 6:
            tables[0, code] = not (north and east and south) and not (east and south and west)
            tables[1, code] = not (north and east and west) and not (north and south and west)
    return tables[0], tables[1]


class Points(NamedTuple):
    """A drawing's lines as points.

    Attributes:
        xy: Column and row of each point, px.
        lengths: Length of line that each point stands for, px.
        centre: The lines' centre of mass.
        spread: Root mean square distance from it, px.
    """

    xy: Float64[np.ndarray, "n 2"]
    lengths: Float64[np.ndarray, " n"]
    centre: Float64[np.ndarray, " 2"]
    spread: float

    @property
    def complexity(self) -> float:
        """Length of all lines in spreads: 3.5 for a straight line, 6.3 for a circle; it grows with what there is to compare."""
        return float(self.lengths.sum()) / self.spread if self.spread else 0.0


def line_points(lines: Lines) -> Points:
    """List the points of lines, each with the length that it stands for: half of its links to neighbours."""
    ys, xs = np.nonzero(lines)
    padded = np.pad(lines, 1)

    def line_at(down: int, right: int) -> Bool[np.ndarray, " n"]:
        at: np.ndarray = padded[ys + 1 + down, xs + 1 + right]
        return at

    north, south, west, east = line_at(-1, 0), line_at(1, 0), line_at(0, -1), line_at(0, 1)
    straight = north.astype(np.float64) + south + west + east
    diagonal = np.zeros(len(ys))
    for down, vertical in ((-1, north), (1, south)):
        for right, horizontal in ((-1, west), (1, east)):
            diagonal += line_at(down, right) & ~vertical & ~horizontal  # otherwise the link goes round the corner
    lengths = straight / 2 + diagonal * np.sqrt(0.5)
    xy = np.stack([xs, ys], axis=1).astype(np.float64)
    if not lengths.sum():
        return Points(xy, lengths, np.zeros(2), 0.0)
    centre = lengths @ xy / lengths.sum()
    spread = float(np.sqrt(lengths @ ((xy - centre) ** 2).sum(axis=1) / lengths.sum()))
    return Points(xy, lengths, centre, spread)


def sign_lines(drawing: Drawing) -> UInt8[np.ndarray, "64 64"]:
    """Compute the signature of lines: as that of ink, of strokes that are all equally wide; all zero without lines."""
    points = line_points(drawing.lines)
    if not points.spread:
        return np.zeros((SIDE, SIDE), np.uint8)
    xs, ys = ((points.xy - points.centre) * (SIDE / (2 * REACH * points.spread)) + (SIDE - 1) / 2).T
    square = cv2.GaussianBlur(splat(ys, xs, points.lengths), (0, 0), 1.0)
    signature: np.ndarray = np.rint(square * (255 / square.max())).astype(np.uint8)
    return signature
