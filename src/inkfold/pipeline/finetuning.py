"""Fine-tuning as a stage of a run: who trains together, what each fold starts from, and the teacher that it imitates."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from inkfold.config.recipe import Recipe
from inkfold.features.executors import Executor
from inkfold.features.ray_cluster import RayExecutor
from inkfold.heads.head import start_heads
from inkfold.pipeline.build import TrainingPlan, settle_finetuning
from inkfold.pipeline.inputs import TrainingInputs
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_dir import finished_run
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress
from inkfold.storage.hashing import key_digest

if TYPE_CHECKING:
    from inkfold.finetune.distillation import Teacher
    from inkfold.finetune.distributed import ProcessGroup
    from inkfold.finetune.plan import FinetunePlan
    from inkfold.finetune.train_folds import FinetunedFolds, FinetuneJob
    from inkfold.heads.fit import FittedHeads

WAIT_S = 0.2


@contextlib.contextmanager
def joined_processes(recipe: Recipe) -> "Iterator[ProcessGroup | None]":
    """Join the processes that fine-tune together.

    Args:
        recipe: The recipe, settled.

    Yields:
        This process's place among them; None where nothing is fine-tuned.

    Raises:
        RecipeError: If this machine can't fine-tune as the recipe says, before any drawing is read.
    """
    if not recipe.is_finetuned:
        yield None
        return
    settle_finetuning(recipe)
    from inkfold.finetune import distributed  # noqa: PLC0415
    from inkfold.models.backbone import choose_device  # noqa: PLC0415 - torch takes a second

    with distributed.joined_processes(choose_device(recipe.backbone.device)) as group:
        yield group


def finetune_folds(
    plan: TrainingPlan,
    inputs: TrainingInputs,
    folds: Bool[np.ndarray, "folds n"],
    heads: "FittedHeads",
    out: Path,
    *,
    group: "ProcessGroup",
    cost: Cost,
    progress: Progress,
) -> "FinetunedFolds":
    """Train the backbone and its head together, in every fold.

    Args:
        plan: The run's plan.
        inputs: Its drawings.
        folds: True where a fold trains on a drawing.
        heads: Heads that were trained on the frozen features, which the training starts from.
        out: The run's directory.
        group: The processes that train together.
        cost: Drawings that went forwards and backwards, and seconds, are added to it.
        progress: Called after each step.

    Returns:
        The trained heads, and the files with what changed of the backbone.

    Raises:
        RecipeError: If a loss isn't finite, or memory doesn't suffice.
        CacheError: If the disk is full.
    """
    from inkfold.finetune.train_folds import FinetuneJob  # noqa: PLC0415 - torch takes a second

    settings = plan.recipe.finetune
    teacher = _teacher(plan, inputs, cost, progress)
    job = FinetuneJob(
        _finetune_plan(plan, inputs, heads, teacher, out, group), folds, out.absolute(), settings.interpolate, group.device.type
    )
    with cost.timed("finetune"):
        finetuned = train_where_started(job, group, plan.extractor.executor, progress)
    cost.trained += finetuned.trained
    cost.waited = round(finetuned.waited_s / max(cost.seconds["finetune"], 1e-9), 4)
    return finetuned


def train_where_started(job: "FinetuneJob", group: "ProcessGroup", executor: Executor, progress: Progress) -> "FinetunedFolds":
    """Train here, with the processes that were started together, or let Ray start them where it computes the features."""
    from inkfold.finetune.train_folds import train_folds  # noqa: PLC0415 - torch takes a second

    if isinstance(executor, RayExecutor) and group.size == 1:
        from inkfold.finetune.ray_train import train_folds_on_ray  # noqa: PLC0415 - torch takes a second

        with executor.connection.connected() as ray:
            return train_folds_on_ray(ray, job, executor.workers, progress)
    return train_folds(job, group, progress)


def wait_for_run(out: Path, fingerprint: str) -> Run:
    """Wait until the first process has written the manifest, and load the run."""
    while (run := finished_run(out, fingerprint)) is None:
        time.sleep(WAIT_S)
    return run


def _finetune_plan(
    plan: TrainingPlan,
    inputs: TrainingInputs,
    fitted: "FittedHeads",
    teacher: "Teacher | None",
    out: Path,
    group: "ProcessGroup",
) -> "FinetunePlan":
    """Put together what is fine-tuned, on what, and how."""
    from inkfold.finetune.loader import DrawingLoader  # noqa: PLC0415
    from inkfold.finetune.plan import FinetunePlan  # noqa: PLC0415 - torch takes a second
    from inkfold.finetune.train_folds import settle_start  # noqa: PLC0415

    assert fitted.heads is not None
    assert plan.finetune is not None
    extractor, prepared, heads, seed = plan.extractor, inputs.prepared, fitted.heads, plan.recipe.seed
    if plan.finetune.start == "random":
        heads = start_heads(fitted.spec, heads, [(seed, 1, fold, 0) for fold in fitted.folds])
    made_of = key_digest({"data": prepared.read.fingerprint, "backbone": extractor.backbone.key()})
    return FinetunePlan(
        info=extractor.backbone,
        spec=fitted.spec,
        heads=settle_start(out, heads, made_of, group),
        settings=plan.finetune,
        curriculum=plan.curriculum,
        feeder=DrawingLoader(
            extractor.store(), prepared.digests, extractor.backbone.image_size, on_cpu=extractor.device == "cpu"
        ),
        targets=prepared.targets,
        names=prepared.read.dataset.train.image_paths[prepared.rows],
        seed=seed,
        teacher=teacher,
    )


def _teacher(plan: TrainingPlan, inputs: TrainingInputs, cost: Cost, progress: Progress) -> "Teacher | None":
    """Compute the teacher's features of the training drawings under every view of the curriculum; None without a teacher.

    A run teaches by its backbone, or, where each fold has a backbone of its own, by its first fold's.
    """
    from inkfold.finetune.distillation import Teacher  # noqa: PLC0415 - torch takes a second

    settings = plan.recipe.finetune
    if settings.teacher is None:
        return None
    first, _ = Run.load(settings.teacher).extractors()[0]
    extractor, prepared, views = replace(first, executor=plan.extractor.executor), inputs.prepared, plan.curriculum.views()
    with cost.timed("teacher"):
        extractor.decode(prepared.read.train, cost, progress, views)  # what is broken has been reported by now
        features = extractor.extract(prepared.digests, cost, progress, views)
    key = {"backbone": extractor.backbone.key(), "image": extractor.image.key()}
    return Teacher(key, features, settings.teacher_weight)
