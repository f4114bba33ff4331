"""Heads on a frozen backbone's features: trained on the run's folds, and once more on folds that split copies apart."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from inkfold.data.splits import Folds, count_split_groups
from inkfold.errors import RecipeError
from inkfold.evaluation.predictions import Predictions
from inkfold.features.executors import INLINE, Executor, open_executor
from inkfold.pipeline.build import TrainingPlan, build_plan, metric_of
from inkfold.pipeline.inputs import TrainingInputs, assign_to_folds, build_training_set, prepare_inputs
from inkfold.pipeline.manifest import ADDED, MANIFEST, STAGED
from inkfold.pipeline.out_of_fold import predict_held_out, shared_features
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_dir import claimed, finished_run
from inkfold.pipeline.run_files import METRICS, OUT_OF_FOLD
from inkfold.pipeline.run_metrics import with_split_apart
from inkfold.pipeline.same_run import refuse_changes
from inkfold.pipeline.shared import SharedInputs
from inkfold.pipeline.swap import all_files, swap_in
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.files import write_json
from inkfold.storage.hashing import digest_file
from inkfold.storage.sealed import read_sealed, write_sealed

if TYPE_CHECKING:
    from inkfold.heads.fit import FittedHeads


def train_heads(plan: TrainingPlan, inputs: TrainingInputs, folds: Folds, progress: Progress) -> "FittedHeads":
    """Train the heads of all folds on the frozen backbone's features.

    Args:
        plan: The run's plan, which names the head and how it is trained.
        inputs: Drawings and their features under every view.
        folds: Which drawings each fold's heads train on, and which it holds out.
        progress: Called after each epoch of each group of heads.

    Returns:
        The fitted heads, with their training curve.

    Raises:
        RecipeError: If the learning rate is so high that a loss was not finite.
    """
    from inkfold.heads.fit import fit_trials  # noqa: PLC0415 - torch takes a second

    training_set = build_training_set(inputs, folds)
    metric = metric_of(plan.recipe, inputs.prepared.read.dataset)
    [fitted] = fit_trials(training_set, [plan.trial], device=plan.device, progress=progress, metric=metric)
    if fitted.diverged is not None:
        raise RecipeError(
            f"train_head.lr: with {plan.trial.settings.lr:g} the loss was not finite in epoch {fitted.diverged + 1}. Lower it, "
            "or bring the features to one scale: train_head.scaling=standardise."
        )
    return fitted


def predict_split_apart(plan: TrainingPlan, inputs: TrainingInputs, cost: Cost, progress: Progress) -> Predictions | None:
    """Train once more on folds that split groups or else copies, to measure their optimism.

    Args:
        plan: The run's plan, whose backbone stays frozen.
        inputs: Drawings and their features under every view.
        cost: Seconds are added to it.
        progress: Called after each epoch of each group of heads.

    Returns:
        The out-of-fold predictions of these folds; None if they split none.
    """
    prepared = inputs.prepared
    if prepared.groups is None or plan.recipe.folds.held_out_parts < plan.recipe.folds.k:  # other drawings would be held out
        return None
    folds = assign_to_folds(plan.recipe, prepared, "files" if prepared.named_groups is None else "copies")
    if not count_split_groups(prepared.groups, folds.held_out.argmax(0)):
        return None
    with cost.timed("parted_duplicates" if prepared.named_groups is None else "parted_groups"):
        fitted = train_heads(plan, inputs, folds, progress)
        return predict_held_out(shared_features(inputs.features, None, folds), prepared, plan.test_views, folds, fitted)


def add_split_apart(
    out: Path, shared: SharedInputs | None = None, progress: Progress = silent, on: str | Executor = INLINE
) -> Run:
    """Measure what a run was trained without (`train(..., measure_apart=False)`); it is then the same as one trained with it.

    A kill at any moment leaves the run as it was, or complete.

    Args:
        out: Directory of a finished run of one model, in which its metrics and its manifest are replaced.
        shared: Keeps what trainings on the same data have in common; None reads the data again.
        progress: Called with the stage's name, what is done and the total.
        on: Where features are computed that are no longer in the cache, as in `train`.

    Returns:
        The run; as it was if it has the figures already, is fine-tuned, or nothing would be split.

    Raises:
        PredictionError: If it isn't finished, or was trained on other data than those that are there now.
        DataError: If the data can't be read any more.
    """
    run, cost, shared = Run.load(out), Cost(), shared or SharedInputs()
    if run.recipe.is_finetuned:
        return run
    read = shared.read(run.recipe, cost, progress)
    with open_executor(on) as executor, claimed(out, run.recipe):
        finished_run(out, read.fingerprint)
        refuse_changes(run, run.recipe, None)
        plan = build_plan(run.recipe, executor)
        inputs = prepare_inputs(plan, read, cost, progress, shared=shared)
        split_apart = predict_split_apart(inputs.plan, inputs, cost, progress)
        if split_apart is None:
            return run
        metric, out_of_fold = metric_of(run.recipe, read.dataset), Predictions.load(out / OUT_OF_FOLD)
        _replace_metrics(out, run, with_split_apart(run.metrics, metric, inputs.prepared, out_of_fold, split_apart))
    return Run.load(out)


def _replace_metrics(out: Path, run: Run, metrics: dict[str, Any]) -> None:
    """Replace a run's metrics and its manifest in one piece."""
    staged = out / STAGED
    write_json(staged / METRICS, metrics)
    manifest = read_sealed(out / MANIFEST, must_be_sealed=False)
    manifest["files"][METRICS] = digest_file(staged / METRICS)
    write_sealed(staged / MANIFEST, manifest)
    swap_in(out, [*all_files(out), *ADDED])
