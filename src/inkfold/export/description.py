"""Builds the description that is stored in an exported file's metadata, from a finished run's files."""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from inkfold.ensemble.model import Ensemble
from inkfold.evaluation.intervals import wilson_interval
from inkfold.evaluation.metrics import reliability_table
from inkfold.export.metadata import About
from inkfold.export.model_graph import GraphOptions, image_of, runs_of
from inkfold.pipeline.manifest import MANIFEST
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_files import headline
from inkfold.storage.hashing import digest_file

BINS = 10
PACKAGES = ("inkfold", "torch", "timm", "onnx")


def describe(predictor: Run | Ensemble, options: GraphOptions, look: Mapping[str, Any], num_features: int) -> About:
    """Describe a float32 file; the description of the quantised file differs in its precision only.

    Args:
        predictor: The run or ensemble that was exported.
        options: What became part of the file: test-time views, and whether preprocessing did.
        look: The training drawings' line style, from `line_style.measure_line_style`.
        num_features: Width of the first backbone's features.
    """
    runs = runs_of(predictor)
    backbones = dict.fromkeys(part.backbone.title for run in runs for each, _ in run.extractors() for part in each.parts)
    return About(
        name=predictor.path.resolve().name,
        run=digest_file(predictor.path / MANIFEST),
        class_names=predictor.classes_,
        class_targets=tuple(predictor.class_targets.tolist()),
        image=image_of(runs).key(),
        fitted=options.fitted,
        num_features=num_features,
        backbones=tuple(backbones),
        folds=sum(len(run.folds) for run in runs),
        precision="float32",
        accuracy=_accuracy(predictor, views=options.views),
        reliability=_reliability(predictor),
        look=look,
        versions={name: version(name) for name in PACKAGES},
        decision=predictor.manifest.get("decision"),
    )


def _accuracy(predictor: Run | Ensemble, *, views: bool) -> dict[str, Any] | None:
    metrics = predictor.metrics
    if _votes_over_propagation(predictor):
        return None
    for part, name in (("out_of_fold", "out_of_fold" if metrics.get("split") == "kfold" else "holdout"), ("test", "test")):
        if part not in metrics:
            continue
        figures = _figures_one_by_one(metrics, part)
        value, interval = figures["accuracy"], figures["accuracy_ci95"]
        if part == "out_of_fold" and "tta" in metrics and not views:
            value, n = metrics["tta"]["accuracy_without"], metrics[part]["n"]
            interval = metrics["tta"].get("accuracy_without_ci95") or list(wilson_interval(round(value * n), n))
        return {"value": value, "ci95": interval, "of": name}
    return None


def _figures_one_by_one(metrics: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """Take the accuracy of drawings that are predicted one by one, as by the file: without label propagation."""
    propagation = metrics.get("transductive", {})
    if part == "out_of_fold" and propagation.get("used"):
        return {"accuracy": propagation["accuracy_without"], "accuracy_ci95": propagation["accuracy_without_ci95"]}
    return headline(metrics[part])


def _votes_over_propagation(predictor: Run | Ensemble) -> bool:
    """Return whether an ensemble's figures are of label propagation, which no file can do; a run has figures without it."""
    return isinstance(predictor, Ensemble) and bool(predictor.manifest.get("transductive", {}).get("used"))


def _reliability(predictor: Run | Ensemble) -> tuple[dict[str, Any], ...]:
    """Compare confidence with accuracy out of fold; of an empty bin, both are null."""
    held_out = None if _votes_over_propagation(predictor) else predictor.files.out_of_fold_by_heads
    if held_out is None:
        return ()
    assert held_out.targets is not None
    return tuple(asdict(one) for one in reliability_table(held_out.probs, held_out.targets, BINS, held_out.groups))
