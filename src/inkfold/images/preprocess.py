"""Turns any drawing into a square of dark ink on light paper: paper colour, inversion, cropping and resizing."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from inkfold.config.sections import ImageSettings, Interpolation, Paper, Resize
from inkfold.images.colour import sampling_step
from inkfold.images.decode import Pixels, settle_colour, to_grey
from inkfold.images.page import PAGE_SIDE_PX, Page

if TYPE_CHECKING:
    from inkfold.images.ink_box import Box

FITTING_VERSION = 4  # part of the cache's key: raise it whenever the bytes that come out change

# JPEGs are decoded at 1/2 where that leaves 1.5 times the final size (and a page of 768 px, which all that is made of the
# drawing shares). At 800 px for 224 (ten line drawings) the result of halving is 42.4 to 42.9 dB PSNR from that of the full
# decode; 5/8, what a factor of 2 asks for, gave 43.9 to 44.5 dB and took twice as long to decode.
OVERSAMPLING = 1.5
BORDER_FRACTION = 0.02
DARK_LUMA = 100
INK_CONTRAST = 32
CROP_MARGIN_FRACTION = 0.05
POLARITY_SAMPLED_PX, PAGE_SAMPLED_PX = 256, 64  # rows or columns of the shorter side that a median is taken of

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class ImageOptions(ImageSettings):
    """The recipe's section `image` with what the backbone decides, its grey colour among that where it takes one channel."""

    size_px: int
    """Side of the square, in px."""
    resize: Resize = "pad"
    """How a page becomes a square: `image.resize` with `auto` settled."""
    paper: Paper = "keep"
    """What is done about the paper, as `image.paper`, whose `auto` is decided for each page."""
    interpolation: Interpolation = "bicubic"
    """How pages are resized."""

    def key(self) -> dict[str, Any]:
        """Name all that decides the pixels, under the names that caches and exported files have."""
        return {
            "size_px": self.size_px,
            "fit": self.resize,
            "colour": self.colour,
            "invert": self.invert,
            "interpolation": self.interpolation,
            "pixel_limit": self.pixel_limit,
            "paper": self.paper,
        }

    @classmethod
    def from_key(cls, key: Mapping[str, Any]) -> "ImageOptions":
        """Rebuild from `key`; keys from before paper was read keep it."""
        return cls(resize=key["fit"], **{"paper": "keep", **{name: value for name, value in key.items() if name != "fit"}})


def read_drawing(data: bytes, options: ImageOptions) -> Pixels:
    """Decode a file's bytes and turn the drawing into a square.

    Args:
        data: All bytes of an image file; its name and suffix play no part.
        options: Size, colour, polarity, fit and interpolation of the square.

    Returns:
        (S, S) if grey, otherwise (S, S, 3) in RGB order.

    Raises:
        BrokenImage: If the bytes can't be decoded, as by `decode_image`.
    """
    return square_of(Page(data, options.pixel_limit), options)


def square_of(page: Page, options: ImageOptions) -> Pixels:
    """Turn a drawing's page into a square, as `read_drawing` does; several squares share the page's decode.

    Args:
        page: The drawing's file, which is decoded if it wasn't yet.
        options: Size, colour, polarity, fit and interpolation of the square; their pixel limit is the page's.

    Returns:
        (S, S) if grey, otherwise (S, S, 3) in RGB order.

    Raises:
        BrokenImage: If the page can't be decoded, as by `decode_image`.
    """
    dark = dark_ink(page, options)
    return to_square(crop_to_ink(dark) if options.resize == "crop_to_ink" else dark, options)


def dark_ink(page: Page, options: ImageOptions) -> Pixels:
    """Decode a page, flatten its paper if it is photographed, and turn it to dark ink on light paper, without cropping it.

    Args:
        page: The drawing's file, which is decoded if it wasn't yet.
        options: Colour, polarity and paper; the square's size and resizing decide how far a JPEG is reduced.

    Returns:
        (h, w) if grey, otherwise (h, w, 3) in RGB order.

    Raises:
        BrokenImage: If the page can't be decoded, as by `decode_image`.
    """
    min_side_px = _needed_side_px(page, options)
    if options.paper == "auto":  # the page flattens itself once, for whatever is made of it
        flat = page.flattened(options.colour, min_side_px)
    else:
        flat = flatten_photographed(page.pixels(options.colour, min_side_px), options)
    return _with_dark_ink(flat, options)


def decode_drawing(data: bytes, options: ImageOptions) -> Pixels:
    """Decode a file's bytes and settle the colour, without making a square yet.

    Args:
        data: All bytes of an image file; its name and suffix play no part.
        options: Options of the square; they decide the colour, and how far a JPEG is reduced.

    Returns:
        (h, w) if grey, otherwise (h, w, 3) in RGB order; JPEGs reduced where the square needs less.

    Raises:
        BrokenImage: If the bytes can't be decoded, as by `decode_image`.
    """
    page = Page(data, options.pixel_limit)
    return page.pixels(options.colour, _needed_side_px(page, options))


def preprocess(pixels: Pixels, options: ImageOptions) -> Pixels:
    """Turn a decoded picture, in RGB order, into a square with the colour, polarity, fit and interpolation of the options."""
    return to_square(on_paper(settle_colour(pixels, options.colour), options), options)


def stack_squares(squares: Sequence[Pixels]) -> UInt8[np.ndarray, "n size size *channels"]:
    """Stack squares of one size into one array; grey ones get three channels only if others have colour."""
    if len({square.ndim for square in squares}) > 1:
        squares = [square if square.ndim == 3 else np.repeat(square[..., None], 3, 2) for square in squares]
    return np.stack(squares)


def paper_colour(pixels: Pixels) -> UInt8[np.ndarray, "*channels"]:
    """Estimate the paper's colour as the median of the border, channel by channel."""
    border = _border(pixels)[0]
    return (
        np.array(_median(border), np.uint8)
        if border.ndim == 1
        else np.array([_median(channel) for channel in border.T], np.uint8)
    )


def _median(values: UInt8[np.ndarray, " n"]) -> int:
    """Count instead of sorting: a fifth of the time that np.median takes."""
    places = np.searchsorted(np.cumsum(np.bincount(values, minlength=256)), ((len(values) + 1) // 2, len(values) // 2 + 1))
    return int(places.sum()) // 2


def is_light_on_dark(pixels: Pixels) -> bool:
    """Return whether light strokes are drawn on a dark ground.

    Both the border's median luma and that of the whole picture must be dark: a heavily filled drawing has a light
    border, and a dark frame has a light middle. An all-black picture counts as dark ground without strokes.
    """
    if np.median(to_grey(_border(pixels))) >= DARK_LUMA:
        return False
    step = sampling_step(pixels, POLARITY_SAMPLED_PX)
    return bool(np.median(to_grey(pixels[::step, ::step])) < DARK_LUMA)


def inverted(pixels: Pixels) -> Pixels:
    """Swap light and dark and keep the hue: 255 - x for grey; for RGB x + 255 - (max + min), HSL's lightness mirrored."""
    if pixels.ndim == 2:
        return 255 - pixels
    lowest, highest = pixels.min(axis=2, keepdims=True), pixels.max(axis=2, keepdims=True)
    mirrored: Pixels = (pixels - lowest) + (255 - highest)  # neither half nor their sum leaves 0..255
    return mirrored


def ink_depth(pixels: Pixels, paper: UInt8[np.ndarray, "*channels"]) -> UInt8[np.ndarray, "h w"]:
    """Measure how far each pixel is from the paper in its most distant channel: 0 for paper, at least 32 for ink."""
    import cv2  # noqa: PLC0415 - 160 ms that only those need to pay who ask for the ink

    levels = np.arange(256)[:, None] - np.atleast_1d(paper).astype(np.int64)
    depths = np.where(np.abs(levels) >= INK_CONTRAST, np.abs(levels), 0).astype(np.uint8)
    if pixels.ndim == 2:
        return cv2.LUT(pixels, depths[:, 0])
    red, green, blue = cv2.split(cv2.LUT(pixels, depths[None]))
    return cv2.max(cv2.max(red, green), blue)


def paper_distance(pixels: Pixels, paper: UInt8[np.ndarray, "*channels"]) -> UInt8[np.ndarray, "h w"]:
    """Measure how far each pixel is from the paper in its most distant channel, in levels."""
    distance: np.ndarray = np.maximum(pixels, paper) - np.minimum(pixels, paper)
    if distance.ndim == 3:  # a third of the time that max(axis=2) takes
        distance = np.maximum(np.maximum(distance[..., 0], distance[..., 1]), distance[..., 2])
    return distance


def crop_to_ink(pixels: Pixels) -> Pixels:
    """Cut away the empty page around the drawing, as `ink_box` finds it, with a margin of 5 %; a blank page stays whole."""
    box = ink_box(pixels)
    if box is None:
        return pixels
    top, left, bottom, right = with_margin(box, CROP_MARGIN_FRACTION, pixels)
    return pixels[top:bottom, left:right]


def with_margin(box: "Box", fraction: float, pixels: Pixels) -> "Box":
    """Widen a box on all sides by a fraction of its longer one, as far as the page goes."""
    top, left, bottom, right = box
    margin = round(fraction * max(bottom - top, right - left))
    height, width = pixels.shape[:2]
    return max(0, top - margin), max(0, left - margin), min(height, bottom + margin), min(width, right + margin)


def page_colour(pixels: Pixels) -> UInt8[np.ndarray, "*channels"]:
    """Estimate the paper's colour where a dark table or a scanner's lid may surround it.

    It is the lighter one of the border's median and the whole page's: a heavily filled drawing has a light border, and a
    surrounded page has a light middle.
    """
    border, step = paper_colour(pixels), sampling_step(pixels, PAGE_SAMPLED_PX)
    sampled = pixels[::step, ::step].reshape(-1, *pixels.shape[2:])
    middle = np.array([_median(channel) for channel in sampled.reshape(len(sampled), -1).T], np.uint8).reshape(border.shape)
    return middle if int(middle.sum()) > int(border.sum()) else border


def ink_box(pixels: Pixels) -> "Box | None":
    """Find the box around the drawing on a page, which specks, borders, punched holes and stamps are no part of.

    Args:
        pixels: (h, w), or (h, w, 3) in RGB order; any colours, on any paper.

    Returns:
        Top, left, bottom and right, in px, the last two exclusive; None without ink.
    """
    from inkfold.images.ink_box import find_ink_box  # noqa: PLC0415 - OpenCV: 160 ms that only cropping needs to pay

    return find_ink_box(paper_distance(pixels, page_colour(pixels)))


def on_paper(pixels: Pixels, options: ImageOptions) -> Pixels:
    """Turn a picture to dark ink on light paper, and crop it to the ink if the options say so; it isn't resized yet."""
    return _inked(flatten_photographed(pixels, options), options)


def _inked(pixels: Pixels, options: ImageOptions) -> Pixels:
    """Turn a page that needs no flattening to dark ink on light paper, and crop it."""
    pixels = _with_dark_ink(pixels, options)
    return crop_to_ink(pixels) if options.resize == "crop_to_ink" else pixels


def _with_dark_ink(pixels: Pixels, options: ImageOptions) -> Pixels:
    return inverted(pixels) if options.invert == "auto" and is_light_on_dark(pixels) else pixels


def flatten_photographed(pixels: Pixels, options: ImageOptions) -> Pixels:
    """Flatten the paper of a photographed or scanned page: what an exported file can't do, and its caller does first.

    Args:
        pixels: A decoded page, (h, w), or (h, w, 3) in RGB order.
        options: `paper` decides: `auto` flattens photographed pages, `flatten` all, `keep` none.

    Returns:
        The flattened page, at most 1280 px long; a page that isn't flattened is returned itself.
    """
    if options.paper == "keep":
        return pixels
    from inkfold.images.paper import flatten_paper, is_photographed  # noqa: PLC0415 - OpenCV: 160 ms

    return flatten_paper(pixels) if options.paper == "flatten" or is_photographed(pixels) else pixels


def _needed_side_px(page: Page, options: ImageOptions) -> int:
    """Return how many pixels of a page's shorter side the square needs at least; 0 for all."""
    needed_px = OVERSAMPLING * options.size_px
    min_side_px = max(PAGE_SIDE_PX, int(needed_px))
    pixels = page.pixels(options.colour, min_side_px)
    if options.resize == "crop_to_ink" and page.may_be_reduced and min(pixels.shape[:2]) >= min_side_px:
        box = ink_box(pixels)
        if box is not None and max(box[2] - box[0], box[3] - box[1]) < needed_px:  # little remains: it needs every pixel
            return 0
    return min_side_px


def to_square(pixels: Pixels, options: ImageOptions) -> Pixels:
    """Resize a page of dark ink on light paper to the square of the options, by padding it or by squashing it."""
    side = options.size_px
    square = _resize(pixels, side, side, options) if options.resize == "squash" else _pad(pixels, options)
    return np.repeat(square[..., None], 3, axis=2) if options.colour == "rgb" and square.ndim == 2 else square


def _pad(pixels: Pixels, options: ImageOptions) -> Pixels:
    """Scale the longer side to the square's and centre the picture on its own paper."""
    height, width = pixels.shape[:2]
    size_px = options.size_px
    scale = size_px / max(height, width)
    fitted_height, fitted_width = max(1, round(height * scale)), max(1, round(width * scale))
    fitted = _resize(pixels, fitted_height, fitted_width, options)
    if fitted_height == fitted_width:
        return fitted
    square = np.empty((size_px, size_px, *pixels.shape[2:]), np.uint8)
    square[:] = paper_colour(pixels)
    top, left = (size_px - fitted_height) // 2, (size_px - fitted_width) // 2
    square[top : top + fitted_height, left : left + fitted_width] = fitted
    return square


def _resize(pixels: Pixels, height: int, width: int, options: ImageOptions) -> Pixels:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), INTERPOLATIONS[options.interpolation]))


def _border(pixels: Pixels) -> UInt8[np.ndarray, "1 n *channels"]:
    """The outer 2 % of each side, as a picture one pixel high."""
    height, width = pixels.shape[:2]
    rows, columns = (max(1, round(BORDER_FRACTION * side)) for side in (height, width))
    edges = (pixels[:rows], pixels[-rows:], pixels[:, :columns], pixels[:, -columns:])
    return np.concatenate([edge.reshape(1, -1, *pixels.shape[2:]) for edge in edges], axis=1)


def block_maxima(ink: UInt8[np.ndarray, "h w"], factor: int) -> UInt8[np.ndarray, "rows columns"]:
    """Keep the deepest ink of each block of `factor` by `factor` pixels, so that thin lines stay whole."""
    import cv2  # noqa: PLC0415

    # The kernel begins at its own pixel: each pixel gets the maximum of the block of which it is the first.
    deepest = cv2.dilate(ink, np.ones((factor, factor), np.uint8), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.ascontiguousarray(deepest[::factor, ::factor])
