"""Erases strokes from a drawing's squares, and measures by how much an answer changes without them."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float64

from inkfold.explain.strokes import Labels, ink_mask
from inkfold.images.decode import Pixels
from inkfold.images.preprocess import paper_colour

LEAST_PROBABILITY = 1e-9  # single precision has probabilities of 0, whose logarithm is none


def erased(square: Pixels, gone: Bool[np.ndarray, "size size"]) -> Pixels:
    """Paint over pixels of a square with its paper's colour."""
    changed = square.copy()
    changed[gone] = paper_colour(square)
    return changed


def erased_one_by_one(square: Pixels, labels: Labels, count: int) -> list[Pixels]:
    """Return a square as it is, and then without each of its strokes, 1 to `count`, in the order of their numbers."""
    return [square, *(erased(square, labels == number) for number in range(1, count + 1))]


def labels_on(other: Pixels, square: Pixels, labels: Labels) -> Labels:
    """Find the strokes of one square on another square of the same drawing, of another size or with another margin.

    The boxes around all ink tell how the one lies on the other.

    Args:
        other: The square on which the strokes are found.
        square: The square that was split.
        labels: Its strokes, as `split_ink` returns them.

    Returns:
        The strokes' numbers on the other square.
    """
    if other.shape[:2] == square.shape[:2] and np.array_equal(ink_mask(other), ink_mask(square)):
        return labels
    here, there = _corners(ink_mask(square)), _corners(ink_mask(other))
    if here is None or there is None:
        return np.zeros(other.shape[:2], np.int32)
    (scale_x, shift_x), (scale_y, shift_y) = (_line(here[axis], there[axis]) for axis in (0, 1))
    matrix = np.array([[scale_x, 0, shift_x], [0, scale_y, shift_y]])
    size = (other.shape[1], other.shape[0])
    moved: np.ndarray = cv2.warpAffine(labels.astype(np.float32), matrix, size, flags=cv2.INTER_NEAREST)
    return moved.astype(np.int32)


def effects(
    probs: Float[np.ndarray, "variants classes"], target: int, against: int | None = None
) -> Float64[np.ndarray, " strokes"]:
    """Compute by how much each stroke raises the logarithm of a class's probability.

    Args:
        probs: Class probabilities of the whole drawing, and then of the drawing without each stroke.
        target: Id of the class that is explained.
        against: Id of a second class; then the logarithm of the two probabilities' ratio is explained.

    Returns:
        In nats: 0.7 says that the probability (or the ratio) is half as large without the stroke; negative where the stroke
        lowers it.
    """
    logs = np.log(np.maximum(probs.astype(np.float64), LEAST_PROBABILITY))
    scores = logs[:, target] if against is None else logs[:, target] - logs[:, against]
    changes: np.ndarray = scores[0] - scores[1:]
    return changes


def _corners(ink: Bool[np.ndarray, "h w"]) -> list[tuple[int, int]] | None:
    """Return where the ink begins and ends, across and down."""
    if not ink.any():
        return None
    spans: Sequence[np.ndarray] = [np.flatnonzero(ink.any(axis)) for axis in (0, 1)]
    return [(int(span[0]), int(span[-1]) + 1) for span in spans]


def _line(here: tuple[int, int], there: tuple[int, int]) -> tuple[float, float]:
    """Return scale and shift that move one span onto another, of pixels' middles."""
    scale = (there[1] - there[0]) / (here[1] - here[0])
    return scale, there[0] - scale * here[0] + (scale - 1) / 2
