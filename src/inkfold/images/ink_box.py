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
# In percent of a side's outermost pixels: a scanner's lid or a table lies around the page, or along some sides of it,
# whose ends reach the others.
SURROUND_COVER, STRIP_COVER, STRIP_ENDS = 95, 60, 15

# In percent of the page's longer side (gaps, bands, sides), of the largest component's area, or of all ink.
SPECK_AREA, SPECK_GAP, FAR_SPECKS_IN_ALL, SPECKS_IN_ALL = 1, 5, 5, 15  # more specks than that are drops, stars or snow
STRIP_BAND, STRIP_INSIDE, STRIP_GAP = 8, 95, 8
# A stamp or page number lies in a corner: along one side, and within a wider band of another. Without the second condition,
# parts of 0.4 % of 8,592 doodles that fill their pages were taken for one; with it, of 0.07 %.
MARGIN_BAND, MARGIN_ACROSS, MARGIN_GAP, MARGIN_AREA, MARGINS_IN_ALL = 15, 22, 8, 15, 25
HOLE_BAND, HOLE_GAP, HOLE_SIDE, HOLE_FILLED, HOLE_AREA = 14, 2, 7, 12, 25
# Holes stand in a row along a side, a little wider where the page is turned; more dots along the sides are drops or stars.
HOLE_ROW, FEWEST_HOLES, MOST_HOLES, HOLES_IN_ALL = 4, 2, 8, 50

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
    kept = _kept_cells(areas, inked, block)
    if not kept[areas > 0].all():
        inked = inked & np.repeat(np.repeat(kept, block, 0), block, 1)[:height, :width]
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


@dataclass(frozen=True, slots=True)
class _Page:
    """Components of ink on a page, measured in cells.

    Attributes:
        rows: Number of rows of cells, likewise `columns`.
        block: Side of the square cells, in px of the page.
        lengths: Number of pixels of the page's sides: top, bottom, left, right.
        area: Each component's number of pixels with ink.
        band_area: Those of them in cells along the page's sides.
        sides: Number of each component's pixels that are the outermost ones of each side.
        top: First row of each component, likewise its first column `left`, and `bottom` and `right`, both exclusive.
    """

    rows: int
    columns: int
    block: int
    lengths: Int64[np.ndarray, " 4"]
    area: PerComponent
    band_area: PerComponent
    sides: Int64[np.ndarray, "components 4"]
    top: PerComponent
    left: PerComponent
    bottom: PerComponent
    right: PerComponent

    def within(self, cells: PerComponent, percent: int) -> Chosen:
        """Return which lengths in cells are at most so many percent of the page's longer side."""
        short: np.ndarray = 100 * cells <= percent * max(self.rows, self.columns)
        return short

    def in_corner(self, percent: int, across: int) -> Chosen:
        """Return which components lie wholly in one of the outer bands of the page, and in a band of another side."""
        upright, level = np.minimum(self.bottom, self.rows - self.top), np.minimum(self.right, self.columns - self.left)
        inside: np.ndarray = self.within(np.minimum(upright, level), percent) & self.within(np.maximum(upright, level), across)
        return inside

    def in_row(self, chosen: Chosen, percent: int) -> Chosen:
        """Return which of some components stand in a row of at least two, along a side and within the band next to it.

        The row is looked for at the first, at the last, and at the largest of those in the band.
        """
        ends = (self.bottom, self.rows - self.top, self.right, self.columns - self.left)
        standing = np.zeros_like(chosen)
        for end, place in zip(ends, (self.top, self.top, self.left, self.left), strict=True):
            band = chosen & self.within(end, percent)
            if not band.any():
                continue
            largest = place[band & (self.area == self.area[band].max())].max()
            for start in (place[band].min(), place[band].max(), largest):
                row = band & self.within(np.abs(place - start), HOLE_ROW)
                standing |= row & (row.sum() >= FEWEST_HOLES)
        return standing

    def covers(self, percent: int) -> Bool[np.ndarray, "components 4"]:
        """Return which of the page's sides each component covers, so many percent of their outermost pixels."""
        covered: np.ndarray = 100 * self.sides >= percent * self.lengths
        return covered

    def distances(self, anchors: Chosen) -> Int64[np.ndarray, " 4"]:
        """Measure how far the box around some components is from the page's sides, in cells."""
        ends = (self.rows - self.bottom[anchors].max(), self.columns - self.right[anchors].max())
        return np.array([self.top[anchors].min(), ends[0], self.left[anchors].min(), ends[1]])

    def gaps(self, anchors: Chosen) -> PerComponent:
        """Measure how far each component is from the box around some of them, in cells."""
        top, left = self.top[anchors].min(), self.left[anchors].min()
        bottom, right = self.bottom[anchors].max(), self.right[anchors].max()
        gaps = (top - self.bottom, self.top - bottom, left - self.right, self.left - right)
        widest: np.ndarray = np.max([*gaps, np.zeros_like(self.area)], axis=0)
        return widest


def _kept_cells(
    areas: Int64[np.ndarray, "rows columns"], inked: UInt8[np.ndarray, "h w"], block: int
) -> Bool[np.ndarray, "rows columns"]:
    """Mark the cells of the components that belong to the drawing."""
    count, labels, boxes, _ = cv2.connectedComponentsWithStats((areas > 0).astype(np.uint8), connectivity=8)

    def total(amounts: np.ndarray, cells: np.ndarray) -> np.ndarray:
        return np.bincount(cells.ravel(), weights=amounts.ravel(), minlength=count)[1:].astype(np.int64)

    lines = (inked[0], inked[-1], inked[:, 0], inked[:, -1])
    cells = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    sides = [total(line, np.repeat(along, block)[: len(line)]) for line, along in zip(lines, cells, strict=True)]
    left, top, width, height, _ = boxes[1:].T.astype(np.int64)
    page = _Page(
        areas.shape[0],
        areas.shape[1],
        block,
        np.array([len(line) for line in lines]),
        total(areas, labels),
        total(areas * _band(*areas.shape), labels),
        np.stack(sides, axis=1),
        top,
        left,
        top + height,
        left + width,
    )
    kept: np.ndarray = np.concatenate([[False], _belongs(page)])[labels]
    return kept


def _band(rows: int, columns: int) -> Bool[np.ndarray, "rows columns"]:
    """Mark the cells along the page's sides."""
    from_top, from_left = (np.minimum(np.arange(count), np.arange(count)[::-1]) + 1 for count in (rows, columns))
    band: np.ndarray = 100 * np.minimum(from_top[:, None], from_left) <= STRIP_BAND * max(rows, columns)
    return band


def _belongs(page: _Page) -> Chosen:
    """Decide which components are the drawing; all of them, where nothing would be left to hold on to."""
    surround = page.covers(SURROUND_COVER).all(axis=1)
    along = page.covers(STRIP_COVER)
    ends_only = (along | ~page.covers(STRIP_ENDS)).all(axis=1)
    strip = (100 * page.band_area >= STRIP_INSIDE * page.area) & np.isin(along.sum(axis=1), (1, 2, 3)) & ends_only
    small = page.within(page.bottom - page.top, HOLE_SIDE) & page.within(page.right - page.left, HOLE_SIDE)
    cells = (page.bottom - page.top) * (page.right - page.left)
    slight = 100 * page.area <= HOLE_AREA * page.area[~(surround | strip)].max(initial=0)
    hole = small & slight & (100 * page.area >= HOLE_FILLED * cells * page.block**2) & page.in_corner(HOLE_BAND, 100)
    hole = page.in_row(hole & (hole.sum() <= MOST_HOLES), HOLE_BAND)
    solid = ~(surround | strip | hole)
    largest = page.area[solid].max(initial=0)
    speck = solid & (100 * page.area <= SPECK_AREA * largest)
    marginal = solid & ~speck & page.in_corner(MARGIN_BAND, MARGIN_ACROSS) & (100 * page.area <= MARGIN_AREA * largest)
    anchors = solid & ~speck & ~marginal
    if not anchors.any():
        return np.ones_like(anchors)
    gaps = page.gaps(anchors)
    far_speck, far_marginal = speck & ~page.within(gaps, SPECK_GAP), marginal & ~page.within(gaps, MARGIN_GAP)
    drawn = page.area[~(surround | strip)].sum()
    strewn = 100 * page.area[speck].sum() > SPECKS_IN_ALL * drawn
    far_speck &= not strewn and 100 * page.area[far_speck].sum() <= FAR_SPECKS_IN_ALL * drawn
    far_marginal &= not strewn and 100 * page.area[far_marginal].sum() <= MARGINS_IN_ALL * drawn
    inner = anchors & ~page.in_corner(MARGIN_BAND, MARGIN_ACROSS)
    middle = inner if inner.any() else anchors  # a stamp may be as large as a small drawing
    far_strip = strip & (~along | ~page.within(page.distances(middle), STRIP_GAP)).all(axis=1)
    far_hole = hole & ~page.within(gaps, HOLE_GAP)
    if 100 * page.area[far_hole].sum() > HOLES_IN_ALL * drawn:
        far_hole[:] = False
    kept: np.ndarray = ~(surround | far_strip | far_hole | far_speck | far_marginal)
    return kept


def _block_sums(inked: UInt8[np.ndarray, "h w"], block: int) -> Int64[np.ndarray, "rows columns"]:
    """Count the pixels with ink in each cell."""
    corners = [np.minimum(np.arange(0, side + block, block), side) for side in inked.shape]
    sums = cv2.integral(inked)[np.ix_(*corners)]
    cells: np.ndarray = np.diff(np.diff(sums, axis=0), axis=1).astype(np.int64)
    return cells
