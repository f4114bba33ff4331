"""The main path: recipe + drawings -> run directory. Read this first, top to bottom.

Each stage leaves files (pixels and features in the cache, the rest in the run), and `manifest.json` is written last: a run
killed anywhere continues where it was, with the same result.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from inkfold.augment.views import IDENTITY
from inkfold.config.recipe import Recipe
from inkfold.data.dataset import few_drawings, read_dataset
from inkfold.data.splits import count_parted
from inkfold.errors import RecipeError
from inkfold.evaluation.predictions import Predictions
from inkfold.features.executors import INLINE, Executor, open_executor
from inkfold.features.ray_cluster import RayExecutor
from inkfold.heads.head import start_heads
from inkfold.pipeline.build import build_trial, data_options, finetune_settings, settle_recipe
from inkfold.pipeline.inputs import TrainingInputs, assign_to_folds, build_training_set, prepare_inputs, teacher_relations
from inkfold.pipeline.out_of_fold import FoldFeatures, features_by_fold, predict_held_out, predict_test, shared_features
from inkfold.pipeline.prepare import read_files
from inkfold.pipeline.results import Results, warn_of_choices, warn_of_seen, write_results
from inkfold.pipeline.run import Run, load_run
from inkfold.pipeline.run_dir import claimed, finished_run, write_cost, write_manifest
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.hashing import key_digest

if TYPE_CHECKING:
    from inkfold.finetune.distillation import Teacher
    from inkfold.finetune.distributed import ProcessGroup
    from inkfold.finetune.plan import FinetunePlan
    from inkfold.finetune.train_folds import FinetunedFolds, FinetuneJob
    from inkfold.heads.fit import FittedHeads

WAIT_S = 0.2


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
        data: The folder of drawings; goes before what the recipe says.
        out: The run's directory. One that holds this run unfinished is continued, and a finished one is returned.
        progress: Told how far each stage is.
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
    launching = open_executor(on)
    recipe, out, cost = settle_recipe(recipe, overrides, data), Path(out), Cost()
    dataset = read_dataset(str(recipe.data.root), data_options(recipe))
    with launching as launcher, partners(recipe) as world, claimed(out, recipe, first=world is None or world.is_first):
        read = read_files(dataset, None if dataset.test is None else dataset.test.targets, cost, progress)
        if done := finished_run(out, read.fingerprint):
            return done
        material = prepare_inputs(recipe, read, cost, progress, launcher)
        folds = assign_to_folds(recipe, material.prepared)
        with cost.timed("fit"):
            fitted = _fit(recipe, material, folds, progress)
        shown, before, tuned = shared_features(material.features, material.test_features, folds), None, None
        if world is not None:
            before = predict_held_out(shown, material.prepared, (IDENTITY,), folds, fitted)
            tuned = _fine_tune(recipe, material, folds, fitted, (out, world, cost, progress))
            if not world.is_first:
                return _when_finished(out, read.fingerprint)
            fitted, shown = tuned.fitted, _shown_by_tuned(material, tuned, folds, out, (cost, progress))
        with cost.timed("predict"):
            out_of_fold = predict_held_out(shown, material.prepared, material.test_views, folds, fitted)
            test = predict_test(shown, material.prepared, material.test_views, len(folds), fitted)
            plain = predict_held_out(shown, material.prepared, (IDENTITY,), folds, fitted) if recipe.tta else None
        parted = _predict_parted(recipe, material, cost, progress) if world is None else None
        results = Results(len(folds), fitted, out_of_fold, test, plain, before, tuned, parted)
        files = write_results(out, recipe, material.curriculum, material.prepared, results)
        _finish(out, recipe, material, results, cost, files)
    return load_run(out)


def _fit(recipe: Recipe, material: TrainingInputs, folds: Bool[np.ndarray, "folds n"], progress: Progress) -> "FittedHeads":
    from inkfold.heads.fit import fit_trials  # noqa: PLC0415
    from inkfold.models.backbone import choose_device  # noqa: PLC0415 - torch takes a second

    device, lessons = choose_device(recipe.backbone.device), build_training_set(recipe, material, folds)
    if recipe.is_finetuned:
        lessons = replace(lessons, schooling=None)  # the curriculum is the fine-tuning's
    [fitted] = fit_trials(lessons, [build_trial(recipe)], device=device, progress=progress)
    if fitted.diverged is not None:
        raise RecipeError(
            f"train_head.lr: with {recipe.train_head.lr:g} the loss was not finite in epoch {fitted.diverged + 1}. Lower it, "
            "or bring the features to one scale: train_head.scaling=standardise."
        )
    return fitted


def _predict_parted(recipe: Recipe, material: TrainingInputs, cost: Cost, progress: Progress) -> Predictions | None:
    """Fit once more with folds that part copies, for what these flatter; None where no copies are parted."""
    prepared = material.prepared
    if prepared.duplicates is None or recipe.folds.split != "kfold":  # a holdout would hold out other drawings
        return None
    folds = assign_to_folds(recipe, prepared, grouped=False)
    if not count_parted(prepared.duplicates, folds.argmin(0)):
        return None
    with cost.timed("parted_duplicates"):
        fitted = _fit(recipe, material, folds, progress)
        shown = shared_features(material.features, None, folds)
        return predict_held_out(shown, prepared, material.test_views, folds, fitted)


@contextlib.contextmanager
def partners(recipe: Recipe) -> "Iterator[ProcessGroup | None]":
    """Meet the processes that fine-tune together; None where nothing is fine-tuned.

    Raises:
        RecipeError: If this machine can't fine-tune so: it is told before drawings are read.
    """
    if not recipe.is_finetuned:
        yield None
        return
    finetune_settings(recipe)
    from inkfold.finetune.distributed import joined_processes  # noqa: PLC0415
    from inkfold.models.backbone import choose_device  # noqa: PLC0415 - torch takes a second

    with joined_processes(choose_device(recipe.backbone.device)) as world:
        yield world


def _plan(
    recipe: Recipe, material: TrainingInputs, fitted: "FittedHeads", teacher: "Teacher | None", at: "tuple[Path, ProcessGroup]"
) -> "FinetunePlan":
    """Put together what is fine-tuned, on what, and how."""
    from inkfold.finetune.loader import DrawingLoader  # noqa: PLC0415
    from inkfold.finetune.plan import FinetunePlan  # noqa: PLC0415 - torch takes a second
    from inkfold.finetune.train_folds import settle_start  # noqa: PLC0415

    assert fitted.heads is not None
    extractor, prepared, heads = material.extractor, material.prepared, fitted.heads
    if recipe.finetune.start == "random":
        heads = start_heads(fitted.spec, heads, [(recipe.seed, 1, fold, 0) for fold in fitted.folds])
    made_of = key_digest({"data": prepared.read.fingerprint, "backbone": extractor.backbone.key()})
    heads = settle_start(at[0], heads, made_of, at[1])
    return FinetunePlan(
        info=extractor.backbone,
        spec=fitted.spec,
        heads=heads,
        settings=finetune_settings(recipe),
        curriculum=material.curriculum,
        feeder=DrawingLoader(
            extractor.store(), prepared.digests, extractor.backbone.image_size, on_cpu=extractor.device == "cpu"
        ),
        targets=prepared.targets,
        names=prepared.read.dataset.train.image_paths[prepared.rows],
        seed=recipe.seed,
        teacher=teacher,
    )


def _fine_tune(
    recipe: Recipe,
    material: TrainingInputs,
    folds: Bool[np.ndarray, "folds n"],
    fitted: "FittedHeads",
    how: "tuple[Path, ProcessGroup, Cost, Progress]",
) -> "FinetunedFolds":
    """Train the backbone and its heads in every fold."""
    from inkfold.finetune.train_folds import FinetuneJob  # noqa: PLC0415 - torch takes a second

    out, world, cost, progress = how
    teacher = teacher_relations(recipe, material, cost, progress)
    plan = _plan(recipe, material, fitted, teacher, (out, world))
    job = FinetuneJob(plan, folds, out.absolute(), recipe.finetune.interpolate, world.device.type)
    with cost.timed("finetune"):
        tuned = _train_folds(job, world, material.extractor.launcher, progress)
    cost.trained += tuned.trained
    cost.waited = round(tuned.waited_s / max(cost.seconds["finetune"], 1e-9), 4)
    return tuned


def _train_folds(job: "FinetuneJob", world: "ProcessGroup", launcher: Executor, progress: Progress) -> "FinetunedFolds":
    """Train here, with the processes that were started together, or have Ray start them where it computes the features."""
    from inkfold.finetune.train_folds import train_folds  # noqa: PLC0415 - torch takes a second

    if isinstance(launcher, RayExecutor) and world.size == 1:
        from inkfold.finetune.ray_train import train_folds_on_ray  # noqa: PLC0415 - torch takes a second

        with launcher.connection.connected() as ray:
            return train_folds_on_ray(ray, job, launcher.workers, progress)
    return train_folds(job, world, progress)


def _shown_by_tuned(
    material: TrainingInputs,
    tuned: "FinetunedFolds",
    folds: Bool[np.ndarray, "folds n"],
    out: Path,
    how: tuple[Cost, Progress],
) -> FoldFeatures:
    """Let each fold see through its own trained backbone, by the way that new drawings will be seen."""
    backbone, out = material.extractor.backbone, out.absolute()  # other machines' processes run in other directories
    extractors = [replace(material.extractor, backbone=backbone.tuned(out / name)) for name in tuned.files]
    views = tuple(dict.fromkeys((IDENTITY, *material.test_views)))
    return features_by_fold(extractors, material.prepared, folds, views, *how)


def _when_finished(out: Path, fingerprint: str) -> Run:
    """Wait for the first process's manifest."""
    while (run := finished_run(out, fingerprint)) is None:
        time.sleep(WAIT_S)
    return run


def _finish(out: Path, recipe: Recipe, material: TrainingInputs, results: Results, cost: Cost, files: list[str]) -> None:
    extractor, prepared, fitted, tuned = material.extractor, material.prepared, results.fitted, results.tuned
    dataset = prepared.read.dataset
    warnings = [*dataset.problems, *few_drawings(dataset, recipe.folds.k), *(() if tuned is None else tuned.notes)]
    weights = {} if tuned is None else {"tuned": list(tuned.files)}
    write_cost(out, {**cost.as_json(), "precision": extractor.backbone.precision, "device": extractor.device})
    write_manifest(
        out,
        {
            "class_names": list(dataset.class_names),
            "class_targets": dataset.class_targets.tolist(),
            "members": [f"fold {fold}" for fold in fitted.folds],
            "backbone": extractor.backbone.as_json(),
            **weights,
            "data_fingerprint": prepared.read.fingerprint,
            "warnings": [*map(str, warnings), *warn_of_seen(results.out_of_fold), *warn_of_choices(results)],
        },
        ["recipe.yaml", "cost.json", *files, *weights.get("tuned", [])],
    )
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
