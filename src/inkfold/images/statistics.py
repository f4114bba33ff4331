"""Statistics of a drawing's page: its size, its ink, its light, and whether it is blank.

They depend on the page alone, whatever a recipe makes of it: so they are kept under the file's digest, and choose later how
pages are cropped and cleaned.
"""

import math

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from inkfold.images.blank import is_blank
from inkfold.images.decode import Pixels, to_grey
from inkfold.images.page import Page
from inkfold.images.preprocess import block_maxima

STATISTICS_VERSION = 3  # part of the cache's key: raise it whenever a figure changes
BOX_SIDE_PX = 128  # the ink's box is known to a hundredth of the page's longer side
SAMPLED_SIDE_PX = 256  # pages of twice as many pixels are sampled for the percentiles
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
STATISTICS = np.dtype(
    [
        (name, np.float32)
        for name in (
            *("height", "width", "blank", "top", "left", "bottom", "right", "ink_fraction"),
            *(f"luma_p{percent}" for percent in PERCENTILES),
            "photographed",
        )
    ]
)
"""The record of a page, all float32.

`height` and `width` of the decoded page in px; `blank`, 1 where `is_blank` finds no ink; `top`, `left`, `bottom` and `right`,
the ink's box (`ink_box`) as fractions of the height and width, NaN without ink; `ink_fraction`, the share of pixels that are
ink; `luma_p1` to `luma_p99`, percentiles of the luma in 0..255; `photographed`, 1 where
`images.paper.is_photographed` finds a camera's or scanner's levels.
"""


def page_statistics(page: Page) -> Shaped[np.ndarray, ""]:
    """Compute the record of a page.

    Args:
        page: The drawing's file, which is decoded if it wasn't yet.

    Returns:
        One record of `STATISTICS`.

    Raises:
        BrokenImage: If the page can't be decoded, as by `decode_image`.
    """
    import cv2  # noqa: PLC0415 - 160 ms that reading alone needn't pay

    pixels, ink = page.pixels(), page.ink()
    ink_fraction = cv2.countNonZero(ink) / ink.size
    figures = (
        *pixels.shape[:2],
        is_blank(pixels),
        *_box(ink),
        ink_fraction,
        *_luma_percentiles(pixels),
        page.is_photographed(),
    )
    return np.array(figures, STATISTICS)


def ink_fill(records: Shaped[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Return how much of its page each drawing fills, by its longer side.

    Args:
        records: Records of `STATISTICS`.

    Returns:
        The longer side of the ink's box, as a share of the page's longer side, in 0..1; 1 for pages without ink.
    """
    high = (records["bottom"] - records["top"]) * records["height"]
    wide = (records["right"] - records["left"]) * records["width"]
    share: np.ndarray = np.maximum(high, wide) / np.maximum(records["height"], records["width"])
    share[np.isnan(share)] = 1.0
    return share


def _box(ink: UInt8[np.ndarray, "h w"]) -> tuple[float, float, float, float]:
    """Find the ink's box on a reduced copy that keeps thin lines, as fractions of the page."""
    from inkfold.images.ink_box import find_ink_box  # noqa: PLC0415 - OpenCV: 160 ms

    factor = -(-max(ink.shape) // BOX_SIDE_PX)
    reduced = block_maxima(ink, factor) if factor > 1 else ink
    box = find_ink_box(reduced)
    if box is None:
        return (math.nan,) * 4
    height, width = ink.shape
    top, left, bottom, right = (edge * factor for edge in box)
    return top / height, left / width, min(1.0, bottom / height), min(1.0, right / width)


def _luma_percentiles(pixels: Pixels) -> list[int]:
    """Find the lowest luma that each of the percentages of the pixels don't exceed; large pages are sampled."""
    import cv2  # noqa: PLC0415

    step = max(1, max(pixels.shape[:2]) // SAMPLED_SIDE_PX)
    luma = np.ascontiguousarray(to_grey(pixels[::step, ::step]))
    counts = cv2.calcHist([luma], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    levels: list[int] = np.searchsorted(np.cumsum(counts), np.array(PERCENTILES) / 100 * luma.size).tolist()
    return levels
