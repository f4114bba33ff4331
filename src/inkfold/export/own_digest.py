"""The digest that an exported ONNX file holds of itself, by which a damaged one is noticed before it is loaded.

It stands among the file's metadata. It is computed over all bytes of the file, with zeros where it stands itself, so that
neither computing nor checking it needs the ONNX package.
"""

import hashlib
import mmap
from pathlib import Path

from inkfold.errors import ExportError
from inkfold.storage.hashing import DIGEST_BYTES

DIGEST_KEY = "inkfold.digest"
UNKNOWN = "0" * (2 * DIGEST_BYTES)
_MARK = DIGEST_KEY.encode() + bytes([0x12, len(UNKNOWN)])  # protobuf's second field, a text of this length, after the key


def with_own_digest(data: bytes) -> bytes:
    """Put a file's digest into it.

    Args:
        data: An ONNX file whose metadata have `UNKNOWN` under the key `DIGEST_KEY`.

    Returns:
        The file, of the same length.
    """
    place = _place(data)
    assert place is not None
    return data[:place] + _digest(data, place) + data[place + len(UNKNOWN) :]


def check_own_digest(path: Path) -> None:
    """Refuse an exported file that isn't as it was written; one without a digest, of an older version, is taken as it is.

    Args:
        path: The ONNX file. One that can't be opened is left to whoever loads it.

    Raises:
        ExportError: If its bytes aren't those that were exported.
    """
    if not path.is_file():  # a pipe would be waited for
        return
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            place = _place(data)
            is_whole = place is None or data[place : place + len(UNKNOWN)] == _digest(data, place)
    except (OSError, ValueError):  # an empty file can't be mapped
        return
    if not is_whole:
        raise ExportError(f"{path}: not as it was exported. Export the run again.")


def _place(data: bytes | mmap.mmap) -> int | None:
    """Find where the digest stands; None where there is none."""
    mark = data.rfind(_MARK)
    return None if mark < 0 else mark + len(_MARK)


def _digest(data: bytes | mmap.mmap, place: int) -> bytes:
    whole = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with memoryview(data) as view, view[:place] as before, view[place + len(UNKNOWN) :] as after:
        whole.update(before)
        whole.update(UNKNOWN.encode())
        whole.update(after)
    return whole.hexdigest().encode()
