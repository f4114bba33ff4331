"""Drawings made from pen strokes, for pretraining: many hands and many mediums, of few sources of strokes.

    python pretraining/stroke_pictures.py --data QUICKDRAW --omniglot OMNIGLOT --out STROKES

QUICKDRAW is Quick, Draw! in the competition's layout, which says what classes ink-small must not see; OMNIGLOT is the file
`strokes.npz`. Three sources: the package's generator (objects with a class), Omniglot (characters without) and scenes of
several generated objects (without). Written are `strokes.npy`, (n, 128, 128) uint8, dark ink on white, cropped to the ink, and
`strokes.csv` with row, source, class and instance: pictures of one instance are the same strokes by another hand and medium.
"""

import argparse
import csv
import sys
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise, repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from inkfold.data.synthetic import CLASS_NAMES, Strokes, draw_strokes

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from ink_small import left_out, read

Rng = np.random.Generator
SIDE_PX: Final = 128
CANVAS_PX: Final = 320
DRAWN_PX: Final = 240  # of the canvas: twice the picture, so that widths go in half pixels
MARGIN_FRACTION: Final = 0.05
STEP: Final = 0.012  # of the drawing's size, between the points of a stroke
FIXED_POINT_BITS: Final = 4
DARKNESSES: Final = 6  # of a pencil, by its pressure
VIEWS: Final = {"generator": 1, "omniglot": 2, "scene": 2}
SOURCES: Final = tuple(VIEWS)
CHUNK: Final = 400
REGION_FRACTION: Final = 0.002  # of the canvas; smaller enclosed regions stay empty


@dataclass(frozen=True)
class Hand:
    """How strokes are drawn.

    Attributes:
        manner: `plain`, `doubled` (each line twice), `sketchy` (short overlapping strokes) or `broken` (with gaps).
        smoothing: How far corners are rounded, in steps of the stroke.
        wander: Amplitude of slow errors, of the drawing's size.
        tremor: Amplitude of quick ones, of the drawing's size.
        care: Spread of repeated strokes about the line, of the drawing's size.
        taper: Length over which strokes swell and thin out, of the drawing's size.
        pressure: How much the pressure varies along a stroke, 0 to 1.
    """

    manner: str
    smoothing: float
    wander: float
    tremor: float
    care: float
    taper: float
    pressure: float


@dataclass(frozen=True)
class Medium:
    """What strokes are drawn with.

    Attributes:
        width: Of a line, of the picture's side.
        ink: Darkness of a line, 0 to 1.
        grain: How much of the ink the paper's teeth leave out, 0 to 1.
        soft: Whether pressure makes lines darker, as a pencil's, and strokes over each other darker still.
    """

    width: float
    ink: float
    grain: float
    soft: bool


@dataclass(frozen=True)
class Line:
    """One movement of the hand.

    Attributes:
        points: (n, 2), x right and y down.
        pressure: At each point, 0 to about 1.4, (n,).
    """

    points: np.ndarray
    pressure: np.ndarray


# Share, width from and to, ink from and to, grain from and to, pressure and taper from and to, soft.
MEDIUMS: Final = {
    "fineliner": (0.16, (0.005, 0.011), (0.8, 1.0), (0.0, 0.1), (0.0, 0.15), (0.0, 0.01), False),
    "pen": (0.24, (0.009, 0.024), (0.75, 1.0), (0.0, 0.15), (0.05, 0.35), (0.0, 0.05), False),
    "ballpoint": (0.12, (0.006, 0.013), (0.55, 0.9), (0.1, 0.4), (0.1, 0.4), (0.0, 0.06), True),
    "felt": (0.14, (0.024, 0.06), (0.7, 1.0), (0.0, 0.2), (0.0, 0.15), (0.0, 0.01), False),
    "brush": (0.10, (0.020, 0.06), (0.8, 1.0), (0.0, 0.3), (0.4, 0.8), (0.06, 0.25), False),
    "pencil": (0.18, (0.008, 0.020), (0.45, 0.85), (0.3, 0.8), (0.2, 0.6), (0.0, 0.12), True),
    "charcoal": (0.06, (0.020, 0.05), (0.6, 0.95), (0.5, 0.9), (0.3, 0.7), (0.0, 0.1), True),
}
MANNERS: Final = {"plain": 0.56, "doubled": 0.12, "sketchy": 0.22, "broken": 0.10}
FILLS: Final = {"none": 0.44, "hatch": 0.13, "cross": 0.07, "scribble": 0.08, "grey": 0.1, "shade": 0.1, "solid": 0.08}


def choose_hand(rng: Rng) -> tuple[Hand, Medium]:
    """Choose who draws, and with what."""
    shares = np.array([row[0] for row in MEDIUMS.values()])
    _, *ranges, soft = list(MEDIUMS.values())[rng.choice(len(shares), p=shares / shares.sum())]
    width, ink, grain, pressure, taper = (rng.uniform(*span) for span in ranges)
    manner = list(MANNERS)[rng.choice(len(MANNERS), p=list(MANNERS.values()))]
    if manner == "sketchy":
        width, taper = min(width, 0.022), max(taper, 0.05)
    hand = Hand(
        manner,
        smoothing=rng.uniform(0.5, 3.5) if rng.random() < 0.6 else 0.0,
        wander=0.006 * rng.lognormal(0, 0.6),
        tremor=0.0012 * rng.lognormal(0, 0.8),
        care=0.007 * rng.lognormal(0, 0.4),
        taper=taper,
        pressure=pressure,
    )
    return hand, Medium(width, ink, grain, soft)


def render(strokes: Strokes, rng: Rng, fill_share: float = 1.0) -> UInt8[np.ndarray, "128 128"]:
    """Draw strokes by a random hand in a random medium.

    Args:
        strokes: In any units, x right and y down; a stroke of one point is a dot.
        rng: Source of all randomness; it advances.
        fill_share: Share of drawings whose enclosed regions may be filled or hatched, 0 to 1.

    Returns:
        Dark ink on white, cropped to the ink.
    """
    hand, medium = choose_hand(rng)
    bare = placed([resampled(stroke) for stroke in bent(strokes, rng)])
    drawn = [move(smoothed(points, hand.smoothing), hand, rng) for points in bare]
    lines = [piece for points in drawn for piece in repeated(points, hand, rng)]
    pen_px = medium.width * DRAWN_PX * (1 + 2 * MARGIN_FRACTION)
    ink = np.zeros((CANVAS_PX, CANVAS_PX), np.uint8)
    for part in (lines[::2], lines[1::2]) if medium.soft and hand.manner != "plain" else (lines,):
        ink = over(ink, inked(part, pen_px, medium))
    if rng.random() < fill_share:
        ink = over(ink, filled(enclosed(drawn), medium, rng))
    if rng.random() < 0.06:
        ink = erased(ink, rng)
    return grained(cropped(ink), medium.grain, rng)


def bent(strokes: Strokes, rng: Rng) -> Strokes:
    """Shear, stretch, turn and tilt a drawing of any size, made about 1 large."""
    points = np.concatenate(strokes).astype(np.float64)
    low, high = points.min(0), points.max(0)
    size = max(float((high - low).max()), 1e-6)
    turn, shear, tall = rng.normal(0, (0.07, 0.12, 0.12)).clip(-0.3, 0.3)
    matrix = np.array([[np.exp(tall), turn + shear], [-turn, np.exp(-tall)]])
    tilt = rng.uniform(-0.3, 0.3, 2) if rng.random() < 0.35 else np.zeros(2)
    flat = (points - (low + high) / 2) / size
    flat = flat @ matrix.T / (1 + flat @ tilt)[:, None]
    return np.split(flat, np.cumsum([len(stroke) for stroke in strokes])[:-1])


def placed(strokes: Strokes) -> Strokes:
    """Make a drawing 1 large about the origin."""
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    return [(stroke - (low + high) / 2) / (high - low).max() for stroke in strokes]


def resampled(stroke: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "m 2"]:
    """Walk along a stroke in even steps; a dot becomes a short stroke."""
    walked = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(stroke, axis=0).T))])
    if walked[-1] < STEP:
        return stroke[:1] + np.array([[0.0, 0.0], [0.5, 0.3], [1.0, 0.2]]) * STEP
    places = np.linspace(0, walked[-1], max(3, int(np.ceil(walked[-1] / STEP)) + 1))
    return np.stack([np.interp(places, walked, axis) for axis in stroke.T], 1)


def smoothed(points: Float[np.ndarray, "n 2"], sigma: float) -> Float[np.ndarray, "n 2"]:
    """Round a stroke's corners; its ends stay."""
    reach = min(int(2.5 * sigma), len(points) - 1)
    if reach < 1:
        return points
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.concatenate([2 * points[0] - points[reach:0:-1], points, 2 * points[-1] - points[-2 : -reach - 2 : -1]])
    return np.stack([np.convolve(axis, kernel / kernel.sum(), "valid") for axis in padded.T], 1)


def move(points: Float[np.ndarray, "n 2"], hand: Hand, rng: Rng) -> Float[np.ndarray, "n 2"]:
    """Add a hand's slow errors and its tremor; short strokes err less."""
    along = np.arange(len(points)) * STEP
    cycles = 2 * np.pi * np.array([0.8, 1.9, 7.0, 13.0]) * rng.uniform(0.7, 1.3, 4)
    shares = np.array([hand.wander, hand.wander / 2, hand.tremor, hand.tremor])
    waves = np.sin(along[:, None, None] * cycles + rng.uniform(0, 2 * np.pi, (2, 4)))
    moved: np.ndarray = points + waves @ shares * min(1.0, along[-1] / 0.5) ** 0.5
    return moved


def repeated(points: Float[np.ndarray, "n 2"], hand: Hand, rng: Rng) -> Iterator[Line]:
    """Draw one stroke in a hand's manner: as one or more lines."""
    n = len(points)
    if hand.manner == "plain" or n < 8:
        yield pressed(points, hand, rng)
    elif hand.manner == "doubled":
        for _ in range(2 if rng.random() < 0.85 else 3):
            cut = slice(int(rng.integers(0, n // 6 + 1)), n - int(rng.integers(0, n // 6 + 1)))
            yield pressed(move(shifted(points[cut], hand.care, rng), hand, rng), hand, rng)
    elif hand.manner == "broken":
        start = 0
        while start < n - 2:
            end = start + int(rng.integers(10, 60))
            yield pressed(points[start : max(end, start + 3)], hand, rng)
            start = end + int(rng.integers(2, 6))
    else:
        start = 0
        while start < n - 3:
            end = start + int(rng.integers(9, 30))
            piece = points[max(0, start - int(rng.integers(0, 7))) : end + int(rng.integers(0, 5))]
            for _ in range(1 if rng.random() < 0.6 else 2):
                yield pressed(extended(shifted(piece, hand.care, rng), rng), hand, rng)
            start = end


def shifted(points: Float[np.ndarray, "n 2"], care: float, rng: Rng) -> Float[np.ndarray, "n 2"]:
    """Put a line a little beside its place, and turn it."""
    centre = points.mean(0)
    turn = rng.normal(0, 4 * care)
    arms = points - centre
    moved: np.ndarray = centre + arms + arms[:, ::-1] * np.array([-turn, turn]) + rng.normal(0, care, 2)
    return moved


def extended(points: Float[np.ndarray, "n 2"], rng: Rng) -> Float[np.ndarray, "n 2"]:
    """Let a line start too early and end too late, by up to 3 steps straight on."""
    before, after = rng.integers(0, 4, 2)
    first, last = points[0] - points[1], points[-1] - points[-2]
    return np.concatenate(
        [points[0] + first * np.arange(before, 0, -1)[:, None], points, points[-1] + last * np.arange(1, after + 1)[:, None]]
    )


def pressed(points: Float[np.ndarray, "n 2"], hand: Hand, rng: Rng) -> Line:
    """Press the pen: strokes swell and thin out at the ends, and slow waves run along them."""
    along = np.arange(len(points)) * STEP
    wave = np.sin(along * rng.uniform(4, 14) + rng.uniform(0, 2 * np.pi))
    pressure = 1 + hand.pressure * (0.5 * wave + rng.normal(0, 0.2))
    if hand.taper > 0:
        fade = np.minimum(along / (hand.taper * rng.uniform(0.3, 1)), along[::-1] / (hand.taper * rng.uniform(0.5, 1.5)))
        pressure = pressure * np.clip(fade, 0.2, 1) ** 0.7
    return Line(points, pressure.clip(0.15, 1.4))


def on_canvas(points: Float[np.ndarray, "n 2"]) -> np.ndarray:
    """Turn points of a drawing of size 1 into fixed-point pixels."""
    return np.rint((points * DRAWN_PX + CANVAS_PX / 2) * (1 << FIXED_POINT_BITS)).astype(np.int32)


def inked(lines: list[Line], pen_px: float, medium: Medium) -> UInt8[np.ndarray, "canvas canvas"]:
    """Lay ink along lines, as wide (and, in a soft medium, as dark) as they are pressed."""
    groups: dict[int, list[np.ndarray]] = {}
    for line in lines:
        between = (line.pressure[:-1] + line.pressure[1:]) / 2
        width = np.maximum(1, np.rint(pen_px * between)).astype(int)
        dark = np.rint((DARKNESSES - 1) * np.minimum(between, 1)).astype(int) if medium.soft else DARKNESSES - 1
        codes = width + 1000 * dark  # the darkest last, on top
        pixels = on_canvas(line.points)
        ends = [*(np.flatnonzero(np.diff(codes)) + 1), len(codes)]
        for start, end in zip([0, *ends], ends, strict=False):
            groups.setdefault(int(codes[start]), []).append(pixels[start : end + 1])
    layer = np.zeros((CANVAS_PX, CANVAS_PX), np.uint8)
    for code in sorted(groups):
        darkness = 0.45 + 0.55 * (code // 1000) / (DARKNESSES - 1)
        cv2.polylines(layer, groups[code], False, round(255 * medium.ink * darkness), code % 1000, cv2.LINE_8, FIXED_POINT_BITS)
    return layer


def over(ink: UInt8[np.ndarray, "h w"], layer: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Lay translucent ink over ink."""
    clear: np.ndarray = cv2.multiply(cv2.bitwise_not(ink), cv2.bitwise_not(layer), scale=1 / 255)
    return cv2.bitwise_not(clear)


def enclosed(strokes: Strokes) -> list[np.ndarray]:
    """Find the regions that lines enclose, as masks of 0 and 255, the largest first."""
    paper = np.full((CANVAS_PX, CANVAS_PX), 255, np.uint8)
    cv2.polylines(paper, [on_canvas(points) for points in strokes], False, 0, 3, cv2.LINE_4, FIXED_POINT_BITS)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(paper, connectivity=4)
    outside = int(labels[0, 0])
    areas = stats[:, cv2.CC_STAT_AREA]
    wanted = [i for i in range(1, count) if i != outside and areas[i] > REGION_FRACTION * CANVAS_PX**2]
    return [np.where(labels == i, np.uint8(255), np.uint8(0)) for i in sorted(wanted, key=lambda i: -areas[i])[:8]]


def filled(regions: list[np.ndarray], medium: Medium, rng: Rng) -> UInt8[np.ndarray, "canvas canvas"]:
    """Fill, shade or hatch some regions, carelessly at their borders."""
    layer = np.zeros((CANVAS_PX, CANVAS_PX), np.uint8)
    kind = list(FILLS)[rng.choice(len(FILLS), p=list(FILLS.values()))]
    share, angle, strength = rng.choice([0.4, 0.7, 1.0]), rng.uniform(0, np.pi), rng.uniform(0.25, 0.75)
    if kind == "none":
        return layer
    for number, region in enumerate(regions):
        if rng.random() > share and not (number == 0 and share < 0.5):
            continue
        slip = rng.normal(0, 2.5, 2)
        area = cv2.dilate(region, np.ones((3, 3), np.uint8), iterations=int(rng.integers(0, 3)))
        if kind in ("hatch", "scribble", "cross"):
            area = cv2.warpAffine(area, np.array([[1, 0, slip[0]], [0, 1, slip[1]]]), area.shape)
            for turn in (0.0, rng.uniform(1.0, 2.0))[: 2 if kind == "cross" else 1]:
                lines = hatching(angle + turn + rng.normal(0, 0.05), kind == "scribble", rng)
                pen_px = max(1.0, min(medium.width, 0.018) * DRAWN_PX * rng.uniform(0.5, 1.0))
                layer = over(layer, cv2.bitwise_and(inked(lines, pen_px, medium), area))
        elif kind == "shade":
            layer = over(layer, cv2.multiply(area, slope(angle, rng), scale=strength * 1.2 / 255))
        else:
            tone = medium.ink if kind == "solid" else strength * rng.uniform(0.5, 1)
            layer = over(layer, (area * tone).astype(np.uint8))
    return layer


def hatching(angle: float, scribble: bool, rng: Rng) -> list[Line]:
    """Draw parallel lines, or one line to and fro, all over the canvas; some drawings only half, as shadow."""
    gap = rng.uniform(0.018, 0.05)
    places = np.arange(-0.72, 0.72, gap)
    places = places[places > rng.uniform(-0.15, 0.15)] if rng.random() < 0.3 else places
    places = places + rng.normal(0, 0.15 * gap, len(places))
    reach = np.linspace(-0.75, 0.75, 10)
    bow = rng.normal(0, 0.03)
    rows = [np.stack([reach, place + bow * (reach**2 * 4 - 1) + rng.normal(0, 0.002, 10)], 1) for place in places]
    if scribble:
        rows = [np.concatenate([row if i % 2 else row[::-1] for i, row in enumerate(rows)])]
    c, s = np.cos(angle), np.sin(angle)
    turned = [row @ np.array([[c, s], [-s, c]]) for row in rows]
    return [Line(row, np.full(len(row), rng.uniform(0.6, 1.0))) for row in turned]


def slope(angle: float, rng: Rng) -> UInt8[np.ndarray, "canvas canvas"]:
    """Shade from light to dark across the canvas."""
    x = np.linspace(-1, 1, CANVAS_PX, dtype=np.float32)
    light = x * np.float32(np.cos(angle)) + x[:, None] * np.float32(np.sin(angle)) + np.float32(rng.uniform(-0.2, 0.5))
    shade: np.ndarray = (light.clip(0, 1) * 255).astype(np.uint8)
    return shade


def erased(ink: UInt8[np.ndarray, "canvas canvas"], rng: Rng) -> UInt8[np.ndarray, "canvas canvas"]:
    """Rub out a band or two, which leaves a trace."""
    rubbed = np.full_like(ink, 255)
    for _ in range(int(rng.integers(1, 3))):
        middle = rng.uniform(0.25, 0.75, 2) * CANVAS_PX
        arm = rng.normal(0, 0.18, 2) * CANVAS_PX
        ends = np.rint(np.stack([middle - arm, middle + arm])).astype(np.int32)
        cv2.polylines(rubbed, [ends], False, int(rng.integers(0, 110)), int(rng.integers(8, 26)), cv2.LINE_8)
    kept: np.ndarray = cv2.multiply(ink, cv2.blur(rubbed, (7, 7)), scale=1 / 255)
    return kept


def cropped(ink: UInt8[np.ndarray, "canvas canvas"]) -> UInt8[np.ndarray, "side side"]:
    """Crop to the ink, with a margin, in a square, and reduce it by averaging."""
    seen = ink > 0.25 * ink.max()
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    h, w = bottom - top, right - left
    side = round(max(h, w) * (1 + 2 * MARGIN_FRACTION))
    square = np.zeros((side, side), np.uint8)
    square[(side - h) // 2 :, (side - w) // 2 :][:h, :w] = ink[top:bottom, left:right]
    return cv2.resize(square, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)


def grained(ink: UInt8[np.ndarray, "side side"], grain: float, rng: Rng) -> UInt8[np.ndarray, "side side"]:
    """Let the paper's teeth leave out ink, and turn ink into dark on white."""
    if grain < 0.05:
        return cv2.bitwise_not(ink)
    teeth = rng.random((SIDE_PX, SIDE_PX), dtype=np.float32)
    teeth = 0.6 * teeth + 0.4 * cv2.blur(teeth, (3, 3)) if rng.random() < 0.5 else teeth
    return np.rint(255 - ink * (1 - np.float32(grain) * teeth)).astype(np.uint8)


def scene(names: Collection[str], rng: Rng) -> Strokes:
    """Draw two to five objects in a row or anywhere, the later before the earlier, perhaps on a line of ground."""
    chosen = rng.choice(sorted(names), int(rng.integers(2, 6)))
    chosen[1:] = np.where(rng.random(len(chosen) - 1) < 0.25, chosen[0], chosen[1:])
    in_row, hides = rng.random() < 0.5, rng.random() < 0.75
    page: Strokes = []
    for place, name in enumerate(chosen):
        size = rng.uniform(0.25, 0.6)
        strokes = [stroke * size for stroke in placed(draw_strokes(str(name), rng))]
        foot = max(float(stroke[:, 1].max()) for stroke in strokes)
        x = (place + 0.5) / len(chosen) - 0.5 + rng.normal(0, 0.04) if in_row else rng.uniform(-0.3, 0.3)
        y = 0.25 - foot + rng.normal(0, 0.02) if in_row else rng.uniform(-0.3, 0.3)
        strokes = [resampled(stroke + np.array([x, y])) for stroke in strokes]
        page = [*(hidden(page, strokes) if hides else page), *strokes]
    if rng.random() < 0.35:
        line = np.stack([np.linspace(-0.5, 0.5, 40), 0.25 + np.cumsum(rng.normal(0, 0.004, 40))], 1)
        page = [*page, *hidden([resampled(line)], page)]
    return page


def hidden(behind: Strokes, front: Strokes) -> Strokes:
    """Leave out what lies behind the outline of what is in front."""
    page = np.zeros((CANVAS_PX, CANVAS_PX), np.uint8)
    cv2.polylines(page, [on_canvas(points) for points in front], False, 255, 5, cv2.LINE_4, FIXED_POINT_BITS)
    outlines, _ = cv2.findContours(page, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(page, outlines, -1, 255, cv2.FILLED)
    kept: Strokes = []
    for points in behind:
        at_px = np.rint(points * DRAWN_PX + CANVAS_PX / 2).astype(int).clip(0, CANVAS_PX - 1)
        covered = page[at_px[:, 1], at_px[:, 0]] > 0
        cuts = np.flatnonzero(np.diff(covered)) + 1
        pieces = zip(np.split(points, cuts), np.split(covered, cuts), strict=True)
        kept += [piece for piece, under in pieces if not under[0] and len(piece) > 2]
    return kept


def read_omniglot(path: Path) -> list[Strokes]:
    """Read Omniglot's characters as strokes."""
    with np.load(path, allow_pickle=False) as archive:
        points, offsets = archive["points"].astype(np.float64), archive["offsets"]
    drawings = []
    for start, end in pairwise(offsets):
        lifted = np.flatnonzero(points[start:end, 2]) + 1
        strokes = np.split(np.cumsum(points[start:end, :2], axis=0), lifted)
        drawings.append([stroke for stroke in strokes if len(stroke)])
    return drawings


@dataclass(frozen=True)
class Picture:
    """A picture that is to be made.

    Attributes:
        source: One of `SOURCES`.
        class_name: The generator's, or empty.
        number: Of the drawing within its source and class.
        view: Of the drawing: another view, another hand and medium.
        instance: Number of the drawing among all.
    """

    source: str
    class_name: str
    number: int
    view: int
    instance: int


def planned(names: Collection[str], per_class: int, characters: int, scenes: int) -> list[Picture]:
    """List all pictures, those of one drawing one after another."""
    drawings = [("generator", name, i) for name in sorted(names) for i in range(per_class)]
    drawings += [("omniglot", "", i) for i in range(characters)]
    drawings += [("scene", "", i) for i in range(scenes)]
    return [
        Picture(source, name, i, view, instance)
        for instance, (source, name, i) in enumerate(drawings)
        for view in range(VIEWS[source])
    ]


def make(picture: Picture, names: Collection[str], drawing: Strokes | None, seed: int) -> UInt8[np.ndarray, "128 128"]:
    """Make one picture, which depends on no other.

    Args:
        picture: Which one.
        names: The generator's classes that scenes may hold.
        drawing: The character, for Omniglot.
        seed: Of all pictures, 0 to 2**32 - 1.
    """
    class_number = CLASS_NAMES.index(picture.class_name) if picture.class_name else 0
    entropy = [seed, SOURCES.index(picture.source), class_number, picture.number]
    subject, view = np.random.default_rng(entropy), np.random.default_rng([*entropy, 1 + picture.view])
    if picture.source == "omniglot":
        assert drawing is not None, "Omniglot's pictures are of characters"
        return render(drawing, view, fill_share=0.4)
    strokes = scene(names, subject) if picture.source == "scene" else draw_strokes(picture.class_name, subject)
    return render(strokes, view)


def make_chunk(
    pictures: list[Picture], names: Collection[str], drawings: list[Strokes | None], seed: int
) -> UInt8[np.ndarray, "n 128 128"]:
    """Make some pictures."""
    cv2.setNumThreads(1)
    return np.stack([make(picture, names, drawing, seed) for picture, drawing in zip(pictures, drawings, strict=True)])


def write(out: Path, pictures: list[Picture], names: Collection[str], characters: list[Strokes], seed: int) -> None:
    """Make all pictures in two processes and write them."""
    out.mkdir(parents=True, exist_ok=True)
    chunks = [pictures[start : start + CHUNK] for start in range(0, len(pictures), CHUNK)]
    drawings = [[characters[p.number] if p.source == "omniglot" else None for p in chunk] for chunk in chunks]
    store = np.lib.format.open_memmap(out / "strokes.npy", "w+", np.uint8, (len(pictures), SIDE_PX, SIDE_PX))
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        done = 0
        for made in pool.map(make_chunk, chunks, repeat(names), drawings, repeat(seed)):
            store[done : done + len(made)] = made
            done += len(made)
            print(f"{done} of {len(pictures)}", end="\r", flush=True)
    store.flush()
    with (out / "strokes.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(row, p.source, p.class_name, p.instance) for row, p in enumerate(pictures)]
        csv.writer(file).writerows([("row", "source", "class", "instance"), *rows])


def main() -> None:
    """Make the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Quick, Draw! in the competition's layout")
    parser.add_argument("--omniglot", type=Path, required=True, help="strokes.npz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-class", type=int, default=150, help="generated objects of each class")
    parser.add_argument("--characters", type=int, default=32_000, help="of Omniglot, each drawn twice")
    parser.add_argument("--scenes", type=int, default=3_000, help="each drawn twice")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    unseen = set(left_out({row["class_name"] for row in read(options.data / "train.csv")}))
    names = sorted(set(CLASS_NAMES) - unseen)
    characters = read_omniglot(options.omniglot)[: options.characters]
    pictures = planned(names, options.per_class, len(characters), options.scenes)
    write(options.out, pictures, names, characters, options.seed)
    print(f"{len(pictures)} pictures of {pictures[-1].instance + 1} drawings; classes: {', '.join(names)}")


if __name__ == "__main__":
    main()
