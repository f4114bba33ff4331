"""Measures the training drawings' line width, margin, and grey of ink and paper, so that new strokes can be drawn alike."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from inkfold.images.decode import Pixels, settle_colour, to_grey
from inkfold.images.preprocess import ImageOptions, ink_depth, on_paper, paper_colour

DRAWINGS = 500
UNKNOWN = {"line_width_fraction": 0.02, "margin_fraction": 0.05, "ink": 0, "paper": 255}  # where all pages are blank


def measure_line_style(drawings: Iterable[Pixels], options: ImageOptions) -> dict[str, Any]:
    """Measure drawings in the polarity and crop that the network sees, at their original size.

    Args:
        drawings: Decoded pictures, (h, w) or (h, w, 3) in RGB order, of any sizes; blank ones are left out.
        options: How drawings become squares; only colour, polarity and crop matter here.

    Returns:
        Medians over drawings with ink: `line_width_fraction` and `margin_fraction` of the square's side, `ink` and `paper`
        as grey values 0 to 255.
    """
    measured = [style for style in (_measured(pixels, options) for pixels in drawings) if style is not None]
    if not measured:
        return dict(UNKNOWN)
    width, margin, ink, paper = np.median(np.array(measured), axis=0).tolist()
    return {
        "line_width_fraction": round(width, 4),
        "margin_fraction": round(margin, 4),
        "ink": round(ink),
        "paper": round(paper),
    }


def line_width_px(ink: np.ndarray) -> float:
    """Estimate the width of lines, px, from how far ink lies from paper on average.

    Across a line of w pixels the distances to paper are 1, 2, ... and back; their mean is (w + 1)^2 / (4 w). The mask of the
    ink is neither empty nor full.
    """
    import cv2  # noqa: PLC0415 - 160 ms

    distances = cv2.distanceTransform(np.pad(ink, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    doubled = 2 * max(float(distances[distances > 0].mean()), 1.0) - 1
    return float(doubled + np.sqrt(doubled**2 - 1))


def _measured(pixels: Pixels, options: ImageOptions) -> tuple[float, float, float, float] | None:
    pixels = on_paper(settle_colour(pixels, options.colour), options)
    paper = paper_colour(pixels)
    depth = ink_depth(pixels, paper)
    ink = depth > depth.max() / 2
    if not depth.any() or ink.all():
        return None
    side = max(ink.shape)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    longest = max(np.ptp(rows), np.ptp(columns)) + 1
    grey = to_grey(pixels)
    ground = float(np.median(grey[depth == 0])) if (depth == 0).any() else float(np.mean(paper))
    return line_width_px(ink) / side, (side - longest) / (2 * side), float(np.median(grey[ink])), ground
