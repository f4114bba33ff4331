"""Finds copies of drawings: turned, mirrored, resized, re-encoded, in thicker or thinner strokes, in pencil, photographed.

Nothing is compared over all pairs: numbers that no turn or flip of a drawing changes propose each one's nearest neighbours
through a k-d tree. Then either the ink agrees (`ink_matching`), or the lines coincide, however wide their strokes are
(`line_matching`).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from inkfold.data.fingerprints import SignatureStore
from inkfold.data.ink_matching import Alignment, align_roughly, compare, describe
from inkfold.data.line_matching import LineMap, compare_lines
from inkfold.data.lines import CopyStores, sign_lines
from inkfold.data.splits import connected
from inkfold.errors import CacheError
from inkfold.runtime.parallel import map_in_processes
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.hashing import digest, key_digest
from inkfold.storage.sealed import DamagedError, read_sealed, write_sealed

log = logging.getLogger("inkfold.data")

INK_NEIGHBOURS = 8
INK_FARTHEST = 0.03  # of descriptors; 99 % of copies are nearer than 0.013, the median other drawing is at 0.08
LINE_NEIGHBOURS = 5
LINE_FARTHEST = 0.1  # 94 % of drawings in strokes 3 px thicker than 3 are nearer, by lines; and by ink, than the next:
INK_OF_LINES_FARTHEST = 0.05  # 99 % by either
LEAST_ROUGH = 0.945  # correlation of the lines at the best turn; one in thirty copies in pencil has less
INK_BLOCK = 2048  # pairs, with two signatures of 4 KB each
LINE_BLOCK = 512  # pairs, whose lines are in memory at once: 31 KB of each drawing,
MOST_MAPS = 128  # and 200 KB of some

COMPARED_VERSION = 3  # part of the key of stored matches: raise it whenever the rules of comparing change


@dataclass(frozen=True, slots=True)
class Match:
    """Two copies of one drawing.

    Attributes:
        first: Row number of one copy, which the other is turned onto.
        second: Row number of the other copy, above `first`.
        similarity: Correlation of their ink; of drawings in different strokes the share of lines that coincide. 0 to 1.
        flip: Whether the second has to be mirrored left to right to match the first.
        turn_deg: Angle by which the second is then turned, degrees anticlockwise, -180 to 180.
        identical: Whether the files have the same bytes.
        width_ratio: Width of the second's strokes by that of the first's, where their lines coincide but not their ink; None
            where the ink agrees.
    """

    first: int
    second: int
    similarity: float
    flip: bool
    turn_deg: float
    identical: bool = False
    width_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class CopySearch:
    """Copies that were found, and how much was compared.

    Attributes:
        matches: The pairs of copies, those of equal bytes among them.
        likely: Number of comparisons of ink or lines that were likely to find a copy.
        compared: Number of those that were made: fewer where a limit was set.
    """

    matches: list[Match]
    likely: int = 0
    compared: int = 0


def find_copies(
    digests: Shaped[np.ndarray, " n"], stores: CopyStores, progress: Progress = silent, most_pairs: int | None = None
) -> CopySearch:
    """Find copies among drawings, or read the stored matches if the same drawings were compared before.

    Args:
        digests: Digests of the files' bytes; the stores have each drawing.
        stores: Stores of the drawings' ink and lines, beside which matches are stored; a damaged file of matches is ignored.
        progress: Called with the number of compared candidates.
        most_pairs: Most comparisons of two drawings, at least 1, the most similar drawings first; None makes all.

    Returns:
        Matches, in the order of their first drawing's digest. The order of the drawings changes nothing but the row numbers.

    Raises:
        CacheError: If the disk is full.
    """
    names = np.unique(digests)
    key = {"drawings": digest(names.tobytes())}
    search = _remembered(key, names, stores, most_pairs, lambda: _compare_all(names, stores, progress, most_pairs))
    return replace(search, matches=_spread(digests, search.matches))


def find_copies_between(
    first: Shaped[np.ndarray, " n"],
    second: Shaped[np.ndarray, " m"],
    stores: CopyStores,
    progress: Progress = silent,
    most_pairs: int | None = None,
) -> CopySearch:
    """Find drawings of one part that are copies of drawings of another, or read the stored matches.

    Each drawing of the second part is compared with the nearest ones of the first: what else the second part contains
    changes nothing for it.

    Args:
        first: Digests of the files' bytes in the first part, such as the training drawings; the stores have each.
        second: Those of the second part, such as the test drawings.
        stores: The stores of the drawings' ink and lines, beside which matches are stored.
        progress: Called with the number of compared candidates.
        most_pairs: Most comparisons of two drawings, at least 1, the most similar drawings first; None makes all.

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
    search = _remembered(key, both, stores, most_pairs, lambda: _compare_all(both, stores, progress, most_pairs, len(names)))
    rows_of = np.split(np.argsort(of_other, kind="stable"), np.cumsum(np.bincount(of_other))[:-1])
    place_of = np.flatnonzero(~np.isin(others, names))
    spread = [
        replace(match, first=int(first_row[match.first]), second=int(row))
        for match in search.matches
        for row in rows_of[place_of[match.second - len(names)]]
    ]
    return replace(search, matches=[*same, *spread])


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
    key: Mapping[str, Any],
    names: Shaped[np.ndarray, " n"],
    stores: CopyStores,
    most_pairs: int | None,
    compare_all: Callable[[], CopySearch],
) -> CopySearch:
    """Read the matches of drawings that were compared before, or compare them and store the matches."""
    limit = {} if most_pairs is None else {"most_pairs": most_pairs}
    key = {"compared": COMPARED_VERSION, "signatures": stores.ink.shards.key, "lines": stores.lines.shards.key, **key, **limit}
    path = stores.ink.shards.directory / f"copies-{key_digest(key)}.json"
    known = _read_matches(path, len(names))
    if known is not None:
        log.info("%d pairs of duplicates among %d drawings are remembered in %s", len(known.matches), len(names), path)
        return known
    search = compare_all()
    log.info("%d pairs of duplicates found among %d drawings", len(search.matches), len(names))
    rows = [
        [match.first, match.second, match.similarity, match.flip, match.turn_deg, match.width_ratio] for match in search.matches
    ]
    counts = {"likely": search.likely, "compared": search.compared} if limit else {"likely": 0, "compared": 0}
    try:
        write_sealed(path, {**counts, "matches": rows}, indent=None)
    except OSError as error:
        raise CacheError(f"{path}: {error.strerror}. Make room, or set INKFOLD_HOME to another disk.") from None
    return search


def _compare_all(
    names: Shaped[np.ndarray, " n"],
    stores: CopyStores,
    progress: Progress,
    most_pairs: int | None,
    first_part: int | None = None,
) -> CopySearch:
    """Compare drawings with different bytes, each with its neighbours; row numbers are those of `names`.

    If the first so many drawings are a part of their own, each of the others is compared with those of that part alone.
    """
    by_ink, by_lines = _propose(names, stores, first_part)
    likely = len(by_ink.pairs) + len(by_lines.pairs)
    if most_pairs is not None and likely > most_pairs:
        by_ink, by_lines = _most_similar(by_ink, by_lines, most_pairs)
    matches = _match_ink(by_ink.pairs, names, stores, progress)
    known = {(match.first, match.second) for match in matches}
    others = by_lines.pairs[[pair not in known for pair in map(tuple, by_lines.pairs.tolist())]]
    matches += _match_lines(others, names, stores, progress)
    compared = len(by_ink.pairs) + len(by_lines.pairs)
    return CopySearch(sorted(matches, key=lambda match: (match.first, match.second)), likely, compared)


class _Likely(NamedTuple):
    """Pairs that are likely to be copies, each once, and how far apart their descriptors are: 1 is the farthest."""

    pairs: Int64[np.ndarray, "pairs 2"]
    distances: Float64[np.ndarray, " pairs"]


def _propose(names: Shaped[np.ndarray, " n"], stores: CopyStores, first_part: int | None) -> tuple[_Likely, _Likely]:
    """Propose pairs whose ink may agree, and pairs whose lines may coincide."""

    def near(usable: np.ndarray, descriptors: np.ndarray, neighbours: int, farthest: float) -> _Likely:
        known = None if first_part is None else int((usable < first_part).sum())
        likely = _near_pairs(descriptors, neighbours, farthest, known)
        return _Likely(usable[likely.pairs], likely.distances)

    ink = describe(names, stores.ink.read)
    lines = stores.lines.describe(names)
    likely = [near(*ink, LINE_NEIGHBOURS, INK_OF_LINES_FARTHEST), near(*lines, LINE_NEIGHBOURS, LINE_FARTHEST)]
    return near(*ink, INK_NEIGHBOURS, INK_FARTHEST), _joined(likely)


def _joined(likely: Sequence[_Likely]) -> _Likely:
    """Join lists of pairs, each pair with the least of its distances."""
    pairs, place = np.unique(np.concatenate([own.pairs for own in likely]), axis=0, return_inverse=True)
    distances = np.full(len(pairs), np.inf)
    np.minimum.at(distances, place.reshape(-1), np.concatenate([own.distances for own in likely]))
    return _Likely(pairs, distances)


def _most_similar(by_ink: _Likely, by_lines: _Likely, most: int) -> tuple[_Likely, _Likely]:
    """Keep so many pairs of both lists together, the most similar ones: of each list half, or more where the other is short."""
    ranks = np.concatenate([own.distances.argsort(kind="stable").argsort() for own in (by_ink, by_lines)])
    kept = np.zeros(len(ranks), bool)
    kept[ranks.argsort(kind="stable")[:most]] = True
    parts = np.split(kept, [len(by_ink.pairs)])
    ink, lines = (_Likely(own.pairs[part], own.distances[part]) for own, part in zip((by_ink, by_lines), parts, strict=True))
    return ink, lines


def _match_ink(
    pairs: Int64[np.ndarray, "pairs 2"], names: Shaped[np.ndarray, " n"], stores: CopyStores, progress: Progress
) -> list[Match]:
    """Compare the ink of pairs, in processes if there are many."""
    blocks = [pairs[start : start + INK_BLOCK] for start in range(0, len(pairs), INK_BLOCK)]
    tasks = [(names[block[:, 0]], names[block[:, 1]], stores.ink) for block in blocks]
    found = map_in_processes(_compare_ink, tasks, list(map(len, blocks)), "comparing drawings", progress)
    return [
        Match(int(first), int(second), *alignment)
        for block, alignments in zip(blocks, found, strict=True)
        for (first, second), alignment in zip(block, alignments, strict=True)
        if alignment is not None
    ]


def _compare_ink(
    first: Shaped[np.ndarray, " n"], second: Shaped[np.ndarray, " n"], store: SignatureStore
) -> list[Alignment | None]:
    """Compare the ink of pairs of drawings, by their digests."""
    return compare(store.read(first), store.read(second))


def _match_lines(
    pairs: Int64[np.ndarray, "pairs 2"], names: Shaped[np.ndarray, " n"], stores: CopyStores, progress: Progress
) -> list[Match]:
    """Compare the lines of pairs, in processes if there are many."""
    blocks = [pairs[start : start + LINE_BLOCK] for start in range(0, len(pairs), LINE_BLOCK)]
    rows = [np.unique(block, return_inverse=True) for block in blocks]
    tasks = [(names[own], places.reshape(-1, 2), stores) for own, places in rows]
    found = map_in_processes(_compare_lines, tasks, list(map(len, blocks)), "comparing lines", progress)
    return [
        replace(match, first=int(own[match.first]), second=int(own[match.second]))
        for (own, _), matches in zip(rows, found, strict=True)
        for match in matches
    ]


def _compare_lines(names: Shaped[np.ndarray, " n"], pairs: Int64[np.ndarray, "pairs 2"], stores: CopyStores) -> list[Match]:
    """Compare the lines of pairs of some drawings, each of which is read once; row numbers are those of `names`."""
    drawings = stores.lines.read(names)
    signatures = np.stack([sign_lines(drawing) for drawing in drawings])
    rough = align_roughly(signatures[pairs[:, 0]], signatures[pairs[:, 1]], LEAST_ROUGH)
    maps: dict[int, LineMap] = {}
    matches = []
    for (first, second), start in zip(pairs.tolist(), rough, strict=True):
        if start is None:
            continue
        if len(maps) > MOST_MAPS:
            maps.clear()
        for row in (first, second):
            if row not in maps:
                maps[row] = LineMap(drawings[row])
        if (found := compare_lines(maps[first], maps[second], start)) is not None:
            alignment, width_ratio = found
            matches.append(Match(first, second, *alignment, width_ratio=width_ratio))
    return matches


def _read_matches(path: Path, count: int) -> CopySearch | None:
    """Read stored matches of `count` drawings; None if there are none, or they aren't what was written."""
    try:
        stored = read_sealed(path, must_be_sealed=True)
        matches = [
            Match(
                *(int(row[0]), int(row[1]), float(row[2]), bool(row[3]), float(row[4])),
                width_ratio=None if row[5] is None else float(row[5]),
            )
            for row in stored["matches"]
        ]
        search = CopySearch(matches, int(stored["likely"]), int(stored["compared"]))
        if not all(0 <= place < count for match in matches for place in (match.first, match.second)):
            raise DamagedError("it is of other drawings")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError) as error:
        log.warning("%s: %s, so the drawings are compared again", path, error)
        return None
    return search


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


def _near_pairs(descriptors: np.ndarray, neighbours: int, farthest: float, first_part: int | None) -> _Likely:
    """Pair each row with its nearest rows; each pair comes once. Rows beyond a first part are paired with that part's rows."""
    from scipy.spatial import KDTree  # noqa: PLC0415 - 100 ms

    known, asked = descriptors[:first_part], descriptors[first_part or 0 :]
    if len(descriptors) < 2 or not len(known) or not len(asked):
        return _Likely(np.empty((0, 2), np.int64), np.empty(0))
    distances, near = KDTree(known).query(asked, k=neighbours + 1, distance_upper_bound=farthest, workers=-1)
    rows = np.broadcast_to((first_part or 0) + np.arange(len(near))[:, None], near.shape)
    kept = (near < len(known)) & (near != rows)
    pairs = np.sort(np.stack([rows[kept], near[kept]], axis=1), axis=1)
    once, places = np.unique(pairs, axis=0, return_index=True)
    return _Likely(once, distances[kept][places] / farthest)


def _placed(match: Match, first: int, second: int) -> Match:
    """Set a match's row numbers, the lower one first; if that swaps the drawings, the turn is reversed."""
    if first < second:
        return replace(match, first=first, second=second)
    turn = match.turn_deg if match.flip else -match.turn_deg
    ratio = None if match.width_ratio is None else round(1 / match.width_ratio, 2)
    return replace(match, first=second, second=first, turn_deg=turn, width_ratio=ratio)
