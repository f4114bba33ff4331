"""The plan of a fine-tuning: network, drawings and settings, the same for all folds of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped

from inkfold.augment.curriculum import Curriculum
from inkfold.config.sections import FinetuneSettings, StepSchedule
from inkfold.finetune.distillation import Teacher
from inkfold.finetune.loader import DrawingLoader
from inkfold.heads.head import HeadSpec
from inkfold.heads.settings import WORK_DIVISION
from inkfold.models.weights import BackboneInfo
from inkfold.storage.hashing import digest, key_digest

PART = ("part", "blocks", "lora_rank", "lora_alpha", "drop_path")  # settings that say which part is trained
OUTSIDE = (
    "start",
    "teacher",
    "teacher_weight",
    "interpolate",
    "stop_epoch",  # a checkpoint says itself where its cool-down begins
)  # settings that act outside of a fold's training or are named elsewhere


@dataclass(frozen=True, slots=True)
class FinetunePlan:
    """What is fine-tuned, on which drawings, and how; the same for all folds.

    Attributes:
        info: The backbone's name, the weights that training starts from, and the normalisation of its input.
        spec: The head's kind, widths, activation and scaling.
        heads: Tensors of the heads that training starts from, one head per fold.
        settings: Which part of the backbone is trained, and how; the precision `auto` is resolved.
        curriculum: Which augmentation each epoch trains on; its epochs are the settings'.
        loader: Loads the training drawings' pixels, rendered under an epoch's view.
        targets: Class ids of the training drawings, from 0.
        names: Names of the training drawings, for messages.
        seed: The recipe's seed, on which all random draws depend.
        teacher: The run that the network is distilled from; None trains on labels alone.
    """

    info: BackboneInfo
    spec: HeadSpec
    heads: Mapping[str, Float32[np.ndarray, "folds rows columns"]]
    settings: FinetuneSettings
    curriculum: Curriculum
    loader: DrawingLoader
    targets: Int64[np.ndarray, " n"]
    names: Shaped[np.ndarray, " n"]
    seed: int
    teacher: Teacher | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes that the heads predict."""
        return int(self.heads[f"layers.{len(self.spec.hidden)}.weight"].shape[2])

    def identity(self, own: Int64[np.ndarray, " own"], fold: int) -> str:
        """Digest all that decides the result of a fold, so that no checkpoint of another training is continued.

        Args:
            own: Rows of the drawings that the fold is trained on.
            fold: Number of the fold, from 0.

        Returns:
            The digest; settings that only divide the work differently don't change it.
        """
        view_keys = [self.curriculum.view(epoch).key() for epoch in range(self.settings.epochs)]
        return key_digest(
            {
                "backbone": self.info.key(),
                "part": _part_key(self.settings, self.seed),
                "head": [
                    self.spec.key(),
                    self.spec.dropout,
                    sorted((name, _digest_of(values[fold])) for name, values in self.heads.items()),
                ],
                "settings": _training_key(self.settings),
                "teacher": None if self.teacher is None else [self.teacher.key, self.teacher.weight],
                "views": [view_keys, self.curriculum.lr_factors()],
                "drawings": [_digest_of(self.loader.digests), _digest_of(self.targets), _digest_of(own), self.seed, fold],
                "torch": torch.__version__,
            }
        )


def _part_key(settings: FinetuneSettings, seed: int) -> dict[str, Any]:
    """Return which part is trained, under the names that checkpoints have."""
    return {
        "kind": settings.part,
        "blocks": settings.blocks,
        "rank": settings.lora_rank,
        "alpha": settings.lora_alpha,
        "drop_path": settings.drop_path,
        "seed": seed,
    }


def _training_key(settings: FinetuneSettings) -> dict[str, Any]:
    """Return how it is trained, under the names that checkpoints have; how the work is divided is left out."""
    step = settings.schedule if settings.schedule.kind == "step" else StepSchedule(kind="step")
    names = {"schedule": settings.schedule.kind, "step_every": step.every, "step_gamma": step.gamma}
    return {**settings.model_dump(exclude={*PART, *OUTSIDE, "schedule"}), **names, **dict.fromkeys(WORK_DIVISION)}


def _digest_of(values: np.ndarray) -> str:
    return digest(np.ascontiguousarray(values).tobytes())
