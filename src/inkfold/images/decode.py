"""Decodes an image file's bytes to an upright uint8 array; whatever a decoder raises becomes a `BrokenImage`."""

import contextlib
import io
import logging
import re
import struct
import warnings
from typing import Literal

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from inkfold.config.sections import Colour, ImageSettings

log = logging.getLogger("inkfold.images")

DEFAULT_PIXEL_LIMIT = ImageSettings().pixel_limit

Pixels = UInt8[np.ndarray, "h w *channels"]
Breakage = Literal["empty", "truncated", "too_large", "not_an_image", "unreadable", "changed"]

PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"RIFF": "WebP",
}
ORIENTATION_TAG = 0x0112
# Scanned line art and JPEG's chroma noise spread up to about 16 grey levels; coloured strokes spread far more.
GREY_SPREAD = 16
COLOURED_FRACTION = 0.001
# Below this range of luma a drawing laid on white counts as vanished (yellow, the lightest ink in use, keeps 29).
VISIBLE_CONTRAST = 48
# As libtiff limits them: a JPEG's scan goes over all pixels, 15 ms at 25 megapixels for 42 bytes. Encoders make about ten.
MAX_SCANS = 100
# libjpeg's messages for lost pixels. A few bytes left over before the end marker (0xd9) lose none, and encoders write
# them; many mean that damage made the decoder stop early. A colour profile is no pixel.
HARMLESS_JPEG = re.compile(r"\b\d{1,2} extraneous bytes before marker 0xd9")
DAMAGED_JPEG = re.compile(r"Premature end|Corrupt JPEG data(?!: bad ICC)")
CUT_SHORT = re.compile(r"truncat|premature end of jpeg file|unexpected end|bytes but only got|buffer is not large", re.I)


class BrokenImage(Exception):  # noqa: N818 - a finding about a file, which its caller turns into a Problem
    """A file whose bytes can't be decoded to a picture.

    Args:
        kind: A stable word by which programs tell the causes apart.
        message: What was got, what was expected and what to do; the caller prefixes the file's name.
    """

    def __init__(self, kind: Breakage, message: str) -> None:
        self.kind: Breakage = kind
        super().__init__(message)

    def __reduce__(self) -> tuple[type["BrokenImage"], tuple[Breakage, str]]:
        return type(self), (self.kind, str(self))


def decode_image(
    data: bytes, *, min_side_px: int = 0, pixel_limit: int = DEFAULT_PIXEL_LIMIT, colour: Colour = "auto"
) -> Pixels:
    """Decode JPEG, PNG, WebP, BMP, TIFF or GIF (its first frame) into an upright array.

    The EXIF orientation is applied, transparency is laid on white (on black where light strokes would vanish on
    white), and deeper pixels are scaled to 8 bits. JPEGs go through simplejpeg, which stops at damage that Pillow
    silently fills with grey: of 400 drawings with three flipped bytes each, Pillow decoded 256 that simplejpeg refuses,
    with pixels 52 levels off on average.

    Args:
        data: All bytes of an image file; its name and suffix play no part.
        min_side_px: A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides keep this many pixels;
            0 decodes in full.
        pixel_limit: The most pixels that the header may announce; checked before anything is decoded.
        colour: `auto` makes a picture whose channels agree grey, `grey` makes every picture grey, `rgb` leaves the
            channels as the file has them.

    Returns:
        Pixels (h, w) if grey, otherwise (h, w, 3) in RGB order; contiguous.

    Raises:
        BrokenImage: If the bytes are empty, cut short, damaged, too large, or no image.
    """
    if not data:
        raise BrokenImage("empty", "has 0 bytes, expected an image. Fetch it again or remove it.")
    try:
        pixels, orientation = _decode(data, min_side_px, pixel_limit, colour)
        return np.ascontiguousarray(_upright(settle_colour(pixels, colour), orientation))
    except BrokenImage:
        raise
    except Exception as error:  # decoders raise anything: SyntaxError, struct.error, MemoryError ...
        raise _as_broken(data, error) from error


def is_grey(pixels: Pixels) -> bool:
    """Return whether fewer than 0.1 % of a picture's pixels have channels more than 16 levels apart."""
    if pixels.ndim == 2:
        return True
    height, width, _ = pixels.shape
    limit = max(1.0, COLOURED_FRACTION * height * width)
    rows_at_once = max(1, 2**18 // width)  # stays in the processor's cache, and a coloured picture answers early
    coloured = 0
    for start in range(0, height, rows_at_once):
        coloured += _count_coloured(pixels[start : start + rows_at_once])
        if coloured >= limit:
            return False
    return True


def to_grey(pixels: Pixels) -> UInt8[np.ndarray, "h w"]:
    """Reduce a picture, in RGB order, to its luma (ITU-R 601, as Pillow and JPEG have it); a grey one is returned itself."""
    if pixels.ndim == 2:
        return pixels
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))


def settle_colour(pixels: Pixels, colour: Colour) -> Pixels:
    """Reduce a picture, in RGB order, to grey where it has no colour, or where `colour` says so, as in `decode_image`."""
    if pixels.ndim == 2 or colour == "rgb":
        return pixels
    if _channels_are_equal(pixels):
        return np.ascontiguousarray(pixels[..., 1])
    return to_grey(pixels) if colour == "grey" or is_grey(pixels) else pixels


def _channels_are_equal(pixels: Pixels) -> bool:
    """Compare neighbouring bytes: 0.06 ms on 400 x 400, half of what comparing strided channels takes."""
    height, width, _ = pixels.shape
    within_pixel = np.tile(np.array([255, 255, 0], np.uint8), width)[:-1]
    flat = pixels.reshape(height, -1)
    return not np.any((flat[:, 1:] ^ flat[:, :-1]) & within_pixel)


def _count_coloured(pixels: Pixels) -> int:
    """Count the pixels whose channels are far apart, on whole rows of bytes (twice as fast as on channels)."""
    height, width, _ = pixels.shape
    pixel_starts = np.tile(np.array([True, False, False]), width)[:-2]
    flat = pixels.reshape(height, -1)
    red, green, blue = flat[:, :-2], flat[:, 1:-1], flat[:, 2:]
    highest = np.maximum(np.maximum(red, green), blue)
    lowest = np.minimum(np.minimum(red, green), blue)
    return int(np.count_nonzero((highest - lowest > GREY_SPREAD) & pixel_starts))


def _decode(data: bytes, min_side_px: int, pixel_limit: int, colour: Colour) -> tuple[Pixels, int]:
    """Pixels as stored, and the EXIF orientation."""
    if _format_of(data) == "JPEG":
        _check_scans(data)
        try:
            return _decode_jpeg(data, min_side_px, pixel_limit, colour), _jpeg_orientation(data)
        except ValueError as error:
            if DAMAGED_JPEG.search(str(error)):
                raise
    _check_complete(data)
    return _decode_with_pillow(data, pixel_limit)


def _decode_jpeg(data: bytes, min_side_px: int, pixel_limit: int, colour: Colour) -> Pixels:
    pixels: Pixels
    height, width, stored, _ = simplejpeg.decode_jpeg_header(data)
    _check_pixel_count(width, height, pixel_limit)
    # A JPEG's Y is ITU-R 601 luma. The RGB of CMYK and YCCK differs from Pillow's by at most one level.
    grey = stored == "Gray" or (colour == "grey" and stored == "YCbCr")
    factor = _reduction(min(width, height), min_side_px)
    size = {"min_height": -(-height // factor), "min_width": -(-width // factor)}
    try:
        pixels = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", **size)
    except ValueError as error:
        if not HARMLESS_JPEG.search(str(error)):
            raise
        log.info("a JPEG has bytes left over before its end (%s); no pixel is lost, so it is read", error)
        pixels = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", strict=False, **size)
    return pixels[..., 0] if grey else pixels


def _reduction(shorter_px: int, min_side_px: int) -> int:
    """Powers of two only: 5/8 has no SIMD code and took 1.62 ms where 1/2 took 0.82 and full size 1.06 (800 px)."""
    factor = 1
    while min_side_px > 0 and factor < 8 and shorter_px >= 2 * factor * min_side_px:
        factor *= 2
    return factor


def _decode_with_pillow(data: bytes, pixel_limit: int) -> tuple[Pixels, int]:
    # Pillow warns of bombs and of odd metadata; the limit is checked here, and the pixels don't depend on metadata.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            _check_pixel_count(*image.size, pixel_limit)
            image.load()
            orientation = 1
            with contextlib.suppress(Exception):  # damaged metadata is no reason to refuse a picture
                orientation = image.getexif().get(ORIENTATION_TAG, 1)
            return _to_8_bits(image), orientation


def _to_8_bits(image: Image.Image) -> Pixels:
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_to_8_bits(np.asarray(image), deep=image.mode.startswith("I;16"))
    if image.has_transparency_data:
        return _flatten(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _scale_to_8_bits(values: np.ndarray, *, deep: bool) -> UInt8[np.ndarray, "h w"]:
    """Find the scale from the mode or, where that says nothing, from the largest value."""
    fractions = values.dtype.kind == "f"
    values = np.nan_to_num(values.astype(np.float32))
    largest = float(values.max())
    if deep:
        full_scale = 65535.0
    elif fractions and largest <= 1:
        full_scale = 1.0
    else:
        full_scale = 255.0 if largest <= 255 else max(65535.0, largest)
    return np.clip(np.rint(values / full_scale * 255), 0, 255).astype(np.uint8)


def _flatten(rgba: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """Lay a transparent picture on white paper, or on black if white would swallow its strokes."""
    on_white = _lay_on(rgba, 255)
    alpha = rgba[..., 3]
    strokes_are_in_alpha = int(alpha.max()) - int(alpha.min()) >= VISIBLE_CONTRAST
    if strokes_are_in_alpha and np.ptp(to_grey(on_white)) < VISIBLE_CONTRAST:
        return _lay_on(rgba, 0)
    return on_white


def _lay_on(rgba: UInt8[np.ndarray, "h w 4"], paper: int) -> UInt8[np.ndarray, "h w 3"]:
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + paper * (255 - alpha) + 127) // 255).astype(np.uint8)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo the EXIF orientation (TIFF 6.0, tag 274); unknown values leave the picture as it is."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _jpeg_orientation(data: bytes) -> int:
    """Read the tag from the first directory of the Exif segment, which stands at the file's head."""
    start = data.find(b"Exif\x00\x00", 0, 65536)
    if start < 0:
        return 1
    exif = data[start + 6 : start + 6 + 65536]
    order = "<" if exif[:2] == b"II" else ">"
    with contextlib.suppress(struct.error):
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(entries):
            tag, value = struct.unpack_from(order + "H6xH", exif, directory + 2 + 12 * entry)
            if tag == ORIENTATION_TAG:
                return int(value)
    return 1


def _format_of(data: bytes) -> str | None:
    return next((name for signature, name in SIGNATURES.items() if data.startswith(signature)), None)


def _check_pixel_count(width: int, height: int, pixel_limit: int) -> None:
    if width * height > pixel_limit:
        got = f"announces {width} x {height} = {width * height} pixels"
        raise BrokenImage("too_large", f"{got}, expected at most {pixel_limit}. Reduce it or raise the pixel limit.")


def _check_scans(data: bytes) -> None:
    scans = data.count(b"\xff\xda")  # in coded pixels a zero follows each 0xff
    if scans > MAX_SCANS:
        raise BrokenImage("too_large", f"has {scans} scans, expected at most {MAX_SCANS}. Save it anew or remove it.")


def _check_complete(data: bytes) -> None:
    """Find truncated files that decoders don't report, or not clearly."""
    name = _format_of(data)
    if name == "PNG" and b"IEND" not in data:
        raise _cut_short(data, "no IEND chunk")
    if name == "WebP":
        announced = int.from_bytes(data[4:8], "little") + 8
        if announced > len(data) + 1:  # some writers leave out the last padding byte
            raise _cut_short(data, f"its header announces {announced}")


def _cut_short(data: bytes, words: str) -> BrokenImage:
    what = f"a whole {_format_of(data) or 'image'}"
    return BrokenImage(
        "truncated", f"breaks off after {len(data)} bytes ({words}), expected {what}. Fetch it again or remove it."
    )


def _as_broken(data: bytes, error: Exception) -> BrokenImage:
    """Turn a decoder's exception into a `BrokenImage` that keeps its words."""
    words = (str(error).splitlines() or [""])[0][:200].rstrip(". ") or type(error).__name__
    name = _format_of(data)
    if isinstance(error, Image.DecompressionBombError) or "MAX_TEXT" in words:
        return BrokenImage("too_large", f"is a decompression bomb ({words}), expected a picture. Save it anew or remove it.")
    if CUT_SHORT.search(words):
        return _cut_short(data, words)
    if isinstance(error, UnidentifiedImageError):
        if name is None:
            return _not_an_image(data)
        words = "no readable header, perhaps cut short"
    got = f"can't be decoded ({words})"
    return BrokenImage("unreadable", f"{got}, expected an undamaged {name or 'image'}. Save it anew or remove it.")


def _not_an_image(data: bytes) -> BrokenImage:
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    web_page = head.startswith((b"<!doctype html", b"<html", b"<head", b"<body"))
    got = "holds a web page (HTML)" if web_page else f"starts with the bytes {data[:8]!r}"
    return BrokenImage("not_an_image", f"{got}, expected a JPEG, PNG, WebP, BMP, TIFF or GIF. Fetch it again or remove it.")
