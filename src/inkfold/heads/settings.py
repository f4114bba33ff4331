"""How heads are fitted and networks are fine-tuned, as plain numbers, and the learning rate's schedules."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Literal

ONE_CYCLE_RISE, ONE_CYCLE_START, ONE_CYCLE_END = 0.3, 1 / 25, 1 / 25e4  # PyTorch's OneCycleLR
PARTING = ("micro_batch", "shard", "checkpointing")  # settings of how a fine-tuning is parted: results differ by rounding alone
Schedule = Literal["step", "cosine", "one_cycle", "constant"]


@dataclass(frozen=True, slots=True)
class Scheduled:
    """How long, and how the rate changes: what all settings have in common.

    Attributes:
        epochs: Passes over all drawings.
        schedule: `step`, `cosine` (to zero, by steps), `one_cycle` (up for 30 % of all steps, then down) or `constant`.
        step_every: Epochs between two steps of `step`.
        step_gamma: Factor of each.
        warmup_epochs: During which the rate rises in a line from zero, times the schedule.
    """

    epochs: int = 20
    _: KW_ONLY
    schedule: Schedule = "cosine"
    step_every: int = 10
    step_gamma: float = 0.1
    warmup_epochs: float = 0.0


@dataclass(frozen=True, slots=True)
class FitSettings(Scheduled):
    """How heads are fitted; every number may differ from trial to trial in one program.

    Attributes:
        batch_size: Drawings a step, shared by all members; each uses those of its own training part.
        optimiser: SGD has momentum 0.9.
        lr: The rate that the schedule is a factor of.
        weight_decay: L2 for adam and sgd, decoupled for adamw.
        label_smoothing: Share of the target spread over all classes.
        focal_gamma: Exponent of the focal loss's factor (1 - p of the true class); 0 is cross-entropy.
        class_weights: `balanced` weighs a drawing by n / (classes x drawings of its class), over the member's own; a class
            without any weighs nothing.
        mixup: Alpha of the beta distribution by which two drawings' features and losses are mixed; 0 mixes none.
        dropout: Share of each hidden layer's outputs that a step leaves out.
        precision: Of the products' inputs; sums, weights and the optimiser stay in float32.
        keep: `last` epoch, or for each member the `best` one by accuracy on its own held-out part.
    """

    batch_size: int = 64
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    mixup: float = 0.0
    dropout: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    keep: Literal["last", "best"] = "last"


@dataclass(frozen=True, slots=True)
class TuningSettings(Scheduled):
    """How a backbone and its head are trained together.

    Attributes:
        epochs: Passes over a fold's own drawings.
        batch_size: Drawings a step, over all forwards and processes.
        micro_batch: Drawings a forward; None takes the whole batch. Halved for good when memory runs out.
        optimiser: SGD has momentum 0.9.
        lr: Rate of the backbone's last layers, which the schedule is a factor of.
        head_lr_factor: Of the rate, for the head.
        layer_decay: Factor of the rate from each layer to the one before it; 1 is one rate for all.
        weight_decay: Of matrices and kernels alone; norms and biases have none. Decoupled for adamw, L2 for sgd.
        label_smoothing: Share of the target spread over all classes.
        mixup: Alpha of the beta distribution by which two drawings are mixed; 0 mixes none.
        cutmix: The same, for pasting a part of one drawing into another.
        ema: Decay of the moving average of weights, which is then what predicts; 0 takes the weights themselves.
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
        precision: Of the forward and backward pass; weights and the optimiser's state are float32.
        checkpointing: Compute activations a second time instead of keeping them.
        compiled: Let PyTorch's compiler have the network.
        shard: `full` keeps a share of parameters, gradients and the optimiser's state in each of several processes, `none`
            all of them; it changes nothing but rounding.
        keep: `last` epoch's weights, or the `best` one's on the fold's own held-out part.
    """

    epochs: int = 10
    batch_size: int = 64
    micro_batch: int | None = None
    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    head_lr_factor: float = 1.0
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    clip_norm: float = 1.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    checkpointing: bool = False
    compiled: bool = False
    shard: Literal["none", "full"] = "none"
    keep: Literal["last", "best"] = "last"


def lr_factor(settings: Scheduled, step: int, steps_per_epoch: int) -> float:
    """Give the schedule's factor of the learning rate.

    Args:
        settings: With the schedule.
        step: From 0, over all epochs.
        steps_per_epoch: How many make an epoch.

    Returns:
        A factor in 0..1.

    Source: for `one_cycle`, Smith and Topin, arXiv 1708.07120, with the constants of PyTorch's OneCycleLR.
    """
    warm = settings.warmup_epochs * steps_per_epoch
    rise = min(1.0, (step + 1) / warm) if warm else 1.0
    total = settings.epochs * steps_per_epoch
    match settings.schedule:
        case "step":
            return rise * float(settings.step_gamma ** (step // steps_per_epoch // settings.step_every))
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
