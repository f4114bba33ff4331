"""The old place of `inkfold.images`' reading of drawings, under the name that `inkfold.fit(drawings, budget=...)` has now.

Python binds an imported module to its package, so the module can be called like the function that it would hide.
"""

import warnings
from typing import Any

from inkfold.images.preprocess import ImageOptions as _ImageOptions
from inkfold.images.preprocess import read_drawing
from inkfold.lazy import call_package

__all__ = ["ImageOptions", "read_drawing"]

warnings.warn("inkfold.fit is a function now; drawings are read by inkfold.images", DeprecationWarning, stacklevel=2)


def ImageOptions(size_px: int, **settings: Any) -> _ImageOptions:  # noqa: N802 - the class's old name
    """Make image options from a size and settings by their old or new names; see `inkfold.images.ImageOptions`.

    Args:
        size_px: Side of the square in px.
        settings: Further fields; `fit` is the old name of `resize`.
    """
    if "fit" in settings:
        settings["resize"] = settings.pop("fit")
    return _ImageOptions(size_px=size_px, **settings)


call_package(__name__, "inkfold.api.training:fit")
