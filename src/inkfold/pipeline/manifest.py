"""A finished run's manifest: written last, it names every file with its digest."""

import contextlib
import json
import logging
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from inkfold.errors import PredictionError, Problem
from inkfold.storage.hashing import digest_file

log = logging.getLogger("inkfold.pipeline")

MANIFEST = "manifest.json"
SWAP, STAGED = "swap.json", "next"  # while a run is replaced by another, which lies in this directory; see `swap`
AUDIT, WEAKNESS = "audit.json", "weakness.json"  # may be added to a finished run; the manifest doesn't name them
FORMAT = 1
AUDIT_FORMAT = 2  # of audit.json; 1 asked a single model


def read_manifest(path: Path, wanted: Collection[str] | None = None) -> dict[str, Any]:
    """Read a run's manifest and check the files that it names.

    Args:
        path: Directory of the run or ensemble, in which the manifest and the files that it names lie.
        wanted: Names of the files to check, of those in the manifest; None checks all.

    Returns:
        The content of `manifest.json`.

    Raises:
        PredictionError: If the run is not finished, or with every file that is missing or not as it was written.
    """
    finish_swap(path)
    if not path.is_dir():
        raise PredictionError(f"{path}: no such directory, expected a finished run's. Check the path.")
    if not (path / MANIFEST).is_file():
        raise PredictionError(f"{path}: no {MANIFEST}, so this is no finished run. Start `inkfold train` again to finish it.")
    try:
        manifest = dict(json.loads((path / MANIFEST).read_text(encoding="utf-8")))
        files = dict(manifest["files"])
        list(manifest["class_names"])
    except (ValueError, KeyError, TypeError) as error:
        raise PredictionError(f"{path / MANIFEST}: not a manifest: {error}.") from None
    if manifest.get("format") != FORMAT:
        raise PredictionError(f"{path}: got format {manifest.get('format')}, expected {FORMAT}. Train again with this version.")
    problems = [
        Problem("changed_file", str(path / str(name)), "is missing or not as it was written. Train again.")
        for name, expected in files.items()
        if (wanted is None or name in wanted) and not _is_whole(path, name, expected)
    ]
    if problems:
        raise PredictionError(problems)
    return manifest


def finish_swap(path: Path) -> None:
    """Finish replacing a run by another where that was interrupted; several processes may call it at once.

    Args:
        path: Directory of the run, of which nothing is changed if it can't be written.
    """
    try:
        plan = json.loads((path / SWAP).read_text(encoding="utf-8"))
        moved, removed = [*filter(is_below, plan["move"])], [*filter(is_below, plan["remove"])]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: can't be read (%s), so the run stays as it is", path / SWAP, error)
        return
    try:
        for name in removed:
            (path / name).unlink(missing_ok=True)
        for name in moved:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # moved already
                (path / STAGED / name).replace(path / name)
        (path / SWAP).unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s: replacing this run by a better one was interrupted, and can't be finished: %s", path, error.strerror)
        return
    shutil.rmtree(path / STAGED, ignore_errors=True)


def is_below(name: Any) -> bool:
    """Return whether a path that a file names stays inside the directory that it is relative to."""
    return isinstance(name, str) and not Path(name).is_absolute() and ".." not in Path(name).parts


def _is_whole(path: Path, name: str, expected: str) -> bool:
    return is_below(name) and (path / name).is_file() and digest_file(path / name) == expected
