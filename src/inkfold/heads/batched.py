"""Heads of one shape, side by side in PyTorch: one minibatch goes through all of them in one matrix product.

The first layer's weights lie as (heads x outputs, inputs), so that one product serves all heads, and each head's part is
contiguous, so that each trial has its own rate. Heads share no parameter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from inkfold.config.sections import TrainHeadSettings
from inkfold.heads.closed_form import scaling_of
from inkfold.heads.head import LENGTH_EPS, NORM_EPS, HeadSpec, init_heads
from inkfold.heads.losses import Losses, Mixture, mean_losses
from inkfold.heads.randomness import StepRandomness
from inkfold.heads.training_set import TrainingSet

SGD_MOMENTUM = 0.9
ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True, slots=True)
class HeadJob:
    """One head to fit, beside others of its shape.

    Attributes:
        trial: Number of the trial that it belongs to.
        fold: Row of the training set's `folds` that says which drawings it is trained on.
        start: Number of the trial's start in this fold; decides the starting weights and what dropout sets to zero.
        settings: Learning rate, epochs, losses and the like of its trial.
        dropout: Share of each hidden layer's outputs that a step sets to zero, in 0..1.
    """

    trial: int
    fold: int
    start: int
    settings: TrainHeadSettings
    dropout: float = 0.0


class BatchedHeads:
    """Heads of one shape while they are fitted.

    Args:
        spec: Kind, widths and scaling that all of the heads have.
        jobs: The heads to fit; those of one trial lie next to each other.
        training_set: The features, class ids and folds that they are trained on.
        device: Where their tensors lie, and where every later argument must lie: a CPU or a GPU.

    Attributes:
        mask: (heads, n), 1 where a head is trained on a drawing.
    """

    def __init__(self, spec: HeadSpec, jobs: Sequence[HeadJob], training_set: TrainingSet, device: torch.device) -> None:
        self.spec, self.jobs, self.device = spec, list(jobs), device
        folds, settings, num_classes = [job.fold for job in jobs], [job.settings for job in jobs], training_set.num_classes
        masks = training_set.folds.trained_on[folds]
        scaling = _job_scaling(spec, training_set, folds)
        self.mask = torch.from_numpy(masks).float().to(device)
        self._losses = Losses(settings, masks, training_set.targets, num_classes, device)
        self._alphas = [own.mixup for own in settings]
        dropouts = [[[job.dropout]] for job in jobs]
        self._dropout = torch.tensor(dropouts, device=device) if any(job.dropout for job in jobs) else None
        self._rounded = settings[0].precision == "bfloat16"
        self._scaling = {name: torch.from_numpy(values).to(device) for name, values in scaling.items()}
        seeds = [(training_set.seed, 1, job.fold, job.start) for job in jobs]
        weights = init_heads(spec, training_set.features.shape[1], num_classes, seeds)
        self._parameters = {name: _for_fitting(name, values, device) for name, values in weights.items()}
        self._optimiser = _Optimiser(list(self._parameters.values()), _trial_slices(jobs))

    def step(
        self, x: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, rates: Sequence[float], randomness: StepRandomness
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Train all heads on one minibatch.

        Args:
            x: Features of the minibatch's drawings, float32 (batch, d), not yet scaled.
            targets: Class id of each drawing of the minibatch, (batch), from 0.
            mask: (heads, batch), 1 where the head is trained on the drawing.
            rates: Learning rate of each trial, in the order of the jobs.
            randomness: Draws mixup and dropout of this step.

        Returns:
            Each head's sum of losses and sum of weights, (heads).
        """
        mixture = randomness.mixture(self._alphas, mask)
        sums, weights = self._losses.of(self.scores(x, mixture, randomness), targets, mask, mixture)
        mean_losses(sums, weights).sum().backward()  # type: ignore[no-untyped-call]
        self._optimiser.step(rates)
        return sums.detach(), weights.detach()

    def scores(
        self,
        x: torch.Tensor,
        mixture: Mixture | None = None,
        randomness: StepRandomness | None = None,
        only: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Score drawings with every head.

        Args:
            x: Features of the drawings, float32 (batch, d), not yet scaled.
            mixture: Mixes the first layer's outputs, which is mixing features, as that layer is linear; None mixes nothing.
            randomness: Drops outputs of hidden layers; None drops none.
            only: Positions of the heads to score with; None takes all.

        Returns:
            Scores (heads, batch, classes).
        """
        tensors = {**self._parameters, **self._scaling}
        if only is not None:
            tensors = {name: values[list(only)] for name, values in tensors.items()}
        z = self._first_layer(x, tensors)
        z = z if mixture is None else mixture.of(z)
        for i in range(1, len(self.spec.hidden) + 1):
            z = self._activated(z, tensors, i - 1)
            if randomness is not None:
                z = randomness.dropped(z, i, [job.start for job in self.jobs], self._dropout)
            z = linear(z, tensors[f"layers.{i}.weight"], rounded=self._rounded) + tensors[f"layers.{i}.bias"]
        return z

    def fitted(self, only: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """Copy the heads in the form that `heads.head_probs` predicts with.

        Args:
            only: Positions of the heads to copy; None takes all.

        Returns:
            NumPy arrays by name, one row per head.
        """
        rows = range(len(self.jobs)) if only is None else list(only)
        tensors = {name: values.detach()[rows] for name, values in {**self._parameters, **self._scaling}.items()}
        if self.spec.kind == "cosine":
            tensors["layers.0.weight"] = _unit_length(tensors["layers.0.weight"]) * tensors.pop("temperature").exp()
        return {
            name: (values.transpose(1, 2) if name.endswith("weight") else values).contiguous().cpu().numpy()
            for name, values in tensors.items()
        }

    def keep(self, only: Sequence[int]) -> None:
        """Continue with the heads at these positions; those of one trial must stay or leave together."""
        rows = list(only)
        self.jobs = [self.jobs[row] for row in rows]
        self.mask, self._losses = self.mask[rows], self._losses.keep(rows)
        self._alphas = [self._alphas[row] for row in rows]
        self._dropout = None if self._dropout is None else self._dropout[rows]
        self._scaling = {name: values[rows] for name, values in self._scaling.items()}
        self._parameters = {name: values.detach()[rows].requires_grad_() for name, values in self._parameters.items()}
        self._optimiser = self._optimiser.keep(rows, list(self._parameters.values()), _trial_slices(self.jobs))

    def _first_layer(self, x: torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        weight = tensors["layers.0.weight"]
        if self.spec.is_scaled_by_fold:
            x = (x - tensors["mean"]) * tensors["scale"]  # (heads, batch, d)
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
    """PyTorch's own updates in their functional form, so that each trial has its own rate, decay and optimiser.

    Building a torch.optim.Optimizer would import PyTorch's compiler, which takes a second.
    """

    def __init__(self, parameters: list[torch.Tensor], trials: Sequence[tuple[slice, TrainHeadSettings]]) -> None:
        self._parameters, self._trials = parameters, trials
        self._means = [torch.zeros_like(parameter) for parameter in parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in parameters]
        self._steps = torch.zeros((), device=parameters[0].device)

    @torch.no_grad()
    def step(self, rates: Sequence[float]) -> None:
        """Update every trial's part by its rate, and drop the gradients."""
        for (part, settings), rate in zip(self._trials, rates, strict=True):
            self._update(part, settings, rate)
        self._steps += 1
        for parameter in self._parameters:
            parameter.grad = None

    def keep(
        self, rows: list[int], parameters: list[torch.Tensor], trials: Sequence[tuple[slice, TrainHeadSettings]]
    ) -> "_Optimiser":
        """Continue with the state of some heads."""
        kept = _Optimiser(parameters, trials)
        kept._means = [mean[rows] for mean in self._means]
        kept._squares = [square[rows] for square in self._squares]
        kept._steps = self._steps
        return kept

    def _update(self, part: slice, settings: TrainHeadSettings, rate: float) -> None:
        parameters = [parameter[part] for parameter in self._parameters]
        gradients = [parameter.grad[part] for parameter in self._parameters if parameter.grad is not None]
        means, decay = [mean[part] for mean in self._means], settings.weight_decay
        if settings.optimiser == "sgd":
            sgd(
                parameters,
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
            return
        adam(
            parameters,
            gradients,
            means,
            [square[part] for square in self._squares],
            [],
            [self._steps.clone() for _ in parameters],
            fused=True,
            decoupled_weight_decay=settings.optimiser == "adamw",
            amsgrad=False,
            beta1=ADAM_BETAS[0],
            beta2=ADAM_BETAS[1],
            lr=rate,
            weight_decay=decay,
            eps=ADAM_EPS,
            maximize=False,
        )


def _job_scaling(spec: HeadSpec, training_set: TrainingSet, folds: Sequence[int]) -> dict[str, np.ndarray]:
    """Measure the scaling of each head's fold, of each fold once and of no others."""
    own, place = np.unique(folds, return_inverse=True)
    scaling = scaling_of(spec, training_set.features, training_set.folds.trained_on[own], training_set.blocks)
    return {name: values[place] for name, values in scaling.items()}


def _trial_slices(jobs: Sequence[HeadJob]) -> list[tuple[slice, TrainHeadSettings]]:
    """Find where each trial's heads lie."""
    firsts = [i for i, job in enumerate(jobs) if i == 0 or job.trial != jobs[i - 1].trial]
    return [(slice(first, end), jobs[first].settings) for first, end in zip(firsts, [*firsts[1:], len(jobs)], strict=True)]


def _unit_length(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x, dim=-1, eps=LENGTH_EPS)


def _for_fitting(name: str, values: np.ndarray, device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(values)
    tensor = tensor.transpose(1, 2) if name.endswith("weight") else tensor
    return tensor.contiguous().to(device).requires_grad_()


def linear(x: torch.Tensor, weight: torch.Tensor, *, rounded: bool) -> torch.Tensor:
    """Multiply each head's inputs with its weights.

    Args:
        x: (batch, in), the same for all heads, or (heads, batch, in).
        weight: Weights of each head's layer, float32 (heads, out, in).
        rounded: Round inputs and weights to bfloat16; the product is float32 in any case.

    Returns:
        (heads, batch, out), float32.
    """
    product: torch.Tensor = _Linear.apply(x, weight, torch.bfloat16 if rounded else torch.float32)  # type: ignore[no-untyped-call]
    return product


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        heads, outputs, inputs = weight.shape
        x, weight = x.to(dtype), weight.to(dtype)
        ctx.save_for_backward(x, weight)
        if x.ndim == 2:  # one product for all heads
            return (x @ weight.view(-1, inputs).T).view(-1, heads, outputs).transpose(0, 1).float()
        return _products(x, weight.transpose(1, 2)).float()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, None]:
        x, weight = ctx.saved_tensors
        heads, outputs, inputs = weight.shape
        gradient = gradients[0].to(x.dtype)
        if x.ndim == 2:
            together = gradient.transpose(0, 1).reshape(-1, heads * outputs)
            of_weight = (together.T @ x).view(heads, outputs, inputs)
            return (together @ weight.view(-1, inputs)).float() if ctx.needs_input_grad[0] else None, of_weight.float(), None
        of_weight = _products(gradient.transpose(1, 2), x)
        return _products(gradient, weight).float() if ctx.needs_input_grad[0] else None, of_weight.float(), None


def _products(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Multiply (heads, a, b) with (heads, b, c)."""
    if first.device.type != "cpu":
        return torch.bmm(first, second)
    result = torch.empty(len(first), first.shape[1], second.shape[2], dtype=first.dtype)
    for left, right, out in zip(first, second, result, strict=True):
        torch.mm(left, right, out=out)
    return result
