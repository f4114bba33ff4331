"""Finds copies of drawings: mirrored, turned by quarters and a little, resized, re-encoded, or on another page.

Two steps, neither over all pairs. 30 numbers that no turn or flip of a signature changes propose each drawing's nearest
neighbours through a k-d tree. Then the pixels decide: the second is turned onto the first, and their blurred ink is
correlated. Thresholds were chosen on the training drawings of Quick, Draw! (6,867) with planted copies, nearly all of which
correlate by over 0.997, and of the drawings themselves no two by over 0.993, thin ones, which are all alike, apart; of
100,000 drawings that follow 30 patterns, one pair does by over 0.997.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Complex64, Float32, Float64, Int64, Shaped, UInt8

from inkfold.data.fingerprints import SIDE, SignatureStore, moments
from inkfold.data.splits import connected
from inkfold.errors import CacheError
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.files import write_text
from inkfold.storage.hashing import digest, key_digest

log = logging.getLogger("inkfold.data")

ALIKE = 0.997
ALIKE_THIN = 0.999
THIN_ROUNDNESS = 0.005
WORTH_REFINING = 0.93  # of a copy as it is first aligned; one in a thousand has less than 0.947
MOST_TURN_DEG = 12.0  # from the nearest quarter turn

DESCRIPTOR = (6, 5)  # rings, orders
ALIGNMENT = (10, 24)
NEIGHBOURS = 8
FARTHEST = 0.03  # of descriptors; 99 % of copies are nearer than 0.013, the median other drawing is at 0.08
TURNS = 256
BLUR = 1.0
BLOCK = 2048
FIRST_STEP = np.array([1.0, 0.6, 0.6, 0.015])  # degrees, cells, cells, scale
STEPS = [
    np.array([3.0, 0, 0, 0]),
    *(FIRST_STEP / 1.7**turn for turn in range(4)),
]  # round drawings agree at many turns: one wide step

COMPARED_VERSION = 1  # part of the key of stored matches: raise it whenever the rules here change

Signatures = UInt8[np.ndarray, "n 64 64"]
ReadSignatures = Callable[[Shaped[np.ndarray, " m"]], Signatures]


@dataclass(frozen=True, slots=True)
class Match:
    """Two copies of one drawing.

    Attributes:
        first: Row number of one copy, which the other is turned onto.
        second: Row number of the other copy, above `first`.
        similarity: Correlation of their ink, 0 to 1.
        flip: Whether the second has to be mirrored left to right to match the first.
        turn_deg: Angle by which the second is then turned, degrees anticlockwise, -180 to 180.
        identical: Whether the files have the same bytes.
    """

    first: int
    second: int
    similarity: float
    flip: bool
    turn_deg: float
    identical: bool = False


def find_copies(digests: Shaped[np.ndarray, " n"], signatures: SignatureStore, progress: Progress = silent) -> list[Match]:
    """Find copies among drawings, or read the stored matches if the same drawings were compared before.

    Args:
        digests: Digests of the files' bytes; each has a signature in the store.
        signatures: The store of the signatures, beside which matches are stored; a damaged file of matches is ignored.
        progress: Called with the number of compared candidates.

    Returns:
        Matches, in the order of their first drawing's digest. The order of the drawings changes nothing but the row numbers.

    Raises:
        CacheError: If the disk is full.
    """
    names = np.unique(digests)
    key = {"drawings": digest(names.tobytes())}
    return _spread(digests, _remembered(key, names, signatures, lambda: _compare_all(names, signatures.read, progress)))


def find_copies_between(
    first: Shaped[np.ndarray, " n"],
    second: Shaped[np.ndarray, " m"],
    signatures: SignatureStore,
    progress: Progress = silent,
) -> list[Match]:
    """Find drawings of one part that are copies of drawings of another, or read the stored matches.

    Each drawing of the second part is compared with the nearest ones of the first: what else the second part contains
    changes nothing for it.

    Args:
        first: Digests of the files' bytes in the first part, such as the training drawings; each has a signature in the store.
        second: Those of the second part, such as the test drawings.
        signatures: The store of the signatures, beside which matches are stored.
        progress: Called with the number of compared candidates.

    Returns:
        Matches, with `first` a row of the first part and `second` one of the second; of a second drawing with several copies
        in the first, some may be left out. A drawing of equal bytes gets one match, which says so.

    Raises:
        CacheError: If the disk is full.
    """
    (names, first_row), (others, of_other) = np.unique(first, return_index=True), np.unique(second, return_inverse=True)
    same, new = match_bytes(first, second), others[~np.isin(others, names)]
    key = {"drawings": digest(names.tobytes()), "with": digest(new.tobytes())}
    both = np.concatenate([names, new])
    near = _remembered(key, both, signatures, lambda: _compare_all(both, signatures.read, progress, len(names)))
    rows_of = {name: np.flatnonzero(of_other == place) for place, name in enumerate(others.tolist())}
    spread = [
        replace(match, first=int(first_row[match.first]), second=int(row))
        for match in near
        for row in rows_of[both[match.second]]
    ]
    return [*same, *spread]


def match_bytes(first: Shaped[np.ndarray, " n"], second: Shaped[np.ndarray, " m"]) -> list[Match]:
    """Match the files of a second part with files of a first part that have the same bytes, the lowest row of them.

    Args:
        first: Digests of the files' bytes in the first part.
        second: Digests of the files' bytes in the second part.

    Returns:
        A match for each drawing of the second part whose bytes the first part has, in the second part's order.
    """
    names, rows = np.unique(first, return_index=True)
    row_of = dict(zip(names.tolist(), rows.tolist(), strict=True))
    return [
        Match(row_of[name], row, 1.0, flip=False, turn_deg=0.0, identical=True)
        for row, name in enumerate(second.tolist())
        if name in row_of
    ]


def _remembered(
    key: Mapping[str, str], names: Shaped[np.ndarray, " n"], signatures: SignatureStore, compare_all: Callable[[], list[Match]]
) -> list[Match]:
    """Read the matches of drawings that were compared before, or compare them and store the matches."""
    key = {"compared": COMPARED_VERSION, "signatures": signatures.shards.key, **key}
    path = signatures.shards.directory / f"copies-{key_digest(key)}.json"
    matches = _read_matches(path, len(names))
    if matches is not None:
        log.info("%d pairs of duplicates among %d drawings are remembered in %s", len(matches), len(names), path)
        return matches
    matches = compare_all()
    log.info("%d pairs of duplicates found among %d drawings", len(matches), len(names))
    rows = [[match.first, match.second, match.similarity, match.flip, match.turn_deg] for match in matches]
    try:
        write_text(path, json.dumps(rows))
    except OSError as error:
        raise CacheError(f"{path}: {error.strerror}. Make room, or set INKFOLD_HOME to another disk.") from None
    return matches


def _compare_all(
    names: Shaped[np.ndarray, " n"], read: ReadSignatures, progress: Progress, first_part: int | None = None
) -> list[Match]:
    """Compare drawings with different bytes, each with its neighbours; row numbers are those of `names`.

    If the first so many drawings are a part of their own, each of the others is compared with those of that part alone.
    """
    matches = []
    usable, descriptors = describe(names, read)
    pairs = usable[_near_pairs(descriptors, None if first_part is None else int((usable < first_part).sum()))]
    for start in range(0, len(pairs), BLOCK):
        block = pairs[start : start + BLOCK]
        for (first, second), match in zip(block, compare(read(names[block[:, 0]]), read(names[block[:, 1]])), strict=True):
            if match is not None:
                matches.append(replace(match, first=int(first), second=int(second)))
        progress("comparing drawings", min(start + BLOCK, len(pairs)), len(pairs))
    return matches


def _read_matches(path: Path, count: int) -> list[Match] | None:
    """Read stored matches of `count` drawings; None if there are none, or the file is damaged."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        matches = [Match(int(row[0]), int(row[1]), float(row[2]), bool(row[3]), float(row[4])) for row in rows]
    except (OSError, ValueError, TypeError, LookupError):
        return None
    places = [place for match in matches for place in (match.first, match.second)]
    return matches if isinstance(rows, list) and all(0 <= place < count for place in places) else None


def _spread(digests: Shaped[np.ndarray, " n"], matches: Sequence[Match]) -> list[Match]:
    """Turn matches between distinct digests into matches between rows, and add the rows with equal bytes."""
    _, place = np.unique(digests, return_inverse=True)
    of_name = np.split(np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))[:-1])
    same = [
        Match(int(rows[0]), int(row), 1.0, flip=False, turn_deg=0.0, identical=True) for rows in of_name for row in rows[1:]
    ]
    return same + [_placed(match, int(of_name[match.first][0]), int(of_name[match.second][0])) for match in matches]


def group_matches(n: int, matches: Sequence[Match]) -> Int64[np.ndarray, " n"]:
    """Return for each of n drawings the lowest row number of its group, which matches join; its own if it has no match."""
    ends = np.array([(match.first, match.second) for match in matches], np.int64).reshape(-1, 2)
    group = np.arange(n)
    group[ends.ravel()] = connected(ends.ravel(), np.repeat(np.arange(len(ends)), 2))
    return group


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
    usable, parts = [np.empty(0, np.int64)], [np.empty((0, DESCRIPTOR[0] * DESCRIPTOR[1]))]
    for start in range(0, len(names), BLOCK):
        signatures = read(names[start : start + BLOCK])
        inked = np.flatnonzero(signatures.any(axis=(1, 2)))
        sizes = (
            np.abs(_harmonics(signatures[inked], *DESCRIPTOR))
            .reshape(len(inked), DESCRIPTOR[0] * DESCRIPTOR[1])
            .astype(np.float64)
        )
        usable.append(start + inked)
        parts.append(sizes / np.maximum(np.linalg.norm(sizes, axis=1, keepdims=True), 1e-12))
    return np.concatenate(usable), np.concatenate(parts).round(6)  # threads sum in no fixed order


def compare(first: Signatures, second: Signatures) -> list[Match | None]:
    """Turn each second signature onto its first: a match with the row numbers 0 and 1, or None for different drawings."""
    turns = _likely_turns(_harmonics(first, *ALIGNMENT), _harmonics(second, *ALIGNMENT))
    return [_match_of(*pair) for pair in zip(first, second, turns, strict=True)]


def _near_pairs(descriptors: np.ndarray, first_part: int | None = None) -> np.ndarray:
    """Pair each row with its nearest rows; each pair comes once. Rows beyond a first part are paired with that part's rows."""
    from scipy.spatial import KDTree  # noqa: PLC0415 - 100 ms

    known, asked = descriptors[:first_part], descriptors[first_part or 0 :]
    if len(descriptors) < 2 or not len(known) or not len(asked):
        return np.empty((0, 2), np.int64)
    near = KDTree(known).query(asked, k=NEIGHBOURS + 1, distance_upper_bound=FARTHEST, workers=-1)[1]
    rows = np.broadcast_to((first_part or 0) + np.arange(len(near))[:, None], near.shape)
    kept = (near < len(known)) & (near != rows)
    pairs = np.sort(np.stack([rows[kept], near[kept]], axis=1), axis=1)
    return np.unique(pairs, axis=0)


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
    steps = np.arange(-TURNS // 8, TURNS // 8)
    steps = steps[np.abs(steps) * 360 / TURNS <= MOST_TURN_DEG]
    tried = (np.arange(4)[:, None] * TURNS // 4 + steps) % TURNS
    signs = (-1.0) ** np.arange(second.shape[2])  # mirroring sends an angle to 180 degrees less it
    best = []
    for turned in (second, np.conj(second) * signs):
        product = (np.conj(first) * turned).sum(axis=1)
        product[:, 0] /= 2
        agreement = np.fft.fft(product, TURNS, axis=1).real[:, tried]
        best.append(np.take_along_axis(tried[None], agreement.argmax(axis=2)[..., None], axis=2)[..., 0] * (360 / TURNS))
    return np.stack(best, axis=1)


def _match_of(first: np.ndarray, second: np.ndarray, turns: np.ndarray) -> Match | None:
    """Correlate two signatures, aligned as well as small steps of turn, shift and scale can."""
    fixed = _soft(first) * _disc()
    moving = [_soft(second), _soft(second[:, ::-1])]
    starts = [
        (_correlation(fixed, moving[flip], place := np.array([turn_deg, 0.0, 0.0, 1.0])), flip, place)
        for flip in (0, 1)
        for turn_deg in turns[flip]
    ]
    best, flip, place = max(starts, key=lambda start: start[0])
    if best < WORTH_REFINING:
        return None
    for step in STEPS:
        for change in (sign * row for row in np.diag(step) if row.any() for sign in (-1, 1)):
            tried = place + change
            if (correlation := _correlation(fixed, moving[flip], tried)) > best:
                best, place = correlation, tried
    needed = ALIKE_THIN if min(_roundness(first), _roundness(second)) < THIN_ROUNDNESS else ALIKE
    turn = (float(place[0]) + 180) % 360 - 180
    return Match(0, 1, min(round(best, 4), 1.0), bool(flip), round(turn, 1)) if best >= needed else None


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


def _placed(match: Match, first: int, second: int) -> Match:
    """Set a match's row numbers, the lower one first; if that swaps the drawings, the turn is reversed."""
    if first < second:
        return Match(first, second, match.similarity, match.flip, match.turn_deg)
    turn = match.turn_deg if match.flip else -match.turn_deg
    return Match(second, first, match.similarity, match.flip, turn)
