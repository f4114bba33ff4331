"""The members' recipes of an ensemble: found, changed by overrides, with the ensemble's data, folds and seed."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inkfold.config.load import (
    NO_SEARCH,
    find_recipe,
    load_raw,
    merge_overrides,
    read_override,
    shipped_recipes,
    validate_recipe,
    with_values,
)
from inkfold.config.recipe import EnsembleRecipe, Recipe
from inkfold.config.sections import MemberSettings
from inkfold.errors import Problem, RecipeError
from inkfold.pipeline.build import settle_recipe

SHARED_KEYS = ("data", "folds", "submission", "metric", "seed")
OWN_KEYS = (*SHARED_KEYS, "members", "vote")
MEMBER_NAME = re.compile(r"\w([\w .+-]*\w)?")  # becomes a directory, on every platform


def read_values(overrides: Sequence[str]) -> dict[str, Any]:
    """Read changes of recipes, `dotted.key=value`, into values by their dotted keys.

    Args:
        overrides: Changes to recipes, each as `dotted.key=value` with the value in YAML.

    Returns:
        The value of each dotted key; where one is below another or the same, the last one wins.

    Raises:
        RecipeError: With every override that has no `=`, or whose value is not YAML.
    """
    merge_overrides({}, overrides)  # raises with everything that is wrong
    values: dict[str, Any] = {}
    for text in overrides:
        for key, value in read_override(text).items():
            values = {**_outside(values, {key: value}), key: value}
    return values


def settle_members(
    ensemble: EnsembleRecipe, values: Mapping[str, Any], base: Path | None, data: str | Path | None
) -> tuple[EnsembleRecipe, list[Recipe]]:
    """Find the recipes of an ensemble's members, apply all changes to them, and validate them.

    Args:
        ensemble: Names the members' recipes, and has the data, folds and seed that all of them share.
        values: Values by dotted key that all members get; they override what the ensemble's recipe sets for single members.
        base: Directory of the ensemble's file, where members' recipes are looked for first; None for keys without a file.
        data: The folder of drawings; overrides the recipe's `data`.

    Returns:
        The ensemble's recipe in a form that gives the same members from any directory, and each member's recipe, with the
        ensemble's data, folds and seed.

    Raises:
        RecipeError: With every problem of every member.
    """
    if data is None and ensemble.data.root is None:
        raise RecipeError("data: is missing. Say where the drawings are: data=DIR.")
    unknown = _unknown_keys(values)
    values = {key: value for key, value in values.items() if key not in unknown}  # reported once, not by each member
    problems = [*unknown.values(), *_name_problems(ensemble.names)]
    shared = ensemble.model_dump(mode="json", include={*SHARED_KEYS})
    members, recipes = [], []
    for member, name in zip(ensemble.members, ensemble.names, strict=True):
        where = f"members: {name}"
        problems += _shared_key_problems(where, member)
        try:
            settled_name, own = _find_member(member.recipe, base)
            changes = {**_outside(member.set, values), **values}
            raw = with_values(own, changes)
            if "members" in raw:
                raise RecipeError("is an ensemble's recipe, expected one model's. Name its members instead.")
            parts = (raw.get("folds") or {}).get("parts") if isinstance(member.recipe, Mapping) else None
            settled = with_values(raw, shared if parts is None else {**shared, "folds.parts": parts})
            recipes.append(settle_recipe(validate_recipe(settled, where), (), data or ensemble.data.root))
            members.append(MemberSettings(recipe=settled_name, set=changes, name=name))
        except RecipeError as error:
            problems += error.problems or [Problem("recipe", where, str(error))]
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))
    data_settings = ensemble.data.model_copy(update={"root": recipes[0].data.root})
    return ensemble.model_copy(update={"data": data_settings, "members": tuple(members)}), recipes


def _find_member(recipe: str | Mapping[str, Any], base: Path | None) -> tuple[str | dict[str, Any], dict[str, Any]]:
    """Find a member's recipe beside the ensemble's, then by its own path or name, unless its keys are given.

    Returns:
        The recipe in a form that any directory finds, and its raw keys.
    """
    if not isinstance(recipe, str):
        return dict(recipe), dict(recipe)
    beside = None if base is None else base / recipe
    file = beside if beside is not None and beside.is_file() else find_recipe(recipe)
    return (file.stem if file in shipped_recipes().values() else str(file.absolute())), load_raw(file)


def _outside(values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the keys that `others` sets, or sets a section of."""
    return {key: value for key, value in values.items() if not any(f"{key}.".startswith(f"{other}.") for other in others)}


def _unknown_keys(values: Mapping[str, Any]) -> dict[str, Problem]:
    known = [*dict.fromkeys([*EnsembleRecipe.model_fields, *Recipe.model_fields])]
    problems = {}
    for key in values:
        if key.partition(".")[0] == "auto":
            problems[key] = Problem("recipe", f"override '{key}'", NO_SEARCH)
        elif key.partition(".")[0] not in known:
            near = difflib.get_close_matches(key.partition(".")[0], known, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Expected one of: {', '.join(known)}."
            problems[key] = Problem("recipe", f"override '{key}'", f"no such key. {hint}")
    return problems


def _shared_key_problems(where: str, member: MemberSettings) -> list[Problem]:
    """Find the keys that a member sets, and that all members of an ensemble share."""
    return [
        Problem("recipe", f"{where}: {key}", "is the same for all members. Set it beside `members`, not below.")
        for key in member.set
        if key.partition(".")[0] in SHARED_KEYS
    ]


def _name_problems(names: Sequence[str]) -> list[Problem]:
    """Find members whose names can't be directories, or would share one."""
    folded = [name.casefold() for name in names]
    problems = [
        Problem("recipe", f"members: {name!r}", "is no name for a directory. Give it one: `name: other`.")
        for name in names
        if not MEMBER_NAME.fullmatch(name)
    ]
    return problems + [
        Problem("recipe", f"members: {name!r}", "differs from another only by its case. Give it another name.")
        for i, name in enumerate(names)
        if folded[i] in folded[:i]
    ]
