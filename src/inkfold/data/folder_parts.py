"""Finds the parts of class folders (training, validation, test) by what is in the folders, not by their names alone.

Quick, Draw! and TU-Berlin have a class `train`. A folder with a part's name is a part when it holds class folders, and a class
when it holds drawings itself and the folders beside it do too.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from inkfold.data.name_kinds import Role, exact_role, is_filler, role_in_name
from inkfold.data.paths import IMAGE_SUFFIXES, is_junk
from inkfold.data.tables import quoted
from inkfold.errors import Problem

FEW = 4  # folders, where the one with drawings is looked for
PEEK_FOLDERS = 200  # folders are looked into until one holds a drawing, at most so many


@final
@dataclass(frozen=True, slots=True)
class Contents:
    """What lies in a folder.

    Attributes:
        drawings: Whether it holds files with a drawing's suffix itself.
        folders: Names of the folders directly below it.
        deeper: Whether one of its folders, or a folder in one, holds drawings.
    """

    drawings: bool
    folders: frozenset[str]
    deeper: bool

    @property
    def any(self) -> bool:
        """Whether there are drawings, in it or below."""
        return self.drawings or self.deeper


@final
@dataclass(frozen=True)
class PartFolders:
    """The folders of a data set's parts.

    Attributes:
        root: The folder that holds the parts, or the class folders.
        train: The folders with the training drawings; the root itself where there is no such part.
        val: The folders of the validation part.
        test: The folders of the test part.
        skip: Names in the root that are no class folders.
        problems: What was understood, as warnings, or couldn't be, as errors.
    """

    root: Path
    train: tuple[Path, ...]
    val: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()
    skip: frozenset[str] = frozenset()
    problems: list[Problem] = field(default_factory=list)


def find_parts(root: Path) -> PartFolders:
    """Find the parts of a folder of class folders.

    Args:
        root: The folder. Where it holds nothing but one folder with the parts, that one is taken.

    Returns:
        The parts; only the root where there are none.
    """
    names = subfolders(root)
    parts = _parts_of(root, names)
    if parts is not None:
        return parts
    if len(names) <= FEW and not look_into(root).drawings:
        names = [name for name in names if look_into(root / name).any]
        if len(names) == 1 and (inner := _parts_of(root / names[0], subfolders(root / names[0]))):
            text = (
                f"the parts {quoted(_part_names(inner), 5)} are read from the folder {names[0]!r}, the only one with drawings."
            )
            inner.problems.insert(0, Problem("parts_below", root.name, text, "warning"))
            return inner
    return PartFolders(root, (root,))


def subfolders(folder: Path) -> list[str]:
    """Return the names of a folder's folders in code point order, without junk; none where it can't be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not is_junk(entry.name) and entry.is_dir())
    except OSError:
        return []


def look_into(folder: Path) -> Contents:
    """Look what lies in a folder, without opening a file; nothing in a link that leads out of the folder above."""
    drawings, folders = False, set[str]()
    if folder.is_symlink() and not folder.resolve().is_relative_to(folder.parent.resolve()):
        return Contents(drawings, frozenset(), deeper=False)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_junk(entry.name):
                    if entry.is_dir(follow_symlinks=False):
                        folders.add(entry.name)
                    elif not drawings:
                        drawings = os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 - a million files
    except OSError:
        pass
    return Contents(drawings, frozenset(folders), deeper=_holds_drawings([folder / name for name in sorted(folders)]))


def _holds_drawings(folders: Sequence[Path]) -> bool:
    waiting, left = list(reversed(folders)), PEEK_FOLDERS
    while waiting and left:
        left -= 1
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_junk(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122
                        return True
        except OSError:
            continue
    return bool(waiting)  # too many to look into: taken as folders that hold some


def _parts_of(root: Path, names: Sequence[str]) -> PartFolders | None:
    """Return the parts among a root's folders; None where no folder has a part's name."""
    roles = _named_roles(names)
    if not roles:
        return None
    inside = {name: look_into(root / name) for name in names}
    others = [name for name in names if name not in roles and inside[name].any]
    classes = [name for name in roles if _is_class(name, roles, inside, others)]
    problems = [_read_as_class(root, name, others) for name in classes]
    kept = {name: role for name, role in roles.items() if name not in classes}
    parts = {role: tuple(root / name for name in kept if kept[name] == role) for role in ("train", "val", "test")}
    if not kept:
        return PartFolders(root, (root,), problems=problems)
    for role, folders in parts.items():
        if len(folders) > 1:
            text = f"the folders {quoted([folder.name for folder in folders])} are read together as the {LONG[role]} part."
            problems.append(Problem("joined_parts", root.name, text, "warning"))
    if parts["train"]:
        problems += _beside(root, parts["train"], [*others, *classes], inside)
    elif not others and not classes and not look_into(root).drawings:
        problems.append(_without_training(root, [*kept], read=bool(parts["val"])))
        parts |= {"train": parts["val"], "val": ()}
    return PartFolders(root, parts["train"] or (root,), parts["val"], parts["test"], frozenset(kept), problems)


LONG = {"train": "training", "val": "validation", "test": "test"}


def _named_roles(names: Sequence[str]) -> dict[str, Role]:
    """The roles of the folders that have a part's name, or as a word in it where two parts are named alike."""
    exact = {name: role for name in names if (role := exact_role(name))}
    spoken = {name: found for name in names if name not in exact and (found := role_in_name(name))}
    by_rest: dict[tuple[str, ...], set[Role]] = {}
    for role, rest in [*spoken.values(), *((role, ()) for role in exact.values())]:
        by_rest.setdefault(rest, set()).add(role)
    alike = {name: role for name, (role, rest) in spoken.items() if "train" in by_rest[rest] and len(by_rest[rest]) > 1}
    return {name: role for name in names if (role := exact.get(name) or alike.get(name))}


def _is_class(name: str, roles: Mapping[str, Role], inside: Mapping[str, Contents], others: Sequence[str]) -> bool:
    """Return whether a folder with a part's name is a class, by what it holds and what the folders beside it hold."""
    here = inside[name]
    if not here.any:
        return roles[name] == "train" and any(inside[other].drawings and not is_filler(other) for other in others)
    if here.drawings and not here.deeper:
        has_training = any(role == "train" and inside[other].deeper for other, role in roles.items())
        return not has_training and any(inside[other].drawings and not is_filler(other) for other in others)
    # Folders below all of them, such as one for each person: alike in a class `train`, and in the classes beside it.
    alike = [other for other in others if 2 * len(inside[other].folders & here.folders) >= len(here.folders)]
    return len(roles) == 1 and not here.drawings and bool(alike) and not here.folders & {*others}


def _read_as_class(root: Path, name: str, others: Sequence[str]) -> Problem:
    text = (
        f"is read as a class, not as a part: it holds drawings as the folders beside it do ({quoted(others, 3)}). If it is a "
        "part, move the class folders into a folder `train` beside it."
    )
    return Problem("part_as_class", f"{root.name}/{name}", text, "warning")


def _beside(root: Path, train: Sequence[Path], others: Sequence[str], inside: Mapping[str, Contents]) -> list[Problem]:
    """Say which folders with drawings lie beside the parts, and ask where they are more than the training part's."""
    if not others:
        return []
    flat = [name for name in others if inside[name].drawings]
    inner = sum(len(inside[folder.name].folders) for folder in train)
    name = train[0].name
    if len(flat) > inner:
        text = (
            f"is it the training part, or a class? It holds {inner} folder(s), and {len(flat)} folders beside it hold drawings "
            f"({quoted(flat, 3)}). If it is the part, give it alone: `data={train[0]}`. If it is a class, rename it."
        )
        return [Problem("part_or_class", f"{root.name}/{name}", text)]
    text = (
        f"left out {len(others)} folder(s) with drawings beside the parts: {quoted(others, 5)}. Move them into {name!r} if "
        "they are classes."
    )
    return [Problem("folders_beside_parts", root.name, text, "warning")]


def _without_training(root: Path, names: Sequence[str], *, read: bool) -> Problem:
    text = f"there is no training part beside {quoted(names)}. "
    if read:
        return Problem("no_training_part", root.name, text + "The validation part is trained on.", "warning")
    text += f"If its folders are the classes, give it alone: `data={root / names[0]}`."
    return Problem("no_training_part", root.name, text)


def _part_names(parts: PartFolders) -> list[str]:
    return [folder.name for folder in (*parts.train, *parts.val, *parts.test)]
