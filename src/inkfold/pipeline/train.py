"""The main path: recipe + drawings -> run directory. Read this first, top to bottom.

Each stage leaves files (pixels and features in the cache, the rest in the run), and `manifest.json` is written last: a run
killed anywhere continues where it was, with the same result.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from inkfold.augment.views import IDENTITY
from inkfold.config.recipe import Recipe
from inkfold.data.dataset import few_drawings, read_dataset
from inkfold.data.splits import count_split_groups
from inkfold.errors import RecipeError
from inkfold.evaluation.predictions import Predictions
from inkfold.features.executors import INLINE, Executor, open_executor
from inkfold.pipeline.build import TrainingPlan, build_plan, data_options, settle_recipe
from inkfold.pipeline.finetuning import finetune_folds, joined_processes, wait_for_run
from inkfold.pipeline.inputs import TrainingInputs, assign_to_folds, build_training_set, prepare_inputs
from inkfold.pipeline.out_of_fold import predict_held_out, predict_test, shared_features
from inkfold.pipeline.prepare import read_files
from inkfold.pipeline.results import Results, warn_of_choices, warn_of_seen, write_results
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_dir import claimed, finished_run, write_cost, write_manifest
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent

if TYPE_CHECKING:
    from inkfold.heads.fit import FittedHeads


def train(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *overrides: str,
    data: str | Path | None = None,
    out: str | Path,
    progress: Progress = silent,
    on: str | Executor = INLINE,
) -> Run:
    """Run a recipe on drawings: features, folds, heads, out-of-fold and test predictions, metrics, submission.

    Args:
        recipe: A recipe, its raw keys, a YAML file, or a shipped recipe's name.
        overrides: `dotted.key=value`.
        data: The folder of drawings; overrides the recipe's.
        out: The run's directory. One that holds this run unfinished is continued, and a finished one is returned.
        progress: Called as each stage advances.
        on: Where features are computed, which changes nothing in them: `inline`, `pool[:N]` or `ray[:ADDRESS]`; on Ray,
            `ray[:ADDRESS][:N]`, also where N processes fine-tune.

    Returns:
        The finished run.

    Raises:
        RecipeError: If the recipe doesn't validate.
        DataError: With every problem of the data.
        WeightsError: If the backbone's weights can't be had.
        PredictionError: If `out` holds another run, or another process is writing it.
    """
    opened = open_executor(on)
    recipe, out, cost = settle_recipe(recipe, overrides, data), Path(out), Cost()
    dataset = read_dataset(str(recipe.data.root), data_options(recipe))
    with opened as executor, joined_processes(recipe) as group, claimed(out, recipe, first=group is None or group.is_first):
        read = read_files(dataset, None if dataset.test is None else dataset.test.targets, cost, progress)
        if finished := finished_run(out, read.fingerprint):
            return finished

        with cost.timed("backbone"):
            plan = build_plan(recipe, executor)
        inputs = prepare_inputs(plan, read, cost, progress)
        folds = assign_to_folds(recipe, inputs.prepared)
        with cost.timed("fit"):
            heads = _train_heads(plan, inputs, folds, progress)
        features, frozen, finetuned = shared_features(inputs.features, inputs.test_features, folds), None, None

        if group is not None:
            frozen = predict_held_out(features, inputs.prepared, (IDENTITY,), folds, heads)
            finetuned = finetune_folds(plan, inputs, folds, heads, out, group=group, cost=cost, progress=progress)
            if not group.is_first:
                return wait_for_run(out, read.fingerprint)
            heads = finetuned.fitted
            features = inputs.features_by_fold(finetuned.files, folds, out, cost=cost, progress=progress)

        with cost.timed("predict"):
            out_of_fold = predict_held_out(features, inputs.prepared, plan.test_views, folds, heads)
            test = predict_test(features, inputs.prepared, plan.test_views, len(folds), heads)
            plain = predict_held_out(features, inputs.prepared, (IDENTITY,), folds, heads) if recipe.tta else None
        split_apart = _predict_with_copies_split(plan, inputs, cost, progress) if group is None else None

        results = Results(len(folds), heads, out_of_fold, test, plain, frozen, finetuned, split_apart)
        files = write_results(out, recipe, plan.curriculum, inputs.prepared, results)
        _finish(out, plan, inputs, results, files, cost)
    return Run.load(out)


def _train_heads(
    plan: TrainingPlan, inputs: TrainingInputs, folds: Bool[np.ndarray, "folds n"], progress: Progress
) -> "FittedHeads":
    """Train a head for every fold, on the frozen backbone's features."""
    from inkfold.heads.fit import fit_trials  # noqa: PLC0415 - torch takes a second

    training_set = build_training_set(inputs, folds)
    [heads] = fit_trials(training_set, [plan.trial], device=plan.device, progress=progress)
    if heads.diverged is not None:
        raise RecipeError(
            f"train_head.lr: with {plan.trial.settings.lr:g} the loss was not finite in epoch {heads.diverged + 1}. Lower it, "
            "or bring the features to one scale: train_head.scaling=standardise."
        )
    return heads


def _predict_with_copies_split(
    plan: TrainingPlan, inputs: TrainingInputs, cost: Cost, progress: Progress
) -> Predictions | None:
    """Train once more on folds that split copies apart, to measure their optimism; None where no copies would be split."""
    prepared = inputs.prepared
    if prepared.duplicates is None or plan.recipe.folds.split != "kfold":  # a holdout would hold out other drawings
        return None
    folds = assign_to_folds(plan.recipe, prepared, grouped=False)
    if not count_split_groups(prepared.duplicates, folds.argmin(0)):
        return None
    with cost.timed("parted_duplicates"):
        heads = _train_heads(plan, inputs, folds, progress)
        return predict_held_out(shared_features(inputs.features, None, folds), prepared, plan.test_views, folds, heads)


def _finish(out: Path, plan: TrainingPlan, inputs: TrainingInputs, results: Results, files: list[str], cost: Cost) -> None:
    """Write the cost and the manifest, and remove the checkpoints."""
    extractor, prepared, finetuned = plan.extractor, inputs.prepared, results.tuned
    dataset = prepared.read.dataset
    notes = () if finetuned is None else finetuned.notes
    warnings = [*dataset.problems, *few_drawings(dataset, plan.recipe.folds.k), *notes]
    weights = {} if finetuned is None else {"tuned": list(finetuned.files)}
    write_cost(out, {**cost.as_json(), "precision": extractor.backbone.precision, "device": extractor.device})
    write_manifest(
        out,
        {
            "class_names": list(dataset.class_names),
            "class_targets": dataset.class_targets.tolist(),
            "members": [f"fold {fold}" for fold in results.fitted.folds],
            "backbone": extractor.backbone.as_json(),
            **weights,
            "data_fingerprint": prepared.read.fingerprint,
            "warnings": [*map(str, warnings), *warn_of_seen(results.out_of_fold), *warn_of_choices(results)],
        },
        ["recipe.yaml", "cost.json", *files, *weights.get("tuned", [])],
    )
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
