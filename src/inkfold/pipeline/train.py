"""The main path: recipe + drawings -> run directory. Read this first, top to bottom.

Each stage leaves files (pixels and features in the cache, the rest in the run), and `manifest.json` is written last: a run
that was killed anywhere is continued by the same command, with the same result.
"""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inkfold.augment.views import IDENTITY
from inkfold.config.recipe import Recipe
from inkfold.data.class_prior import find_prior
from inkfold.data.dataset import few_drawings
from inkfold.data.fold_notes import describe_folds
from inkfold.data.splits import Folds
from inkfold.evaluation.decision import choose_decision
from inkfold.evaluation.scores import warn_of_order
from inkfold.features.executors import INLINE, Executor, open_executor
from inkfold.pipeline.backbone_choice import keys_left_open, recipe_as_finished
from inkfold.pipeline.build import TrainingPlan, build_plan, metric_of, settle_recipe
from inkfold.pipeline.finetuning import finetune_folds, joined_processes, wait_for_run
from inkfold.pipeline.frozen_heads import predict_split_apart, train_heads
from inkfold.pipeline.inputs import TrainingInputs, assign_to_folds, drawings_key, prepare_inputs
from inkfold.pipeline.leaks import find_leaks, warn_of_leaks
from inkfold.pipeline.out_of_fold import predict_held_out, predict_test, shared_features
from inkfold.pipeline.prepare import Prepared
from inkfold.pipeline.results import Results, warn_of_accuracy, warn_of_choices
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_dir import claimed, finished_run, rewrite_recipe, warn_of_other_form, write_cost, write_manifest
from inkfold.pipeline.same_run import made_by, refuse_changes
from inkfold.pipeline.seen import warn_of_seen
from inkfold.pipeline.shared import SharedInputs
from inkfold.pipeline.transductive import choose_propagation
from inkfold.pipeline.write_results import write_results
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.kept_drawings import note_run
from inkfold.storage.temporary import is_temporary

if TYPE_CHECKING:
    from inkfold.finetune.distributed import ProcessGroup

log = logging.getLogger("inkfold.pipeline")


def train(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *overrides: str,
    data: str | Path | None = None,
    out: str | Path,
    progress: Progress = silent,
    on: str | Executor = INLINE,
    shared: SharedInputs | None = None,
    measure_apart: bool = True,
) -> Run:
    """Train a recipe's model on drawings: features, heads, out-of-fold and test predictions, metrics, submission.

    Args:
        recipe: A recipe, its keys as nested mappings, a YAML file, or a shipped recipe's name.
        overrides: `dotted.key=value`; the last one of a key wins.
        data: The folder of drawings; overrides the recipe's.
        out: The run's directory. An unfinished run of the same recipe there is continued, and a finished one is returned.
        progress: Called with the stage's name, what is done and the total.
        on: Where features are computed, which changes nothing in them: `inline`, `pool[:N]` or `ray[:ADDRESS]`. With
            `ray[:ADDRESS][:N]`, N processes fine-tune there.
        shared: Keeps what trainings of other recipes on the same data can use, with the data themselves, which are then read
            by the first of them alone; None keeps nothing. The run is the same to the byte.
        measure_apart: Whether heads are trained a second time, on folds that split copies or groups apart, to measure how
            optimistic such folds are. What is trained without can be measured later by `frozen_heads.add_split_apart`.

    Returns:
        The finished run.

    Raises:
        RecipeError: If the recipe is invalid, or this machine can't train it.
        DataError: With every problem of the data.
        WeightsError: If the backbone's weights can't be had.
        PredictionError: If `out` holds another run, or another process is writing it.
    """
    executor_context = open_executor(on)
    out = Path(out)
    recipe = recipe_as_finished(settle_recipe(recipe, overrides, data, leave_backbone=True), out)
    if not is_temporary(out):
        note_run(str(recipe.data.root), out)  # drawings that were in memory are kept for it
    cost, shared = Cost(), shared or SharedInputs()
    dataset = shared.dataset(recipe)
    metric_of(recipe, dataset)  # refuses classes that it doesn't suit, before anything is computed
    assert dataset.train.targets is not None
    prior = find_prior(recipe.predict.prior, dataset.class_names, dataset.train.targets)  # likewise
    with (
        executor_context as executor,
        joined_processes(recipe) as group,
        claimed(out, recipe, first=group is None or group.is_first, free=keys_left_open(recipe, out)),
    ):
        read = shared.read(recipe, cost, progress)
        if (run := finished_run(out, read.fingerprint)) is not None:
            refuse_changes(run, recipe, prior)
            log.info("%s: is finished, and is returned as it is", out)
            warn_of_other_form(out, dataset)
            return run
        with cost.timed("backbone"):
            plan = build_plan(recipe, executor)
        inputs = prepare_inputs(plan, read, cost, progress, shared=shared)
        if inputs.plan.recipe != recipe and (group is None or group.is_first):
            rewrite_recipe(out, inputs.plan.recipe)  # which now names its backbone
        folds = shared.once("folds", drawings_key(recipe, inputs.prepared), lambda: assign_to_folds(recipe, inputs.prepared))
        return _run_stages(inputs, folds, out, group=group, measure_apart=measure_apart, cost=cost, progress=progress)


def _run_stages(
    inputs: TrainingInputs,
    folds: Folds,
    out: Path,
    *,
    group: "ProcessGroup | None",
    measure_apart: bool,
    cost: Cost,
    progress: Progress,
) -> Run:
    """Train, predict and write a run, stage by stage, from the features of the drawings and the folds."""
    plan, prepared = inputs.plan, inputs.prepared
    features = shared_features(inputs.features, inputs.test_features, folds)

    # Heads on the frozen backbone's features
    with cost.timed("fit"):
        fitted = train_heads(plan, inputs, folds, progress)

    # Fine-tuning, if the recipe asks for it: every fold gets a backbone and a head of its own
    frozen = finetuned = None
    if group is not None:
        frozen = predict_held_out(features, prepared, (IDENTITY,), folds, fitted)
        finetuned = finetune_folds(plan, inputs, folds, fitted, out, group=group, cost=cost, progress=progress)
        if not group.is_first:
            return wait_for_run(out, prepared.read.fingerprint)
        fitted = finetuned.fitted
        features = inputs.features_by_fold(finetuned.files, folds, out, cost=cost, progress=progress)

    # Predictions
    with cost.timed("predict"):
        out_of_fold = predict_held_out(features, prepared, plan.test_views, folds, fitted)
        test = predict_test(features, prepared, plan.test_views, len(folds), fitted)
        without_tta = predict_held_out(features, prepared, (IDENTITY,), folds, fitted) if plan.recipe.tta else None
    split_apart = predict_split_apart(plan, inputs, cost, progress) if group is None and measure_apart else None

    # Test drawings together, if the recipe asks for it and held-out drawings show that it is better
    metric = metric_of(plan.recipe, prepared.read.dataset)
    propagation = None
    if plan.propagates:
        with cost.timed("propagate"):
            propagation = choose_propagation(features, prepared, folds, metric, out_of_fold, test)
        out_of_fold, test = propagation.out_of_fold, propagation.test

    # Files, the manifest last
    results = Results(
        num_folds=len(folds),
        fitted=fitted,
        out_of_fold=out_of_fold,
        test=test,
        without_tta=without_tta,
        frozen=frozen,
        finetuned=finetuned,
        split_apart=split_apart,
        reading=None if inputs.reading is None else inputs.reading.about,
        backbone_choice=None if inputs.backbone is None else inputs.backbone.about,
        leaks=find_leaks(prepared, inputs.test_copies, folds.held_out, folds.trained_on),
        metric=metric,
        folds=folds,
        propagation=propagation,
        prior=find_prior(plan.recipe.predict.prior, prepared.read.dataset.class_names, prepared.targets),
    )
    results = _with_answers(_with_prior(results))
    files = write_results(out, plan.recipe, plan.curriculum, prepared, results)
    _finish(out, plan, prepared, results, files, cost)
    return Run.load(out)


def _with_prior(results: Results) -> Results:
    """Correct the test drawings' predictions for the class prior that the recipe names, if it names one."""
    test, prior = results.test, results.prior
    if test is None or prior is None:
        return results
    assert test.fold_probs is not None
    fold_probs = prior.correct(test.fold_probs)
    return replace(results, test=replace(test, fold_probs=fold_probs, probs=fold_probs.mean(0)))


def _with_answers(results: Results) -> Results:
    """Choose by the held-out drawings which rule gives the answers, and give all predictions that rule's."""
    decision = choose_decision(results.metric, results.out_of_fold)
    if results.propagation is not None and results.propagation.by_heads is not None:
        results = replace(results, decision_of_heads=choose_decision(results.metric, results.propagation.by_heads))
    if decision.decision is None:
        return replace(results, decision=decision)
    test = None if results.test is None else replace(results.test, decided=decision.decision.preds(results.test.probs))
    return replace(results, decision=decision, out_of_fold=replace(results.out_of_fold, decided=decision.preds), test=test)


def _finish(out: Path, plan: TrainingPlan, prepared: Prepared, results: Results, files: list[str], cost: Cost) -> None:
    """Write the cost and, last of all, the manifest; then remove the checkpoints."""
    backbone, image = plan.extractor.backbone, plan.extractor.image
    dataset = prepared.read.dataset
    finetuned = results.finetuned
    weights = [] if finetuned is None else list(finetuned.files)
    notes = () if finetuned is None else finetuned.notes
    warnings = [*dataset.problems, *few_drawings(dataset, plan.recipe.folds.k), *notes]
    write_cost(out, {**cost.as_json(), "precision": backbone.precision, "device": plan.extractor.device})
    write_manifest(
        out,
        {
            "class_names": list(dataset.class_names),
            "class_targets": dataset.class_targets.tolist(),
            "members": [f"fold {fold}" for fold in results.fitted.folds],
            "backbone": backbone.as_json(),
            **({"beside": others} if (others := [part.backbone.as_json() for part in plan.extractor.others]) else {}),
            "image": {"resize": image.resize, "paper": image.paper},
            **({} if finetuned is None else {"tuned": weights}),
            **({} if (rule := results.decision_for_new.decision) is None else {"decision": rule.as_json()}),
            **({} if results.prior is None else {"prior": results.prior.as_json()}),
            **({} if results.propagation is None else {"transductive": {"used": results.propagation.figures["used"]}}),
            "data_fingerprint": prepared.read.fingerprint,
            "made_by": made_by(plan.recipe),
            "warnings": [
                *map(str, warnings),
                *([] if results.folds is None else _fold_notes(results.folds, prepared)),
                *prepared.blank_warnings,
                *prepared.copy_notes,
                *warn_of_leaks(results.leaks, {"test": results.test, "out_of_fold": results.out_of_fold}),
                *warn_of_seen(results.out_of_fold),
                *warn_of_choices(results),
                *warn_of_accuracy(results),
                *warn_of_order(results.metric, dataset.class_names),
            ],
        },
        ["recipe.yaml", "cost.json", *files, *weights],
    )
    shutil.rmtree(out / "checkpoints", ignore_errors=True)


def _fold_notes(folds: Folds, prepared: Prepared) -> list[str]:
    return describe_folds(folds, prepared.targets, prepared.read.dataset.class_names, prepared.named_groups)
