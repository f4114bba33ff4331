"""Walks a JPEG's segments, in bounded time, without decoding it (ITU-T T.81, annex B)."""

import re
from collections.abc import Iterator

# In coded pixels a zero or a restart marker follows each 0xff, and any number of 0xff may stand before a marker. Bytes
# between segments are skipped, as libjpeg does.
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)  # frames of several scans: Huffman's and arithmetic coding
END_OF_IMAGE, START_OF_SCAN = 0xD9, 0xDA
MAX_HEADER_SEGMENTS = 4096  # a colour profile has at most 255; extended XMP over as many would be 270 MB
MAX_SEGMENTS = 65536


def header_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker and the first and last byte's place of each segment's body, up to the first scan.

    Args:
        data: The whole JPEG file, from its first marker.

    Yields:
        Marker (the byte after 0xff), start, and end, which is past the file's end where the file breaks off.
    """
    for count, (marker, start, end) in enumerate(_segments(data)):
        if marker == START_OF_SCAN or count >= MAX_HEADER_SEGMENTS:
            return
        yield marker, start, end


def count_scans(data: bytes, limit: int) -> int:
    """Count the scans up to the end of the image; bytes that look like scans in other segments or behind it don't count.

    Args:
        data: The whole JPEG file, from its first marker.
        limit: The count at which it is enough to know that there are more.

    Returns:
        The number of scans, at most `limit` + 1; that too for a file of more than 65,536 segments.
    """
    scans = 0
    for count, (marker, _, _) in enumerate(_segments(data)):
        scans += marker == START_OF_SCAN
        if scans > limit or count >= MAX_SEGMENTS:
            return limit + 1
    return scans


def is_progressive(data: bytes) -> bool:
    """Check whether a JPEG comes in several passes over all its pixels, so that decoders keep all of its coefficients.

    Args:
        data: The whole JPEG file, from its first marker.
    """
    return any(marker in PROGRESSIVE for marker, _, _ in header_segments(data)) or count_scans(data, 1) > 1


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    place = 2
    while (found := MARKER.search(data, place)) and data[found.end() - 1] != END_OF_IMAGE:
        place = found.end()
        end = place + max(2, int.from_bytes(data[place : place + 2], "big"))
        yield data[place - 1], place + 2, end
        place = end
