"""Draws a pen's strokes on a page with the margin, line width and ink of the training drawings."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from inkfold.images.stray_marks import belongs

PAGE_PX = 512  # larger than most backbones' input; preprocessing reduces it with the model's own interpolation
TIMES = 2  # OpenCV's pens have whole widths only
FIXED_POINT_BITS = 6
THINNEST, THICKEST = 0.5, 3.0  # of the usual pen
ERASER_FRACTION = 0.05  # of the page's longer side, where an eraser has no width
MOST_GROWTH = 20.0  # a dot is no drawing that fills the page
SKETCH_PX = 512  # where erased ink is looked for

LEAST_FRAME = 0.005  # of the page's longer side: half the side of a dot's frame, where pens have no width

Box = tuple[float, float, float, float]  # left, top, right, bottom


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
        frame: Left, top, right and bottom of the part of the page that is the drawing, in the strokes' unit; None finds
            it.
    """

    strokes: tuple[Stroke, ...]
    width: float
    height: float
    pen: float | None = None
    frame: Box | None = None


def frame_of(sketch: Sketch) -> Box | None:
    """Find the part of the page that `draw_page` shows: the box around the drawing's ink with its lines' usual width.

    Args:
        sketch: The page's size and its strokes.

    Returns:
        Left, top, right and bottom in the strokes' unit; None if no ink is left.
    """
    box = _ink_box(sketch)
    if box is None:
        return None
    half = max((_usual_pen(sketch) or 0.0) / 2, LEAST_FRAME * max(sketch.width, sketch.height))
    return box[0] - half, box[1] - half, box[2] + half, box[3] + half


def page_of(sketch: Sketch, look: Mapping[str, Any]) -> Box | None:
    """Find where the page that `draw_page` draws lies among the strokes.

    Args:
        sketch: The page's size and its strokes.
        look: The training drawings' style, as `draw_page` takes it.

    Returns:
        Left, top, right and bottom of the drawn page in the strokes' unit, which may reach beyond the sketch; None if no ink
        is left.
    """
    box = _ink_box(sketch)
    if box is None:
        return None
    side = PAGE_PX * TIMES
    line = max(1.0, look["line_width_fraction"] * side)
    scale, shift = _placing(box, look["margin_fraction"], line, side, max(sketch.width, sketch.height))
    left, top = -shift / scale
    return float(left), float(top), float(left + side / scale), float(top + side / scale)


def draw_page(sketch: Sketch, look: Mapping[str, Any]) -> UInt8[np.ndarray, "side side"]:
    """Draw a sketch in the style of the training drawings.

    The ink that isn't erased is centred and scaled to the margin of the training drawings; lines get their width, wider or
    thinner only where a stroke's pen differs from the usual one. Erasers keep their place and size relative to the sketch.
    Marks that slipped from the pen, far off the drawing, are left out; where the sketch has a frame, what is outside of it.

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
        usual = _usual_pen(sketch)
        for stroke in sketch.strokes:
            wide = _eraser(sketch, stroke) * scale if stroke.erase else line * _pen_ratio(usual, stroke)
            _draw(page, stroke.points * scale + shift, wide, paper if stroke.erase else ink)
        _clear_around(page, np.array(box) * scale + np.tile(shift, 2), THICKEST * line / 2, paper)
    return cv2.resize(page, (PAGE_PX, PAGE_PX), interpolation=cv2.INTER_AREA)


def _placing(box: Box, margin: float, line: float, side: int, extent: float) -> tuple[float, Float64[np.ndarray, " 2"]]:
    """Compute the scale and the shift that place the box of the lines' centres on the page."""
    left, top, right, bottom = box
    room = max(side * (1 - 2 * margin) - line, side * 0.1)
    longest = max(right - left, bottom - top, extent / MOST_GROWTH)
    scale = room / longest
    middle = np.array([left + right, top + bottom]) / 2
    return scale, side / 2 - middle * scale


def _clear_around(page: UInt8[np.ndarray, "h w"], box: Float64[np.ndarray, " 4"], margin: float, paper: int) -> None:
    """Paint over what is outside of the drawing's box, wherever its lines can't reach."""
    left, top = np.maximum(np.floor(box[:2] - margin), 0).astype(int)
    right, bottom = np.maximum(np.ceil(box[2:] + margin), 0).astype(int)
    page[:top], page[bottom:], page[:, :left], page[:, right:] = paper, paper, paper, paper


def _ink_box(sketch: Sketch) -> Box | None:
    """Return the box around the centres of the drawing's lines that aren't erased; None without ink."""
    drawn = [stroke.points for stroke in sketch.strokes if not stroke.erase]
    if not drawn:
        return None
    points = np.concatenate(drawn)
    whole = _around(points, points)
    if any(stroke.erase for stroke in sketch.strokes):
        boxes = _left_over(sketch, _within(whole, sketch.frame))
    elif sketch.frame is not None:
        inside = [_clipped(line, sketch.frame) for line in drawn]
        boxes = np.array([box for box in inside if box is not None]).reshape(-1, 4)
    else:
        boxes = np.array([[*line.min(0), *line.max(0)] for line in drawn])
    if not len(boxes):
        return None
    kept = belongs(boxes) if sketch.frame is None else np.ones(len(boxes), bool)
    boxes, has_strays = boxes[kept], not kept.all()
    box = _around(boxes[:, :2], boxes[:, 2:])
    if has_strays and any(stroke.erase for stroke in sketch.strokes):  # once more: the drawing alone is seen more sharply
        return _ink_box(replace(sketch, frame=box))
    return box


def _around(starts: Float64[np.ndarray, "n 2"], ends: Float64[np.ndarray, "n 2"]) -> Box:
    (left, top), (right, bottom) = starts.min(0), ends.max(0)
    return float(left), float(top), float(right), float(bottom)


def _within(box: Box, frame: Box | None) -> Box:
    """Return the part of a box that is inside of a frame; a point where there is none."""
    if frame is None:
        return box
    left, top = max(box[0], frame[0]), max(box[1], frame[1])
    return left, top, max(left, min(box[2], frame[2])), max(top, min(box[3], frame[3]))


def _clipped(line: Float64[np.ndarray, "n 2"], frame: Box) -> Float64[np.ndarray, " 4"] | None:
    """Return the box around the part of a line that is inside of a frame; None if there is none.

    Source: Liang and Barsky, "A new concept and method for line clipping", ACM Trans. Graphics 3 (1984).
    """
    low, high = np.array(frame[:2]), np.array(frame[2:])
    start, end = (line, line) if len(line) == 1 else (line[:-1], line[1:])
    step = end - start
    moves = step != 0
    divisor = np.where(moves, step, 1.0)
    enters = np.where(moves, np.where(step > 0, low - start, high - start) / divisor, -np.inf)
    leaves = np.where(moves, np.where(step > 0, high - start, low - start) / divisor, np.inf)
    first, last = np.maximum(enters.max(1), 0.0), np.minimum(leaves.min(1), 1.0)
    crosses = (first <= last) & (moves | ((start >= low) & (start <= high))).all(1)
    if not crosses.any():
        return None
    ends = np.concatenate([start + first[:, None] * step, start + last[:, None] * step])[np.tile(crosses, 2)]
    box: np.ndarray = np.concatenate([ends.min(0), ends.max(0)])
    return box


def _left_over(sketch: Sketch, box: Box) -> Float64[np.ndarray, "parts 4"]:
    """Return the boxes around the parts of the ink that is neither erased nor outside of the frame."""
    left, top, right, bottom = box
    scale = (SKETCH_PX - 5) / max(right - left, bottom - top, max(sketch.width, sketch.height) / MOST_GROWTH)
    shift = np.array([2.0 - left * scale, 2.0 - top * scale])
    mask = np.zeros((SKETCH_PX, SKETCH_PX), np.uint8)
    for stroke in sketch.strokes:
        _draw(
            mask, stroke.points * scale + shift, _eraser(sketch, stroke) * scale if stroke.erase else 1, int(not stroke.erase)
        )
    if sketch.frame is not None:
        _clear_around(mask, np.array(sketch.frame) * scale + np.tile(shift, 2), 0, 0)
    _, _, parts, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    corners = np.stack([parts[1:, 0], parts[1:, 1], parts[1:, 0] + parts[1:, 2], parts[1:, 1] + parts[1:, 3]], axis=1)
    boxes: np.ndarray = (corners - np.tile(shift, 2)) / scale
    return boxes


def _eraser(sketch: Sketch, stroke: Stroke) -> float:
    return stroke.pen or ERASER_FRACTION * max(sketch.width, sketch.height)


def _usual_pen(sketch: Sketch) -> float | None:
    """Return the sketch's pen, otherwise the median of its strokes' own."""
    pens = [drawn.pen for drawn in sketch.strokes if drawn.pen is not None and not drawn.erase]
    return sketch.pen or (float(np.median(pens)) if pens else None)


def _pen_ratio(usual: float | None, stroke: Stroke) -> float:
    """Divide a stroke's pen width by the usual one."""
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
