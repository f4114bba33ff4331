r"""Reads labels, groups and ids out of file names, by the user's regular expression `data.label_pattern`.

The expression runs in a process of its own, since some expressions take for ever on some names, and Python can't stop them.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Bool

from inkfold.data.tables import STRING, Strings, quoted
from inkfold.errors import DataError, Problem

CHUNK_PATHS = 50_000
LONGEST_PATH = 4096  # characters; longer ones match nothing
PATIENCE_S = 60.0  # for a chunk; a usual expression takes a hundredth of a second

# Reads [pattern, paths] as JSON, writes for each path its groups label, group and id, or null.
PROGRAM = """
import json, re, sys, warnings
warnings.simplefilter("ignore")
pattern, paths = json.load(sys.stdin)
search, names = re.compile(pattern).search, re.compile(pattern).groupindex
def read(path):
    match = search(path)
    return match and [match[name] if name in names else None for name in ("label", "group", "id")]
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
    found: list[list[str | None] | None] = []
    for start in range(0, len(paths), CHUNK_PATHS):
        chunk = [path if len(path) <= LONGEST_PATH else "" for path in paths[start : start + CHUNK_PATHS].tolist()]
        found += _search(pattern, chunk)
    columns = [_column(found, place) for place in range(3)]
    labels = columns[0]
    groups = columns[1] if "(?P<group>" in pattern else None
    ids = columns[2] if "(?P<id>" in pattern else None
    matched = np.fromiter((bool(label.strip()) for label in labels), bool, len(labels))
    return NameFields(matched, labels, groups, ids)


def _search(pattern: str, paths: list[str]) -> list[Any]:
    try:
        result = subprocess.run(  # noqa: S603 - this program, without a shell
            [sys.executable, "-I", "-S", "-c", PROGRAM],
            input=json.dumps([pattern, paths]),
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
        raise DataError([Problem("label_pattern", "data.label_pattern", text)]) from error
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["it ended without a message"])[-1]
        text = f"{pattern!r} failed on {len(paths)} paths such as {paths[0]!r} ({reason}). Write it more simply."
        raise DataError([Problem("label_pattern", "data.label_pattern", text)]) from error
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
