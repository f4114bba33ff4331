"""Reads drawings in folders: class folders, in the root or in its parts, and files that have the labels in their names.

Folders for people or days may lie above the class folders, or below them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Bool, Int64

from inkfold.data.folder_levels import FolderTree, LevelChoice, choose_level, ordinal
from inkfold.data.folder_parts import PartFolders, find_parts
from inkfold.data.label_patterns import missing_groups, read_fields, unmatched_paths
from inkfold.data.labels import Classes, clean_name, encode_labels, encode_with, factorise, find_gaps
from inkfold.data.name_kinds import exact_role
from inkfold.data.paths import Listing, list_images, scan_folder
from inkfold.data.tables import STRING, Strings, quoted
from inkfold.data.types import DataOptions, Drawings, Parts, SampleSubmission
from inkfold.errors import DataError, Problem

SUBMISSION_ID = "ID"


@final
@dataclass(frozen=True, eq=False)
class _Rows:
    """The drawings of several folders, one folder after the other.

    Attributes:
        owners: The folders that hold the drawings, for messages.
        paths: Each drawing's path relative to its folder.
        owner: Each drawing's folder, as an index.
        listings: What lies in each folder.
    """

    owners: tuple[Path, ...]
    paths: Strings
    owner: Int64[np.ndarray, " drawings"]
    listings: tuple[Listing, ...]

    @classmethod
    def below(cls, owners: Sequence[Path], root: Path, skip: frozenset[str] = frozenset()) -> "_Rows":
        """List the drawings below folders; links may not lead out of the root."""
        listings = [scan_folder(owner, root, skip) for owner in owners]
        sizes = [len(listing.images) for listing in listings]
        paths = np.concatenate([np.empty(0, STRING), *(listing.images for listing in listings)])
        return cls(tuple(owners), paths, np.repeat(np.arange(len(owners)), sizes), tuple(listings))

    @property
    def problems(self) -> list[Problem]:
        return [problem for listing in self.listings for problem in listing.problems]

    def files(self) -> Strings:
        """Absolute paths."""
        return self._prefixed([owner.as_posix() for owner in self.owners])

    def paths_below(self, root: Path) -> Strings:
        """Paths relative to the root."""
        return self._prefixed(["" if owner == root else owner.relative_to(root).as_posix() for owner in self.owners])

    def unique_paths(self) -> Strings:
        """Paths relative to the folders, with the names of the folders after the first where paths would be equal."""
        seen = {*self.paths[self.owner == 0].tolist()}
        prefixes = [""]
        for number, owner in enumerate(self.owners[1:], start=1):
            own = self.paths[self.owner == number].tolist()
            prefixes.append("" if seen.isdisjoint(own) else owner.name)
            seen.update(own)
        return self._prefixed(prefixes) if any(prefixes) else self.paths

    def select(self, index: np.ndarray) -> "_Rows":
        return replace(self, paths=self.paths[index], owner=self.owner[index])

    def _prefixed(self, prefixes: Sequence[str]) -> Strings:
        parts = [np.empty(0, STRING)]
        for number, prefix in enumerate(prefixes):
            own = self.paths[self.owner == number]
            parts.append(np.strings.add(np.array(f"{prefix}/", STRING), own) if prefix else own)
        return np.concatenate(parts)


@final
@dataclass(frozen=True, eq=False)
class _Labels:
    """What the drawings' paths say about them.

    Attributes:
        known: True where there is a label.
        names: The label; "" where there is none.
        groups: Who drew each; None where the user's expression doesn't say.
        choice: Which folder names the class; None where file names do.
    """

    known: Bool[np.ndarray, " drawings"]
    names: Strings
    groups: Strings | None = None
    choice: LevelChoice | None = None


def read_folders(root: Path, options: DataOptions, problems: list[Problem]) -> Parts:
    """Read class folders, in the root or in its parts (train, val, test), or files with the labels in their names.

    Args:
        root: The folder of the data set.
        options: The user's options, which may name the level of the classes.
        problems: Problems of the data are appended.
    """
    parts = find_parts(root)
    rows = _Rows.below((*parts.train, *parts.val), root, parts.skip if parts.root in parts.train else frozenset())
    problems += [*parts.problems, *rows.problems]
    labels = _read_labels(rows, len(parts.train), root, options, problems)
    in_test, in_val = _parts_below_classes(rows, labels, parts, root, problems)
    tests = _Rows.below(parts.test, root) if parts.test else None
    given_val = rows.owner >= len(parts.train) if parts.val else in_val
    bare = _bare_classes(rows, len(parts.train), labels, root, problems)
    train, classes = _encode(rows, labels, given_val, bare, root, problems)
    kept = labels.known if in_test is None else labels.known & ~in_test
    test, sample = None, None
    if tests is not None:
        problems += tests.problems
        test, sample = _read_test(tests, classes, labels, root, options, problems)
    elif in_test is not None:
        test = replace(train, given_val=None, groups=None).select(in_test & labels.known)
    return Parts(train.select(kept), classes, test, sample)


def list_drawings(part: Path, root: Path) -> tuple[Drawings, list[Problem]]:
    """List the drawings of a part whose folders aren't classes, without targets; links may not lead out of the root."""
    paths, problems = list_images(part, root)
    return Drawings(paths, np.strings.add(np.array(f"{part.as_posix()}/", STRING), paths)), problems


def _read_labels(rows: _Rows, train_parts: int, root: Path, options: DataOptions, problems: list[Problem]) -> _Labels:
    """Read the labels of the training and validation drawings."""
    if options.label_pattern is not None:
        return _labels_of_names(rows, options.label_pattern, root, problems)
    tree = FolderTree.of_paths(rows.paths)
    train = tree if rows.owner.max(initial=0) < train_parts else FolderTree.of_paths(rows.paths[rows.owner < train_parts])
    choice = choose_level(train, root.name, options.class_level)
    problems += [] if choice.problem is None else [choice.problem]
    known, names = _names_at(tree, choice.level)
    for number, owner in enumerate(rows.owners):
        problems += _without_class(rows.paths[(rows.owner == number) & ~known], owner.name, choice.level)
    if options.class_level is not None and len(known) and not known.any():
        text = f"got {options.class_level}, expected -{choice.depth} to {choice.depth}: no drawing lies so deep."
        problems.append(Problem("class_level", "data.class_level", text))
    return _Labels(known, names, None, choice)


def _labels_of_names(rows: _Rows, pattern: str, root: Path, problems: list[Problem]) -> _Labels:
    paths = rows.paths_below(root)
    try:
        fields = read_fields(pattern, paths)
    except DataError as error:
        problems += error.problems
        return _Labels(np.zeros(len(paths), bool), np.full(len(paths), "", STRING))
    problems += [*unmatched_paths(pattern, fields, paths, root.name), *missing_groups(fields, paths, root.name)]
    known = fields.matched if fields.groups is None else fields.matched & (fields.groups != "")
    return _Labels(known, fields.labels, fields.groups)


def _names_at(tree: FolderTree, level: int) -> tuple[Bool[np.ndarray, " drawings"], Strings]:
    names, codes = tree.names(level)
    column = np.array([*names, ""], dtype=STRING)[codes]
    return codes >= 0, column


def _without_class(paths: Strings, part: str, level: int) -> list[Problem]:
    if not len(paths):
        return []
    place = f"above the {ordinal(level)} folder, the class" if level > 1 else "in no class folder"
    text = f"left out {len(paths)} image(s) {place}, such as {paths[0]!r}. Move them into one."
    return [Problem("image_without_class", part, text, "warning")]


def _parts_below_classes(
    rows: _Rows, labels: _Labels, parts: PartFolders, root: Path, problems: list[Problem]
) -> tuple[Bool[np.ndarray, " drawings"] | None, Bool[np.ndarray, " drawings"] | None]:
    """Mark the test and the validation drawings of `cat/train/1.png`, `cat/test/2.png`; None where there are no such parts."""
    below = None if labels.choice is None else labels.choice.parts
    if below is None or parts.val or parts.test:
        return None, None
    names, codes = FolderTree.of_paths(rows.paths).names(below.number)
    roles = np.array([exact_role(name) or "train" for name in names] + ["train"])[codes]
    tests, vals = roles == "test", roles == "val"
    if (tests | vals).all():
        return None, None
    text = (
        f"the {below.ordinal} folder is read as the part: {quoted(below.names, 5)}; {int(tests.sum())} drawings are for the "
        f"test and {int(vals.sum())} for validation."
    )
    problems.append(Problem("parts_below", root.name, text, "warning"))
    return tests if tests.any() else None, vals if vals.any() else None


def _encode(
    rows: _Rows,
    labels: _Labels,
    given_val: Bool[np.ndarray, " drawings"] | None,
    bare: Sequence[str],
    root: Path,
    problems: list[Problem],
) -> tuple[Drawings, Classes]:
    """Turn the labels into targets; `bare` are classes without a drawing, which keep their number."""
    owners = [root.name if owner == root else f"{root.name}/{owner.name}" for owner in rows.owners]
    place = np.flatnonzero(labels.known)
    names = np.concatenate([labels.names[place], np.array(bare, dtype=STRING)])
    paths = rows.paths
    targets, good, classes, faults = encode_labels(names, None, lambda i: f"{owners[rows.owner[place[i]]]}/{paths[place[i]]}")
    problems += [*faults, *find_gaps(root.name, classes), *_merged_folders(root.name, names)]
    all_targets = np.zeros(len(paths), np.int64)
    all_targets[place] = targets[: len(place)]
    labels.known[place] = good[: len(place)]
    drawings = Drawings(rows.unique_paths(), rows.files(), all_targets, labels.groups, given_val)
    return drawings, classes


def _merged_folders(where: str, names: Strings) -> list[Problem]:
    """Warn of folders whose names differ only in Unicode form or outer spaces."""
    forms: dict[str, list[str]] = {}
    for raw in sorted(factorise(names)[1]):
        forms.setdefault(clean_name(raw), []).append(raw)
    text = (
        "{} folders have this name in different Unicode forms or with outer spaces; they are taken as one class. Rename them "
        "if they are two."
    )
    return [
        Problem("merged_folders", f"{where}/{name}", text.format(len(raws)), "warning")
        for name, raws in forms.items()
        if len(raws) > 1
    ]


def _bare_classes(rows: _Rows, train_parts: int, labels: _Labels, root: Path, problems: list[Problem]) -> list[str]:
    """Return the names of class folders without a drawing, and warn of each."""
    if labels.choice is None:
        return []
    known = {clean_name(name) for name in factorise(labels.names)[1]}
    level = labels.choice.level
    bare: dict[str, Problem] = {}
    for owner, listing in zip(rows.owners[:train_parts], rows.listings, strict=False):
        for folder in listing.bare:
            names = folder.path.split("/")
            if len(names) < abs(level) or (folder.files and not folder.example):
                continue
            name = names[level - 1 if level > 0 else level]
            if clean_name(name) and clean_name(name) not in known and name not in bare:
                where = f"{root.name if owner == root else f'{root.name}/{owner.name}'}/{folder.path}"
                bare[name] = _bare_class(where, folder.files, folder.example)
    problems += bare.values()
    return list(bare)


def _bare_class(where: str, files: int, example: str) -> Problem:
    if files:
        text = f"none of its {files} file(s) is an image by its suffix, such as {example!r}. Save the drawings as PNG."
    else:
        text = "the folder is empty. Add its drawings."
    more = " Until then the class keeps its number and has no drawing; remove the folder if it is no class."
    return Problem("class_folder_without_drawings", where, text + more, "warning")


def _read_test(
    tests: _Rows, classes: Classes, labels: _Labels, root: Path, options: DataOptions, problems: list[Problem]
) -> tuple[Drawings, SampleSubmission | None]:
    """Read the test part's drawings, with targets if all have the label of a training class."""
    test = Drawings(tests.unique_paths(), tests.files())
    if options.label_pattern is not None:
        return _test_of_names(test, tests.paths_below(root), classes, options, problems)
    tree = FolderTree.of_paths(tests.paths)
    level = 1 if labels.choice is None else labels.choice.level
    depth = max(map(len, tree.folders), default=0)
    names, targets, known = _names_at(tree, level)[1], np.empty(0, np.int64), np.zeros(len(test), bool)
    for number in dict.fromkeys([level, *range(1, min(depth, abs(level) + 1) + 1)]):
        tried = _names_at(tree, number)[1]
        indices, fits, _ = encode_with(classes, tried, None, lambda i: test.image_paths[i])
        if fits.sum() > known.sum() or number == level:
            names, targets, known = tried, indices, fits
    if known.any() and not known.all():
        strange = sorted(set(names[~known]))
        text = (
            f"{(~known).sum()} image(s) lie in no training class's folder ({quoted(strange, 5)}), so targets are taken "
            "as unknown. Rename the folders if they are meant as classes."
        )
        problems.append(Problem("test_classes", "test", text, "warning"))
    return (replace(test, targets=targets) if len(test) and known.all() else test), None


def _test_of_names(
    test: Drawings, paths: Strings, classes: Classes, options: DataOptions, problems: list[Problem]
) -> tuple[Drawings, SampleSubmission | None]:
    assert options.label_pattern is not None
    try:
        fields = read_fields(options.label_pattern, paths)
    except DataError as error:
        problems += error.problems
        return test, None
    targets, known, _ = encode_with(classes, fields.labels, None, lambda i: paths[i])
    if known.any() and not known.all():
        text = (
            f"`data.label_pattern` finds no training class in {(~known).sum()} path(s), such as {paths[~known][0]!r}, so "
            "targets are taken as unknown."
        )
        problems.append(Problem("test_classes", "test", text, "warning"))
    if len(test) and known.all():
        test = replace(test, targets=targets)
    if fields.ids is None or not len(test) or not (fields.ids != "").all():
        return test, None
    return test, SampleSubmission((SUBMISSION_ID, options.path_column, options.target_column), fields.ids)
