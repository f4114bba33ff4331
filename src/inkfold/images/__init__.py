"""Decodes image files, turns drawings into squares of dark ink on light paper, and draws a pen's strokes on pages."""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.images.decode import BrokenImage as BrokenImage
    from inkfold.images.decode import decode_image as decode_image
    from inkfold.images.preprocess import ImageOptions as ImageOptions
    from inkfold.images.preprocess import read_drawing as read_drawing

__getattr__, __dir__ = lazy_names(
    __name__, {"BrokenImage": "decode", "ImageOptions": "preprocess", "decode_image": "decode", "read_drawing": "preprocess"}
)
