"""The names of all keys of recipes, for whoever mistypes one."""

import difflib
import functools
from collections.abc import Iterable, Iterator
from typing import get_args

from pydantic import BaseModel

from inkfold.config.recipe import AutoRecipe, EnsembleRecipe, Recipe
from inkfold.config.renamed import RENAMED, SHORT


@functools.cache
def all_keys() -> tuple[str, ...]:
    """Return the dotted keys of the recipes of models, ensembles and searches, sections among them."""
    return tuple(dict.fromkeys(key for schema in (Recipe, EnsembleRecipe, AutoRecipe) for key in _keys(schema)))


def is_key(name: str) -> bool:
    """Return whether a dotted key begins with a recipe's key or section, under its present, short or old name."""
    first = name.partition(".")[0]
    return first in {key.partition(".")[0] for key in (*all_keys(), *RENAMED, *SHORT)}


def nearest_key(name: str, others: Iterable[str] = ()) -> str | None:
    """Find what a mistyped key probably means.

    Args:
        name: What was typed, such as `epohcs` or `train_haed.lr`.
        others: Further words that may be meant, such as the parameters of a function.

    Returns:
        The nearest dotted key or word; None where nothing is near.
    """
    words = {key.rpartition(".")[2]: key for key in reversed(all_keys())} | {key: key for key in (*all_keys(), *SHORT, *others)}
    near = difflib.get_close_matches(name, list(words), n=1)
    return words[near[0]] if near else None


def _keys(schema: type[BaseModel], prefix: str = "", depth: int = 0) -> Iterator[str]:
    for name, field in schema.model_fields.items():
        yield prefix + name
        below = [one for one in _models(field.annotation) if depth < 3]
        for model in below:
            yield from _keys(model, f"{prefix}{name}.", depth + 1)


def _models(annotation: object) -> list[type[BaseModel]]:
    """Return the sections that a value may be, of a union all; those in lists have no keys of their own."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if getattr(annotation, "__origin__", None) in (list, tuple, dict):
        return []
    return [model for part in get_args(annotation) for model in _models(part)]
