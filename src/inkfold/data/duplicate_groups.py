"""Groups of copies as findings that a user can act on: which drawings, how they differ, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped

from inkfold.data.dataset import Dataset, Drawings
from inkfold.data.duplicates import Match, find_copies, group_matches
from inkfold.data.lines import CopyStores
from inkfold.errors import Problem
from inkfold.runtime.progress import Progress, silent

Kind = Literal["leak", "across", "within"]
KINDS: dict[Kind, str] = {  # worst first
    "leak": "in several of train, val and test",
    "across": "with different labels",
    "within": "with one label",
}
STILL_DEG = 1.0
OTHER_STROKES = 1.15  # from this ratio of widths, strokes are called thicker
SAME = "the same picture"
SHOWN = 5  # copies, and differences between them, that a message names


@dataclass(frozen=True, slots=True)
class DuplicateImage:
    """A drawing that has copies.

    Attributes:
        part: `train`, `val` if the data has a validation part, or `test`.
        image_path: The drawing's path as the data gives it.
        class_name: Name of its class; None if unknown.
        file: Absolute path of the image file.
    """

    part: str
    image_path: str
    class_name: str | None
    file: str


@dataclass(frozen=True, slots=True)
class CopyGroup:
    """Copies of one drawing.

    Attributes:
        members: Two copies at least; training drawings first.
        matches: Transformations between the members; `first` and `second` count the members from 0.
    """

    members: tuple[DuplicateImage, ...]
    matches: tuple[Match, ...]

    @property
    def kind(self) -> Kind:
        """`leak`: in several of train, val and test; `across`: in several classes; otherwise `within` one class."""
        parts = {member.part for member in self.members}
        if len(parts) > 1:
            return "leak"
        return "across" if self.conflicts else "within"

    @property
    def conflicts(self) -> bool:
        """Whether members have different labels."""
        return len({member.class_name for member in self.members} - {None}) > 1

    @property
    def similarity(self) -> float:
        """Similarity of the least similar match, 0 to 1."""
        return min(match.similarity for match in self.matches)

    def as_json(self) -> dict[str, Any]:
        """Return the group as JSON values."""
        return {
            "kind": self.kind,
            "conflict": self.conflicts,
            "members": [
                {"part": member.part, "image_path": member.image_path, "class_name": member.class_name}
                for member in self.members
            ],
            "pairs": [
                {
                    "first": match.first,
                    "second": match.second,
                    "turn_deg": match.turn_deg,
                    "flip": match.flip,
                    "transform": in_words(match),
                    "identical_bytes": match.identical,
                    "similarity": match.similarity,
                }
                for match in self.matches
            ],
        }


def find_groups(
    dataset: Dataset,
    digests: Sequence[Shaped[np.ndarray, " n"]],
    stores: CopyStores,
    progress: Progress = silent,
) -> list[CopyGroup]:
    """Find copies among all drawings of a data set.

    Args:
        dataset: The data set whose training and test drawings are compared with each other.
        digests: Digests of the training files' bytes and, if there is a test part, of the test files'; empty for unreadable
            files. The stores have all others.
        stores: Stores that have the signature and the lines of each drawing with a digest.
        progress: Called with the number of compared candidates.

    Returns:
        Groups, the worst kind first, then the most similar.
    """
    members = list_drawings(dataset)
    names = np.concatenate(list(digests))
    rows = np.flatnonzero(names != b"")
    matches = [
        replace(match, first=int(rows[match.first]), second=int(rows[match.second]))
        for match in find_copies(names[rows], stores, progress).matches
    ]
    of_root: dict[int, list[Match]] = {}
    roots = group_matches(len(names), matches)
    for match in matches:
        of_root.setdefault(int(roots[match.first]), []).append(match)
    groups = []
    for root, own in of_root.items():
        places = np.flatnonzero(roots == root).tolist() if len(own) > 1 else sorted({own[0].first, own[0].second})
        number_of = {place: number for number, place in enumerate(places)}
        moved = tuple(replace(match, first=number_of[match.first], second=number_of[match.second]) for match in own)
        groups.append(CopyGroup(tuple(members[place] for place in places), moved))
    worst = [*KINDS]
    return sorted(groups, key=lambda group: (worst.index(group.kind), -group.similarity, group.members[0].image_path))


def count_groups(groups: Sequence[CopyGroup]) -> dict[str, int]:
    """Count groups by kind, and the drawings in them."""
    counts = {kind: sum(group.kind == kind for group in groups) for kind in ("within", "across", "leak")}
    return {
        **counts,
        "conflicts": sum(group.conflicts for group in groups),
        "drawings": sum(len(group.members) for group in groups),
    }


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Write the counts of `count_groups` as people read them."""
    return f"groups {', '.join(f'{counts[kind]} {words}' for kind, words in KINDS.items())}; {counts['drawings']} drawings"


def group_problems(groups: Sequence[CopyGroup]) -> list[Problem]:
    """Describe each group's problems as warnings.

    Args:
        groups: Groups of copies, as `find_groups` returns them; the warnings have their order.

    Returns:
        Problems of the kinds `leak`, `conflicting_labels` and `duplicate`.
    """
    problems = []
    for group in groups:
        first, *others = group.members
        where = f"{first.part} {first.image_path}"
        same = ", ".join(f"{other.part} {other.image_path}" for other in others[:SHOWN])
        same += f" and {len(others) - SHOWN:,} more" if len(others) > SHOWN else ""
        names = sorted({member.class_name for member in group.members if member.class_name})
        labels = " and ".join(map(repr, names))
        difference = _differences(group)
        if group.conflicts:
            text = (
                f"is one drawing with {same} ({difference}), labelled {labels}: at most one label is right. "
                "Correct or remove the others."
            )
            problems.append(Problem("conflicting_labels", where, text, "warning"))
        if group.kind == "leak":
            text = (
                f"is one drawing with {same} ({difference}): trained on and evaluated on, it makes the accuracy optimistic. "
                "Remove it from one part."
            )
            problems.append(Problem("leak", where, text, "warning"))
        elif not group.conflicts:
            text = (
                f"is one drawing with {same} ({difference}). Training keeps them in one fold, or leaves copies of held-out "
                "drawings out; remove copies that aren't meant."
            )
            problems.append(Problem("duplicate", where, text, "warning"))
    return problems


def _differences(group: CopyGroup) -> str:
    """Describe how a group's drawings differ: all that was found, where it isn't the same for every pair."""
    kinds = list(dict.fromkeys(map(in_words, group.matches)))
    more = f" and {len(kinds) - SHOWN:,} more" if len(kinds) > SHOWN else ""
    return kinds[0] if len(kinds) == 1 else f"by pairs: {'; '.join(kinds[:SHOWN])}{more}"


def in_words(match: Match) -> str:
    """Describe the transformation of a match's second drawing into its first."""
    if match.identical:
        return "the same file"
    moved = _moved_in_words(match)
    if match.width_ratio is None:
        return moved
    joined = moved if moved == SAME else f"{moved},"
    if match.width_ratio >= OTHER_STROKES:
        return f"{joined} with thicker strokes"
    return f"{joined} {'with thinner' if match.width_ratio <= 1 / OTHER_STROKES else 'in other'} strokes"


def _moved_in_words(match: Match) -> str:
    turn = round(match.turn_deg)
    if abs(turn) <= STILL_DEG:
        return "mirrored" if match.flip else SAME
    if match.flip and 180 - abs(turn) <= STILL_DEG:
        return "upside down"
    return f"{'mirrored and ' if match.flip else ''}turned by {turn} degrees"


def list_drawings(dataset: Dataset) -> list[DuplicateImage]:
    """List all drawings of a data set, the training drawings first, in the order of their tables."""
    val = dataset.train.given_val
    parts = ["train"] * len(dataset.train) if val is None else ["val" if is_val else "train" for is_val in val]
    tests: Sequence[Drawings] = () if dataset.test is None else (dataset.test,)
    tables = [(dataset.train, parts), *((test, ["test"] * len(test)) for test in tests)]
    members = []
    for drawings, of_part in tables:
        targets = [None] * len(drawings) if drawings.targets is None else drawings.targets.tolist()
        paths, files = drawings.image_paths.tolist(), drawings.files.tolist()
        for part, path, file, target in zip(of_part, paths, files, targets, strict=True):
            members.append(DuplicateImage(part, path, None if target is None else dataset.class_names[target], file))
    return members
