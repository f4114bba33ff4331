"""Which drawings are copies of which: what stays together in folds for it, and what is left out of training (purged).

Without named groups, copies stay in one fold. A chain of copies that outgrows a fold's share is cut. Named groups are
never joined by copies. Wherever a copy of a held-out drawing would be trained on, that fold leaves it out of its training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from inkfold.data.duplicates import Match
from inkfold.data.splits import Folds, connected

MOST_OF_CLASS, FEWEST_ALIKE = 0.75, 10  # of a class's training drawings; more that are copies are what the class looks like
MOST_ALIKE = 32  # files; a longer chain of copies rather holds drawings that look alike, and only direct pairs are copies


@final
@dataclass(frozen=True, eq=False)
class Copies:
    """Drawings with equal bytes, and pairs of files that show the same drawing.

    Attributes:
        files: Number of each drawing's file, from 0; drawings with equal bytes have the same number.
        pairs: Numbers of the two files of each pair of copies, the most similar pair first.
        num_files: One more than the highest file number, also where its drawing was left out by `select`.
    """

    files: Int64[np.ndarray, " n"]
    pairs: Int64[np.ndarray, "pairs 2"]
    num_files: int

    @classmethod
    def of(cls, digests: Shaped[np.ndarray, " n"], matches: Sequence[Match] = ()) -> "Copies":
        """Collect copies; neither the drawings' order nor that of the matches changes what stays together.

        Args:
            digests: Digest of each drawing's bytes.
            matches: Copies by row, as `find_copies` returns them; none where they weren't searched for.
        """
        _, files = np.unique(digests, return_inverse=True)
        others = [match for match in matches if not match.identical]
        ends = np.array([(match.first, match.second) for match in others], np.int64).reshape(-1, 2)
        pairs = np.sort(files[ends], axis=1)
        order = np.lexsort((pairs[:, 1], pairs[:, 0], np.array([-match.similarity for match in others], np.float64)))
        return cls(files, pairs[order], int(files.max(initial=-1)) + 1)

    def select(self, rows: Shaped[np.ndarray, " m"]) -> "Copies":
        """Keep only some drawings; copies of one that was left out still belong together."""
        return replace(self, files=self.files[rows])

    def units(self, k: int) -> Int64[np.ndarray, " n"]:
        """Number the drawings that stay together: those with a common number.

        A chain of copies with more than the k-th part of all drawings is cut into k parts at most about equal in size, at its
        least similar pairs: files of equal bytes and the most similar pairs are joined first, as long as a part has room.

        Args:
            k: Number of folds, at least 2.
        """
        labels = np.arange(self.num_files)
        ends = self.pairs.ravel()
        labels[ends] = connected(ends, np.repeat(np.arange(len(self.pairs)), 2))
        sizes = np.bincount(self.files, minlength=self.num_files)
        totals = np.bincount(labels, weights=sizes, minlength=self.num_files)
        for chain in np.flatnonzero(totals > -(-len(self.files) // k)):
            own = self.pairs[labels[self.pairs[:, 0]] == chain]
            members = np.flatnonzero(labels == chain)
            if len(members) > 1:
                labels[members] = _cut(own, members, sizes, -(-int(totals[chain]) // k))
        result: np.ndarray = labels[self.files]
        return result

    def leave_out(self, held_out: Bool[np.ndarray, "folds n"], k: int, targets: Int64[np.ndarray, " n"]) -> Folds:
        """Train each fold on what it doesn't hold out, but for copies of what it does.

        Copies of copies are left out too, unless their chain is cut by `units` or longer than 32 files. Where that would take
        most of a class, such as circles that all look alike, its copies are no sign of one origin: then only files of equal
        bytes are left out of that class, in all folds.

        Args:
            held_out: True where a fold holds a drawing out.
            k: Number of folds that decides which chains of copies are cut, at least 2.
            targets: Class id of each drawing, from 0.
        """
        equal, alike = np.empty_like(held_out), np.empty_like(held_out)
        units = self.units(k)
        few = np.bincount(units[np.unique(self.files, return_index=True)[1]], minlength=self.num_files) <= MOST_ALIKE
        for fold, own in enumerate(held_out):
            shown = np.bincount(self.files[own], minlength=self.num_files) > 0
            linked = few & (np.bincount(units[own], minlength=self.num_files) > 0)
            direct = np.zeros(self.num_files, bool)
            direct[self.pairs[shown[self.pairs[:, 0]], 1]] = True
            direct[self.pairs[shown[self.pairs[:, 1]], 0]] = True
            equal[fold] = shown[self.files] & ~own
            alike[fold] = (direct[self.files] | linked[units]) & ~own & ~equal[fold]
        others = ~held_out & ~equal
        kinds = [
            np.stack([np.bincount(targets[rows], minlength=int(targets.max()) + 1) for rows in part])
            for part in (alike, others)
        ]
        look_alike = np.flatnonzero(((kinds[0] > MOST_OF_CLASS * kinds[1]) & (kinds[0] >= FEWEST_ALIKE)).any(0))
        alike &= ~np.isin(targets, look_alike)
        return Folds(others & ~alike, held_out, tuple(look_alike.tolist()))


def _cut(
    pairs: Int64[np.ndarray, "pairs 2"], members: Int64[np.ndarray, " files"], sizes: Int64[np.ndarray, " all"], limit: int
) -> Int64[np.ndarray, " files"]:
    """Join files along their pairs, in the pairs' order, to parts of at most `limit` drawings; return each file's part."""
    parent = {int(file): int(file) for file in members}
    size = {int(file): int(sizes[file]) for file in members}

    def root(file: int) -> int:
        while parent[file] != file:
            parent[file] = parent[parent[file]]
            file = parent[file]
        return file

    for first, second in pairs.tolist():
        a, b = sorted((root(first), root(second)))
        if a != b and size[a] + size[b] <= limit:
            parent[b] = a
            size[a] += size[b]
    return np.array([root(int(file)) for file in members], np.int64)
