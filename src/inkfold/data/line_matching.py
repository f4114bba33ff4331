"""Lays the lines of one drawing onto those of another, and measures how exactly they coincide.

The lines of a copy lie within a hundredth of the drawing's size on those of its original, however thick its strokes are; those
that another hand drew don't. Unlike a correlation of ink, this doesn't suffer from loops that thick strokes fill.
"""

from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Bool, Float64, Int16

from inkfold.data.ink_matching import Alignment
from inkfold.data.lines import LINES_PX, Drawing, Points, line_points, thicken

PAD = LINES_PX // 8
SMOOTHED_PX, DIRECTION_PX = 5, 7  # windows in which a line's course and its direction are estimated
STRAIGHT = 0.2  # roundness below which the pixels around a point are a line
BESIDE_PX = 4.0  # farther than that, the distance to a line is that to its nearest point
FIRST_REACH, REACH_FACTOR, LAST_REACH = 0.12, 0.75, 0.02  # of the spread: how far a line looks for its partner
STEPS, ALIKE_STEPS = 10, 4  # of the alignment; the first ones turn, shift and scale only
MOST_STRETCH = 1.06  # of one direction relative to another: a picture taken slightly from the side
FEWEST_POINTS, MOST_POINTS = 20.0, 200  # that the alignment goes by
# After so many steps, three quarters of a copy's points are nearer than that, in spreads; two in three other drawings' aren't.
HOPELESS = {2: 0.045, 5: 0.03, 8: 0.025}

COINCIDE = 0.03  # of the spread: lines nearer than that are counted as the same
# Three quarters of the points of a copy are nearer than that, in spreads; the limit depends on how much there is to compare.
COMPLEXITIES, LIMITS = (8.0, 12.0, 18.0, 25.0), (0.0085, 0.0112, 0.0125, 0.018)
LEAST_COMPLEXITY, COMPLEX = 5.0, 10.0  # corners and crosses are all alike; from the second on, drawings differ
ROUND = 0.12  # circles and ellipses are alike whoever draws them: their radii, in spreads of each direction, vary by less
# Below that, squares and letters of straight strokes are alike whoever draws them: so much of their lines must be bent.
LEAST_BENT = 2.6  # spreads; 3 in 4 of Quick, Draw!'s simple drawings have it, 1 in 20 of Omniglot's pairs that coincide
BEND_PX, STRAIGHT_PX = 25, 0.5  # a line is straight that keeps so near to its direction over such a window
OTHER_WIDTH = 1.2  # from this ratio of widths, the thinner strokes are thickened before lines are compared

Affine = tuple[Float64[np.ndarray, "2 2"], Float64[np.ndarray, " 2"]]


class LineMap:
    """The lines of a drawing, with the nearest point of them for every place.

    Args:
        drawing: Centre lines, and the width of the strokes; without ink, no place has a nearest point.
    """

    def __init__(self, drawing: Drawing) -> None:
        self.points: Points = line_points(drawing.lines)
        self.width: float = drawing.width_px / self.points.spread if self.points.spread else 0.0
        self.drawing = drawing
        self._lines = drawing.lines

    def in_strokes(self, width: float) -> "LineMap":
        """Redraw the lines in strokes of another width, in spreads, and thin those."""
        return LineMap(thicken(self.drawing, width * self.points.spread))

    @cached_property
    def can_be_told(self) -> bool:
        """Whether there are enough lines for two drawings of different hands not to coincide."""
        if self.points.complexity >= COMPLEX or self.points.complexity < LEAST_COMPLEXITY:
            return bool(self.points.complexity >= COMPLEX)
        if self._is_ellipse:
            return False
        _, xx, yy, xy = self._means(BEND_PX)
        across = np.sqrt(np.maximum(xx + yy - np.hypot(xx - yy, 2 * xy), 0) / 2)
        return float(self.points.lengths[across > STRAIGHT_PX].sum()) >= LEAST_BENT * self.points.spread

    @property
    def _is_ellipse(self) -> bool:
        away = self.points.xy.astype(np.float64) - self.points.xy.mean(axis=0)
        radii = np.sqrt(np.maximum((away @ np.linalg.pinv(np.cov(away.T)) * away).sum(axis=1), 0))
        return float(radii.std()) < ROUND * float(radii.mean())

    @cached_property
    def course(self) -> Float64[np.ndarray, "n 2"]:
        """The points, smoothed along their line: whole pixels become a smooth curve."""
        return self._means(SMOOTHED_PX)[0]

    @cached_property
    def _normals(self) -> tuple[Float64[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]:
        """The direction across the line at each point, and whether it is a line there."""
        _, xx, yy, xy = self._means(DIRECTION_PX)
        angle = 0.5 * np.arctan2(2 * xy, xx - yy)
        trace, root = xx + yy, np.hypot(xx - yy, 2 * xy)
        return np.stack([-np.sin(angle), np.cos(angle)], axis=1), trace - root < STRAIGHT * (trace + root)

    def _means(self, window_px: int) -> tuple[np.ndarray, ...]:
        """Mean place and covariances of the points in a window around each point."""
        xs, ys = self.points.xy.astype(np.int64).T
        mask = self._lines.astype(np.float32)
        across = np.arange(LINES_PX, dtype=np.float32) - LINES_PX / 2
        columns, rows = mask * across, mask * across[:, None]
        count, *sums = (
            cv2.boxFilter(plane, -1, (window_px, window_px), normalize=False, borderType=cv2.BORDER_CONSTANT)[ys, xs].astype(
                np.float64
            )
            for plane in (mask, columns, rows, columns * across, rows * across[:, None], rows * across)
        )
        x, y, xx, yy, xy = (total / count for total in sums)
        return np.stack([x, y], axis=1) + LINES_PX / 2, xx - x * x, yy - y * y, xy - x * y

    @cached_property
    def _nearest(self) -> Int16[np.ndarray, "padded padded"]:
        """The number of the nearest point, for each place of the page and around it."""
        paper = np.pad(~self._lines, PAD, constant_values=True).astype(np.uint8)
        _, labels = cv2.distanceTransformWithLabels(paper, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        number = np.zeros(int(labels.max()) + 1, np.int16)  # of at most 30,976 points
        xs, ys = self.points.xy.astype(np.int64).T + PAD
        number[labels[ys, xs]] = np.arange(len(xs), dtype=np.int16)
        nearest: np.ndarray = number[labels]
        return nearest

    def near(self, places: Float64[np.ndarray, "m 2"]) -> tuple[Float64[np.ndarray, " m"], Int16[np.ndarray, " m"]]:
        """Measure how far places are from the nearest line, in px, and return the number of the nearest point."""
        cells = np.clip(np.rint(places + PAD).astype(np.int64), 0, LINES_PX + 2 * PAD - 1)
        number = self._nearest[cells[:, 1], cells[:, 0]]
        normals, straight = self._normals
        away = places - self.course[number]
        distance = np.hypot(away[:, 0], away[:, 1])
        beside = straight[number] & (distance < BESIDE_PX)
        distance[beside] = np.abs((away * normals[number]).sum(axis=1))[beside]
        return distance, number


def compare_lines(first: LineMap, second: LineMap, start: Alignment) -> tuple[Alignment, float] | None:
    """Decide whether the lines of two drawings coincide.

    Thick strokes fill loops and merge neighbours, so the thinner of two drawings is first redrawn in the other's strokes.

    Args:
        first: The drawing that stays.
        second: The drawing that is laid onto it.
        start: How the second roughly lies on the first.

    Returns:
        The alignment, whose similarity is the share of lines that coincide, and the width of the second's strokes by the
        first's; None for different drawings, and for those with too few lines to tell.
    """
    if not (first.can_be_told and second.can_be_told):
        return None
    ratio = second.width / first.width
    if ratio > OTHER_WIDTH:
        first = first.in_strokes(second.width)
    elif ratio < 1 / OTHER_WIDTH:
        second = second.in_strokes(first.width)
    complexity = min(first.points.complexity, second.points.complexity)
    if complexity < LEAST_COMPLEXITY or (aligned := align_lines(first, second, start)) is None:
        return None
    onto_second, onto_first, turn_deg = aligned
    if np.quantile(np.concatenate([onto_second, onto_first]), 0.75) > np.interp(complexity, COMPLEXITIES, LIMITS):
        return None
    share = min(float((distance <= COINCIDE).mean()) for distance in (onto_second, onto_first))
    turn = (turn_deg + 180) % 360 - 180
    return Alignment(round(share, 4), start.flip, round(turn, 1)), round(ratio, 2)


def align_lines(
    first: LineMap, second: LineMap, start: Alignment
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " m"], float] | None:
    """Lay the second drawing's lines onto the first's, as exactly as turning, shifting, scaling and a slight stretch can.

    Each line is drawn to the nearest one, which it finds in fewer and fewer places around it.

    Args:
        first: The drawing that stays.
        second: The drawing that is moved.
        start: Whether the second is mirrored, and the angle at which to start, within a few degrees.

    Returns:
        How far each point of the first is from the second's lines and each of the second from the first's, in spreads of the
        first; and the angle in degrees anticlockwise. None if most lines are far apart.

    Source: Besl and McKay, "A method for registration of 3-D shapes", IEEE TPAMI 14 (1992), with weights.
    """
    mirror = np.array([-1.0 if start.flip else 1.0, 1.0])
    moving, spread = second.course * mirror, first.points.spread
    angle = np.deg2rad(start.turn_deg)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * (spread / second.points.spread)
    shift = first.points.centre - matrix @ (second.points.centre * mirror)
    every = slice(None, None, 1 + len(moving) // MOST_POINTS)
    some = moving[every]
    for step in range(STEPS):
        distance, number = first.near(some @ matrix.T + shift)
        if step in HOPELESS and np.quantile(distance, 0.75) > HOPELESS[step] * spread:
            return None
        weights = np.exp(-0.5 * (distance / (spread * max(FIRST_REACH * REACH_FACTOR**step, LAST_REACH))) ** 2)
        if weights.sum() < FEWEST_POINTS:
            return None
        matrix, shift = _fit(some, first.course[number], weights, may_stretch=step >= ALIKE_STEPS)
    onto_first, _ = first.near(moving @ matrix.T + shift)
    onto_second, _ = second.near((first.course - shift) @ np.linalg.inv(matrix).T * mirror)
    scale = float(np.sqrt(abs(np.linalg.det(matrix))))
    turned = float(np.rad2deg(np.arctan2(matrix[0, 1] - matrix[1, 0], matrix[0, 0] + matrix[1, 1])))
    return onto_second * scale / spread, onto_first / spread, turned


def _fit(moving: np.ndarray, fixed: np.ndarray, weights: np.ndarray, *, may_stretch: bool) -> Affine:
    """Fit the map of points onto their partners by weighted least squares: without a stretch, or with a slight one."""
    share = weights / weights.sum()
    centre, other = share @ moving, share @ fixed
    here, there = moving - centre, fixed - other
    if may_stretch:
        own = (share[:, None] * here).T @ here
        matrix = (np.linalg.pinv(own) @ ((share[:, None] * here).T @ there)).T
        left, sizes, right = np.linalg.svd(matrix)
        if np.linalg.det(matrix) > 0 and sizes[1] > sizes[0] / 2:
            mean = np.sqrt(sizes.prod())
            matrix = left @ np.diag(np.clip(sizes, mean / MOST_STRETCH, mean * MOST_STRETCH)) @ right
            return matrix, other - matrix @ centre
    left, sizes, right = np.linalg.svd((share[:, None] * here).T @ there)
    signs = np.array([1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
    size = (sizes * signs).sum() / max((share[:, None] * here**2).sum(), 1e-12)
    matrix = (left @ np.diag(signs) @ right).T * max(size, 1e-3)
    return matrix, other - matrix @ centre
