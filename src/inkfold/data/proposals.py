"""Proposes another reading of a folder, with the words to copy: a table beside the drawings, labels in file names, a subfolder.

A folder without labelled drawings gets every proposal. One that can be read gets those that its own reading may be wrong by.
"""

from pathlib import Path

import numpy as np

from inkfold.data.folder_levels import ordinal
from inkfold.data.folder_parts import find_parts
from inkfold.data.name_kinds import NameKind, exact_role, first_names, kind_of
from inkfold.data.name_patterns import propose_patterns
from inkfold.data.paths import scan_folder
from inkfold.data.table_proposals import TableProposal, inner_folders, propose_table, tables_near
from inkfold.data.tables import STRING
from inkfold.data.types import DataOptions, Parts
from inkfold.errors import Problem

SHOWN = 3


def propose_reading(root: Path, parts: Parts, options: DataOptions, *, readable: bool) -> list[Problem]:
    """Propose how else a folder may be read.

    Args:
        root: Absolute path of the folder that was to be read.
        parts: What was read from it as class folders.
        options: How it was read; a reading that they name is not questioned.
        readable: Whether it has two classes at least.

    Returns:
        Warnings, each with the words to copy.
    """
    chosen = options.class_level is not None or options.label_pattern is not None or options.layout == "folder"
    if not readable:
        return [*_tables(root), *_subfolders(root), *_names(root)]
    return [] if chosen else [*_other_labels(root, parts), *_labels_below_people(root, parts)]


def _tables(root: Path) -> list[Problem]:
    problems = []
    for table, bases, boundary in tables_near(root):
        proposal = propose_table(table, bases, boundary)
        if proposal is None:
            continue
        if proposal.other_separator:
            text = "its cells seem not to be separated by commas. Save it with commas if it names the drawings' labels."
            problems.append(Problem("proposal", str(table), text, "warning"))
        elif proposal.path is not None and proposal.label is not None:
            text = f"{_about(proposal)}: `{proposal.settings()}`."
            problems.append(Problem("proposal", str(table), text, "warning"))
    return problems


def _about(proposal: TableProposal) -> str:
    return (
        f"{proposal.path!r} may be its column of paths ({proposal.about_paths()}), and {proposal.label!r} that of labels "
        f"({first_names(proposal.labels)})"
    )


def _subfolders(root: Path) -> list[Problem]:
    text = "holds a `train.csv`: `data={}`."
    folders = inner_folders(root)
    return [Problem("proposal", str(f), text.format(f), "warning") for f in folders if (f / "train.csv").is_file()]


def _names(root: Path) -> list[Problem]:
    parts = find_parts(root)
    listings = [scan_folder(folder, root, parts.skip if folder == parts.root else frozenset()).images for folder in parts.train]
    paths = np.concatenate([np.empty(0, STRING), *listings])
    proposals = propose_patterns(paths)
    if not proposals:
        return []
    text = f"the file names share a form, such as {paths[0]!r}. Labels may be in it: {'; or '.join(map(str, proposals))}."
    return [Problem("proposal", str(root), text, "warning")]


def _other_labels(root: Path, parts: Parts) -> list[Problem]:
    """Point out a table in the folder that has other labels than the class folders."""
    names = {name.casefold() for name in parts.classes.names}
    problems = []
    for table, bases, boundary in tables_near(root):
        if table.parent != root:
            break
        proposal = propose_table(table, bases, boundary)
        if proposal is None or proposal.path is None or proposal.label is None:
            continue
        if not any(label.casefold() in names for label in proposal.labels):
            text = f"the folders are read as the classes; but {_about(proposal)}. If so: `{proposal.settings()}`."
            problems.append(Problem("proposal", str(table), text, "warning"))
    return problems[:SHOWN]


def _labels_below_people(root: Path, parts: Parts) -> list[Problem]:
    """Point out class folders that are named as people are, with words in the file names that stand in all of them."""
    names = parts.classes.names
    kind = kind_of(names)
    if kind == NameKind.WORDS or all(map(str.isdigit, names)):
        return []
    wordy = [
        proposal
        for proposal in propose_patterns(parts.train.image_paths, in_folders=True)
        if proposal.kind == NameKind.WORDS and not all(map(exact_role, proposal.classes))
    ]
    if not wordy:
        return []
    text = (
        f"the {ordinal(1)} folder is read as the class, with {len(names)} names ({first_names(names)}); the file names may "
        f"hold the labels: {'; or '.join(map(str, wordy))}. If the folders are the classes: `data.class_level=1`."
    )
    return [Problem("proposal", root.name, text, "warning")]
