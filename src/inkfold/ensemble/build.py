"""Several models become one: trained by one recipe, or given as runs and files; the result is a run like any other.

members -> panel -> ways judged by a second level of cross-validation -> the chosen way, fitted -> predictions, submission
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inkfold.config.load import find_recipe, load_raw, merge_overrides, validate_ensemble, validate_vote
from inkfold.config.recipe import EnsembleRecipe, Recipe, VotedRecipe
from inkfold.config.sections import VoteRecipe
from inkfold.ensemble.load import (
    LoadedMember,
    NamedData,
    digest_member,
    load_members,
    member_of_run,
    read_named_data,
    tell_apart,
)
from inkfold.ensemble.members import AlignedMembers, align_members
from inkfold.ensemble.model import ENSEMBLE, Ensemble, load_any, named
from inkfold.ensemble.recipe import OWN_KEYS, read_values, settle_members
from inkfold.ensemble.selection import Facts, refuse_unfit, select_vote, write_selection
from inkfold.ensemble.submission import SubmissionFormat, form_of_data, form_of_submission
from inkfold.errors import PredictionError, RecipeError
from inkfold.features.executors import INLINE, Executor, open_executor
from inkfold.pipeline.manifest import MANIFEST, read_manifest
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_dir import claimed, write_cost, write_manifest
from inkfold.pipeline.run_files import SUBMISSION
from inkfold.pipeline.train import train
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.files import sweep_temp_files, write_bytes
from inkfold.storage.hashing import key_digest

MEMBERS = "members"
LARGEST_SEED = 2**32 - 1


def train_any(
    recipe: Recipe | EnsembleRecipe | Mapping[str, Any] | str | Path,
    *overrides: str,
    data: str | Path | None = None,
    out: str | Path,
    progress: Progress = silent,
    on: str | Executor = INLINE,
) -> Run | Ensemble:
    """Run a recipe on drawings, of one model or of an ensemble.

    Args:
        recipe: A recipe, its raw keys, a YAML file, or a shipped recipe's name; one with `members` is an ensemble's, and
            names their recipes relative to its own file.
        overrides: `dotted.key=value`; for an ensemble, keys that aren't its own go to every member, before what it says itself.
        data: The folder of drawings; goes before what the recipe says.
        out: The run's directory. One that holds this run unfinished is continued, and a finished one is returned.
        progress: Told how far each stage is.
        on: Where features are computed; see `train`.

    Returns:
        The finished run.

    Raises:
        RecipeError: If the recipe doesn't validate.
        DataError: With every problem of the data.
        WeightsError: If a backbone's weights can't be had.
        PredictionError: If `out` holds another run, or another process is writing it.
    """
    if isinstance(recipe, Recipe):
        return train(recipe, *overrides, data=data, out=out, progress=progress, on=on)
    launching = open_executor(on)
    if isinstance(recipe, EnsembleRecipe):
        recipe = recipe.model_dump(mode="json")
    raw = dict(recipe) if isinstance(recipe, Mapping) else load_raw(recipe)
    if "members" not in raw:
        return train(recipe, *overrides, data=data, out=out, progress=progress, on=on)
    base = None if isinstance(recipe, Mapping) else find_recipe(recipe).parent
    ours = [text for text in overrides if text.partition("=")[0].partition(".")[0] in OWN_KEYS]
    values = read_values([text for text in overrides if text not in ours])
    merge_overrides(raw, ours)
    ensemble = validate_ensemble(raw, "recipe" if base is None else str(recipe))
    settled = settle_members(ensemble, values, base, data)
    with launching as launcher:
        return _train_ensemble(*settled, Path(out), progress, launcher)


def vote(
    members: Sequence[str | Path],
    how: VoteRecipe | Mapping[str, Any] | None = None,
    *,
    out: str | Path,
    data: str | Path | None = None,
    settings: Sequence[str] = (),
    seed: int = 42,
    progress: Progress = silent,
) -> Ensemble:
    """Let runs and files of predictions vote.

    Args:
        members: Runs; files of test predictions; directories with out_of_fold.* and test.*; see `foreign`.
        how: The method and the rest, such as `{"method": "hard", "within": "hard", "ties": "lowest_id"}`; None is `auto`.
        out: The ensemble's directory; the runs are copied into it, so that it stands by itself.
        data: Names the classes and the true labels for files that don't.
        settings: `data.key=value`, how the data are read.
        seed: Of what is random in fitting a vote.
        progress: Told of each way that is judged.

    Returns:
        The finished ensemble.

    Raises:
        RecipeError: If the method isn't known, or the seed is below 0.
        PredictionError: With everything that doesn't fit.
        DataError: With every problem of the data.
    """
    how = how if isinstance(how, VoteRecipe) else validate_vote(how or {})
    if not 0 <= seed <= LARGEST_SEED:
        raise RecipeError(f"seed: got {seed}, expected a whole number from 0 to {LARGEST_SEED}.")
    out, paths, named_data = Path(out), [Path(member) for member in members], read_named_data(data, settings)
    voters = load_members(paths, named_data)
    panel = align_members([voter.panelist for voter in voters])
    refuse_unfit(panel, how)
    recipe = VotedRecipe(
        members=tuple(str(path.absolute()) for path in paths),
        vote=how,
        data=None if data is None else str(Path(data).absolute()),
        settings=tuple(settings),
        seed=seed,
    )
    with claimed(out, recipe):
        fingerprint = _fingerprint(how, [digest_member(path) for path in paths], named_data)
        if (done := _finished(out, fingerprint)) is not None:
            return done
        places = [None if voter.run is None else f"{MEMBERS}/{i}-{paths[i].resolve().name}" for i, voter in enumerate(voters)]
        for voter, place in zip(voters, places, strict=True):
            if voter.run is not None and place is not None:
                _copy_run(voter.run.path, out / place)
        _conclude(out, (panel, voters, places), recipe, _form(panel, voters, named_data), (fingerprint, []), progress)
    return _loaded(out)


def _train_ensemble(
    ensemble: EnsembleRecipe, recipes: Sequence[Recipe], out: Path, progress: Progress, launcher: Executor
) -> Ensemble:
    """Train every member into the ensemble's directory, on the same folds, and let them vote."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # as torchrun tells its processes
        raise RecipeError(
            "members: several processes together train one run, not an ensemble. Train each member so, and then: "
            "inkfold vote RUN1 RUN2 --out OUT."
        )
    with claimed(out, ensemble):
        runs = [
            train(recipe, out=out / MEMBERS / name, progress=named(progress, name), on=launcher)
            for name, recipe in zip(ensemble.names, recipes, strict=True)
        ]
        fingerprint = _fingerprint(ensemble.vote, [digest_member(run.path) for run in runs], None)
        if (done := _finished(out, fingerprint)) is not None:
            return done
        voters = [member_of_run(run, name) for run, name in zip(runs, tell_apart(ensemble.names), strict=True)]
        panel = align_members([voter.panelist for voter in voters])
        costs = [json.loads((run.path / "cost.json").read_text(encoding="utf-8")) for run in runs]
        places = [f"{MEMBERS}/{name}" for name in ensemble.names]
        _conclude(out, (panel, voters, places), ensemble, _form(panel, voters, None), (fingerprint, costs), progress)
    return _loaded(out)


def _fingerprint(how: VoteRecipe, members: Sequence[str], data: NamedData | None) -> str:
    named_data = {} if data is None else {"data": data.fingerprint}
    return key_digest({"vote": how.model_dump(), "members": [*members], **named_data})


def _finished(out: Path, fingerprint: str) -> Ensemble | None:
    if not (out / MANIFEST).is_file():
        return None
    if read_manifest(out)["data_fingerprint"] != fingerprint:
        raise PredictionError(f"{out}: is finished, but its members or data have changed since. Choose another out.")
    return _loaded(out)


def _loaded(out: Path) -> Ensemble:
    loaded = load_any(out)
    assert isinstance(loaded, Ensemble)
    return loaded


def _copy_run(source: Path, target: Path) -> None:
    """Copy a finished run, its manifest last."""
    for name in [*read_manifest(source)["files"], MANIFEST]:
        if (target / name).parent.is_dir():
            sweep_temp_files((target / name).parent, older_than_s=0)
        write_bytes(target / name, (source / name).read_bytes())


def _conclude(
    out: Path,
    seats: tuple[AlignedMembers, Sequence[LoadedMember], Sequence[str | None]],
    recipe: EnsembleRecipe | VotedRecipe,
    form: SubmissionFormat,
    past: tuple[str, Sequence[Mapping[str, Any]]],
    progress: Progress,
) -> None:
    """Judge, vote, and finish the ensemble's directory."""
    (panel, voters, places), (fingerprint, costs), cost = seats, past, Cost()
    with cost.timed("vote"):
        verdict = select_vote(panel, recipe.vote, recipe.seed, progress)
        files = write_selection(out, panel, verdict, recipe.vote, form, _facts(panel, voters))
    write_cost(out, _total([*costs, cost.as_json()]))
    warnings = [str(problem) for problem in panel.warnings]
    warnings += [text for voter in voters if voter.run is not None for text in voter.run.manifest["warnings"]]
    write_manifest(
        out,
        {
            "kind": ENSEMBLE,
            "class_names": list(panel.class_names),
            "class_targets": form.class_targets.tolist(),
            "members": [{"name": name, "run": place} for name, place in zip(panel.names, places, strict=True)],
            "data_fingerprint": fingerprint,
            "warnings": [*dict.fromkeys(warnings)],
        },
        ["recipe.yaml", "cost.json", *files, *(f"{place}/{MANIFEST}" for place in places if place is not None)],
    )


def _total(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up what was spent; of peaks take the highest."""
    stages = dict.fromkeys(stage for one in costs for stage in one["seconds"])
    order = sorted(stages, key=lambda stage: stage == "total")
    peaks = ("peak_memory_bytes", "peak_worker_memory_bytes")
    return {
        **{count: sum(one.get(count, 0) for one in costs) for count in ("forwards", "forwards_cached", "decoded", "trained")},
        "seconds": {stage: round(sum(one["seconds"].get(stage, 0.0) for one in costs), 3) for stage in order},
        **{peak: max((one[peak] for one in costs if one.get(peak) is not None), default=None) for peak in peaks},
    }


def _facts(panel: AlignedMembers, voters: Sequence[LoadedMember]) -> Facts:
    """Take from the runs what they say of their data; mere files say nothing but their rows."""
    metrics = [voter.run.metrics for voter in voters if voter.run is not None]
    if not metrics:
        return Facts(len(panel.targets), {"train": 0, "test": 0}, "kfold")
    skipped = {part: max(one["data"]["skipped"][part] for one in metrics) for part in ("train", "test")}
    held_out = any(one["split"] == "holdout" for one in metrics)
    return Facts(max(one["data"]["n_train"] for one in metrics), skipped, "holdout" if held_out else "kfold")


def _form(panel: AlignedMembers, voters: Sequence[LoadedMember], data: NamedData | None) -> SubmissionFormat:
    """Take the submission's form and the classes' numbers from the first run, else from the data, else count from 0."""
    for run in (voter.run for voter in voters if voter.run is not None):
        targets = run.class_targets[[run.classes_.index(name) for name in panel.class_names]]
        columns = run.recipe.data
        return form_of_submission(run.path / SUBMISSION, columns.path_column, columns.target_column, targets)
    if data is None:
        return SubmissionFormat(np.arange(len(panel.class_names)))
    return form_of_data(data.dataset, data.options, panel.class_names)
