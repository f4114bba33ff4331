"""Decides which level of folders names the classes: the first in `cat/1.png`, the second in `user.17/cat/1.png`.

A level whose folders all have one name decides nothing. Of the others, words name the classes rather than numbers, and
numbers rather than people, days and batches. Where two levels are equally good, the user is asked.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int64

from inkfold.data.name_kinds import NameKind, exact_role, first_names, is_filler, kind_of, words_of
from inkfold.data.tables import Strings
from inkfold.errors import Problem

DEEP_SHARE = 0.8  # of the drawings lie deeper, where the next level counts
DIRECT_SHARE = 0.1  # of a folder's drawings lie in it directly, where it counts as holding drawings itself
FEW_DIRECT = 0.25  # of a level's folders hold drawings themselves, where the next level still counts
MOST_LEVELS = 32
ORDINALS = ("0th", "1st", "2nd", "3rd")

Folders = Sequence[tuple[str, ...]]


@final
@dataclass(frozen=True, eq=False)
class FolderTree:
    """The folders of some drawings.

    Attributes:
        folders: Each distinct folder that holds drawings, as the names on its path.
        of_drawing: Each drawing's folder, as an index.
        counts: Number of drawings in each folder itself.
    """

    folders: Folders
    of_drawing: Int64[np.ndarray, " drawings"]
    counts: Int64[np.ndarray, " folders"]

    @classmethod
    def of_paths(cls, paths: Strings) -> "FolderTree":
        """Collect the folders of relative paths with forward slashes."""
        seen: dict[str, int] = {}
        parents = (path.rpartition("/")[0] for path in paths)
        codes = np.fromiter((seen.setdefault(parent, len(seen)) for parent in parents), np.int64, len(paths))
        folders = [tuple(parent.split("/")) if parent else () for parent in seen]
        return cls(folders, codes, np.bincount(codes, minlength=len(folders)))

    def names(self, level: int) -> tuple[list[str], Int64[np.ndarray, " drawings"]]:
        """Return the distinct names at a level, and each drawing's, as an index; -1 where its path is too short.

        Args:
            level: 1 for the first folder, -1 for the one that holds the drawing.
        """
        seen: dict[str, int] = {}
        place = level - 1 if level > 0 else level
        codes = [seen.setdefault(folder[place], len(seen)) if len(folder) >= abs(level) else -1 for folder in self.folders]
        return list(seen), np.array(codes, np.int64)[self.of_drawing] if codes else self.of_drawing


@final
@dataclass(frozen=True)
class Level:
    """A level of folders.

    Attributes:
        number: From 1, the first below the root or part.
        names: Its distinct names, in code point order.
        kind: Whether the names are words, numbers, people or parts.
    """

    number: int
    names: tuple[str, ...]
    kind: NameKind

    @property
    def ordinal(self) -> str:
        """`1st`, `2nd`, ..."""
        return ordinal(self.number)


@final
@dataclass(frozen=True)
class LevelChoice:
    """Which level of folders names the classes.

    Attributes:
        level: Number of the level, from 1.
        depth: How many levels nearly all drawings have.
        groups: The level that may say who drew, or on which day; None where there is none.
        parts: The level below a class whose folders are named as parts (train, test); None where there is none.
        problem: What was understood, as a warning, or the question, as an error; None where there was nothing to decide.
    """

    level: int
    depth: int = 1
    groups: Level | None = None
    parts: Level | None = None
    problem: Problem | None = None


def ordinal(number: int) -> str:
    """Write a number from 1 as `1st`, `2nd`, `3rd`, `4th`."""
    return ORDINALS[number] if number < len(ORDINALS) else f"{number}th"


def choose_level(tree: FolderTree, where: str, fixed: int | None = None) -> LevelChoice:
    """Decide which level of folders names the classes.

    Args:
        tree: The folders of the training drawings.
        where: Name of the root or part, for messages.
        fixed: The user's `data.class_level`, which decides; None leaves it to the names.

    Returns:
        The choice. Where it can't be decided, its level is 1 and its problem an error.
    """
    depth = _common_depth(tree)
    if depth < 2:
        return LevelChoice(fixed or 1, depth)
    cells = _Cells(tree, depth)
    parts = next((level for level in cells.levels[1:] if all(map(exact_role, level.names)) and len(level.names) > 1), None)
    candidates = cells.candidates(parts)
    if fixed is not None:
        chosen = fixed if fixed > 0 else depth + 1 + fixed
        groups = _groups(cells, candidates, chosen)
        return LevelChoice(fixed, depth, groups, parts)
    if len(candidates) < 2:
        chosen = candidates[0].number if candidates else 1
        return LevelChoice(chosen, depth, None, parts, _understood(cells, chosen, None, where))
    best = max(level.kind for level in candidates)
    tied = [level for level in candidates if level.kind == best]
    if len(tied) > 1:
        return LevelChoice(1, depth, None, parts, _question(tied, where))
    chosen = tied[0].number
    groups = _groups(cells, candidates, chosen)
    return LevelChoice(chosen, depth, groups, parts, _understood(cells, chosen, groups, where))


def _common_depth(tree: FolderTree) -> int:
    """Return how many levels of folders nearly all drawings lie in."""
    lengths = np.array([len(folder) for folder in tree.folders], np.int64)
    inside = tree.counts[lengths > 0].sum()
    depth = 1
    while depth < MOST_LEVELS:
        totals, direct = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
        for folder, count in zip(tree.folders, tree.counts.tolist(), strict=True):
            if len(folder) >= depth:
                totals[folder[:depth]] += count
            if len(folder) == depth:
                direct[folder] += count
        holding = sum(count >= DIRECT_SHARE * totals[folder] for folder, count in direct.items())
        deeper = tree.counts[lengths > depth].sum()
        if not deeper or deeper < DEEP_SHARE * inside or holding > FEW_DIRECT * len(totals):
            break
        depth += 1
    return depth


@final
class _Cells:
    """The levels of the folders that are deep enough, and which of their names stand together."""

    def __init__(self, tree: FolderTree, depth: int) -> None:
        deep = [i for i, folder in enumerate(tree.folders) if len(folder) >= depth]
        self.drawings = int(tree.counts[deep].sum())
        self.levels: list[Level] = []
        self.twins: dict[int, Level] = {}  # by a level's number, another one of words that divides the drawings alike
        self._codes: list[np.ndarray] = []
        for number in range(1, depth + 1):
            names, codes = np.unique([tree.folders[i][number - 1] for i in deep], return_inverse=True)
            self.levels.append(Level(number, tuple(map(str, names)), kind_of(names.tolist())))
            self._codes.append(codes)

    def candidates(self, parts: Level | None) -> list[Level]:
        """The levels that may name the classes, of those that divide the drawings alike only the best named."""
        kept: list[Level] = []
        for level in self.levels:
            if len(level.names) < 2 or level is parts or (level.number > 1 and 2 * len(level.names) > self.drawings):
                continue  # a folder for every drawing is no class
            twin = next((other for other in kept if self._same_division(other, level)), None)
            if twin is None:
                kept.append(level)
            elif twin.kind < level.kind:
                kept[kept.index(twin)] = level
            elif twin.kind == level.kind == NameKind.WORDS and not self._named_alike(twin, level):
                self.twins[twin.number] = level
        return kept

    def _same_division(self, first: Level, second: Level) -> bool:
        return len(first.names) == len(second.names) == self._pairs(first, second)

    def _named_alike(self, first: Level, second: Level) -> bool:
        """Return whether most names share a word, as `cat/cat pictures` do, or say nothing."""
        pairs = {(int(a), int(b)) for a, b in zip(self._codes[first.number - 1], self._codes[second.number - 1], strict=True)}
        named = ((first.names[a], second.names[b]) for a, b in pairs)
        return 2 * sum(is_filler(b) or bool({*words_of(a)} & {*words_of(b)}) for a, b in named) >= len(pairs)

    def _pairs(self, first: Level, second: Level) -> int:
        keys = self._codes[first.number - 1] * len(second.names) + self._codes[second.number - 1]
        return len(np.unique(keys))


def _groups(cells: _Cells, candidates: Sequence[Level], chosen: int) -> Level | None:
    """The level that says best who drew, or when: people before numbers before words."""
    others = [level for level in candidates if level.number != chosen]
    if not others:
        per_drawing = [level for level in cells.levels if level.number != chosen and len(level.names) > 1]
        others = [level for level in per_drawing if level.kind == NameKind.GROUPS and level not in candidates]
    return min(others, key=lambda level: level.kind, default=None)


def _understood(cells: _Cells, chosen: int, groups: Level | None, where: str) -> Problem | None:
    """Say which level was taken, and why; None for the first one without another reading."""
    twin = cells.twins.get(chosen)
    if chosen == 1 and groups is None and twin is None:
        return None
    level = cells.levels[chosen - 1]
    text = f"the {level.ordinal} folder is read as the class: {_count(level)}"
    if twin is not None:
        text += f"; the {twin.ordinal} one divides the drawings alike, and has other names ({first_names(twin.names)})."
        text += f" Take those by `data.class_level={twin.number}`."
    if groups is None and twin is None:
        text += ". The folders above it are a single one, one for each class, or parts."
    if groups is not None:
        what = {
            NameKind.GROUPS: "people, days, batches or kinds of pictures",
            NameKind.NUMBERS: "numbers",
            NameKind.WORDS: "words",
        }[groups.kind]
        text += (
            f"; the {groups.ordinal} folder, with {_count(groups, 'name')}, are {what} rather than classes. "
            f"If they are the classes: `data.class_level={groups.number}`."
        )
    return Problem("class_level", where, text, "warning")


def _question(tied: Sequence[Level], where: str) -> Problem:
    readings = "; ".join(f"`data.class_level={level.number}` for {_count(level)}" for level in tied)
    text = f"which folder names the class? The names don't say. Choose: {readings}."
    return Problem("class_level", where, text)


def _count(level: Level, what: str = "class") -> str:
    plural = "es" if what == "class" else "s"
    return f"{len(level.names)} {what}{'' if len(level.names) == 1 else plural} ({first_names(level.names)})"
