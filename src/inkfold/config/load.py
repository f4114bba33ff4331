"""Recipes as files: read, merged with overrides, validated, written; all problems are reported at once, with dotted paths.

One override grammar serves the command line, the search and the tests: `head.hidden=[512]`, `train_head.lr=3e-4`, `seed=7`.
Overrides are merged raw, the last one winning, then everything is validated once. YAML holds what differs from the defaults.
"""

import copy
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from inkfold.config.parsing import parse_yaml
from inkfold.config.recipe import SHORTHANDS, AutoRecipe, EnsembleRecipe, Recipe, expand_shorthand
from inkfold.config.renamed import SHORT, renamed_recipe, renamed_values
from inkfold.config.sections import HeadSettings, MemberSettings, Schedule, StageSettings, VoteSettings
from inkfold.errors import Problem, RecipeError
from inkfold.runtime.foreign import read_whole

NO_SEARCH = (
    "is of a search within a budget of time, and this recipe trains one model or ensemble. Leave out budget and auto, or "
    "search: inkfold train auto data=DIR out=RUN budget=10m."
)


def load_recipe(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        source: A YAML file, or the name of a shipped recipe, such as `cpu-small`.
        overrides: `dotted.key=value`, the value in YAML.

    Returns:
        The validated recipe.

    Raises:
        RecipeError: If the file can't be read, or with all invalid keys and values together.
    """
    return validate_recipe(load_raw(source, overrides), str(source))


def load_raw(source: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read a recipe's keys, old ones under their new names, and apply overrides; nothing is validated.

    Args:
        source: A YAML file, or the name of a shipped recipe.
        overrides: Changes to the file's keys, each as `dotted.key=value` with the value in YAML; the last one of a key wins.

    Returns:
        Nested mappings.

    Raises:
        RecipeError: If the file can't be read, a key is given under an old and its new name, or an override has no `=`.
    """
    raw = _read_yaml(find_recipe(source))
    merge_overrides(raw, overrides)
    return raw


def raw_keys(recipe: BaseModel | Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """Return the keys of a recipe in any of its forms.

    Args:
        recipe: A validated recipe, its keys as nested mappings, a YAML file, or a shipped recipe's name.

    Returns:
        Nested mappings, not validated; those of a mapping are a copy of its first level.

    Raises:
        RecipeError: If the file can't be read.
    """
    if isinstance(recipe, BaseModel):
        return recipe.model_dump(mode="json")
    return dict(recipe) if isinstance(recipe, Mapping) else load_raw(recipe)


def validate_recipe(raw: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """Turn raw keys into a recipe.

    Args:
        raw: Nested mappings as YAML gives them.
        source: Name of the recipe in error messages.

    Returns:
        The validated recipe.

    Raises:
        RecipeError: With every problem and its dotted path.
    """
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError([_problem(source, details) for details in error.errors()]) from None


def validate_ensemble(raw: Mapping[str, Any], source: str = "recipe") -> EnsembleRecipe:
    """Turn raw keys into an ensemble's recipe; see `validate_recipe`."""
    try:
        return EnsembleRecipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError([_problem(source, details, EnsembleRecipe) for details in error.errors()]) from None


def validate_auto(raw: Mapping[str, Any], source: str = "recipe") -> AutoRecipe:
    """Turn raw keys into the recipe of a search within a budget of time; see `validate_recipe`."""
    try:
        return AutoRecipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError([_problem(source, details, AutoRecipe) for details in error.errors()]) from None


def validate_vote(raw: Mapping[str, Any]) -> VoteSettings:
    """Turn raw keys into the settings of an ensemble's vote; see `validate_recipe`."""
    try:
        return VoteSettings.model_validate(raw)
    except ValidationError as error:
        raise RecipeError([_problem("vote", details, VoteSettings) for details in error.errors()]) from None


def dump_recipe(recipe: BaseModel) -> str:
    """Write a recipe as YAML with every key, so that later changes of the defaults don't change it."""
    return dump_raw(recipe.model_dump(mode="json"))


def dump_raw(raw: Mapping[str, Any]) -> str:
    """Write nested mappings as YAML, their keys in their order."""
    return yaml.dump(dict(raw), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def shipped_recipes() -> dict[str, Path]:
    """List the recipes that are shipped with inkfold: paths by file name without suffix."""
    return {path.stem: path for path in sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))}


def find_recipe(source: str | Path) -> Path:
    """Find a recipe's file: a path, or a recipe that is shipped with inkfold.

    Args:
        source: A path, or a shipped recipe's name with or without `recipes/` and `.yaml`.

    Returns:
        Path of a file that exists.

    Raises:
        RecipeError: If there is no such file and no shipped recipe of that name.
    """
    path = Path(source)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if path.stem in shipped and path.parent.name in ("", "recipes"):
        return shipped[path.stem]
    raise RecipeError(f"recipe '{source}' is neither a file nor shipped. Shipped ones: {', '.join(shipped)}.")


def merge_overrides(raw: dict[str, Any], overrides: Iterable[str]) -> None:
    """Merge `dotted.key=value` overrides into a recipe's keys; the last one of a key wins.

    Args:
        raw: The recipe's keys as nested mappings. Changed in place; old keys get their new names.
        overrides: Texts whose values are YAML: `train_head.lr=3e-4`, `head={kind: mlp}`, `image.size=null`.

    Raises:
        RecipeError: With every text that has no `=`, whose value is not YAML, or that gives a key by its old name where another
            gives it by its new one.
    """
    problems, keys = [], dict[str, str]()
    current = _with_new_names(raw)
    raw.clear()
    raw.update(current)
    for text in overrides:
        try:
            for key, value in read_override(text).items():
                written = text.partition("=")[0]
                if (keys.setdefault(key, written) == key) != (written == key):
                    kind = "short" if key in SHORT.values() else "old"
                    raise ValueError(f"'{key}' is given twice, also by its {kind} name. Remove one of them")
                _set_dotted(raw, key.split("."), value)
        except (ValueError, yaml.YAMLError) as error:
            problems.append(Problem("override", f"override '{text}'", str(error).replace("\n", " ")))
    if problems:
        raise RecipeError(problems)


def read_override(text: str) -> dict[str, Any]:
    """Read one change of a recipe as it is typed on the command line.

    Args:
        text: One change of a recipe as `dotted.key=value`, such as `train_head.lr=3e-4`; the value is YAML.

    Returns:
        The value by its key's new name; more than one where a section's value has keys that moved to another section.

    Raises:
        ValueError: If it has no `=`.
        YAMLError: If the value is not YAML.
    """
    key, separator, value = text.partition("=")
    if not separator or not all(key.split(".")):
        raise ValueError("expected key=value, such as train_head.lr=3e-4")
    return renamed_values({key: expand_shorthand(key, _value(key, value))})


def with_values(raw: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a recipe's raw keys and set values in the copy.

    Args:
        raw: The recipe's keys as nested mappings; they aren't changed.
        values: Values by dotted key; a section's own value is set before those of keys below it.

    Returns:
        A copy of the keys with the values.

    Raises:
        RecipeError: If a key is below a value that is no section, or has values under its old and its new name.
    """
    changed = copy.deepcopy(_with_new_names(raw))
    try:
        values = renamed_values(values)
    except ValueError as error:
        raise RecipeError(f"{error}.") from None
    for key in sorted(values, key=lambda key: key.count(".")):
        try:
            _set_dotted(changed, key.split("."), values[key])
        except ValueError as error:
            raise RecipeError(f"{key}: {error}.") from None
    return changed


class _Dumper(yaml.SafeDumper):
    """PyYAML writes the rarer line breaks plainly, where they are read as spaces: quoted, they are escaped."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = '"' if set(data) & set("\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = parse_yaml(read_whole(path).decode("utf-8-sig"))
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{path}: not YAML: {error}. Compare it with a shipped recipe.") from None
    if not isinstance(raw, dict):
        raise RecipeError(f"{path}: got {type(raw).__name__}, expected keys such as `backbone: {{name: resnet18}}`.")
    try:
        return renamed_recipe(raw)
    except ValueError as error:
        raise RecipeError(f"{path}: {error}.") from None


def _with_new_names(raw: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return renamed_recipe(raw)
    except ValueError as error:
        raise RecipeError(f"recipe: {error}.") from None


def _value(key: str, text: str) -> Any:
    """Read a value; a shorthand's is text unless it is a mapping, so that data=2024 is that folder."""
    if key in SHORTHANDS and text and not text.startswith("{"):
        return text
    if key in ("data.label_pattern", "folds.group_pattern") and text not in ("", "null") and text[0] not in "'\"":
        return text  # a regular expression's brackets mean something else in YAML
    return parse_yaml(text)


def _set_dotted(raw: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        current = expand_shorthand(key, raw.get(key))
        if current is not None and not isinstance(current, dict):
            raise ValueError(f"'{key}' is {current!r}, which has no keys below it")
        raw[key] = dict(current or {})
        raw = raw[key]
    last = keys[-1]
    value = expand_shorthand(last, value)
    if last in SHORTHANDS and len(keys) == 1 and isinstance(raw.get(last), dict):
        value = {**raw[last], **value}
    raw[last] = value


def _problem(source: str, details: Any, schema: type[BaseModel] = Recipe) -> Problem:
    path = [str(part) for part in details["loc"]]
    where = f"{source}: {'.'.join(_without_tags(path)) or 'recipe'}"
    if details["type"] == "extra_forbidden" and path == ["auto"]:
        return Problem("recipe", where, NO_SEARCH)
    if details["type"] == "extra_forbidden":
        return Problem("recipe", where, f"no such key. {_hint(path[-1], _known_keys(path[:-1], schema))}")
    if not path:
        return Problem("recipe", source, f"{details['msg'].removeprefix('Value error, ')}.")
    where += ".kind" if details["type"] == "union_tag_invalid" else ""
    return Problem("recipe", where, _what_is_wrong(path, details, schema))


def _what_is_wrong(path: list[str], details: Any, schema: type[BaseModel]) -> str:
    match details["type"]:
        case "missing":
            return "is missing. Add it to the recipe or as key=value."
        case "union_tag_not_found":
            kinds = ", ".join(_BY_KIND[path[-1]])
            return f"got {details['input']!r} without a kind. Add {path[-1]}.kind: one of {kinds}."
        case "union_tag_invalid":
            kind = str(details["ctx"]["tag"])
            return f"got {kind!r}. {_hint(kind, list(_BY_KIND[path[-1]]))}"
        case "model_type":
            return f"got {details['input']!r}, expected keys. They are: {', '.join(_known_keys(path, schema))}."
    return f"got {details['input']!r}. {details['msg'].removeprefix('Value error, ')}."


def _hint(given: str, known: list[str]) -> str:
    near = difflib.get_close_matches(given, known, n=1)
    return f"Did you mean '{near[0]}'?" if near else f"Expected one of: {', '.join(known)}."


_BY_KIND: dict[str, dict[str, type[BaseModel]]] = {
    name: {get_args(schema.model_fields["kind"].annotation)[0]: schema for schema in get_args(union)}
    for name, union in (("head", HeadSettings), ("schedule", get_args(Schedule)[0]))
}


def _without_tags(path: list[str]) -> list[str]:
    """Leave out the kinds that pydantic puts into the path of a tagged union."""
    return [part for before, part in zip(["", *path], path, strict=False) if part not in _BY_KIND.get(before, {})]


_LISTED: dict[str, type[BaseModel]] = {"curriculum": StageSettings, "members": MemberSettings}


def _known_keys(path: list[str], schema: type[BaseModel]) -> list[str]:
    section = schema
    for before, part in zip(["", *path], path, strict=False):
        annotation = section.model_fields[part].annotation if part in section.model_fields else None
        if part in _BY_KIND.get(before, {}):
            section = _BY_KIND[before][part]
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
        elif part in _LISTED:
            section = _LISTED[part]
    return list(section.model_fields)
