"""A drawing's file, decoded once for everything that is made of it: squares, signature, statistics."""

import numpy as np
from jaxtyping import UInt8

from inkfold.config.sections import Colour
from inkfold.images.decode import DEFAULT_PIXEL_LIMIT, Pixels, decode_image, settle_colour
from inkfold.images.frames import MAX_FRAME_PIXELS

# JPEGs are decoded at 1/2, 1/4 or 1/8 as long as both sides keep this many pixels: enough for a square of 512 px.
PAGE_SIDE_PX = 768
_JPEG = b"\xff\xd8\xff"


class Page:
    """A drawing's page, decoded when it is first needed and kept for the next question.

    What comes out depends on the file's bytes and on the question alone, not on what was asked before: so whatever is made
    of a page can be kept under the file's digest, whoever else has looked at the page.

    Args:
        data: The whole file, in any format that is read.
        pixel_limit: The most pixels that the file's header may announce.
        frame_pixels: The most pixels of all frames of an animation, or pages of a TIFF, that are looked at.
    """

    def __init__(self, data: bytes, pixel_limit: int = DEFAULT_PIXEL_LIMIT, frame_pixels: int = MAX_FRAME_PIXELS) -> None:
        self._data, self._pixel_limit, self._frame_pixels = data, pixel_limit, frame_pixels
        self._decoded: dict[int, Pixels] = {}
        self._settled: dict[tuple[int, Colour], Pixels] = {}
        self._flattened: dict[tuple[int, Colour], Pixels | None] = {}
        self._ink: UInt8[np.ndarray, "h w"] | None = None

    @property
    def may_be_reduced(self) -> bool:
        """Whether a decode may have fewer pixels than the file: JPEGs alone are reduced."""
        return self._data.startswith(_JPEG)

    def pixels(self, colour: Colour = "auto", min_side_px: int = PAGE_SIDE_PX) -> Pixels:
        """Return the page, upright.

        Args:
            colour: Which pages become grey, as in `decode_image`.
            min_side_px: A JPEG may be reduced as long as both sides keep this many pixels; 0 keeps every pixel.

        Returns:
            (h, w) if grey, otherwise (h, w, 3) in RGB order. The array is shared: don't change it.

        Raises:
            BrokenImage: If the bytes can't be decoded, as by `decode_image`.
        """
        side_px = min_side_px if self.may_be_reduced else 0
        if (side_px, colour) not in self._settled:
            self._settled[side_px, colour] = self._settle(colour, side_px)
        return self._settled[side_px, colour]

    def is_photographed(self, colour: Colour = "auto", min_side_px: int = PAGE_SIDE_PX) -> bool:
        """Return whether the page that `pixels` returns was taken by a camera or scanner: `paper.is_photographed`."""
        return self._flattened_of(colour, min_side_px) is not None

    def flattened(self, colour: Colour = "auto", min_side_px: int = PAGE_SIDE_PX) -> Pixels:
        """Return the page that `pixels` returns, with its paper flattened if it is photographed; arguments and errors alike."""
        flat = self._flattened_of(colour, min_side_px)
        return self.pixels(colour, min_side_px) if flat is None else flat

    def ink(self) -> UInt8[np.ndarray, "h w"]:
        """Return how far each pixel is from the paper, 0 where it is paper: `preprocess.ink_depth` of the page.

        A photographed page is flattened first: otherwise the table around a sheet would be the ink, the same for all sheets.

        Raises:
            BrokenImage: If the bytes can't be decoded, as by `decode_image`.
        """
        if self._ink is None:
            from inkfold.images.preprocess import ink_depth, paper_colour  # noqa: PLC0415 - it imports this module

            flat = self.flattened()
            self._ink = ink_depth(flat, paper_colour(flat))
        return self._ink

    def _flattened_of(self, colour: Colour, min_side_px: int) -> Pixels | None:
        """Flatten a photographed page once; None if it isn't one."""
        from inkfold.images.paper import flatten_paper, is_photographed  # noqa: PLC0415 - OpenCV: 160 ms

        key = min_side_px if self.may_be_reduced else 0, colour
        if key not in self._flattened:
            pixels = self.pixels(colour, min_side_px)
            self._flattened[key] = flatten_paper(pixels) if is_photographed(pixels) else None
        return self._flattened[key]

    def _settle(self, colour: Colour, side_px: int) -> Pixels:
        if colour == "grey":  # what `auto` makes grey is what `grey` makes of it
            return settle_colour(self.pixels("auto", side_px), "grey")
        return settle_colour(self._decode(side_px), colour)

    def _decode(self, side_px: int) -> UInt8[np.ndarray, "h w *channels"]:
        """Decode with the channels that the file has: from those every colour setting follows."""
        if side_px not in self._decoded:
            self._decoded[side_px] = decode_image(
                self._data,
                min_side_px=side_px,
                pixel_limit=self._pixel_limit,
                frame_pixels=self._frame_pixels,
                colour="rgb",
            )
        return self._decoded[side_px]
