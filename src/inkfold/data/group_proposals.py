"""Finds which drawings belong together by names: of files (`n0153_8421-2.png`), of folders (`user.17`), of columns (`who`).

A wrong proposal would cost the user as much as a missing one, so several things have to speak for one: groups hold several
drawings each, most classes have several, no group is half of the data, and the names are neither counters, dates nor hashes.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int64

from inkfold.data.group_words import KINDS, PAGE_WORDS, Role, role_of_column, role_of_numbered, role_of_word
from inkfold.data.name_kinds import NameKind, exact_role, is_filler, kind_of, words_of
from inkfold.data.name_patterns import escaped, excluding, including
from inkfold.data.tables import STRING, Strings

SAMPLE, FEWEST_CLASSES = 20_000, 4  # names that are looked at, of so many classes at least
COVERAGE = 0.95  # of the names have the form
SHARED = 0.5  # of the drawings share their group with another one
LARGEST = 0.5  # of the drawings are in the largest group
CROSSING = 1.5  # classes a person's drawings are of, on average
REPEATED = 1.5  # drawings a person made of each of these classes, on average
RESTARTED = 1.2  # classes an origin's number stands in, where numbers don't start anew in each class
MOST_FIELDS, MOST_FIRST, MOST_LEVELS = 8, 3, 8
FEWEST_NAMES, MANY_NAMES = 8, 20  # words that are people rather than kinds, beside nearly all classes and beside some
NEARLY_ALL = 0.8
ODD_WORDS = 0.1  # of the words may be those that name kinds of pictures

SEPARATORS = re.compile(r"[-_ .()\[\]+,~@]+")
COPY_NUMBER = re.compile(r"[ _]?\([0-9]+\)$")  # that systems add: "cat-12 (3).png"
NUMBERED = re.compile(r"([^\W\d_]*)([0-9]+)")
DAY = re.compile(r"(?<![0-9])(19|20)[0-9]{2}[-_ .]?(0[1-9]|1[0-2])[-_ .]?([0-2][0-9]|3[01])(?![0-9])")
TIME = re.compile(r"(?<![0-9])[0-2][0-9][-_ .:][0-5][0-9][-_ .:][0-5][0-9]$")
STAMP = re.compile(r"(19|20)[0-9]{2}(0[1-9]|1[0-2])([0-2][0-9]|3[01])([0-9]{6})?|1[0-9]{9}([0-9]{3})?|[0-9]{15,}")


@final
@dataclass(frozen=True, eq=False)
class GroupProposal:
    """A way to group drawings, with what speaks for it.

    Attributes:
        pattern: Expression for `folds.group_pattern`; None for a column.
        column: Column for `folds.group_column`; None for an expression.
        role: What its groups are by their names.
        values: Each drawing's group, of the drawings that were looked at; "" where there is none.
    """

    pattern: str | None
    column: str | None
    role: Role
    values: Strings

    @property
    def key(self) -> str:
        """The setting that names these groups, as on the command line."""
        return f"folds.group_column={self.column}" if self.pattern is None else f"folds.group_pattern={self.pattern}"


def propose_groups(
    paths: Strings, targets: Int64[np.ndarray, " drawings"], k: int, columns: Mapping[str, Strings] | None = None
) -> list[GroupProposal]:
    """Propose groups, the one to take first.

    Of two kinds of groups of which one holds the other's whole (a person's pages), the larger one is taken: its folds split
    neither. Otherwise drawings of one origin, which are nearly copies, come before those of one person, which come before
    others.

    Args:
        paths: Paths of the drawings, with forward slashes, as `folds.group_pattern` is applied to them.
        targets: Class id of each drawing, from 0.
        k: Number of folds, at least 2; fewer groups than that are of no use.
        columns: Other columns of the drawings' table, by name.

    Returns:
        The proposals; empty where names suggest none.
    """
    rows = _sample(paths, targets)
    names = _Names(paths[rows], targets[rows], k)
    found = [*_columns(names, {name: cells[rows] for name, cells in (columns or {}).items()})]
    found += [*_levels(names), *_fields(names), *_origins(names)]
    distinct: dict[bytes, GroupProposal] = {}
    for proposal in found:
        distinct.setdefault(_numbered(proposal.values).tobytes(), proposal)
    ranked = sorted(distinct.values(), key=lambda proposal: proposal.role)
    if not ranked:
        return []
    best = ranked[0]
    for proposal in ranked[1:]:
        if _holds(proposal.values, best.values):
            best = proposal
    return [best, *(proposal for proposal in ranked if proposal is not best)]


def _numbered(values: Strings) -> Int64[np.ndarray, " drawings"]:
    """Number groups in the order in which they come, whatever they are called."""
    _, first, codes = np.unique(values, return_index=True, return_inverse=True)
    ranks: np.ndarray = np.argsort(np.argsort(first))[codes]
    return ranks


def _sample(paths: Strings, targets: Int64[np.ndarray, " drawings"]) -> Int64[np.ndarray, " rows"]:
    """Choose the drawings that are looked at: of some classes all, or the first by name, so that no group is torn apart."""
    if len(paths) <= SAMPLE:
        return np.arange(len(paths))
    counts = np.bincount(targets)
    classes = np.flatnonzero(counts)
    number = max(FEWEST_CLASSES, int(SAMPLE / counts[classes].mean()))
    chosen = classes[:: max(1, len(classes) // number)]
    parts = []
    for target in chosen[:number]:
        rows = np.flatnonzero(targets == target)
        parts.append(rows[np.argsort(paths[rows], kind="stable")[: SAMPLE // FEWEST_CLASSES]])
    return np.concatenate(parts)


def _holds(larger: Strings, smaller: Strings) -> bool:
    """Return whether each of the smaller groups is in one of the larger ones."""
    first, second = (np.unique(values, return_inverse=True)[1] for values in (larger, smaller))
    return bool(len(np.unique(np.stack([first, second]), axis=1).T) == second.max() + 1 > first.max() + 1)


@final
class _Names:
    """The names that are looked at, taken apart, and how groups of these drawings are judged."""

    def __init__(self, paths: Strings, targets: np.ndarray, k: int) -> None:
        self.targets, self.k = targets, k
        self.folders = [tuple(path.split("/")[:-1]) for path in paths]
        files = [path.rpartition("/")[2] for path in paths]
        stems = [os.path.splitext(file)[0] for file in files]  # noqa: PTH122 - not a path
        numbered_copies = any(COPY_NUMBER.search(stem) for stem in stems)
        self.stems = [COPY_NUMBER.sub("", stem) for stem in stems]
        self.tokens = [SEPARATORS.split(stem) for stem in self.stems]
        self.separators = [SEPARATORS.findall(stem) for stem in self.stems]
        self.num_classes = len(np.unique(targets))
        marks = sorted({*"".join("".join(own) for own in self.separators)})
        self.field, self.start = excluding(marks), f"(?:^|{including(['/', *marks]) if marks else '/'})"
        self.end = (r"(?:[ _]?\([0-9]+\))?" if numbered_copies else "") + r"\.[^./]+$"
        self.timed = 2 * sum(bool(DAY.search(stem) or TIME.search(stem)) for stem in self.stems) > len(stems)

    def fields(self, form: Sequence[str]) -> str:
        """Write an expression for the last fields of a name, each after its separators."""
        return "".join(f"{escaped(separator)}{self.field}*" for separator in form) + self.end

    def are_kinds(self, place: int) -> bool:
        """Return whether a field, counted from the last, says how a drawing was changed: `cat_12_flip.png`."""
        values = {tokens[-1 - place].casefold() if len(tokens) > place else "" for tokens in self.tokens}
        return all("".join(words_of(value)) in KINDS for value in values)

    def figures(self, values: Sequence[str]) -> "_Figures | None":
        """Measure groups by which a drawing may be split off; None where they are of no use, whatever their names say."""
        column = np.array(values, dtype=STRING)
        known = np.flatnonzero(column != "")
        if len(known) < COVERAGE * len(column) or not len(known):
            return None
        _, codes = np.unique(column[known], return_inverse=True)
        sizes, targets = np.bincount(codes), self.targets[known]
        pairs = np.unique(np.stack([codes, targets]), axis=1)
        per_class = np.bincount(pairs[1])
        per_class = per_class[per_class > 0]
        useful = (
            len(sizes) >= max(self.k, 2)
            and sizes[sizes > 1].sum() >= SHARED * len(known)
            and sizes.max() <= LARGEST * len(known)
            and 2 * (per_class > 1).sum() > len(per_class)
        )
        return _Figures(len(sizes), len(known), len(pairs.T), float(np.mean(per_class > 1))) if useful else None


@final
@dataclass(frozen=True)
class _Figures:
    """Groups among the drawings that have one.

    Attributes:
        groups: Number of groups, at least 2.
        drawings: Number of drawings that are in a group, at least as many as groups.
        pairs: Number of pairs of a group and a class of its drawings.
        several: Share of the classes whose drawings are in more than one group.
    """

    groups: int
    drawings: int
    pairs: int
    several: float

    @property
    def crossing(self) -> float:
        """Classes that a group's drawings are of, on average."""
        return self.pairs / self.groups

    @property
    def repeated(self) -> float:
        """Drawings of one class in a group, on average."""
        return self.drawings / self.pairs


def _columns(names: _Names, columns: Mapping[str, Strings]) -> Iterator[GroupProposal]:
    """Columns that are named as people or origins are; their values may be anything that repeats."""
    for name, cells in columns.items():
        role = role_of_column(name)
        if role is not None and names.figures(cells.tolist()) is not None:
            yield GroupProposal(None, name, role, cells)


def _levels(names: _Names) -> Iterator[GroupProposal]:
    """Levels of folders other than the class's: people's and sessions' above or below it, an origin's below it."""
    depth = min(Counter(map(len, names.folders)).most_common(1)[0][0], MOST_LEVELS)
    for level in range(depth):
        values = [folders[level] if len(folders) > level else "" for folders in names.folders]
        figures, distinct = names.figures(values), {*values} - {""}
        if figures is None or all(map(exact_role, distinct)):
            continue
        role, kind = role_of_numbered(distinct), kind_of(distinct)
        people = kind != NameKind.GROUPS and _is_who(names, values, figures, counter=False)
        above = "[^/]+/" * level
        if figures.crossing >= CROSSING and (role is not None or people):
            yield GroupProposal(f"^{above}([^/]+)/", None, role or Role.OTHER, np.array(values, STRING))
        elif level and (role is not None or kind == NameKind.NUMBERS):
            values = ["/".join(folders[: level + 1]) if len(folders) > level else "" for folders in names.folders]
            if names.figures(values) is not None:
                yield GroupProposal(f"^({above}[^/]+)/", None, role or Role.ORIGIN, np.array(values, STRING))


def _fields(names: _Names) -> Iterator[GroupProposal]:
    """Fields of file names that say who drew, counted from the last: in `CLASS-WHO-TIME.png` the second."""
    last = _last_varying(names)
    for place in range(MOST_FIELDS):
        values = [tokens[-1 - place] if len(tokens) > place else "" for tokens in names.tokens]
        form = _common([tuple(own[len(own) - place :]) for own in names.separators if len(own) >= place])
        counter = place == last or (place > 0 and names.are_kinds(place - 1))
        role = None if form is None else _role_of_people(names, values, -2 - place, counter=counter)
        if form is not None and role is not None:
            pattern = f"{names.start}({names.field}+){names.fields(form)}"
            yield GroupProposal(pattern, None, role, np.array(values, STRING))
    if len({len(tokens) for tokens in names.tokens}) > 1:
        yield from _first_fields(names)


def _first_fields(names: _Names) -> Iterator[GroupProposal]:
    """Fields counted from the first, for names of differing numbers of fields: `user_12_hot_dog_3.png`."""
    for place in range(MOST_FIRST):
        values = [tokens[place] if len(tokens) > place + 1 else "" for tokens in names.tokens]
        form = _common([tuple(own[: place + 1]) for own in names.separators if len(own) > place])
        role = None if form is None else _role_of_people(names, values, place - 1, counter=False)
        if form is not None and role is not None:
            before = "".join(f"{names.field}*{escaped(separator)}" for separator in form[:-1])
            pattern = f"(?:^|/){before}({names.field}+){escaped(form[-1])}[^/]*$"
            yield GroupProposal(pattern, None, role, np.array(values, STRING))


def _role_of_people(names: _Names, values: Sequence[str], before: int, *, counter: bool) -> Role | None:
    """Judge whether a field says who drew: None if it doesn't.

    `before` is the index of the field before it, and `counter` whether it may be the drawing's own number.
    """
    figures = names.figures(values)
    if figures is None or figures.crossing < CROSSING or figures.several < NEARLY_ALL or _dated(values):
        return None  # too few groups, or words of the class's name
    role = role_of_numbered({*values} - {""}) or _role_of_word_before(names, before)
    if role is None and _is_who(names, values, figures, counter=counter):
        return Role.OTHER
    return role if role == Role.PERSON else None


def _is_who(names: _Names, values: Sequence[str], figures: _Figures, *, counter: bool) -> bool:
    """Return whether the values of a field that has no telling word stand for people: none is a counter or a kind."""
    distinct = {*values} - {""}
    if sum("".join(words_of(value)) in KINDS or is_filler(value) for value in distinct) > ODD_WORDS * len(distinct):
        return False
    if 2 * sum(any(map(str.isdigit, value)) for value in distinct) > len(distinct):
        return not counter and not names.timed and figures.repeated >= REPEATED
    if figures.pairs >= NEARLY_ALL * figures.groups * names.num_classes:  # beside nearly all classes
        return figures.groups >= FEWEST_NAMES and names.num_classes > 2
    return figures.groups >= MANY_NAMES and figures.repeated >= REPEATED  # fewer words may be poses or moods


def _origins(names: _Names) -> Iterator[GroupProposal]:
    """Names that are equal but for their last fields: `n0153_8421-2` and `n0153_8421-3` were drawn after photo 8421."""
    last = _last_varying(names)
    if last is None or names.timed:
        return
    for place in (last, last + 1):
        fits = np.array([len(tokens) > place + 1 for tokens in names.tokens])
        if fits.mean() < COVERAGE:
            return
        form = _common([tuple(own[len(own) - place - 1 :]) for own, whole in zip(names.separators, fits, strict=True) if whole])
        if form is None:
            return
        rests = [_rest(stem, place) if whole else "" for stem, whole in zip(names.stems, fits, strict=True)]
        ids, ends = (
            [tokens[-field] if whole else "" for tokens, whole in zip(names.tokens, fits, strict=True)]
            for field in (place + 2, place + 1)
        )
        proposal = _origin(names, rests, ids, ends, form)
        if proposal is not None:
            yield proposal


def _origin(
    names: _Names, rests: Sequence[str], ids: Sequence[str], ends: Sequence[str], form: Sequence[str]
) -> GroupProposal | None:
    """Judge names without their last fields: `ids` is the last one that is left, `ends` the next, `form` the separators."""
    distinct = {*ids} - {""}
    role = role_of_numbered(distinct)
    numbered = sum(any(map(str.isdigit, value)) for value in ids) >= COVERAGE * len(ids)
    if role in (Role.PERSON, Role.SESSION) or not numbered or _dated(ids) or _dated(ends):
        return None
    in_class = {*zip(names.targets.tolist(), ends, strict=True)}
    if 2 * len(in_class) > len(ends) and not _starts_anew(rests, ends):  # counters of a class's drawings, hashes
        return None
    head, values = "(?:^|/)([^/]+)", list(rests)
    figures = names.figures(values)
    pages = bool(distinct) and {*words_of(min(distinct))} <= PAGE_WORDS and role is not None
    if (figures is None or figures.crossing > RESTARTED) and not pages and len({*rests}) == len({*ids}):
        # The numbers start anew in each class.
        head, values = "^(.+)", ["/".join([*own, rest]) if rest else "" for own, rest in zip(names.folders, rests, strict=True)]
        figures = names.figures(values)
    if figures is None:
        return None
    return GroupProposal(head + names.fields(form), None, Role.ORIGIN, np.array(values, STRING))


def _starts_anew(rests: Sequence[str], ends: Sequence[str]) -> bool:
    """Return whether the ends of nearly all names that are equal before them are numbers from 0 or 1."""
    numbers: dict[str, list[int]] = {}
    for rest, end in zip(rests, ends, strict=True):
        if (match := NUMBERED.fullmatch(end)) is not None and len(match[2]) < 6:
            numbers.setdefault(rest, []).append(int(match[2]))
    several = [own for own in numbers.values() if len(own) > 1]
    return bool(several) and sum(min(own) <= 1 for own in several) >= NEARLY_ALL * len(several)


def _last_varying(names: _Names) -> int | None:
    """Return the place, counted from the last field, of the first one that isn't the same in all names."""
    for place in range(MOST_FIELDS):
        values = {tokens[-1 - place] if len(tokens) > place else "" for tokens in names.tokens}
        if len(values) > 1:
            return place
    return None


def _common(forms: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    """Return the separators that nearly all names have; None where they differ."""
    if not forms:
        return None
    [(form, count)] = Counter(forms).most_common(1)
    return form if count >= COVERAGE * len(forms) else None


def _rest(stem: str, place: int) -> str:
    return stem[: [match.start() for match in SEPARATORS.finditer(stem)][-1 - place]]


def _dated(values: Sequence[str]) -> bool:
    distinct = {*values} - {""}
    return 2 * sum(bool(STAMP.fullmatch(value)) for value in distinct) > len(distinct)


def _role_of_word_before(names: _Names, place: int) -> Role | None:
    """Return what a field is by the word at an index before it, which is the same in all names, as in `user_12_cat.png`."""
    depth = place + 1 if place >= 0 else -place
    words = {tokens[place].casefold() if len(tokens) >= depth else "" for tokens in names.tokens}
    return role_of_word(words.pop()) if len(words) == 1 else None
