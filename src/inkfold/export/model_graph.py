"""Builds one ONNX graph of a finished run or ensemble: preprocessing, views, backbones, heads and votes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from inkfold.augment.views import IDENTITY, View
from inkfold.ensemble.model import Ensemble
from inkfold.errors import ExportError
from inkfold.export.backbone import IMAGES, trace
from inkfold.export.graph import Graph, onnx
from inkfold.export.head_graph import add_fold_means, add_fold_vote, add_heads, add_pool, add_prior
from inkfold.export.preprocess_graph import add_channels, add_fitting, add_luma, add_view
from inkfold.features.extractor import Extractor
from inkfold.images.preprocess import ImageOptions
from inkfold.models.weights import BackboneInfo
from inkfold.pipeline.run import Run, head_spec, prediction_views
from inkfold.storage.hashing import key_digest

INPUT, PROBS, FEATURES, FOLD_PROBS = "images", "probs", "features", "fold_probs"
Tracer = Callable[[Extractor], onnx.ModelProto]


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """Choice of what becomes part of the graph.

    Attributes:
        views: Whether test-time views are included; otherwise drawings are predicted as they are.
        fitted: Whether preprocessing is left out, so that only squares made by `images.preprocess.preprocess` are taken.
    """

    views: bool = True
    fitted: bool = False


def trace_backbone(extractor: Extractor) -> onnx.ModelProto:
    """Export an extractor's backbone in float32."""
    return trace(extractor.backbone)


def build_graph(
    predictor: Run | Ensemble,
    options: GraphOptions,
    tracer: Tracer = trace_backbone,
    *,
    classes: Sequence[str] | None = None,
    folds: bool = False,
) -> onnx.ModelProto:
    """Build the whole graph, without metadata.

    Args:
        predictor: A finished run or ensemble.
        options: Whether preprocessing and test-time views become part of the graph.
        tracer: Returns a backbone's ONNX model; `trace_backbone`, or one that quantises it as well.
        classes: Class names in the order of the probabilities; None takes the predictor's order.
        folds: Whether the output `fold_probs`, (folds, batch, classes), each fold's own probabilities, is added; for runs only.

    Raises:
        ExportError: If the run has something that no graph can compute; the message names the alternative.
    """
    runs, classes = runs_of(predictor), predictor.classes_ if classes is None else classes
    builder = _GraphBuilder(Graph(), options, tracer)
    answers = [builder.fold_probs(run) for run in runs]
    g, features = builder.graph, builder.first_features
    columns = [[run.classes_.index(name) for name in classes] for run in runs]
    ordered = [g.op("Gather", one, g.ints(*places), axis=2) for one, places in zip(answers, columns, strict=True)]
    if isinstance(predictor, Run):
        probs = g.op("ReduceMean", ordered[0], g.ints(0), keepdims=0)
    else:
        voted = [add_fold_vote(g, one, predictor.vote.within, predictor.vote.ties) for one in ordered]
        probs = add_pool(g, g.op("Concat", *voted, axis=0), predictor.fitted)
    outputs: dict[str, Sequence[int | str]] = {
        g.call(probs, PROBS): ("batch", len(classes)),
        g.call(features, FEATURES): ("batch", "d"),
    }
    if folds:
        outputs[g.call(ordered[0], FOLD_PROBS)] = ("folds", "batch", len(classes))
    side = image_of(runs).size_px if options.fitted else None
    shape = ["batch", side or "height", side or "width", "channels"]
    return g.model({INPUT: (np.uint8, shape)}, outputs, {}, builder.domains)


def runs_of(predictor: Run | Ensemble) -> list[Run]:
    """List the runs that predict.

    Args:
        predictor: A finished run or ensemble.

    Returns:
        The run itself, or the ensemble's members.

    Raises:
        ExportError: If a member is a file of predictions, which can't predict new drawings.
    """
    if isinstance(predictor, Run):
        return [predictor]
    runs = [run for run in predictor.members if run is not None]
    if len(runs) < len(predictor.members):
        files = [
            member["name"] for member, run in zip(predictor.manifest["members"], predictor.members, strict=True) if run is None
        ]
        raise ExportError(
            f"{predictor.path}: {', '.join(files)} are files of predictions, not models. Build the ensemble from runs."
        )
    return runs


def image_of(runs: Sequence[Run]) -> ImageOptions:
    """Return the image options of the run with the largest square, by which a sender prepares drawings for all of them."""
    parts = [part for run in runs for part in run.extractors()[0][0].parts]
    return max((part.image for part in parts), key=lambda image: image.size_px)


@dataclass(slots=True)
class _GraphBuilder:
    """Adds runs to a graph; runs with the same backbone or the same squares share them."""

    graph: Graph
    options: GraphOptions
    tracer: Tracer
    known: dict[tuple[str, ImageOptions, tuple[View, ...]], Mapping[View, str]] = field(default_factory=dict)
    squares: dict[ImageOptions, str] = field(default_factory=dict)
    first_features: str = ""
    domains: list[onnx.OperatorSetIdProto] = field(default_factory=list)

    def fold_probs(self, run: Run) -> str:
        """Add a run's class probabilities by fold: (folds, batch, classes)."""
        views = prediction_views(run.recipe) if self.options.views else (IDENTITY,)
        answers = []
        for extractor, folds in run.extractors():
            for part in extractor.parts:
                _check_fitting(run, part, fitted=self.options.fitted)
                self._check_square(run, extractor, part)
            features = self._features(extractor, tuple(dict.fromkeys((IDENTITY, *views))))
            self.first_features = self.first_features or features[IDENTITY]
            answers.append(self._heads(run, folds, [features[view] for view in views]))
        probs = answers[0] if len(answers) == 1 else self.graph.op("Concat", *answers, axis=0)
        return probs if run.prior is None else add_prior(self.graph, probs, run.prior)

    def _check_square(self, run: Run, extractor: Extractor, part: Extractor) -> None:
        """Refuse squares made beforehand where a run's backbones take different ones."""
        sizes = [(each.image.size_px, each.image.interpolation) for each in (extractor, part)]
        if self.options.fitted and sizes[0] != sizes[1]:
            raise ExportError(
                f"{run.path}: its backbones take squares of {sizes[0][0]} px ({sizes[0][1]}) and {sizes[1][0]} px "
                f"({sizes[1][1]}), and a file exported with --fitted takes one. Leave out --fitted, or give the backbones one "
                "size: backbone.beside=[{name: ..., image_size: ..., interpolation: ...}]."
            )

    def _heads(self, run: Run, folds: Sequence[int], shown: Sequence[str]) -> str:
        """Add the heads of some folds, averaged over the views' features."""
        g, heads, places = self.graph, run.heads, [list(run.folds[fold]) for fold in folds]
        if run.is_finetuned:
            members = [member for place in places for member in place]
            heads = {name: values[members] for name, values in heads.items()}
            places = [[members.index(member) for member in place] for place in places]
        spec = head_spec(run.recipe)
        probs = [add_fold_means(g, add_heads(g, one, heads, spec), places) for one in shown]
        return probs[0] if len(probs) == 1 else g.op("Mul", g.op("Sum", *probs), g.const(1 / len(probs), np.float32))

    def _features(self, extractor: Extractor, views: tuple[View, ...]) -> Mapping[View, str]:
        """Add backbones that take all views in one batch, each once for all runs that share it."""
        blocks = [self._backbone(part, views) for part in extractor.parts]
        if len(blocks) == 1:
            return blocks[0]
        return {view: self.graph.op("Concat", *(block[view] for block in blocks), axis=1) for view in views}

    def _backbone(self, extractor: Extractor, views: tuple[View, ...]) -> Mapping[View, str]:
        """Add one backbone, once for all runs that share it."""
        g, info = self.graph, extractor.backbone
        key = key_digest(info.key()), extractor.image, views
        if key not in self.known:
            squares = self._squares(extractor.image)
            shown = [add_view(g, squares, view, info.image_size) for view in views]
            batch = shown[0] if len(shown) == 1 else g.op("Concat", *shown, axis=0)
            traced = self.tracer(extractor)
            self.domains += [one for one in traced.opset_import if one.domain and one not in self.domains]
            (exact,) = g.inline(traced, {IMAGES: _normalised(g, batch, info)})
            features = g.op("Cast", g.op("Cast", exact, to=10), to=1)  # heads were fitted on features in half precision
            parts = [features] if len(views) == 1 else g.ops("Split", len(views), features, axis=0, num_outputs=len(views))
            self.known[key] = dict(zip(views, parts, strict=True))
        return self.known[key]

    def _squares(self, image: ImageOptions) -> str:
        """Add the preprocessing, once for all runs with the same image options."""
        if image not in self.squares:
            channels = add_channels(self.graph, INPUT)
            self.squares[image] = channels if self.options.fitted else add_fitting(self.graph, channels, image)
        return self.squares[image]


def _normalised(g: Graph, squares: str, info: BackboneInfo) -> str:
    channels = add_luma(g, squares) if len(info.mean) == 1 else squares
    scale = 1 / (255 * np.array(info.std, np.float32))
    shift = -255 * np.array(info.mean, np.float32) * scale
    return g.op("Add", g.op("Mul", channels, g.const(scale.reshape(1, -1, 1, 1))), g.const(shift.reshape(1, -1, 1, 1)))


def _check_fitting(run: Run, extractor: Extractor, *, fitted: bool) -> None:
    """Refuse preprocessing that a graph can't compute."""
    image, side = extractor.image, extractor.backbone.image_size
    if image.size_px != side:
        raise ExportError(
            f"{run.path}: image.stored_size is {image.size_px} px and the network takes {side}: the step between them can't "
            "be part of a file. Train without image.stored_size."
        )
    if image.paper == "flatten" and not fitted:
        raise ExportError(
            f"{run.path}: image.paper is flatten, which has to find sheets and ruled lines: no ONNX graph can. Export with "
            "--fitted: the file then takes squares made by inkfold.images.preprocess, as `inkfold serve` does; "
            "or train with image.paper=auto, where the file takes drawings made on a screen."
        )
