"""Generates hand-like drawings: each is a pure function of its class, a seed and its index.

Three steps that can be used apart: `draw_strokes` (what a hand would do), `render_strokes` (ink on a page) and
`write_sketches` (a data set in the competition's layout, for the demo and the tests).
"""

import csv
import io
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from inkfold.data.synthetic_shapes import CLASS_NAMES, SHAPES, Rng, Strokes
from inkfold.errors import DataError, Problem
from inkfold.storage.files import errors_naming, make_directory, write_json, write_text

RECIPE = "demo"

__all__ = ["CLASS_NAMES", "Strokes", "draw_sketch", "draw_strokes", "render_strokes", "write_sketches"]

GENERATOR_VERSION = 1  # raise it when a drawing changes, so that an old set isn't taken for a new one
MARKER_NAME = ".inkfold-sketches.json"
TEST_INDEX_START = 2**31  # no training set of this seed, however large, holds a test drawing
STEP = 0.025  # of the drawing's size, between the points of a stroke
FEWEST_POINTS = 9
MARGIN = 0.04
INVERTED_FRACTION = 0.03
NOISY_FRACTION = 0.05
WOBBLE_CYCLES = np.array([0.7, 1.7, 4.0, 11.0])  # per drawing's size; the last is tremor
WOBBLE_SHARES = np.array([1.0, 0.7, 0.3, 0.1])
FIXED_POINT_BITS = 4


def draw_strokes(class_name: str, rng: Rng) -> Strokes:
    """Draw one object as a hand would, somewhere on the unit square.

    Args:
        class_name: What is drawn, such as `house`: one of `CLASS_NAMES`.
        rng: Source of all randomness; it advances.

    Returns:
        Strokes of shape (points, 2), float32, x right and y down, all inside the unit square.

    Raises:
        DataError: If the class is unknown.
    """
    if class_name not in SHAPES:
        raise DataError(f"class {class_name!r}: not one that can be drawn. Choose of {', '.join(CLASS_NAMES)}.")
    strokes = _forgotten_or_doubled(SHAPES[class_name](rng), rng)
    points, stroke_ids, along, lengths = _traced(strokes, rng)
    points = _slipped(points, stroke_ids, lengths, rng)
    points += _wobble(stroke_ids, along, lengths, rng)
    points = _placed(_warped(points, rng), rng).astype(np.float32)
    ends = np.searchsorted(stroke_ids, np.arange(len(lengths) + 1))
    return [points[start:end] for start, end in pairwise(ends)]


def _forgotten_or_doubled(strokes: Strokes, rng: Rng) -> Strokes:
    """Leave out a stroke (6 % of drawings, never the first), retrace one (8 %) or all (3 %)."""
    chance = rng.random()
    which = int(rng.integers(1, len(strokes))) if len(strokes) > 1 else 0
    if chance < 0.06 and len(strokes) > 4:
        return strokes[:which] + strokes[which + 1 :]
    if chance < 0.14:
        return [*strokes, strokes[which]]
    return [*strokes, *strokes] if chance < 0.17 and len(strokes) < 8 else strokes


def _traced(strokes: Strokes, rng: Rng) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Walk along each stroke in even steps, closed ones from anywhere and not quite round or past the start.

    Returns points (n, 2) of a drawing of size 1 about the origin, each point's stroke and distance along it, and the
    strokes' lengths. All strokes are one array here, so that NumPy is called once a drawing and not once a stroke.
    """
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - (low + high) / 2) / (high - low).max()
    lasts = np.cumsum([len(stroke) for stroke in strokes]) - 1
    firsts = np.concatenate([[0], lasts[:-1] + 1])
    walked = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(points, axis=0) ** 2).sum(axis=1)))])
    lengths = np.maximum(walked[lasts] - walked[firsts], 1e-6)
    closed = np.abs(points[firsts] - points[lasts]).sum(axis=1) < 1e-9
    counts = np.maximum(np.ceil(lengths / STEP).astype(int), FEWEST_POINTS)
    stroke_ids = np.repeat(np.arange(len(strokes)), counts)
    steps = np.arange(len(stroke_ids)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = steps / (counts - 1)[stroke_ids]
    starts = np.where(closed, rng.random(len(strokes)), 0.0)
    reach = np.where(closed, 1 + rng.normal(0.005, 0.025, len(strokes)), 1.0)
    place = starts[stroke_ids] + share * reach[stroke_ids]
    place = np.where(closed[stroke_ids], place % 1.0, place)
    place = walked[firsts][stroke_ids] + place * lengths[stroke_ids]
    traced = np.stack([np.interp(place, walked, points[:, 0]), np.interp(place, walked, points[:, 1])], axis=1)
    return traced, stroke_ids, share * lengths[stroke_ids], lengths


def _slipped(points: np.ndarray, stroke_ids: np.ndarray, lengths: np.ndarray, rng: Rng) -> np.ndarray:
    """Put each stroke a little beside its place, too long or too short, and turned."""
    count, care = len(lengths), rng.uniform(0.4, 1.6)
    sums = [np.bincount(stroke_ids, weights=points[:, axis], minlength=count) for axis in (0, 1)]
    centres = np.stack(sums, axis=1) / np.bincount(stroke_ids, minlength=count)[:, None]
    small = np.minimum(lengths / 0.5, 1.0)
    moves = rng.normal(0, 0.006 * care, (count, 2)) * (0.4 + 0.6 * small[:, None])
    scales = 1 + rng.normal(0, 0.025 * care, count)
    turns = rng.normal(0, 0.02 * care, count)
    arms = (points - centres[stroke_ids]) * scales[stroke_ids, None]
    turned = arms + arms[:, ::-1] * np.array([-1.0, 1.0]) * turns[stroke_ids, None]  # small angles
    slipped: np.ndarray = (centres + moves)[stroke_ids] + turned
    return slipped


def _wobble(stroke_ids: np.ndarray, along: np.ndarray, lengths: np.ndarray, rng: Rng) -> np.ndarray:
    """Sum a few slow waves along each stroke, with phases per stroke; short strokes tremble less."""
    amplitude = 0.006 * rng.lognormal(0, 0.45)
    phases = rng.uniform(0, 2 * np.pi, (len(lengths), 2, 4))
    cycles = 2 * np.pi * WOBBLE_CYCLES * rng.uniform(0.8, 1.2, 4)
    waves = np.sin(along[:, None, None] * cycles + phases[stroke_ids])
    reach = amplitude * np.sqrt(np.minimum(lengths / 0.6, 1.0))
    wobble: np.ndarray = waves @ WOBBLE_SHARES * reach[stroke_ids, None]
    return wobble


def _warped(points: np.ndarray, rng: Rng) -> np.ndarray:
    """Bend the whole drawing smoothly, so that its parts change proportion but stay joined."""
    waves = rng.uniform(-4.5, 4.5, (2, 2))
    strength = rng.normal(0, 0.022, (2, 2))
    return points + np.sin(points @ waves + rng.uniform(0, 2 * np.pi, 2)) @ strength


def _placed(points: np.ndarray, rng: Rng) -> np.ndarray:
    """Mirror, lengthen, shear and turn the drawing, then put it on the page at some size and place."""
    turn, shear, tall = rng.normal(0, (0.1, 0.06, 0.1))
    c, s, wide = np.cos(turn), np.sin(turn), np.exp(tall) * (1 if rng.random() < 0.5 else -1)
    points = points @ (np.array([[wide, 0.0], [shear, np.exp(-tall)]]) @ np.array([[c, s], [-s, c]]))
    low, high = points.min(axis=0), points.max(axis=0)
    fill = rng.uniform(0.62, 0.92) if rng.random() < 0.93 else rng.uniform(0.35, 0.62)
    scale = fill / (high - low).max()
    room = 1 - 2 * MARGIN - (high - low) * scale
    corner = MARGIN + room * np.clip(rng.normal(0.5, 0.2, 2), 0, 1)
    placed: np.ndarray = (points - low) * scale + corner
    return placed


def render_strokes(strokes: Strokes, size_px: int, pen_px: float, ink: int = 0) -> UInt8[np.ndarray, "size size"]:
    """Ink strokes on white paper with a round pen, antialiased.

    Drawn 4 times larger up to 256 px, twice larger above, then averaged: OpenCV's own pens have whole widths only.

    Args:
        strokes: On the unit square, as `draw_strokes` gives them.
        size_px: Width and height of the page in px, on which the unit square is stretched.
        pen_px: The pen's width; widths go in steps of a quarter or half a pixel.
        ink: Grey value of the ink, 0 for black to 255 for white.

    Returns:
        The page; 255 is paper.
    """
    times = 4 if size_px <= 256 else 2
    side = size_px * times
    page = np.full((side, side), 255, dtype=np.uint8)
    # A pixel's middle is at a whole number for OpenCV and at half of one on the unit square.
    lines = [np.rint((stroke * side - 0.5) * (1 << FIXED_POINT_BITS)).astype(np.int32) for stroke in strokes]
    thickness = max(1, round(pen_px * times))
    cv2.polylines(page, lines, False, ink, thickness, cv2.LINE_8, FIXED_POINT_BITS)
    return cv2.resize(page, (size_px, size_px), interpolation=cv2.INTER_AREA)


def draw_sketch(class_name: str, seed: int, index: int, size_px: int = 256) -> UInt8[np.ndarray, "size size"]:
    """Draw one grey picture: 3 in 100 are light on dark, 5 in 100 on grey or speckled paper.

    Args:
        class_name: What is drawn, such as `house`: one of `CLASS_NAMES`.
        seed: Seed of the set of drawings, 0 to 2**32 - 1.
        index: Number of the drawing within its class, 0 to 2**32 - 1; no drawing depends on another.
        size_px: Both sides of the picture; strokes are the same at every size.

    Raises:
        DataError: If the class is unknown or a number is out of range.
    """
    if not (0 <= seed < 2**32 and 0 <= index < 2**32 and size_px > 0):
        raise DataError(
            f"draw_sketch: seed {seed}, index {index}, size {size_px} px; expected 0 to 2**32 - 1 and a positive size."
        )
    rng = np.random.default_rng([seed, index, zlib.crc32(class_name.encode())])
    strokes = draw_strokes(class_name, rng)
    pen_px = max(size_px * rng.uniform(0.006, 0.02), 1.0)
    ink = int(rng.integers(20, 110)) if rng.random() < 0.25 else 0
    page = render_strokes(strokes, size_px, pen_px, ink)
    kind = rng.random()
    if kind < INVERTED_FRACTION:
        page = np.bitwise_not(page)
    return _on_poor_paper(page, rng) if INVERTED_FRACTION <= kind < INVERTED_FRACTION + NOISY_FRACTION else page


def _on_poor_paper(page: np.ndarray, rng: Rng) -> np.ndarray:
    """Grey the paper, unevenly lit, with grain and speckles."""
    side = len(page)
    ramp = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    light = rng.uniform(0.72, 0.95) + rng.normal(0, 0.06) * ramp + rng.normal(0, 0.06) * ramp[:, None]
    noisy = page * light + rng.uniform(2, 12) * rng.standard_normal((side, side), dtype=np.float32)
    noisy[rng.random((side, side), dtype=np.float32) < rng.uniform(0, 0.004)] = rng.uniform(60, 160)
    grey: np.ndarray = np.clip(noisy, 0, 255).astype(np.uint8)
    return grey


@dataclass(frozen=True, slots=True)
class _Set:
    """Parameters of a written set; the marker file holds the same."""

    classes: tuple[str, ...]
    train_per_class: int
    test_per_class: int
    size_px: int
    seed: int
    version: int = GENERATOR_VERSION

    def marker(self, complete: bool) -> dict[str, Any]:
        return {**asdict(self), "classes": list(self.classes), "complete": complete}


def write_sketches(
    root: Path,
    *,
    train_per_class: int = 40,
    test_per_class: int = 10,
    classes: Sequence[str] | None = None,
    size_px: int = 256,
    seed: int = 0,
) -> Path:
    """Write a dataset in the competition layout, with the test drawings' targets in a table of their own.

    An existing set is left as it is, or completed if its writing was interrupted. The test drawings are in random order.

    Args:
        root: A directory that is missing, empty, or holds this very set.
        train_per_class: Training drawings of each class, at least 1.
        test_per_class: Test drawings of each class, 0 for none.
        classes: Names of the classes; None takes all. Targets follow the names' code points, whatever their order here.
        size_px: Side of the square pictures, px.
        seed: Seed of the set of drawings, 0 to 2**32 - 1; another seed draws other objects.

    Returns:
        `root`.

    Raises:
        DataError: If parameters are wrong (all are reported together), or the directory holds something else.
    """
    names = CLASS_NAMES if classes is None else tuple(classes)
    wanted = _Set(tuple(sorted(names)), train_per_class, test_per_class, size_px, seed)
    if problems := _problems(wanted):
        raise DataError(problems)
    if _is_complete(root, wanted):
        return root
    write_json(root / MARKER_NAME, wanted.marker(complete=False))
    _write_train(root, wanted)
    _write_test(root, wanted)
    write_json(root / MARKER_NAME, wanted.marker(complete=True))
    return root


def _problems(wanted: _Set) -> list[Problem]:
    known, names = set(CLASS_NAMES), wanted.classes
    problems = [
        Problem("unknown_class", f"class {name!r}", f"can't be drawn. Choose of {', '.join(CLASS_NAMES)}.")
        for name in sorted(set(names) - known)
    ]
    repeated = sorted({name for name in names if names.count(name) > 1})
    problems += [Problem("repeated_class", f"class {name!r}", "named twice. Name it once.") for name in repeated]
    if not names:
        problems.append(Problem("no_class", "classes", "got none, expected at least 1. Give None for all."))
    limits = {
        "train_per_class": (wanted.train_per_class, 1, TEST_INDEX_START),
        "test_per_class": (wanted.test_per_class, 0, TEST_INDEX_START),
        "size_px": (wanted.size_px, 16, 4096),
        "seed": (wanted.seed, 0, 2**32 - 1),
    }
    return problems + [
        Problem("out_of_range", name, f"got {value}, expected {low} to {high}. Give a number in that range.")
        for name, (value, low, high) in limits.items()
        if not low <= value <= high
    ]


def _is_complete(root: Path, wanted: _Set) -> bool:
    """Return whether the set is complete; refuse a directory that holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        marker = json.loads((root / MARKER_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        message = "not empty and not written by write_sketches. Choose a new directory, or empty this one."
        raise DataError([Problem("foreign_directory", str(root), message)]) from None
    if marker in (wanted.marker(complete=True), wanted.marker(complete=False)):
        return bool(marker["complete"])
    message = "holds drawings made with other parameters. Choose a new directory, or remove this one."
    raise DataError([Problem("other_set", str(root), message)])


def _write_train(root: Path, wanted: _Set) -> None:
    rows: list[tuple[str, str, int]] = []
    for target, name in enumerate(wanted.classes):
        for i in range(wanted.train_per_class):
            rows.append((name, f"{name}/sketch_{i}.png", target))
            _write_png(root / "train" / rows[-1][1], draw_sketch(name, wanted.seed, i, wanted.size_px))
    _write_csv(root / "train.csv", ("class_name", "image_path", "target"), rows)


def _write_test(root: Path, wanted: _Set) -> None:
    drawings = [(target, i) for target in range(len(wanted.classes)) for i in range(wanted.test_per_class)]
    order = np.random.default_rng(wanted.seed).permutation(len(drawings))
    make_directory(root / "test")
    targets: list[int] = []
    for position, which in enumerate(order):
        target, i = drawings[which]
        page = draw_sketch(wanted.classes[target], wanted.seed, TEST_INDEX_START + i, wanted.size_px)
        _write_png(root / "test" / f"{position}.png", page)
        targets.append(target)
    paths = [f"{position}.png" for position in range(len(order))]
    header = ("ID", "image_path", "target")
    _write_csv(root / "test.csv", ("image_path",), [(path,) for path in paths])
    _write_csv(root / "sample_submission.csv", header, [(i, path, 0) for i, path in enumerate(paths)])
    _write_csv(root / "test_labels.csv", header, list(zip(range(len(paths)), paths, targets, strict=True)))


def _write_png(path: Path, page: UInt8[np.ndarray, "size size"]) -> None:
    """Write without the syncs of `atomic`: the marker, written last, vouches for the pictures."""
    make_directory(path.parent)
    done, data = cv2.imencode(".png", page)
    assert done, "OpenCV encodes any grey uint8 picture"
    with errors_naming(path):
        try:
            path.write_bytes(data.tobytes())
        except OSError:
            path.unlink(missing_ok=True)  # what was written by halves
            raise


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def prepare_demo(out: Path, *, per_class: int = 40) -> Path:
    """Write the demo's drawings to `out/drawings`, unless they exist, and return that directory.

    There are a quarter as many test drawings as training drawings; the layout is the competition's.
    """
    return write_sketches(out / "drawings", train_per_class=per_class, test_per_class=max(1, per_class // 4))
