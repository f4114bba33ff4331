"""Reads drawings on paper: divides out the page's light, and stretches ink and paper to fixed levels.

A drawing made on a screen consists of a few flat levels, a photographed or scanned page of many; so drawings made on a screen
are recognised, and pass through unchanged, byte by byte.

Source of dividing by a closing of the page: Gonzalez and Woods, Digital Image Processing, 4th ed. (2018), 9.6.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

from inkfold.images.blank import is_blank
from inkfold.images.colour import Pixels, is_grey, lowest_channel, sampling_step, settle_colour, to_grey
from inkfold.images.page_edge import cut_out_sheet, shrunk
from inkfold.images.ruled_lines import without_ruled_lines

MOST_SIDE_PX = 1280  # larger pages are reduced: ten levels of grain become five, and a drawing of a fifth keeps 256 px
LEAST_SIDE_PX = 64  # smaller pages consist of the edges of strokes: too few of their pixels are plain paper to tell
SAMPLED_PX = 128  # a page is judged by evenly spaced rows and columns, about this many of the shorter side
FLAT_LEVELS, FLAT_APART, FLAT_SHARE = 4, 3, 0.5  # a screen's page: four levels, so far apart, hold this share of it
SMOOTH_STEP, SMOOTH_SHARE = 4, 0.34  # levels between neighbours beside strokes; grain leaves few such pixels

WHITE = 255
LIGHT_SIDE_PX = 96  # the page's light is estimated on a copy of this size
LIGHT_KERNEL_FRACTION = 1 / 8  # of the side: wider than a stroke, narrower than a shadow
MARGIN_PX = 16  # by which that copy is continued; more than the reach of the kernel and of the blur
THIN_KERNEL = np.ones((5, 5), np.uint8)  # closes strokes, before those that end at the sides are continued
DEEPEST_SHADOW = 0.45  # of the light around it: what is darker over a large area is filled with ink
PAPER_SHARE = 0.4  # of a page's pixels must be near its light: otherwise it is no drawing on paper
PAPER_NEAR = 40  # levels below the light

BOARD_KERNEL_FRACTION, BOARD_CONTRAST, BOARD_FACTOR = 1 / 8, 24, 2.0

GRAIN_BLURS = ((2.5, 3), (7.4, 5), (16.4, 7))  # from this grain in levels, blur by a kernel of so many px
BLUR_FRACTION = 0.02  # of the page's side: the widest blur
DARKEST_PAPER = 140  # level of a flattened page's paper under the strongest grain
PAPER_PERCENTILE = 55.0
GRAIN_ROWS = 64  # of a page, in which its grain is measured
GRAIN_KEPT = 3.0  # standard deviations of grain that are taken for paper
LEAST_GRAIN = 6.0  # levels
LEAST_DEPTH = 10  # levels between paper and ink
DEEPEST_INK_FRACTION = 0.0015  # of the page: what is at least half as deep as this part is ink, its median becomes black
FAINT_FRACTION = 0.15  # of the ink's depth: what is fainter becomes white


def is_photographed(pixels: Pixels) -> bool:
    """Return whether a page has the many levels of a camera or scanner instead of a screen's few; icons never count.

    Dense strokes, above all in JPEGs, have many levels too. So where the whole page has many, its smooth parts decide, unless
    grain leaves few of them.

    Args:
        pixels: (h, w), or (h, w, 3) in RGB order.
    """
    if min(pixels.shape[:2]) < LEAST_SIDE_PX or _flat_share(to_grey(_sampled(pixels))) >= FLAT_SHARE:
        return False
    smooth = _smooth_levels(pixels)
    return _flat_share(smooth) < FLAT_SHARE if smooth is not None else True


def _flat_share(levels: UInt8[np.ndarray, "..."]) -> float:
    """The share of levels that are near one of the few most frequent ones."""
    counts = np.bincount(levels.ravel(), minlength=256)
    flat = 0
    for _ in range(FLAT_LEVELS):
        level = int(counts.argmax())
        flat += int(counts[level])
        counts[max(0, level - FLAT_APART) : level + FLAT_APART + 1] = 0
    return flat / levels.size


def _smooth_levels(pixels: Pixels) -> UInt8[np.ndarray, " n"] | None:
    """Sample the levels of pixels that are like their neighbours to the right and below; None where few are."""
    step = sampling_step(pixels, SAMPLED_PX)
    height, width = (side - 1 for side in pixels.shape[:2])
    starts = ((0, 0), (0, 1), (1, 0))
    here, right, below = (to_grey(pixels[y : height + y : step, x : width + x : step]).astype(np.int16) for y, x in starts)
    smooth = np.maximum(abs(here - right), abs(here - below)) <= SMOOTH_STEP
    return here[smooth].astype(np.uint8) if smooth.mean() >= SMOOTH_SHARE else None


def flatten_paper(pixels: Pixels) -> Pixels:
    """Turn a photographed page into dark ink on white paper.

    Args:
        pixels: A page (h, w), or (h, w, 3) in RGB; light strokes on a dark board are turned as well.

    Returns:
        The page, at most 1280 px long, grey where its ink has no colour. The picture itself, where it isn't ink on an even
        ground, and where its ink is too weak to be parted from the paper (`is_blank` finds it, and nothing would be left).
    """
    page = cut_out_sheet(_reduced(pixels))
    if _is_board(page):
        page = 255 - page
    small = shrunk(page, LIGHT_SIDE_PX)
    if is_grey(cv2.divide(small, page_light(small), scale=255.0)):  # under its own light; then a third of the work is left
        page = to_grey(page)
    flat = cv2.divide(page, page_light(page), scale=255.0)
    if np.mean(lowest_channel(_sampled(flat)) >= 255 - PAPER_NEAR) < PAPER_SHARE:
        return pixels
    stretched = _stretched(_without_grain(flat))
    if stretched.min() == WHITE and not is_blank(page):
        return pixels
    return settle_colour(without_ruled_lines(stretched), "auto")


def page_light(page: Pixels) -> Pixels:
    """Estimate the light that falls on a page, as the page would look without ink.

    Args:
        page: (h, w), or (h, w, 3) in RGB; dark ink on lighter paper.

    Returns:
        The paper's own level at each pixel and channel, at least 1.
    """
    height, width = page.shape[:2]
    small = shrunk(page, LIGHT_SIDE_PX)
    kernel = np.ones((_odd(LIGHT_KERNEL_FRACTION * LIGHT_SIDE_PX),) * 2, np.uint8)
    wider = _continued(cv2.morphologyEx(small, cv2.MORPH_CLOSE, THIN_KERNEL, borderType=cv2.BORDER_REPLICATE))
    closed = cv2.morphologyEx(wider, cv2.MORPH_CLOSE, kernel, borderType=cv2.BORDER_REPLICATE)
    around = cv2.dilate(small, np.ones((_odd(LIGHT_SIDE_PX / 2),) * 2, np.uint8), borderType=cv2.BORDER_REPLICATE)
    around = cv2.blur(around, (_odd(LIGHT_SIDE_PX / 4),) * 2, borderType=cv2.BORDER_REPLICATE)
    sides = (MARGIN_PX,) * 4
    around = cv2.copyMakeBorder(cv2.convertScaleAbs(around, alpha=DEEPEST_SHADOW), *sides, cv2.BORDER_REPLICATE)
    closed = np.maximum(closed, around)
    smooth = cv2.GaussianBlur(closed, (_odd(LIGHT_SIDE_PX / 8),) * 2, 0, borderType=cv2.BORDER_REPLICATE)
    smooth = smooth[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    return np.maximum(cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR), 1)


def _continued(small: Pixels) -> Pixels:
    """Continue a page beyond its sides, darkening or brightening as it does there.

    A closing ends in the level that it finds some pixels further in, which is too light where light falls off to the sides:
    grain would be left there, as ink.
    """
    sides = ((MARGIN_PX, MARGIN_PX),) * 2 + ((0, 0),) * (small.ndim - 2)
    return np.pad(small.astype(np.int16), sides, "reflect", reflect_type="odd").clip(0, WHITE).astype(np.uint8)


def _is_board(page: Pixels) -> bool:
    """Return whether strokes are lighter than the ground around them, as chalk on a board."""
    grey = to_grey(_sampled(page))
    step = grey.astype(np.int16) - cv2.medianBlur(grey, _odd(BOARD_KERNEL_FRACTION * min(grey.shape)))
    lighter, darker = (np.maximum(side - BOARD_CONTRAST, 0).sum(dtype=np.int64) for side in (step, -step))
    return bool(lighter > BOARD_FACTOR * darker)


def _without_grain(flat: Pixels) -> Pixels:
    grain = measure_grain(flat)
    largest = min(flat.shape[:2]) * BLUR_FRACTION
    kernel = max((size for least, size in GRAIN_BLURS if grain >= least and size <= largest), default=0)
    return cv2.GaussianBlur(flat, (kernel, kernel), 0) if kernel else flat


def measure_grain(page: Pixels) -> float:
    """Estimate the standard deviation of a flattened page's grain, in levels, from neighbouring pixels of the paper."""
    grey = to_grey(page[:: max(1, page.shape[0] // GRAIN_ROWS)]).astype(np.int16)
    first, second = grey[:, :-1], grey[:, 1:]
    steps = np.abs(first - second)[(first >= DARKEST_PAPER) & (second >= DARKEST_PAPER)]
    if not steps.size:
        return 0.0
    # The edges of strokes are among the largest quarter; the mean of |N(0, 2 sigma^2)| below its upper quartile is 0.728 sigma.
    counts = np.bincount(steps, minlength=256)
    below = np.minimum(np.cumsum(counts), 3 * steps.size // 4)
    smaller = np.diff(below, prepend=0)
    return float(smaller @ np.arange(len(smaller)) / max(1, smaller.sum()) / 0.728)


def _stretched(flat: Pixels) -> Pixels:
    """Make paper white and ink black: everything within the grain around the paper's level becomes 255."""
    counts = cv2.calcHist([lowest_channel(flat)], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    paper = _percentile(counts, PAPER_PERCENTILE)
    deepest = _percentile(counts, 100 * DEEPEST_INK_FRACTION)
    deviations = np.bincount(np.abs(np.arange(256) - paper), weights=counts, minlength=256)
    spread = 1.4826 * _percentile(deviations, 50)  # of grain and what is left of the light; much ink widens it, hence the limit
    white = min(paper - LEAST_GRAIN, max(paper - GRAIN_KEPT * spread, (paper + deepest) / 2))
    if deepest > white - LEAST_DEPTH:
        return np.full_like(flat, WHITE)
    black = _percentile(counts[: int(deepest + white) // 2], 50)
    white -= FAINT_FRACTION * (white - black)
    levels = (np.arange(256, dtype=np.float32) - black) * (255 / (white - black))
    return cv2.LUT(flat, np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _percentile(counts: np.ndarray, percent: float) -> int:
    """The level below which so many percent of the counted pixels are."""
    return int(np.searchsorted(np.cumsum(counts), percent / 100 * counts.sum()))


def _reduced(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = MOST_SIDE_PX / max(height, width)
    if scale >= 1:
        return pixels
    return cv2.resize(pixels, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)


def _sampled(pixels: Pixels) -> Pixels:
    step = sampling_step(pixels, SAMPLED_PX)
    return np.ascontiguousarray(pixels[::step, ::step])


def _odd(length: float) -> int:
    return 2 * max(0, round((length - 1) / 2)) + 1
