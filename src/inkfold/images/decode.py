"""Decodes an image file's bytes to an upright uint8 array; whatever a decoder raises becomes a `BrokenImage`."""

import logging
import re
import warnings

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from inkfold.config.sections import Colour, ImageSettings
from inkfold.images.colour import Pixels, is_grey, settle_colour, to_grey
from inkfold.images.cut_short import check_complete, check_rows, cut_short, ends_early
from inkfold.images.depth import BITS_TAG, PHOTOMETRIC_TAG, WHITE_IS_ZERO, read_deep, scale_to_8_bits, to_8_bits
from inkfold.images.formats import Breakage, BrokenImage, empty, format_of, open_image
from inkfold.images.frames import MAX_FRAME_PIXELS, load_page, read_frame
from inkfold.images.jpeg_segments import count_scans
from inkfold.images.orientation import (
    ORIENTATION_TAG,
    UPRIGHT,
    first_directory,
    info_orientation,
    jpeg_orientation,
    upright,
)
from inkfold.images.other_files import not_an_image
from inkfold.images.tiff_directories import check_directories
from inkfold.images.transparency import flatten

__all__ = [
    "DEFAULT_PIXEL_LIMIT",
    "Breakage",
    "BrokenImage",
    "Pixels",
    "decode_image",
    "is_grey",
    "settle_colour",
    "to_grey",
]

log = logging.getLogger("inkfold.images")

DEFAULT_PIXEL_LIMIT = ImageSettings().pixel_limit

WIDTH_TAG, HEIGHT_TAG, CHANNELS_TAG = 256, 257, 277
RARE_TIFF_TAGS = {WIDTH_TAG, HEIGHT_TAG, BITS_TAG, PHOTOMETRIC_TAG}
# As libtiff limits them: a JPEG's scan goes over all pixels, 15 ms at 25 megapixels for 42 bytes. Encoders make about ten.
MAX_SCANS = 100
WITH_DIRECTORIES = ("TIFF", "JPEG", "AVIF", "HEIF")  # of which Pillow reads all tags: of TIFFs, and of Exif blocks
START_OF_SCAN = b"\xff\xda"
# libjpeg's messages for lost pixels. A few bytes left over before the end marker (0xd9) lose none, and encoders write
# them; many mean that damage made the decoder stop early. A colour profile is no pixel.
HARMLESS_JPEG = re.compile(r"\b\d{1,2} extraneous bytes before marker 0xd9")
DAMAGED_JPEG = re.compile(r"Premature end|Corrupt JPEG data(?!: bad ICC)")
CUT_SHORT = re.compile(r"truncat|premature end of jpeg file|unexpected end|bytes but only got|buffer is not large", re.I)


def decode_image(
    data: bytes,
    *,
    min_side_px: int = 0,
    pixel_limit: int = DEFAULT_PIXEL_LIMIT,
    frame_pixels: int = MAX_FRAME_PIXELS,
    colour: Colour = "auto",
) -> Pixels:
    """Decode JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC into an upright array.

    HEIC needs the package pillow-heif or pi-heif, AVIF Pillow 11.3 or newer. The orientation in Exif, or else in XMP, is
    applied; transparency is laid on white (on black where light strokes would vanish on white, and left out where it
    hides all of a drawing); deeper pixels are scaled to 8 bits by the part of their range that is used. Of an animation
    or a TIFF of several pages, the first picture is read, unless it is blank or the drawing grows from it.

    JPEGs go through simplejpeg, which stops at damage that Pillow silently fills with grey: of 400 drawings with three
    flipped bytes each, Pillow decoded 256 that simplejpeg refuses, with pixels 52 levels off on average.

    Args:
        data: All bytes of an image file; its name and suffix play no part.
        min_side_px: A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides keep this many pixels;
            0 decodes in full.
        pixel_limit: The most pixels that the header may announce; checked before anything is decoded.
        frame_pixels: The most pixels of all frames of an animation, or pages of a TIFF, that are looked at.
        colour: `auto` makes a picture whose channels agree grey, `grey` makes every picture grey, `rgb` leaves the
            channels as the file has them.

    Returns:
        Pixels (h, w) if grey, otherwise (h, w, 3) in RGB order; contiguous.

    Raises:
        BrokenImage: If the bytes are empty, cut short, damaged, too large, no image, or one of a format that can't be
            read here; the message says what they are and what to do.
    """
    if not data:
        raise empty()
    try:
        pixels, orientation = _decode(data, min_side_px, pixel_limit, frame_pixels, colour)
        return np.ascontiguousarray(upright(settle_colour(pixels, colour), orientation))
    except Exception as error:  # decoders raise anything: SyntaxError, struct.error, MemoryError ...
        raise as_broken(data, error) from error


def _decode(data: bytes, min_side_px: int, pixel_limit: int, frame_pixels: int, colour: Colour) -> tuple[Pixels, int]:
    """Pixels as stored, and their orientation."""
    if format_of(data) == "JPEG":
        _check_scans(data)
        try:
            return _decode_jpeg(data, min_side_px, pixel_limit, colour), jpeg_orientation(data)
        except ValueError as error:
            if DAMAGED_JPEG.search(str(error)):
                raise
    check_complete(data)
    if format_of(data) in WITH_DIRECTORIES:
        check_directories(data)
    return _decode_with_pillow(data, pixel_limit, frame_pixels)


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


def _decode_with_pillow(data: bytes, pixel_limit: int, frame_pixels: int) -> tuple[Pixels, int]:
    # Pillow warns of bombs and of odd metadata; the limit is checked here, and the pixels don't depend on metadata.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = open_image(data)
        except UnidentifiedImageError:
            if format_of(data) != "TIFF" or not first_directory(data).keys() >= RARE_TIFF_TAGS:
                raise
            return _decode_rare_tiff(data, pixel_limit)
        with image:
            load_page(image, lambda width, height: _check_pixel_count(width, height, pixel_limit), frame_pixels)
            check_rows(image, data)
            pixels = read_frame(image, to_8_bits(image, data), lambda: to_8_bits(image, data), frame_pixels)
            return pixels, _orientation_of(image, data)


def _orientation_of(image: Image.Image, data: bytes) -> int:
    """Pillow turns TIFFs itself, and HEIC's decoder turns what the container says; the Exif in it doesn't count."""
    if image.format == "HEIF":
        return UPRIGHT
    if image.format == "TIFF":
        kept = image.getexif().get(ORIENTATION_TAG)
        return kept[0] if isinstance(kept, bytes) and kept else UPRIGHT  # of type BYTE, which Pillow leaves alone
    return jpeg_orientation(data) if format_of(data) == "JPEG" else info_orientation(image.info)


def _decode_rare_tiff(data: bytes, pixel_limit: int) -> tuple[Pixels, int]:
    """Decode what Pillow has no mode for, such as floats of 64 bits, or 16 bits that are big-endian with 0 for white."""
    tags = first_directory(data)
    width, height, channels = tags[WIDTH_TAG], tags[HEIGHT_TAG], tags.get(CHANNELS_TAG, 1)
    _check_pixel_count(width, height, pixel_limit)
    values = read_deep(data) if width and height else None
    if values is None or values.shape != ((height, width, channels) if channels > 1 else (height, width)):
        if ends_early(data):
            raise cut_short(data, "its pixels are missing")
        got = f"is a TIFF of {channels} channels and {tags[BITS_TAG]} bits that no decoder here reads"
        raise BrokenImage("unsupported", f"{got}, expected an undamaged one of a usual kind. Save it as PNG or remove it.")
    if values.dtype != np.uint8:
        values = scale_to_8_bits(values, white_is_zero=tags.get(PHOTOMETRIC_TAG) == WHITE_IS_ZERO)
    return flatten(values) if values.shape[2:] == (4,) else values, tags.get(ORIENTATION_TAG, UPRIGHT)


def _check_pixel_count(width: int, height: int, pixel_limit: int) -> None:
    if width * height > pixel_limit:
        got = f"announces {width} x {height} = {width * height} pixels"
        raise BrokenImage("too_large", f"{got}, expected at most {pixel_limit}. Reduce it or raise the pixel limit.")


def _check_scans(data: bytes) -> None:
    # Walking is slower than counting, and needed only where profiles or a film behind the picture look like scans.
    if data.count(START_OF_SCAN) > MAX_SCANS and count_scans(data, MAX_SCANS) > MAX_SCANS:
        got = f"has more than {MAX_SCANS} scans"
        raise BrokenImage("too_large", f"{got}, expected at most {MAX_SCANS}. Save it anew or remove it.")


def as_broken(data: bytes, error: Exception) -> BrokenImage:
    """Turn a decoder's exception into a `BrokenImage` that keeps its words.

    Args:
        data: The file's bytes, which tell its format and whether its end is missing.
        error: What the decoder raised; a `BrokenImage` is returned itself.
    """
    if isinstance(error, BrokenImage):
        return error
    words = (str(error).splitlines() or [""])[0][:200].rstrip(". ") or type(error).__name__
    name = format_of(data)
    if isinstance(error, Image.DecompressionBombError) or "MAX_TEXT" in words:
        return BrokenImage("too_large", f"is a decompression bomb ({words}), expected a picture. Save it anew or remove it.")
    if CUT_SHORT.search(words):
        return cut_short(data, words)
    if name is not None and ends_early(data):
        return cut_short(data, "its end is missing")
    if isinstance(error, UnidentifiedImageError):
        if name is None:
            return not_an_image(data)
        words = "no readable header, perhaps cut short"
    got = f"can't be decoded ({words})"
    return BrokenImage("unreadable", f"{got}, expected an undamaged {name or 'image'}. Save it anew or remove it.")
