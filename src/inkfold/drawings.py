"""The old place of `inkfold.data`'s types, kept for scripts that were written before there were packages."""

import warnings

from inkfold.data.types import DataOptions, Drawings

__all__ = ["DataOptions", "Drawings"]

warnings.warn("inkfold.drawings is inkfold.data now", DeprecationWarning, stacklevel=2)
