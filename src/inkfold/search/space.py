"""The search space: dotted recipe keys and where each may go, given to Optuna trial by trial."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from inkfold.config.load import validate_recipe, with_values
from inkfold.config.recipe import Recipe
from inkfold.config.sections import SearchRange
from inkfold.errors import Problem, RecipeError

if TYPE_CHECKING:
    import optuna

DIGITS = 3
AGREE = "trials must agree on it to be compared"
STUDY_NAMES = {"train_head": "fit", "image.resize": "image.fit"}  # in journals, so that studies begun before go on
FIXED = {  # why not
    **dict.fromkeys(("data", "folds", "seed", "tune"), AGREE),
    "tta": "trials are scored on drawings as they are, so that it couldn't tell; compare runs with and without it",
}
RATES = {
    "train_head.lr": SearchRange(low=1e-4, high=1e-1, log=True),
    "train_head.weight_decay": SearchRange(low=1e-4, high=1.0, log=True),
    "train_head.label_smoothing": SearchRange(low=0.0, high=0.3),
    "train_head.batch_size": SearchRange(choices=(32, 64, 128, 256)),
    "train_head.scaling": SearchRange(choices=("none", "standardise", "normalise")),
}
OF_HEAD: dict[str, dict[str, SearchRange]] = {
    "linear": RATES,
    "cosine": RATES,
    "mlp": {**RATES, "head.dropout": SearchRange(low=0.0, high=0.7), "train_head.mixup": SearchRange(low=0.0, high=1.0)},
    "class_mean": {"train_head.scaling": RATES["train_head.scaling"]},
    "knn": {
        "train_head.scaling": RATES["train_head.scaling"],
        "head.neighbours": SearchRange(low=1, high=100, log=True, whole=True),
    },
}


def search_space(raw: Mapping[str, Any], recipe: Recipe) -> dict[str, SearchRange]:
    """Give the recipe's space, or one that suits its head, after trying the ends of every key.

    Args:
        raw: The recipe's keys as they are written.
        recipe: The same, validated.

    Returns:
        By dotted key.

    Raises:
        RecipeError: With every key that is fixed, unknown, or whose values don't validate.
    """
    space = recipe.tune.space or OF_HEAD[recipe.head.kind]
    problems = []
    for key, where in space.items():
        if key.partition(".")[0] in FIXED:
            text = f"can't be tuned: {FIXED[key.partition('.')[0]]}. Remove it."
            problems.append(Problem("recipe", f"tune.space.{key}", text))
            continue
        for value in _ends(where):
            problems += _problems_with(raw, space, key, value)
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))
    return dict(space)


def suggest(trial: "optuna.trial.Trial", space: Mapping[str, SearchRange], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Let Optuna choose a value for each key that the values chosen so far leave a place for.

    Args:
        trial: Optuna's.
        space: By dotted key.
        raw: The recipe's keys as they are written.

    Returns:
        Values by dotted key; those below a section that was chosen without them are left out.
    """
    values: dict[str, Any] = {}
    for key in sorted(space, key=lambda key: (key.count("."), not key.endswith(".kind"))):
        if _has_a_place(key, with_values(raw, values)):
            values[key] = _value(space[key], _suggested(trial, study_name(key), space[key]))
    return values


def default_values(space: Mapping[str, SearchRange], raw: Mapping[str, Any]) -> dict[str, Any] | None:
    """Find the recipe's own values in the space, as Optuna names them.

    Args:
        space: By dotted key.
        raw: The recipe's keys as they are written.

    Returns:
        Values by dotted key; None if one lies outside the space, so that Optuna couldn't have chosen it.
    """
    recipe, found = validate_recipe(raw), dict[str, Any]()
    resolved = recipe.model_dump(mode="json")
    for key, where in space.items():
        if not _has_a_place(key, raw):
            continue
        if where.choices:
            same = [choice for choice in where.choices if validate_recipe(with_values(raw, {key: choice})) == recipe]
            if not same:
                return None
            found[study_name(key)] = _name(same[0])
        else:
            value = _at(resolved, key)
            if not _is_within(where, value):
                return None
            found[study_name(key)] = value
    return found


def study_name(key: str) -> str:
    """Name a key as Optuna's journals do, whatever it is called now: its draws depend on the order of names."""
    for new, old in STUDY_NAMES.items():
        if f"{key}.".startswith(f"{new}."):
            return old + key.removeprefix(new)
    return key


def from_names(space: Mapping[str, SearchRange], named: Mapping[str, Any]) -> dict[str, Any]:
    """Turn Optuna's names of keys and choices back into keys and values."""
    keys = {study_name(key): key for key in space}
    return {keys[name]: _value(space[keys[name]], value) for name, value in named.items() if name in keys}


def _value(where: SearchRange, named: Any) -> Any:
    """Read a choice's name; round a number to what a person would write."""
    if where.choices:
        return json.loads(named)
    if where.whole:
        return named
    rounded = float(f"{named:.{DIGITS}g}")
    assert where.low is not None
    assert where.high is not None
    return min(max(rounded, where.low), where.high)


def _suggested(trial: "optuna.trial.Trial", key: str, where: SearchRange) -> Any:
    if where.choices:
        return trial.suggest_categorical(key, [_name(choice) for choice in where.choices])
    assert where.low is not None
    assert where.high is not None
    if where.whole:
        return trial.suggest_int(key, round(where.low), round(where.high), log=where.log)
    return trial.suggest_float(key, where.low, where.high, log=where.log)


def _name(value: Any) -> str:
    """Name a choice: Optuna's storage takes no lists and mappings."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _ends(where: SearchRange) -> list[Any]:
    if where.choices:
        return list(where.choices)
    assert where.low is not None
    assert where.high is not None
    return [round(end) if where.whole else end for end in (where.low, where.high)]


def _is_within(where: SearchRange, value: Any) -> bool:
    """Whether a range has a value; one that the backbone or the head chooses, None, is in no range."""
    if where.low is None or where.high is None or isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return where.low <= value <= where.high


def _problems_with(raw: Mapping[str, Any], space: Mapping[str, SearchRange], key: str, value: Any) -> list[Problem]:
    """Try a value, below each choice of a section that has a place for it."""
    above, tried = _decider(space, key), [dict[str, Any]()]
    if above is not None:
        tried = [{above: choice} for choice in space[above].choices if _has_a_place(key, _patched(raw, {above: choice}))]
        if not tried:
            return [Problem("recipe", f"tune.space.{key}", f"no choice of {above} has such a key. Remove it.")]
    try:
        validate_recipe(with_values(raw, {**tried[0], key: value}))
    except RecipeError as error:
        return [Problem("recipe", f"tune.space.{key}", f"{value!r} does not fit: {one}") for one in error.problems or (error,)]
    return []


def _decider(space: Mapping[str, SearchRange], key: str) -> str | None:
    """Name the nearest section above a key, or its kind, among whose choices some may have no such key."""
    parts = key.split(".")
    above = [".".join(parts[:depth]) for depth in range(len(parts) - 1, 0, -1)]
    names = [name for section in above for name in (f"{section}.kind", section) if name in space and name != key]
    return next((name for name in names if space[name].choices), None)


def _patched(raw: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return with_values(raw, values)
    except RecipeError:
        return raw  # the choice's own problems are told


def _has_a_place(key: str, raw: Mapping[str, Any]) -> bool:
    """Whether the sections above a key, as they are written, are of a kind that has it."""
    top, *below = key.split(".")
    if not below:
        return True
    try:
        section: Any = getattr(validate_recipe({"backbone": {"name": "x"}, **({top: raw[top]} if top in raw else {})}), top)
    except (RecipeError, AttributeError):
        return True  # let the trial tell what is wrong with it
    for part in below[:-1]:
        section = getattr(section, part, None)
    return below[-1] in type(section).model_fields if isinstance(section, BaseModel) else True


def _at(resolved: Mapping[str, Any], key: str) -> Any:
    found: Any = resolved
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
