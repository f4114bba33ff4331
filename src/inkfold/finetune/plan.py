"""What is fine-tuned, on what and how: the same for all folds of a run."""

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
from inkfold.heads.settings import PARTING
from inkfold.models.weights import BackboneInfo
from inkfold.storage.hashing import digest, key_digest

PART = ("part", "blocks", "lora_rank", "lora_alpha", "drop_path")  # settings of which part is trained
AROUND = ("start", "teacher", "teacher_weight", "interpolate")  # settings that a fold's training knows by other means


@dataclass(frozen=True, slots=True)
class FinetunePlan:
    """What is fine-tuned, on what, and how; the same for all folds.

    Attributes:
        info: The resolved backbone.
        spec: The head's kind and shape.
        heads: The tensors that heads start from, one member per fold.
        settings: Which part of the backbone is trained, and how, the precision settled.
        curriculum: Which view each epoch learns from.
        feeder: Of all training drawings.
        targets: Their class ids.
        names: Of the drawings, for messages.
        seed: Of all that is drawn.
        teacher: Whose relations between drawings are learnt beside the labels.
    """

    info: BackboneInfo
    spec: HeadSpec
    heads: Mapping[str, Float32[np.ndarray, "folds rows columns"]]
    settings: FinetuneSettings
    curriculum: Curriculum
    feeder: DrawingLoader
    targets: Int64[np.ndarray, " n"]
    names: Shaped[np.ndarray, " n"]
    seed: int
    teacher: Teacher | None = None

    @property
    def num_classes(self) -> int:
        """Outputs of the heads."""
        return int(self.heads[f"layers.{len(self.spec.hidden)}.weight"].shape[2])

    def identity(self, own: Int64[np.ndarray, " own"], fold: int) -> str:
        """Name all that decides what comes out of a fold, so that a checkpoint of another training is not gone on from.

        Args:
            own: The drawings that it learns from.
            fold: Its number.

        Returns:
            A digest; how the work is parted is not in it.
        """
        view_keys = [self.curriculum.view(epoch).key() for epoch in range(self.settings.epochs)]
        return key_digest(
            {
                "backbone": self.info.key(),
                "part": _part_key(self.settings, self.seed),
                "head": [
                    self.spec.key(),
                    self.spec.dropout,
                    sorted((name, _named(values)) for name, values in self.heads.items()),
                ],
                "settings": _training_key(self.settings),
                "teacher": None if self.teacher is None else [self.teacher.key, self.teacher.weight],
                "views": [view_keys, self.curriculum.lr_factors()],
                "drawings": [_named(self.feeder.digests), _named(self.targets), _named(own), self.seed, fold],
                "torch": torch.__version__,
            }
        )


def _part_key(settings: FinetuneSettings, seed: int) -> dict[str, Any]:
    """Name which part is trained, under the names that checkpoints have."""
    return {
        "kind": settings.part,
        "blocks": settings.blocks,
        "rank": settings.lora_rank,
        "alpha": settings.lora_alpha,
        "drop_path": settings.drop_path,
        "seed": seed,
    }


def _training_key(settings: FinetuneSettings) -> dict[str, Any]:
    """Name how it is trained, under the names that checkpoints have; how the work is divided is left out."""
    step = settings.schedule if settings.schedule.kind == "step" else StepSchedule(kind="step")
    names = {"schedule": settings.schedule.kind, "step_every": step.every, "step_gamma": step.gamma}
    return {**settings.model_dump(exclude={*PART, *AROUND, "schedule"}), **names, **dict.fromkeys(PARTING)}


def _named(values: np.ndarray) -> str:
    return digest(np.ascontiguousarray(values).tobytes())
