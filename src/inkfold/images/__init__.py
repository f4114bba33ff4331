"""Decodes image files, turns drawings into squares of dark ink on light paper, and draws a pen's strokes on pages."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inkfold.images.decode import BrokenImage as BrokenImage
    from inkfold.images.decode import decode_image as decode_image
    from inkfold.images.preprocess import ImageOptions as ImageOptions
    from inkfold.images.preprocess import read_drawing as read_drawing

_HOMES = {
    "BrokenImage": "decode",
    "ImageOptions": "preprocess",
    "decode_image": "decode",
    "read_drawing": "preprocess",
}
__all__ = ["BrokenImage", "ImageOptions", "decode_image", "read_drawing"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing a module of the package imports no other."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
