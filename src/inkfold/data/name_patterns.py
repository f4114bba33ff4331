"""Proposes `data.label_pattern` for drawings with the labels in their names: `CLASS-WHO-1705918912686.png`, `CLASS_12.png`.

Nothing is decided here: the user sees each expression with its classes, and copies the right one.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from inkfold.data.name_kinds import NameKind, first_names, kind_of
from inkfold.data.tables import Strings

SAMPLE = 20_000  # names that are looked at, spread evenly
COVERAGE = 0.9  # of the names must have a proposal's form
ALL = 0.999  # of the names have fields: then a label that holds separators isn't looked for
SHOWN = 3
SEPARATORS = re.compile(r"[-_ .()\[\]+,~@]+")
NAME_START = r"(?:^|/)"
# Names that split into differing numbers of fields, such as hot_dog_12 and cat_7; the label may hold separators.
LOOSE: Final = (
    r"(?P<label>[^/]*?[^\W\d_])[-_ .]*\(?[0-9]+\)?\.[^./]+$",
    r"(?P<label>[^/]+?)-(?P<group>[^-/]+)-[0-9]+\.[^./]+$",
    r"(?P<label>[^/]+?)_(?P<group>[^_/]+)_[0-9]+\.[^./]+$",
    r"[0-9]+[-_ .]+(?P<label>[^/]*?[^\W\d_])(?:[-_ .]*\(?[0-9]+\)?)?\.[^./]+$",
    r"(?P<label>[^/]+)\.[^./]+$",  # in several folders
)
PREFERRED = (NameKind.GROUPS, NameKind.WORDS, NameKind.NUMBERS)  # as groups


@final
@dataclass(frozen=True)
class PatternProposal:
    """An expression that may find the labels.

    Attributes:
        pattern: For `data.label_pattern`.
        classes: The labels that it finds in the names looked at, in code point order.
        groups: The groups that it finds; empty if it has none.
        coverage: Share of the names that it matches.
        kind: Whether the labels are words, numbers or people.
    """

    pattern: str
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    coverage: float
    kind: NameKind

    def __str__(self) -> str:
        people = f", drawn by {len(self.groups)} ({first_names(self.groups)})" if self.groups else ""
        return f"`data.label_pattern={self.pattern}` for {len(self.classes)} classes ({first_names(self.classes)}){people}"


def propose_patterns(paths: Strings, *, in_folders: bool = False) -> list[PatternProposal]:
    """Propose expressions for the labels in file names, the likeliest first.

    Args:
        paths: Relative paths with forward slashes.
        in_folders: Whether the first folder is proposed as the group.

    Returns:
        At most three proposals; none where the names have no common form.
    """
    step = max(1, len(paths) // SAMPLE)
    sample = paths[::step].tolist()
    names = [path.rpartition("/")[2] for path in sample]
    proposals: list[PatternProposal] = []
    for patterns in (_field_patterns(names), (NAME_START + loose for loose in LOOSE)):
        proposals += filter(None, (_judge(pattern, names) for pattern in patterns))
        if any(proposal.coverage > ALL for proposal in proposals):
            break
    if any(proposal.kind == NameKind.WORDS for proposal in proposals):
        proposals = [proposal for proposal in proposals if proposal.kind == NameKind.WORDS]
    proposals.sort(key=lambda proposal: (-round(proposal.coverage, 3), not proposal.groups))
    distinct = {proposal.classes: proposal for proposal in reversed(proposals)}
    best = [proposal for proposal in proposals if distinct[proposal.classes] is proposal][:SHOWN]
    return [_below_people(proposal, sample) for proposal in best] if in_folders else best


def _below_people(proposal: PatternProposal, sample: Sequence[str]) -> PatternProposal:
    pattern = "^(?P<group>[^/]+)/(?:.*/)?" + proposal.pattern.removeprefix(NAME_START).replace("(?P<group>", "(?:")
    groups = tuple(sorted({path.partition("/")[0] for path in sample}))
    return PatternProposal(pattern, proposal.classes, groups, proposal.coverage, proposal.kind)


def _field_patterns(names: Sequence[str]) -> Iterator[str]:
    """Expressions for names of equally many fields: a label for each field, with the field that is likeliest the group."""
    stems = [os.path.splitext(name)[0] for name in names]  # noqa: PTH122 - not a path
    forms = Counter(tuple(SEPARATORS.findall(stem)) for stem in stems)
    [(form, count)] = forms.most_common(1) or [((), 0)]
    if not form or len(form) > 12 or count < COVERAGE * len(stems):
        return
    rows = [SEPARATORS.split(stem) for stem in stems if tuple(SEPARATORS.findall(stem)) == form]
    columns = np.array(rows, dtype=np.dtypes.StringDType()).T
    for place, column in enumerate(columns):
        counter = place > 0 and _is_counter(columns, place)
        if 2 <= len(set(column.tolist())) <= len(column) / 2 and not counter:
            yield _pattern_of_fields(form, place, _group_field(columns, place))


def _is_counter(columns: np.ndarray, place: int) -> bool:
    return place == max(i for i, column in enumerate(columns) if any(column.tolist())) and all(map(str.isdigit, columns[place]))


def _group_field(columns: np.ndarray, label: int) -> int | None:
    """The field that says who drew: its values stand beside several labels, and are no counter."""
    best: tuple[int, int] | None = None
    for place, column in enumerate(columns):
        values = column.tolist()
        distinct = set(values)
        if place == label or _is_counter(columns, place) or not 2 <= len(distinct) <= len(values) / 2:
            continue
        pairs = set(zip(columns[label].tolist(), values, strict=True))
        kind = kind_of(distinct)
        if len(pairs) < 1.5 * len(distinct) or (kind == NameKind.NUMBERS and len(values) < 1.5 * len(pairs)):
            continue
        best = min(filter(None, (best, (PREFERRED.index(kind), place))))
    return None if best is None else best[1]


def _pattern_of_fields(form: Sequence[str], label: int, group: int | None) -> str:
    field = excluding([*dict.fromkeys("".join(form))])
    last = max(label, -1 if group is None else group)
    pieces = [NAME_START]
    for place in range(last + 1):
        name = "label" if place == label else "group" if place == group else None
        quantity = "*" if place == 0 else "+"
        pieces.append(f"(?P<{name}>{field}+)" if name else f"{field}{quantity}")
        if place < len(form):
            pieces.append(escaped(form[place]))
    return "".join(pieces) + (r"[^/]*$" if last < len(form) else r"\.[^./]+$")


def excluding(marks: Sequence[str]) -> str:
    """Write an expression for a character of a file's name that is none of the marks."""
    return "[^" + including(["/", *marks])[1:]


def including(marks: Sequence[str]) -> str:
    """Write an expression for one of the marks."""
    inner = "".join("\\" + mark if mark in "[]" else mark for mark in marks if mark != "-")
    return f"[{inner}{'-' if '-' in marks else ''}]"


def escaped(separators: str) -> str:
    """Write an expression for exactly these separators."""
    return "".join("\\" + letter if letter in ".()[]+" else letter for letter in separators)


def _judge(pattern: str, names: Sequence[str]) -> PatternProposal | None:
    """Apply an expression to the names; None where what it finds can't be classes."""
    matches = [match for name in names if (match := re.search(pattern, name))]
    labels = Counter(match["label"] for match in matches)
    if len(matches) < COVERAGE * len(names) or not 2 <= len(labels) <= len(matches) / 2:
        return None
    kind = kind_of(labels)
    if kind != NameKind.WORDS and len(labels) > len(matches) / 5:
        return None
    groups = {match["group"] for match in matches} if "(?P<group>" in pattern else set[str]()
    if groups and (len(groups) > len(matches) / 2 or len(groups) < 2):
        return None
    return PatternProposal(pattern, tuple(sorted(labels)), tuple(sorted(groups)), len(matches) / len(names), kind)
