"""How a fine-tuning uses the time that it is given: for how many epochs, in how many folds, and by which recipe.

The constants are from measurements that docs/finetuning.md lists; nothing here was chosen by test drawings.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inkfold.finetune.step_time import FoldSize, StepTime

FEWEST_EPOCHS = 4  # of a single network: with fewer it is hardly ahead of a good head on the frozen backbone
GOOD_EPOCHS, USUAL_PER_CLASS, SLOPE = 12, 20, 0.3  # the more drawings a class has, the fewer times each must be seen
GOOD_STEPS = 200  # however few drawings there are
MORE, MOST_EPOCHS = 3, 60  # times as many epochs are worth their time, if there is enough for all parts
MILD = ("rotate(15)@0.5", "scale(0.85,1.1)@0.5")
STRONG = (
    "rotate(20)@0.7",
    "scale(0.7,1.1)@0.7",
    "shear(8)@0.5",
    "translate(0.06)@0.5",
    "elastic(30,6)@0.4",
    "thicken(1.5)@0.3",
)
MIRROR = "hflip@0.5"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a fine-tuning trains.

    Attributes:
        epochs: Number of epochs that each network is trained for.
        parts: Number of parts that are held out, each by one network.
        seconds: Seconds that it is expected to take.
        is_short: Whether the epochs are fewer than `good_epochs`, so that hard augmentation would keep it from learning.
    """

    epochs: int
    parts: int
    seconds: float
    is_short: bool = False


def good_epochs(per_class: float, steps: int) -> int:
    """Return the number of epochs after which a network's accuracy grows slowly.

    Args:
        per_class: Mean number of training drawings of a class, above 0.
        steps: Number of training steps of an epoch, at least 1.

    Returns:
        4 to 12, by the number of drawings of a class; more, at most 60, where they would be fewer than 200 steps.
    """
    shown = min(GOOD_EPOCHS, max(FEWEST_EPOCHS, round(GOOD_EPOCHS * math.pow(USUAL_PER_CLASS / per_class, SLOPE))))
    return min(MOST_EPOCHS, max(shown, math.ceil(GOOD_STEPS / steps)))


def choose_effort(seconds: float, step_time: "StepTime", size: "FoldSize", k: int, per_class: float) -> Effort | None:
    """Choose the number of epochs and of parts that are best for some time.

    As many parts are held out as there is time to train each network for `good_epochs`: their networks vote on new drawings,
    and more drawings are measured. What time is left goes into more epochs, up to three times as many or 60.

    Args:
        seconds: Seconds that training and the networks' predictions may take.
        step_time: Seconds of each part of the work.
        size: What each fold trains on and predicts.
        k: Number of parts that the drawings are divided into; as many are held out at most.
        per_class: Mean number of training drawings of a class, above 0.

    Returns:
        The choice; None where there isn't time to train a single network for four epochs.
    """
    good = good_epochs(per_class, math.ceil(size.trained_on / step_time.batch_size))
    most = max(good, min(MORE * good, MOST_EPOCHS))
    for parts in range(k, 0, -1):
        begin_s, one_s = (step_time.training_s(size, epochs, parts) for epochs in (0, 1))
        epochs = min(int((seconds - begin_s) / max(one_s - begin_s, 1e-9)), most)
        if epochs >= (good if parts > 1 else FEWEST_EPOCHS):
            return Effort(epochs, parts, step_time.training_s(size, epochs, parts), epochs < good)
    return None


def finetune_recipe(backbone: str, image_size: int, effort: Effort, *, mirrored: bool = True) -> dict[str, Any]:
    """Write the recipe of a fine-tuning that was measured to be good, without data, seed and ways of reading pages.

    Args:
        backbone: The backbone's name.
        image_size: Side of the squares that it takes, in px.
        effort: For how many epochs it trains, in how many folds.
        mirrored: Whether a mirrored drawing is of the same class, as with things, not with letters.

    Returns:
        The recipe's keys as nested mappings, as YAML has them.
    """
    operations = [*([MIRROR] if mirrored else []), *(MILD if effort.is_short else STRONG)]
    turned = ["identity", "rotate(8,8)", "rotate(-8,-8)"]
    views = [*turned, "hflip", "hflip + rotate(8,8)", "hflip + rotate(-8,-8)"] if mirrored else turned
    return {
        "backbone": {"name": backbone},
        "image": {"size": image_size},
        "folds": {"split": "kfold", "parts": effort.parts},
        "train_head": {"epochs": 8, "batch_size": 256, "optimiser": "adamw", "lr": 8e-3, "weight_decay": 0.1},
        "finetune": {
            "part": "all",
            "epochs": effort.epochs,
            "lr": 1e-3,
            "head_lr_factor": 3,
            "schedule": {"kind": "one_cycle"},
        },
        "curriculum": [{"augment": operations}],
        "tta": [] if effort.is_short else views,
    }
