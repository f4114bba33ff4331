"""What is fine-tuned, on what and how: the same for all folds of a run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped

from inkfold.augment.curriculum import Curriculum
from inkfold.finetune.distillation import Teacher
from inkfold.finetune.loader import DrawingLoader
from inkfold.finetune.network import TrainedPart
from inkfold.heads.head import HeadSpec
from inkfold.heads.settings import PARTING, TuningSettings
from inkfold.models.weights import BackboneInfo
from inkfold.storage.hashing import digest, key_digest


@dataclass(frozen=True, slots=True)
class FinetunePlan:
    """What is trained, on what, and how; the same for all folds.

    Attributes:
        info: The resolved backbone.
        part: Which part of it is trained.
        spec: The kind of head.
        heads: Where heads start, a member a fold.
        dropout: Of the head's hidden layers.
        settings: How.
        curriculum: Which view each epoch learns from.
        feeder: Of all training drawings.
        targets: Their class ids.
        names: Of the drawings, for messages.
        seed: Of all that is drawn.
        teacher: Whose relations between drawings are learnt beside the labels.
    """

    info: BackboneInfo
    part: TrainedPart
    spec: HeadSpec
    heads: Mapping[str, Float32[np.ndarray, "folds rows columns"]]
    dropout: float
    settings: TuningSettings
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
                "part": asdict(self.part),
                "head": [
                    asdict(self.spec),
                    self.dropout,
                    sorted((name, _named(values)) for name, values in self.heads.items()),
                ],
                "settings": {**asdict(self.settings), **dict.fromkeys(PARTING)},
                "teacher": None if self.teacher is None else [self.teacher.key, self.teacher.weight],
                "views": [view_keys, self.curriculum.lr_factors()],
                "drawings": [_named(self.feeder.digests), _named(self.targets), _named(own), self.seed, fold],
                "torch": torch.__version__,
            }
        )


def _named(values: np.ndarray) -> str:
    return digest(np.ascontiguousarray(values).tobytes())
