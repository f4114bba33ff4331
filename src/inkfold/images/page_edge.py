"""Finds a sheet of paper in a photograph, and straightens it where its four corners are seen."""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from inkfold.images.colour import Pixels, lowest_channel

SEARCHED_SIDE_PX = 160
SMALLEST_SHEET, LARGEST_SHEET = 0.15, 0.97  # of the picture
LEAST_CONTRAST = 0.12  # between sheet and table, of the sheet's own level
LEAST_FILLED = 0.92  # of the sheet's convex hull: sheets have no dents
LEAST_SHARP = 0.5  # of that contrast within 2 % of the picture: shadows have soft edges
QUADRILATERAL_FILLED = 0.95  # of the hull, by four corners
SAMPLED_PX = 128  # of the shorter side, for the sheet's colour
TRIMMED_FRACTION = 0.012  # of the sheet, whose edge is a line of shadow


def cut_out_sheet(page: Pixels) -> Pixels:
    """Cut out the sheet of paper that a photograph shows.

    Args:
        page: (h, w), or (h, w, 3) in RGB; the sheet is lighter than what it lies on.

    Returns:
        The sheet, straightened, if its four corners are seen; the picture with what lies around the sheet painted in the
        sheet's own colour, if only some edges are seen; otherwise the picture itself.
    """
    small = shrunk(page, SEARCHED_SIDE_PX)
    size = small.shape[1::-1]
    hull = _find_sheet(small)
    if hull is None:
        return page
    corners = _four_corners(hull)
    hull = hull.astype(np.float32)
    zoom = np.array([page.shape[1] / size[0], page.shape[0] / size[1]], np.float32)
    if corners is not None and not _touches_border(corners, size):
        return _straightened(page, corners * zoom)
    mask = np.zeros(page.shape[:2], np.uint8)
    middle = hull.mean(axis=0)
    inner = middle + (hull - middle) * (1 - 2 * TRIMMED_FRACTION)
    to_the_edge = np.where(hull <= 2, 0, np.array(size, np.float32))  # else a line of the sheet's colour lies outside a strip
    inner = np.where(_on_border(hull, size), to_the_edge, inner)
    cv2.fillConvexPoly(mask, np.rint(inner * zoom).astype(np.int32), 1)
    outside = mask == 0
    filled = page.copy()
    step = max(1, min(page.shape[:2]) // SAMPLED_PX)
    filled[outside] = np.median(page[::step, ::step][~outside[::step, ::step]], axis=0)
    return filled


def shrunk(page: Pixels, side_px: int) -> Pixels:
    """Shrink a page, or enlarge it, so that its longer side is so many px; each pixel is the mean of a few."""
    longer = max(page.shape[:2])
    step = max(1, longer // (2 * side_px))
    height, width = (max(1, round(side * side_px / longer)) for side in page.shape[:2])
    return cv2.resize(np.ascontiguousarray(page[::step, ::step]), (width, height), interpolation=cv2.INTER_AREA)


def _find_sheet(small: Pixels) -> np.ndarray | None:
    """The convex hull of the lightest large area, if all of it looks like a sheet on a table."""
    level = lowest_channel(small)  # wood and skin are darkest in blue
    kernel = np.ones((7, 7), np.uint8)
    level = cv2.morphologyEx(level, cv2.MORPH_CLOSE, kernel, borderType=cv2.BORDER_REPLICATE)
    _, light = cv2.threshold(level, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(light)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    inside = (labels == largest).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=cv2.contourArea)
    hull = cv2.convexHull(outline)[:, 0]
    area = cv2.contourArea(hull)
    if not SMALLEST_SHEET <= area / inside.size <= LARGEST_SHEET:
        return None
    if cv2.contourArea(outline) < LEAST_FILLED * area:  # what is drawn leaves holes, which count as sheet
        return None
    filled = np.zeros_like(inside)
    cv2.fillConvexPoly(filled, hull, 1)
    return hull if _is_sheet(level, filled.astype(bool)) else None


def _is_sheet(level: UInt8[np.ndarray, "h w"], sheet: Bool[np.ndarray, "h w"]) -> bool:
    """Compare the levels in and around the sheet, overall and next to its edge."""
    if sheet.all():
        return False
    paper, table = float(np.median(level[sheet])), float(np.median(level[~sheet]))
    if paper - table < LEAST_CONTRAST * paper:
        return False
    mask = sheet.astype(np.uint8)
    near, next_to = np.ones((9, 9), np.uint8), np.ones((3, 3), np.uint8)
    outer = (cv2.dilate(mask, near) == 1) & (cv2.dilate(mask, next_to) == 0)
    shrunk, kept = (cv2.erode(mask, kernel, borderType=cv2.BORDER_REPLICATE) for kernel in (near, next_to))
    inner = (shrunk == 0) & (kept == 1)
    if not outer.any() or not inner.any():
        return False
    step = float(np.median(level[inner])) - float(np.median(level[outer]))
    return step >= LEAST_SHARP * (paper - table) and step >= LEAST_CONTRAST * paper


def _four_corners(hull: np.ndarray) -> Float32[np.ndarray, "4 2"] | None:
    """The corners of the quadrilateral that the hull is; None if it is none."""
    length, area = cv2.arcLength(hull, closed=True), cv2.contourArea(hull)
    for tolerance in (0.01, 0.02, 0.03, 0.05):
        corners = cv2.approxPolyDP(hull, tolerance * length, closed=True)[:, 0]
        if len(corners) <= 4:
            break
    if len(corners) != 4 or cv2.contourArea(corners) < QUADRILATERAL_FILLED * area:
        return None
    return corners.astype(np.float32)


def _on_border(points: np.ndarray, size: tuple[int, ...]) -> Bool[np.ndarray, "n 2"]:
    return (points <= 2) | (points >= np.array(size) - 3)


def _touches_border(corners: Float32[np.ndarray, "4 2"], size: tuple[int, ...]) -> bool:
    return bool(_on_border(corners, size).any())


def _straightened(page: Pixels, corners: Float32[np.ndarray, "4 2"]) -> Pixels:
    """Map the quadrilateral to an upright rectangle with sides of its own mean lengths, without its outermost edge."""
    first = int(corners.sum(axis=1).argmin())  # the corner nearest to the picture's top left
    corners = np.roll(corners, -first, axis=0)
    if (corners[1] - corners[0])[0] < (corners[-1] - corners[0])[0]:  # clockwise from there
        corners = np.concatenate([corners[:1], corners[:0:-1]])
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    width, height = max(2, round(float(sides[0::2].mean()))), max(2, round(float(sides[1::2].mean())))
    trim_x, trim_y = TRIMMED_FRACTION * width, TRIMMED_FRACTION * height
    target = np.array(
        [[-trim_x, -trim_y], [width + trim_x, -trim_y], [width + trim_x, height + trim_y], [-trim_x, height + trim_y]],
        np.float32,
    )
    mapping = cv2.getPerspectiveTransform(corners, target)
    return cv2.warpPerspective(page, mapping, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
