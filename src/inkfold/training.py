"""Fits the heads of all folds at once on cached features.

One minibatch serves every member: it is read once, multiplied with all members' weights, and each member's loss leaves
out the rows that it must not see. Members share no parameter, so each ends as if it had been fitted alone on the
same sequence of batches.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from inkfold.heads import HeadSpec, head_probs, init_members
from inkfold.progress import Progress, silent

SGD_MOMENTUM = 0.9
ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-8
WIDE = "layers.0.weight"
MIN_SCALE = 1e-6
SMALL_STEP = 10_000_000  # multiplications a step; about a millisecond on one core


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How heads are fitted.

    Attributes:
        epochs: Passes over all drawings.
        batch_size: Drawings a step, shared by all members; each uses those of its own training part.
        optimiser: SGD has momentum 0.9.
        lr: At the start.
        weight_decay: L2 for adam and sgd, decoupled for adamw.
        label_smoothing: Share of the target spread over all classes.
        schedule: `step`, `cosine` (to zero, by steps) or `constant`.
        step_every: Epochs between two steps.
        step_gamma: Factor of each step.
        standardise: Scale features by each member's own training part.
        precision: Of the products' inputs; sums, weights and the optimiser stay in float32.
    """

    epochs: int = 20
    batch_size: int = 64
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    schedule: Literal["step", "cosine", "constant"] = "cosine"
    step_every: int = 10
    step_gamma: float = 0.1
    standardise: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of the training curve, over all members.

    Attributes:
        lr: Learning rate at its start.
        loss: Mean over the members' own drawings while they learnt.
        held_out_loss: Mean negative log-likelihood of the drawings that members don't learn from, as they are.
        held_out_accuracy: Share of these that the members name rightly.
    """

    lr: float
    loss: float
    held_out_loss: float
    held_out_accuracy: float


@dataclass(frozen=True, slots=True)
class Schooling:
    """What each epoch learns from, where that isn't the drawings as they are.

    Attributes:
        features: Gives an epoch's features, in the order of the drawings.
        lr_factors: One an epoch, beside the schedule's.
    """

    features: Callable[[int], Float[np.ndarray, "n d"]]
    lr_factors: Sequence[float]


def fit_heads(  # noqa: PLR0913 - the three arrays are one table
    features: Float[np.ndarray, "n d"],
    targets: Int64[np.ndarray, " n"],
    members: Bool[np.ndarray, "members n"],
    spec: HeadSpec,
    settings: FitSettings,
    num_classes: int,
    *,
    schooling: Schooling | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[dict[str, Float32[np.ndarray, "members rows columns"]], list[Epoch]]:
    """Fit one head a member.

    Args:
        features: Of all drawings as they are, in an order that the data's content decides.
        targets: Class ids.
        members: True where the member may learn from the drawing.
        spec: The kind of head.
        settings: How they are fitted.
        num_classes: Outputs; classes without a drawing are allowed.
        schooling: What each epoch learns from; None: the drawings as they are.
        seed: Of the starting weights and the order of drawings.
        progress: Told after each epoch.

    Returns:
        The fitted tensors, as `heads.head_probs` takes them, and the training curve.
    """
    count, n = members.shape
    seeds = [(seed, 1, member) for member in range(count)]
    start = init_members(spec, features.shape[1], num_classes, seeds)
    scaling = _scaling(features, members) if settings.standardise else {}
    wide = () if scaling else (WIDE,)
    parameters = {name: _for_fitting(values, wide=name in wide) for name, values in start.items()}
    y, mask = torch.from_numpy(targets), torch.from_numpy(members).float()
    forward = _forward(parameters, {name: torch.from_numpy(v) for name, v in scaling.items()}, spec, settings.precision)
    optimiser = _Optimiser(list(parameters.values()), settings)
    steps = math.ceil(n / settings.batch_size)
    work = settings.batch_size * sum(tensor.numel() for tensor in parameters.values())
    curve = []
    with _threads_for(work):
        for epoch in range(settings.epochs):
            x = torch.from_numpy(features if schooling is None else schooling.features(epoch))
            factor = 1.0 if schooling is None else schooling.lr_factors[epoch]
            order = torch.from_numpy(epoch_order(n, seed, epoch))
            total = 0.0
            for step, rows in enumerate(order.split(settings.batch_size)):  # type: ignore[no-untyped-call]
                loss = _loss(forward(x[rows].float()), y[rows], mask[:, rows], settings.label_smoothing)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step(factor * lr_factor(settings, epoch, epoch * steps + step, settings.epochs * steps))
                total += loss.item() * len(rows)
            lr = settings.lr * factor * lr_factor(settings, epoch, epoch * steps, settings.epochs * steps)
            fitted = {**{name: _fitted(tensor, wide=name in wide) for name, tensor in parameters.items()}, **scaling}
            curve.append(Epoch(lr, total / n / count, *_held_out(fitted, spec, features, targets, members)))
            progress("fitting heads", epoch + 1, settings.epochs)
    return fitted, curve


def _held_out(
    heads: dict[str, np.ndarray], spec: HeadSpec, features: np.ndarray, targets: np.ndarray, members: np.ndarray
) -> tuple[float, float]:
    """Give the loss and the accuracy on drawings that members don't learn from."""
    loss, right, count = 0.0, 0, 0
    for member, seen in enumerate(members):
        rows = np.flatnonzero(~seen)
        probs = head_probs(heads, spec, features[rows], member)
        own = probs[np.arange(len(rows)), targets[rows]]
        loss -= float(np.log(np.maximum(own, np.finfo(np.float32).tiny)).sum())
        right += int((probs.argmax(1) == targets[rows]).sum())
        count += len(rows)
    return (loss / count, right / count) if count else (math.nan, math.nan)


def epoch_order(n: int, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    """Shuffle rows as a function of seed and epoch alone, so that a continued run sees the same order."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 2, epoch])))
    return generator.permutation(n)


def lr_factor(settings: FitSettings, epoch: int, step: int, total_steps: int) -> float:
    """Give the schedule's factor of the learning rate.

    Args:
        settings: With the schedule.
        epoch: From 0.
        step: From 0, over all epochs.
        total_steps: In all epochs.

    Returns:
        A factor in 0..1.
    """
    if settings.schedule == "step":
        return float(settings.step_gamma ** (epoch // settings.step_every))
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / total_steps))
    return 1.0


@contextlib.contextmanager
def _threads_for(multiplications: int) -> Iterator[None]:
    """Fit small heads on one thread: others only wait for it, and on busy cores they made it 100 times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if multiplications < SMALL_STEP else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _loss(scores: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Sum over members of the mean over the member's own rows; a member's gradient is its own mean's."""
    members, batch, classes = scores.shape
    losses = torch.nn.functional.cross_entropy(
        scores.reshape(-1, classes), targets.repeat(members), reduction="none", label_smoothing=smoothing
    )
    return ((losses.view(members, batch) * mask).sum(1) / mask.sum(1).clamp(min=1)).sum()


def _forward(
    parameters: dict[str, torch.Tensor], scaling: dict[str, torch.Tensor], spec: HeadSpec, precision: str
) -> Callable[[torch.Tensor], torch.Tensor]:
    product = _rounded_product if precision == "bfloat16" else torch.matmul
    activation = torch.relu if spec.activation == "relu" else torch.nn.functional.gelu

    def forward(x: torch.Tensor) -> torch.Tensor:
        if scaling:
            x = (x - scaling["mean"]) * scaling["scale"]
        for i in range(len(spec.hidden) + 1):
            weight = parameters[f"layers.{i}.weight"]
            if i == 0 and not scaling:
                inputs, members, outputs = weight.shape
                x = product(x, weight.view(inputs, -1)).view(-1, members, outputs).transpose(0, 1)
            else:
                x = product(x, weight)
            x = x + parameters[f"layers.{i}.bias"]
            x = activation(x) if i < len(spec.hidden) else x
        return x

    return forward


def _rounded_product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Multiply in bfloat16 and go on in float32: a third of the time where the processor has it, and the same accuracy."""
    return (x.bfloat16() @ weight.bfloat16()).float()


def _for_fitting(values: np.ndarray, *, wide: bool) -> torch.Tensor:
    """Lay the first layer out as (in, members, out): all members are then one product with the shared minibatch."""
    tensor = torch.from_numpy(values)
    return (tensor.permute(1, 0, 2).contiguous() if wide else tensor).requires_grad_()


def _fitted(tensor: torch.Tensor, *, wide: bool) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.permute(1, 0, 2).contiguous() if wide else tensor).numpy()


class _Optimiser:
    """PyTorch's own updates, by their functional form: building an Optimizer imports the compiler, a second of nothing."""

    def __init__(self, parameters: list[torch.Tensor], settings: FitSettings) -> None:
        self.parameters, self.settings = parameters, settings
        self.means: list[torch.Tensor] = [torch.zeros_like(parameter) for parameter in parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in parameters]
        self.steps = [torch.zeros(()) for _ in parameters]
        self.started = False

    @torch.no_grad()
    def step(self, factor: float) -> None:
        lr, decay = self.settings.lr * factor, self.settings.weight_decay
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if self.settings.optimiser == "sgd":
            self._sgd(gradients, lr, decay)
        else:
            adam(
                self.parameters,
                gradients,
                self.means,
                self.squares,
                [],
                self.steps,
                fused=True,
                decoupled_weight_decay=self.settings.optimiser == "adamw",
                amsgrad=False,
                beta1=ADAM_BETAS[0],
                beta2=ADAM_BETAS[1],
                lr=lr,
                weight_decay=decay,
                eps=ADAM_EPS,
                maximize=False,
            )
        for parameter in self.parameters:
            parameter.grad = None

    def _sgd(self, gradients: list[torch.Tensor], lr: float, decay: float) -> None:
        buffers: list[torch.Tensor | None] = [*self.means] if self.started else [None for _ in self.means]
        sgd(
            self.parameters,
            gradients,
            buffers,
            fused=True,
            weight_decay=decay,
            momentum=SGD_MOMENTUM,
            lr=lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        self.means = [buffer for buffer in buffers if buffer is not None]
        self.started = True


def _scaling(features: np.ndarray, members: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and inverse deviation of each member's own rows; a constant feature keeps scale 0, so it says nothing."""
    means, scales = [], []
    for member in members:
        own = features[member].astype(np.float32)
        deviation = own.std(0)
        means.append(own.mean(0)[None])
        scales.append(np.where(deviation > MIN_SCALE, 1 / np.maximum(deviation, MIN_SCALE), 0)[None])
    return {"mean": np.stack(means).astype(np.float32), "scale": np.stack(scales).astype(np.float32)}
