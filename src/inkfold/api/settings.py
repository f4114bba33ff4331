"""Settings of recipes in the words of Python: sections as keywords, nested mappings, dotted keys, and texts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from inkfold.config.keys import is_key, nearest_key
from inkfold.config.recipe import SHORTHANDS
from inkfold.errors import Problem, RecipeError

WHOLE = ("set", "tune.space")  # whose keys have dots of their own

Settings = str | Mapping[str, Any] | Iterable[str]


def as_overrides(
    settings: Mapping[str, Any],
    given: Iterable[Settings] = (),
    parameters: Iterable[str] = (),
    known: Callable[[str], bool] | None = is_key,
) -> tuple[str, ...]:
    """Write settings as `dotted.key=value`, as they are typed on the command line.

    Args:
        settings: Keyword arguments: a section's keys as a mapping (`train_head={"epochs": 20}`), or a key with two
            underscores or, in `**{...}`, a dot below its section (`train_head__epochs=20`, `**{"train_head.epochs": 20}`).
            Old names are taken, too.
        given: What was given by position, before the keywords: texts `dotted.key=value`, lists of them, and mappings.
        parameters: The function's own parameters, which a mistyped key may mean.
        known: Says of a key whether it begins with one of a recipe; None leaves that to what reads the texts.

    Returns:
        One text for each value, in the order in which they were given; the last one of a key wins.

    Raises:
        RecipeError: With every key that isn't one, its nearest, and every value that a recipe can't hold.
    """
    problems: list[Problem] = []
    texts: list[str] = []
    for mapping in _mappings([*given, settings], texts, problems):
        values = {key.replace("__", "."): value for key, value in mapping.items()}
        wrong = [name for name in values if known is not None and not known(name)]
        problems += [_no_key(name, parameters) for name in wrong]
        texts += _written({name: value for name, value in values.items() if name not in wrong}, problems)
    if problems:
        raise RecipeError(problems)
    return tuple(texts)


def as_text(value: Any) -> str:
    """Write a value as YAML on one line; what NumPy and pathlib have of their own becomes plain first.

    Raises:
        YAMLError: If a recipe can't hold it.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Path):
        value = str(value)
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _mappings(given: Iterable[Settings], texts: list[str], problems: list[Problem]) -> Iterator[Mapping[str, Any]]:
    """Give the mappings among settings; what is text already is appended to `texts` in its turn."""
    for one in given:
        if isinstance(one, str):
            texts.append(one)
        elif isinstance(one, Mapping):
            yield one
        elif isinstance(one, list | tuple):
            yield from _mappings(one, texts, problems)
        else:
            text = f"got {type(one).__name__}, expected 'key=value', a list of such texts, or a mapping."
            problems.append(Problem("setting", "settings", text))


def _written(values: Mapping[str, Any], problems: list[Problem]) -> Iterator[str]:
    for name, value in _flat(values).items():
        try:
            yield f"{name}={value if name in SHORTHANDS and isinstance(value, str) else as_text(value)}"
        except yaml.YAMLError:
            kind = type(value).__name__
            message = f"got {value!r} ({kind}), expected a text, number, truth value, None, list or mapping."
            problems.append(Problem("setting", name, message))


def _no_key(name: str, parameters: Iterable[str]) -> Problem:
    near = nearest_key(name, parameters)
    hint = f"Did you mean '{near}'?" if near else "`inkfold recipes` and docs/python.md say where keys are listed."
    return Problem("setting", name, f"is no key of a recipe. {hint}")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) and value and name not in WHOLE else {name: value}
    return flat
