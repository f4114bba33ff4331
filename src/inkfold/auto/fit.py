"""The search for the best classifier within a budget, with a directory of its own and shown as it goes."""

import logging
from collections.abc import Sequence
from pathlib import Path

from inkfold.auto.status import console_status
from inkfold.auto.train import train_any
from inkfold.config.load import shipped_recipes
from inkfold.ensemble.model import Ensemble
from inkfold.pipeline.run import Run
from inkfold.runtime.progress import Progress

log = logging.getLogger("inkfold.auto")

RECIPE = "auto"
RUNS = Path("runs")


def fit(
    overrides: Sequence[str],
    budget: str | float = "10m",
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Run | Ensemble:
    """Search with the shipped recipe; `inkfold.fit` takes drawings and settings of any form, and calls this.

    Args:
        overrides: `dotted.key=value`, the place of the data among them.
        budget: Wall-clock time for the whole search: a text such as `10m`, or a number of seconds.
        out: The run's directory; None makes a new one below the current directory, `runs/auto-NUMBER`.
        progress: Receives each stage's name, what is done and the total; None shows the search on standard error.

    Returns:
        The best model, loaded.

    Raises:
        RecipeError: If the budget or a setting is none.
        DataError: With every problem of the data.
        PredictionError: If `out` holds another run, or another process is searching in it.
    """
    texts = [f"auto.budget={budget}", *overrides]
    place = _new_directory() if out is None else Path(out)
    recipe = shipped_recipes()[RECIPE]
    if progress is not None:
        return train_any(recipe, *texts, out=place, progress=progress)
    with console_status() as status:
        return train_any(recipe, *texts, out=place, progress=status)


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
