"""Finds blank pages: nothing stands out from its surroundings but specks.

The rule is meant to err on one side only: no drawing, were it a single short thin stroke in hard pencil, is called blank. A
page of uneven light is compared with its own light, a grainy one with its own grain.
"""

import numpy as np
from jaxtyping import UInt8

from inkfold.images.decode import Pixels

SAMPLED_SIDE_PX = 256  # most samples of a row or column; they tell nearly all drawings from blank pages
OBVIOUS_FRACTION = 0.002  # part of the samples that strong ink must cover
NEIGHBOURHOOD = 8  # a page's own colour is averaged over this part of its longer side
LEAST_NEIGHBOURHOOD = 15  # in samples: a speck must not colour what is around it
# Ink stands out by six standard deviations of the grain, within these levels: the first is weaker than hard pencil, the last
# stronger than the grain of any page that people photograph.
GRAIN_SIGMAS, LEAST_CONTRAST, MOST_CONTRAST = 6.0, 8, 40
COMPRESSED_GRAIN = 2.0  # JPEG and reduction take about half of the finest grain away
SIGMA_OF_MEDIAN = 1.4826  # of the median absolute deviation, for normal noise
SMOOTHING_PX = 5  # weak strokes under grain are found where it is averaged away
SPECK_FRACTION = 0.003  # longest speck, as a part of the page's longer side: 0.9 mm of a sheet of A4
SPECK_PX, TINY_PAGE_PX = 2, 64
SPECKS_FRACTION = 0.0005  # part of the page that specks may cover: more of them are a drawing of dots
FEWEST_DOTS_PX = 2


def is_blank(pixels: Pixels) -> bool:
    """Return whether a page is without ink: all one colour, or with nothing but its own shading, grain and a few specks.

    Args:
        pixels: (h, w), or (h, w, 3) in RGB order; any colours, on any paper.
    """
    import cv2  # noqa: PLC0415 - 160 ms that reading alone needn't pay

    own_colour, distance = _own_colour(pixels)
    if np.count_nonzero(distance > MOST_CONTRAST) > OBVIOUS_FRACTION * distance.size:
        return False
    height, width = pixels.shape[:2]
    around = cv2.resize(own_colour, (width, height), interpolation=cv2.INTER_LINEAR)
    distance = _distance(pixels, around)
    if _has_strokes(distance, min(_spread(distance), COMPRESSED_GRAIN * _grain(pixels)), 0, count_specks=True):
        return False
    smooth = cv2.blur(pixels, (SMOOTHING_PX, SMOOTHING_PX), borderType=cv2.BORDER_REPLICATE)
    distance = _distance(smooth, around)
    return not _has_strokes(distance, _spread(distance), SMOOTHING_PX - 1, count_specks=False)


def _own_colour(pixels: Pixels) -> tuple[UInt8[np.ndarray, "..."], UInt8[np.ndarray, "h w"]]:
    """Sample the page, average what is around each sample, and measure how far the samples are from that."""
    import cv2  # noqa: PLC0415

    step = -(-max(pixels.shape[:2]) // SAMPLED_SIDE_PX)  # thin strokes that sampling loses are looked for on the whole page
    sampled = np.ascontiguousarray(pixels[::step, ::step])
    side = max(LEAST_NEIGHBOURHOOD, max(sampled.shape[:2]) // NEIGHBOURHOOD) | 1
    own_colour = cv2.blur(sampled, (side, side), borderType=cv2.BORDER_REPLICATE)
    return own_colour, _distance(sampled, own_colour)


def _distance(pixels: Pixels, around: Pixels) -> UInt8[np.ndarray, "h w"]:
    """Measure how far each pixel is from what is around it, in its most distant channel."""
    import cv2  # noqa: PLC0415

    distance = cv2.absdiff(pixels, around)
    return distance if distance.ndim == 2 else distance.max(axis=2)


def _spread(distance: UInt8[np.ndarray, "h w"]) -> float:
    """Estimate the standard deviation of normal noise from its distances."""
    return SIGMA_OF_MEDIAN * float(np.median(distance))


def _grain(pixels: Pixels) -> float:
    """Estimate the grain's standard deviation from the finest detail, to which shading and strokes add little.

    Source: Immerkaer, "Fast Noise Variance Estimation" (1996), with a median where it has the mean.
    """
    import cv2  # noqa: PLC0415

    detail = cv2.filter2D(pixels, cv2.CV_16S, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32))
    return SIGMA_OF_MEDIAN * float(np.median(np.abs(detail))) / 6


def _has_strokes(distance: UInt8[np.ndarray, "h w"], sigma: float, spread_px: int, *, count_specks: bool) -> bool:
    """Return whether something longer than a speck stands out, or too many specks for dust.

    Args:
        distance: How far each pixel is from what is around it.
        sigma: Standard deviation of the grain, in levels.
        spread_px: By how many pixels smoothing has lengthened specks.
        count_specks: Whether the specks' number counts; smoothing enlarges them.
    """
    import cv2  # noqa: PLC0415

    ink = (distance > np.clip(GRAIN_SIGMAS * sigma, LEAST_CONTRAST, MOST_CONTRAST)).astype(np.uint8)
    count = int(np.count_nonzero(ink))
    if not count:
        return False
    if count_specks and count > max(FEWEST_DOTS_PX, SPECKS_FRACTION * ink.size):
        return True
    longer = max(ink.shape)
    longest_px = max(1 if longer < TINY_PAGE_PX else SPECK_PX, SPECK_FRACTION * longer) + spread_px
    boxes = cv2.connectedComponentsWithStats(ink, connectivity=8)[2][1:]
    return bool(boxes[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max() > longest_px)
