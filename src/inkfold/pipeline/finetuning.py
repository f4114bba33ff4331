"""The stage that fine-tunes a run's backbone: which processes train together, where each fold starts, and the teacher."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inkfold.config.recipe import Recipe
from inkfold.data.splits import Folds
from inkfold.features.executors import Executor
from inkfold.features.ray_cluster import RayExecutor
from inkfold.heads.head import HeadSpec, start_heads
from inkfold.pipeline.build import TrainingPlan, settle_finetuning
from inkfold.pipeline.inputs import TrainingInputs
from inkfold.pipeline.prepare import Prepared
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

log = logging.getLogger("inkfold.pipeline")

WAIT_S = 0.2


@contextlib.contextmanager
def joined_processes(recipe: Recipe) -> "Iterator[ProcessGroup | None]":
    """Join the processes that fine-tune together, such as those that `torchrun` started.

    Args:
        recipe: A recipe as `settle_recipe` returns it: with a backbone and absolute paths.

    Yields:
        The group that this process is in, perhaps alone; None if the recipe fine-tunes nothing.

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
    folds: Folds,
    fitted: "FittedHeads",
    out: Path,
    *,
    group: "ProcessGroup",
    cost: Cost,
    progress: Progress,
) -> "FinetunedFolds":
    """Train the backbone and its head together, in every fold.

    Args:
        plan: The run's recipe with everything chosen that it leaves open.
        inputs: The training drawings, decoded, and the features that the heads were trained on.
        folds: Which drawings each fold trains on, and which it holds out.
        fitted: Heads that were trained on the frozen features, which the training starts from.
        out: The run's directory, which gets checkpoints, curves and each fold's weights.
        group: The processes that train together.
        cost: Drawings that training sent forwards and backwards, and seconds, are added to it.
        progress: Called after each step.

    Returns:
        The trained heads, and the files with each fold's changes to the backbone.

    Raises:
        RecipeError: If a loss isn't finite, or the memory is too small.
        CacheError: If the disk is full.
    """
    from inkfold.finetune.train_folds import FinetuneJob  # noqa: PLC0415 - torch takes a second

    teacher = _teacher(plan, inputs, cost, progress)
    finetune_plan = _finetune_plan(plan, inputs, fitted, teacher, out, group)
    job = FinetuneJob(finetune_plan, folds, out.absolute(), plan.recipe.finetune.interpolate, group.device.type)
    with cost.timed("finetune"):
        finetuned = train_where_started(job, group, plan.extractor.executor, progress)
    cost.trained += finetuned.trained
    cost.waited = round(finetuned.waited_s / max(cost.seconds["finetune"], 1e-9), 4)
    return finetuned


def train_where_started(job: "FinetuneJob", group: "ProcessGroup", executor: Executor, progress: Progress) -> "FinetunedFolds":
    """Train in the processes that were started together, or else in processes that Ray starts.

    Args:
        job: The plan of the fine-tuning, its folds and the run's directory.
        group: The processes that were started together; Ray starts others only if this process is alone.
        executor: Where features are computed; Ray's processes are started if they are computed on Ray.
        progress: Called after each step.

    Returns:
        The fine-tuned folds.

    Raises:
        RecipeError: If a loss isn't finite, or the memory is too small.
        CacheError: If the disk is full, or Ray's processes were lost.
    """
    from inkfold.finetune.train_folds import train_folds  # noqa: PLC0415 - torch takes a second

    if isinstance(executor, RayExecutor) and group.size == 1:
        from inkfold.finetune.ray_train import train_folds_on_ray  # noqa: PLC0415 - torch takes a second

        with executor.connection.connected() as ray:
            return train_folds_on_ray(ray, job, executor.workers, progress)
    return train_folds(job, group, progress)


def wait_for_run(out: Path, fingerprint: str) -> Run:
    """Wait until the first process has written the manifest, and load the run.

    Args:
        out: The run's directory, which this process and the first one see.
        fingerprint: Fingerprint of the data; see `ReadData`.

    Returns:
        The finished run.
    """
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
    """Combine the network, the drawings and the settings of the fine-tuning, with the heads that it starts from."""
    from inkfold.finetune.train_folds import settle_start  # noqa: PLC0415 - torch takes a second

    assert fitted.heads is not None
    assert plan.finetune is not None
    heads = fitted.heads
    if plan.finetune.start == "random":
        heads = start_heads(fitted.spec, heads, [(plan.recipe.seed, 1, fold, 0) for fold in fitted.folds])
    source = key_digest({"data": inputs.prepared.read.fingerprint, "backbone": plan.extractor.backbone.key()})
    return plan_from_heads(plan, inputs.prepared, fitted.spec, settle_start(out, heads, source, group), teacher)


def plan_from_heads(
    plan: TrainingPlan,
    prepared: Prepared,
    spec: HeadSpec,
    heads: Mapping[str, np.ndarray],
    teacher: "Teacher | None" = None,
) -> "FinetunePlan":
    """Combine the network, the drawings and the settings of the fine-tuning, with the heads that it starts from.

    Args:
        plan: The plan of a run that fine-tunes its backbone.
        prepared: The training drawings, whose pixels are in the store.
        spec: Kind and shape of the heads.
        heads: Tensors of the heads, one head for each fold that will be trained.
        teacher: The run that the network is distilled from; None trains on labels alone.
    """
    from inkfold.finetune.loader import DrawingLoader  # noqa: PLC0415
    from inkfold.finetune.plan import FinetunePlan  # noqa: PLC0415 - torch takes a second

    assert plan.finetune is not None
    extractor = plan.extractor
    return FinetunePlan(
        info=extractor.backbone,
        spec=spec,
        heads=heads,
        settings=plan.finetune,
        curriculum=plan.curriculum,
        loader=DrawingLoader(
            extractor.store(), prepared.digests, extractor.backbone.image_size, on_cpu=extractor.device == "cpu"
        ),
        targets=prepared.targets,
        names=prepared.read.dataset.train.image_paths[prepared.rows],
        seed=plan.recipe.seed,
        teacher=teacher,
    )


def _teacher(plan: TrainingPlan, inputs: TrainingInputs, cost: Cost, progress: Progress) -> "Teacher | None":
    """Compute the teacher's features of the training drawings under every view of the curriculum; None without a teacher.

    The teacher is a run's backbone; that of the first fold if each fold has one of its own.
    """
    from inkfold.finetune.distillation import Teacher  # noqa: PLC0415 - torch takes a second

    settings = plan.recipe.finetune
    if settings.teacher is None:
        return None
    first, _ = Run.load(settings.teacher).extractors()[0]
    extractor = replace(first, executor=plan.extractor.executor)
    prepared, views = inputs.prepared, plan.curriculum.views()
    log.info("teacher %s: backbone %s", settings.teacher, extractor.backbone.name)
    with cost.timed("teacher"):
        extractor.decode(prepared.read.train, cost, progress, views)  # broken drawings have been reported by now
        features = extractor.extract(prepared.digests, cost, progress, views)
    key: dict[str, Any] = {"backbone": extractor.backbone.key(), "image": extractor.image.key()}
    if extractor.others:
        key["beside"] = [[part.backbone.key(), part.image.key()] for part in extractor.others]
    return Teacher(key, features, settings.teacher_weight)
