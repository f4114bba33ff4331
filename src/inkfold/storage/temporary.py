"""Directories for runs that nobody asked to keep: each goes with the process that made it."""

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "inkfold-run-"
STALE_AFTER_S = 7 * 24 * 3600.0

_made: "list[tempfile.TemporaryDirectory[str]]" = []  # each is removed when Python ends


def temporary_directory() -> Path:
    """Make a directory that is removed when this process ends; those of killed processes go a week later."""
    _sweep(Path(tempfile.gettempdir()))
    made = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
    _made.append(made)
    return Path(made.name)


def is_temporary(path: Path) -> bool:
    """Return whether a path lies in a directory that this process made for runs that aren't kept."""
    absolute = path.absolute()
    return any(absolute.is_relative_to(made.name) for made in _made)


def _sweep(parent: Path) -> None:
    """Remove this user's directories that processes left behind which were killed."""
    for directory in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, AttributeError):
            status = directory.lstat()
            is_old = time.time() - status.st_mtime > STALE_AFTER_S
            if is_old and status.st_uid == os.getuid() and directory.is_dir() and not directory.is_symlink():
                shutil.rmtree(directory, ignore_errors=True)


def _forget_in_children() -> None:
    """Let a forked child leave its parent's directories alone."""
    for made in _made:
        made._finalizer.detach()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_children)
