"""Writes a recipe with every key, its value, what the key means, and whether the value is the default."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inkfold.config.load import find_recipe, load_raw, validate_auto, validate_ensemble, validate_recipe
from inkfold.config.parsing import parse_yaml
from inkfold.config.recipe import AutoRecipe, EnsembleRecipe, Recipe
from inkfold.config.reference import ITEM, RecipeKey, as_yaml, recipe_keys

WIDTH = 110
_MISSING = object()


def commented_recipe(source: str | Path, *, only_changed: bool = False) -> str:
    """Write a recipe out with comments.

    Args:
        source: A YAML file, or the name of a shipped recipe.
        only_changed: Whether keys that have their defaults are left out, unless they stand in the file.

    Returns:
        YAML, which is a recipe of the same meaning.

    Raises:
        RecipeError: If there is no such recipe, or it is not valid.
    """
    path = find_recipe(source)
    recipe = _validated(path)
    values, given = recipe.model_dump(mode="json"), load_raw(path)
    header = [line for line in path.read_text("utf-8").splitlines() if line.startswith("#")]
    lines, open_sections = [*header], list[str]()
    for key in recipe_keys():
        value = _value(values, key) if ITEM not in key.name and ".KEY." not in key.name else _MISSING
        default = _default(key)
        if value is _MISSING or (only_changed and value == default and _at(given, key.name) is _MISSING):
            continue
        *sections, name = key.name.split(".")
        lines += _opened(sections, open_sections)
        open_sections = sections
        indent = "  " * len(sections)
        lines += [f"{indent}# {line}" for line in _comment(key, value, default, WIDTH - len(indent))]
        lines.append(f"{indent}{name}: {as_yaml(value)}")
    return "\n".join(lines) + "\n"


def _validated(path: Path) -> Recipe | EnsembleRecipe | AutoRecipe:
    raw = load_raw(path)
    if "members" in raw:
        return validate_ensemble(raw, str(path))
    return validate_auto(raw, str(path)) if "auto" in raw else validate_recipe(raw, str(path))


def _value(values: Mapping[str, Any], key: RecipeKey) -> Any:
    if any(_at(values, name) != kind for name, kind in key.needs):
        return _MISSING
    return _at(values, key.name)


def _at(values: Any, name: str) -> Any:
    for part in name.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return _MISSING
        values = values[part]
    return values


def _default(key: RecipeKey) -> Any:
    """Return the default as a dumped recipe has it."""
    return _MISSING if key.default is None else parse_yaml(key.default)


def _opened(sections: list[str], before: list[str]) -> list[str]:
    same = 0
    while same < min(len(sections), len(before)) and sections[same] == before[same]:
        same += 1
    return [f"{'  ' * depth}{name}:" for depth, name in enumerate(sections) if depth >= same]


def _comment(key: RecipeKey, value: Any, default: Any, width: int) -> list[str]:
    lines = [line for part in re.split(r"\n\n|\n(?=- )", key.meaning) for line in textwrap.wrap(part.replace("`", "'"), width)]
    if default is _MISSING:
        return lines
    return [*lines, "(the default)" if value == default else f"Changed; the default is {key.default}"]
