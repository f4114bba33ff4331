"""Decides which drawings stay in one fold: by the user's column or expression, or by what names clearly suggest."""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from inkfold.config.sections import AUTO_GROUPS, NO_GROUPS
from inkfold.data.group_proposals import GroupProposal, propose_groups
from inkfold.data.group_words import Role
from inkfold.data.label_patterns import GROUP_KEY, read_groups
from inkfold.data.paths import FileFinder
from inkfold.data.table_proposals import propose_table, tables_near
from inkfold.data.tables import STRING, Strings, quoted, read_header, read_table
from inkfold.data.types import DataOptions, Drawings, Grouping, Parts
from inkfold.errors import DataError, Problem

log = logging.getLogger("inkfold.data")

SHOWN = 3
WHAT = {
    Role.ORIGIN: "drawings after one photo, page or other origin are nearly copies",
    Role.PERSON: "drawings of one person are alike",
    Role.SESSION: "drawings of one session are alike",
    Role.OTHER: "drawings that share a name seem to be of one person or origin",
}


def settle_groups(
    root: Path, parts: Parts, layout: str, options: DataOptions, problems: list[Problem]
) -> tuple[Parts, Grouping | None]:
    """Find the groups of the training drawings.

    Args:
        root: Absolute path of the data's folder.
        parts: The data's parts; its training drawings have the groups that a column or `data.label_pattern` names.
        layout: How the drawings are stored: `competition`, `folder` or `table`.
        options: The user's `folds.group_column` and `folds.group_pattern`, and the number of folds.
        problems: Problems are appended: what was proposed, as a warning, and what the user's keys don't find.

    Returns:
        The parts with their groups, and where they come from; None where there are none.
    """
    train, pattern = parts.train, options.group_pattern
    fixed = pattern not in (AUTO_GROUPS, NO_GROUPS)
    if not len(train) or train.targets is None:
        return parts, None
    paths = _paths(train, root, layout)
    named, key = train.groups, f"folds.group_column={options.group_column}"
    if options.label_pattern is not None and named is not None:
        if fixed or options.group_column is not None:
            text = "names groups, and so does (?P<group>...) in `data.label_pattern`. Leave one of them out."
            problems.append(Problem("group_pattern", GROUP_KEY if fixed else "folds.group_column", text))
        return parts, Grouping("data.label_pattern")
    if layout == "folder" and options.group_column is not None:
        named = _groups_beside(root, train, options, paths, problems)
    if options.group_column is not None and named is None:
        return parts, None
    if fixed:
        named = _by_pattern(pattern, paths, named, problems)
        key = " ".join([key] * (options.group_column is not None) + [f"{GROUP_KEY}={pattern}"])
    if named is not None:
        return replace(parts, train=replace(train, groups=named)), Grouping(key)
    return (parts, None) if pattern == NO_GROUPS else _propose(parts, paths, options.num_folds, problems)


def _paths(train: Drawings, root: Path, layout: str) -> Strings:
    """Return the paths that expressions are applied to: below the root for folders, as they are written for tables."""
    if layout != "folder":
        return train.image_paths
    return np.array([file.removeprefix(f"{root.as_posix()}/") for file in train.files.tolist()], dtype=STRING)


def _by_pattern(pattern: str, paths: Strings, cells: Strings | None, problems: list[Problem]) -> Strings | None:
    """Apply the user's expression to paths, or to the cells of a column; what it doesn't match is its own group."""
    texts = paths if cells is None else cells
    try:
        groups = read_groups(pattern, texts)
    except DataError as error:
        problems += error.problems
        return None
    missing = np.flatnonzero(groups == "")
    if len(missing):
        most = 2 * len(missing) > len(texts)
        what = "paths" if cells is None else "cells"
        examples = quoted(list(dict.fromkeys(texts[missing].tolist()))[:SHOWN])
        text = f"`{GROUP_KEY}={pattern}` finds no group in {len(missing)} of {len(texts)} {what}, such as {examples}. "
        text += "Correct the expression." if most else "Each of them is a group of its own."
        problems.append(Problem("group_pattern", what, text, "error" if most else "warning"))
    filled = groups.copy()
    filled[missing] = np.strings.add(np.array("without a match: ", STRING), texts[missing])
    return filled


def _groups_beside(
    root: Path, train: Drawings, options: DataOptions, paths: Strings, problems: list[Problem]
) -> Strings | None:
    """Read the groups of class folders from a table beside them that has the column and names their files."""
    column = options.group_column
    assert column is not None
    for table, bases, boundary in tables_near(root):
        try:
            if column not in read_header(table):
                continue
            proposal = propose_table(table, bases, boundary)
            if proposal is None or proposal.path is None or proposal.base is None or proposal.path == column:
                continue
            rows = read_table(table, {proposal.path: "", column: ""}).columns
        except (DataError, OSError, csv.Error):
            continue
        finder, base = FileFinder(boundary), str(proposal.base)
        files = [finder.find(base, path + proposal.suffix)[0] for path in rows[proposal.path].tolist()]
        group_of = {file: cell for file, cell in zip(files, rows[column].tolist(), strict=True) if file and cell.strip()}
        found = [group_of.get(file, "") for file in train.files.tolist()]
        return _filled(np.array(found, STRING), paths, f"{column!r} of {table.name}", problems)
    problems.append(Problem("missing_column", root.name, _no_column(column, paths, train, options.num_folds)))
    return None


def _filled(groups: Strings, paths: Strings, source: str, problems: list[Problem]) -> Strings:
    missing = np.flatnonzero(groups == "")
    if len(missing):
        most = 2 * len(missing) > len(groups)
        examples = quoted(paths[missing[:SHOWN]].tolist())
        text = f"{source} names no group of {len(missing)} of {len(groups)} drawings, such as {examples}. "
        text += "Add them to the table." if most else "Each of them is a group of its own."
        problems.append(Problem("missing_groups", "folds.group_column", text, "error" if most else "warning"))
    groups[missing] = np.strings.add(np.array("without a group: ", STRING), paths[missing])
    return groups


def _no_column(column: str, paths: Strings, train: Drawings, k: int) -> str:
    """Say what a column can mean for class folders, with the key that would do."""
    assert train.targets is not None
    text = f"class folders have no columns, and no table in or beside them has a column {column!r} and one with their paths. "
    proposals = propose_groups(paths, train.targets, k)
    if proposals:
        return text + f"By the names, this would do instead: `{proposals[0].key}`."
    return (
        text
        + f"Write such a table, or find the group in the paths: `{GROUP_KEY}=REGEX`, such as `{GROUP_KEY}=^[^/]+/([^_/]+)_`."
    )


def _propose(parts: Parts, paths: Strings, k: int, problems: list[Problem]) -> tuple[Parts, Grouping | None]:
    """Take the groups that names clearly suggest, and say so."""
    train = parts.train
    assert train.targets is not None
    proposals = propose_groups(paths, train.targets, k, parts.columns)
    if not proposals:
        problems += _too_few(propose_groups(paths, train.targets, 2, parts.columns), k)
        return parts, None
    proposal, *others = proposals
    values = parts.columns[proposal.column] if proposal.column is not None else read_groups(proposal.pattern or "", paths)
    values, found = values.copy(), values != ""
    values[~found] = np.strings.add(np.array("without a group: ", STRING), paths[~found])
    problems.append(_proposed(proposal, others, values, found, paths))
    log.info("%s: %d groups", proposal.key, len(np.unique(values)))
    return replace(parts, train=replace(train, proposed_groups=values)), Grouping(proposal.key, proposed=True)


def _too_few(proposals: Sequence[GroupProposal], k: int) -> list[Problem]:
    """Point out people, sessions or origins that are fewer than the folds, which therefore aren't used."""
    named = [proposal for proposal in proposals if proposal.role != Role.OTHER]
    if not named:
        return []
    count = len(np.unique(named[0].values))
    text = (
        f"names suggest {count} groups, by `{named[0].key}`: {WHAT[named[0].role]}. They are fewer than the {k} folds, which "
        f"split them, and the accuracy is optimistic. `folds.k={count}` keeps each in one fold."
    )
    return [Problem("groups_suggested", "image paths" if named[0].column is None else "columns", text, "warning")]


def _proposed(
    proposal: GroupProposal,
    others: Sequence[GroupProposal],
    values: Strings,
    found: Bool[np.ndarray, " drawings"],
    paths: Strings,
) -> Problem:
    """Say which groups are used, by which key, and how to decline or choose others."""
    counts = Counter(values[found].tolist())
    first = int(np.flatnonzero(found)[0])
    name = "file names and folders suggest" if proposal.column is None else f"the column {proposal.column!r} suggests"
    text = (
        f"{name} {len(counts):,} groups of {int(found.sum()):,} drawings in all, such as {str(values[first])!r} of "
        f"{paths[first]!r}: {WHAT[proposal.role]}. Each group stays in one fold, as with `{proposal.key}`; "
        f"`{GROUP_KEY}={NO_GROUPS}` lets folds split them."
    )
    if others:
        keys = "; ".join(f"`{other.key}` ({len(np.unique(other.values)):,} groups)" for other in others[:SHOWN])
        text += f" Other groups that names suggest: {keys}."
    return Problem("groups_suggested", "image paths" if proposal.column is None else "columns", text, "warning")
