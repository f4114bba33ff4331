"""A trained network as a teacher: how alike it finds drawings, which a smaller network then learns to find as alike.

The teacher is frozen, so what it says of a drawing under a view is a constant: it comes from the feature bank, and no forward
of the teacher is made while the other network trains.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float16, Float32

from inkfold.augment.views import View

TEMPERATURE = 0.1  # of cosines: a drawing's nearest few of a batch of 64 hold most of its relations


class ShownFeatures(Protocol):
    """Features of all training drawings under several views."""

    def read(self, view: View) -> Float16[np.ndarray, "n d"]:
        """Gather the features of one view, in the order of the drawings."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """What a teacher says.

    Attributes:
        key: Names its network and how it is shown drawings, so that a training with another teacher is another training.
        features: Of all training drawings, under every view of the curriculum.
        weight: Of the loss of relations, beside the labels' with weight 1.
    """

    key: dict[str, Any]
    features: ShownFeatures
    weight: float


def relation_loss(
    features: Float32[torch.Tensor, "n d"], taught: Float32[torch.Tensor, "n d_teacher"], temperature: float = TEMPERATURE
) -> torch.Tensor:
    """Compare which drawings of a batch two networks find alike; their features may have different widths.

    Each drawing's cosines to all others become a distribution; the loss is the Kullback-Leibler divergence of the learner's
    from the teacher's.

    Args:
        features: The learner's, with gradients.
        taught: The teacher's of the same drawings under the same view.
        temperature: Of the cosines; lower looks at the nearest only.

    Returns:
        The sum over the drawings, in nats; 0 for a single one, which has no relations.

    Source: similarity distillation: Fang et al., "SEED", arXiv 2101.04731; Koohpayegani et al., "CompRess", arXiv 2010.14713.
    """
    if len(features) < 2:
        return features.sum() * 0.0
    own, teacher = (_relations(values, temperature) for values in (features, taught))
    return torch.nn.functional.kl_div(own, teacher, reduction="sum", log_target=True)


def _relations(features: torch.Tensor, temperature: float) -> torch.Tensor:
    """Give the logarithms of each drawing's shares of likeness to all others, itself left out."""
    directions = torch.nn.functional.normalize(features, dim=1)
    cosines = directions @ directions.T / temperature
    others = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    return cosines[others].view(len(features), -1).log_softmax(1)
