"""Operations that change ink and paper without moving pixels: thin and thick lines, lost strokes, blur, grain, JPEG.

All of them are whole-number arithmetic on 8-bit pixels, or OpenCV's bit-exact Gaussian: the same bytes on any machine.
Drawings are dark on light, as preprocessing leaves them.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg
from jaxtyping import UInt8

from inkfold.augment.rng import Draws
from inkfold.images.decode import Pixels
from inkfold.images.preprocess import ink_depth

PATCHES_PER_SIDE = 14  # size of what stroke dropout takes: a fourteenth of the side
FRACTION_BITS = 8
GRAIN_BYTES = 4
JPEG_SUBSAMPLING = "420"

Paper = UInt8[np.ndarray, "*channels"]


def apply_ink(name: str, pixels: Pixels, amount: float, paper: Paper, draws: Draws) -> Pixels:
    """Apply one photometric operation.

    Args:
        name: An operation of `operations.KINDS` that isn't geometric.
        pixels: The drawing, 0 to 255, (s, s) or (s, s, 3) in RGB order; it isn't changed.
        amount: Strength drawn from the operation's range, in its unit; ignored by operations without a number.
        paper: The paper's grey value or RGB colour, 0 to 255; it says whether ink is darker or lighter, and replaces lost ink.
        draws: Random numbers of this operation on this drawing, such as where ink is lost.

    Returns:
        Pixels of the same shape; `pixels` itself if nothing changes.
    """
    return _OPERATIONS[name](pixels, amount, paper, draws)


def _thin(pixels: Pixels, amount: float, paper: Paper, draws: Draws) -> Pixels:
    return _morphed(pixels, amount, cv2.erode if _is_dark(paper) else cv2.dilate)


def _thicken(pixels: Pixels, amount: float, paper: Paper, draws: Draws) -> Pixels:
    return _morphed(pixels, amount, cv2.dilate if _is_dark(paper) else cv2.erode)


def _is_dark(paper: Paper) -> bool:
    return float(np.mean(paper)) < 128


def _morphed(pixels: Pixels, amount: float, operator: Callable[[Pixels, Pixels], Pixels]) -> Pixels:
    """Move the ink's edge by half the amount on each side; the part of a pixel is a mixture of before and after."""
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    kernels = (cross, np.ones((3, 3), np.uint8))  # in turn: nearly round
    whole, part = divmod(amount / 2, 1)
    for i in range(int(whole)):
        pixels = operator(pixels, kernels[i % 2])
    weight = round(part * 2**FRACTION_BITS)
    return _mixed(pixels, operator(pixels, kernels[int(whole) % 2]), weight) if weight else pixels


def _mixed(before: Pixels, after: Pixels, weight: int) -> Pixels:
    mixture = before.astype(np.uint16) * (2**FRACTION_BITS - weight) + after.astype(np.uint16) * weight
    return _as_pixels((mixture + 2 ** (FRACTION_BITS - 1)) >> FRACTION_BITS)


def _stroke_dropout(pixels: Pixels, amount: float, paper: Paper, draws: Draws) -> Pixels:
    """Remove a share of the ink where a smooth random surface is highest, so that whole pieces of lines vanish."""
    side = len(pixels)
    ink = ink_depth(pixels, paper)
    wanted = round(amount * int(ink.sum()))
    if not wanted:
        return pixels
    patches = draws.bytes(PATCHES_PER_SIDE**2).reshape(PATCHES_PER_SIDE, PATCHES_PER_SIDE)
    surface = cv2.resize(patches, (side, side), interpolation=cv2.INTER_LINEAR_EXACT)
    surface = cv2.dilate(surface, np.ones((3, 3), np.uint8))  # a pixel wider than the strokes: their soft edges go with them
    by_height = np.bincount(surface.ravel(), weights=ink.ravel(), minlength=256)
    lost_above = np.cumsum(by_height[::-1])[::-1]
    height = int(np.argmin(np.abs(lost_above - wanted)))
    if lost_above[height] > 2 * wanted:  # a single blot: all of it or nothing
        return pixels
    return _papered(pixels, surface >= height, paper)


def _erase(pixels: Pixels, amount: float, paper: Paper, draws: Draws) -> Pixels:
    """Blank a rectangle of this share of the page, its sides in a ratio of 1:3 to 3:1 where it fits."""
    side = len(pixels)
    height = min(1.0, max(amount, math.sqrt(amount * 3 ** draws.uniform(-1, 1))))
    sides = [round(side * share) for share in (height, amount / height if height else 0.0)]
    top, left = (draws.whole(side - length) for length in sides)
    blank = np.zeros(pixels.shape[:2], bool)
    blank[top : top + sides[0], left : left + sides[1]] = True
    return _papered(pixels, blank, paper)


def _sharpen(pixels: Pixels, amount: float, paper: Paper, draws: Draws) -> Pixels:
    weight = round(amount * 2**FRACTION_BITS)
    values = pixels.astype(np.int32)
    sharper = values + (((values - _smoothed(pixels, 1.0)) * weight) >> FRACTION_BITS)
    return _as_pixels(sharper)


def _contrast(pixels: Pixels, amount: float, paper: Paper, draws: Draws) -> Pixels:
    weight = round(amount * 2**FRACTION_BITS)
    values = pixels.astype(np.int32) - paper
    return _as_pixels(((values * weight) >> FRACTION_BITS) + paper)


def _noise(pixels: Pixels, amount: float, paper: Paper, draws: Draws) -> Pixels:
    """Add the paper's grain: half of its variance pixel by pixel, half in soft spots; the same in every channel."""
    side = len(pixels)
    fine = _grain(draws, side)
    spots = _grain(draws, side // 8 + 2)
    soft = cv2.resize(spots.astype(np.int16), (side, side), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.int32)
    # A sum of bytes has deviation sqrt(n (256^2 - 1) / 12); bilinear widening keeps 4/9 of the spots' variance.
    deviation = math.sqrt(GRAIN_BYTES * (256 * 256 - 1) / 12)
    weights = [round(amount * math.sqrt(share) / deviation * 2**16) for share in (0.5, 0.5 * 9 / 4)]
    grain = (fine * weights[0] + soft * weights[1] + 2**15) >> 16
    grain = grain if pixels.ndim == 2 else grain[..., None]
    return _as_pixels(pixels + grain)


def _jpeg(pixels: Pixels, amount: float, paper: Paper, draws: Draws) -> Pixels:
    quality = round(amount)
    if pixels.ndim == 2:
        coded = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels[..., None]), quality, colorspace="GRAY", fastdct=False)
        decoded: Pixels = simplejpeg.decode_jpeg(coded, colorspace="GRAY", fastdct=False)[..., 0]
        return decoded
    coded = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", JPEG_SUBSAMPLING, fastdct=False)
    return np.asarray(simplejpeg.decode_jpeg(coded, colorspace="RGB", fastdct=False))


_OPERATIONS: dict[str, Callable[[Pixels, float, Paper, Draws], Pixels]] = {
    "thin": _thin,
    "thicken": _thicken,
    "stroke_dropout": _stroke_dropout,
    "erase": _erase,
    "blur": lambda pixels, amount, paper, draws: _smoothed(pixels, amount),
    "sharpen": _sharpen,
    "contrast": _contrast,
    "invert": lambda pixels, amount, paper, draws: 255 - pixels,
    "noise": _noise,
    "jpeg": _jpeg,
}


def _papered(pixels: Pixels, where: np.ndarray, paper: Paper) -> Pixels:
    blanked = pixels.copy()
    blanked[where] = paper
    return blanked


def _as_pixels(values: np.ndarray) -> Pixels:
    pixels: Pixels = np.clip(values, 0, 255).astype(np.uint8)
    return pixels


def _smoothed(pixels: Pixels, sigma: float) -> Pixels:
    if sigma < 0.1:
        return pixels
    taps = 2 * math.ceil(3 * sigma) + 1
    return cv2.GaussianBlur(pixels, (taps, taps), sigma, borderType=cv2.BORDER_REPLICATE)


def _grain(draws: Draws, side: int) -> np.ndarray:
    """Nearly normal whole numbers of mean zero, as sums of bytes."""
    drawn = draws.bytes(GRAIN_BYTES * side * side).reshape(GRAIN_BYTES, side, side)
    grain: np.ndarray = 2 * drawn.sum(0, dtype=np.int32) - 255 * GRAIN_BYTES
    return grain >> 1
