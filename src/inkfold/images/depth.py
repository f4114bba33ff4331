"""Scales pixels of any depth to 8 bits, by the part of the range that a picture uses.

A file of 16 bits often holds what a scanner or camera measured in 10, 12 or 14, and would come out nearly black. So its
full scale is that of the smallest usual depth (8, 10, 12, 14 or 16 bits) that holds its largest value. A page of zeros
stays black.
"""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from inkfold.images.colour import Pixels
from inkfold.images.orientation import without_orientation
from inkfold.images.transparency import VISIBLE_CONTRAST, flatten

FULL_SCALES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))
FULL_SCALE_OF_14_BITS = 2**14 - 1
HIGH_BYTE_OF_14_BITS = FULL_SCALE_OF_14_BITS >> 8
OVERSHOOT = 0.1  # interpolation leaves a range of floats by less
FAINT = 1 / 16  # floats have no depth: those below this part of their scale are scaled by their largest
BLACK = 1e-6
LOSSLESS = ("PNG", "TIFF", "BMP")
BITS_TAG, PHOTOMETRIC_TAG, SAMPLE_FORMAT_TAG = 258, 262, 339
WHITE_IS_ZERO = 0  # Pillow inverts such TIFFs only up to 8 bits
SIGNED = 2
SAMPLING = 8
STRIP_VALUES = 2**18


def to_8_bits(image: Image.Image, data: bytes) -> Pixels:
    """Turn a loaded picture of any mode into opaque pixels of 8 bits.

    Args:
        image: The picture, as Pillow decoded it; the current frame is taken.
        data: The file's bytes, from which colours of 16 bits, of which Pillow keeps the upper 8, are read again if
            these hold too little.

    Returns:
        (h, w) or (h, w, 3) in RGB order; transparent pictures always have three channels.
    """
    if image.mode.startswith("I") or image.mode == "F":
        values, tags = np.asarray(image), getattr(image, "tag_v2", {})
        if image.format == "TIFF" and 16 in tags.get(BITS_TAG, ()) and tags.get(SAMPLE_FORMAT_TAG) == (SIGNED,):
            values = values.astype(np.int16)
        return scale_to_8_bits(values, white_is_zero=image.format == "TIFF" and tags.get(PHOTOMETRIC_TAG) == WHITE_IS_ZERO)
    if image.mode in ("RGB", "RGBA", "LA") and _has_16_bits(image, data):
        return _from_deep_colours(image, data)
    if image.has_transparency_data:
        return _or_indices(image, flatten(_to_rgba(image)))
    if image.mode == "L" and image.format in LOSSLESS and image.getextrema() == (0, 1):
        return np.asarray(image) * np.uint8(255)  # a mask of zeros and ones, saved without scaling
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return _or_indices(image, np.asarray(image if image.mode == mode else image.convert(mode)))


def scale_to_8_bits(values: np.ndarray, *, white_is_zero: bool = False) -> UInt8[np.ndarray, "h w *channels"]:
    """Scale numbers of any type to 0..255, by the rule at the head of this module.

    Integers of only 0 and 1 are a mask; signed ones that go below zero are spread from the lowest to the largest.
    Floats are on the scale 0..1, 0..255 or one of the depths, may leave it by a tenth, and count as 0 where they aren't
    a number; those that use less than a sixteenth of it, or go far below zero, are spread like signed integers.

    Args:
        values: Numbers of an integer or float type.
        white_is_zero: Whether 0 is white, as TIFF allows.

    Returns:
        The levels, of the shape of the values.
    """
    if values.dtype.kind == "f":
        values = _finite(values)
        lowest, full_scale = _float_range(float(values.min()), float(values.max()))
    else:
        lowest, full_scale = _integer_range(int(values.min()), int(values.max()), signed=values.dtype == np.int16)
    levels = np.empty(values.shape, np.uint8)
    rows_at_once = max(1, STRIP_VALUES // max(1, values[0].size))  # what lies between takes a few MB, not the picture's size
    for start in range(0, len(values), rows_at_once):
        rows = values[start : start + rows_at_once]
        if rows.dtype.kind != "f":
            rows = rows.astype(np.float32)
        shifted = rows - lowest if lowest else rows
        scaled = np.clip(np.rint(shifted / full_scale * 255), 0, 255).astype(np.uint8)
        levels[start : start + rows_at_once] = 255 - scaled if white_is_zero else scaled
    return levels


def _integer_range(lowest: int, largest: int, *, signed: bool) -> tuple[float, float]:
    if lowest < 0:
        return float(lowest), float(largest - lowest) or 1.0
    if largest == 1:
        return 0.0, 1.0
    full_scales = (*FULL_SCALES[:-1], FULL_SCALES[-1] // 2) if signed else FULL_SCALES
    return 0.0, float(next((full for full in full_scales if largest <= full), largest))


def _float_range(lowest: float, largest: float) -> tuple[float, float]:
    """Return the value that becomes 0, and the width of the range that becomes 255."""
    full_scale = next((float(full) for full in (1, *FULL_SCALES) if largest <= full * (1 + OVERSHOOT)), largest)
    if lowest < -OVERSHOOT * max(largest, BLACK):
        return lowest, largest - lowest or 1.0
    if BLACK < largest < FAINT * full_scale:
        return 0.0, largest
    return 0.0, full_scale


def _finite(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64 if values.dtype.itemsize > np.dtype(np.float32).itemsize else np.float32)
    finite = np.isfinite(values)
    if finite.all():
        return values
    kept = values[finite] if finite.any() else np.zeros(1)
    finite_only: np.ndarray = np.nan_to_num(values, nan=0.0, posinf=float(kept.max()), neginf=float(kept.min()))
    return finite_only


def _or_indices(image: Image.Image, pixels: Pixels) -> Pixels:
    """Read a picture's indices where its palette gives all of them one colour: all but the most frequent are ink."""
    if image.mode != "P" or np.any(pixels[::SAMPLING, ::SAMPLING] != pixels[0, 0]) or np.any(pixels != pixels[0, 0]):
        return pixels
    indices = np.asarray(image)
    paper = np.argmax(np.bincount(indices.ravel()))
    return np.where(indices == paper, 255, 0).astype(np.uint8) if np.any(indices != paper) else pixels


def _to_rgba(image: Image.Image) -> UInt8[np.ndarray, "h w 4"]:
    """Convert a picture strip by strip: Pillow's own conversions and copies would be four pictures at once."""
    width, height = image.size
    rgba = np.empty((height, width, 4), np.uint8)
    rows_at_once = max(1, STRIP_VALUES // max(1, width))
    for top in range(0, height, rows_at_once):
        rows = image.crop((0, top, width, min(height, top + rows_at_once)))
        straight = rows.convert({"La": "LA", "RGBa": "RGBA"}[rows.mode]) if rows.mode in ("La", "RGBa") else rows
        rgba[top : top + rows_at_once] = np.asarray(straight if straight.mode == "RGBA" else straight.convert("RGBA"))
    return rgba


def _has_16_bits(image: Image.Image, data: bytes) -> bool:
    if image.format == "PNG":
        return data[24:25] == b"\x10"
    return image.format == "TIFF" and 16 in getattr(image, "tag_v2", {}).get(BITS_TAG, ())


def _from_deep_colours(image: Image.Image, data: bytes) -> Pixels:
    """Take the upper bytes, as Pillow does, or scale all 16 bits where these use less than 15."""
    rgba = _to_rgba(image)
    alpha = rgba[..., 3]
    faint = [part for part in (np.s_[..., :3], np.s_[..., 3]) if rgba[part].max() <= HIGH_BYTE_OF_14_BITS]
    deep = read_deep(data) if faint and image.tell() == 0 else None
    if deep is None or deep.shape[:2] != rgba.shape[:2] or deep.shape[2:] not in ((3,), (4,)):
        return flatten(rgba)
    deep_alpha = deep[..., 3] if deep.shape[2] == 4 else alpha.astype(np.uint16) * 257
    if 0 < deep_alpha.max() <= FULL_SCALE_OF_14_BITS:
        rgba[..., 3] = scale_to_8_bits(deep_alpha)
    strokes_are_in_alpha = np.ptp(rgba[..., 3]) >= VISIBLE_CONTRAST
    if not strokes_are_in_alpha and deep[..., :3].max() <= FULL_SCALE_OF_14_BITS:
        rgba[..., :3] = scale_to_8_bits(deep[..., :3])
    return flatten(rgba)


def read_deep(data: bytes) -> np.ndarray | None:
    """Decode a PNG's or TIFF's first picture without reducing its depth.

    Args:
        data: The file's bytes; the size that they announce must have been checked before.

    Returns:
        Numbers of the file's own type, (h, w), (h, w, 3) in RGB order or (h, w, 4) with alpha; None where OpenCV can't
        decode them.
    """
    import cv2  # noqa: PLC0415 - 160 ms that only such files need to pay

    logging = cv2.utils.logging
    log_level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # damage shows in the result, not on the terminal
    try:
        pixels = cv2.imdecode(np.frombuffer(without_orientation(data), np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        logging.setLogLevel(log_level)
    if pixels is None or pixels.size == 0 or pixels.ndim not in (2, 3):
        return None
    values: np.ndarray = pixels
    channels = values.shape[2] if values.ndim == 3 else 0
    if channels == 2:
        return values[..., [0, 0, 0, 1]]
    if channels in (3, 4):  # in place: red and blue change places
        blue = values[..., 0].copy()
        values[..., 0], values[..., 2] = values[..., 2], blue
    return values
