"""The search from Python in one call: drawings and a budget in, a model out."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from inkfold.auto.status import console_status
from inkfold.auto.train import train_any
from inkfold.config.load import shipped_recipes
from inkfold.ensemble.model import Ensemble
from inkfold.errors import Problem, RecipeError
from inkfold.pipeline.run import Run
from inkfold.runtime.progress import Progress

log = logging.getLogger("inkfold.auto")

RECIPE = "auto"
RUNS = Path("runs")


def fit(
    drawings: str | Path,
    budget: str | float = "10m",
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Run | Ensemble:
    """Find the best classifier of some drawings that this machine can train within a budget of time.

    The same as `inkfold train auto data=DRAWINGS budget=BUDGET out=OUT`.

    Args:
        drawings: A folder or table of labelled drawings, or a folder in the competition's layout.
        budget: Wall-clock time for the whole search: a text such as `30s`, `10m`, `1h` or `12h`, or a number of seconds, 10 to
            2,592,000.
        out: The run's directory, in which an unfinished search goes on, also with a larger budget. None makes a new one below
            the current directory: `runs/auto-1`, or the next number that is free.
        progress: Receives each stage's name, what is done and the total. None shows the search on standard error, as the
            command line does; `inkfold.runtime.progress.silent` shows nothing.
        settings: Keys of a recipe, which hold for everything that is tried. Two underscores stand for the dot, as in
            `folds__k=10` and `image__resize="pad"`; `folds={"k": 10}` sets the same. `seed=7` needs none.

    Returns:
        The best model, loaded: it predicts (`predict_proba`), and its `path`, `metrics` and `classes_` say what it is.

    Raises:
        RecipeError: If the budget or a setting is none.
        DataError: With every problem of the data.
        PredictionError: If `out` holds another run, or another process is searching in it.
    """
    overrides = [f"auto.budget={_as_text(budget)}", *as_overrides(settings)]
    place = _new_directory() if out is None else Path(out)
    recipe = shipped_recipes()[RECIPE]
    if progress is not None:
        return train_any(recipe, *overrides, data=drawings, out=place, progress=progress)
    with console_status() as status:
        return train_any(recipe, *overrides, data=drawings, out=place, progress=status)


def as_overrides(settings: Mapping[str, Any]) -> list[str]:
    """Write keyword arguments as `dotted.key=value`.

    Args:
        settings: Values by key, two underscores standing for a dot; a mapping sets the keys below it.

    Returns:
        One text per value, as it is typed on the command line.

    Raises:
        RecipeError: With every value that a recipe can't hold.
    """
    texts, problems = [], []
    for name, value in _flat({key.replace("__", "."): value for key, value in settings.items()}).items():
        try:
            texts.append(f"{name}={_as_text(value)}")
        except yaml.YAMLError:
            kind = type(value).__name__
            message = f"got {value!r} ({kind}), expected a text, number, truth value, None, list or mapping."
            problems.append(Problem("setting", name, message))
    if problems:
        raise RecipeError(problems)
    return texts


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat


def _as_text(value: Any) -> str:
    """Write a value as YAML on one line; what NumPy and pathlib have of their own becomes plain first."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Path):
        value = str(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _new_directory() -> Path:
    """Make the next directory `runs/auto-NUMBER` that isn't there."""
    number = 1
    while True:
        try:
            (RUNS / f"{RECIPE}-{number}").mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            log.info("the run goes to %s", RUNS / f"{RECIPE}-{number}")
            return RUNS / f"{RECIPE}-{number}"
