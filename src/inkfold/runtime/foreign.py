"""Files that strangers may have made, read and parsed within limits: no pipe that never ends, no nesting without bottom."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

MOST_BYTES = 1 << 28
MOST_VALUES = 1_000_000  # of a YAML text, those that names refer to counted wherever they stand


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
            raise OSError(errno.EFBIG, f"has {state.st_size} bytes, expected at most {most_bytes}", str(path))
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


def parse_yaml(text: str | bytes) -> Any:
    """Parse YAML without objects; a few names that refer to each other can stand for billions of values.

    Raises:
        YAMLError: If it isn't YAML.
        ValueError: If it is nested too deeply, refers to itself, or stands for more than a million values.
    """
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        if root is not None and _count(root, {}) > MOST_VALUES:
            raise ValueError(f"it stands for more than {MOST_VALUES:,} values")
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _count(node: yaml.Node, counts: dict[int, int]) -> int:
    """Count the values that a node stands for; one that is met inside itself has none yet."""
    if id(node) not in counts:
        counts[id(node)] = MOST_VALUES + 1  # until its end is seen
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        counts[id(node)] = min(1 + sum(_count(part, counts) for part in inner), MOST_VALUES + 1)
    return counts[id(node)]
