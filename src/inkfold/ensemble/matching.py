"""Which rows of several predictions are of one drawing: by the files' content, and by paths where contents aren't known."""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
from jaxtyping import Int64

from inkfold.ensemble.member_predictions import path_keys
from inkfold.evaluation.predictions import Predictions


@dataclass(slots=True)
class _Drawing:
    """A drawing of one or several predictions: its number, what is known of its file, and its names."""

    number: int
    digest: bytes
    class_name: str | None
    paths: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Row:
    """What identifies the drawing of a row: the key of its path, the digest of its file (empty if unknown), its class."""

    path: str
    digest: bytes
    class_name: str | None


def match_drawings(several: Sequence[Predictions]) -> list[Int64[np.ndarray, " n"]]:
    """Number the drawings of several predictions, so that rows of one drawing have one number.

    Two rows are of one drawing where their files are equal, whatever they are called; where the content of one of them isn't
    known, as in files of predictions from elsewhere, where their paths are. Rows with the same path but different contents are
    of different drawings. Equal files within one set of predictions are different drawings, which are matched one to one:
    those of the same path first, then those of the same class, then in the order of their paths.

    Args:
        several: Predictions of one part of the data, by several runs or files.

    Returns:
        The number of each row's drawing, from 0, for each of the predictions. In one of them only rows of the same path share a
        number.
    """
    known = _Known()
    numbers: list[np.ndarray] = [np.empty(0, np.int64)] * len(several)
    for i in sorted(range(len(several)), key=lambda i: several[i].digests is None):  # contents first: they join paths
        rows = _rows(several[i])
        first = dict[str, _Row]()
        for row in rows:
            first.setdefault(row.path, row)
        number_of = known.match([*first.values()])
        numbers[i] = np.array([number_of[row.path] for row in rows], np.int64)
    return numbers


def are_matched_by_content(first: Predictions, second: Predictions) -> bool:
    """Return whether the drawings of two predictions are matched by their files' contents, not by their paths."""
    return first.digests is not None and second.digests is not None


def _rows(predictions: Predictions) -> list[_Row]:
    """Read what identifies each row's drawing; what has another length than the paths is unknown, and reported elsewhere."""
    keys = path_keys(predictions.image_paths.tolist())
    digests, targets = predictions.digests, predictions.targets
    files = [b""] * len(keys) if digests is None or len(digests) != len(keys) else digests.tolist()
    names = dict(enumerate(predictions.class_names))
    ids = [-1] * len(keys) if targets is None or len(targets) != len(keys) else targets.tolist()
    return [_Row(key, file, names.get(target)) for key, file, target in zip(keys, files, ids, strict=True)]


@final
class _Known:
    """The drawings of the predictions that were matched so far, by content and by path."""

    def __init__(self) -> None:
        self.count = 0
        self.of_digest: dict[bytes, list[_Drawing]] = {}
        self.of_path: dict[str, list[_Drawing]] = {}

    def match(self, rows: Sequence[_Row]) -> dict[str, int]:
        """Match rows of different paths; those that fit no known drawing become one; return the number by path."""
        number_of: dict[str, int] = {}
        for row, drawing in [*self._by_content(rows)]:
            number_of[row.path] = self._settle(row, drawing)
        taken = {*number_of.values()}
        for row in rows:
            if row.path not in number_of:
                fits = (drawing for drawing in self.of_path.get(row.path, ()) if drawing.number not in taken)
                same_path = next((one for one in fits if not (one.digest and row.digest)), None)
                number_of[row.path] = self._settle(row, same_path or self._new())
                taken.add(number_of[row.path])
        return number_of

    def _new(self) -> _Drawing:
        self.count += 1
        return _Drawing(self.count - 1, b"", None)

    def _settle(self, row: _Row, drawing: _Drawing) -> int:
        """Add what a row tells of a drawing; return its number."""
        if row.path not in drawing.paths:
            drawing.paths.add(row.path)
            self.of_path.setdefault(row.path, []).append(drawing)
        if row.digest and not drawing.digest:
            drawing.digest = row.digest
            self.of_digest.setdefault(row.digest, []).append(drawing)
        drawing.class_name = drawing.class_name or row.class_name
        return drawing.number

    def _by_content(self, rows: Sequence[_Row]) -> Iterator[tuple[_Row, _Drawing]]:
        """Match rows one to one with drawings of equal files."""
        wanted: dict[bytes, list[_Row]] = {}
        for row in rows:
            if row.digest in self.of_digest:
                wanted.setdefault(row.digest, []).append(row)
        for digest, own in wanted.items():
            free = sorted(self.of_digest[digest], key=lambda drawing: (min(drawing.paths), drawing.number))
            yield from _one_to_one(sorted(own, key=lambda row: row.path), free)


def _one_to_one(rows: Sequence[_Row], free: Sequence[_Drawing]) -> Iterator[tuple[_Row, _Drawing]]:
    """Pair rows and drawings of one content, both in the order of their paths."""
    of_path = {path: drawing for drawing in reversed(free) for path in drawing.paths}
    taken: set[int] = set()
    rest, last = list[_Row](), list[_Row]()
    for row in rows:
        drawing = of_path.get(row.path)
        if drawing is None or drawing.number in taken:
            rest.append(row)
        else:
            taken.add(drawing.number)
            yield row, drawing
    of_class: defaultdict[str, deque[_Drawing]] = defaultdict(deque)
    for drawing in free:
        if drawing.number not in taken and drawing.class_name is not None:
            of_class[drawing.class_name].append(drawing)
    for row in rest:
        if row.class_name is not None and of_class.get(row.class_name):
            drawing = of_class[row.class_name].popleft()
            taken.add(drawing.number)
            yield row, drawing
        else:
            last.append(row)
    yield from zip(last, (drawing for drawing in free if drawing.number not in taken), strict=False)
