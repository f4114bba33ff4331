"""Colours ink by its effect on an answer, on white paper, with a legend in words."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from inkfold.images.decode import Pixels
from inkfold.images.preprocess import paper_colour, paper_distance

# Blue and vermilion of Okabe and Ito's palette, which people with any kind of colour blindness tell apart; strokes without an
# effect are of a grey that is seen on white (3:1).
FOR, AGAINST, NEITHER = (0, 114, 178), (213, 94, 0), (148, 148, 148)
FAINTEST = 0.02  # nats: if no stroke does more, nothing is coloured
LEAST_SIDE_PX, MOST_SIDE_PX = 16, 4096
TEXT_FRACTION, LEAST_TEXT_PX = 1 / 28, 9

Words = tuple[str, str]  # what the two colours say


def words_of(class_name: str, against: str | None) -> Words:
    """Write what blue and orange strokes say; names that the legend's font hasn't are paraphrased."""
    name, other = (_shown(text, instead) for text, instead in ((class_name, "the answer"), (against, "the other class")))
    return f"speaks for {name}", f"speaks for {other}" if against is not None else f"speaks against {name}"


def ink_colours(effects: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """Choose the colour of each pixel's ink: the stronger the effect, compared with the strongest, the less grey."""
    strongest = float(np.abs(effects).max(initial=0.0))
    strength = np.abs(effects) / strongest if strongest > FAINTEST else np.zeros_like(effects)
    full = np.where((effects >= 0)[..., None], np.array(FOR, float), np.array(AGAINST, float))
    mixed: np.ndarray = np.array(NEITHER) + np.sqrt(strength)[..., None] * (full - np.array(NEITHER))
    return mixed


def opacity(square: Pixels) -> Float[np.ndarray, "h w"]:
    """Measure how much ink each pixel has, 0 to 1."""
    depth = paper_distance(square, paper_colour(square)).astype(float)
    shares: np.ndarray = depth / max(1.0, float(depth.max(initial=0)))
    return shares


def overlay(square: Pixels, effects: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 4"]:
    """Colour the ink on transparent paper, in RGBA order."""
    alpha = np.where(effects != 0, opacity(square), 0.0) if effects.any() else np.zeros(effects.shape)
    layered: np.ndarray = np.rint(np.concatenate([ink_colours(effects), 255 * alpha[..., None]], axis=2)).astype(np.uint8)
    return layered


def on_white(square: Pixels, effects: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the coloured ink on white."""
    alpha = opacity(square)[..., None]
    drawn: np.ndarray = np.rint(255 * (1 - alpha) + ink_colours(effects) * alpha).astype(np.uint8)
    return drawn


def coloured_page(square: Pixels, effects: Float[np.ndarray, "h w"], words: Words, size_px: int) -> Image.Image:
    """Draw the coloured ink on white, and the legend below it.

    Args:
        square: The drawing as the model saw it.
        effects: The effect of each pixel's stroke; 0 on paper.
        words: What the colours say.
        size_px: Side of the drawing in the picture, in px, 16 to 4096.

    Raises:
        ValueError: If the side is none of these.
    """
    if not LEAST_SIDE_PX <= size_px <= MOST_SIDE_PX:
        raise ValueError(f"size_px: got {size_px}, expected {LEAST_SIDE_PX} to {MOST_SIDE_PX}.")
    drawing = Image.fromarray(on_white(square, effects)).resize((size_px, size_px), Image.Resampling.BICUBIC)
    font, line = _font(max(LEAST_TEXT_PX, round(size_px * TEXT_FRACTION)))
    entries = ((FOR, words[0]), (AGAINST, words[1]), (NEITHER, "makes no difference"))
    rows = _rows(entries, font, size_px, line)
    page = Image.new("RGB", (size_px, size_px + line * (len(rows) + 1)), "white")
    page.paste(drawing)
    canvas = ImageDraw.Draw(page)
    for place, row in enumerate(rows):
        y, x = size_px + line // 2 + place * line, line // 2
        for colour, text in row:
            canvas.rectangle((x, y + line // 5, x + line // 2, y + line // 5 + line // 2), fill=colour)
            canvas.text((x + line * 3 // 4, y), text, fill=(40, 40, 40), font=font)
            x += _width(text, font, line)
    return page


def _rows(
    entries: Sequence[tuple[tuple[int, int, int], str]], font: ImageFont.FreeTypeFont, size_px: int, line: int
) -> list[list[tuple[tuple[int, int, int], str]]]:
    """Break the legend into rows that fit."""
    rows: list[list[tuple[tuple[int, int, int], str]]] = [[]]
    used = 0
    for colour, text in entries:
        width = _width(text, font, line)
        if rows[-1] and used + width > size_px - line // 2:
            rows.append([])
            used = 0
        rows[-1].append((colour, text))
        used += width
    return rows


def _width(text: str, font: ImageFont.FreeTypeFont, line: int) -> int:
    return round(font.getlength(text)) + line * 3 // 2


def _font(size_px: int) -> tuple[ImageFont.FreeTypeFont, int]:
    return ImageFont.truetype(_font_file(), size_px), round(1.5 * size_px)


@cache
def _font_file() -> str:
    from matplotlib import get_data_path  # noqa: PLC0415 - 150 ms that only pictures need

    return str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def _shown(text: str | None, instead: str) -> str:
    """Give a name as it is written for readers, or words for it where the font lacks a character."""
    if text is None or not text.isascii():
        from matplotlib.ft2font import FT2Font  # noqa: PLC0415 - as above

        font = FT2Font(_font_file())
        if text is None or not all(font.get_char_index(ord(letter)) for letter in text):
            return instead
    return text.replace("_", " ")
