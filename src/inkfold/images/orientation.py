"""Reads from a picture's metadata how it must be turned to stand upright: Exif first, then XMP (TIFF 6.0, tag 274).

Both are read tolerantly, since damaged metadata is no reason to refuse a picture, and in bounded time. What Pillow's
`ImageOps.exif_transpose` obeys is obeyed here too, and more: values of type BYTE, XMP with other quotes, blanks or
prefixes, and XMP where the Exif value is none of 1 to 8.
"""

import contextlib
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from inkfold.images.colour import Pixels
from inkfold.images.jpeg_segments import header_segments

ORIENTATION_TAG = 0x0112
UPRIGHT = 1
INTEGER_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
MAX_ENTRIES = 4096
MAX_BLOCKS = 16

EXIF_MARKS = re.compile(rb"(?:Exif\x00[\x00\xff]){0,2}")
TIFF_HEADER = re.compile(rb"II\*\x00|MM\x00\*")
XMP_MARK = b"http://ns.adobe.com/xap/1.0/\x00"
XMP_PREFIX = re.compile(rb"xmlns:([A-Za-z_][\w.-]{0,40})\s{0,16}=\s{0,16}[\"']http://ns\.adobe\.com/tiff/1\.0/[\"']")
XMP_VALUE = rb":Orientation(?:\s{0,64}=\s{0,64}[\"']|(?:\s[^<>]{0,200})?>)\s{0,64}([1-8])\s{0,64}[\"'<]"
APP1 = 0xE1


def jpeg_orientation(data: bytes) -> int:
    """Read the orientation of a JPEG, wherever its segments stand before the first scan.

    Args:
        data: The whole file, in any format that is read.

    Returns:
        1 to 8 as in TIFF 6.0; 1 where neither Exif nor XMP says anything.
    """
    exif, xmp = [], []
    for marker, start, end in header_segments(data):
        if marker == APP1 and data.startswith(b"Exif\x00", start):
            exif.append(data[start + 6 : end])
        elif marker == APP1 and data.startswith(XMP_MARK, start):
            xmp.append(data[start + len(XMP_MARK) : end])
    # An Exif block of more than 64 KB goes on in the next segment, so all are read as one, then one by one.
    blocks = [b"".join(exif), *exif[1:MAX_BLOCKS]] if exif else []
    return _first_orientation(blocks, xmp[:MAX_BLOCKS])


def info_orientation(info: Mapping[Any, Any]) -> int:
    """Read the orientation of a PNG, WebP, AVIF or GIF from what Pillow collected of its chunks.

    Args:
        info: The `info` of a loaded Pillow image; in a PNG, chunks after the pixels are in it only once it is loaded.

    Returns:
        1 to 8 as in TIFF 6.0; 1 where neither Exif nor XMP says anything.
    """
    exif, xmp = [_as_bytes(info.get("exif"))], [_as_bytes(info.get(name)) for name in ("xmp", "XML:com.adobe.xmp")]
    for name in ("exif", "APP1", "app1", "xmp"):
        profile = _raw_profile(info.get(f"Raw profile type {name}"))
        is_xmp = name == "xmp" or profile.startswith(XMP_MARK)
        (xmp if is_xmp else exif).append(profile.removeprefix(XMP_MARK))
    return _first_orientation(exif, xmp)


def exif_orientation(exif: bytes) -> int | None:
    """Read tag 274 from the first directory of an Exif block.

    Args:
        exif: The block, with or without the mark "Exif" before it.

    Returns:
        1 to 8; None where the tag is absent, has no integer type or another value.
    """
    value = first_directory(exif).get(ORIENTATION_TAG)
    return value if value in range(1, 9) else None


def first_directory(exif: bytes) -> dict[int, int]:
    """Read the integers in the first directory of an Exif block, which is built like a TIFF file, or of such a file.

    Args:
        exif: The bytes; a directory that breaks off is read as far as it goes.

    Returns:
        The first value of each tag, by the tag's number; the first entry counts where a tag stands twice.
    """
    values: dict[int, int] = {}
    for tag, code, place in _integers(exif):
        values.setdefault(tag, struct.unpack_from(code, exif, place)[0])
    return values


def without_orientation(tiff: bytes) -> bytes:
    """Return a TIFF file's bytes with orientation 1, for decoders that would turn some kinds of file and not others."""
    for tag, code, place in _integers(tiff):
        if tag == ORIENTATION_TAG:
            return tiff[:place] + struct.pack(code, UPRIGHT) + tiff[place + struct.calcsize(code) :]
    return tiff


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo the orientation (TIFF 6.0, tag 274); unknown values leave the picture as it is."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _integers(exif: bytes) -> Iterator[tuple[int, str, int]]:
    """Tag, form and place of the first value of each entry of an integer type in the first directory."""
    mark = EXIF_MARKS.match(exif)
    header = TIFF_HEADER.search(exif, mark.end() if mark else 0, 64)
    if header is None:
        return
    start, order = header.start(), "<" if header[0].startswith(b"II") else ">"
    with contextlib.suppress(struct.error):
        directory = start + struct.unpack_from(order + "I", exif, start + 4)[0]
        (count,) = struct.unpack_from(order + "H", exif, directory)
        for place in range(directory + 2, directory + 2 + 12 * min(count, MAX_ENTRIES), 12):
            tag, kind, size, value = struct.unpack_from(order + "HHII", exif, place)
            if kind in INTEGER_TYPES:
                code = order + INTEGER_TYPES[kind]
                first = place + 8 if size * struct.calcsize(code) <= 4 else start + value
                if first + struct.calcsize(code) <= len(exif):
                    yield tag, code, first


def xmp_orientation(xmp: bytes) -> int | None:
    """Read `tiff:Orientation`, written as an attribute or as an element, from an XMP packet.

    Args:
        xmp: The packet in UTF-8, UTF-16 or UTF-32; it needn't be well-formed XML.

    Returns:
        1 to 8; None where the packet has no such value.
    """
    text = xmp.replace(b"\x00", b"")  # all that counts is ASCII, whatever the encoding
    declared = XMP_PREFIX.search(text)
    prefix = declared[1] if declared else b"tiff"
    value = re.search(rb"\b" + re.escape(prefix) + XMP_VALUE, text)
    return int(value[1]) if value else None


def _first_orientation(exif: list[bytes], xmp: list[bytes]) -> int:
    for block in filter(None, exif):
        if value := exif_orientation(block):
            return value
    for packet in filter(None, xmp):
        if value := xmp_orientation(packet):
            return value
    return UPRIGHT


def _as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "replace") if isinstance(value, str) else b""


def _raw_profile(value: object) -> bytes:
    """Unpack ImageMagick's way of keeping a profile in a text chunk: a name, a length, and hexadecimal digits."""
    words = _as_bytes(value).split(maxsplit=2)
    try:
        return bytes.fromhex(words[2].decode("ascii")) if len(words) == 3 else b""
    except ValueError:
        return b""
