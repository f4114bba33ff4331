"""JSON files that carry the digest of their own content, so that one that was damaged is noticed when it is read.

The digest finds damage (a disk's flipped bit, a torn copy, a changed digit), not forgery: whoever changes a file on purpose can
write its digest too. Files that were written before there were digests have none; each reader says whether it takes those.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inkfold.runtime.foreign import parse_json, read_whole
from inkfold.storage.files import write_text
from inkfold.storage.hashing import key_digest

SEAL = "digest"


class DamagedError(ValueError):
    """A sealed file doesn't hold what was written into it."""


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with the digest of its content as its last key.

    Args:
        content: JSON values by name, none of which is called `digest`.
    """
    assert SEAL not in content
    as_read = json.loads(json.dumps(content, allow_nan=False))  # keys that are numbers become text, which sorts otherwise
    return {**content, SEAL: key_digest(as_read)}


def write_sealed(path: Path, content: Mapping[str, Any], *, indent: int | None = 2) -> None:
    """Write an object as a JSON file that is whole or absent, with the digest of its content.

    Args:
        path: The file to create or replace.
        content: JSON values by name, none of which is called `digest`; NaN is refused.
        indent: Spaces of indent for each level; None writes a single line.
    """
    write_text(path, json.dumps(sealed(content), indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def read_sealed(path: Path, *, must_be_sealed: bool) -> dict[str, Any]:
    """Read a file that `write_sealed` wrote, and check its content against the digest in it.

    Args:
        path: The file.
        must_be_sealed: Whether an object without a digest, as versions before there were any wrote it, is refused: True for
            what can be computed again, False for what can't.

    Returns:
        The content, without the digest.

    Raises:
        OSError: If it can't be read.
        DamagedError: If its content isn't what was written.
        ValueError: If it is no JSON object.
    """
    return unsealed(parse_json(read_whole(path)), must_be_sealed=must_be_sealed)


def unsealed(raw: Any, *, must_be_sealed: bool) -> dict[str, Any]:
    """Check an object that was parsed from a sealed file; see `read_sealed`.

    Args:
        raw: What was parsed, of any type.
        must_be_sealed: Whether an object without a digest is refused.

    Returns:
        The content, without the digest.

    Raises:
        DamagedError: If the content isn't what was written.
        ValueError: If it is no object.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"got {type(raw).__name__}, expected an object")
    content = {name: value for name, value in raw.items() if name != SEAL}
    if SEAL not in raw:
        if must_be_sealed:
            raise DamagedError("it has no digest")
        return content
    try:
        is_whole = raw[SEAL] == key_digest(content)
    except (ValueError, RecursionError):  # NaN, or half a character, neither of which was ever written
        is_whole = False
    if not is_whole:
        raise DamagedError("its content isn't what was written")
    return content
