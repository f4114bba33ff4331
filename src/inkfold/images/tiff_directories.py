"""Reads directories of TIFFs and Exif blocks in bounded time, without copying what they point at (TIFF 6.0, BigTIFF)."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import final

from inkfold.images.formats import BrokenImage

MAX_DIRECTORIES = 64
MAX_HEADERS = 64  # places of a file that are tried as the head of an Exif block
SLACK_BYTES = 1 << 16
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # by type
FORMS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
HEADER = re.compile(rb"II[\*+]\x00|MM\x00[\*+]")


@final
@dataclass(slots=True)
class Directory:
    """One directory of a TIFF: a page, as a rule.

    Attributes:
        values: The first value of each tag of an integer type.
        tag_bytes: Bytes of all tags' values together, which decoders copy; more than the file where they overlap.
        end: Where the directory and its tags' values end; beyond the file's end where that is missing.
    """

    values: dict[int, int] = field(default_factory=dict)
    tag_bytes: int = 0
    end: int = 0


def read_directories(data: bytes, start: int = 0) -> Iterator[Directory]:
    """Yield a TIFF's directories in their order, 64 at most, as far as they can be read.

    Args:
        data: The whole file, or one that holds an Exif block.
        start: Where the TIFF header is.
    """
    order = "<" if data[start : start + 2] == b"II" else ">"
    is_big = data[start + 2 : start + 4].strip(b"\x00") == b"+"
    offset, seen = order + ("Q" if is_big else "I"), set()
    try:
        (place,) = struct.unpack_from(offset, data, start + (8 if is_big else 4))
        for _ in range(MAX_DIRECTORIES):
            if not place or place in seen:
                return
            seen.add(place)
            directory, place = _read_directory(data, start, place, order, is_big=is_big)
            yield directory
    except struct.error:
        return


def check_directories(data: bytes) -> None:
    """Refuse a file with a directory whose tags point at the same bytes again and again: each is copied when it is read.

    Args:
        data: The whole file: a TIFF, or a file of another format with Exif blocks.

    Raises:
        BrokenImage: If the tags of a directory hold more bytes than the whole file.
    """
    for count, match in enumerate(HEADER.finditer(data)):
        if count >= MAX_HEADERS:
            return
        for directory in read_directories(data, match.start()):
            if directory.tag_bytes > len(data) + SLACK_BYTES:
                got = f"has tags of {directory.tag_bytes} bytes in a file of {len(data)}"
                raise BrokenImage("too_large", f"{got}, expected tags that don't overlap. Save it anew or remove it.")


def _read_directory(data: bytes, start: int, place: int, order: str, *, is_big: bool) -> tuple[Directory, int]:
    """Read the directory at a place, and where the next one is."""
    directory, entry_bytes, inline = Directory(), 20 if is_big else 12, 8 if is_big else 4
    entry, count_form, offset = (order + form for form in (("HHQ", "Q", "Q") if is_big else ("HHI", "H", "I")))
    (count,) = struct.unpack_from(count_form, data, start + place)
    first = start + place + struct.calcsize(count_form)
    directory.end = first + entry_bytes * count + struct.calcsize(offset)
    for here in range(first, first + entry_bytes * count, entry_bytes):
        if here + entry_bytes > len(data):
            return directory, 0
        tag, kind, values = struct.unpack_from(entry, data, here)
        size, inside = SIZES.get(kind, 1) * values, here + struct.calcsize(entry)
        if size > inline:
            (inside,) = struct.unpack_from(offset, data, inside)
            inside += start
            directory.end = max(directory.end, inside + size)
            directory.tag_bytes += max(0, min(size, len(data) - inside))
        form = FORMS.get(kind)
        if form and values and inside + struct.calcsize(order + form) <= len(data):
            directory.values.setdefault(tag, struct.unpack_from(order + form, data, inside)[0])
    if directory.end > len(data) and first + entry_bytes * count + struct.calcsize(offset) > len(data):
        return directory, 0
    return directory, struct.unpack_from(offset, data, first + entry_bytes * count)[0]
