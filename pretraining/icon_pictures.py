"""Draws icons as line drawings, dark ink on white: strokes as they are, fills and colours as borders, grey and hatching.

SVG is untrusted: what refers to anything outside itself, or is larger than an icon, is refused before it is rendered.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

SIDE_PX: Final = 128
RENDERED_PX: Final = 256
MAX_BODY_CHARS: Final = 60_000
MAX_USES: Final = 8  # nested ones double what is drawn
MAX_VIEW: Final = 4096.0
REFUSED: Final = re.compile(
    r"<(image|text|foreignobject|script|filter|style|!|\?)|href\s*=\s*[\"'](?!#)|url\(\s*[\"']?(?!#)", re.IGNORECASE
)
MARGIN_FRACTION: Final = 0.06
INK_LEVEL: Final = 40  # how far from white a pixel is ink
BORDER_STEP: Final = 26  # levels between neighbours across a border of regions; gradients change by less
SPECK_PX: Final = 10  # shorter borders are left out
STROKE_PX: Final = (1.5, 4.0)  # at SIDE_PX
FILL_HALF_PX: Final = 7.0  # at SIDE_PX: thicker ink than strokes have
MIN_INK, MAX_INK = 0.008, 0.7  # share of the square


@dataclass(frozen=True)
class Icon:
    """An icon to be drawn.

    Attributes:
        body: What stands inside `<svg>`.
        view: Left, top, width and height of the view box, in the icon's own units.
        coloured: Whether the colours are its own; otherwise all is drawn in black.
        seed: Decides the width of strokes and which shading is taken.
    """

    body: str
    view: tuple[float, float, float, float]
    coloured: bool
    seed: int


class DrawError(ValueError):
    """An icon that isn't drawn, and why."""


def draw(icon: Icon) -> list[tuple[str, UInt8[np.ndarray, "side side"]]]:
    """Draw an icon in one or two kinds.

    Args:
        icon: Its body may be anything; nothing outside it is read.

    Returns:
        (kind, picture) pairs: `stroke`, or `fill` and `outline`, or, of coloured and shaded ones, `border` and one of
        `shaded` and `hatched`.

    Raises:
        DrawError: If it is refused, can't be rendered, or is nearly empty or nearly black in all kinds.
    """
    rendered = cropped(render(icon))
    random = np.random.default_rng(icon.seed)
    kept = [(kind, small) for kind, picture in _kinds(icon, rendered, random) if is_drawing(small := shrunk(picture))]
    if not kept:
        raise DrawError("nearly empty or nearly black")
    return kept


def render(icon: Icon) -> UInt8[np.ndarray, "h w 4"]:
    """Render an icon's body, its longer side `RENDERED_PX` long.

    Raises:
        DrawError: If the body is refused or the renderer fails.
    """
    import resvg_py  # only drawing needs it

    left, top, width, height = icon.view
    if len(icon.body) > MAX_BODY_CHARS or icon.body.count("<use") > MAX_USES or REFUSED.search(icon.body):
        raise DrawError("refused: too long, or it refers to something outside")
    if not (0 < width <= MAX_VIEW and 0 < height <= MAX_VIEW and max(width, height) <= 4 * min(width, height)):
        raise DrawError(f"refused: a view of {width} x {height}")
    scale = RENDERED_PX / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{size[0]}" height="{size[1]}" '
        f'viewBox="{left} {top} {width} {height}" color="#000">{icon.body}</svg>'
    )
    try:
        data = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True)
        with Image.open(io.BytesIO(bytes(data))) as image:
            return np.asarray(image.convert("RGBA"))
    except (ValueError, RuntimeError, OSError, TypeError) as error:
        raise DrawError(f"can't be rendered: {error}") from error


def cropped(rgba: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "side side 4"]:
    """Crop a picture to what is drawn, with a margin, and pad it to a square.

    Raises:
        DrawError: If nothing is drawn.
    """
    drawn = rgba[..., 3] > INK_LEVEL
    if not drawn.any():
        raise DrawError("empty")
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    inside = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    h, w = inside.shape[:2]
    side = round(max(h, w) * (1 + 2 * MARGIN_FRACTION)) + 2
    if side < SIDE_PX // 2:
        raise DrawError("a speck")
    square = np.zeros((side, side, 4), np.uint8)
    top, left = (side - h) // 2, (side - w) // 2
    square[top : top + h, left : left + w] = inside
    return square


def _kinds(
    icon: Icon, rgba: UInt8[np.ndarray, "side side 4"], random: np.random.Generator
) -> Iterator[tuple[str, UInt8[np.ndarray, "side side"]]]:
    """Draw the kinds that suit the icon."""
    grey, ink = on_white(rgba), rgba[..., 3] > 127
    shaded = icon.coloured or _has_shading(rgba)
    if shaded:
        yield "border", strokes(borders(rgba), _stroke_px(random, rgba))
        if random.random() < 0.5:
            yield "shaded", grey
        else:
            yield "hatched", hatched(rgba, random)
    elif _is_filled(ink):
        yield "fill", grey
        yield "outline", strokes(borders(rgba), _stroke_px(random, rgba))
    else:
        yield "stroke", grey


def _stroke_px(random: np.random.Generator, rgba: UInt8[np.ndarray, "side side 4"]) -> float:
    return float(random.uniform(*STROKE_PX)) * len(rgba) / SIDE_PX


def on_white(rgba: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w"]:
    """Lay a picture on white paper, in grey."""
    alpha = rgba[..., 3].astype(np.float32) / 255
    luma = cv2.cvtColor(rgba[..., :3], cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey: np.ndarray = np.rint(luma * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return grey


def _has_shading(rgba: UInt8[np.ndarray, "h w 4"]) -> bool:
    """Whether a tenth of what is drawn is half transparent, as the second tone of duotone icons is."""
    alpha = rgba[..., 3]
    inner = cv2.erode((alpha > 20).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return bool(np.count_nonzero(inner & (alpha < 200)) > 0.1 * np.count_nonzero(alpha > 20))


def _is_filled(ink: Bool[np.ndarray, "side side"]) -> bool:
    """Whether the ink is somewhere thicker than strokes are."""
    half = cv2.distanceTransform(ink.astype(np.uint8), cv2.DIST_L2, 5)
    return bool(half.max() * SIDE_PX / len(ink) > FILL_HALF_PX)


def borders(rgba: UInt8[np.ndarray, "side side 4"]) -> Bool[np.ndarray, "side side"]:
    """Find the borders between regions of colour, and between them and the paper, one or two pixels wide."""
    flat = rgba.copy()
    flat[flat[..., 3] < 128] = (255, 255, 255, 0)
    flat[..., 3] = np.where(flat[..., 3] < 128, 0, 255)
    flat = np.dstack([cv2.medianBlur(np.ascontiguousarray(flat[..., i]), 5) for i in range(4)]).astype(np.int16)
    found = np.zeros(flat.shape[:2], bool)
    for axis in (0, 1):
        step = np.abs(np.diff(flat, axis=axis)).max(axis=2) > BORDER_STEP
        found[(slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))] |= step
    count, labels, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8), connectivity=8)
    large = np.zeros(count, bool)
    large[1:] = stats[1:, cv2.CC_STAT_AREA] >= SPECK_PX
    kept: np.ndarray = large[labels]
    return kept


def strokes(lines: Bool[np.ndarray, "side side"], width_px: float) -> UInt8[np.ndarray, "side side"]:
    """Draw lines as black strokes of a width."""
    distance = cv2.distanceTransform((~lines).astype(np.uint8), cv2.DIST_L2, 5)
    ink: Float[np.ndarray, "side side"] = np.clip(width_px / 2 + 0.5 - distance, 0, 1)
    picture: np.ndarray = np.rint(255 * (1 - ink)).astype(np.uint8)
    return picture


def hatched(rgba: UInt8[np.ndarray, "side side 4"], random: np.random.Generator) -> UInt8[np.ndarray, "side side"]:
    """Draw the borders, and hatch dark regions, darker ones crosswise."""
    side = len(rgba)
    darkness = 1 - on_white(rgba).astype(np.float32) / 255
    angle, spacing, width = random.uniform(0, np.pi), side * random.uniform(0.035, 0.06), side * random.uniform(0.008, 0.014)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    picture = strokes(borders(rgba), _stroke_px(random, rgba))
    for turn, level in ((0.0, 0.3), (np.pi / 2, 0.6)):
        across = (x * np.cos(angle + turn) + y * np.sin(angle + turn)) % spacing
        ink = np.clip(width / 2 + 0.5 - np.abs(across - spacing / 2), 0, 1) * (darkness > level)
        picture = np.minimum(picture, np.rint(255 * (1 - ink)).astype(np.uint8))
    return picture


def shrunk(picture: UInt8[np.ndarray, "side side"]) -> UInt8[np.ndarray, "128 128"]:
    """Resize a picture to `SIDE_PX`; its darkest ink becomes black, as pale icons were hardly to be seen."""
    small = cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA if len(picture) > SIDE_PX else cv2.INTER_CUBIC)
    darkest = int(small.min())
    if 0 < darkest < 255 - INK_LEVEL:
        small = np.rint(255 - (255 - small.astype(np.float32)) * 255 / (255 - darkest)).astype(np.uint8)
    return small


def is_drawing(picture: UInt8[np.ndarray, "side side"]) -> bool:
    """Whether a picture has ink, and isn't nearly black."""
    return bool(MIN_INK < 1 - float(picture.mean()) / 255 < MAX_INK)
