"""Predicts the test drawings together, by label propagation, if held-out drawings show that this is better.

Each fold's held-out drawings play the test drawings first: they are unlabelled, the fold's own training drawings labelled.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int64

from inkfold.augment.views import IDENTITY
from inkfold.data.splits import Folds
from inkfold.evaluation.decision import parts_of
from inkfold.evaluation.paired import paired_difference
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.score_figures import compare_by, measure_by
from inkfold.evaluation.scores import Metric
from inkfold.heads.propagation import ALPHA, COMPONENTS, NEIGHBOURS, Unlabelled, Whitening, propagate, work
from inkfold.pipeline.out_of_fold import FoldFeatures, held_out_rows
from inkfold.pipeline.prepare import Prepared

log = logging.getLogger("inkfold.pipeline")

MOST_TOGETHER = 20_000  # test drawings; more are predicted in parts of so many
MOST_WORK = 1e13  # multiplications of all graphs: a quarter of an hour on two cores
Skipped = Literal["no_test_drawings", "nested_epochs", "too_many_drawings"]
REASONS: dict[Skipped, str] = {
    "no_test_drawings": "there are no test drawings to use it for",
    "nested_epochs": "the held-out drawings chose the epochs that are kept (keep=best), so they can't judge it fairly",
    "too_many_drawings": "there are too many drawings: it would take more than a quarter of an hour",
}


@dataclass(frozen=True, slots=True)
class Propagation:
    """Whether the test drawings are predicted together, and what that gains.

    Attributes:
        out_of_fold: Predictions of the held-out drawings: with propagation where it is used, else by the heads alone.
        test: Predictions of the test drawings, likewise; None without a test table.
        by_heads: Out-of-fold predictions by the heads alone; None where `out_of_fold` is that.
        judged: Out-of-fold predictions with propagation, whether or not it is used; None where it wasn't tried.
        figures: JSON values: whether it is `used`; why not, as `skipped`, where it wasn't tried; the comparison.
    """

    out_of_fold: Predictions
    test: Predictions | None
    by_heads: Predictions | None = None
    judged: Predictions | None = None
    figures: dict[str, Any] = field(default_factory=dict)


def choose_propagation(
    features: FoldFeatures, prepared: Prepared, folds: Folds, metric: Metric, out_of_fold: Predictions, test: Predictions | None
) -> Propagation:
    """Judge label propagation on the held-out drawings, and use it for the test drawings where it is better.

    It is judged as the test drawings would be predicted. Held-out drawings of one group, and copies, aren't joined, as test
    drawings may come singly; nor are more of them at once than there are test drawings. It is used where the paired test finds
    a difference by the metric, in its favour.

    Args:
        features: Features that each fold's heads predict from, with those of the drawings that each fold trained on.
        prepared: The drawings, with their groups and copies.
        folds: Which drawings each fold trained on and held out.
        metric: What decides.
        out_of_fold: Predictions of the held-out drawings by the heads.
        test: Predictions of the test drawings by the heads, with each fold's; None without a test table.

    Returns:
        The choice, with the predictions that follow from it.
    """
    if (skipped := _reason_to_skip(features, prepared, folds, out_of_fold)) is not None:
        log.info("label propagation: not tried, as %s", REASONS[skipped])
        return Propagation(out_of_fold, test, figures={"used": False, "skipped": skipped, "reason": REASONS[skipped]})
    assert prepared.test_whole is not None
    n_test = int(prepared.test_whole.sum())
    labelled = _Labelled(features, prepared, folds)
    judged = _judge(labelled, out_of_fold, n_test)
    compared = compare(metric, out_of_fold, judged)
    used = is_better(metric, compared)
    sizes = [min(n_test, int(own.sum())) for own in folds.held_out]
    figures = {
        "used": used,
        "neighbours": NEIGHBOURS,
        "components": COMPONENTS,
        "alpha": ALPHA,
        "together": {"held_out": max(sizes), "test": min(n_test, MOST_TOGETHER)},
        **compared,
        "nested": _nested(metric, out_of_fold, judged),
    }
    log.info("label propagation: %s out of fold, p = %.3g", f"{compared['difference']:+.4f}", compared["p_value"])
    if not used:
        return Propagation(out_of_fold, test, judged=judged, figures=figures)
    assert test is not None
    return Propagation(judged, _propagate_test(labelled, test), out_of_fold, judged, figures)


def compare(metric: Metric, without: Predictions, judged: Predictions) -> dict[str, Any]:
    """Compare held-out predictions without and with propagation by a metric, answered by the most probable class."""
    if metric.is_accuracy:
        right = [own.probs.argmax(1) == own.targets for own in (without, judged)]
        return paired_difference(right[0], right[1], without.groups)
    return compare_by(metric, without.most_probable, judged.most_probable)


def is_better(metric: Metric, compared: dict[str, Any]) -> bool:
    """Return whether a comparison finds the second predictions better by more than chance."""
    return bool(compared["distinguishable"]) and metric.signed(compared["difference"]) > 0


def _reason_to_skip(features: FoldFeatures, prepared: Prepared, folds: Folds, out_of_fold: Predictions) -> Skipped | None:
    if features.test is None or prepared.test_whole is None:
        return "no_test_drawings"
    if out_of_fold.answers_nested:
        return "nested_epochs"
    n_test = int(prepared.test_whole.sum())
    part = min(n_test, MOST_TOGETHER)
    needed = sum(
        work(int(trained.sum()), int(held_out.sum())) + -(-n_test // part) * work(int(trained.sum()), part)
        for trained, held_out in zip(folds.trained_on, folds.held_out, strict=True)
    )
    return "too_many_drawings" if needed > MOST_WORK else None


class _Labelled:
    """Each fold's labelled drawings, from which labels flow to held-out and to test drawings."""

    def __init__(self, features: FoldFeatures, prepared: Prepared, folds: Folds) -> None:
        self.features, self.prepared, self.folds = features, prepared, folds
        self._whitenings = dict[int, Whitening]()

    def propagate(self, fold: int, unlabelled: Unlabelled) -> Float32[np.ndarray, "m classes"]:
        """Predict drawings together with a fold's labelled ones."""
        assert self.features.trained_on is not None
        shown = self.features.trained_on(fold, IDENTITY)
        if fold not in self._whitenings:
            self._whitenings[fold] = Whitening.fit(shown)
        return propagate(self._whitenings[fold], shown, self.prepared.targets[self.folds.trained_on[fold]], unlabelled)


def _judge(labelled: _Labelled, out_of_fold: Predictions, n_test: int) -> Predictions:
    """Predict each fold's held-out drawings together, at most as many as there are test drawings at once."""
    prepared, folds = labelled.prepared, labelled.folds
    rows = held_out_rows(prepared, folds)
    probs = np.zeros((len(prepared.rows), len(out_of_fold.class_names)), np.float32)
    probs[rows] = out_of_fold.probs
    for fold, own in enumerate(folds.held_out):
        count = int(own.sum())
        if count:
            parts = np.arange(count) % -(-count // min(n_test, MOST_TOGETHER))  # in content's order: by chance
            alike = [codes[own] for codes in _alike(prepared)]
            unlabelled = Unlabelled(labelled.features.held_out(fold, IDENTITY), probs[own], alike, parts)
            probs[own] = labelled.propagate(fold, unlabelled)
    return replace(out_of_fold, probs=probs[rows], nested_right=None, decided=None)


def _alike(prepared: Prepared) -> list[Int64[np.ndarray, " n"]]:
    """Number the groups, and the copies, that training drawings belong to."""
    known = (prepared.named_groups, prepared.duplicates, prepared.digests)
    return [np.unique(own, return_inverse=True)[1] for own in known if own is not None]


def _propagate_test(labelled: _Labelled, test: Predictions) -> Predictions:
    """Predict the test drawings together, by each fold's labelled drawings and head; broken ones keep what they have."""
    prepared, features = labelled.prepared, labelled.features
    assert test.fold_probs is not None
    assert features.test is not None
    assert prepared.read.dataset.test is not None
    assert prepared.test_whole is not None
    assert prepared.test_digests is not None
    order = np.argsort(prepared.test_digests, kind="stable")  # by content: the order of rows changes nothing
    whole = np.flatnonzero(prepared.test_whole)[order]
    known = (prepared.read.dataset.test.all_groups, test.digests)
    alike = [np.unique(own[whole], return_inverse=True)[1] for own in known if own is not None]
    fold_probs, num_parts = test.fold_probs.copy(), -(-len(whole) // MOST_TOGETHER)
    for fold in range(len(fold_probs)):
        shown = features.test(fold, IDENTITY)[order]
        for part in range(num_parts):
            rows = slice(part, None, num_parts)
            unlabelled = Unlabelled(shown[rows], fold_probs[fold, whole[rows]], [own[rows] for own in alike])
            fold_probs[fold, whole[rows]] = labelled.propagate(fold, unlabelled)
    return replace(test, fold_probs=fold_probs, probs=fold_probs.mean(0))


def _nested(metric: Metric, without: Predictions, judged: Predictions) -> dict[str, Any]:
    """Measure the choice itself: each part's drawings are predicted as the other parts choose."""
    assert without.targets is not None
    parts = parts_of(without.folds, without.groups, len(without.probs))
    taken = np.zeros(len(without.probs), bool)
    for part in np.unique(parts):
        others: Sequence[Predictions] = [own.select(parts != part) for own in (without, judged)]
        taken[parts == part] = is_better(metric, compare(metric, others[0], others[1]))
    chosen = replace(judged, probs=np.where(taken[:, None], judged.probs, without.probs))
    figures = measure_by(metric, chosen)
    return {name: figures[name] for name in ("metric", "accuracy", "accuracy_ci95") if name in figures}
