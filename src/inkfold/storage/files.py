"""Writes files that are whole or absent: temp file in the same directory, fsync, rename, fsync of the directory.

Of the writers that were tried, only this one left no unreadable file after 20 SIGKILLs and kept the old file when the disk
was full. These are inkfold's own files, in directories that it manages: a link among them is replaced, so that a stranger's run
can't lead a write elsewhere. What a user names is written by `outputs`, which follows links and writes to pipes and devices.
"""

import contextlib
import errno
import functools
import json
import os
import platform
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from inkfold.storage.hashing import digest

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TEMP_MARK = ".inkfold-tmp-"
STALE_AFTER_S = 24 * 3600.0
_SWEPT: set[Path] = set()  # directories


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block ends without an exception.

    Args:
        path: The file to create or replace; its directory is created if missing. A file that is replaced passes on its mode
            bits, and its owner where that is allowed.

    Yields:
        A binary file to write to, in which the caller may seek.

    Raises:
        OSError: If the machine refuses it, as on a full disk; it names `path`, not the temporary file.
    """
    with errors_naming(path):
        yield from _atomic_file(path)


def _atomic_file(path: Path) -> Iterator[BinaryIO]:
    make_directory(path.parent)
    _sweep_once(path.parent)
    temp, file = _open_temp_file(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            _take_over_mode(path, temp)
            if fcntl is not None:
                temp.replace(path)  # while its lock is held: a sweep could take it for a dead writer's
        if fcntl is None:  # Windows can't rename an open file
            temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    _fsync_directory(path.parent)


@contextlib.contextmanager
def errors_naming(path: Path, name: str | None = None) -> Iterator[None]:
    """Let what the machine refuses while the block runs name the file that is written, not a temporary one or none.

    Errors about other files, and of a pipe whose reader has gone, stay as they are.

    Args:
        path: The file that the block writes.
        name: What errors call it, such as a link's own name; None for `path`.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno is None or not _is_about(error, path):
            raise
        raise OSError(error.errno, error.strerror, name or str(path)) from error


def _is_about(error: OSError, path: Path) -> bool:
    """Whether an error is about writing a file: writes name nothing, a rename the temporary file, `mkdir` a directory above."""
    if not isinstance(error.filename, str | os.PathLike):
        return True
    return TEMP_MARK in str(error.filename) or path.is_relative_to(error.filename)


def make_directory(path: Path) -> None:
    """Create a directory and those above it, unless they exist; a link to a directory that is missing stays a link.

    Args:
        path: The directory.

    Raises:
        OSError: If it can't be created; `NotADirectoryError` where a file is in its way. It names `path`.
    """
    with errors_naming(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                Path(os.path.realpath(path)).mkdir(parents=True, exist_ok=True)
            if not path.is_dir():
                path.stat()  # which names a circle of links
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` so that `path` is either the old file or the whole new one."""
    with atomic_file(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with the same line ends on every platform."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON with two spaces of indent and a final line end; NaN is refused, since no other reader accepts it."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Return JSON as `write_json` writes it."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def sweep_temp_files(directory: Path, older_than_s: float = STALE_AFTER_S) -> None:
    """Remove the temporary files that killed writers left in a directory.

    A writer holds a lock on its temporary file, which dies with it. On the writer's own machine a file without a lock goes at
    once; elsewhere, as on a network disk, and where there are no locks, only its age counts.

    Args:
        directory: The directory, searched without its subdirectories.
        older_than_s: Files of other machines that are younger are kept, since another process may be writing them; seconds.
    """
    for path in directory.glob(f"*{TEMP_MARK}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime >= older_than_s:
                path.unlink()
            elif path.name.rpartition(TEMP_MARK)[2].startswith(f"{_machine()}-"):
                _remove_unless_locked(path)


def _sweep_once(directory: Path) -> None:
    """Sweep a directory when this process writes to it for the first time."""
    if directory not in _SWEPT:
        _SWEPT.add(directory)
        sweep_temp_files(directory)


def _take_over_mode(path: Path, temp: Path) -> None:
    """Give a temporary file the mode bits of the plain file that it replaces, and its owner where that is allowed."""
    with contextlib.suppress(OSError):
        old, new = path.lstat(), temp.stat()
        if not stat.S_ISREG(old.st_mode):
            return
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            with contextlib.suppress(OSError):
                os.chown(temp, old.st_uid, old.st_gid)
        temp.chmod(old.st_mode & 0o777)


def _open_temp_file(path: Path) -> tuple[Path, BinaryIO]:
    """Create a temporary file that says by its name which machine writes it, and by its lock that the writer lives."""
    name = path.name.encode(errors="ignore")[:80].decode(errors="ignore")  # names are limited in bytes
    while True:
        temp = path.with_name(f"{name}{TEMP_MARK}{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
        file = temp.open("xb")
        if _locked(file, wait=True) is not True or os.fstat(file.fileno()).st_nlink:
            return temp, file
        file.close()  # a sweep came between creation and lock


def _remove_unless_locked(path: Path) -> None:
    with path.open("rb") as file:
        if _locked(file, wait=False):
            path.unlink()


def _locked(file: BinaryIO, *, wait: bool) -> bool | None:
    """Lock a file for as long as it is open; False where another process holds the lock, None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # network disks without locks; their files go by age
        return None
    return True


@functools.cache
def _machine() -> str:
    """Name this machine since its last start: what holds for its locks holds for all of its containers, too."""
    with contextlib.suppress(OSError):
        return digest(Path("/proc/sys/kernel/random/boot_id").read_bytes())[:8]
    return digest(f"{platform.node()} {uuid.getnode()}".encode())[:8]


def _fsync_directory(directory: Path) -> None:
    if os.name == "nt":  # a directory can't be opened there; NTFS journals the rename
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
