"""What `/explain` does beside predicting: a drawing's variants, and their effects as JSON in the input's own units."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from PIL import Image

from inkfold.explain.explanation import Explanation, explanation_of
from inkfold.explain.occlusion import erased_one_by_one, labels_on
from inkfold.explain.picture import overlay
from inkfold.explain.strokes import Labels, split_ink
from inkfold.images.decode import Pixels
from inkfold.images.preprocess import CROP_MARGIN_FRACTION, INK_CONTRAST, ImageOptions, ink_box, with_margin
from inkfold.images.strokes import Sketch, draw_page, page_of
from inkfold.serve import schemas
from inkfold.serve.framing import Frame
from inkfold.serve.messages import Refusal
from inkfold.serve.model import Squares

__all__ = ["Variants", "bounds_of", "explanation_json", "explanation_of", "same_class", "variants_of"]


@final
@dataclass(frozen=True, slots=True)
class Variants:
    """A drawing, and the same without each of its strokes.

    Attributes:
        square: The square that was split: the largest of those that the model takes.
        labels: Its strokes.
        squares: The whole drawing, then that without each stroke, in the order of their numbers.
    """

    square: Pixels
    labels: Labels
    squares: Sequence[Squares]


def variants_of(squares: Squares, most: int) -> Variants:
    """Split a drawing's ink into strokes, and erase each of them by itself.

    Args:
        squares: The drawing, one square per file of the model.
        most: The most strokes, at least 1.

    Returns:
        The variants; of a blank page, the page alone.
    """
    square = max(squares, key=len)
    is_blank = bool(np.ptp(square) < INK_CONTRAST)
    labels = np.zeros(square.shape[:2], np.int32) if is_blank else split_ink(square, most)
    count = int(labels.max())
    variants = [erased_one_by_one(each, labels_on(each, square, labels), count) for each in squares]
    return Variants(square, labels, list(zip(*variants, strict=True)))


def bounds_of(
    content: bytes | Sketch, frame: Frame | None, look: Mapping[str, Any], options: ImageOptions, *, is_chosen: bool
) -> Frame | None:
    """Find where the model's square lies on the input.

    Args:
        content: The picture's bytes, or the sketch.
        frame: The part of the picture that the square shows, in px of the picture; None where that isn't known.
        look: The training drawings' style.
        options: How pages become squares.
        is_chosen: Whether the client chose the frame.

    Returns:
        Left, top, right and bottom in the input's units, which may reach beyond it; None where that can't be said.
    """
    if isinstance(content, Sketch):
        frame = page_of(content, look)
        if frame is not None and options.resize == "crop_to_ink":
            frame = _cropped(frame, draw_page(content, look))
    elif is_chosen and options.resize == "crop_to_ink":
        return None
    if frame is None or options.resize == "squash":
        return frame
    left, top, right, bottom = frame
    half, x, y = max(right - left, bottom - top) / 2, (left + right) / 2, (top + bottom) / 2
    square = (x - half, y - half, x + half, y + half)
    return square if max(map(abs, square)) <= 2 * schemas.MAX_COORDINATE else None


def explanation_json(found: Explanation, bounds: Frame | None) -> dict[str, Any]:
    """Give an explanation as the fields of `schemas.Explanation`, without its times."""
    size_px = len(found.square)
    strokes = [
        schemas.StrokeEffect(
            box=None if bounds is None else _placed(one.box, bounds, size_px),
            effect=round(one.effect, 4),
            ink_fraction=round(one.ink_fraction, 4),
        )
        for one in found.strokes
    ]
    picture = io.BytesIO()
    Image.fromarray(overlay(found.square, found.effect_of_pixel())).save(picture, "PNG")
    return {
        "class_name": found.class_name,
        "probability": round(found.probability, 6),
        "against": found.against,
        "against_probability": None if found.against_probability is None else round(found.against_probability, 6),
        "strokes": strokes,
        "picture": f"data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}",
        "bounds": None if bounds is None else _as_schema(bounds),
    }


def same_class(name: str) -> Refusal:
    """Build the refusal of a class that is to be explained against itself."""
    got = f"against={name[:40]!r}, which is the class that is explained"
    return Refusal(422, "invalid_value", got, "another class", "Name another class, or none.")


def _cropped(page: Frame, pixels: Pixels) -> Frame:
    """Return the part of a page that is left of it when it is cropped to its ink."""
    box = ink_box(pixels)
    if box is None:
        return page
    top, left, bottom, right = with_margin(box, CROP_MARGIN_FRACTION, pixels)
    unit = (page[2] - page[0]) / len(pixels)
    return page[0] + left * unit, page[1] + top * unit, page[0] + right * unit, page[1] + bottom * unit


def _placed(box: tuple[int, int, int, int], bounds: Frame, size_px: int) -> schemas.Frame:
    across, down = (bounds[2] - bounds[0]) / size_px, (bounds[3] - bounds[1]) / size_px
    xs, ys = [bounds[0] + x * across for x in box[::2]], [bounds[1] + y * down for y in box[1::2]]
    return _as_schema((xs[0], ys[0], xs[1], ys[1]))


def _as_schema(frame: Frame) -> schemas.Frame:
    left, top, right, bottom = (round(value, 4) for value in frame)
    return schemas.Frame(left=left, top=top, right=right, bottom=bottom)
