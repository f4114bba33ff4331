"""Reads drawings on paper: divides out the page's light, and stretches ink and paper to fixed levels.

A photographed or scanned page is told apart from a drawing made on a screen by its levels: a screen's page consists of a few
flat ones. Drawings made on a screen pass through unchanged, byte by byte.

Source of dividing by a closing of the page: Gonzalez and Woods, Digital Image Processing, 4th ed. (2018), 9.6.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

from inkfold.images.decode import Pixels, settle_colour, to_grey
from inkfold.images.page_edge import cut_out_sheet
from inkfold.images.ruled_lines import without_ruled_lines

MOST_SIDE_PX = 1280  # larger pages are reduced: ten levels of grain become five, and a drawing of a fifth keeps 256 px
SAMPLED_PX = 128  # a page is judged by evenly spaced rows and columns, about this many of the shorter side
FLAT_LEVELS, FLAT_APART, FLAT_SHARE = 4, 3, 0.5  # a screen's page: four levels, so far apart, hold this share of it

LIGHT_SIDE_PX = 128  # the page's light is estimated on a copy of this size
LIGHT_KERNEL_FRACTION = 1 / 8  # of the side: wider than a stroke, narrower than a shadow
DEEPEST_SHADOW = 0.45  # of the light around it: what is darker over a large area is filled with ink
PAPER_SHARE = 0.4  # of a page's pixels must be near its light: otherwise it is no drawing on paper
PAPER_NEAR = 40  # levels below the light

GRAIN_BLURS = ((3.0, 3), (9.0, 5), (20.0, 7))  # from this grain in levels, blur by a kernel of so many px
GRAIN_KEPT = 3.0  # standard deviations of grain that are taken for paper
LEAST_DEPTH = 10  # levels between paper and ink
INK_PERCENTILE = 30.0  # of the pixels with ink: this level becomes black
LEAST_INK_FRACTION = 0.0002


def is_photographed(pixels: Pixels) -> bool:
    """Return whether a page has the many levels of a camera or scanner instead of a screen's few."""
    counts = np.bincount(to_grey(_sampled(pixels)).ravel(), minlength=256)
    total, flat = int(counts.sum()), 0
    for _ in range(FLAT_LEVELS):
        level = int(counts.argmax())
        flat += int(counts[level])
        counts[max(0, level - FLAT_APART) : level + FLAT_APART + 1] = 0
    return flat < FLAT_SHARE * total


def flatten_paper(pixels: Pixels) -> Pixels:
    """Turn a photographed page into dark ink on white paper.

    Args:
        pixels: A page (h, w), or (h, w, 3) in RGB; light strokes on a dark board are turned as well.

    Returns:
        The page, at most 1280 px long, grey where its ink has no colour. A picture that isn't ink on an even ground is
        returned as it is.
    """
    page = cut_out_sheet(_reduced(pixels))
    light = page_light(page)
    if _is_board(page, light):
        page = 255 - page
        light = page_light(page)
    flat = cv2.divide(page, light, scale=255.0)
    if np.mean(_lowest(_sampled(flat)) >= 255 - PAPER_NEAR) < PAPER_SHARE:
        return pixels
    return settle_colour(without_ruled_lines(_stretched(_without_grain(flat))), "auto")


def page_light(page: Pixels) -> Pixels:
    """Estimate the light that falls on a page, as the page would look without ink.

    Args:
        page: (h, w), or (h, w, 3) in RGB; dark ink on lighter paper.

    Returns:
        The paper's own level at each pixel and channel, at least 1.
    """
    height, width = page.shape[:2]
    scale = LIGHT_SIDE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(page, size, interpolation=cv2.INTER_AREA)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_odd(LIGHT_KERNEL_FRACTION * LIGHT_SIDE_PX),) * 2)
    closed = cv2.morphologyEx(small, cv2.MORPH_CLOSE, kernel, borderType=cv2.BORDER_REPLICATE)
    around = cv2.dilate(small, np.ones((_odd(LIGHT_SIDE_PX / 2),) * 2, np.uint8), borderType=cv2.BORDER_REPLICATE)
    around = cv2.blur(around, (_odd(LIGHT_SIDE_PX / 4),) * 2, borderType=cv2.BORDER_REPLICATE)
    closed = np.maximum(closed, cv2.convertScaleAbs(around, alpha=DEEPEST_SHADOW))
    smooth = cv2.GaussianBlur(closed, (_odd(LIGHT_SIDE_PX / 8),) * 2, 0, borderType=cv2.BORDER_REPLICATE)
    return np.maximum(cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR), 1)


def _is_board(page: Pixels, light: Pixels) -> bool:
    """Return whether strokes are lighter than the ground around them."""
    grey = _sampled(to_grey(page)).astype(np.int16)
    middle = np.median(grey)
    return bool(middle < 128 and (np.percentile(grey, 99) - middle) > 1.5 * (middle - np.percentile(grey, 1)))


def _without_grain(flat: Pixels) -> Pixels:
    grain = measure_grain(flat)
    kernel = max((size for least, size in GRAIN_BLURS if grain >= least), default=0)
    return cv2.GaussianBlur(flat, (kernel, kernel), 0) if kernel else flat


def measure_grain(page: Pixels) -> float:
    """Estimate the standard deviation of a page's grain, in levels, from neighbouring pixels."""
    grey = to_grey(page)[:: max(1, page.shape[0] // 64)].astype(np.int16)
    steps = np.abs(np.diff(grey, axis=1))
    # The median of |N(0, 2 sigma^2)|; steps are whole numbers, so the mean of the smaller half is steadier than the median.
    small = np.sort(steps, axis=None)[: steps.size * 3 // 4]
    return float(small.mean() / 0.5976) if small.size else 0.0


def _stretched(flat: Pixels) -> Pixels:
    """Make paper white and ink black: everything within the grain around the paper's level becomes 255."""
    lowest = _lowest(flat)
    sampled = _sampled(lowest).astype(np.float32)
    paper = float(np.median(sampled))
    grain = 1.4826 * float(np.median(np.abs(sampled - paper)))
    white = paper - max(6.0, GRAIN_KEPT * grain)
    inked = lowest[lowest < white - LEAST_DEPTH]
    if len(inked) < LEAST_INK_FRACTION * lowest.size:
        return np.full_like(flat, 255)
    black = float(np.percentile(inked, INK_PERCENTILE))
    levels = (np.arange(256, dtype=np.float32) - black) * (255 / (white - black))
    return cv2.LUT(flat, np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _reduced(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = MOST_SIDE_PX / max(height, width)
    if scale >= 1:
        return pixels
    return cv2.resize(pixels, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)


def _sampled(pixels: Pixels) -> Pixels:
    step = max(1, min(pixels.shape[:2]) // SAMPLED_PX)
    return np.ascontiguousarray(pixels[::step, ::step])


def _lowest(pixels: Pixels) -> UInt8[np.ndarray, "h w"]:
    """The channel most distant from white paper."""
    return pixels if pixels.ndim == 2 else pixels.min(axis=2)


def _odd(length: float) -> int:
    return 2 * max(0, round((length - 1) / 2)) + 1
