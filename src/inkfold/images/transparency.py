"""Lays transparent pictures on paper so that their drawing is seen, whether it is in the colours or in the alpha."""

import numpy as np
from jaxtyping import UInt8

from inkfold.images.colour import Pixels, to_grey

# Below this range of luma a drawing laid on white counts as vanished (yellow, the lightest ink in use, keeps 29).
VISIBLE_CONTRAST = 48
# From this alpha on, a picture of one alpha keeps half of its contrast on white; below, its colours alone are read.
HALF_OPAQUE = 128
HIDDEN_CONTRAST = 32


def contrast(pixels: Pixels) -> int:
    """Return the widest range of levels, 0 to 255, that any channel of a picture has."""
    channels = pixels.reshape(-1, *pixels.shape[2:])
    return int(np.max(channels.max(axis=0).astype(int) - channels.min(axis=0)))


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
        return _lay_on(rgba, 0) if np.ptp(to_grey(on_white)) < VISIBLE_CONTRAST else on_white
    if highest < HALF_OPAQUE and contrast(colours) >= max(HIDDEN_CONTRAST, contrast(on_white)):
        return np.ascontiguousarray(colours)
    return on_white


def _lay_on(rgba: UInt8[np.ndarray, "h w 4"], paper: int) -> UInt8[np.ndarray, "h w 3"]:
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + paper * (255 - alpha) + 127) // 255).astype(np.uint8)
