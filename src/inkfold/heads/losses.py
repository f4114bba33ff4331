"""The loss of many members on one minibatch; each member's gradient is that of its own mean over its own drawings."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from inkfold.config.sections import TrainHeadSettings

LEAST_DOUBT = 1e-6  # the slope of a power below 1 has no end at 0


@dataclass(frozen=True, slots=True)
class Mixture:
    """How a step mixes each drawing with a partner.

    Attributes:
        partners: Places in the minibatch.
        shares: What each member keeps of the drawing itself, (members, batch); 1 where the member may not see the partner.
    """

    partners: torch.Tensor
    shares: torch.Tensor

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """Mix (members, batch, width)."""
        return torch.lerp(values[:, self.partners], values, self.shares[:, :, None])


class Losses:
    """The losses of members that differ in their numbers.

    Args:
        settings: One a member.
        members: True where a member may learn from a drawing.
        targets: Class ids of all drawings.
        num_classes: Outputs.
        device: Where the scores are.
    """

    def __init__(
        self,
        settings: Sequence[TrainHeadSettings],
        members: Bool[np.ndarray, "members n"],
        targets: Int64[np.ndarray, " n"],
        num_classes: int,
        device: torch.device,
    ) -> None:
        self._smoothing = _column([one.label_smoothing for one in settings], device)
        self._gamma = _column([one.focal_gamma for one in settings], device)
        self._weights = None
        if any(one.class_weights == "balanced" for one in settings):
            rows = [_class_weights(one, targets[own], num_classes) for one, own in zip(settings, members, strict=True)]
            self._weights = torch.from_numpy(np.stack(rows)).to(device)

    def of(
        self, scores: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, mixture: Mixture | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give each member's sum of weighted losses, and the sum of weights that its mean divides by.

        Args:
            scores: (members, batch, classes).
            targets: (batch).
            mask: (members, batch), 1 where the member learns.
            mixture: What was mixed.

        Returns:
            Both (members).
        """
        log_probs = torch.log_softmax(scores, -1)
        losses, weights = self._single(log_probs, targets)
        if mixture is not None:
            others, other_weights = self._single(log_probs, targets[mixture.partners])
            losses = torch.lerp(others, losses, mixture.shares)
            weights = torch.lerp(other_weights, weights, mixture.shares)
        return (losses * mask).sum(1), (weights * mask).sum(1)

    def keep(self, rows: Sequence[int]) -> "Losses":
        """Go on with some members only."""
        kept = copy.copy(self)
        for name in ("_smoothing", "_gamma", "_weights"):
            values = getattr(self, name)
            setattr(kept, name, None if values is None else values[list(rows)])
        return kept

    def _single(self, log_probs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the weighted loss of each drawing, and its weight; (members, batch) both."""
        index = targets[None, :, None].expand(len(log_probs), -1, 1)
        log_prob = log_probs.gather(2, index)[..., 0]
        weights = torch.ones_like(log_prob) if self._weights is None else self._weights[:, targets]
        losses = -log_prob * weights
        if self._gamma is not None:
            losses = losses * (1 - log_prob.exp()).clamp(min=LEAST_DOUBT) ** self._gamma
        if self._smoothing is not None:
            everywhere = log_probs if self._weights is None else log_probs * self._weights[:, None]
            losses = torch.lerp(losses, -everywhere.mean(2), self._smoothing)
        return losses, weights


def mean_losses(sums: Float32[torch.Tensor, " members"], weights: Float32[torch.Tensor, " members"]) -> torch.Tensor:
    """Divide; a member without a drawing in the minibatch has loss 0."""
    return sums / torch.where(weights > 0, weights, 1)


def _column(values: Sequence[float], device: torch.device) -> torch.Tensor | None:
    return torch.tensor(values, device=device)[:, None] if any(values) else None


def _class_weights(settings: TrainHeadSettings, targets: np.ndarray, num_classes: int) -> np.ndarray:
    if settings.class_weights == "none":
        return np.ones(num_classes, np.float32)
    counts = np.bincount(targets, minlength=num_classes)
    present = counts > 0
    weights: np.ndarray = np.where(present, len(targets) / (max(int(present.sum()), 1) * np.maximum(counts, 1)), 0)
    return weights.astype(np.float32)
