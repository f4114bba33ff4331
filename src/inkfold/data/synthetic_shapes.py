"""The shapes of the generated classes: one function per class returns ideal strokes, in any units, x right and y down.

The functions vary the object's parts (petals, legs, a lid) and proportions. `synthetic` adds the hand's errors, the place on
the page and the pen.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Rng = np.random.Generator
Stroke = Float[np.ndarray, "points 2"]
Strokes = list[np.ndarray]

_T = np.arange(6) / 6
# Catmull-Rom: passes through its points, so that a shape's numbers can be read off squared paper.
_SPLINE = 0.5 * np.stack(
    [-(_T**3) + 2 * _T**2 - _T, 3 * _T**3 - 5 * _T**2 + 2, -3 * _T**3 + 4 * _T**2 + _T, _T**3 - _T**2], axis=1
)


def path(*xy: float) -> Stroke:
    """Join points by straight lines: `path(x0, y0, x1, y1, ...)`."""
    return np.array(xy, dtype=np.float64).reshape(-1, 2)


def loop(*xy: float) -> Stroke:
    """Join points by straight lines, the last to the first."""
    return path(*xy, *xy[:2])


def curve(*xy: float) -> Stroke:
    """Lay a smooth line through points."""
    knots = path(*xy)
    knots = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    return np.concatenate([_through(knots), knots[-2:-1]])


def blob(*xy: float) -> Stroke:
    """Lay a smooth closed line through points."""
    knots = path(*xy)
    smooth = _through(np.concatenate([knots[-1:], knots, knots[:2]]))
    return np.concatenate([smooth, smooth[:1]])


def mirrored_blob(*xy: float) -> Stroke:
    """Lay a smooth closed line through points of the right half, top to bottom, and their mirror images."""
    half = path(*xy)
    return blob(*np.concatenate([half, half[-2:0:-1] * np.array([-1.0, 1.0])]).ravel())


def _through(knots: Stroke) -> Stroke:
    windows = np.stack([knots[:-3], knots[1:-2], knots[2:-1], knots[3:]], axis=1)
    smooth: Stroke = np.matmul(_SPLINE, windows).reshape(-1, 2)
    return smooth


def box(x0: float, y0: float, x1: float, y1: float) -> Stroke:
    """Outline a rectangle."""
    return loop(x0, y0, x1, y0, x1, y1, x0, y1)


def arc(x: float, y: float, rx: float, ry: float, degrees: tuple[float, float]) -> Stroke:
    """Draw a part of an ellipse; 0 degrees is right, 90 down."""
    angle = np.radians(np.linspace(*degrees, 25))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def oval(x: float, y: float, rx: float, ry: float | None = None) -> Stroke:
    """Draw an ellipse, or a circle."""
    stroke = arc(x, y, rx, rx if ry is None else ry, (-90, 270))
    stroke[-1] = stroke[0]
    return stroke


def dot(x: float, y: float, radius: float) -> Stroke:
    """Scribble a filled dot: a spiral of three turns."""
    angle, reach = np.linspace(0, 6 * np.pi, 31), np.linspace(0.1, 1, 31) * radius
    return np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1)


def bumps(x: float, y: float, rx: float, ry: float, count: int) -> Stroke:
    """Draw a closed row of bulges around an ellipse, as of a cloud or a crown of leaves."""
    angle = np.linspace(0, 2 * np.pi, 8 * count + 1)
    reach = 0.82 + 0.3 * np.abs(np.sin(angle * count / 2)) ** 0.8
    stroke = np.stack([x + rx * reach * np.cos(angle), y + ry * reach * np.sin(angle)], axis=1)
    stroke[-1] = stroke[0]
    return stroke


def turned(stroke: Stroke, degrees: float, x: float = 0.0, y: float = 0.0) -> Stroke:
    """Turn a stroke clockwise about the origin, then move the origin to (x, y)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    moved: Stroke = stroke @ np.array([[c, s], [-s, c]]) + np.array([x, y])
    return moved


def both(*strokes: Stroke) -> Strokes:
    """Give each stroke and its mirror image left of the line x = 0."""
    return [copy for stroke in strokes for copy in (stroke, stroke * np.array([-1.0, 1.0]))]


def maybe(r: Rng, chance: float, *strokes: Stroke) -> Strokes:
    """Give the strokes at some chance, else none."""
    return list(strokes) if r.random() < chance else []


def _apple(r: Rng) -> Strokes:
    dip, w = r.uniform(-0.55, -0.42), r.uniform(0.75, 0.9)
    body = mirrored_blob(0, dip, 0.4, -0.65, w, -0.25, 0.62, 0.5, 0.22, 0.76, 0, 0.68)
    strokes = [body, curve(0, dip, 0.03, -0.78, r.uniform(0.08, 0.2), -1)]
    strokes += maybe(r, 0.75, curve(0.05, -0.72, 0.28, -0.98, 0.62, -0.9), curve(0.05, -0.72, 0.38, -0.68, 0.62, -0.9))
    return strokes + maybe(r, 0.35, arc(-0.1, 0, 0.5, 0.45, (150, 210)))


def _bicycle(r: Rng) -> Strokes:
    size, top = r.uniform(0.34, 0.46), r.uniform(-0.3, -0.15)
    frame = path(-0.62, 0.4, -0.08, 0.42, 0.4, top, -0.25, top, -0.62, 0.4)
    fork = path(0.62, 0.4, 0.4, top, 0.36, top - 0.22)
    bar = curve(0.2, top - 0.2, 0.36, top - 0.24, 0.52, top - 0.2, 0.5, top - 0.08)
    seat = path(-0.25, top, -0.29, top - 0.14, -0.42, top - 0.14, -0.16, top - 0.14)
    strokes = [oval(-0.62, 0.4, size), oval(0.62, 0.4, size), frame, fork, bar, seat, oval(-0.08, 0.42, 0.08)]
    if r.random() < 0.35:
        spoke = path(-size, 0, size, 0)
        strokes += [turned(spoke, a, x, 0.4) for x in (-0.62, 0.62) for a in (20, 80, 140)]
    return strokes


def _boat(r: Rng) -> Strokes:
    w, keel, top = r.uniform(0.75, 1), r.uniform(0.4, 0.65), r.uniform(-1, -0.75)
    hull = loop(-w, 0.3, w, 0.3, w * keel, 0.75, -w * keel, 0.75)
    strokes = [hull, path(0, 0.3, 0, top), loop(0.06, top + 0.08, 0.06, 0.15, w * 0.75, 0.15)]
    strokes += maybe(r, 0.7, loop(-0.06, top + 0.2, -0.06, 0.15, -w * 0.55, 0.15))
    strokes += maybe(r, 0.4, loop(0, top, 0, top - 0.16, 0.22, top - 0.08))
    return strokes + maybe(r, 0.5, curve(*[v for i in range(9) for v in (-1.2 + 0.3 * i, 0.88 + 0.06 * (-1) ** i)]))


def _book(r: Rng) -> Strokes:
    w, h, sag = r.uniform(0.8, 1), r.uniform(0.4, 0.6), r.uniform(0.08, 0.2)
    page = curve(0, -h, w * 0.25, -h - sag, w * 0.6, -h - sag, w, -h)
    strokes = [path(0, -h, 0, h), *both(page, path(w, -h, w, h), page + np.array([0, 2 * h]))]
    for y in np.linspace(-h * 0.7, h * 0.5, r.integers(0, 6)):
        strokes += both(curve(0.12, y, w * 0.5, y - sag * 0.8, w * 0.85, y - sag * 0.3))
    return strokes + (both(path(w, -h * 0.9, w + 0.1, -h * 0.8, w + 0.1, h * 1.15, 0, h * 1.15)) if h > 0.5 else [])


def _butterfly(r: Rng) -> Strokes:
    up, low = r.uniform(0.75, 1), r.uniform(0.5, 0.75)
    wing = blob(0.05, -0.1, 0.4, -0.75, up, -0.8, up, -0.3, 0.5, 0.02)
    tail = blob(0.05, 0.05, 0.5, 0.05, low, 0.4, low * 0.6, 0.8, 0.15, 0.45)
    feeler = curve(0.02, -0.44, 0.1, -0.75, r.uniform(0.2, 0.35), -0.95)
    strokes = [*both(wing, tail, feeler), oval(0, 0, r.uniform(0.05, 0.1), 0.45)]
    return strokes + maybe(r, 0.5, *both(oval(0.65, -0.5, 0.12), oval(0.4, 0.4, 0.1)))


def _car(r: Rng) -> Strokes:
    roof, wheel, back = r.uniform(-0.55, -0.35), r.uniform(0.16, 0.23), r.uniform(-0.75, -0.45)
    body = loop(-1, 0.3, -1, -0.02, back, -0.06, back + 0.2, roof, 0.25, roof, 0.55, -0.06, 1, 0.04, 1, 0.3)
    strokes = [body, oval(-0.55, 0.32, wheel), oval(0.55, 0.32, wheel)]
    strokes += [loop(back + 0.14, -0.06, back + 0.26, roof + 0.08, 0.22, roof + 0.08, 0.42, -0.06)]
    strokes += maybe(r, 0.7, path(-0.1, roof + 0.08, -0.1, 0.25))
    strokes += maybe(r, 0.5, *[oval(x, 0.32, wheel * 0.45) for x in (-0.55, 0.55)])
    return strokes + maybe(r, 0.4, oval(0.93, 0.1, 0.06))


def _cat(r: Rng) -> Strokes:
    w, tip, eye = r.uniform(0.6, 0.75), r.uniform(-0.98, -0.8), r.uniform(0.05, 0.09)
    strokes = [oval(0, 0, w, 0.56), *both(path(w * 0.25, -0.52, w * 0.75, tip, w * 0.95, -0.2))]
    strokes += both(oval(w * 0.4, -0.1, eye, eye * 1.4) if r.random() < 0.5 else dot(w * 0.4, -0.1, eye))
    strokes += [loop(-0.07, 0.1, 0.07, 0.1, 0, 0.18), *both(curve(0, 0.18, 0.08, 0.28, 0.2, 0.24))]
    strokes += both(*[path(0.3, 0.15 + d / 3, 0.95, 0.08 + d) for d in (-0.1, 0.06, 0.2)[: r.integers(2, 4)]])
    if r.random() < 0.35:
        strokes += [curve(-0.4, 0.45, -0.55, 1.1, -0.4, 1.5, 0.4, 1.5, 0.55, 1.1, 0.4, 0.45)]
        strokes += [curve(0.5, 1.35, 0.95, 1.3, 0.85, 0.9, 1.05, 0.75), path(0, 1.1, 0, 1.5)]
    return strokes


def _chair(r: Rng) -> Strokes:
    d, up, legs = r.uniform(0.15, 0.35), r.uniform(0.75, 1.1), r.uniform(0.6, 0.9)
    seat = loop(-0.5, 0.1, 0.25, 0.1, 0.25 + d, 0.1 - d, -0.5 + d, 0.1 - d)
    back = path(-0.5, 0.1, -0.5, 0.1 - up, -0.5 + d, 0.1 - d - up, -0.5 + d, 0.1 - d)
    feet = ((-0.5, 0.1), (0.25, 0.1), (0.25 + d, 0.1 - d), (-0.5 + d, 0.1))
    strokes = [seat, back, *[path(x, y, x, y + legs - (0 if y > 0 else 0.05)) for x, y in feet]]
    slats = 0.1 - up * np.linspace(0.25, 0.8, r.integers(0, 4))
    return strokes + [path(-0.5, y, -0.5 + d, y - d) for y in slats]


def _clock(r: Rng) -> Strokes:
    tick, step = path(r.uniform(0.75, 0.85), 0, 0.95, 0), r.choice([30, 30, 90])
    strokes = [oval(0, 0, 1), *[turned(tick, a) for a in range(0, 360, step)]]
    strokes += [turned(path(0, 0, reach, 0), r.uniform(0, 360)) for reach in (r.uniform(0.35, 0.5), 0.7)]
    strokes += [oval(0, 0, 1.12)] if r.random() < 0.25 else [dot(0, 0, 0.05)]
    return strokes + maybe(r, 0.3, *both(turned(arc(0, 0, 0.3, 0.3, (180, 360)), 38, 0.72, -0.95), path(0.6, 0.85, 0.8, 1.15)))


def _cloud(r: Rng) -> Strokes:
    strokes = [bumps(0, 0, r.uniform(0.9, 1.1), r.uniform(0.45, 0.65), int(r.integers(6, 11)))]
    return strokes + [path(x, 0.8, x - 0.08, 1.05) for x in np.linspace(-0.6, 0.6, r.choice([0, 0, 3, 5]))]


def _cup(r: Rng) -> Strokes:
    w, h, foot = r.uniform(0.55, 0.75), r.uniform(0.35, 0.65), r.uniform(0.5, 0.8)
    side = curve(-w, -h, -w * 0.95, 0, -w * foot, h, w * foot, h, w * 0.95, 0, w, -h)
    strokes = [side, oval(0, -h, w, r.uniform(0.08, 0.18))]
    strokes += [curve(w, -h * 0.6, w + 0.35, -h * 0.7, w + 0.38, 0.05, w * 0.9, h * 0.35)]
    strokes += maybe(r, 0.35, oval(0, h + 0.03, w * 1.5, 0.16))
    steam = curve(0, 0, 0.09, -0.15, -0.06, -0.3, 0.05, -0.5) + np.array([0, -h - 0.2])
    return strokes + maybe(r, 0.4, *[steam + np.array([x, 0]) for x in (-0.3, 0, 0.3)])


def _envelope(r: Rng) -> Strokes:
    h, tip = r.uniform(0.5, 0.75), r.uniform(-0.05, 0.25)
    strokes = [box(-1, -h, 1, h), path(-1, -h, 0, tip, 1, -h)]
    strokes += maybe(r, 0.5, *both(path(1, h, 0.35, tip * 0.3)))
    return strokes + maybe(r, 0.25, oval(0, tip, 0.12))


def _eye(r: Rng) -> Strokes:
    h, iris = r.uniform(0.38, 0.55), r.uniform(0.27, 0.36)
    lids = [curve(-1, 0, -0.5, -h * 0.8, 0, -h, 0.6, -h * 0.65, 1, 0), curve(-1, 0, -0.4, h * 0.8, 0.3, h * 0.8, 1, 0)]
    strokes = [*lids, oval(0, -0.02, iris), dot(0, -0.02, iris * r.uniform(0.35, 0.55))]
    lash = path(0, -h, 0, -h - r.uniform(0.15, 0.3))
    strokes += [turned(lash, a, a / 90, abs(a) * 0.002) for a in np.linspace(-45, 45, r.choice([0, 5, 7]))]
    return strokes + maybe(r, 0.35, curve(-0.9, -0.75, -0.1, -1.05, 0.9, -0.8))


def _fish(r: Rng) -> Strokes:
    h, w = r.uniform(0.35, 0.55), r.uniform(0.25, 0.45)
    body = curve(0.65, -0.05, 0.2, -h * 0.8, -0.35, -h, -0.9, 0, -0.35, h, 0.2, h * 0.8, 0.65, 0.05)
    strokes = [body, path(0.65, -0.05, 1.05, -w, 0.95, 0, 1.05, w, 0.65, 0.05), oval(-0.6, -0.1, 0.06)]
    strokes += maybe(r, 0.7, arc(-0.62, 0, 0.25, h * 0.75, (-60, 60)))
    strokes += maybe(r, 0.6, curve(-0.4, -h, -0.1, -h - 0.28, 0.2, -h * 0.8))
    strokes += maybe(r, 0.5, path(-0.86, 0.1, -0.72, 0.12))
    scales = [(0, -0.15), (0, 0.12), (0.25, 0)] if r.random() < 0.4 else []
    return strokes + [arc(x, y, 0.09, 0.1, (-80, 80)) for x, y in scales]


def _flower(r: Rng) -> Strokes:
    count, heart, long = int(r.integers(5, 10)), r.uniform(0.18, 0.28), r.uniform(0.3, 0.45)
    petal = oval(heart + long * 0.8, 0, long, (heart + long) * 2 / count)
    strokes = [oval(0, 0, heart), *[turned(petal, 360 * i / count) for i in range(count)]]
    strokes += maybe(r, 0.85, curve(0, heart + 1.6 * long, 0.06, 1.2, r.uniform(-0.15, 0.15), 2))
    leaf = blob(0, 1.5, 0.3, 1.15, 0.65, 1.1, 0.4, 1.45)
    return strokes + (both(leaf)[: r.integers(0, 3)] if len(strokes) > count + 1 else [])


def _guitar(r: Rng) -> Strokes:
    w, waist, neck = r.uniform(0.5, 0.62), r.uniform(0.25, 0.36), r.uniform(-1.4, -1.1)
    body = mirrored_blob(0, -0.3, 0.3, -0.25, 0.4, 0, waist, 0.25, w, 0.65, 0.3, 1, 0, 1.03)
    strokes = [body, oval(0, 0.25, 0.15), *both(path(0.08, -0.28, 0.07, neck)), path(-0.18, 0.7, 0.18, 0.7)]
    strokes += [loop(-0.07, neck, -0.13, neck - 0.35, 0.13, neck - 0.35, 0.07, neck)]
    strokes += maybe(r, 0.6, *[path(x, neck, x, 0.7) for x in (-0.03, 0.03)])
    pegs = both(*[path(0.12, neck - d, 0.2, neck - d) for d in (0.1, 0.2, 0.3)])
    strokes += maybe(r, 0.6, *pegs)
    return [turned(stroke, tilt) for tilt in [r.uniform(-45, 45)] for stroke in strokes]


def _house(r: Rng) -> Strokes:
    w, tip, door = r.uniform(0.65, 0.9), r.uniform(-0.95, -0.7), r.uniform(-0.4, 0.25)
    strokes = [box(-w, -0.2, w, 0.8), path(-w - 0.1, -0.2, 0, tip, w + 0.1, -0.2), box(door, 0.25, door + 0.26, 0.8)]
    side = -0.28 if door > -0.1 else 0.38
    strokes += [box(side - 0.17, 0.05, side + 0.17, 0.35)]
    strokes += maybe(r, 0.6, path(side, 0.05, side, 0.35), path(side - 0.17, 0.2, side + 0.17, 0.2))
    if r.random() < 0.55:
        strokes += [path(0.4, -0.45, 0.4, -0.85, 0.58, -0.85, 0.58, -0.33)]
        strokes += maybe(r, 0.6, curve(0.5, -0.9, 0.6, -1.02, 0.48, -1.12, 0.62, -1.25))
    return strokes + maybe(r, 0.5, dot(door + 0.2, 0.55, 0.03))


def _key(r: Rng) -> Strokes:
    ring, long, tooth = r.uniform(0.28, 0.4), r.uniform(0.9, 1.2), r.uniform(0.15, 0.28)
    bow = [oval(-ring, 0, ring), oval(-ring, 0, ring * r.uniform(0.35, 0.6))]
    strokes = [*bow, path(0, -0.06, long, -0.06, long, 0.06), path(long, 0.06, 0, 0.06)]
    bits = [path(x, 0.06, x, 0.06 + tooth, x - 0.12, 0.06 + tooth, x - 0.12, 0.06) for x in (long, long - 0.25)]
    return [turned(stroke, tilt) for tilt in [r.uniform(-60, 60)] for stroke in strokes + bits]


def _leaf(r: Rng) -> Strokes:
    w, low = r.uniform(0.4, 0.65), r.uniform(0.1, 0.4)
    side = curve(0, 0.75, w * 0.8, low + 0.2, w, low - 0.25, w * 0.5, -0.6, 0, -1)
    strokes = [*both(side), path(0, -0.8, 0, 1.15)]
    for y in np.linspace(-0.4, 0.5, r.integers(2, 6)):
        strokes += both(path(0, y, w * (0.62 - 0.3 * abs(y)), y - 0.25))
    return [turned(stroke, tilt) for tilt in [r.uniform(-60, 60)] for stroke in strokes]


def _lightning(r: Rng) -> Strokes:
    a, b = r.uniform(-0.1, 0.15), r.uniform(0.1, 0.3)
    bolt = loop(-0.2, -1, 0.45, -1, 0.15, -0.3 + a, 0.55, -0.3 + a, -0.35, 1, -0.05, b, -0.5, b)
    return [bolt, *maybe(r, 0.2, path(0.7, -0.8, 0.95, -0.9), path(0.75, -0.4, 1, -0.35))]


def _moon(r: Rng) -> Strokes:
    deep = r.uniform(0.25, 0.7)
    strokes = [arc(0, 0, 0.9, 0.9, (60, 300)), arc(0.45, 0, deep, 0.78, (270, 90))]
    strokes += maybe(r, 0.3, dot(-0.45, -0.15, 0.06), arc(-0.4, 0.3, 0.15, 0.1, (0, 160)))
    return strokes + maybe(r, 0.3, *[turned(path(0, -0.2, 0, 0.2), a, 0.75, -0.1) for a in (0, 60, 120)])


def _mushroom(r: Rng) -> Strokes:
    h, w, foot = r.uniform(0.65, 1), r.uniform(0.18, 0.3), r.uniform(1, 1.5)
    cap = curve(-0.9, 0.1, -0.75, -h * 0.6, 0, -h, 0.75, -h * 0.6, 0.9, 0.1)
    strokes = [cap, curve(-0.9, 0.1, -0.4, 0.22, 0.4, 0.22, 0.9, 0.1)]
    strokes += [curve(-w, 0.2, -w, 0.5, -w * foot, 0.85, 0, 0.95, w * foot, 0.85, w, 0.5, w, 0.2)]
    spots = [(-0.4, -0.2), (0.1, -0.5), (0.4, -0.12), (-0.1, -0.05)][: r.integers(0, 5)]
    return strokes + [oval(x, y * h, 0.12, 0.1) for x, y in spots]


def _rabbit(r: Rng) -> Strokes:
    ear, lean, eye = r.uniform(0.75, 1.1), r.uniform(0.0, 0.2), r.uniform(0.05, 0.08)
    outer = curve(0.06, -0.5, 0.08, -0.5 - ear * 0.7, 0.2 + lean, -0.5 - ear, 0.36 + lean, -0.5 - ear * 0.6, 0.38, -0.4)
    strokes = [oval(0, 0, r.uniform(0.52, 0.62), 0.56), *both(outer)]
    strokes += maybe(r, 0.6, *both(curve(0.18, -0.6, 0.21 + lean, -0.4 - ear * 0.8, 0.28, -0.55)))
    strokes += [*both(dot(0.22, -0.1, eye)), oval(0, 0.1, 0.07, 0.05), *both(curve(0, 0.15, 0.06, 0.26, 0.17, 0.22))]
    strokes += maybe(r, 0.6, box(-0.07, 0.26, 0.07, 0.4), path(0, 0.26, 0, 0.4))
    return strokes + maybe(r, 0.6, *both(path(0.25, 0.14, 0.75, 0.06), path(0.25, 0.2, 0.75, 0.24)))


def _snowman(r: Rng) -> Strokes:
    head, belly = r.uniform(0.26, 0.34), r.uniform(0.55, 0.7)
    body = [oval(0, 0, 0.5), oval(0, 0.4 + belly * 0.85, belly)]
    body = body if r.random() < 0.7 else [oval(0, belly - 0.55, belly)]
    strokes = [oval(0, -0.8, head), *body, *both(dot(0.1, -0.86, 0.04)), path(0, -0.8, 0.3, -0.73, 0, -0.7)]
    strokes += maybe(r, 0.7, path(-0.4, -1.02, 0.4, -1.02), path(-0.22, -1.02, -0.2, -1.4, 0.2, -1.4, 0.22, -1.02))
    strokes += maybe(r, 0.75, *[dot(0, y, 0.04) for y in (-0.25, 0, 0.25)])
    return strokes + maybe(r, 0.75, *both(path(0.42, -0.15, 0.95, -0.45), path(0.8, -0.36, 0.98, -0.3)))


def _spider(r: Rng) -> Strokes:
    w, knee, reach = r.uniform(0.28, 0.4), r.uniform(0.5, 0.65), r.uniform(0.85, 1.1)
    strokes = [oval(0, 0.2, w, w * 1.2), oval(0, -0.3, 0.18)]
    for y, rise in ((-0.25, -0.5), (-0.08, -0.2), (0.1, 0.12), (0.3, 0.35)):
        bend = y + rise * 0.9 - 0.12
        strokes += both(path(0.2, y * 0.6, knee, bend, reach, bend + (0.35 if rise > -0.4 else -0.3)))
    strokes += maybe(r, 0.5, *both(dot(0.07, -0.35, 0.03)))
    return strokes + maybe(r, 0.35, path(0, -0.48, 0, -1.4))


def _star(r: Rng) -> Strokes:
    inner, points = r.uniform(0.32, 0.5), int(r.choice([5, 5, 5, 6]))
    angle, reach = np.arange(2 * points) * np.pi / points, np.where(np.arange(2 * points) % 2, inner, 1)
    if r.random() < 0.35:
        angle, reach = np.arange(5) * 4 * np.pi / 5, np.ones(5)
    return [loop(*(np.stack([np.sin(angle), -np.cos(angle)], axis=1) * reach[:, None]).ravel())]


def _sun(r: Rng) -> Strokes:
    count, size, long = int(r.integers(7, 15)), r.uniform(0.4, 0.6), r.uniform(0.25, 0.45)
    ray = path(size, 0, size + long, 0) + np.array([r.uniform(0, 0.12), 0])
    if r.random() < 0.3:
        wide = size * 2.2 / count
        ray = path(size, -wide, size + long, 0, size, wide)
    strokes = [oval(0, 0, size), *[turned(ray, 360 * i / count) for i in range(count)]]
    face = [*both(dot(size * 0.35, -0.12, 0.05)), arc(0, 0.05, size * 0.5, size * 0.45, (20, 160))]
    return strokes + maybe(r, 0.3, *face)


def _table(r: Rng) -> Strokes:
    d, legs = r.uniform(0.25, 0.45), r.uniform(0.55, 0.85)
    if r.random() < 0.3:
        strokes = [box(-1, -0.4, 1, -0.28), *both(path(0.85, -0.28, 0.85, legs), path(0.75, -0.28, 0.75, legs))]
        return strokes + maybe(r, 0.5, box(-0.75, -0.28, 0.75, -0.12))
    feet = ((-0.95, 0, 0), (0.65, 0, 0), (0.65 + d, -d, d), (-0.95 + d, 0, d))
    strokes = [loop(-1, 0, 0.7, 0, 0.7 + d, -d, -1 + d, -d), *[path(x, y, x, legs - far) for x, y, far in feet]]
    return strokes + maybe(r, 0.4, path(-1, 0, -1, 0.08, 0.7, 0.08, 0.7 + d, 0.08 - d, 0.7 + d, -d))


def _tree(r: Rng) -> Strokes:
    w, low = r.uniform(0.1, 0.2), r.uniform(0.1, 0.3)
    trunk = both(curve(w, low, w * 0.9, 0.6, w * 1.5, 1))
    if r.random() < 0.3:
        tiers = [path(-k, y, 0, y - 0.6, k, y, -k, y) for k, y in ((0.4, -0.6), (0.55, -0.2), (0.7, 0.2))]
        return [*tiers, *both(path(w, 0.2, w, 0.6))]
    crown = bumps(0, -0.4, r.uniform(0.55, 0.8), r.uniform(0.5, 0.65), int(r.integers(6, 11)))
    apples = r.uniform((-0.35, -0.7), (0.35, -0.15), (r.choice([0, 0, 3, 5]), 2))
    return [crown, *trunk, *[oval(x, y, 0.06) for x, y in apples]]


def _umbrella(r: Rng) -> Strokes:
    h, count, hook = r.uniform(0.65, 0.95), int(r.integers(3, 6)), r.uniform(0.12, 0.2)
    width = 2 / count
    hems = [arc(-1 + width * (i + 0.5), 0, width / 2, 0.12, (180, 360)) for i in range(count)]
    strokes = [arc(0, 0, 1, h, (180, 360)), np.concatenate(hems)]
    strokes += [curve(0, -0.05, 0, 0.5, 0, 0.85, hook, 1, 2 * hook, 0.85), path(0, -h, 0, -h - 0.14)]
    return strokes + [curve(0, -h, x * 0.7, -h * 0.6, x, 0) for x in np.linspace(-1, 1, count + 1)[1:-1]]


SHAPES: dict[str, Callable[[Rng], Strokes]] = {
    function.__name__.removeprefix("_"): function
    for function in (
        *(_apple, _bicycle, _boat, _book, _butterfly, _car, _cat, _chair, _clock, _cloud, _cup),
        *(_envelope, _eye, _fish, _flower, _guitar, _house, _key, _leaf, _lightning, _moon, _mushroom),
        *(_rabbit, _snowman, _spider, _star, _sun, _table, _tree, _umbrella),
    )
}
CLASS_NAMES: tuple[str, ...] = tuple(sorted(SHAPES))
