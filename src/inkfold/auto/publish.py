"""Makes what a search chose the run at the top of its directory: one candidate's files, or a vote over several."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inkfold.config.load import dump_recipe, validate_ensemble
from inkfold.config.recipe import AutoRecipe
from inkfold.ensemble.build import MEMBERS, pool_trained
from inkfold.ensemble.recipe import SHARED_KEYS
from inkfold.pipeline.manifest import MANIFEST, STAGED
from inkfold.pipeline.run_files import RECIPE
from inkfold.pipeline.swap import all_files, swap_in
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.files import atomic_file, make_directory, write_text

CANDIDATES = "candidates"


def publish(out: Path, recipe: AutoRecipe, members: Mapping[str, Mapping[str, Any]], progress: Progress = silent) -> None:
    """Put finished candidates at the top of a search's directory, in place of what was there; a kill leaves one of the two.

    Args:
        out: The search's directory; each member's finished run lies in `candidates/NAME`.
        recipe: The search's own recipe: data, folds, submission, metric and seed.
        members: Raw recipe of each candidate that answers, by its name; several vote with equal weights.
        progress: Receives the number of voting methods scored so far.
    """
    staged = out / STAGED
    shutil.rmtree(staged, ignore_errors=True)
    if len(members) == 1:
        _link_run(out / CANDIDATES / next(iter(members)), staged)
    else:
        ensemble = validate_ensemble(ensemble_of(recipe, members))
        write_text(staged / RECIPE, dump_recipe(ensemble))  # which makes the directory this ensemble's
        for name in members:
            _link_run(out / CANDIDATES / name, staged / MEMBERS / name)
        pool_trained(ensemble, staged, progress)
    swap_in(out, [*all_files(staged), MANIFEST])


def ensemble_of(recipe: AutoRecipe, members: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Write the recipe of a vote over candidates, which trains them again wherever it is run.

    Args:
        recipe: The search's own recipe: data, folds, submission, metric and seed.
        members: Raw recipe of each candidate, by its name.

    Returns:
        An ensemble's raw recipe.
    """
    listed = [{"recipe": dict(raw), "name": name} for name, raw in members.items()]
    shared = recipe.model_dump(mode="json", include={*SHARED_KEYS})
    return {**shared, "members": listed, "vote": {"method": "soft", "compare": False}}


def _link_run(source: Path, target: Path) -> None:
    """Make a finished run appear in another directory, its manifest last; files are shared where the file system can."""
    names: Sequence[str] = [*all_files(source), MANIFEST]
    for name in names:
        make_directory((target / name).parent)
        try:
            os.link(source / name, target / name)
        except OSError:  # another file system, or one without links
            with atomic_file(target / name) as file, (source / name).open("rb") as original:
                shutil.copyfileobj(original, file)
