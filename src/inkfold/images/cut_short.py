"""Finds files that end early, which decoders don't report, or not clearly, and fill with grey or black."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from inkfold.images.formats import BrokenImage, format_of
from inkfold.images.tiff_directories import read_directories

INFLATED_AT_ONCE = 1 << 20
# First column and row, steps right and down of each pass over an interlaced PNG (RFC 2083, 2.6).
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES = 273, 279, 324, 325


def check_complete(data: bytes) -> None:
    """Refuse files whose end is missing, as their first bytes or their last ones show.

    Raises:
        BrokenImage: If a PNG has no last chunk, or a WebP announces more bytes than there are.
    """
    name = format_of(data)
    if name == "PNG" and b"IEND" not in data:
        raise cut_short(data, "no IEND chunk")
    if name == "WebP":
        announced = int.from_bytes(data[4:8], "little") + 8
        if announced > len(data) + 1:  # some writers leave out the last padding byte
            raise cut_short(data, f"its header announces {announced}")


def check_rows(image: Image.Image, data: bytes) -> None:
    """Refuse a PNG whose coded pixels end before its last row; decoders leave the rest black.

    Only pictures whose last row is black are unpacked once more to be counted, and interlaced ones.

    Args:
        image: The loaded picture; other formats pass.
        data: The file's bytes.

    Raises:
        BrokenImage: If rows are missing.
    """
    if image.format != "PNG":
        return
    is_interlaced = data[28:29] == b"\x01"
    width, height = image.size
    if is_interlaced or not np.asarray(image.crop((0, height - 1, width, height))).any():
        expected = sum(_png_bytes(data[24], data[25], is_interlaced=is_interlaced, size=image.size))
        count = _count_inflated(data, expected)
        if count < expected:
            raise cut_short(data, f"it holds {count} of {expected} bytes of pixels")


def ends_early(data: bytes) -> bool:
    """Check whether a file that can't be decoded has lost its end, rather than being damaged within."""
    match format_of(data):
        case "JPEG":
            return b"\xff\xd9" not in data
        case "GIF":
            return not data.rstrip(b"\x00").endswith(b";")
        case "WebP":
            return int.from_bytes(data[4:8], "little") + 8 > len(data)
        case "TIFF":
            return _tiff_ends_early(data)
        case "AVIF" | "HEIF":
            return _boxes_end_early(data)
    return False


def cut_short(data: bytes, words: str) -> BrokenImage:
    """Build the refusal of a file that ends early, with what shows it in a few words."""
    got = f"is cut short after {len(data)} bytes ({words})"
    return BrokenImage("truncated", f"{got}, expected a whole {format_of(data) or 'image'}. Fetch it again or remove it.")


def _png_bytes(depth: int, kind: int, *, is_interlaced: bool, size: tuple[int, int]) -> Iterator[int]:
    """Yield the bytes of each pass: rows that begin with their filter's number."""
    width, height = size
    for left, top, right, down in PASSES if is_interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            yield rows * (1 + (columns * depth * PNG_CHANNELS.get(kind, 1) + 7) // 8)


def _count_inflated(data: bytes, most: int) -> int:
    """Count the bytes that a PNG's coded pixels unpack to, in bounded memory; damage ends them."""
    unpacker, count = zlib.decompressobj(), 0
    try:
        for coded in _png_data(data):
            rest = coded
            while rest and count < most and not unpacker.eof:
                count += len(unpacker.decompress(rest, INFLATED_AT_ONCE))
                rest = unpacker.unconsumed_tail
        while count < most and not unpacker.eof and (last := unpacker.decompress(b"", INFLATED_AT_ONCE)):
            count += len(last)
    except zlib.error:
        return most  # what is damaged otherwise is the decoder's to report
    return count


def _png_data(data: bytes) -> Iterator[bytes]:
    place = 8
    while place + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        if data[place + 4 : place + 8] == b"IDAT":
            yield data[place + 8 : place + 8 + size]
        place += 12 + size


def _tiff_ends_early(data: bytes) -> bool:
    directory = next(read_directories(data), None)
    if directory is None or not directory.values:
        return True
    ends = (
        directory.values.get(offsets, 0) + directory.values.get(counts, 0)
        for offsets, counts in ((STRIP_OFFSETS, STRIP_BYTES), (TILE_OFFSETS, TILE_BYTES))
    )
    return directory.end > len(data) or any(end > len(data) for end in ends)


def _boxes_end_early(data: bytes) -> bool:
    """Walk an ISO base media file's outermost boxes (ISO/IEC 14496-12, 4.2)."""
    place = 0
    while place + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        if size == 1 and place + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, place + 8)
        if size == 0:
            return False  # up to the file's end
        if size < 8:
            return False
        place += size
    return place != len(data)
