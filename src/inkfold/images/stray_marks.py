"""Tells marks that slipped from the pen, far off a drawing, from the drawing's own dots.

Dots belong to a drawing wherever they are near it or near each other (eyes, drops, stars), and where there are many. In doubt a
mark is kept: a drawing that is a little too small costs less than one without its dot.
"""

import numpy as np
from jaxtyping import Bool, Float64

MARK_SIDE = 0.12  # of the largest part's longer side: what is longer is no slip
FAR = 0.5  # of the drawing's longer side, between a mark and the nearest part that belongs to the drawing
MOST_MARKS = 3  # more are drawn on purpose

Boxes = Float64[np.ndarray, "parts 4"]


def belongs(boxes: Boxes) -> Bool[np.ndarray, " parts"]:
    """Mark the parts of a drawing that belong to it; all of them, unless one to three small ones lie far off.

    Args:
        boxes: Left, top, right and bottom of each part's centre lines, in any unit; one part at least.
    """
    sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    is_kept: np.ndarray = sides > MARK_SIDE * sides.max()
    if not is_kept.any():  # dots only
        return np.ones(len(boxes), bool)
    left, top = boxes[is_kept, :2].min(0)
    right, bottom = boxes[is_kept, 2:].max(0)
    far = FAR * max(right - left, bottom - top)
    reached = is_kept.copy()
    while reached.any():
        near = np.zeros(len(boxes), bool)
        near[~is_kept] = _gaps(boxes[~is_kept], boxes[reached]) <= far
        is_kept |= near
        reached = near
    return is_kept if (~is_kept).sum() <= MOST_MARKS else np.ones(len(boxes), bool)


def _gaps(parts: Boxes, others: Boxes) -> Float64[np.ndarray, " parts"]:
    """Measure how far each part is from the nearest of the others, along the axis in which they are farther apart."""
    nearest = np.full(len(parts), np.inf)
    for left, top, right, bottom in others:
        across = np.maximum(left - parts[:, 2], parts[:, 0] - right)
        upright = np.maximum(top - parts[:, 3], parts[:, 1] - bottom)
        nearest = np.minimum(nearest, np.maximum(np.maximum(across, upright), 0))
    return nearest
