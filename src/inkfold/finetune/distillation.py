"""Distillation from a finished run: which drawings the teacher finds similar, the trained network learns to find similar too.

The teacher is frozen, so its features of a drawing under a view are constant: they come from the feature bank, and no forward
pass of the teacher is made while the other network trains.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float16, Float32

from inkfold.augment.views import View

TEMPERATURE = 0.1  # of cosines: a drawing's nearest few of a batch of 64 hold most of its similarity


class FeaturesByView(Protocol):
    """Features of all training drawings under several views."""

    def read(self, view: View) -> Float16[np.ndarray, "n d"]:
        """Read the features under one view, in the order of the drawings."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """A finished run that a network is distilled from.

    Attributes:
        key: Names the teacher's network and preprocessing, so that a checkpoint made with another teacher isn't continued.
        features: The teacher's features of all training drawings, under every view of the curriculum.
        weight: Weight of the relation loss, above 0; the labels' loss has weight 1.
    """

    key: dict[str, Any]
    features: FeaturesByView
    weight: float


def relation_loss(
    features: Float32[torch.Tensor, "n d"],
    teacher_features: Float32[torch.Tensor, "n d_teacher"],
    temperature: float = TEMPERATURE,
) -> torch.Tensor:
    """Compare which drawings of a batch two networks find similar; their features may have different widths.

    Each drawing's cosines to all others become a distribution; the loss is the Kullback-Leibler divergence of the trained
    network's distributions from the teacher's.

    Args:
        features: The trained network's features, with gradients.
        teacher_features: The teacher's features of the same drawings under the same view.
        temperature: Divisor of the cosines, above 0; a lower one weighs only the nearest drawings.

    Returns:
        The sum over the drawings, in nats; 0 for a single one, which has no others to be similar to.

    Source: similarity distillation: Fang et al., "SEED", arXiv 2101.04731; Koohpayegani et al., "CompRess", arXiv 2010.14713.
    """
    if len(features) < 2:
        return features.sum() * 0.0
    own, teacher = (_relations(values, temperature) for values in (features, teacher_features))
    return torch.nn.functional.kl_div(own, teacher, reduction="sum", log_target=True)


def _relations(features: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the log of each drawing's distribution of similarity over all others, itself left out."""
    directions = torch.nn.functional.normalize(features, dim=1)
    cosines = directions @ directions.T / temperature
    others = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    return cosines[others].view(len(features), -1).log_softmax(1)
