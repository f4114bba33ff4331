"""Says what to install where a function needs a part of inkfold that isn't there."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from inkfold.errors import InkfoldError, missing_part

P = ParamSpec("P")
T = TypeVar("T")


def names_missing_parts(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function raise an `InkfoldError` with the command to run where a package of another part is missing."""

    @functools.wraps(function)
    def call(*arguments: P.args, **settings: P.kwargs) -> T:
        try:
            return function(*arguments, **settings)
        except ModuleNotFoundError as error:
            if (line := missing_part(error)) is None:
                raise
            raise InkfoldError(f"inkfold.{function.__name__}: {line}") from None

    return call
