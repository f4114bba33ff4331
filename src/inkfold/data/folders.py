"""Class folders, with or without parts: the folder directly below a part names the class."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from inkfold.data.labels import Classes, clean_name, encode_labels, encode_with, factorise, find_gaps
from inkfold.data.paths import list_images
from inkfold.data.tables import STRING, Strings, quoted
from inkfold.data.types import DataOptions, Drawings
from inkfold.errors import Problem

VAL_NAMES = ("val", "valid", "validation")
SPLIT_NAMES = frozenset({*VAL_NAMES, "test"})


def read_folders(root: Path, options: DataOptions, problems: list[Problem]) -> tuple[Drawings, Classes, Drawings | None]:
    """Read class folders, in the root or in its parts `train` and `val`, and a `test` part.

    Args:
        root: The absolute directory.
        options: How to read it.
        problems: Takes up what is wrong.

    Returns:
        The labelled drawings, their classes, and the drawings to predict.
    """
    if options.group_column is not None:
        text = "class folders have no group column. Write a table, or leave `folds.group_column` out."
        problems.append(Problem("missing_column", root.name, text))
    train = root / "train" if (root / "train").is_dir() else root
    val = next((root / name for name in VAL_NAMES if (root / name).is_dir()), None)
    skip = SPLIT_NAMES if train == root else frozenset[str]()
    parts = [_class_folders(part, root, skip, problems) for part in (train, val) if part is not None]
    paths, files, names = parts[0] if val is None else (np.concatenate(columns) for columns in zip(*parts, strict=True))
    owners = [root.name if part == root else f"{root.name}/{part.name}" for part in (train, val) if part is not None]
    first_val = len(parts[0][0])
    targets, good, classes, faults = encode_labels(names, None, lambda i: f"{owners[int(i >= first_val)]}/{paths[i]}")
    problems += [*faults, *find_gaps(root.name, classes), *_merged_folders(root.name, names)]
    given_val = None if val is None else np.arange(len(paths)) >= first_val
    if val is not None:
        paths = _told_apart(paths, first_val, val.name)
    test = _test_folder(root, classes, problems) if (root / "test").is_dir() else None
    return Drawings(paths, files, targets, None, given_val).select(good), classes, test


def list_drawings(part: Path, root: Path, problems: list[Problem]) -> Drawings:
    """List the drawings of a part whose folders say nothing.

    Args:
        part: The absolute directory.
        root: What links may not lead out of.
        problems: Takes up what is wrong.

    Returns:
        The drawings, without targets.
    """
    paths, found = list_images(part, root)
    problems += found
    return Drawings(paths, _files_below(part, paths))


def _files_below(folder: Path, paths: Strings) -> Strings:
    files: Strings = np.strings.add(np.array(f"{folder.as_posix()}/", STRING), paths)
    return files


def _class_folders(part: Path, root: Path, skip: frozenset[str], problems: list[Problem]) -> tuple[Strings, Strings, Strings]:
    """Relative paths, files and class folders' names of a part's drawings."""
    paths, found = list_images(part, root, skip)
    problems += found
    inside = np.strings.find(paths, "/") >= 0
    loose = paths[~inside]
    if len(loose):
        text = f"left out {len(loose)} image(s) in no class folder, such as {loose[0]!r}. Move them into one."
        problems.append(Problem("image_without_class", part.name, text, "warning"))
        paths = paths[inside]
    return paths, _files_below(part, paths), _first_folders(paths)


def _told_apart(paths: Strings, first_val: int, part: str) -> Strings:
    """Name the validation part's drawings by the part too where a training drawing has such a name."""
    train, val = paths[:first_val], paths[first_val:]
    if {*train.tolist()}.isdisjoint(val.tolist()):
        return paths
    return np.concatenate([train, np.strings.add(np.array(f"{part}/", STRING), val)])


def _first_folders(paths: Strings) -> Strings:
    """The first folder of each relative path; "" where there is none."""
    names = np.empty(len(paths), STRING)
    for i, path in enumerate(paths):
        names[i] = path.rpartition("/")[0].partition("/")[0]
    return names


def _merged_folders(where: str, names: Strings) -> list[Problem]:
    """Warn of folders whose names differ in Unicode form or outer spaces only."""
    forms: dict[str, list[str]] = {}
    for raw in sorted(factorise(names)[1]):
        forms.setdefault(clean_name(raw), []).append(raw)
    text = "{} folders have this name in different Unicode forms or with outer spaces; they are taken as one class."
    return [
        Problem("merged_folders", f"{where}/{name}", text.format(len(raws)), "warning")
        for name, raws in forms.items()
        if len(raws) > 1
    ]


def _test_folder(root: Path, classes: Classes, problems: list[Problem]) -> Drawings:
    """The test part's drawings, with targets where all lie in folders named as classes."""
    test = list_drawings(root / "test", root, problems)
    names = _first_folders(test.image_paths)
    targets, known, _ = encode_with(classes, names, None, lambda i: test.image_paths[i])
    if known.any() and not known.all():
        strange = sorted(set(names[~known]))
        text = (
            f"{(~known).sum()} image(s) lie in no training class's folder ({quoted(strange, 5)}), so targets are taken "
            "as unknown. Rename the folders if they are meant as classes."
        )
        problems.append(Problem("test_classes", "test", text, "warning"))
    return replace(test, targets=targets) if len(test) and known.all() else test
