"""Draws a sheet of paper seen from above in even light: its colour and texture, its printed lines, the drawing, and dirt.

Colours are sRGB values 0..255 as float32. A drawing covers the paper: the darker its pixel, the more of the pen's colour.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

from inkfold.augment.rng import Draws
from inkfold.images.decode import Pixels

Interval = tuple[float, float]  # low and high of a uniform distribution
Sheet = Float32[np.ndarray, "h w 3"]

PAPERS: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 250),
    "cream": (250, 241, 218),
    "recycled": (207, 204, 196),
    "legal": (250, 240, 150),
    "blue": (188, 212, 234),
    "pink": (244, 205, 212),
    "kraft": (196, 164, 122),
}
PENS: dict[str, tuple[Interval, Interval, Interval]] = {
    "ink": ((10, 40), (10, 40), (10, 40)),
    "pencil": ((90, 170),) * 3,
    "ball_pen": ((25, 70), (40, 85), (120, 175)),
    "red_pen": ((175, 215), (35, 70), (40, 80)),
    "felt_pen": ((20, 60), (20, 60), (20, 60)),
    "weak_ink": ((90, 150), (90, 150), (95, 160)),
}
RULING_COLOURS = ((140, 170, 215), (165, 165, 170), (120, 190, 190))
MARGIN_COLOUR = (225, 110, 120)
RULED_MM, SQUARED_MM, LINE_MM, DOT_MM = 8.0, 5.0, 0.3, 0.8
HOLE_MM, HOLE_EDGE_MM, HOLE_STEP_MM = 6.0, 12.0, 80.0
INK_FOUND = 0.1  # coverage from which a pixel counts as drawn
NORMAL_BYTES = 4  # a sum of so many bytes is nearly normal


@dataclass(frozen=True, slots=True)
class PageSettings:
    """What a sheet of paper looks like; every interval is low and high of a uniform distribution.

    Attributes:
        papers: Names of `PAPERS`, of which one is chosen.
        paper_shade: Grey levels added to all of the paper's channels.
        texture: Standard deviation of the paper's fibres, in grey levels.
        pens: Names of `PENS`, of which one is chosen; none keeps the drawing's own colours.
        fill: Longer side of the drawing's ink, as a share of the shorter side of what is seen of the page, 0..1.
        centred: Whether the drawing is in the middle; otherwise anywhere.
        ruling: None, or `ruled` (lines 8 mm apart, mostly with a red margin), `squared` (5 mm) or `dots` (5 mm).
        ruling_strength: Opacity of the printed lines, 0..1.
        holes: Punched holes along one side: 0, 2 or 4.
        specks: Number of specks of dust, each 0.2 to 1.2 mm wide.
        corner: Probability of a stamp and that of a page number, in a corner each, 0..1.
    """

    papers: tuple[str, ...] = ("white",)
    paper_shade: Interval = (-8, 5)
    texture: Interval = (0, 2)
    pens: tuple[str, ...] = ("ink",)
    fill: Interval = (0.75, 0.95)
    centred: bool = False
    ruling: str | None = None
    ruling_strength: Interval = (0.25, 0.7)
    holes: int = 0
    specks: Interval = (0, 0)
    corner: float = 0.0


def draw_page(
    drawing: Pixels, settings: PageSettings, seen: tuple[int, int, int, int], px_per_mm: float, draws: Draws
) -> Sheet:
    """Draw a page with a drawing on it.

    Args:
        drawing: Dark ink on white, (h, w) or (h, w, 3).
        settings: What the page looks like.
        seen: Height and width of the page, and the width of the strips along its horizontal and its vertical sides that the
            picture doesn't show; all in px.
        px_per_mm: Pixels per mm of paper, above 0.
        draws: Source of all randomness; it advances.
    """
    height, width, hidden_y, hidden_x = seen
    page = _paper(settings, (height, width), draws)
    _rule(page, settings, px_per_mm, draws)
    _put_drawing(page, drawing, settings, (hidden_y, hidden_x), draws)
    if draws.uniform(0, 1) < settings.corner:
        _stamp(page, (hidden_y, hidden_x), px_per_mm, draws)
    if draws.uniform(0, 1) < settings.corner:
        _page_number(page, (hidden_y, hidden_x), px_per_mm, draws)
    _punch(page, settings.holes, (hidden_y, hidden_x), px_per_mm, draws)
    _scatter_specks(page, round(draws.uniform(*settings.specks)), px_per_mm, draws)
    return page


def pick(choices: tuple[str, ...], draws: Draws) -> str:
    """Choose one of several names."""
    return choices[draws.whole(len(choices) - 1)]


def normal_noise(draws: Draws, height: int, width: int) -> Float32[np.ndarray, "h w"]:
    """Draw nearly normal numbers of mean 0 and standard deviation 1, as sums of bytes."""
    drawn = draws.bytes(NORMAL_BYTES * height * width).reshape(NORMAL_BYTES, height, width)
    deviation = np.sqrt(NORMAL_BYTES * (256 * 256 - 1) / 12)
    noise: np.ndarray = (drawn.sum(0, dtype=np.float32) - 127.5 * NORMAL_BYTES) / np.float32(deviation)
    return noise


def cloudy_noise(draws: Draws, height: int, width: int, cell_px: float) -> Float32[np.ndarray, "h w"]:
    """Draw smooth noise of mean 0 and standard deviation near 1, whose spots are about `cell_px` wide."""
    coarse = normal_noise(draws, round(height / cell_px) + 3, round(width / cell_px) + 3)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(1.17))


def _paper(settings: PageSettings, shape: tuple[int, int], draws: Draws) -> Sheet:
    colour = np.array(PAPERS[pick(settings.papers, draws)], np.float32) + draws.uniform(*settings.paper_shade)
    page = np.empty((*shape, 3), np.float32)
    page[:] = np.minimum(colour, 255)
    texture = draws.uniform(*settings.texture)
    if texture > 0:
        fibres = 0.7 * normal_noise(draws, *shape) + 0.7 * cloudy_noise(draws, *shape, 6)
        page += texture * cv2.GaussianBlur(fibres, (3, 3), 0.6)[..., None]
    return page


def _blend(page: Sheet, colour: tuple[float, ...], opacity: np.ndarray) -> None:
    """Paint a colour over the page, as far as it is opaque: (h, w), (h, w, 1 or 3), or one that broadcasts."""
    opacity = opacity[..., None] if opacity.ndim == 2 else opacity
    page += (np.array(colour, np.float32) - page) * opacity.astype(np.float32)


def _stripes(length: int, step_px: float, start_px: float, width_px: float) -> Float32[np.ndarray, " length"]:
    """Coverage of each pixel by lines that repeat."""
    places = (np.arange(length, dtype=np.float32) + 0.5 - start_px + step_px / 2) % step_px - step_px / 2
    return np.asarray(np.clip(width_px / 2 + 0.5 - np.abs(places), 0, min(1.0, width_px)))


def _rule(page: Sheet, settings: PageSettings, px_per_mm: float, draws: Draws) -> None:
    """Print lines, squares or dots."""
    if settings.ruling is None:
        return
    height, width = page.shape[:2]
    step = (RULED_MM if settings.ruling == "ruled" else SQUARED_MM) * px_per_mm
    thick = (DOT_MM if settings.ruling == "dots" else LINE_MM) * px_per_mm
    across = _stripes(height, step, draws.uniform(0, step), thick)[:, None]
    down = _stripes(width, step, draws.uniform(0, step), thick)[None]
    strength = draws.uniform(*settings.ruling_strength)
    colour = RULING_COLOURS[draws.whole(len(RULING_COLOURS) - 1)]
    match settings.ruling:
        case "ruled":
            _blend(page, colour, strength * np.broadcast_to(across, (height, width)))
            margin = draws.uniform(0.04, 0.16) * width
            if draws.uniform(0, 1) < 0.7:
                _blend(page, MARGIN_COLOUR, strength * _stripes(width, 10 * width, margin, thick)[None] * np.ones((height, 1)))
        case "squared":
            _blend(page, colour, strength * np.maximum(across, down))
        case "dots":
            _blend(page, colour, strength * across * down)


def _put_drawing(page: Sheet, drawing: Pixels, settings: PageSettings, hidden: tuple[int, int], draws: Draws) -> None:
    """Draw the ink at its size and place, with the pen's colour and, for pencil, the paper's tooth."""
    coverage = _ink_alone(1 - np.atleast_3d(drawing).astype(np.float32) / 255)
    room = page.shape[0] - 2 * hidden[0], page.shape[1] - 2 * hidden[1]
    scale = draws.uniform(*settings.fill) * min(room) / max(coverage.shape[:2])
    shape = [max(1, round(side * scale)) for side in coverage.shape[:2]]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    coverage = np.atleast_3d(np.clip(cv2.resize(coverage, (shape[1], shape[0]), interpolation=how), 0, 1))
    places = [0.5 if settings.centred else draws.uniform(0, 1) for _ in range(2)]
    top, left = (
        int(edge + place * (space - side)) for edge, place, space, side in zip(hidden, places, room, shape, strict=True)
    )
    pen = pick(settings.pens, draws) if settings.pens else None
    colour = tuple(draws.uniform(*interval) for interval in PENS[pen]) if pen else (0.0, 0.0, 0.0)
    if pen == "pencil":
        colour = (sum(colour) / 3,) * 3
        tooth = cloudy_noise(draws, shape[0], shape[1], 2)[..., None]
        coverage = coverage * np.clip(0.85 + 0.2 * tooth, 0.3, 1)
    _blend(page[top : top + shape[0], left : left + shape[1]], colour, coverage)


def _ink_alone(coverage: Float32[np.ndarray, "h w c"]) -> Float32[np.ndarray, "rows columns c"]:
    """Cut away what has no ink; a blank drawing stays whole."""
    drawn = coverage.max(2) > INK_FOUND
    if not drawn.any():
        return coverage
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    return coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _corner(page: Sheet, hidden: tuple[int, int], inset_px: float, draws: Draws) -> tuple[int, int]:
    """Choose a point (x, y) near a corner of what is seen."""
    height, width = page.shape[:2]
    x = hidden[1] + inset_px if draws.whole(1) else width - hidden[1] - inset_px
    y = hidden[0] + inset_px if draws.whole(1) else height - hidden[0] - inset_px
    return round(x), round(y)


def _stamp(page: Sheet, hidden: tuple[int, int], px_per_mm: float, draws: Draws) -> None:
    """Press a round or square stamp of two frames."""
    size = draws.uniform(5, 9) * px_per_mm
    mask = np.zeros(page.shape[:2], np.float32)
    centre, thick = _corner(page, hidden, 1.4 * size, draws), max(1, round(0.6 * px_per_mm))
    for radius in (size, 0.7 * size):
        if draws.whole(1):
            cv2.circle(mask, centre, round(radius), 1.0, thick, cv2.LINE_AA)
        else:
            cv2.rectangle(mask, _moved(centre, -radius), _moved(centre, radius), 1.0, thick, cv2.LINE_AA)
    colour = ((150.0, 40.0, 60.0), (60.0, 70.0, 150.0))[draws.whole(1)]
    _blend(page, colour, 0.7 * mask)


def _moved(point: tuple[int, int], by: float) -> tuple[int, int]:
    return point[0] + round(by), point[1] + round(by)


def _page_number(page: Sheet, hidden: tuple[int, int], px_per_mm: float, draws: Draws) -> None:
    mask = np.zeros(page.shape[:2], np.uint8)
    scale = draws.uniform(2.5, 4) * px_per_mm / 22  # the font's capitals are 22 px high
    x, y = _corner(page, hidden, 6 * px_per_mm, draws)
    cv2.putText(mask, str(1 + draws.whole(98)), (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 1, cv2.LINE_AA)
    _blend(page, (40.0, 40.0, 45.0), mask.astype(np.float32) / 255)


def _punch(page: Sheet, holes: int, hidden: tuple[int, int], px_per_mm: float, draws: Draws) -> None:
    """Punch dark holes along the left or the upper side, 80 mm apart or as far as the page allows."""
    if not holes:
        return
    along = draws.whole(1)  # 0: the left side, 1: the upper side
    length = page.shape[along] - 2 * hidden[along]
    edge = hidden[1 - along] + HOLE_EDGE_MM * px_per_mm
    step = min(HOLE_STEP_MM * px_per_mm, length / holes)
    mask = np.zeros(page.shape[:2], np.float32)
    for i in range(holes):
        place = hidden[along] + length / 2 + (i - (holes - 1) / 2) * step
        point = (round(edge), round(place)) if along == 0 else (round(place), round(edge))
        cv2.circle(mask, point, max(2, round(HOLE_MM / 2 * px_per_mm)), 1.0, -1, cv2.LINE_AA)
    _blend(page, (draws.uniform(15, 90),) * 3, mask)


def _scatter_specks(page: Sheet, count: int, px_per_mm: float, draws: Draws) -> None:
    """Scatter dust: small dark ellipses, some pale."""
    height, width = page.shape[:2]
    mask = np.zeros((height, width), np.float32)
    for _ in range(count):
        centre = round(draws.uniform(0, width)), round(draws.uniform(0, height))
        axes = [max(0, round(draws.uniform(0.1, 0.6) * px_per_mm)) for _ in range(2)]
        angle, opacity = draws.uniform(0, 180), draws.uniform(0.4, 1)
        cv2.ellipse(mask, centre, (axes[0], axes[1]), angle, 0, 360, opacity, -1)
    if count:
        _blend(page, (draws.uniform(20, 100),) * 3, cv2.GaussianBlur(mask, (3, 3), 0.5))
