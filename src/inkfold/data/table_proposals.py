"""Proposes the columns of a table, and the table that lies beside drawings, by their cells and names."""

import csv
import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias, final

from inkfold.data.folder_parts import subfolders
from inkfold.data.name_kinds import first_names, words_of
from inkfold.data.paths import IMAGE_SUFFIXES, FileFinder
from inkfold.data.tables import TABLE_SUFFIXES, first_rows, has_other_separator
from inkfold.errors import DataError, Problem

ROWS = 400  # of a table are looked at
PROBES = 40  # paths are looked for
MOST_TABLES = MOST_FOLDERS = 20
FOUND_SHARE = 0.5
SUFFIXES = (".png", ".jpg", ".jpeg")  # that ids of drawings lack

Purpose: TypeAlias = Literal["path", "label", "group"]

PATH_NAMES = "path file filename filepath image img picture drawing png jpg name"
LABEL_NAMES = "label class classname category target word character symbol concept y kind type name tag"
GROUP_NAMES = (
    "group user person people participant subject student artist author writer drawer annotator worker session photo source "
    "origin who key countrycode id"
)
NAMES: Final[Mapping[Purpose, frozenset[str]]] = {
    "path": frozenset(PATH_NAMES.split()),
    "label": frozenset(LABEL_NAMES.split()),
    "group": frozenset(GROUP_NAMES.split()),
}


@final
@dataclass(frozen=True)
class TableProposal:
    """How a table may be read.

    Attributes:
        table: The table whose columns are proposed.
        path: Its column of paths; None where none names files that exist.
        label: Its column of labels; None where none may be.
        labels: The labels in its first rows, in code point order.
        base: The folder that the paths start from; None if there is no column of paths.
        found: Number of paths that were found, of `probed`.
        probed: Number of paths that were looked for.
        suffix: What the paths lack, such as `.png`; "" if they lack none.
        other_separator: Whether the cells seem to be separated by semicolons, tabs or bars.
    """

    table: Path
    path: str | None
    label: str | None
    labels: tuple[str, ...] = ()
    base: Path | None = None
    found: int = 0
    probed: int = 0
    suffix: str = ""
    other_separator: bool = False

    def about_paths(self) -> str:
        """Say what the column of paths holds."""
        if self.suffix:
            return f"whose values are files' names without {self.suffix!r}: write them with it"
        return f"{self.found} of the first {self.probed} paths in it are files that exist"

    def settings(self) -> str:
        """The command line's words that read the table."""
        words = [f"data={self.table}", f"data.path_column={self.path}", f"data.label_column={self.label}"]
        if self.base is not None and self.base != self.table.parent:
            words.append(f"data.image_root={self.base.relative_to(self.table.parent).as_posix()}")
        return " ".join(f"'{word}'" if " " in word else word for word in words)


def propose_table(table: Path, bases: Sequence[Path], boundary: Path) -> TableProposal | None:
    """Look which columns of a table are the paths and the labels.

    Args:
        table: Absolute path of a CSV or Parquet file.
        bases: Folders that its paths may start from.
        boundary: The folder that no path may lead out of.

    Returns:
        The proposal; None if the file can't be read as a table.
    """
    try:
        columns = first_rows(table, ROWS)
    except (DataError, OSError, csv.Error):
        return None
    finder = FileFinder(boundary)
    best = TableProposal(table, None, None)
    for suffix in ("", *SUFFIXES):
        for name, cells in columns.items():
            probes = [cell + suffix for cell in dict.fromkeys(cells) if cell.strip()][:PROBES]
            for folder in bases if probes else ():
                count = sum(bool(finder.find(str(folder), probe)[0]) for probe in probes)
                if count > FOUND_SHARE * len(probes) and count > best.found:
                    best = TableProposal(table, name, None, (), folder, count, len(probes), suffix)
        if best.found:
            break
    label = _likeliest_label({name: cells for name, cells in columns.items() if name != best.path})
    labels = tuple(sorted({cell.strip() for cell in columns[label]} - {""})) if label is not None else ()
    return replace(best, label=label, labels=labels, other_separator=has_other_separator([*columns]))


def tables_near(root: Path) -> Iterator[tuple[Path, tuple[Path, ...], Path]]:
    """Find the tables in a folder, in its folders, and beside it.

    Yields:
        Each table, with the folders that its paths may start from and the one that they may not lead out of.
    """
    inner = inner_folders(root)
    for table in _tables_in(root):
        yield table, (root, *inner), root
    for folder in inner:
        for table in _tables_in(folder):
            yield table, (folder, *inner_folders(folder)), folder
    for table in _tables_in(root.parent):
        yield table, (root.parent, root), root.parent


def inner_folders(root: Path) -> list[Path]:
    """Return a folder's folders, the first twenty."""
    return [root / name for name in subfolders(root)[:MOST_FOLDERS]]


def propose_image_root(table_name: str, paths: Sequence[str], root: Path) -> list[Problem]:
    """Propose the folder that a table's paths start from, where none of them is found.

    Args:
        table_name: The table, for the message.
        paths: The paths in the table.
        root: The folder that they were looked for in; its folders are tried.
    """
    finder = FileFinder(root)
    probes = paths[:PROBES]
    for folder in inner_folders(root):
        for suffix in ("", *SUFFIXES):
            found = sum(bool(finder.find(str(folder), probe + suffix)[0]) for probe in probes)
            if found > FOUND_SHARE * len(probes):
                text = f"{found} of the first {len(probes)} images are in {folder.name!r}: `data.image_root={folder.name}`."
                text += f" Write the paths with their suffix {suffix!r}." if suffix else ""
                return [Problem("proposal", table_name, text, "warning")]
    return []


def propose_columns(table: Path, bases: Sequence[Path], boundary: Path, missing: Mapping[str, str]) -> dict[str, str]:
    """Propose the columns that a table has instead of those that are missing.

    Args:
        table: The table whose columns are proposed.
        bases: Folders that its paths start from as the data are read; those in the boundary are tried, too.
        boundary: The folder that no path may lead out of.
        missing: The setting that names each missing column, by that column's name: `data.path_column`, ...

    Returns:
        By missing column, words that follow `Name the right one: `; only for those with a proposal.
    """
    proposal = propose_table(table, (*bases, *inner_folders(boundary)), boundary)
    if proposal is None or proposal.other_separator:
        return {}
    texts = {}
    for column, setting in missing.items():
        if setting == "data.path_column" and proposal.path is not None:
            texts[column] = f"`{setting}={proposal.path}`, {proposal.about_paths()}."
            if proposal.base is not None and proposal.base not in bases:
                texts[column] += f" They start from `data.image_root={proposal.base.relative_to(boundary).as_posix()}`."
        elif setting == "data.label_column" and proposal.label is not None:
            values = f"{len(proposal.labels)} values in its first rows ({first_names(proposal.labels)})"
            texts[column] = f"`{setting}={proposal.label}`, {values}."
        elif like := _likely_name(table, column, setting, {proposal.path, proposal.label}):
            texts[column] = f"`{setting}={like}`, by its name."
    return texts


def _likely_name(table: Path, column: str, setting: str, taken: set[str | None]) -> str | None:
    purpose: Purpose = "path" if "path" in setting else "group" if "group" in setting else "label"
    names = [name for name in first_rows(table, 1) if name not in taken]
    close = difflib.get_close_matches(column.casefold(), [name.casefold() for name in names], 1, 0.75)
    alike = [name for name in names if name.casefold() in close] or [
        name for name in names if {*words_of(name)} & NAMES[purpose]
    ]
    return alike[0] if alike else None


def _likeliest_label(columns: Mapping[str, Sequence[str]]) -> str | None:
    """The column whose values are few and repeated; one with a label's name before others, words before numbers."""
    best: tuple[int, int, int] | None = None
    names = [*columns]
    for place, name in enumerate(names):
        values = [cell.strip() for cell in columns[name] if cell.strip()]
        distinct = set(values)
        if not 2 <= len(distinct) <= max(2, len(values) / 2) or any(
            Path(value).suffix.lower() in IMAGE_SUFFIXES for value in distinct
        ):
            continue
        named = bool({*words_of(name)} & NAMES["label"])
        grouped = bool({*words_of(name)} & NAMES["group"])
        numbers = all(value.replace(".", "").lstrip("-").isdigit() for value in distinct)
        rank = (2 * (not named) + grouped, int(numbers), place)
        best = rank if best is None else min(best, rank)
    return None if best is None else names[best[2]]


def _tables_in(folder: Path) -> list[Path]:
    try:
        files = (file for file in folder.iterdir() if file.suffix.lower() in TABLE_SUFFIXES and not file.name.startswith("."))
        return sorted(itertools.islice(files, MOST_TABLES))
    except OSError:
        return []
