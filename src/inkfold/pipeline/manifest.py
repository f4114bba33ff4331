"""A finished run's manifest: written last, it names every file with its digest, and holds the digest of itself."""

import contextlib
import logging
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from inkfold.errors import PredictionError, Problem
from inkfold.pipeline.manifest_schema import check_manifest
from inkfold.storage.hashing import digest_file
from inkfold.storage.sealed import read_sealed

log = logging.getLogger("inkfold.pipeline")

MANIFEST = "manifest.json"
SWAP, STAGED = "swap.json", "next"  # while a run is replaced by another, which lies in this directory; see `swap`
# May be added to a finished run; the manifest doesn't name them.
AUDIT, WEAKNESS, EXPLAINED = "audit.json", "weakness.json", "explained.json"
ADDED = (AUDIT, WEAKNESS, EXPLAINED)
FORMAT = 1
TRAIN_AGAIN = "Train again into another directory."
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
    manifest = load_manifest(path)
    if problems := changed_files(path, manifest, wanted):
        raise PredictionError(problems)
    return manifest


def load_manifest(path: Path) -> dict[str, Any]:
    """Read a run's manifest, and check it against the digest in it; its files aren't looked at.

    Args:
        path: Directory of the run or ensemble. A manifest of a version that wrote no digest into it is taken as it is.

    Returns:
        The content of `manifest.json`, without its own digest.

    Raises:
        PredictionError: If the run is not finished, or the manifest isn't as it was written.
    """
    finish_swap(path)
    if not path.is_dir():
        raise PredictionError(f"{path}: no such directory, expected a finished run's. Check the path.")
    if not (path / MANIFEST).is_file():
        raise PredictionError(f"{path}: no {MANIFEST}, so this is no finished run. Start `inkfold train` again to finish it.")
    try:
        manifest = read_sealed(path / MANIFEST, must_be_sealed=False)
        dict(manifest["files"])
        list(manifest["class_names"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PredictionError(f"{path / MANIFEST}: not a manifest: {error}. {TRAIN_AGAIN}") from None
    if manifest.get("format") != FORMAT:
        raise PredictionError(f"{path}: got format {manifest.get('format')}, expected {FORMAT}. Train again with this version.")
    check_manifest(manifest, str(path / MANIFEST))
    return manifest


def changed_files(path: Path, manifest: Mapping[str, Any], wanted: Collection[str] | None = None) -> list[Problem]:
    """Find the files of a run that are missing or not as they were written.

    Args:
        path: Directory of the run or ensemble.
        manifest: Content of its `manifest.json`.
        wanted: Names of the files to check, of those in the manifest; None checks all.

    Returns:
        A problem for each such file; none where all are as they were written.
    """
    return [
        Problem("changed_file", str(path / str(name)), f"is missing or not as it was written. {TRAIN_AGAIN}")
        for name, expected in manifest["files"].items()
        if (wanted is None or name in wanted) and not _is_whole(path, name, expected)
    ]


def finish_swap(path: Path) -> None:
    """Finish replacing a run by another where that was interrupted; several processes may call it at once.

    Args:
        path: Directory of the run, of which nothing is changed if it can't be written.
    """
    try:
        plan = read_sealed(path / SWAP, must_be_sealed=False)
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
