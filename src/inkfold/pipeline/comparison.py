"""Compares extractors of features out of fold on some training drawings, by a linear head: how pages are read, which backbone.

Three parts of the drawings take turns at being held out. The drawings are chosen by their content's digests, so that the same
drawings give the same comparison; those that the backbone was pretrained on are used in need alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from inkfold.augment.views import IDENTITY
from inkfold.config.sections import TrainHeadSettings
from inkfold.data.splits import assign_folds
from inkfold.evaluation.paired import paired_difference
from inkfold.features.extractor import DrawingFiles, Extractor
from inkfold.heads.training_set import TrainingSet
from inkfold.pipeline.build import TrainingPlan
from inkfold.pipeline.prepare import Prepared
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress

FEWEST_COMPARED = 40  # drawings
COMPARED_FOLDS = 3


@dataclass(frozen=True, slots=True)
class Comparison:
    """Training drawings on which extractors are compared, divided into parts.

    Attributes:
        plan: Gives the seed, and the device that heads are trained on.
        prepared: The training drawings.
        rows: The compared ones' rows in `prepared`.
        parts: The part in which each of them is held out, from 0.
    """

    plan: TrainingPlan
    prepared: Prepared
    rows: Int64[np.ndarray, " rows"]
    parts: Int64[np.ndarray, " rows"]

    @property
    def files(self) -> DrawingFiles:
        """The compared drawings' files."""
        train, table_rows = self.prepared.read.train, self.prepared.rows[self.rows]
        return DrawingFiles(train.names[table_rows], train.files[table_rows], train.digests[table_rows])

    def predict_right(self, extractor: Extractor, cost: Cost, progress: Progress) -> Bool[np.ndarray, " rows"]:
        """Return which drawings a linear head that was trained on the other parts predicts right.

        Args:
            extractor: Computes the features that the bank lacks; the drawings are decoded as it needs them.
            cost: Forward passes and seconds are added to it.
            progress: Called as features are computed.
        """
        from inkfold.heads.fit import Trial, fit_trials  # noqa: PLC0415
        from inkfold.heads.head import HeadSpec, mean_probs  # noqa: PLC0415
        from inkfold.models.backbone import choose_precision  # noqa: PLC0415 - torch takes a second

        plan, prepared, rows = self.plan, self.prepared, self.rows
        extractor.decode(self.files, cost, progress)
        extracted = extractor.extract(prepared.digests[rows], cost, progress)
        features = extracted.read(IDENTITY)
        held_out_in = np.stack([self.parts == part for part in range(COMPARED_FOLDS)])
        folds = prepared.copies.select(rows).leave_out(held_out_in, COMPARED_FOLDS, prepared.targets[rows])
        targets, classes = prepared.targets[rows], len(prepared.read.dataset.class_names)
        settings = TrainHeadSettings()
        settings = settings.model_copy(update={"precision": choose_precision(settings.precision, plan.device)})
        trial = Trial(HeadSpec(scaling="blocks" if extractor.has_blocks else "none"), settings)
        training_set = TrainingSet(features, targets, folds, classes, plan.recipe.seed, blocks=extracted.blocks)
        [fitted] = fit_trials(training_set, [trial], device=plan.device, threads_per_group=1)
        assert fitted.heads is not None
        right = np.zeros(len(rows), bool)
        for place, fold in enumerate(fitted.folds):
            held_out = folds.held_out[fold]
            probs = mean_probs(fitted.heads, fitted.spec, features[held_out], [place])
            right[held_out] = probs.argmax(1) == targets[held_out]
        return right

    def figures(self, usual: Bool[np.ndarray, " rows"], other: Bool[np.ndarray, " rows"]) -> dict[str, Any]:
        """Compare what the usual and another extractor's heads predict right.

        Returns:
            JSON values: `n`, `accuracy` of the other, `usual_accuracy`, and what `paired_difference` says of the other's gain.
        """
        groups = None if self.prepared.groups is None else np.unique(self.prepared.groups[self.rows], return_inverse=True)[1]
        accuracies = {"accuracy": round(float(other.mean()), 6), "usual_accuracy": round(float(usual.mean()), 6)}
        return {"n": len(self.rows), **accuracies, **paired_difference(usual, other, groups)}


def open_comparison(
    plan: TrainingPlan, prepared: Prepared, most: int, usable: Int64[np.ndarray, " usable"] | None = None
) -> Comparison | None:
    """Choose drawings to compare extractors on, and divide them into parts by their groups.

    Args:
        plan: The run's plan.
        prepared: The training drawings, with their groups and with those that the backbone was pretrained on marked.
        most: Number of drawings that are compared at most.
        usable: Rows that may be used; None uses all.

    Returns:
        The comparison; None where there are too few drawings or classes to compare anything.
    """
    rows = _compared_rows(prepared, np.arange(len(prepared.rows)) if usable is None else usable, most)
    if len(rows) < FEWEST_COMPARED or len(np.unique(prepared.targets[rows])) < 2:
        return None
    groups = prepared.units(COMPARED_FOLDS)[rows]
    parts = assign_folds(prepared.targets[rows], prepared.digests[rows], COMPARED_FOLDS, plan.recipe.seed, groups)
    return Comparison(plan, prepared, rows, parts) if len(np.unique(parts)) == COMPARED_FOLDS else None


def _compared_rows(prepared: Prepared, usable: Int64[np.ndarray, " usable"], most: int) -> Int64[np.ndarray, " rows"]:
    """Choose the drawings that are compared, by their digests: a backbone's own pretraining drawings only in need."""
    rows = usable
    if prepared.seen is not None and int((~prepared.seen[rows]).sum()) >= FEWEST_COMPARED:
        rows = rows[~prepared.seen[rows]]
    chosen: np.ndarray = np.sort(rows[np.argsort(prepared.digests[rows], kind="stable")[:most]])
    return chosen


def signed(figure: float) -> str:
    """Write a difference with its sign and three decimals, never -0.000."""
    return f"{round(figure, 3) + 0.0:+.3f}"
