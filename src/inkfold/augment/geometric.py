"""Geometry in one pass: every operation that moves pixels becomes part of one coordinate map, and pixels are read once.

The map is computed backwards, from the final pixels to the stored ones, on a coarse lattice and widened to every pixel.
Every value that decides a byte has few enough bits that single precision holds it exactly, in any order of summation and
with or without fused instructions: the same drawing and the same draws give the same bytes on any machine.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from inkfold.augment.rng import Draws
from inkfold.images.decode import Pixels

COARSEST_PX = 8
GRID_COARSEST_PX = 4  # the lattice rounds the grid's corners off
FINEST_PER_SIDE = 28  # lattice cells across the picture at the least, so that small pictures' perspective stays right
LATTICE_PER_SIGMA = 1  # points of an elastic field in its smoothing width; two changed positions by 0.1 deviations
SUBPIXELS = 32  # coordinates are multiples of 1/32 px, so that products with 8-bit pixels are exact
KERNEL_SUM = 256  # of whole numbers: two passes over white noise in -127..127 stay below 2^24
FIELD_DIVISOR = 1024
FIELD_LIMIT = 8191
ANTIALIAS_FROM = 1.2  # reductions up to this one need no filter: bilinear reading averages two pixels
BINOMIAL = (1.5, 2.2)
MAX_POSITION_PX = 4096.0

_workspace = threading.local()

XY = tuple[Float32[np.ndarray, "#h w"], Float32[np.ndarray, "h #w"]]


@dataclass(frozen=True, slots=True)
class Projective:
    """A homography.

    Attributes:
        backward: Maps final to earlier pixel positions, px; pixel centres are whole numbers.
        flips: (left-right, top-bottom) if it is nothing but flips.
    """

    backward: Float64[np.ndarray, "3 3"]
    flips: tuple[bool, bool] | None = None


@dataclass(frozen=True, slots=True)
class Elastic:
    """Smooth random displacements.

    Attributes:
        alpha: Strength, as in albumentations' ElasticTransform.
        sigma: Standard deviation of the smoothing, px.
        noise: Source of the white noise; one warp uses it up.
    """

    alpha: float
    sigma: float
    noise: Draws

    @property
    def step(self) -> int:
        """Spacing of the field's own lattice, px: it depends on nothing else, so that other motions change no draw."""
        return 1 << max(0, math.floor(math.log2(self.sigma / LATTICE_PER_SIGMA)))


@dataclass(frozen=True, slots=True)
class Grid:
    """A grid whose lines are moved, each axis independently.

    Attributes:
        x: Source positions of the vertical lines, px from the left edge; they are evenly spaced in the final picture.
        y: Source positions of the horizontal lines, px from the top edge.
    """

    x: Float64[np.ndarray, " lines"]
    y: Float64[np.ndarray, " lines"]


Motion = Projective | Elastic | Grid


def flip(size_px: int, *, left_right: bool) -> Projective:
    """Mirror the picture left to right, or top to bottom."""
    matrix = np.eye(3)
    axis = 0 if left_right else 1
    matrix[axis, axis], matrix[axis, 2] = -1, size_px - 1
    return Projective(matrix, (left_right, not left_right))


def affine(size_px: int, linear: Sequence[Sequence[float]], shift: tuple[float, float] = (0.0, 0.0)) -> Projective:
    """Apply a matrix about the centre, then a shift.

    Args:
        size_px: Side of the square picture, px, at least 1; its centre is the origin of the matrix.
        linear: Rows of the 2 x 2 matrix that takes a source point (x right, y down) to where it is drawn; it must have an
            inverse.
        shift: How far the picture moves to the right and down after the matrix, px; negative moves left and up.
    """
    (a, b), (c, d) = linear
    determinant, centre = a * d - b * c, (size_px - 1) / 2
    a, b, c, d = d / determinant, -b / determinant, -c / determinant, a / determinant  # the inverse
    x, y = centre + shift[0], centre + shift[1]
    return Projective(np.array([[a, b, centre - a * x - b * y], [c, d, centre - c * x - d * y], [0, 0, 1]]))


def rotate(size_px: int, degrees: float) -> Projective:
    """Turn counter-clockwise about the centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return affine(size_px, [[cos, sin], [-sin, cos]])


def perspective(size_px: int, inset: Sequence[Sequence[float]]) -> Projective:
    """Bring four inner points to the corners.

    They are drawn as albumentations' Perspective draws them; 2.0.8 then enlarges once more, by the side over the
    points' distance, which pushes parts of the drawing out of the picture.

    Args:
        size_px: Side of the square picture, px, at least 1.
        inset: How far the four points lie inside the corners in x and y, from the top left clockwise; fractions of the side.
    """
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    points = np.abs(corners - np.array(inset)) * size_px - 0.5
    equations, values = [], []
    for (x, y), (u, v) in zip(corners * size_px - 0.5, points, strict=True):
        equations += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    solution = np.linalg.solve(np.array(equations), np.array(values))
    return Projective(np.append(solution, 1.0).reshape(3, 3))


def grid(size_px: int, x_weights: Sequence[float], y_weights: Sequence[float]) -> Grid:
    """Move grid lines, but not the picture's edges, as albumentations' GridDistortion with `normalized` does.

    Args:
        size_px: Side of the square picture, px, at least 1.
        x_weights: Source width of each column of the grid from the left, above 0; only their ratios matter.
        y_weights: Source height of each row of the grid from the top, above 0; only their ratios matter.
    """

    def lines(weights: Sequence[float]) -> np.ndarray:
        return np.concatenate([[0.0], np.cumsum(weights)]) * (size_px / sum(weights))

    return Grid(lines(x_weights), lines(y_weights))


def elastic_deviation(size_px: int, alpha: float, sigma: float) -> float:
    """Return the displacement's standard deviation, px.

    albumentations 2.0.8 divides its normal noise by the largest of its 2 x size x size values before it smooths it with a
    Gaussian, whose sum of squares is 1 / (2 sqrt(pi) sigma) squared. The median of that largest value is taken here.
    Nearer than 3 sigma to an edge theirs moves more, since the smoothing repeats the noise of the outermost pixels.
    """
    values = 2 * size_px * size_px
    largest = NormalDist().inv_cdf((1 + 0.5 ** (1 / values)) / 2)
    return alpha / largest / (2 * math.sqrt(math.pi) * sigma)


def warp(pixels: Pixels, size_px: int, motions: Sequence[Motion], paper: UInt8[np.ndarray, "*channels"]) -> Pixels:
    """Apply motions in their order, in a single resampling.

    Args:
        pixels: A square, (s, s) or (s, s, 3).
        size_px: Side of the result; the motions' px refer to it.
        motions: The motions, in the order in which they are applied.
        paper: Grey value or RGB colour, 0 to 255, of what comes in from outside the picture.

    Returns:
        (size_px, size_px) or (size_px, size_px, 3).
    """
    if len(pixels) == size_px and all(isinstance(motion, Projective) and motion.flips for motion in motions):
        return _flipped(pixels, motions)
    x_map, y_map = source_map(len(pixels), size_px, motions)
    source = _antialiased(pixels, len(pixels) / size_px / _zoom(motions))
    border = [int(value) for value in np.atleast_1d(paper)]
    return cv2.remap(source, x_map, y_map, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=border)


def source_map(source_px: int, size_px: int, motions: Sequence[Motion]) -> XY:
    """Compute where each final pixel is read.

    Args:
        source_px: Side of the square source picture, px.
        size_px: Side of the square result, px, which may differ from the source's; the motions' px refer to it.
        motions: The motions, in the order in which they are applied.

    Returns:
        x and y in the source picture, multiples of 1/32 px, (size_px, size_px); the thread's next call may overwrite them.
    """
    step = _lattice_step(size_px, motions)
    x, y = np.broadcast_arrays(*_source_positions(size_px, step, _merged(motions)))
    ratio = np.float32(source_px / size_px)
    x_map, y_map = (
        _widened(axis, ratio, size_px, step, buffer) for axis, buffer in zip((x, y), _buffers(len(x) * step), strict=True)
    )
    return x_map, y_map


def _flipped(pixels: Pixels, motions: Sequence[Motion]) -> Pixels:
    left_right = sum(motion.flips[0] for motion in motions if isinstance(motion, Projective) and motion.flips) % 2
    top_bottom = sum(motion.flips[1] for motion in motions if isinstance(motion, Projective) and motion.flips) % 2
    return np.ascontiguousarray(pixels[:: -1 if top_bottom else 1, :: -1 if left_right else 1])


def _lattice_step(size_px: int, motions: Sequence[Motion]) -> int:
    """Choose the coarsest lattice, px, on which the map is still accurate: a power of two."""
    steps = [COARSEST_PX, size_px // FINEST_PER_SIDE]
    steps += [
        motion.step if isinstance(motion, Elastic) else GRID_COARSEST_PX
        for motion in motions
        if not isinstance(motion, Projective)
    ]
    return 1 << max(0, min(steps).bit_length() - 1)


def _merged(motions: Sequence[Motion]) -> list[Motion]:
    """Multiply neighbouring homographies, so that positions are computed once."""
    merged: list[Motion] = []
    for motion in motions:
        if isinstance(motion, Projective) and merged and isinstance(merged[-1], Projective):
            merged[-1] = Projective(merged[-1].backward @ motion.backward)
        else:
            merged.append(motion)
    return merged


def _source_positions(size_px: int, step: int, motions: Sequence[Motion]) -> XY:
    """Follow the lattice's points backwards; x and y keep one axis each as long as no motion mixes them."""
    points = math.ceil(size_px / step) + 2
    axis = (np.arange(points, dtype=np.float32) - 1) * step + np.float32((step - 1) / 2)
    x, y = axis[None, :], axis[:, None]
    for motion in reversed(motions):
        if isinstance(motion, Projective):
            x, y = _project(motion.backward, x, y)
        elif isinstance(motion, Grid):
            x, y = (_along(positions, lines, size_px) for positions, lines in ((x, motion.x), (y, motion.y)))
        else:
            x, y = _displace(motion, size_px, step, x, y)
    return x, y


def _project(matrix: np.ndarray, x: np.ndarray, y: np.ndarray) -> XY:
    # Rounded so that a last bit of a machine's own sine can't reach the result.
    (a, b, c), (d, e, f), (g, h, i) = (np.rint(matrix * 2**26) / 2**26).astype(np.float32)
    u, v = _combined(a, b, c, x, y), _combined(d, e, f, x, y)
    if g == 0 and h == 0:
        return u, v
    w = np.maximum(_combined(g, h, i, x, y), np.float32(1e-3))
    return u / w, v / w


def _combined(a: np.float32, b: np.float32, c: np.float32, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if b == 0 and a != 0:
        return a * x + c
    if a == 0 and b != 0:
        return b * y + c
    return (a * x + c) + b * y


def _along(positions: np.ndarray, lines: np.ndarray, size_px: int) -> np.ndarray:
    """Piecewise linear between the lines, which are evenly spaced in the final picture; a shift outside it."""
    spacing = size_px / (len(lines) - 1)
    edges = positions.astype(np.float64) + 0.5
    moved = np.interp(edges, np.arange(len(lines)) * spacing, lines)
    outside = edges - np.clip(edges, 0, size_px)
    shifted: np.ndarray = (moved + outside - 0.5).astype(np.float32)
    return shifted


def _displace(motion: Elastic, size_px: int, step: int, x: np.ndarray, y: np.ndarray) -> XY:
    fields = _fields(motion, size_px)
    amplitude = np.float32(
        elastic_deviation(size_px, motion.alpha, motion.sigma) / _field_deviation(motion.sigma / motion.step)
    )
    if not (step == motion.step and _is_lattice(x, 0, step) and _is_lattice(y, 1, step)):
        # Where in the fields, in their own points, with 5 bits of fraction: beside 13 bits of field that is exact.
        at_x, at_y = (_on_lattice(positions, motion.step, len(fields[0])) for positions in np.broadcast_arrays(x, y))
        fields = [cv2.remap(field, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for field in fields]
    return x + amplitude * fields[0], y + amplitude * fields[1]


def _is_lattice(positions: np.ndarray, mixed_axis: int, step: int) -> bool:
    """Return whether no motion has moved these positions yet."""
    if positions.shape[mixed_axis] != 1:
        return False
    line = positions.ravel()
    start = np.float32((step - 1) / 2 - step)
    return bool(np.array_equal(line, start + step * np.arange(len(line), dtype=np.float32)))


def _on_lattice(positions: np.ndarray, step: int, points: int) -> np.ndarray:
    points_at = (positions - np.float32((step - 1) / 2)) * np.float32(1 / step) + np.float32(1)
    rounded: np.ndarray = np.rint(np.clip(points_at, 0, points - 1) * SUBPIXELS) * np.float32(1 / SUBPIXELS)
    return rounded


def _fields(motion: Elastic, size_px: int) -> list[Float32[np.ndarray, "points points"]]:
    """Smooth white noise for x and for y on the motion's own lattice, in whole numbers all the way."""
    kernel = _kernel(motion.sigma / motion.step)
    margin = len(kernel) // 2
    points = math.ceil(size_px / motion.step) + 2
    side = points + 2 * margin
    drawn = motion.noise.bytes(2 * side * side).view(np.int8).reshape(2 * side, side)
    white = (drawn | np.int8(1)).astype(np.float32)
    smooth = cv2.sepFilter2D(white, cv2.CV_32F, kernel, kernel)
    fields = []
    for top in (margin, side + margin):
        field = smooth[top : top + points, margin : margin + points] * np.float32(1 / FIELD_DIVISOR)
        fields.append(np.clip(np.rint(field, out=field), -FIELD_LIMIT, FIELD_LIMIT, out=field))
    return fields


@lru_cache(maxsize=64)
def _kernel(sigma: float) -> Float32[np.ndarray, " taps"]:
    """A Gaussian in whole numbers."""
    reach = math.ceil(3.5 * sigma)
    weights = [math.exp(-0.5 * (tap / sigma) ** 2) for tap in range(-reach, reach + 1)]
    return np.rint(np.array(weights) * (KERNEL_SUM / math.fsum(weights))).astype(np.float32)


@lru_cache(maxsize=64)
def _field_deviation(sigma: float) -> float:
    """The fields' standard deviation between the lattice's points too, where bilinear widening has averaged them."""
    kernel = _kernel(sigma).astype(np.float64)
    power, neighbours = float(kernel @ kernel), float(kernel[1:] @ kernel[:-1])
    white = math.sqrt((256 * 256 - 4) / 12)  # odd numbers in -127..127
    return (2 * power + neighbours) / 3 * white / FIELD_DIVISOR


def _widened(positions: np.ndarray, ratio: np.float32, size_px: int, step: int, buffer: np.ndarray) -> np.ndarray:
    """From the lattice to every final pixel, in stored px, rounded to 1/32 px."""
    if ratio != 1:
        positions = (positions + np.float32(0.5)) * ratio - np.float32(0.5)
    coarse = np.clip(positions, -MAX_POSITION_PX, MAX_POSITION_PX)
    coarse *= np.float32(SUBPIXELS)
    np.rint(coarse, out=coarse)
    coarse *= np.float32(1 / SUBPIXELS)
    if step == 1:
        return np.ascontiguousarray(coarse[1:-1, 1:-1])
    cv2.resize(coarse, buffer.shape[::-1], dst=buffer, interpolation=cv2.INTER_LINEAR)
    rounder = np.float32(1.5 * 2**23 / SUBPIXELS)  # adding it leaves no bits below 1/32
    buffer += rounder  # the whole buffer: a part of each row takes five times as long
    buffer -= rounder
    return buffer[step : step + size_px, step : step + size_px]


def _buffers(side: int) -> Float32[np.ndarray, "2 side side"]:
    """Memory that stays: without it, fresh pages take longer to map than the warp to compute (1.8 ms against 0.7)."""
    kept = getattr(_workspace, "buffers", None)
    if kept is None or kept.shape[1] != side:
        kept = _workspace.buffers = np.empty((2, side, side), np.float32)
    return kept


def _zoom(motions: Sequence[Motion]) -> float:
    """Return the magnification, by the homographies' area at the centre."""
    zoom = 1.0
    for motion in motions:
        if isinstance(motion, Projective):
            zoom /= math.sqrt(max(abs(float(np.linalg.det(motion.backward[:2, :2]))), 1e-6))
    return zoom


def _antialiased(pixels: Pixels, reduction: float) -> Pixels:
    """Take out what the smaller picture can't show, before it is read: a Gaussian that is bit-exact in OpenCV."""
    if reduction <= ANTIALIAS_FROM:
        return pixels
    sigma = 0.5 * math.sqrt(reduction * reduction - 1)
    taps = 2 * math.ceil(2.5 * sigma - 0.5) + 1
    if BINOMIAL[0] <= reduction <= BINOMIAL[1]:
        sigma, taps = 0.0, 3  # OpenCV's name for 1-2-1, whose deviation is 0.71 px: twice as fast as other Gaussians
    return cv2.GaussianBlur(pixels, (taps, taps), sigma, borderType=cv2.BORDER_REPLICATE)
