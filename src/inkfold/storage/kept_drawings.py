"""Sets of drawings that Python programs had in memory, kept as files in inkfold's directory so that runs find them again.

`drawings/DIGEST` holds a set's files, its tables and, written last, `set.json` with the digest of each of them. Sets aren't a
cache: what a run was trained on can't be computed again. So nothing removes a set that a run names but the user; one that no
run names goes a week after it was last used, when another set is written.
"""

import contextlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

from inkfold.storage.cache import ABOUT, DAY_S, DRAWINGS, RUNS, home, runs_of
from inkfold.storage.files import make_directory
from inkfold.storage.hashing import digest, digest_file
from inkfold.storage.sealed import read_sealed, write_sealed

log = logging.getLogger("inkfold.storage")

TEMPORARY = ".new-"
KEPT_DAYS = 7.0


@final
class KeptSet:
    """A set that is being written; `finish` gives it its name.

    Args:
        directory: The temporary directory that it is written in.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._files = directory, dict[str, str]()

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the set; its name may have folders."""
        path = self._directory / name
        if "/" in name:
            make_directory(path.parent)
        path.write_bytes(data)
        self._files[name] = digest(data)

    def finish(self, name: str, about: Mapping[str, Any]) -> Path:
        """Put the set in its place, unless it is there already.

        Args:
            name: Digest of the set's content, which names it.
            about: What the set holds, as JSON values, for listings.

        Returns:
            The set's directory.
        """
        write_sealed(self._directory / ABOUT, {**about, "files": self._files})
        place = self._directory.parent / name
        if is_whole(place):
            touch(place)
            return place
        if place.exists():  # a power cut or somebody's hand has damaged it
            log.warning("%s: isn't as it was written, and is written anew", place)
            runs = runs_of(place)
            shutil.rmtree(place)
            if runs:
                (self._directory / RUNS).write_text("".join(f"{run}\n" for run in runs), "utf-8")
        try:
            self._directory.rename(place)
        except OSError:  # another process was first
            if not is_whole(place):
                raise
        return place


@contextlib.contextmanager
def new_set() -> Iterator[KeptSet]:
    """Write a set of drawings in a temporary directory, which is gone after the block unless `finish` was called."""
    parent = home() / DRAWINGS
    make_directory(parent)
    sweep_sets(parent)
    directory = parent / f"{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    try:
        yield KeptSet(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def is_whole(directory: Path) -> bool:
    """Return whether a set has all the files as they were written; it reads them."""
    about = read_about(directory)
    if about is None:
        return False
    try:
        return all(digest_file(directory / name) == expected for name, expected in about["files"].items())
    except OSError:
        return False


def read_about(directory: Path) -> dict[str, Any] | None:
    """Return what a set's `set.json` says; None where there is none, or it isn't as it was written."""
    try:
        about = read_sealed(directory / ABOUT, must_be_sealed=True)
    except (OSError, ValueError):
        return None
    return about if isinstance(about.get("files"), dict) else None


def touch(directory: Path) -> None:
    """Note that a set is in use now."""
    with contextlib.suppress(OSError):
        os.utime(directory / ABOUT)


def is_kept_set(root: str | os.PathLike[str]) -> bool:
    """Return whether a dataset's root is a set in inkfold's directory."""
    return Path(root).parent == home() / DRAWINGS and (Path(root) / ABOUT).is_file()


def note_run(root: str | os.PathLike[str], run: Path) -> None:
    """Note that a run outside of temporary directories is trained on a set, so that the set is kept; other data are left alone.

    Args:
        root: The dataset's root.
        run: The run's directory.
    """
    if not is_kept_set(root):
        return
    touch(Path(root))
    line = str(run.absolute())
    if line not in runs_of(Path(root)):
        with (Path(root) / RUNS).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def sweep_sets(parent: Path) -> None:
    """Remove sets that no run names and that weren't used for a week, and what killed writers left."""
    for directory in parent.iterdir():
        is_new = directory.name.startswith(TEMPORARY)
        marker = directory if is_new else directory / ABOUT
        with contextlib.suppress(OSError):
            days = (time.time() - marker.stat().st_mtime) / DAY_S
            if days > (1.0 if is_new else KEPT_DAYS) and not runs_of(directory):
                log.info("%s: no run was trained on it, and it wasn't used for %d days; removed", directory, int(days))
                shutil.rmtree(directory)
