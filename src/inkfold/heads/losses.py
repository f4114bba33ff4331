"""The loss of many heads on one minibatch; each head's gradient is that of the mean loss over its own training drawings."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from inkfold.config.sections import TrainHeadSettings

LEAST_DOUBT = 1e-6  # the slope of x^gamma for gamma below 1 is infinite at 0


@dataclass(frozen=True, slots=True)
class Mixture:
    """How a step mixes each drawing with a partner.

    Attributes:
        partners: Each drawing's partner, as a position in the minibatch, (batch).
        shares: Share of the drawing itself in its mixture, 0..1, (heads, batch); 1 where a head isn't trained on the partner.
    """

    partners: torch.Tensor
    shares: torch.Tensor

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """Mix values (heads, batch, width) with those of their partners."""
        return torch.lerp(values[:, self.partners], values, self.shares[:, :, None])


class Losses:
    """The losses of heads whose label smoothing, focal exponent and class weights may differ.

    Args:
        settings: Training settings of each head, in the order of the scores' first axis; only those of the loss are used.
        masks: True where a head is trained on a drawing.
        targets: Class id of each drawing, 0 to `num_classes` - 1; balanced class weights are counted from them.
        num_classes: Number of classes: the width of the scores.
        device: Where the scores lie, and where the class weights are kept: a CPU or a GPU.
    """

    def __init__(
        self,
        settings: Sequence[TrainHeadSettings],
        masks: Bool[np.ndarray, "heads n"],
        targets: Int64[np.ndarray, " n"],
        num_classes: int,
        device: torch.device,
    ) -> None:
        self._smoothing = _column([own.label_smoothing for own in settings], device)
        self._gamma = _column([own.focal_gamma for own in settings], device)
        self._weights = None
        if any(own.class_weights == "balanced" for own in settings):
            rows = [_class_weights(own, targets[mask], num_classes) for own, mask in zip(settings, masks, strict=True)]
            self._weights = torch.from_numpy(np.stack(rows)).to(device)

    def of(
        self, scores: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, mixture: Mixture | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute each head's sum of weighted losses, and the sum of weights that its mean divides by.

        Args:
            scores: Class scores (heads, batch, classes).
            targets: Class id of each drawing of the minibatch, (batch), from 0.
            mask: (heads, batch), 1 where the head is trained on the drawing.
            mixture: How drawings were mixed; None if they weren't.

        Returns:
            Both sums, (heads) each.
        """
        log_probs = torch.log_softmax(scores, -1)
        losses, weights = self._single(log_probs, targets)
        if mixture is not None:
            others, other_weights = self._single(log_probs, targets[mixture.partners])
            losses = torch.lerp(others, losses, mixture.shares)
            weights = torch.lerp(other_weights, weights, mixture.shares)
        return (losses * mask).sum(1), (weights * mask).sum(1)

    def keep(self, only: Sequence[int]) -> "Losses":
        """Return the losses of the heads at these positions."""
        kept = copy.copy(self)
        for name in ("_smoothing", "_gamma", "_weights"):
            values = getattr(self, name)
            setattr(kept, name, None if values is None else values[list(only)])
        return kept

    def _single(self, log_probs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the weighted loss of each drawing, and its weight; (heads, batch) both."""
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


def mean_losses(sums: Float32[torch.Tensor, " heads"], weights: Float32[torch.Tensor, " heads"]) -> torch.Tensor:
    """Divide sums of losses by sums of weights; a head without a drawing in the minibatch has loss 0."""
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
