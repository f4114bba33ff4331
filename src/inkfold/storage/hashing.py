"""Digests of bytes, files and descriptions: 128 bits of BLAKE2b in hex, which name everything that is cached."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DIGEST_BYTES = 16


DIGEST_DTYPE = f"S{2 * DIGEST_BYTES}"


def digest(data: bytes) -> str:
    """Return the digest of bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def digest_file(path: Path) -> str:
    """Return the digest of a file's bytes, without holding them in memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()


def key_digest(key: Mapping[str, Any]) -> str:
    """Return the digest of a description, whatever the order of its keys."""
    return digest(json.dumps(key, sort_keys=True, ensure_ascii=False, allow_nan=False).encode())
