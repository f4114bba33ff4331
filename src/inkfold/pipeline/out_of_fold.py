"""Predicts the held-out drawings by the fold that didn't train on them, and the test drawings by the mean over all folds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float16, Float64, Int64

from inkfold.augment.views import IDENTITY, View
from inkfold.data.splits import Folds
from inkfold.evaluation.predictions import Predictions
from inkfold.features.extractor import Extractor, ViewFeatures
from inkfold.heads.head import mean_probs
from inkfold.pipeline.prepare import Prepared
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress
from inkfold.storage.scratch import scratch_array, take_rows

if TYPE_CHECKING:
    from inkfold.heads.fit import FittedHeads

FeaturesOf = Callable[[int, View], Float16[np.ndarray, "n d"]]


@dataclass(frozen=True, slots=True)
class FoldFeatures:
    """The features that each fold's heads predict from.

    Attributes:
        held_out: Returns the features of the drawings that a fold held out, by the fold's number and the view.
        test: Returns the features of the test drawings that can be read, by fold and view; None if there are none.
        trained_on: Returns the features of the drawings that a fold was trained on, likewise; None where they aren't needed.
    """

    held_out: FeaturesOf
    test: FeaturesOf | None
    trained_on: FeaturesOf | None = None


def shared_features(features: ViewFeatures, test: ViewFeatures | None, folds: Folds) -> FoldFeatures:
    """Give every fold the features of the same backbone.

    Args:
        features: Features of the training drawings, in the order of the folds' columns.
        test: Features of the test drawings that can be read; None if there are none.
        folds: Which drawings each fold holds out.

    Returns:
        The features that each fold's heads predict from.
    """
    return FoldFeatures(
        held_out=lambda fold, view: features.read(view)[folds.held_out[fold]],
        test=None if test is None else (lambda fold, view: test.read(view)),
        trained_on=lambda fold, view: features.read(view)[folds.trained_on[fold]],
    )


def features_by_fold(
    extractors: Sequence[Extractor],
    prepared: Prepared,
    folds: Folds,
    views: Sequence[View],
    cost: Cost,
    progress: Progress,
    *,
    trained_on: bool = False,
) -> FoldFeatures:
    """Compute each fold's features by a backbone of its own.

    Args:
        extractors: The extractor of each fold's backbone.
        prepared: The drawings, whose pixels are in the pixel store already.
        folds: Which drawings each fold holds out.
        views: Views under which the features will be read.
        cost: Forward passes and seconds are added to it.
        progress: Called after each batch.
        trained_on: Whether features of the drawings that each fold was trained on are computed too, as they are.

    Returns:
        The features that each fold's heads predict from, all of them computed by now.
    """
    held_out = [
        extractor.extract(prepared.digests[own], cost, progress, views)
        for extractor, own in zip(extractors, folds.held_out, strict=True)
    ]
    tests = prepared.test_digests
    test = None if tests is None else [extractor.extract(tests, cost, progress, views) for extractor in extractors]
    labelled = None
    if trained_on:
        labelled = [
            extractor.extract(prepared.digests[own], cost, progress, (IDENTITY,))
            for extractor, own in zip(extractors, folds.trained_on, strict=True)
        ]
    return FoldFeatures(
        held_out=lambda fold, view: held_out[fold].read(view),
        test=None if test is None else (lambda fold, view: test[fold].read(view)),
        trained_on=None if labelled is None else (lambda fold, view: labelled[fold].read(view)),
    )


def predict_held_out(
    features: FoldFeatures, prepared: Prepared, views: Sequence[View], folds: Folds, fitted: "FittedHeads"
) -> Predictions:
    """Predict each held-out drawing by the fold that held it out, as the mean over views.

    Args:
        features: The features that each fold's heads predict from.
        prepared: The drawings, with their classes and their rows in the data's table.
        views: Views whose predictions are averaged.
        folds: Which drawings each fold holds out.
        fitted: The heads of all folds, as `fit_trials` or fine-tuning returned them.

    Returns:
        Class probabilities in the order of the image paths, without the drawings that no fold held out.
    """
    dataset = prepared.read.dataset
    probs = scratch_array((len(prepared.rows), len(dataset.class_names)), np.float32)
    fold_of = np.zeros(len(prepared.rows), np.int64)
    for view in views:
        for fold, own in enumerate(folds.held_out):
            probs[own] += _fold_probs(fitted, features.held_out(fold, view), fold) / len(views)
            fold_of[own] = fold
    held_out = held_out_rows(prepared, folds)
    return Predictions(
        dataset.train.image_paths[prepared.rows[held_out]],
        take_rows(probs, held_out),
        dataset.class_names,
        prepared.targets[held_out],
        fold_of[held_out],
        seen=None if prepared.seen is None else prepared.seen[held_out],
        groups=None if prepared.groups is None else np.unique(prepared.groups, return_inverse=True)[1][held_out],
        digests=prepared.digests[held_out],
        nested_right=None if len(views) > 1 else _nested_right(fitted, folds, held_out),
    )


def held_out_rows(prepared: Prepared, folds: Folds) -> Int64[np.ndarray, " m"]:
    """Return the places of the drawings that a fold held out, by image path: a table in another order gives the same rows."""
    held_out = np.flatnonzero(folds.measured)
    paths = prepared.read.dataset.train.image_paths[prepared.rows[held_out]]
    in_order: np.ndarray = held_out[np.argsort(paths, kind="stable")]
    return in_order


def predict_test(
    features: FoldFeatures, prepared: Prepared, views: Sequence[View], folds: int, fitted: "FittedHeads"
) -> Predictions | None:
    """Predict the test drawings by every fold, and average the folds' probabilities.

    Args:
        features: The features that each fold's heads predict from.
        prepared: The drawings; test drawings are predicted in the order of the test table.
        views: Views whose predictions are averaged.
        folds: How many folds were trained: each of them predicts all test drawings.
        fitted: The heads of all folds, as `fit_trials` or fine-tuning returned them.

    Returns:
        Class probabilities, the mean and each fold's; a drawing that can't be read gets the classes' shares of the training
        drawings. None without a test table.
    """
    dataset = prepared.read.dataset
    if dataset.test is None:
        return None
    shares = np.bincount(prepared.targets, minlength=len(dataset.class_names)) / len(prepared.rows)
    fold_probs = scratch_array((folds, len(dataset.test), len(dataset.class_names)), np.float32)
    fold_probs[:] = shares
    if features.test is not None:
        fold_probs[:, prepared.test_whole] = 0
        for view in views:
            for fold in range(folds):
                fold_probs[fold, prepared.test_whole] += _fold_probs(fitted, features.test(fold, view), fold) / len(views)
    return Predictions(
        dataset.test.image_paths,
        fold_probs.mean(0),
        dataset.class_names,
        dataset.test.targets,
        fold_probs=fold_probs,
        digests=None if prepared.read.test is None else prepared.read.test.digests,
    )


def _nested_right(fitted: "FittedHeads", folds: Folds, held_out: Int64[np.ndarray, " m"]) -> Float64[np.ndarray, " m"] | None:
    """Give the share of its fold's heads that predict each held-out drawing rightly where other drawings chose the epochs."""
    if fitted.nested_right is None:
        return None
    shares = np.zeros(folds.held_out.shape[1])
    for fold, right in zip(fitted.folds, fitted.nested_right, strict=True):
        shares[folds.held_out[fold]] += right / fitted.folds.count(fold)
    chosen: np.ndarray = shares[held_out]
    return chosen


def _fold_probs(fitted: "FittedHeads", features: np.ndarray, fold: int) -> np.ndarray:
    """Average the predictions of a fold's heads."""
    assert fitted.heads is not None
    return mean_probs(fitted.heads, fitted.spec, features, [i for i, head_fold in enumerate(fitted.folds) if head_fold == fold])
