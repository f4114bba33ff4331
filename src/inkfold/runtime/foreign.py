"""Files that strangers may have made, read and parsed within limits: no pipe that never ends, no nesting without bottom."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from pydantic import ValidationError

MOST_BYTES = 1 << 28


def read_whole(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Read a regular file.

    Args:
        path: The file, or a link to one.
        most_bytes: The most bytes that it may have.

    Returns:
        Its bytes.

    Raises:
        OSError: If it can't be read, is a pipe, a device or a directory, or is larger.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:  # without waiting for a pipe's other end
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        if state.st_size > most_bytes:
            raise OSError(errno.EINVAL, f"has {state.st_size} bytes, expected at most {most_bytes}", str(path))
        return file.read()


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: If it isn't JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def first_problem(error: ValidationError) -> str:
    """Say in a line the first thing that pydantic found wrong with values of a stranger, and where."""
    first = error.errors(include_url=False, include_context=False)[0]
    place, got = ".".join(map(str, first["loc"]))[:100], repr(first.get("input"))[:60]
    return f"{place or 'it'}: got {got}: {first['msg']}"
