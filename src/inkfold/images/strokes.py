"""Draws a pen's strokes on a page with the margin, line width and ink of the training drawings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

PAGE_PX = 512  # larger than most backbones' input; preprocessing reduces it with the model's own interpolation
TIMES = 2  # OpenCV's pens have whole widths only
FIXED_POINT_BITS = 6
THINNEST, THICKEST = 0.5, 3.0  # of the usual pen
ERASER_FRACTION = 0.05  # of the page's longer side, where an eraser has no width
MOST_GROWTH = 20.0  # a dot is no drawing that fills the page
SKETCH_PX = 512  # where erased ink is looked for

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Stroke:
    """One movement of the pen.

    Attributes:
        points: Positions, x to the right and y down, in any unit.
        pen: Width of the pen in this unit; None stands for the sketch's usual width.
        erase: Whether the stroke removes ink instead of drawing it.
    """

    points: Float64[np.ndarray, "n 2"]
    pen: float | None = None
    erase: bool = False


@dataclass(frozen=True, slots=True)
class Sketch:
    """A page of strokes.

    Attributes:
        strokes: The strokes, in the order in which they were drawn.
        width: Width of the page, in the strokes' unit.
        height: Height of the page, in the strokes' unit.
        pen: Usual width of the pen, in the strokes' unit; None if unknown.
    """

    strokes: tuple[Stroke, ...]
    width: float
    height: float
    pen: float | None = None


def draw_page(sketch: Sketch, look: Mapping[str, Any]) -> UInt8[np.ndarray, "side side"]:
    """Draw a sketch in the style of the training drawings.

    The ink that isn't erased is centred and scaled to the margin of the training drawings; lines get their width, wider or
    thinner only where a stroke's pen differs from the usual one. Erasers keep their place and size relative to the sketch.

    Args:
        sketch: The page's size and its strokes in the order in which they were drawn; later ones cover earlier ones.
        look: The training drawings' style: `line_width_fraction` and `margin_fraction` of the page's side, `ink` and `paper` as
            grey values.

    Returns:
        The page; blank paper if no ink is left.
    """
    side = PAGE_PX * TIMES
    paper, ink = round(look["paper"]), round(look["ink"])
    page = np.full((side, side), paper, np.uint8)
    box = _ink_box(sketch)
    if box is not None:
        line = max(1.0, look["line_width_fraction"] * side)
        scale, shift = _placing(box, look["margin_fraction"], line, side, max(sketch.width, sketch.height))
        for stroke in sketch.strokes:
            wide = _eraser(sketch, stroke) * scale if stroke.erase else line * _pen_ratio(sketch, stroke)
            _draw(page, stroke.points * scale + shift, wide, paper if stroke.erase else ink)
    return cv2.resize(page, (PAGE_PX, PAGE_PX), interpolation=cv2.INTER_AREA)


def _placing(box: Box, margin: float, line: float, side: int, extent: float) -> tuple[float, Float64[np.ndarray, " 2"]]:
    """Compute the scale and the shift that place the box of the lines' centres on the page."""
    left, top, right, bottom = box
    room = max(side * (1 - 2 * margin) - line, side * 0.1)
    longest = max(right - left, bottom - top, extent / MOST_GROWTH)
    scale = room / longest
    middle = np.array([left + right, top + bottom]) / 2
    return scale, side / 2 - middle * scale


def _ink_box(sketch: Sketch) -> Box | None:
    """Return left, top, right, bottom of the centres of the lines that aren't erased; None without ink."""
    drawn = [stroke.points for stroke in sketch.strokes if not stroke.erase]
    if not drawn:
        return None
    points = np.concatenate(drawn)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    if not any(stroke.erase for stroke in sketch.strokes):
        return float(left), float(top), float(right), float(bottom)
    return _left_over(sketch, (float(left), float(top), float(right), float(bottom)))


def _left_over(sketch: Sketch, box: Box) -> Box | None:
    left, top, right, bottom = box
    scale = (SKETCH_PX - 5) / max(right - left, bottom - top, max(sketch.width, sketch.height) / MOST_GROWTH)
    shift = np.array([2.0 - left * scale, 2.0 - top * scale])
    mask = np.zeros((SKETCH_PX, SKETCH_PX), np.uint8)
    for stroke in sketch.strokes:
        _draw(
            mask, stroke.points * scale + shift, _eraser(sketch, stroke) * scale if stroke.erase else 1, int(not stroke.erase)
        )
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    corners = np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]])
    (left, top), (right, bottom) = (corners - shift) / scale
    return float(left), float(top), float(right), float(bottom)


def _eraser(sketch: Sketch, stroke: Stroke) -> float:
    return stroke.pen or ERASER_FRACTION * max(sketch.width, sketch.height)


def _pen_ratio(sketch: Sketch, stroke: Stroke) -> float:
    """Divide a stroke's pen width by the usual one: the sketch's, otherwise the median of its strokes."""
    pens = [drawn.pen for drawn in sketch.strokes if drawn.pen is not None and not drawn.erase]
    usual = sketch.pen or (float(np.median(pens)) if pens else None)
    if usual is None or stroke.pen is None:
        return 1.0
    return min(max(stroke.pen / usual, THINNEST), THICKEST)


def _draw(page: UInt8[np.ndarray, "h w"], points: Float64[np.ndarray, "n 2"], width: float, grey: int) -> None:
    # A pixel's middle is at a whole number for OpenCV; far outside the page its fixed point would overflow.
    inside = np.clip(points - 0.5, -4 * PAGE_PX * TIMES, 4 * PAGE_PX * TIMES)
    line = np.rint(inside * (1 << FIXED_POINT_BITS)).astype(np.int32)
    thickness = int(np.clip(round(width), 1, 4 * PAGE_PX))
    if len(line) == 1:
        line = np.repeat(line, 2, 0)
    cv2.polylines(page, [line], False, grey, thickness, cv2.LINE_8, FIXED_POINT_BITS)
