"""Learning rate schedules, and the settings that change results by rounding alone."""

import math

from inkfold.config.sections import FinetuneSettings, TrainHeadSettings

ONE_CYCLE_RISE, ONE_CYCLE_START, ONE_CYCLE_END = 0.3, 1 / 25, 1 / 25e4  # PyTorch's OneCycleLR
WORK_DIVISION = ("micro_batch", "shard", "checkpointing")  # of a fine-tuning: results differ by rounding alone


def lr_factor(settings: TrainHeadSettings | FinetuneSettings, step: int, steps_per_epoch: int) -> float:
    """Compute the schedule's factor of the learning rate, warm-up included.

    Args:
        settings: The section with the schedule, its epochs and its warm-up.
        step: Number of the step, from 0, over all epochs.
        steps_per_epoch: How many steps an epoch has, at least 1.

    Returns:
        A factor in 0..1.

    Source: for `one_cycle`, Smith and Topin, arXiv 1708.07120, with the constants of PyTorch's OneCycleLR.
    """
    warm = settings.warmup_epochs * steps_per_epoch
    rise = min(1.0, (step + 1) / warm) if warm else 1.0
    total = settings.epochs * steps_per_epoch
    schedule = settings.schedule
    match schedule.kind:
        case "step":
            return rise * float(schedule.gamma ** (step // steps_per_epoch // schedule.every))
        case "cosine":
            return rise * _half_cosine(1.0, 0.0, step / total)
        case "one_cycle":
            top = ONE_CYCLE_RISE * total - 1
            if step <= top:
                return rise * _half_cosine(ONE_CYCLE_START, 1.0, step / top)
            return rise * _half_cosine(1.0, ONE_CYCLE_END, (step - top) / max(total - 1 - top, 1))
        case "constant":
            return rise


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))
