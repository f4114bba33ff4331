"""The old place of `inkfold.images`' reading of drawings, under the name that `inkfold.fit(drawings, budget=...)` has now.

Python binds an imported module to its package, so the module can be called like the function that it would hide.
"""

import sys
import warnings
from types import ModuleType
from typing import Any

from inkfold.images.preprocess import ImageOptions as _ImageOptions
from inkfold.images.preprocess import read_drawing

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


class _CalledModule(ModuleType):
    """A module that is called like the function of its name."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """Search for the best classifier; see `inkfold.auto.fit.fit`."""
        from inkfold.auto.fit import fit  # noqa: PLC0415 - torch takes a second

        return fit(*arguments, **settings)


sys.modules[__name__].__class__ = _CalledModule
