"""One model made of several: trained by one recipe, or pooled from finished runs and files; the result is a run like any other.

members -> aligned predictions -> methods, scored by a second level of cross-validation -> the chosen one, fitted -> predictions
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inkfold.config.load import find_recipe, merge_overrides, raw_keys, validate_ensemble, validate_vote
from inkfold.config.metric import metric_name
from inkfold.config.recipe import EnsembleRecipe, Recipe, VotedRecipe
from inkfold.config.sections import VoteSettings
from inkfold.ensemble.fold_comparison import command_for_folds, held_out_by, warn_of_folds
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
from inkfold.ensemble.model import ENSEMBLE, Ensemble, load_run, named
from inkfold.ensemble.recipe import OWN_KEYS, read_values, settle_members
from inkfold.ensemble.selection import DataSummary, refuse_unfit, select_vote, write_selection
from inkfold.ensemble.submission import SubmissionFormat, format_of_data, format_of_submission
from inkfold.errors import PredictionError, Problem, RecipeError
from inkfold.evaluation.scores import ACCURACY, Metric, build_metric
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

log = logging.getLogger("inkfold.ensemble")

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
    """Train the model or the ensemble that a recipe describes.

    Args:
        recipe: A recipe, its raw keys, a YAML file, or a shipped recipe's name. One with `members` is an ensemble's, and the
            recipes that it names are looked for beside its own file first.
        overrides: `dotted.key=value`. Keys of the ensemble itself change it; all others change every member, and override
            what the ensemble's recipe sets for single members.
        data: The folder of drawings; overrides the recipe's `data`.
        out: The run's directory. An unfinished run of the same recipe in it is continued; a finished one is returned.
        progress: Receives each stage's name, steps done and steps in total.
        on: Where features are computed; see `train`.

    Returns:
        The finished run or ensemble.

    Raises:
        RecipeError: If the recipe doesn't validate.
        DataError: With every problem of the data.
        WeightsError: If a backbone's weights can't be found or downloaded.
        PredictionError: If `out` holds another run, or another process is writing it.
    """
    if isinstance(recipe, Recipe):
        return train(recipe, *overrides, data=data, out=out, progress=progress, on=on)
    opening = open_executor(on)
    raw = raw_keys(recipe)
    if "members" not in raw:
        assert not isinstance(recipe, EnsembleRecipe)
        return train(recipe, *overrides, data=data, out=out, progress=progress, on=on)
    base = find_recipe(recipe).parent if isinstance(recipe, str | Path) else None
    own = [text for text in overrides if text.partition("=")[0].partition(".")[0] in OWN_KEYS]
    values = read_values([text for text in overrides if text not in own])
    merge_overrides(raw, own)
    ensemble = validate_ensemble(raw, "recipe" if base is None else str(recipe))
    settled = settle_members(ensemble, values, base, data)
    with opening as executor:
        return _train_ensemble(*settled, Path(out), progress, executor)


def vote(
    members: Sequence[str | Path],
    vote_recipe: VoteSettings | Mapping[str, Any] | None = None,
    *,
    out: str | Path,
    data: str | Path | None = None,
    settings: Sequence[str] = (),
    seed: int = 42,
    metric: str | None = None,
    progress: Progress = silent,
) -> Ensemble:
    """Pool finished runs and files of predictions into an ensemble.

    Args:
        members: Directories of finished runs, files of test predictions, or directories with out_of_fold.* and test.*; see
            docs/votes.md.
        vote_recipe: The voting method and its settings, such as `{"method": "hard", "within": "hard", "ties": "lowest_id"}`;
            None chooses the method by the out-of-fold predictions.
        out: The ensemble's directory. The runs are copied into it, so that it can be moved by itself.
        data: The folder of drawings; it names the classes and the true labels for files that don't.
        settings: `data.key=value`, how the data are read.
        seed: Seed of what is random in fitting a method, 0 to 4,294,967,295.
        metric: What the vote is chosen and measured by, as in a recipe; None takes the runs' own where it is the same for all,
            else accuracy.
        progress: Receives the number of methods scored so far.

    Returns:
        The finished ensemble.

    Raises:
        RecipeError: If the method isn't known, or the seed is out of its range.
        PredictionError: With everything that doesn't fit.
        DataError: With every problem of the data.
    """
    vote_recipe = vote_recipe if isinstance(vote_recipe, VoteSettings) else validate_vote(vote_recipe or {})
    if not 0 <= seed <= LARGEST_SEED:
        raise RecipeError(f"seed: got {seed}, expected a whole number from 0 to {LARGEST_SEED}.")
    out, paths, named_data = Path(out), [Path(member) for member in members], read_named_data(data, settings)
    loaded = load_members(paths, named_data)
    aligned = _align(loaded)
    refuse_unfit(aligned, vote_recipe)
    chosen = common_metric(loaded) if metric is None else _checked_metric(metric)
    recipe = VotedRecipe(
        members=tuple(str(path.absolute()) for path in paths),
        metric=chosen,
        vote=vote_recipe,
        data=None if data is None else str(Path(data).absolute()),
        settings=tuple(settings),
        seed=seed,
    )
    with claimed(out, recipe):
        fingerprint = _fingerprint(vote_recipe, [digest_member(path) for path in paths], named_data, chosen)
        if (done := _finished(out, fingerprint)) is not None:
            return done
        loaded = [_copied(member, f"{MEMBERS}/{i}-{paths[i].resolve().name}", out) for i, member in enumerate(loaded)]
        _finish(out, recipe, aligned, loaded, _submission_format(aligned, loaded, named_data), fingerprint, (), progress)
    return _loaded(out)


def _checked_metric(metric: str) -> str:
    """Return a metric's name as recipes write it, or refuse a metric that isn't known."""
    try:
        return metric_name(metric)
    except ValueError as error:
        raise RecipeError(f"metric: got {metric!r}, {error}.") from None


def _train_ensemble(
    ensemble: EnsembleRecipe, recipes: Sequence[Recipe], out: Path, progress: Progress, executor: Executor
) -> Ensemble:
    """Train every member below the ensemble's directory, on the same folds, and pool them."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # set by torchrun for its processes
        raise RecipeError(
            "members: several processes together train one run, not an ensemble. Train each member so, and then: "
            "inkfold vote RUN1 RUN2 --out OUT."
        )
    with claimed(out, ensemble):
        for name, recipe in zip(ensemble.names, recipes, strict=True):
            train(recipe, out=out / MEMBERS / name, progress=named(progress, name), on=executor)
        return _pool_members(ensemble, out, progress)


def pool_trained(ensemble: EnsembleRecipe, out: Path, progress: Progress = silent) -> Ensemble:
    """Pool the finished runs of an ensemble's members, as training the ensemble does once its members are trained.

    Args:
        ensemble: A settled ensemble's recipe; its members' runs are finished, each in `members/NAME` below `out`.
        out: The ensemble's directory.
        progress: Receives the number of voting methods scored so far.

    Returns:
        The finished ensemble.

    Raises:
        PredictionError: If a member's run is not finished, or with everything that doesn't fit.
    """
    with claimed(out, ensemble):
        return _pool_members(ensemble, out, progress)


def _pool_members(ensemble: EnsembleRecipe, out: Path, progress: Progress) -> Ensemble:
    """Choose and fit the vote of members whose runs are finished, in a directory that is claimed."""
    runs = [Run.load(out / MEMBERS / name) for name in ensemble.names]
    fingerprint = _fingerprint(ensemble.vote, [digest_member(run.path) for run in runs], None, ensemble.metric)
    if (done := _finished(out, fingerprint)) is not None:
        return done
    loaded = [
        replace(member_of_run(run, shown_name), directory=f"{MEMBERS}/{name}")
        for run, name, shown_name in zip(runs, ensemble.names, tell_apart(ensemble.names), strict=True)
    ]
    aligned = align_members([member.predictions for member in loaded])
    costs = [run.files.cost for run in runs]
    _finish(out, ensemble, aligned, loaded, _submission_format(aligned, loaded, None), fingerprint, costs, progress)
    return _loaded(out)


def _fingerprint(vote_recipe: VoteSettings, members: Sequence[str], data: NamedData | None, metric: str) -> str:
    more = {} if data is None else {"data": data.fingerprint}
    more |= {} if metric == ACCURACY.name else {"metric": metric}  # as before metrics could be named
    vote_keys = vote_recipe.model_dump(exclude={"compare"} if vote_recipe.compare else set())  # as before it could be set
    return key_digest({"vote": vote_keys, "members": [*members], **more})


def common_metric(loaded: Sequence[LoadedMember]) -> str:
    """Name the metric that all members which are runs were measured by; accuracy where they differ, or none is a run."""
    names = {Metric.of_run(member.run.metrics).name for member in loaded if member.run is not None}
    if len(names) > 1:
        log.warning(
            "the members were measured by %s, so the vote is chosen by accuracy; --metric NAME names another",
            ", ".join(sorted(names)),
        )
    return names.pop() if len(names) == 1 else ACCURACY.name


def _metric(name: str, aligned: AlignedMembers, loaded: Sequence[LoadedMember], class_targets: np.ndarray) -> Metric:
    """Build the vote's metric, with the classes' order from a run that knows it, else from their names."""
    for run in (member.run for member in loaded if member.run is not None):
        own = Metric.of_run(run.metrics)
        if own.name == name and own.ranks is not None:
            places = [own.ranks[run.classes_.index(class_name)] for class_name in aligned.class_names]
            return Metric(name, tuple(places))
    return build_metric(name, aligned.class_names, class_targets)


def _finished(out: Path, fingerprint: str) -> Ensemble | None:
    if not (out / MANIFEST).is_file():
        return None
    if read_manifest(out)["data_fingerprint"] != fingerprint:
        raise PredictionError(f"{out}: is finished, but its members or data have changed since. Choose another out.")
    log.info("%s: is finished already, with the same members and data", out)
    return _loaded(out)


def _loaded(out: Path) -> Ensemble:
    loaded = load_run(out)
    assert isinstance(loaded, Ensemble)
    return loaded


def _copied(member: LoadedMember, directory: str, out: Path) -> LoadedMember:
    """Copy a member's run, its manifest last, into a directory below the ensemble's; a file of predictions isn't copied."""
    if member.run is None:
        return member
    source, target = member.run.path, out / directory
    log.info("%s: copied to %s", source, target)
    for name in [*read_manifest(source)["files"], MANIFEST]:
        if (target / name).parent.is_dir():
            sweep_temp_files((target / name).parent, older_than_s=0)
        write_bytes(target / name, (source / name).read_bytes())
    return replace(member, directory=directory)


def _finish(
    out: Path,
    recipe: EnsembleRecipe | VotedRecipe,
    aligned: AlignedMembers,
    loaded: Sequence[LoadedMember],
    submission: SubmissionFormat,
    fingerprint: str,
    member_costs: Sequence[Mapping[str, Any]],
    progress: Progress,
) -> None:
    """Choose and fit the method, and write everything that makes the directory a finished ensemble."""
    cost, metric = Cost(), _metric(recipe.metric, aligned, loaded, submission.class_targets)
    with cost.timed("vote"):
        selection = select_vote(aligned, recipe.vote, recipe.seed, progress, metric)
        files = write_selection(out, aligned, selection, recipe.vote, submission, _data_summary(aligned, loaded))
    write_cost(out, _total([*member_costs, cost.as_json()]))
    warnings = [str(problem) for problem in (*aligned.warnings, *_fold_warnings(aligned, loaded))]
    warnings += [text for member in loaded if member.run is not None for text in member.run.manifest["warnings"]]
    write_manifest(
        out,
        {
            "kind": ENSEMBLE,
            "class_names": list(aligned.class_names),
            "class_targets": submission.class_targets.tolist(),
            **({} if (rule := selection.decision.decision) is None else {"decision": rule.as_json()}),
            "members": [{"name": member.predictions.name, "run": member.directory} for member in loaded],
            **({"transductive": {"used": True, "members": together}} if (together := _propagating(loaded)) else {}),
            "data_fingerprint": fingerprint,
            "warnings": [*dict.fromkeys(warnings)],
        },
        [
            *("recipe.yaml", "cost.json", *files),
            *(f"{member.directory}/{MANIFEST}" for member in loaded if member.directory is not None),
        ],
    )


def _propagating(loaded: Sequence[LoadedMember]) -> list[str]:
    """Name the members whose test drawings were predicted together, by label propagation."""
    runs = [(member.predictions.name, member.run) for member in loaded if member.run is not None]
    return [name for name, run in runs if run.manifest.get("transductive", {}).get("used")]


def _align(loaded: Sequence[LoadedMember]) -> AlignedMembers:
    """Align the members; where runs held out different drawings, say how to train them on the same folds."""
    try:
        return align_members([member.predictions for member in loaded])
    except PredictionError as error:
        if not error.problems:
            raise
        raise PredictionError([*error.problems, *_commands_for_folds(loaded, error.problems)]) from None


def _commands_for_folds(loaded: Sequence[LoadedMember], problems: Sequence[Problem]) -> Iterator[Problem]:
    """Give the command that trains a run on the first run's folds, for each that held out other drawings."""
    odd = {problem.where for problem in problems if problem.kind == "drawings"}
    runs = [(member.predictions.name, held_out_by(member.run.files)) for member in loaded if member.run is not None]
    known = [(name, held_out) for name, held_out in runs if held_out is not None]
    for name, held_out in known[1:]:
        if f"{name}, out of fold" in odd and (command := command_for_folds(known[0][1], held_out)):
            yield Problem("same_folds", name, f"this trains it on the same folds: {command}")


def _fold_warnings(aligned: AlignedMembers, loaded: Sequence[LoadedMember]) -> list[Problem]:
    """Warn of members whose out-of-fold predictions can't be compared; nothing where these aren't used."""
    if aligned.out_of_fold is None:
        return []
    runs = [(member.predictions.name, member.run) for member in loaded if member.run is not None]
    known = [(name, held_out_by(run.files)) for name, run in runs]
    return warn_of_folds([replace(held_out, name=name) for name, held_out in known if held_out is not None])


def _total(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up counts and seconds; take the highest of the peaks."""
    stages = dict.fromkeys(stage for cost in costs for stage in cost["seconds"])
    order = sorted(stages, key=lambda stage: stage == "total")
    peaks = ("peak_memory_bytes", "peak_worker_memory_bytes")
    return {
        **{count: sum(cost.get(count, 0) for cost in costs) for count in ("forwards", "forwards_cached", "decoded", "trained")},
        "seconds": {stage: round(sum(cost["seconds"].get(stage, 0.0) for cost in costs), 3) for stage in order},
        **{peak: max((cost[peak] for cost in costs if cost.get(peak) is not None), default=None) for peak in peaks},
    }


def _data_summary(aligned: AlignedMembers, loaded: Sequence[LoadedMember]) -> DataSummary:
    """Take the data's counts from the runs; files of predictions have nothing but their rows."""
    metrics = [member.run.metrics for member in loaded if member.run is not None]
    if not metrics:
        return DataSummary(len(aligned.targets), {"train": 0, "test": 0}, "kfold")
    skipped, blank = (
        {table: max(own["data"].get(name, {}).get(table, 0) for own in metrics) for table in ("train", "test")}
        for name in ("skipped", "blank")
    )
    split: Literal["kfold", "holdout"] = "holdout" if any(own["split"] == "holdout" for own in metrics) else "kfold"
    of_parts = None if split == "holdout" else next((own["parts"]["of"] for own in metrics if "parts" in own), None)
    return DataSummary(max(own["data"]["n_train"] for own in metrics), skipped, split, blank, of_parts)


def _submission_format(aligned: AlignedMembers, loaded: Sequence[LoadedMember], data: NamedData | None) -> SubmissionFormat:
    """Take the submission's format and the classes' numbers from the first run, else from the data, else count from 0.

    Where named data say another form than the usual one, it is that form.
    """
    if data is not None and data.dataset.submission is not None:
        return format_of_data(data.dataset, data.options, aligned.class_names)
    for run in (member.run for member in loaded if member.run is not None):
        targets = run.class_targets[[run.classes_.index(name) for name in aligned.class_names]]
        columns = run.recipe.data
        return format_of_submission(run.path / SUBMISSION, columns.path_column, columns.target_column, targets)
    if data is None:
        return SubmissionFormat(np.arange(len(aligned.class_names)))
    return format_of_data(data.dataset, data.options, aligned.class_names)
