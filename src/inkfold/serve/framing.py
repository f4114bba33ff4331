"""Which part of a picture the model sees: a small drawing on a large page is cut out, unless the client says where it is.

A model that was trained on drawings that fill their pages doesn't know small ones. So where a drawing fills much less of its
page than the training drawings did, it is cut out with their margin; specks, borders and stamps aren't the drawing
(`images.ink_box`).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

from inkfold.images.decode import Pixels, settle_colour
from inkfold.images.page import Page
from inkfold.images.preprocess import (
    CROP_MARGIN_FRACTION,
    ImageOptions,
    dark_ink,
    ink_box,
    on_paper,
    to_square,
    with_margin,
)
from inkfold.serve.messages import Refusal, Request

SMALL = 0.6  # of what training drawings fill of their pages: a drawing that fills less is cut out

Frame: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom in the input's units
Choice: TypeAlias = Frame | Literal["page"] | None


@final
@dataclass(frozen=True, slots=True)
class Framed:
    """A drawing as the model gets it.

    Attributes:
        square: The square that the model takes.
        frame: The part of the input that it shows, in the input's units; None on a blank page, and for a photographed sheet
            that was straightened, whose pixels aren't the picture's.
    """

    square: Pixels
    frame: Frame | None


def read_frame(request: Request) -> Choice:
    """Read the frame that a client chose for its picture from the query: `frame=left,top,right,bottom` or `frame=page`.

    Returns:
        The frame in pixels of the upright picture, the word for the whole page, or None where the server is to find it.

    Raises:
        Refusal: With 422 if it is neither.
    """
    text = request.query.get("frame")
    if text is None:
        return None
    if text == "page":
        return "page"
    if re.fullmatch(r"-?[0-9]{1,7}(\.[0-9]{0,6})?(,-?[0-9]{1,7}(\.[0-9]{0,6})?){3}", text):
        left, top, right, bottom = map(float, text.split(","))
        if left < right and top < bottom:
            return left, top, right, bottom
    raise invalid_frame(f"frame={text[:60]!r} in the query")


def invalid_frame(got: str) -> Refusal:
    """Build the refusal of a frame that can't be used."""
    expected = "left,top,right,bottom in pixels of the one picture that is sent, overlapping it, or the word page"
    return Refusal(422, "invalid_value", f"got {got}", expected, "Correct the frame, or leave it out.")


def frame_picture(page: Page, options: ImageOptions, look: Mapping[str, Any], sides: tuple[int, int], chosen: Choice) -> Framed:
    """Turn a picture into a square, and say which part of the picture it shows.

    Args:
        page: The picture's file.
        options: How pages become squares.
        look: The training drawings' style, of which the margin counts.
        sides: Width and height of the picture as its header announces them, before it is turned.
        chosen: The frame that the client chose, if any.

    Raises:
        BrokenImage: If the picture can't be decoded.
        Refusal: With 422 if the chosen frame lies outside of the picture.
    """
    if isinstance(chosen, tuple):
        return _of_chosen(page.pixels(options.colour, 0), options, chosen)
    pixels = dark_ink(page, options)
    decoded = page.pixels(options.colour)
    scale = max(sides) / max(pixels.shape[:2])
    top, left, bottom, right = 0, 0, pixels.shape[0], pixels.shape[1]
    box = ink_box(pixels) if chosen is None or options.resize == "crop_to_ink" else None
    if box is not None:
        margin = _margin(box, options, look, pixels)
        if margin is not None:
            top, left, bottom, right = with_margin(box, margin, pixels)
    square = to_square(pixels[top:bottom, left:right], options)
    is_page = _same_shape(pixels, decoded)
    is_blank = chosen is None and box is None
    frame = (left * scale, top * scale, right * scale, bottom * scale)
    return Framed(square, frame if is_page and not is_blank else None)


def _of_chosen(pixels: Pixels, options: ImageOptions, chosen: Frame) -> Framed:
    height, width = pixels.shape[:2]
    left, top = max(0, math.floor(chosen[0])), max(0, math.floor(chosen[1]))
    right, bottom = min(width, math.ceil(chosen[2])), min(height, math.ceil(chosen[3]))
    if left >= right or top >= bottom:
        raise invalid_frame(f"a frame of {', '.join(f'{value:g}' for value in chosen)} on {width} x {height} pixels")
    square = to_square(on_paper(settle_colour(pixels[top:bottom, left:right], options.colour), options), options)
    return Framed(square, (left, top, right, bottom))


def _margin(box: tuple[int, int, int, int], options: ImageOptions, look: Mapping[str, Any], pixels: Pixels) -> float | None:
    """Return the margin with which the drawing is cut out, as a part of its longer side; None leaves the page whole."""
    if options.resize == "crop_to_ink":
        return CROP_MARGIN_FRACTION
    usual = 1 - 2 * min(max(float(look["margin_fraction"]), 0.0), 0.45)  # what training drawings fill of their pages
    filled = max(box[2] - box[0], box[3] - box[1]) / max(pixels.shape[:2])
    return (1 / usual - 1) / 2 if filled < SMALL * usual else None


def _same_shape(pixels: Pixels, decoded: Pixels) -> bool:
    """Check whether a page may have been reduced, but wasn't straightened."""
    (height, width), (full_height, full_width) = pixels.shape[:2], decoded.shape[:2]
    return bool(abs(height * full_width - width * full_height) <= max(full_height, full_width))
