"""Heads of one shape, side by side in PyTorch: one minibatch goes through all of them in one matrix product.

The first layer's weights lie as (members x outputs, inputs), so that the product serves all members, and each member's part
is contiguous, so that each trial has its own rate. Members share no parameter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from inkfold.heads.head import LENGTH_EPS, NORM_EPS, HeadSpec, init_heads
from inkfold.heads.losses import Losses, Mixture, mean_losses
from inkfold.heads.randomness import StepRandomness
from inkfold.heads.settings import FitSettings

SGD_MOMENTUM = 0.9
ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True, slots=True)
class HeadJob:
    """What tells one head of a program from the others.

    Attributes:
        trial: Which trial it belongs to.
        fold: Which of the folds' masks says what it learns from.
        start: Which of the trial's starts it is; decides the starting weights and what dropout leaves out.
        settings: Its trial's.
    """

    trial: int
    fold: int
    start: int
    settings: FitSettings


class BatchedHeads:
    """Heads of one shape while they are fitted.

    Args:
        spec: Their kind.
        members: Those of a trial lie together.
        scaling: What standardises each member's features: `mean` and `scale`, (members, 1, d); empty without.
        targets: Class ids of all drawings.
        masks: True where a member may learn from a drawing.
        sizes: Features and classes.
        seed: Of starts, and of what is random in a step.
        device: Where they are fitted.
    """

    def __init__(
        self,
        spec: HeadSpec,
        members: Sequence[HeadJob],
        scaling: Mapping[str, np.ndarray],
        targets: Int64[np.ndarray, " n"],
        masks: Bool[np.ndarray, "members n"],
        *,
        sizes: tuple[int, int],
        seed: int,
        device: torch.device,
    ) -> None:
        self.spec, self.members, self.device = spec, list(members), device
        settings = [member.settings for member in members]
        self.mask = torch.from_numpy(masks).float().to(device)
        self._losses = Losses(settings, masks, targets, sizes[1], device)
        self._alphas = [one.mixup for one in settings]
        self._dropout = (
            torch.tensor([[[one.dropout]] for one in settings], device=device) if any(one.dropout for one in settings) else None
        )
        self._rounded = settings[0].precision == "bfloat16"
        self._scaling = {name: torch.from_numpy(values).to(device) for name, values in scaling.items()}
        start = init_heads(spec, *sizes, [(seed, 1, member.fold, member.start) for member in members])
        self._parameters = {name: _for_fitting(name, values, device) for name, values in start.items()}
        self._optimiser = _Optimiser(list(self._parameters.values()), _spans(members))

    def step(
        self, x: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, rates: Sequence[float], chance: StepRandomness
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Learn from one minibatch.

        Args:
            x: Features (batch, d).
            targets: (batch).
            mask: (members, batch), 1 where the member may see the drawing.
            rates: One a trial.
            chance: What is random in this step.

        Returns:
            Each member's sum of losses and sum of weights, (members).
        """
        mixture = chance.mixture(self._alphas, mask)
        sums, weights = self._losses.of(self.scores(x, mixture, chance), targets, mask, mixture)
        mean_losses(sums, weights).sum().backward()  # type: ignore[no-untyped-call]
        self._optimiser.step(rates)
        return sums.detach(), weights.detach()

    def scores(
        self,
        x: torch.Tensor,
        mixture: Mixture | None = None,
        chance: StepRandomness | None = None,
        only: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Score drawings.

        Args:
            x: Features (batch, d).
            mixture: Mixes what comes out of the first layer: as that is linear, it is a mixture of features.
            chance: Drops outputs of hidden layers; None drops none.
            only: Some members; None takes all.

        Returns:
            Scores (members, batch, classes).
        """
        tensors = {**self._parameters, **self._scaling}
        if only is not None:
            tensors = {name: values[list(only)] for name, values in tensors.items()}
        z = self._first_layer(x, tensors)
        z = z if mixture is None else mixture.of(z)
        for i in range(1, len(self.spec.hidden) + 1):
            z = self._activated(z, tensors, i - 1)
            if chance is not None:
                z = chance.dropped(z, i, [member.start for member in self.members], self._dropout)
            z = linear(z, tensors[f"layers.{i}.weight"], rounded=self._rounded) + tensors[f"layers.{i}.bias"]
        return z

    def fitted(self, only: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """Copy the heads as `heads.head_probs` takes them.

        Args:
            only: Some members; None takes all.
        """
        tensors = {**self._parameters, **self._scaling}
        tensors = {
            name: values.detach()[range(len(self.members)) if only is None else list(only)] for name, values in tensors.items()
        }
        if self.spec.kind == "cosine":
            tensors["layers.0.weight"] = _unit_length(tensors["layers.0.weight"]) * tensors.pop("temperature").exp()
        return {
            name: (values.transpose(1, 2) if name.endswith("weight") else values).contiguous().cpu().numpy()
            for name, values in tensors.items()
        }

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some members only; those of a trial go together."""
        self.members = [self.members[row] for row in rows]
        self.mask, self._losses = self.mask[list(rows)], self._losses.keep(rows)
        self._alphas = [self._alphas[row] for row in rows]
        self._dropout = None if self._dropout is None else self._dropout[list(rows)]
        self._scaling = {name: values[list(rows)] for name, values in self._scaling.items()}
        self._parameters = {name: values.detach()[list(rows)].requires_grad_() for name, values in self._parameters.items()}
        self._optimiser = self._optimiser.keep(rows, list(self._parameters.values()), _spans(self.members))

    def _first_layer(self, x: torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        weight = tensors["layers.0.weight"]
        if self.spec.scaling == "standardise":
            x = (x - tensors["mean"]) * tensors["scale"]  # (members, batch, d)
        if self.spec.scaling == "normalise" or self.spec.kind == "cosine":
            x = _unit_length(x)
        if self.spec.kind == "cosine":
            weight = _unit_length(weight) * tensors["temperature"].exp()
        z = linear(x, weight, rounded=self._rounded)
        return z + tensors["layers.0.bias"] if "layers.0.bias" in tensors else z

    def _activated(self, z: torch.Tensor, tensors: Mapping[str, torch.Tensor], layer: int) -> torch.Tensor:
        if self.spec.norm == "layer":
            z = torch.nn.functional.layer_norm(z, z.shape[-1:], eps=NORM_EPS)
            z = z * tensors[f"norms.{layer}.scale"] + tensors[f"norms.{layer}.shift"]
        return torch.relu(z) if self.spec.activation == "relu" else torch.nn.functional.gelu(z)


class _Optimiser:
    """PyTorch's own updates, by their functional form: each trial has numbers of its own.

    Building an Optimizer would import the compiler, a second of nothing.
    """

    def __init__(self, parameters: list[torch.Tensor], spans: Sequence[tuple[slice, FitSettings]]) -> None:
        self._parameters, self._spans = parameters, spans
        self._means = [torch.zeros_like(parameter) for parameter in parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in parameters]
        self._steps = torch.zeros((), device=parameters[0].device)

    @torch.no_grad()
    def step(self, rates: Sequence[float]) -> None:
        """Update every trial's part by its rate, and forget the gradients."""
        for (span, settings), rate in zip(self._spans, rates, strict=True):
            parts = [parameter[span] for parameter in self._parameters]
            gradients = [parameter.grad[span] for parameter in self._parameters if parameter.grad is not None]
            means = [mean[span] for mean in self._means]
            if settings.optimiser == "sgd":
                _sgd_update(parts, gradients, means, rate, settings.weight_decay)
            else:
                squares = [square[span] for square in self._squares]
                _adam_update(parts, gradients, (means, squares), self._steps, (rate, settings))
        self._steps += 1
        for parameter in self._parameters:
            parameter.grad = None

    def keep(
        self, rows: Sequence[int], parameters: list[torch.Tensor], spans: Sequence[tuple[slice, FitSettings]]
    ) -> "_Optimiser":
        """Go on with some members' state."""
        kept = _Optimiser(parameters, spans)
        kept._means = [mean[list(rows)] for mean in self._means]
        kept._squares = [square[list(rows)] for square in self._squares]
        kept._steps = self._steps
        return kept


def _adam_update(
    parts: list[torch.Tensor],
    gradients: list[torch.Tensor],
    moments: tuple[list[torch.Tensor], list[torch.Tensor]],
    done: torch.Tensor,
    how: tuple[float, FitSettings],
) -> None:
    rate, settings = how
    adam(
        parts,
        gradients,
        *moments,
        [],
        [done.clone() for _ in parts],
        fused=True,
        decoupled_weight_decay=settings.optimiser == "adamw",
        amsgrad=False,
        beta1=ADAM_BETAS[0],
        beta2=ADAM_BETAS[1],
        lr=rate,
        weight_decay=settings.weight_decay,
        eps=ADAM_EPS,
        maximize=False,
    )


def _sgd_update(
    parts: list[torch.Tensor], gradients: list[torch.Tensor], means: list[torch.Tensor], rate: float, decay: float
) -> None:
    sgd(
        parts,
        gradients,
        list[torch.Tensor | None](means),
        fused=True,
        weight_decay=decay,
        momentum=SGD_MOMENTUM,
        lr=rate,
        dampening=0.0,
        nesterov=False,
        maximize=False,
    )


def _spans(members: Sequence[HeadJob]) -> list[tuple[slice, FitSettings]]:
    """Find where each trial's members lie."""
    firsts = [i for i, one in enumerate(members) if i == 0 or one.trial != members[i - 1].trial]
    return [
        (slice(first, end), members[first].settings) for first, end in zip(firsts, [*firsts[1:], len(members)], strict=True)
    ]


def _unit_length(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x, dim=-1, eps=LENGTH_EPS)


def _for_fitting(name: str, values: np.ndarray, device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(values)
    tensor = tensor.transpose(1, 2) if name.endswith("weight") else tensor
    return tensor.contiguous().to(device).requires_grad_()


def linear(x: torch.Tensor, weight: torch.Tensor, *, rounded: bool) -> torch.Tensor:
    """Multiply each member's inputs with its weights.

    Args:
        x: (batch, in), the same for all members, or (members, batch, in).
        weight: (members, out, in).
        rounded: Round what is multiplied to bfloat16; results go on in float32.

    Returns:
        (members, batch, out), float32.
    """
    product: torch.Tensor = _Linear.apply(x, weight, torch.bfloat16 if rounded else torch.float32)  # type: ignore[no-untyped-call]
    return product


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        members, outputs, inputs = weight.shape
        x, weight = x.to(dtype), weight.to(dtype)
        ctx.save_for_backward(x, weight)
        if x.ndim == 2:  # one product for all members
            return (x @ weight.view(-1, inputs).T).view(-1, members, outputs).transpose(0, 1).float()
        return _products(x, weight.transpose(1, 2)).float()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, None]:
        x, weight = ctx.saved_tensors
        members, outputs, inputs = weight.shape
        gradient = gradients[0].to(x.dtype)
        if x.ndim == 2:
            together = gradient.transpose(0, 1).reshape(-1, members * outputs)
            of_weight = (together.T @ x).view(members, outputs, inputs)
            return (together @ weight.view(-1, inputs)).float() if ctx.needs_input_grad[0] else None, of_weight.float(), None
        of_weight = _products(gradient.transpose(1, 2), x)
        return _products(gradient, weight).float() if ctx.needs_input_grad[0] else None, of_weight.float(), None


def _products(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Multiply (members, a, b) with (members, b, c)."""
    if first.device.type != "cpu":
        return torch.bmm(first, second)
    result = torch.empty(len(first), first.shape[1], second.shape[2], dtype=first.dtype)
    for one, other, out in zip(first, second, result, strict=True):
        torch.mm(one, other, out=out)
    return result
