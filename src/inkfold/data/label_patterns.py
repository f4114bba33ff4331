r"""Reads labels, groups and ids out of file names, by the user's expressions `data.label_pattern`, `folds.group_pattern`.

The expression runs in a process of its own, since some expressions take for ever on some names, and Python can't stop them.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Bool

from inkfold.config.sections import PATTERN_GROUPS
from inkfold.data.tables import STRING, Strings, quoted
from inkfold.errors import DataError, Problem

CHUNK_PATHS = 50_000
LONGEST_PATH = 4096  # characters; longer ones match nothing
LABEL_KEY, GROUP_KEY = "data.label_pattern", "folds.group_pattern"
PATIENCE_S = 60.0  # for a chunk; a usual expression takes a hundredth of a second

# Reads [pattern, groups, paths] as JSON, writes for each path what those groups match, or null.
PROGRAM = """
import json, re, sys, warnings
warnings.simplefilter("ignore")
pattern, groups, paths = json.load(sys.stdin)
search = re.compile(pattern).search
def read(path):
    match = search(path)
    return match and [None if group is None else match[group] for group in groups]
json.dump([read(path) for path in paths], sys.stdout)
"""


@final
@dataclass(frozen=True, eq=False)
class NameFields:
    """What an expression finds in the paths of drawings.

    Attributes:
        matched: True where a label was found.
        labels: Each drawing's label; "" where there is none.
        groups: Each drawing's group; None where the expression has no such group.
        ids: Each drawing's id; None where the expression has no such group.
    """

    matched: Bool[np.ndarray, " drawings"]
    labels: Strings
    groups: Strings | None
    ids: Strings | None


def read_fields(pattern: str, paths: Strings) -> NameFields:
    """Find an expression's groups in paths.

    Args:
        pattern: A valid `data.label_pattern`.
        paths: Relative paths with forward slashes.

    Raises:
        DataError: If the expression takes too long on them.
    """
    known = re.compile(pattern).groupindex
    labels, *columns = _search_all(pattern, [name if name in known else None for name in PATTERN_GROUPS], paths, LABEL_KEY)
    groups = columns[0] if "group" in known else None
    ids = columns[1] if "id" in known else None
    matched = np.fromiter((bool(label.strip()) for label in labels), bool, len(labels))
    return NameFields(matched, labels, groups, ids)


def read_groups(pattern: str, texts: Strings) -> Strings:
    """Find each drawing's group: what `(?P<group>...)` matches, else the first group, else the whole match.

    Args:
        pattern: A regular expression: a valid `folds.group_pattern`.
        texts: Relative paths with forward slashes, or the cells of a column.

    Returns:
        The groups; "" where the expression finds nothing.

    Raises:
        DataError: If the expression takes too long on them.
    """
    compiled = re.compile(pattern)
    group = "group" if "group" in compiled.groupindex else min(compiled.groups, 1)
    return _search_all(pattern, [group], texts, GROUP_KEY)[0]


def _search_all(pattern: str, groups: Sequence[str | int | None], texts: Strings, key: str) -> list[Strings]:
    """Return what each group of an expression matches in each text; "" where it matches nothing."""
    found: list[list[str | None] | None] = []
    for start in range(0, len(texts), CHUNK_PATHS):
        chunk = [text if len(text) <= LONGEST_PATH else "" for text in texts[start : start + CHUNK_PATHS].tolist()]
        found += _search(pattern, groups, chunk, key)
    return [_column(found, place) for place in range(len(groups))]


def _search(pattern: str, groups: Sequence[str | int | None], paths: list[str], key: str) -> list[Any]:
    try:
        result = subprocess.run(  # noqa: S603 - this program, without a shell
            [sys.executable, "-I", "-S", "-c", PROGRAM],
            input=json.dumps([pattern, groups, paths]),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        text = (
            f"{pattern!r} took more than {PATIENCE_S:g} s on {len(paths)} paths such as {paths[0]!r}, expected a hundredth of "
            "that. Repetitions inside repetitions, such as (a+)+, do this: write it without them."
        )
        raise DataError([Problem(key.partition(".")[2], key, text)]) from error
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["it ended without a message"])[-1]
        text = f"{pattern!r} failed on {len(paths)} paths such as {paths[0]!r} ({reason}). Write it more simply."
        raise DataError([Problem(key.partition(".")[2], key, text)]) from error
    return list(json.loads(result.stdout))


def _column(found: list[list[str | None] | None], place: int) -> Strings:
    return np.array([(fields[place] or "") if fields else "" for fields in found], dtype=STRING)


def unmatched_paths(pattern: str, fields: NameFields, paths: Strings, where: str) -> list[Problem]:
    """Report the paths in which no label was found: an error where they are the most, else a warning."""
    count = int((~fields.matched).sum())
    if not count:
        return []
    examples = quoted(paths[np.flatnonzero(~fields.matched)[:3]].tolist())
    few = 2 * count <= len(paths)
    text = f"`data.label_pattern={pattern}` finds no label in {count} of {len(paths)} paths, such as {examples}. " + (
        "They are left out: widen the expression if they are drawings of a class." if few else "Correct the expression."
    )
    return [Problem("label_pattern", where, text, "warning" if few else "error")]


def missing_groups(fields: NameFields, paths: Strings, where: str) -> list[Problem]:
    """Report the paths that have a label and no group, where the expression has a group."""
    if fields.groups is None:
        return []
    rows = np.flatnonzero(fields.matched & (fields.groups == ""))
    if not len(rows):
        return []
    examples = quoted(paths[rows[:3]].tolist())
    text = (
        f"the group `group` of `data.label_pattern` finds nothing in {len(rows)} of {len(paths)} paths, such as {examples}, "
        "expected who drew each of them. Correct the expression, or leave `group` out of it."
    )
    return [Problem("label_pattern", where, text)]
