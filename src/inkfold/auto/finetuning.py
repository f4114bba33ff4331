"""How a search fine-tunes: which recipe suits a backbone, and how many epochs of how many folds fit into the time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inkfold.models import ink_small as inksmall

TRAINED_PX = 128  # side of the drawings that a backbone for larger ones is trained on, on a CPU
SHARE_OF_LEFT = 0.85  # of the time that is left: what a fine-tuning is planned for
FEWEST_EPOCHS, BEST_EPOCHS, MOST_EPOCHS = 6, 14, 40
AUGMENT = [
    "hflip@0.5",
    "rotate(20)@0.7",
    "scale(0.7,1.1)@0.7",
    "shear(8)@0.5",
    "translate(0.06)@0.5",
    "elastic(30,6)@0.4",
    "thicken(1.5)@0.3",
]
TEST_VIEWS = ["identity", "hflip", "rotate(8,8)", "rotate(-8,-8)", "hflip + rotate(8,8)", "hflip + rotate(-8,-8)"]


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is trained.

    Attributes:
        epochs: Passes over each fold's training drawings.
        parts: Number of folds.
        seconds: Seconds that it is expected to take.
    """

    epochs: int
    parts: int
    seconds: float


def choose_amount(left_s: float, epoch_s: float, part_s: float, folds: int) -> Amount | None:
    """Choose how many epochs of how many folds fit into the time.

    One network is trained for as many epochs as pay before a second one is: a fold that is held out later votes with the
    others, but a network that saw its drawings too seldom is worth little.

    Args:
        left_s: Seconds that are left.
        epoch_s: Seconds of one epoch of one fold.
        part_s: Seconds that each fold takes beside, for predictions.
        folds: Number of folds, at least 1.

    Returns:
        The amount; None if not even the fewest epochs of one fold fit.
    """
    seconds = SHARE_OF_LEFT * left_s
    if seconds < FEWEST_EPOCHS * epoch_s + part_s:
        return None
    parts = int(min(max(seconds // (BEST_EPOCHS * epoch_s + part_s), 1), folds))
    epochs = int(min((seconds / parts - part_s) / epoch_s, MOST_EPOCHS))
    return Amount(epochs, parts, parts * (epochs * epoch_s + part_s))


def finetune_keys(backbone: str, image_size: int | None, amount: Amount) -> Mapping[str, Any]:
    """Return the raw recipe keys that fine-tune a backbone.

    Args:
        backbone: Its name.
        image_size: Side of the drawings in px; None takes the backbone's own.
        amount: How many epochs and folds.
    """
    return {
        "image": {} if image_size is None else {"size": image_size},
        "folds": {"parts": amount.parts},
        "train_head": {"epochs": 8, "batch_size": 256, "optimiser": "adamw", "lr": 8e-3, "weight_decay": 0.1},
        "finetune": {
            "part": "all",
            "epochs": amount.epochs,
            "lr": 5e-4 if backbone == inksmall.NAME else 1e-3,
            "head_lr_factor": 3,
            "schedule": {"kind": "one_cycle"},
        },
        "curriculum": [{"augment": AUGMENT}],
        "tta": TEST_VIEWS,
    }
