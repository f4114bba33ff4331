"""Compares the ink of two drawings: whether one is the other, turned, mirrored, resized or re-encoded.

30 numbers that no turn or flip of a signature changes propose pairs; then the pixels decide: the second signature is turned
onto the first, and their blurred ink is correlated. Thresholds were chosen on the training drawings of Quick, Draw! (6,867)
with planted copies, nearly all of which correlate by over 0.997, and of the drawings themselves no two by over 0.993, thin
ones, which are all alike, apart; of 100,000 drawings that follow 30 patterns, one pair does by over 0.997.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Complex64, Float32, Float64, Int64, Shaped, UInt8

from inkfold.data.fingerprints import SIDE, moments

ALIKE = 0.997
ALIKE_THIN = 0.999
THIN_ROUNDNESS = 0.005
WORTH_REFINING = 0.93  # of a copy as it is first aligned; one in a thousand has less than 0.947
MOST_TURN_DEG = 12.0  # from the nearest quarter turn

DESCRIPTOR = (6, 5)  # rings, orders
DESCRIPTOR_NUMBERS = 30
ALIGNMENT = (10, 24)
TURNS = 256
BLUR = 1.0
BLOCK = 2048
FIRST_STEP = np.array([1.0, 0.6, 0.6, 0.015])  # degrees, cells, cells, scale
STEPS = [
    np.array([3.0, 0, 0, 0]),
    *(FIRST_STEP / 1.7**turn for turn in range(4)),
]  # round drawings agree at many turns: one wide step

Signatures = UInt8[np.ndarray, "n 64 64"]
ReadSignatures = Callable[[Shaped[np.ndarray, " m"]], Signatures]


class Alignment(NamedTuple):
    """How a second drawing is laid onto a first.

    Attributes:
        similarity: Correlation of their ink, 0 to 1.
        flip: Whether the second is mirrored left to right.
        turn_deg: Angle by which it is then turned, degrees anticlockwise.
    """

    similarity: float
    flip: bool
    turn_deg: float


def describe(
    names: Shaped[np.ndarray, " n"], read: ReadSignatures
) -> tuple[Int64[np.ndarray, " usable"], Float64[np.ndarray, "usable 30"]]:
    """Compute descriptors that no turn and no flip changes: the magnitudes of circular harmonics.

    Args:
        names: Digest of each drawing's file; the descriptors have their order.
        read: Called with some of the digests; returns their signatures in the same order.

    Returns:
        The rows with enough ink to compare, and their descriptors, each of length 1.
    """
    usable, parts = [np.empty(0, np.int64)], [np.empty((0, DESCRIPTOR_NUMBERS))]
    for start in range(0, len(names), BLOCK):
        signatures = read(names[start : start + BLOCK])
        inked = np.flatnonzero(signatures.any(axis=(1, 2)))
        usable.append(start + inked)
        parts.append(descriptors_of(signatures[inked]))
    return np.concatenate(usable), np.concatenate(parts)


def descriptors_of(signatures: Signatures) -> Float64[np.ndarray, "n 30"]:
    """Compute the descriptors of signatures, each of length 1; of an empty signature 0."""
    sizes = np.abs(_harmonics(signatures, *DESCRIPTOR)).reshape(len(signatures), DESCRIPTOR_NUMBERS).astype(np.float64)
    descriptors: np.ndarray = sizes / np.maximum(np.linalg.norm(sizes, axis=1, keepdims=True), 1e-12)
    return descriptors.round(6)  # threads sum in no fixed order


def compare(first: Signatures, second: Signatures) -> list[Alignment | None]:
    """Turn each second signature onto its first; None for different drawings."""
    turns = _likely_turns(_harmonics(first, *ALIGNMENT), _harmonics(second, *ALIGNMENT))
    return [_compare_pair(*pair) for pair in zip(first, second, turns, strict=True)]


def align_roughly(first: Signatures, second: Signatures, least: float) -> list[Alignment | None]:
    """Turn each second signature onto its first, near the quarter where they agree best; None where they don't.

    Args:
        first: Signatures of drawings as they are, one for each pair.
        second: Signatures that are turned, one for each of the first.
        least: The least similarity that counts, 0 to 1.
    """
    harmonics = _harmonics(first, *ALIGNMENT), _harmonics(second, *ALIGNMENT)
    alignments: list[Alignment | None] = [None] * len(first)
    for row in np.flatnonzero(_agreement(*harmonics) >= least):
        [turns] = _likely_turns(harmonics[0][row : row + 1], harmonics[1][row : row + 1])
        best, flip, place = _best_start(*_prepared(first[row], second[row]), turns)
        if best >= least:
            alignments[row] = Alignment(best, bool(flip), float(place[0]))
    return alignments


@cache
def _basis(rings: int, orders: int) -> tuple[np.ndarray, np.ndarray]:
    """Soft rings times waves around the centre, as real and imaginary parts (4096, rings * orders)."""
    y, x = _coordinates()
    radius, angle = np.hypot(y, x), np.arctan2(-y, x)
    width = SIDE / 2 / rings
    waves = []
    for centre in (np.arange(rings) + 0.5) * width:
        ring = np.exp(-0.5 * ((radius - centre) / (0.6 * width)) ** 2) * _disc() / np.sqrt(centre)
        waves += [ring * np.exp(-1j * order * angle) for order in range(orders)]
    basis = np.stack(waves).reshape(len(waves), -1).T
    return np.ascontiguousarray(basis.real, np.float32), np.ascontiguousarray(basis.imag, np.float32)


def _harmonics(signatures: Signatures, rings: int, orders: int) -> Complex64[np.ndarray, "n rings orders"]:
    real, imaginary = _basis(rings, orders)
    flat = signatures.reshape(len(signatures), SIDE * SIDE).astype(np.float32)
    harmonics: np.ndarray = (flat @ real + 1j * (flat @ imaginary)).reshape(len(flat), rings, orders)
    return harmonics


def _likely_turns(first: np.ndarray, second: np.ndarray) -> Float64[np.ndarray, "n 2 4"]:
    """Find the turn near each quarter, not mirrored and mirrored, at which harmonics agree best; by all turns at once."""
    tried = _tried_turns()
    best = []
    for agreement in _agreements(first, second):
        best.append(np.take_along_axis(tried[None], agreement.argmax(axis=2)[..., None], axis=2)[..., 0] * (360 / TURNS))
    return np.stack(best, axis=1)


def _agreement(first: np.ndarray, second: np.ndarray) -> Float64[np.ndarray, " n"]:
    """Measure how well harmonics agree at the best turn, 1 for equal ones."""
    best = np.max([agreement.max(axis=(1, 2)) for agreement in _agreements(first, second)], axis=0)
    sizes = [
        np.sqrt((np.abs(own) ** 2).sum(axis=(1, 2)) - (np.abs(own[:, :, 0]) ** 2).sum(axis=1) / 2) for own in (first, second)
    ]
    agreement: np.ndarray = best / np.maximum(sizes[0] * sizes[1], 1e-12)
    return agreement


def _agreements(first: np.ndarray, second: np.ndarray) -> list[Float64[np.ndarray, "n 4 turns"]]:
    """Correlate harmonics at the turns near each quarter: the second as it is, and mirrored."""
    signs = (-1.0) ** np.arange(second.shape[2])  # mirroring sends an angle to 180 degrees less it
    agreements = []
    for turned in (second, np.conj(second) * signs):
        product = (np.conj(first) * turned).sum(axis=1)
        product[:, 0] /= 2
        agreements.append(np.fft.fft(product, TURNS, axis=1).real[:, _tried_turns()])
    return agreements


def _tried_turns() -> Int64[np.ndarray, "4 turns"]:
    """Turns near each quarter, in 1/256."""
    steps = np.arange(-TURNS // 8, TURNS // 8)
    steps = steps[np.abs(steps) * 360 / TURNS <= MOST_TURN_DEG]
    tried: np.ndarray = (np.arange(4)[:, None] * TURNS // 4 + steps) % TURNS
    return tried


def _prepared(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Blur a signature that stays, cut to the disc, and one that is turned, as it is and mirrored."""
    return _soft(first) * _disc(), [_soft(second), _soft(second[:, ::-1])]


def _best_start(fixed: np.ndarray, moving: list[np.ndarray], turns: np.ndarray) -> tuple[float, int, np.ndarray]:
    """Choose the turn, mirrored or not, at which signatures correlate best."""
    starts = [
        (_correlation(fixed, moving[flip], place := np.array([turn_deg, 0.0, 0.0, 1.0])), flip, place)
        for flip in (0, 1)
        for turn_deg in turns[flip]
    ]
    return max(starts, key=lambda start: start[0])


def _compare_pair(first: np.ndarray, second: np.ndarray, turns: np.ndarray) -> Alignment | None:
    """Correlate two signatures, aligned as well as small steps of turn, shift and scale can."""
    fixed, moving = _prepared(first, second)
    best, flip, place = _best_start(fixed, moving, turns)
    if best < WORTH_REFINING:
        return None
    for step in STEPS:
        for change in (sign * row for row in np.diag(step) if row.any() for sign in (-1, 1)):
            tried = place + change
            if (correlation := _correlation(fixed, moving[flip], tried)) > best:
                best, place = correlation, tried
    needed = ALIKE_THIN if min(_roundness(first), _roundness(second)) < THIN_ROUNDNESS else ALIKE
    turn = (float(place[0]) + 180) % 360 - 180
    return Alignment(min(round(best, 4), 1.0), bool(flip), round(turn, 1)) if best >= needed else None


def _soft(signature: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(signature.astype(np.float32), (0, 0), BLUR)


def _correlation(fixed: np.ndarray, moving: np.ndarray, place: np.ndarray) -> float:
    """Correlate within the disc that no turn leaves; `fixed` is cut to it already."""
    turn_deg, right, down, scale = place.tolist()
    centre = (SIDE - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), turn_deg, scale)
    matrix[:, 2] += right, down
    moved = cv2.warpAffine(moving, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR) * _disc()
    norm = float(np.sqrt(np.vdot(fixed, fixed) * np.vdot(moved, moved)))
    return float(np.vdot(fixed, moved)) / norm if norm else 0.0


def _roundness(signature: np.ndarray) -> float:
    ys, xs = np.nonzero(signature)
    return moments(ys, xs, signature[ys, xs])[3]


@cache
def _coordinates() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return y, x


@cache
def _disc() -> Float32[np.ndarray, "64 64"]:
    """1 in the cells that no turn takes out of the square."""
    disc: np.ndarray = (np.hypot(*_coordinates()) <= SIDE / 2).astype(np.float32)
    return disc
