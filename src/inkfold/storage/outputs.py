"""Writes the files that a user names, as `--out` does, whatever lies there.

A link stays a link, and the file that it leads to is written. A pipe or a device is written to, never replaced. A file is
replaced whole or stays as it was. What can't be written is refused by the name that the user gave.
"""

import contextlib
import errno
import io
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from inkfold.errors import ExportError
from inkfold.storage.files import atomic_file, errors_naming

MOST_LINKS = 40  # as many as Linux follows
_DESCRIPTORS = re.compile(r"/dev/fd|/proc/(\d+)(?:/task/\d+)?/fd")  # folders of links, or devices, that are open files
_CHOOSE = "Choose another place."
_ADVICE = {
    errno.ENOSPC: "Make room on that disk, or choose another place.",
    errno.EDQUOT: "Your share of that disk is used up: make room, or choose another place.",
    errno.EROFS: f"Nothing can be written there. {_CHOOSE}",
    errno.EACCES: "Change the permissions there, or choose another place.",
    errno.EPERM: "Change the permissions there, or choose another place.",
    errno.EFBIG: "A file may not be so large there: raise the limit (ulimit -f), or choose another place.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ENOTDIR: f"A part of that path is a file. {_CHOOSE}",
    errno.EISDIR: "Name a file, in it or elsewhere.",
    errno.ELOOP: "Links lead in a circle there: correct them, or choose another place.",
    errno.EBUSY: f"It is in use, as a file is that was mounted into a container. {_CHOOSE}",
    errno.EIO: "The disk fails there: check it, or choose another place.",
    errno.EBADF: "It isn't open for writing. Choose another place.",
}


def what_to_do(error: OSError) -> str:
    """Say in a sentence what helps against what the machine refused; it stands behind the error's own words.

    Args:
        error: An error that names the file.
    """
    return _ADVICE.get(error.errno or 0, "Check the place and its free space.")


@dataclass(frozen=True, slots=True)
class _Target:
    """What a name leads to.

    Attributes:
        path: Where the links that are followed end.
        is_open: Whether it is written to as it is: a pipe, a device, or a file that a process has open.
        descriptor: The number of the file of this process that is meant; None for others.
        name: What errors call it: the name that the user gave, and where its link leads.
    """

    path: Path
    is_open: bool
    descriptor: int | None
    name: str


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that a user named for writing.

    Args:
        path: A file, which is replaced as a whole when the block ends without an exception; a link to one; or a pipe or a
            device, to which everything is written when the block has ended. Missing directories are created.

    Yields:
        A binary file to write to, in which the caller may seek.

    Raises:
        OSError: If the machine refuses it; it names `path`.
        ExportError: If it is a disk or a socket.
    """
    target = _target(path)
    with errors_naming(target.path, target.name):
        if not target.is_open:
            with atomic_file(target.path) as file:
                yield file
            return
        content = io.BytesIO()
        yield content
        if sys.stdout is not None:
            sys.stdout.flush()  # what was printed before comes before
        where: Path | int = target.path if target.descriptor is None else os.dup(target.descriptor)
        with open(where, "wb") as opened:  # noqa: PTH123 - a path has no descriptor
            opened.write(content.getbuffer())


def write_output(path: Path, data: bytes | str) -> None:
    """Write a file that a user named; see `output_file`.

    Args:
        path: The file, link, pipe or device.
        data: Its whole content; text becomes UTF-8 with the same line ends on every platform.
    """
    with output_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def check_output(path: Path) -> None:
    """Refuse a place that can't be written before the work whose result it would take; nothing is written yet.

    Args:
        path: What a user named as the file to write.

    Raises:
        OSError: If it is a directory, or can't be written; it names `path`.
        ExportError: If it is a disk or a socket.
    """
    target = _target(path)
    if target.descriptor is not None:
        return
    place = target.path
    if not target.is_open:
        place = place.parent
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent
        place = Path(os.path.realpath(place))
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), target.name)
    if place.exists() and not os.access(place, os.W_OK):
        code = errno.EROFS if _is_read_only(place) else errno.EACCES
        raise OSError(code, os.strerror(code), target.name)


def check_added_file(path: Path, instead: str = "copy the run to a place that can be written") -> None:
    """Refuse to add a file to a run where a link or a special file has its name: a stranger's run may lead anywhere.

    Args:
        path: The file in a run's directory that would be written, such as `audit.json`.
        instead: What else helps, as the end of a sentence that says what to do.

    Raises:
        ExportError: If it can't be written, or a link or a special file has its name.
    """
    if path.is_symlink() or (path.exists() and not (path.is_file() or path.is_dir())):
        what = f"is a link to {path.readlink()}" if path.is_symlink() else "is no plain file"
        raise ExportError(f"{path}: {what}, and inkfold replaces only files of its own there. Remove it, or {instead}.")
    try:
        check_output(path)
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}. Make the run's directory writable, or {instead}.") from None


def is_standard_output(path: Path) -> bool:
    """Return whether a file that a user named is where this process prints, so that notes must go elsewhere."""
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError, AttributeError):  # of standard output, too, which may be closed
        return False


def is_special(path: Path) -> bool:
    """Return whether a name leads to a pipe, a device or a file that a process has open: its suffix then means nothing."""
    return _target(path).is_open


def _target(path: Path) -> _Target:
    """Follow the links of a name, without those that stand for open files."""
    place = path
    with errors_naming(path):
        for _ in range(MOST_LINKS):
            folder = _DESCRIPTORS.fullmatch(os.path.realpath(place.parent))
            if folder is not None or not place.is_symlink():
                break
            place = place.parent / place.readlink()
        else:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        name = str(path) if place == path else f"{path} -> {place}"
        if folder is not None and place.name.isdecimal() and folder[1] in (None, str(os.getpid())):
            return _Target(place, is_open=True, descriptor=int(place.name), name=str(path))
        return _Target(place, _is_open(place, name) or folder is not None, None, name)


def _is_open(place: Path, name: str) -> bool:
    """Return whether something is there that must not be replaced; a directory, a disk and a socket are refused."""
    try:
        mode = place.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        what = "is a disk, all of which would be overwritten" if stat.S_ISBLK(mode) else "is a socket"
        raise ExportError(f"{name}: {what}. Name a file.")
    return not stat.S_ISREG(mode)


def _is_read_only(place: Path) -> bool:
    return hasattr(os, "statvfs") and bool(os.statvfs(place).f_flag & os.ST_RDONLY)
