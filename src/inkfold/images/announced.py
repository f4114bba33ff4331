"""Reads what a picture file announces, above all its size, and bounds the memory that decoding takes, before anything is.

Formats whose decoders make room for the picture when they open a file (WebP), or copy what a directory points at (TIFF), are
read here; for the others Pillow reads the header.
"""

import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import simplejpeg
from PIL import Image

from inkfold.images.cut_short import cut_short
from inkfold.images.formats import BrokenImage, empty, format_of, open_image
from inkfold.images.jpeg_segments import is_progressive
from inkfold.images.tiff_directories import Directory, check_directories, read_directories

BASE_BYTES = 2 << 20  # decoders' own tables and buffers, whatever the picture's size
TEXT_BYTES = 64 << 20  # all that Pillow unpacks of a PNG's texts and profiles
MOST_INFLATION = 1032  # of deflate: RFC 1951's longest match, 258 bytes, in two bits
TEXT_CHUNKS = (b"zTXt", b"iTXt", b"iCCP")
MAX_CHUNKS = 4096
WIDTH_TAG, HEIGHT_TAG = 256, 257

# Bytes that decoding and reading take at the peak, per pixel: measured by `benchmarks/serve_limits.py --peaks`, rounded up.
GREY, COLOUR, ALPHA = 8, 14, 16
DEEP_GREY, DEEP_COLOUR, DEEP_FLOAT = 10, 26, 20
WEBP, WEBP_ALPHA, AVIF = 20, 22, 32
FRAMES = 16  # more where several frames are compared: the first one, the best one, and the current one with its ink
COEFFICIENT = 2  # libjpeg keeps all of a progressive JPEG's, of each component


@final
@dataclass(frozen=True, slots=True)
class Announced:
    """What a picture file's header says.

    Attributes:
        width: Width of the picture, in px, as stored.
        height: Height of the picture, in px, as stored.
        decoded_bytes: The most bytes of memory that reading the picture takes at once.
    """

    width: int
    height: int
    decoded_bytes: int


@final
@dataclass(frozen=True, slots=True)
class PictureLimits:
    """What a picture may announce at most.

    Attributes:
        pixels: The most pixels of a picture.
        side_ratio: The most that one side may be longer than the other, as their quotient.
        decoded_bytes: The most bytes of memory that reading the picture may take.
        frame_pixels: The most pixels of all frames of an animation, or pages of a TIFF, that are looked at.
    """

    pixels: int = 25_000_000
    side_ratio: int = 50
    decoded_bytes: int = 384 << 20
    frame_pixels: int = 32_000_000


def check_announced(data: bytes, limits: PictureLimits) -> Announced:
    """Refuse a picture that would take too much memory or time, before it is decoded.

    Args:
        data: The whole file.
        limits: What it may announce.

    Returns:
        What the file announces, within the limits.

    Raises:
        BrokenImage: If the header can't be read, or announces more than the limits.
    """
    picture = read_announced(data)
    width, height = picture.width, picture.height
    if width * height > limits.pixels:
        got = f"announces {width} x {height} = {width * height} pixels"
        raise BrokenImage("too_large", f"{got}, expected at most {limits.pixels}. Reduce it.")
    if max(width, height) > limits.side_ratio * min(width, height):
        got = f"announces {width} x {height} pixels"
        expected = f"one side at most {limits.side_ratio} times as long as the other"
        raise BrokenImage("too_large", f"{got}, expected {expected}. Cut the drawing out.")
    if picture.decoded_bytes > limits.decoded_bytes:
        got = f"announces {width} x {height} pixels, which take up to {_mib(picture.decoded_bytes)} to decode"
        raise BrokenImage("too_large", f"{got}, expected at most {_mib(limits.decoded_bytes)}. Reduce it, or save it as JPEG.")
    return picture


def read_announced(data: bytes) -> Announced:
    """Read a picture's size from its header, and bound the memory that reading it takes.

    Args:
        data: The whole file; nothing of it is decoded.

    Raises:
        BrokenImage: If the file is empty, or no decoder for it is installed.
        Exception: Whatever a decoder raises for a damaged header.
    """
    if not data:
        raise empty()
    match format_of(data):
        case "JPEG":
            return _of_jpeg(data)
        case "PNG":
            return _of_png(data)
        case "WebP":
            return _of_webp(data)
        case "TIFF":
            return _of_tiff(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_image(data) as image:
            return _of_opened(image)


def _announced(width: int, height: int, per_pixel: float, more: int = 0) -> Announced:
    if width <= 0 or height <= 0:
        raise BrokenImage("unreadable", f"announces {width} x {height} pixels, expected some. Save it anew or remove it.")
    return Announced(width, height, BASE_BYTES + more + int(per_pixel * width * height))


def _of_jpeg(data: bytes) -> Announced:
    """Count all pixels: what simplejpeg refuses isn't reduced, nor is a page of which the drawing is a small part."""
    try:
        height, width, stored, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:  # such as CMYK in an unusual sampling, which Pillow reads
        with open_image(data) as image:
            (width, height), stored = image.size, image.mode
    components = {"Gray": 1, "L": 1, "YCbCr": 3, "RGB": 3}.get(stored, 4)
    kept = COEFFICIENT * components if is_progressive(data) else 0
    return _announced(width, height, kept + (GREY if components == 1 else COLOUR))


def _of_png(data: bytes) -> Announced:
    if len(data) < 29 or data[12:16] != b"IHDR":
        raise cut_short(data, "its header is missing")
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    sizes: dict[bytes, int] = {}
    for name, size in _png_chunks(data):
        sizes[name] = sizes.get(name, 0) + size
    text = min(TEXT_BYTES, MOST_INFLATION * sum(sizes.get(name, 0) for name in TEXT_CHUNKS))
    has_alpha, has_colour = kind in (4, 6) or b"tRNS" in sizes, kind != 0
    if depth == 16:
        per_pixel = DEEP_COLOUR if has_colour or has_alpha else DEEP_GREY
    else:
        per_pixel = ALPHA if has_alpha else COLOUR if has_colour else GREY
    return _announced(width, height, per_pixel + (FRAMES if b"acTL" in sizes else 0), text)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the name and the size of each chunk."""
    place = 8
    for _ in range(MAX_CHUNKS):
        if place + 8 > len(data):
            return
        size = int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 8], size
        place += 12 + size


def _of_webp(data: bytes) -> Announced:
    """Read the first chunk: Pillow's decoder makes room for three pictures when it opens a file (RFC 9649)."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise cut_short(data, "its header is missing")
    if kind == b"VP8X":
        flags, width, height = body[0], 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        return _announced(width, height, (WEBP_ALPHA if flags & 0x10 else WEBP) + (FRAMES if flags & 0x02 else 0))
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return _announced(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), WEBP_ALPHA)
    width, height = (int.from_bytes(body[place : place + 2], "little") & 0x3FFF for place in (6, 8))
    return _announced(width, height, WEBP)


def _of_tiff(data: bytes) -> Announced:
    """Take the page that takes most: a later one may be read, where the first is blank or a reduced copy."""
    check_directories(data)
    directories = [directory for directory in read_directories(data) if directory.values.keys() >= {WIDTH_TAG, HEIGHT_TAG}]
    pages = [_of_page(directory) for directory in directories]
    if not pages:
        raise cut_short(data, "its header is missing")
    largest = max(pages, key=lambda page: page.decoded_bytes)
    sides = max(pages, key=lambda page: page.width * page.height)
    return Announced(sides.width, sides.height, largest.decoded_bytes)


def _of_page(directory: Directory) -> Announced:
    values = directory.values
    width, height, bits = values[WIDTH_TAG], values[HEIGHT_TAG], values.get(258, 1)
    channels, kind, photometric = values.get(277, 1), values.get(339, 1), values.get(262, 1)
    tile = values.get(322, 0) * values.get(323, 0)  # decoders make room for a whole one
    if bits > 16 or kind == 3:
        per_pixel = DEEP_FLOAT * (1 if channels == 1 else channels)
    elif bits == 16:
        per_pixel = DEEP_GREY if channels == 1 else DEEP_COLOUR
    else:
        per_pixel = GREY if channels == 1 and photometric in (0, 1) else ALPHA
    return _announced(width, height, per_pixel, max(1, bits // 8) * channels * tile)


def _of_opened(image: Image.Image) -> Announced:
    """Bound a GIF, BMP, AVIF or HEIC."""
    per_pixel = AVIF if image.format in ("AVIF", "HEIF") else ALPHA
    frames = FRAMES if getattr(image, "is_animated", False) else 0
    return _announced(*image.size, per_pixel + frames)


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
