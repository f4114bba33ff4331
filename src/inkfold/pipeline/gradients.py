"""Integrated gradients: how much each pixel adds to an answer on the way from blank paper to the drawing. Needs PyTorch.

Source: Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017, arXiv 1703.01365.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float64

from inkfold.augment.views import IDENTITY
from inkfold.errors import PredictionError
from inkfold.explain.occlusion import LEAST_PROBABILITY
from inkfold.finetune.network import HeadModule
from inkfold.images.decode import Pixels
from inkfold.images.preprocess import paper_colour
from inkfold.models.backbone import NetworkInput, build_model, choose_device
from inkfold.models.layers import features_of
from inkfold.pipeline.run import Run, head_spec
from inkfold.runtime.progress import Progress, silent

if TYPE_CHECKING:
    from inkfold.pipeline.run import Model

POINTS = 16
ON_THE_WAY = tuple((place + 0.5) / POINTS for place in range(POINTS))
AT_THE_DRAWING = (1.0,)


def attribute(
    model: "Model",
    square: Pixels,
    target: int,
    against: int | None = None,
    progress: Progress = silent,
    shares: Sequence[float] = ON_THE_WAY,
) -> Float64[np.ndarray, "size size"]:
    """Compute by how much each pixel raises the logarithm of a class's probability, compared with blank paper.

    Args:
        model: A run of one model, with one backbone and a head that has gradients.
        square: The drawing as the backbone takes it.
        target: Id of the class that is explained.
        against: Id of a second class, as in `explain.occlusion.effects`.
        progress: Called with the number of gradients done.
        shares: How dark the ink is where gradients are taken, each 0 to 1. `AT_THE_DRAWING` gives input times gradient, which
            says less of what erasing does (docs/explain.md).

    Returns:
        In nats; with the points on the way, the sum is nearly the difference between the drawing and a blank page.

    Raises:
        PredictionError: If the model has no gradients.
    """
    run = _differentiable(model)
    paper = np.broadcast_to(paper_colour(square), square.shape)
    total, spread, extractors = np.zeros(square.shape), square.astype(np.float64) - paper, run.extractors(remember=False)
    prior = None if run.prior is None else torch.from_numpy(run.prior.weights)
    networks = [_FoldNetworks(run, number) for number in range(len(extractors))]
    for done, share in enumerate(shares, start=1):
        total += _gradient(networks, prior, paper + share * spread, target, against)
        progress("gradients", done, len(shares))
    attribution = total / len(shares) * spread
    summed: np.ndarray = attribution if attribution.ndim == 2 else attribution.sum(2)
    return summed


def _differentiable(model: "Model") -> Run:
    problem = None
    if not isinstance(model, Run):
        problem = "is an ensemble"
    elif model.recipe.head.kind == "knn":
        problem = "answers by its nearest drawings"
    elif model.recipe.backbone.beside:
        problem = "has several backbones"
    elif model.views != (IDENTITY,):
        problem = "averages several views of a drawing"
    if problem is not None or not isinstance(model, Run):
        raise PredictionError(f"{model.path}: {problem}, so it has no gradients to explain by. Take method='occlusion'.")
    return model


class _FoldNetworks:
    """One backbone, and the heads of the folds that use it."""

    def __init__(self, run: Run, number: int) -> None:
        extractor, folds = run.extractors(remember=False)[number]
        self.info, device = extractor.backbone, choose_device(extractor.device)
        self.backbone = build_model(self.info).to(device)
        self.input = NetworkInput(self.info, device)
        spec, heads = head_spec(run.recipe), [head for fold in folds for head in run.folds[fold]]
        self.heads = [HeadModule(spec, run.heads, head).to(device) for head in heads]
        for module in self.heads:
            module.requires_grad_(False)

    def probs(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Compute each head's class probabilities of normalised drawings."""
        features = features_of(self.backbone, images, self.info.features).float()
        return [head(features).softmax(-1) for head in self.heads]


def _gradient(
    networks: list[_FoldNetworks], prior: torch.Tensor | None, pixels: np.ndarray, target: int, against: int | None
) -> np.ndarray:
    """Compute the gradient of the answer's logarithm by the pixels, which needn't be whole numbers."""
    leaf = torch.from_numpy(np.asarray(pixels, np.float32)[None]).requires_grad_()
    probs = []
    for network in networks:
        probs += network.probs(network.input.of_tensor(leaf))
    mean = torch.cat([each.cpu() for each in probs]).mean(0)
    mean = (mean if prior is None else mean * prior / (mean * prior).sum()).clamp_min(LEAST_PROBABILITY)
    score = mean[target].log() if against is None else mean[target].log() - mean[against].log()
    score.backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    gradient: np.ndarray = leaf.grad[0].double().numpy()
    return gradient
