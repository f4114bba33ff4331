"""How long fine-tunings take: guessed from the speed of frozen backbones, then measured with a few real steps."""

from dataclasses import dataclass

import numpy as np

from inkfold.auto.costs import Costs
from inkfold.finetune.effort import Effort, choose_effort
from inkfold.finetune.step_time import FoldSize, StepTime
from inkfold.models import ink_small as inksmall
from inkfold.pipeline.build import TrainingPlan
from inkfold.pipeline.finetuning import plan_from_heads
from inkfold.pipeline.prepare import Needed, Prepared, decode
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent

TRAINED_PX = 128  # side of the drawings that a convolutional backbone for larger ones is trained on, on a CPU
FORWARDS_PER_STEP = 4.0  # in whose time a drawing is trained on, until a backbone was measured
GUESSED_SAVE_S, GUESSED_START_S = 0.1, 2.0
BATCH = 64
MOST_VIEWS = 6
PLANNED_SHARE = 0.85  # of the time that is left: the rest is for what was guessed wrongly
LONGEST_MEASURE_S, MEASURE_SHARE = 6.0, 0.02


@dataclass(frozen=True, slots=True)
class FinetuneTime:
    """What is known of the time that fine-tuning a backbone takes.

    Attributes:
        image_size: Side in px of the drawings that it is trained on.
        step_time: Seconds of its parts.
        is_measured: Whether they were measured, or guessed.
    """

    image_size: int
    step_time: StepTime
    is_measured: bool = False


def guess_time(backbone: str, costs: Costs) -> FinetuneTime | None:
    """Guess how long fine-tuning a backbone takes from the speed of its forward passes; None where that isn't known."""
    own, rate = costs.sizes.get(backbone, 0), costs.images_per_s.get(backbone, 0.0)
    if not own or not rate:
        return None
    size = own if backbone == inksmall.NAME or costs.device != "cpu" or not costs.resizable.get(backbone, False) else TRAINED_PX
    predict_s = (size / own) ** 2 / rate
    return FinetuneTime(
        size, StepTime(BATCH * FORWARDS_PER_STEP * predict_s, predict_s, GUESSED_SAVE_S, GUESSED_START_S, BATCH)
    )


def plan_effort(time: FinetuneTime, costs: Costs, left_s: float) -> Effort | None:
    """Choose how many epochs of how many folds to train in the time that is left.

    Args:
        time: What is known of the time that fine-tuning the backbone takes.
        costs: What is known of other costs, and how large the data set is.
        left_s: Seconds that are left of the search.

    Returns:
        The choice; None where there isn't time for the shortest one that is worth it.
    """
    size = costs.size
    held_out = size.train // max(size.folds, 2)
    fold = FoldSize(size.train - held_out, held_out, size.test, MOST_VIEWS)
    seconds = PLANNED_SHARE * (left_s - costs.overhead_s)
    return choose_effort(seconds, time.step_time, fold, size.folds, max(size.per_class, 1.0))


def measure_time(plan: TrainingPlan, prepared: Prepared, left_s: float, progress: Progress = silent) -> FinetuneTime:
    """Measure how long fine-tuning takes with a few real steps; the drawings are decoded for it as the training needs them.

    Args:
        plan: The plan of a fine-tuning.
        prepared: The training drawings.
        left_s: Seconds that are left of the search.
        progress: Called as drawings are decoded.

    Returns:
        What was measured.

    Raises:
        InkfoldError: If the network can't be trained, or drawings can't be read.
    """
    from inkfold.finetune import distributed  # noqa: PLC0415
    from inkfold.finetune.network import check_trainable  # noqa: PLC0415
    from inkfold.finetune.step_time import measure_step_time  # noqa: PLC0415 - torch takes a second
    from inkfold.heads.head import init_heads  # noqa: PLC0415

    extractor, recipe = plan.extractor, plan.recipe
    assert plan.finetune is not None
    check_trainable(extractor.backbone, plan.finetune)
    decode(prepared.read, extractor, recipe.data, Cost(), progress, Needed((), (), pixels=True, signatures=False, copies=False))
    width = extractor.extract(prepared.digests[:1], Cost()).read().shape[1]
    heads = init_heads(plan.trial.spec, width, len(prepared.read.dataset.class_names), [(recipe.seed, 1, 0, 0)])
    finetune_plan = plan_from_heads(plan, prepared, plan.trial.spec, heads)
    limit_s = min(LONGEST_MEASURE_S, MEASURE_SHARE * left_s)
    rows = np.random.default_rng(recipe.seed).permutation(len(prepared.rows))
    with distributed.joined_processes(plan.device) as group:
        step_time = measure_step_time(finetune_plan, rows, group, limit_s)
    return FinetuneTime(extractor.backbone.image_size, step_time, is_measured=True)
