"""Learning rate schedules, and the settings that change results by rounding alone."""

import math

from inkfold.config.sections import FinetuneSettings, TrainHeadSettings

ONE_CYCLE_RISE, ONE_CYCLE_START, ONE_CYCLE_END = 0.3, 1 / 25, 1 / 25e4  # PyTorch's OneCycleLR
COOL_DOWN = 0.2  # of a training that ends before its schedule
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


def cool_down_start(settings: FinetuneSettings, steps_per_epoch: int) -> int | None:
    """Return the step, from 0, from which the rate falls to zero as the training ends before its schedule; None if it doesn't.

    Args:
        settings: The section with `epochs` and `stop_epoch`.
        steps_per_epoch: How many steps an epoch has, at least 1.
    """
    if settings.trained_epochs == settings.epochs:  # the schedule itself comes to its end
        return None
    end = settings.trained_epochs * steps_per_epoch
    return end - max(steps_per_epoch, math.ceil(COOL_DOWN * end))


def cool_down_factor(settings: FinetuneSettings, step: int, steps_per_epoch: int) -> float:
    """Compute the factor of the learning rate, beside the schedule's, of a training that ends before its schedule.

    Args:
        settings: The section with `epochs` and `stop_epoch`.
        step: Number of the step, from 0, over all epochs.
        steps_per_epoch: How many steps an epoch has, at least 1.

    Returns:
        1 before the cool-down, then a line that reaches 0 behind the last step.

    Source: Hägele et al., arXiv 2405.18392: after any time at a high rate, a linear cool-down over a fifth of the steps is
    about as good as a schedule that was made for that time.
    """
    start, end = cool_down_start(settings, steps_per_epoch), settings.trained_epochs * steps_per_epoch
    return 1.0 if start is None or step <= start else (end - step) / (end - start)


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))
