"""What both estimators share: scikit-learn's base classes, errors that it understands, and how drawings arrive from it."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, final

from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin

from inkfold.data.from_memory import Drawing, read_drawings
from inkfold.errors import DataError, RecipeError

__all__ = [
    "BaseEstimator",
    "ClassifierMixin",
    "InvalidDataError",
    "InvalidSettingError",
    "TransformerMixin",
    "as_drawings",
    "contents",
    "value_errors",
]


@final
class InvalidDataError(DataError, ValueError):
    """Drawings or labels that can't be used; a ValueError too, as scikit-learn expects."""


@final
class InvalidSettingError(RecipeError, ValueError):
    """A setting that is none; a ValueError too, as scikit-learn expects."""


@contextlib.contextmanager
def value_errors() -> Iterator[None]:
    """Turn inkfold's errors about data and settings into ones that are ValueErrors too."""
    try:
        yield
    except (InvalidDataError, InvalidSettingError):
        raise
    except DataError as error:
        raise InvalidDataError(error.problems or str(error)) from None
    except RecipeError as error:
        raise InvalidSettingError(error.problems or str(error)) from None


def as_drawings(x: Any) -> list[Drawing]:
    """Read the drawings that an estimator was given: one for each row.

    Args:
        x: A list, column or array of single drawings, a table with a column of them, or an array (n, h, w) or
            (n, h, w, channels).

    Returns:
        The drawings; files are named but not read.

    Raises:
        InvalidDataError: If it isn't a collection of drawings.
    """
    shape = getattr(x, "shape", None)
    if shape is not None and len(shape) == 2 and not hasattr(x, "columns"):
        raise InvalidDataError(
            f"X: got an array {tuple(shape)}, expected drawings: (n, h, w) or (n, h, w, channels), or a list. "
            "Reshape your data: X.reshape(n, h, w) if each row is a flattened picture."
        )
    with value_errors():
        source = read_drawings(x, what="X")
        if source.single:
            raise InvalidDataError("X: got one drawing, expected several. Put it into a list.")
        return [*source]


def contents(drawings: Sequence[Drawing]) -> list[Any]:
    """Return what the drawings hold, in a form that `read_drawings` takes again."""
    return [drawing.content for drawing in drawings]
