"""Lets each fold answer for the drawings that it has not seen, and all folds for the test drawings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float16

from inkfold.augment.views import View
from inkfold.evaluation.predictions import Predictions
from inkfold.features.extractor import Extractor, ViewFeatures
from inkfold.heads.head import mean_probs
from inkfold.pipeline.prepare import Prepared
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress

if TYPE_CHECKING:
    from inkfold.heads.fit import FittedHeads

Ask = Callable[[int, View], Float16[np.ndarray, "n d"]]


@dataclass(frozen=True, slots=True)
class FoldFeatures:
    """The features that a fold's heads see.

    Attributes:
        held_out: Of the drawings that a fold hasn't learnt from, by its number and the view.
        test: Of the test drawings that can be read; None without any.
    """

    held_out: Ask
    test: Ask | None


def shared_features(features: ViewFeatures, test: ViewFeatures | None, folds: Bool[np.ndarray, "folds n"]) -> FoldFeatures:
    """Let all folds see through one backbone."""
    return FoldFeatures(
        lambda fold, view: features.read(view)[~folds[fold]],
        None if test is None else (lambda fold, view: test.read(view)),
    )


def features_by_fold(
    extractors: Sequence[Extractor],
    prepared: Prepared,
    folds: Bool[np.ndarray, "folds n"],
    views: Sequence[View],
    cost: Cost,
    progress: Progress,
) -> FoldFeatures:
    """Let each fold see through a backbone of its own.

    Args:
        extractors: One a fold.
        prepared: The drawings, decoded.
        folds: True where a fold learnt from a drawing.
        views: That will be asked for.
        cost: Added to.
        progress: Told of each batch.

    Returns:
        The features, which are computed here.
    """
    held_out = [one.extract(prepared.digests[~own], cost, progress, views) for one, own in zip(extractors, folds, strict=True)]
    if prepared.test_digests is None or not len(prepared.test_digests):
        return FoldFeatures(lambda fold, view: held_out[fold].read(view), None)
    test = [one.extract(prepared.test_digests, cost, progress, views) for one in extractors]
    return FoldFeatures(lambda fold, view: held_out[fold].read(view), lambda fold, view: test[fold].read(view))


def predict_held_out(
    shown: FoldFeatures, prepared: Prepared, views: Sequence[View], folds: Bool[np.ndarray, "folds n"], fitted: "FittedHeads"
) -> Predictions:
    """Let each fold answer for the drawings that it has not seen, the mean over views.

    Args:
        shown: Features under these views.
        prepared: The drawings.
        views: Whose predictions are averaged.
        folds: True where a fold's heads learnt from a drawing.
        fitted: The heads.

    Returns:
        Rows in the table's order; without the drawings that every fold has seen.
    """
    dataset = prepared.read.dataset
    probs = np.zeros((len(prepared.rows), len(dataset.class_names)), np.float32)
    held_in = np.zeros(len(prepared.rows), np.int64)
    for view in views:
        for fold, seen in enumerate(folds):
            probs[~seen] += _fold_probs(fitted, shown.held_out(fold, view), fold) / len(views)
            held_in[~seen] = fold
    held_out = np.flatnonzero(~folds.all(0))
    held_out = held_out[np.argsort(prepared.rows[held_out])]
    return Predictions(
        dataset.train.image_paths[prepared.rows[held_out]],
        probs[held_out],
        dataset.class_names,
        prepared.targets[held_out],
        held_in[held_out],
        seen=None if prepared.learnt is None else prepared.learnt[held_out],
    )


def predict_test(
    shown: FoldFeatures, prepared: Prepared, views: Sequence[View], folds: int, fitted: "FittedHeads"
) -> Predictions | None:
    """Let every fold answer for the test drawings, and average.

    Args:
        shown: Features under these views.
        prepared: The drawings.
        views: Whose predictions are averaged.
        folds: How many.
        fitted: The heads.

    Returns:
        A drawing that can't be read gets the classes' shares in training; None without test drawings.
    """
    dataset = prepared.read.dataset
    if dataset.test is None:
        return None
    shares = np.bincount(prepared.targets, minlength=len(dataset.class_names)) / len(prepared.rows)
    fold_probs = np.empty((folds, len(dataset.test), len(dataset.class_names)), np.float32)
    fold_probs[:] = shares
    if shown.test is not None:
        fold_probs[:, prepared.test_whole] = 0
        for view in views:
            for fold in range(folds):
                fold_probs[fold, prepared.test_whole] += _fold_probs(fitted, shown.test(fold, view), fold) / len(views)
    return Predictions(
        dataset.test.image_paths, fold_probs.mean(0), dataset.class_names, prepared.read.test_targets, fold_probs=fold_probs
    )


def _fold_probs(fitted: "FittedHeads", features: np.ndarray, fold: int) -> np.ndarray:
    """Average a fold's heads."""
    assert fitted.heads is not None
    return mean_probs(fitted.heads, fitted.spec, features, [i for i, of_fold in enumerate(fitted.folds) if of_fold == fold])
