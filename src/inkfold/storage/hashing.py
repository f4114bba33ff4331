"""TODO: the contract of this file."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DIGEST_BYTES = 16


DIGEST_DTYPE = f"S{2 * DIGEST_BYTES}"


def digest(data: bytes) -> str:
    """Name bytes by their content: 128 bits of BLAKE2b, in hex."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def digest_file(path: Path) -> str:
    """Name a file by its content, without holding it in memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()


def key_digest(key: Mapping[str, Any]) -> str:
    """Name a description by its content, whatever the order of its keys."""
    return digest(json.dumps(key, sort_keys=True, ensure_ascii=False, allow_nan=False).encode())
