"""The main loop of a search: read the drawings, then try what promises most per second until the time is over.

Each candidate is an ordinary run below `candidates/`, trained on the same folds; after each, what answers best out of fold is
put at the top of the directory. `auto.json` is written after every step, so that a killed search goes on where it was.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inkfold.auto.clock import Clock
from inkfold.auto.forecast import forecast
from inkfold.auto.record import AUTO, REQUEST, AutoRecord
from inkfold.auto.search import WITHOUT_BACKBONE, Search, settle_candidate
from inkfold.auto.status import as_status
from inkfold.config.load import find_recipe, merge_overrides, raw_keys, validate_auto
from inkfold.config.recipe import AutoRecipe, EnsembleRecipe, Recipe
from inkfold.ensemble.build import train_any as train_one
from inkfold.ensemble.model import Ensemble, load_run
from inkfold.ensemble.recipe import SHARED_KEYS, read_values
from inkfold.features.executors import INLINE, Executor, open_executor
from inkfold.pipeline.manifest import MANIFEST, finish_swap
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_dir import claimed
from inkfold.pipeline.shared import SharedInputs
from inkfold.runtime.progress import Progress, silent

OWN_KEYS = (*SHARED_KEYS, "auto", "set")


def train_any(
    recipe: Recipe | EnsembleRecipe | AutoRecipe | Mapping[str, Any] | str | Path,
    *overrides: str,
    data: str | Path | None = None,
    out: str | Path,
    progress: Progress = silent,
    on: str | Executor = INLINE,
) -> Run | Ensemble:
    """Train what a recipe describes: one model, an ensemble, or the best that a search finds within a budget of time.

    Args:
        recipe: A recipe, its raw keys, a YAML file, or a shipped recipe's name. One with the section `auto` is a search's.
        overrides: `dotted.key=value`. Of a search, keys of data, folds, submission, metric, seed and auto are its own; all
            others are fixed for everything that it tries. `budget=10m` is short for `auto.budget=10m`.
        data: The folder of drawings; overrides the recipe's `data`.
        out: The run's directory. An unfinished run of the same recipe in it is continued, and a finished one is returned; a
            search goes on where it has time left.
        progress: Receives each stage's name, steps done and steps in total; a `Status` also where a search's steps begin and
            end.
        on: Where features are computed; see `train`.

    Returns:
        The finished run or ensemble.

    Raises:
        RecipeError: If the recipe doesn't validate.
        DataError: With every problem of the data.
        WeightsError: If a backbone's weights can't be found or downloaded.
        PredictionError: If `out` holds another run, or another process is writing it.
    """
    if isinstance(recipe, Recipe | EnsembleRecipe):
        return train_one(recipe, *overrides, data=data, out=out, progress=progress, on=on)
    raw = raw_keys(recipe)
    if "auto" not in raw:
        assert not isinstance(recipe, AutoRecipe)
        return train_one(recipe, *overrides, data=data, out=out, progress=progress, on=on)
    source = str(find_recipe(recipe)) if isinstance(recipe, str | Path) else "recipe"
    request = settle_request(raw, overrides, data, source)
    with open_executor(on) as executor:
        return train_auto(request, out=Path(out), progress=progress, executor=executor)


def settle_request(
    raw: Mapping[str, Any], overrides: tuple[str, ...] = (), data: str | Path | None = None, source: str = "recipe"
) -> AutoRecipe:
    """Validate a search's recipe with overrides; keys that aren't its own are fixed for everything that it tries.

    Args:
        raw: The recipe's keys as nested mappings.
        overrides: `dotted.key=value`; the last one of a key wins.
        data: The folder of drawings; None takes the recipe's.
        source: Name of the recipe in error messages.

    Returns:
        The search's recipe, with an absolute path of the data.

    Raises:
        RecipeError: With every problem of the recipe, also of what is fixed; or if no data are named.
    """
    raw = dict(raw)
    values = read_values([*overrides])
    own = {key: value for key, value in values.items() if key.partition(".")[0] in OWN_KEYS}
    merge_overrides(raw, [text for text in overrides if {*read_values([text])} <= {*own}])
    fixed = {key: value for key, value in values.items() if key not in own}
    raw["set"] = {**(raw.get("set") or {}), **fixed}
    if data is not None:
        merge_overrides(raw, [f"data.root={data}"])
    request = validate_auto(raw, source)
    return request.model_copy(update={"data": settle_candidate(request, WITHOUT_BACKBONE, source).data})


def train_auto(
    recipe: AutoRecipe,
    *,
    out: Path,
    progress: Progress = silent,
    executor: Executor | None = None,
) -> Run | Ensemble:
    """Search for the best classifier within the recipe's budget.

    Args:
        recipe: The search's recipe, as `settle_request` gives it.
        out: The search's directory. What earlier calls did in it is used, and their time counts.
        progress: Receives each stage's name, steps done and steps in total; a `Status` also where steps begin and end.
        executor: Computes features; None computes them in this process.

    Returns:
        The best that was found, which lies at the top of `out`.

    Raises:
        DataError: With every problem of the data.
        PredictionError: If `out` holds something else, other data, or another process is searching in it.
        WeightsError: If no backbone can be had.
    """
    shared = SharedInputs()
    shared.dataset(settle_candidate(recipe, WITHOUT_BACKBONE))  # before anything is written: another call may correct it
    finish_swap(out)
    with claimed(out, recipe, file=REQUEST, free=("auto.budget", "auto.replay")):
        record = AutoRecord.load(out / AUTO) if (out / AUTO).is_file() else AutoRecord()
        clock = Clock(recipe.auto.budget_s, record.spent_s)
        status = as_status(progress)
        record.budget_s = clock.budget_s
        status.start(record, clock.call_s)
        search = Search(recipe, out, record, clock, executor=executor, status=status, shared=shared)
        with _counted(search):
            if recipe.auto.replay is not None:
                search.replay(AutoRecord.load(Path(recipe.auto.replay).expanduser()))
            elif clock.left_s > 0 or not (out / MANIFEST).is_file():
                search.run()
            else:
                search.refuse_changes()
    return load_run(out)


@contextlib.contextmanager
def _counted(search: Search) -> Iterator[None]:
    """Write down the time that a call took, however it ends."""
    record, earlier = search.record, search.record.spent_s
    record.calls.append({"budget_s": search.clock.budget_s, "spent_s": 0.0})
    try:
        yield
    finally:
        record.spent_s = earlier + search.clock.call_s
        record.calls[-1]["spent_s"] = search.clock.call_s
        record.forecast = forecast(record)
        search.save()
