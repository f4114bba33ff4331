"""Lays transparent pictures on paper so that their drawing is seen, whether it is in the colours or in the alpha."""

import numpy as np
from jaxtyping import UInt8

from inkfold.images.colour import Pixels, to_grey

# Below this range of luma a drawing laid on white counts as vanished (yellow, the lightest ink in use, keeps 29).
VISIBLE_CONTRAST = 48
# From this alpha on, a picture of one alpha keeps half of its contrast on white; below, its colours alone are read.
HALF_OPAQUE = 128
HIDDEN_CONTRAST = 32


STRIP_PIXELS = 2**18  # at once: what lies between takes a few MB, not several times the picture's size


def contrast(pixels: Pixels) -> int:
    """Return the widest range of levels, 0 to 255, that any channel of a picture has."""
    rows = [(strip.max(axis=(0, 1)).astype(int), strip.min(axis=(0, 1)).astype(int)) for strip in _strips(pixels)]
    highest, lowest = np.max([high for high, _ in rows], axis=0), np.min([low for _, low in rows], axis=0)
    return int(np.max(highest - lowest))


def flatten(rgba: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """Lay a transparent picture on white paper, or on black if white would swallow its strokes.

    An alpha that is nearly the same everywhere and below 128 holds no drawing. Where the colours hold one that it
    would hide, as in files whose alpha is 0 throughout, the colours are taken as they are.

    Args:
        rgba: Colours, not premultiplied, and alpha.

    Returns:
        Opaque colours.
    """
    colours, alpha = rgba[..., :3], rgba[..., 3]
    lowest, highest = int(alpha.min()), int(alpha.max())
    if lowest == 255:
        return np.ascontiguousarray(colours)
    on_white = _lay_on(rgba, 255)
    if highest - lowest >= VISIBLE_CONTRAST:
        return _lay_on(rgba, 0, on_white) if _luma_range(on_white) < VISIBLE_CONTRAST else on_white
    if highest < HALF_OPAQUE and contrast(colours) >= max(HIDDEN_CONTRAST, contrast(on_white)):
        return np.ascontiguousarray(colours)
    return on_white


def _lay_on(
    rgba: UInt8[np.ndarray, "h w 4"], paper: int, out: UInt8[np.ndarray, "h w 3"] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    laid = np.empty((*rgba.shape[:2], 3), np.uint8) if out is None else out
    for strip, flat in zip(_strips(rgba), _strips(laid), strict=True):
        alpha = strip[..., 3:].astype(np.uint16)
        flat[:] = (strip[..., :3] * alpha + paper * (255 - alpha) + 127) // 255
    return laid


def _luma_range(pixels: UInt8[np.ndarray, "h w 3"]) -> int:
    lumas = [to_grey(strip) for strip in _strips(pixels)]
    return max(int(luma.max()) for luma in lumas) - min(int(luma.min()) for luma in lumas)


def _strips(pixels: Pixels) -> list[Pixels]:
    """Views of some rows each, which depend on the picture's size alone."""
    rows = max(1, STRIP_PIXELS // max(1, pixels.shape[1]))
    return [pixels[start : start + rows] for start in range(0, len(pixels), rows)]
