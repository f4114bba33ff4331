"""Finds the part of a page that the drawing fills: specks, a scanner's borders, punched holes and stamps are no part of it.

The page is divided into at most 64 x 64 square cells, and cells with ink that touch each other are one component. All rules
compare whole numbers, which an ONNX graph counts in the same way (`export.crop_graph`), so that an exported file crops as
training did. In doubt a component is kept: a page that stays too large costs less than a drawing that is cut.
"""

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from jaxtyping import Bool, Int64, UInt8

GRID = 64
MOST_CONTRAST, LEAST_CONTRAST = 32, 12  # levels: ink is at least half as deep as the deepest pixel, within these limits
SURROUND_PERCENT = 97  # of the page's outermost pixels: a scanner's lid or a table lies around the page

# In percent of the page's longer side (gaps, bands, sides), of the largest component's area, or of all ink.
SPECK_AREA, SPECK_GAP, SPECKS_IN_ALL = 1, 5, 5  # more specks than that are drops, stars or snow
STRIP_BAND, STRIP_GAP = 8, 8
MARGIN_BAND, MARGIN_GAP, MARGIN_AREA, MARGINS_IN_ALL = 15, 8, 15, 25
HOLE_BAND, HOLE_GAP, HOLE_SIDE, HOLE_FILLED = 14, 2, 7, 35

Box: TypeAlias = tuple[int, int, int, int]
PerComponent: TypeAlias = Int64[np.ndarray, " components"]
Chosen: TypeAlias = Bool[np.ndarray, " components"]


def find_ink_box(depth: UInt8[np.ndarray, "h w"]) -> Box | None:
    """Find the box around the drawing.

    Args:
        depth: How far each pixel is from the paper, in levels.

    Returns:
        Top, left, bottom and right of the drawing's ink in px, the last two exclusive; None on a page without ink.
    """
    limit = min(MOST_CONTRAST, max(LEAST_CONTRAST, int(depth.max(initial=0)) // 2))
    inked = (depth >= limit).view(np.uint8)
    height, width = inked.shape
    block = -(-max(height, width) // GRID)
    areas = _block_sums(inked, block)
    if not areas.any():
        return None
    kept = _kept_cells(areas, block, surrounded=_is_surrounded(inked))
    if not kept[areas > 0].all():
        inked = inked & np.repeat(np.repeat(kept, block, 0), block, 1)[:height, :width]
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


@dataclass(frozen=True, slots=True)
class _Page:
    """Components of ink on a page, measured in cells.

    Attributes:
        rows: Number of rows of cells, likewise `columns`.
        block: Side of a cell in px.
        area: Each component's number of pixels with ink.
        top: First row of each component, likewise its first column `left`, and `bottom` and `right`, both exclusive.
    """

    rows: int
    columns: int
    block: int
    area: PerComponent
    top: PerComponent
    left: PerComponent
    bottom: PerComponent
    right: PerComponent

    def within(self, cells: PerComponent, percent: int) -> Chosen:
        """Return which lengths in cells are at most so many percent of the page's longer side."""
        return 100 * cells <= percent * max(self.rows, self.columns)

    def in_band(self, percent: int) -> Chosen:
        """Return which components lie wholly in one of the outer bands of the page."""
        ends = (self.bottom, self.rows - self.top, self.right, self.columns - self.left)
        return np.any([self.within(end, percent) for end in ends], axis=0)

    def edges(self) -> PerComponent:
        """Count how many of the page's four edges each component touches."""
        touched = (self.top == 0, self.left == 0, self.bottom == self.rows, self.right == self.columns)
        return np.sum(touched, axis=0)

    def gaps(self, anchors: Chosen) -> PerComponent:
        """Measure how far each component is from the box around some of them, in cells."""
        top, left = self.top[anchors].min(), self.left[anchors].min()
        bottom, right = self.bottom[anchors].max(), self.right[anchors].max()
        gaps = (top - self.bottom, self.top - bottom, left - self.right, self.left - right)
        return np.max([*gaps, np.zeros_like(self.area)], axis=0)


def _kept_cells(areas: Int64[np.ndarray, "rows columns"], block: int, *, surrounded: bool) -> Bool[np.ndarray, "rows columns"]:
    """Mark the cells of the components that belong to the drawing."""
    count, labels, boxes, _ = cv2.connectedComponentsWithStats((areas > 0).astype(np.uint8), connectivity=8)
    area = np.bincount(labels.ravel(), weights=areas.ravel(), minlength=count)[1:].astype(np.int64)
    left, top, width, height, _ = boxes[1:].T.astype(np.int64)
    page = _Page(*areas.shape, block, area, top, left, top + height, left + width)
    kept: np.ndarray = np.concatenate([[False], _belongs(page, surrounded=surrounded)])[labels]
    return kept


def _belongs(page: _Page, *, surrounded: bool) -> Chosen:
    """Decide which components are the drawing; all of them, where nothing would be left to hold on to."""
    edges = page.edges()
    surround = (edges == 4) & surrounded
    strip = page.in_band(STRIP_BAND) & (edges >= 1) & (edges < 4)
    small = page.within(page.bottom - page.top, HOLE_SIDE) & page.within(page.right - page.left, HOLE_SIDE)
    cells = (page.bottom - page.top) * (page.right - page.left)
    hole = small & page.in_band(HOLE_BAND) & (100 * page.area >= HOLE_FILLED * cells * page.block**2)
    solid = ~(surround | strip | hole)
    largest = page.area[solid].max(initial=0)
    speck = solid & (100 * page.area <= SPECK_AREA * largest)
    marginal = solid & ~speck & page.in_band(MARGIN_BAND) & (100 * page.area <= MARGIN_AREA * largest)
    anchors = solid & ~speck & ~marginal
    if not anchors.any():
        return np.ones_like(anchors)
    gaps = page.gaps(anchors)
    far_speck, far_marginal = speck & ~page.within(gaps, SPECK_GAP), marginal & ~page.within(gaps, MARGIN_GAP)
    drawn = page.area[~(surround | strip)].sum()
    if 100 * page.area[far_speck].sum() > SPECKS_IN_ALL * drawn:
        far_speck[:] = False
    if 100 * page.area[far_marginal].sum() > MARGINS_IN_ALL * drawn:
        far_marginal[:] = False
    far_strip, far_hole = strip & ~page.within(gaps, STRIP_GAP), hole & ~page.within(gaps, HOLE_GAP)
    return ~(surround | far_strip | far_hole | far_speck | far_marginal)


def _is_surrounded(inked: UInt8[np.ndarray, "h w"]) -> bool:
    """Return whether nearly all of the outermost pixels have ink."""
    ring = np.concatenate([inked[0], inked[-1], inked[:, 0], inked[:, -1]])
    return bool(100 * np.count_nonzero(ring) >= SURROUND_PERCENT * len(ring))


def _block_sums(inked: UInt8[np.ndarray, "h w"], block: int) -> Int64[np.ndarray, "rows columns"]:
    """Count the pixels with ink in each cell."""
    corners = [np.minimum(np.arange(0, side + block, block), side) for side in inked.shape]
    sums = cv2.integral(inked)[np.ix_(*corners)]
    cells: np.ndarray = np.diff(np.diff(sums, axis=0), axis=1).astype(np.int64)
    return cells
