"""Chooses the picture to read of a file that holds several: an animation's frames, or a TIFF's pages."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from inkfold.images.colour import Pixels
from inkfold.images.transparency import contrast

log = logging.getLogger("inkfold.images")

ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
MAX_FRAMES = 2048
MAX_FRAME_PIXELS = 2**27  # all frames together, 838 of 400 x 400: a few seconds
MAX_PAGES = 64
INK_CONTRAST = 32
HELD_FRACTION = 0.9
GROWTH = 1.1
SPECK_FRACTION = 1e-4  # less ink than this is no drawing: 16 pixels of 400 x 400
REDUCED_COPY_TAG = 254


@final
@dataclass(frozen=True)
class _Ink:
    """Where a frame differs from its paper, the colour that its border has at the median, and by how much in all."""

    places: Bool[np.ndarray, "h w"]
    amount: int

    def holds(self, earlier: "_Ink") -> bool:
        """Return whether nearly all of an earlier frame's ink is still there."""
        if self.places.shape != earlier.places.shape:
            return False
        ink, held = int(np.count_nonzero(earlier.places)), int(np.count_nonzero(self.places & earlier.places))
        return ink < SPECK_FRACTION * earlier.places.size or held >= HELD_FRACTION * ink


def read_frame(image: Image.Image, first: Pixels, read: Callable[[], Pixels], frame_pixels: int = MAX_FRAME_PIXELS) -> Pixels:
    """Choose the frame of an animation that shows its drawing.

    That is the first one, unless the drawing grows: of the frames that hold nine tenths of the first one's ink, the one
    with the most ink is taken, the last of equals, if it has a tenth more than the first. Where the first frame is
    blank, this is the frame with the most ink. Frames are read up to 2,048 and 134 million pixels in all; a damaged one
    ends the animation, and one that is larger than the first.

    Args:
        image: The animation, of which the first frame is loaded.
        first: The pixels of that frame.
        read: Returns the pixels of the frame that the image stands at.
        frame_pixels: The most pixels of all frames together that are looked at.

    Returns:
        The pixels of the chosen frame.
    """
    if image.format not in ANIMATED or not getattr(image, "is_animated", False):
        return first
    start = _ink_of(first)
    chosen, most = first, start.amount
    for pixels in _later_frames(image, read, frame_pixels):
        ink = _ink_of(pixels)
        if ink.amount >= most and ink.amount > GROWTH * start.amount and ink.holds(start):
            chosen, most = pixels, ink.amount
    if chosen is not first:
        log.info("an animation's first frame has less of its drawing than a later one, which is read instead")
    return chosen


def load_page(image: Image.Image, check_size: Callable[[int, int], None], frame_pixels: int = MAX_FRAME_PIXELS) -> None:
    """Load the first page of a TIFF that isn't a reduced copy of another, and that isn't of one colour.

    Where there is none such, the first page is loaded.

    Args:
        image: The file; other formats are loaded as they are.
        check_size: Refuses a page's width and height before it is decoded.
        frame_pixels: The most pixels of all pages together that are looked at.
    """
    if image.format != "TIFF" or not getattr(image, "is_animated", False):
        check_size(*image.size)
        image.load()
        return
    pixel_count = 0
    for page in range(MAX_PAGES):
        try:
            image.seek(page)
            check_size(*image.size)
            pixel_count += image.size[0] * image.size[1]
            if pixel_count > frame_pixels and page:
                break
            is_copy = int(getattr(image, "tag_v2", {}).get(REDUCED_COPY_TAG, 0)) & 1
            if not is_copy:
                image.load()
                if _has_contrast(image):
                    return
        except Exception:  # the last page, or a damaged one: the first decides
            if page == 0:
                raise
            break
    image.seek(0)
    image.load()


def _has_contrast(image: Image.Image) -> bool:
    values = np.asarray(image)
    if values.dtype == np.uint8 and image.mode != "P":
        return contrast(values) >= INK_CONTRAST
    return bool(values.min() != values.max())


def _later_frames(image: Image.Image, read: Callable[[], Pixels], frame_pixels: int) -> Iterator[Pixels]:
    size = image.size
    frames = min(MAX_FRAMES, frame_pixels // (size[0] * size[1]))
    for frame in range(1, frames):
        try:
            image.seek(frame)
            if image.size != size:  # a GIF's frame may be larger than its screen, up to 65,535 x 65,535
                raise ValueError(f"of {image.size[0]} x {image.size[1]} pixels in a picture of {size[0]} x {size[1]}")
            image.load()
            pixels = read()
        except EOFError:
            return
        except Exception as error:  # decoders raise anything; the frames before it are whole
            log.info("frame %d of an animation can't be decoded (%s); those before it are read", frame + 1, error)
            return
        yield pixels


def _ink_of(pixels: Pixels) -> _Ink:
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    paper: UInt8[np.ndarray, "*channels"] = np.median(np.concatenate(edges), axis=0).astype(np.uint8)
    distance = np.maximum(pixels, paper) - np.minimum(pixels, paper)
    if distance.ndim == 3:
        distance = distance.max(axis=2)
    places = distance >= INK_CONTRAST
    return _Ink(places, int(distance[places].sum(dtype=np.int64)))
