"""The search space: the recipe keys that a study varies and each key's values, suggested by Optuna trial by trial."""

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
FIXED = {  # sections that can't be searched, and why
    **dict.fromkeys(("data", "folds", "seed", "tune"), AGREE),
    "predict": "trials are scored on held-out drawings, one by one; name it in the recipe, which judges it",
    "tta": "trials are scored on drawings as they are, without test-time views; compare runs with and without it",
}
RATES = {
    "train_head.lr": SearchRange(low=1e-4, high=1e-1, log=True),
    "train_head.weight_decay": SearchRange(low=1e-4, high=1.0, log=True),
    "train_head.label_smoothing": SearchRange(low=0.0, high=0.3),
    "train_head.batch_size": SearchRange(choices=(32, 64, 128, 256)),
    "train_head.scaling": SearchRange(choices=("none", "standardise", "normalise")),
}
SCALING = {"train_head.scaling": RATES["train_head.scaling"]}
SPACE_OF_HEAD: dict[str, dict[str, SearchRange]] = {  # other heads: only how features are scaled
    "linear": RATES,
    "cosine": RATES,
    "mlp": {**RATES, "head.dropout": SearchRange(low=0.0, high=0.7), "train_head.mixup": SearchRange(low=0.0, high=1.0)},
    "knn": {**SCALING, "head.neighbours": SearchRange(low=1, high=100, log=True, whole=True)},
}


def search_space(raw: Mapping[str, Any], recipe: Recipe) -> dict[str, SearchRange]:
    """Give the recipe's search space, or a usual one for its head, after validating the ends of every range.

    Args:
        raw: The recipe's keys as they are written.
        recipe: The same recipe validated; its `tune.space` is used, and a usual space of its head where that is empty.

    Returns:
        Each key's range or choices, by dotted key.

    Raises:
        RecipeError: With every key that can't be searched, is unknown, or has values that don't validate.
    """
    space = recipe.tune.space or SPACE_OF_HEAD.get(recipe.head.kind, SCALING)
    problems = []
    for key, domain in space.items():
        if key.partition(".")[0] in FIXED:
            text = f"can't be searched: {FIXED[key.partition('.')[0]]}. Remove it."
            problems.append(Problem("recipe", f"tune.space.{key}", text))
            continue
        for value in _ends(domain):
            problems += _problems_with(raw, space, key, value)
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))
    return dict(space)


def suggest(trial: "optuna.trial.Trial", space: Mapping[str, SearchRange], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Let Optuna choose a value for each key that exists with the values chosen so far.

    Args:
        trial: A trial of an Optuna study; it chooses the values and records them.
        space: Each key's range or choices, by dotted key.
        raw: The recipe's keys as they are written.

    Returns:
        The chosen values, by dotted key; keys that the chosen sections don't have are left out.
    """
    values: dict[str, Any] = {}
    for key in sorted(space, key=lambda key: (key.count("."), not key.endswith(".kind"))):
        if _has_key(key, with_values(raw, values)):
            values[key] = _value(space[key], _suggested(trial, study_name(key), space[key]))
    return values


def default_values(space: Mapping[str, SearchRange], raw: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give the recipe's own values as a point of the search space.

    Args:
        space: Each key's range or choices, by dotted key.
        raw: The recipe's keys as they are written.

    Returns:
        Numbers and names of choices by dotted key, as Optuna stores them; None if a value lies outside the space.
    """
    recipe, values = validate_recipe(raw), dict[str, Any]()
    resolved = recipe.model_dump(mode="json")
    for key, domain in space.items():
        if not _has_key(key, raw):
            continue
        if domain.choices:
            same = [choice for choice in domain.choices if validate_recipe(with_values(raw, {key: choice})) == recipe]
            if not same:
                return None
            values[study_name(key)] = _name(same[0])
        else:
            value = _value_of_key(resolved, key)
            if not _is_within(domain, value):
                return None
            values[study_name(key)] = value
    return values


def from_names(space: Mapping[str, SearchRange], named: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the names under which Optuna stores keys and choices back into keys and values."""
    keys = {study_name(key): key for key in space}
    return {keys[name]: _value(space[keys[name]], value) for name, value in named.items() if name in keys}


def study_name(key: str) -> str:
    """Name a key as Optuna's journals do, whatever it is called now: its draws depend on the order of names."""
    for new, old in STUDY_NAMES.items():
        if f"{key}.".startswith(f"{new}."):
            return old + key.removeprefix(new)
    return key


def _value(domain: SearchRange, named: Any) -> Any:
    """Read a choice's name; round a number to three digits."""
    if domain.choices:
        return json.loads(named)
    if domain.whole:
        return named
    rounded = float(f"{named:.{DIGITS}g}")
    assert domain.low is not None
    assert domain.high is not None
    return min(max(rounded, domain.low), domain.high)


def _suggested(trial: "optuna.trial.Trial", key: str, domain: SearchRange) -> Any:
    if domain.choices:
        return trial.suggest_categorical(key, [_name(choice) for choice in domain.choices])
    assert domain.low is not None
    assert domain.high is not None
    if domain.whole:
        return trial.suggest_int(key, round(domain.low), round(domain.high), log=domain.log)
    return trial.suggest_float(key, domain.low, domain.high, log=domain.log)


def _name(value: Any) -> str:
    """Name a choice: Optuna's storage holds no lists and mappings."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _ends(domain: SearchRange) -> list[Any]:
    if domain.choices:
        return list(domain.choices)
    assert domain.low is not None
    assert domain.high is not None
    return [round(end) if domain.whole else end for end in (domain.low, domain.high)]


def _is_within(domain: SearchRange, value: Any) -> bool:
    """Whether a range contains a value; None, for which the backbone or the head chooses, is in no range."""
    if domain.low is None or domain.high is None or isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return domain.low <= value <= domain.high


def _problems_with(raw: Mapping[str, Any], space: Mapping[str, SearchRange], key: str, value: Any) -> list[Problem]:
    """Validate a value of a key, with a choice of the section above it that has the key."""
    above, combinations = _deciding_key(space, key), [dict[str, Any]()]
    if above is not None:
        combinations = [{above: choice} for choice in space[above].choices if _has_key(key, _patched(raw, {above: choice}))]
        if not combinations:
            return [Problem("recipe", f"tune.space.{key}", f"no choice of {above} has such a key. Remove it.")]
    try:
        validate_recipe(with_values(raw, {**combinations[0], key: value}))
    except RecipeError as error:
        return [
            Problem("recipe", f"tune.space.{key}", f"{value!r} does not fit: {fault}") for fault in error.problems or (error,)
        ]
    return []


def _deciding_key(space: Mapping[str, SearchRange], key: str) -> str | None:
    """Find the nearest section above a key, or its kind, with choices of which some may not have the key."""
    parts = key.split(".")
    above = [".".join(parts[:depth]) for depth in range(len(parts) - 1, 0, -1)]
    names = [name for section in above for name in (f"{section}.kind", section) if name in space and name != key]
    return next((name for name in names if space[name].choices), None)


def _patched(raw: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return with_values(raw, values)
    except RecipeError:
        return raw  # the choice's own problems are reported


def _has_key(key: str, raw: Mapping[str, Any]) -> bool:
    """Whether the sections above a key, as they are written, are of a kind that has the key."""
    top, *below = key.split(".")
    if not below:
        return True
    try:
        section: Any = getattr(validate_recipe({"backbone": {"name": "x"}, **({top: raw[top]} if top in raw else {})}), top)
    except (RecipeError, AttributeError):
        return True  # the trial reports what is wrong with it
    for part in below[:-1]:
        section = getattr(section, part, None)
    return below[-1] in type(section).model_fields if isinstance(section, BaseModel) else True


def _value_of_key(resolved: Mapping[str, Any], key: str) -> Any:
    value: Any = resolved
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
