"""Where candidates are tried: drawings that are tuned on, by cross-validation, and drawings that are set aside.

Both are asked as they are, whatever a recipe's `tta`: what a trial is chosen by and what it is judged by are the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Shaped

from inkfold.config.recipe import Recipe
from inkfold.data.splits import assign_folds
from inkfold.errors import DataError
from inkfold.evaluation.metrics import paired_difference, wilson_interval
from inkfold.evaluation.predictions import is_worth_reporting
from inkfold.features.executors import Executor
from inkfold.heads.head import mean_probs
from inkfold.pipeline.build import build_plan, build_trial
from inkfold.pipeline.inputs import TrainingInputs, build_training_set, prepare_inputs
from inkfold.pipeline.prepare import Prepared, ReadData
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress
from inkfold.storage.hashing import key_digest

if TYPE_CHECKING:
    import optuna

    from inkfold.heads.fit import FittedHeads
    from inkfold.heads.fit_group import Report, TrainingSet


MOST_PARTS = 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trial's recipe and what Optuna calls it.

    Attributes:
        trial: Optuna's; None for the recipe as it was.
        values: By dotted key.
        recipe: With these values.
    """

    trial: "optuna.trial.Trial | None"
    values: Mapping[str, Any]
    recipe: Recipe


class Objective:
    """Where candidates are tried: the drawings that are tuned on, and those that were set aside.

    With `folds.split=holdout`, the drawings of val/ are those set aside where the data have it, and the others are
    cross-validated. Otherwise `tune.judge_fraction` is set aside, to the nearest share of at most 20 equal parts.

    Args:
        recipe: The recipe as it is.
        read: The drawings' files.
        progress: Told how far decoding, extraction and fitting are.
        launcher: Who computes features.

    Raises:
        DataError: If nothing would be set aside, or a fold would hold out nothing or learn from nothing.
    """

    def __init__(self, recipe: Recipe, read: ReadData, progress: Progress, launcher: Executor) -> None:
        self._read, self._progress, self._launcher = read, progress, launcher
        self._materials: dict[str, TrainingInputs] = {}
        prepared = self._material(recipe).prepared
        groups = prepared.groups
        self.aside: Bool[np.ndarray, " n"] = _set_aside(recipe, prepared, groups)
        self._folds = _folds_of(recipe, prepared, groups, ~self.aside)

    def evaluate_trials(self, candidates: Sequence[Candidate], report: "Report") -> list["FittedHeads"]:
        """Cross-validate candidates on the drawings that are tuned on.

        Args:
            candidates: Those with the same views are fitted in one program.
            report: Told of each candidate's place, epoch and accuracy; answers whether it goes on.

        Returns:
            In the order of the candidates.
        """
        found: dict[int, FittedHeads] = {}
        for places in self._by_views(candidates):
            first = candidates[places[0]].recipe
            lessons = _only(build_training_set(self._material(first), self._folds), ~self.aside)
            fitted = self._fit(
                lessons, [candidates[i].recipe for i in places], lambda i, *told, at=places: report(at[i], *told)
            )
            found |= dict(zip(places, fitted, strict=True))
        return [found[i] for i in range(len(candidates))]

    def judge(self, candidate: Candidate) -> Bool[np.ndarray, " aside"]:
        """Fit a candidate on all drawings that are tuned on, and ask it about those set aside, as they are.

        With `train_head.keep=best` the folds' heads are averaged: each takes its epoch by its own held-out part, not by the
        drawings that it is asked about.

        Returns:
            Where it was right.
        """
        recipe, material = candidate.recipe, self._material(candidate.recipe)
        if recipe.train_head.keep == "best":
            lessons = _only(build_training_set(material, self._folds), ~self.aside)
        else:
            lessons = build_training_set(material, ~self.aside[None])
        [fitted] = self._fit(lessons, [recipe], None)
        if fitted.heads is None:
            return np.zeros(int(self.aside.sum()), bool)
        probs = mean_probs(fitted.heads, fitted.spec, material.features.read()[self.aside], range(len(fitted.folds)))
        right: np.ndarray = probs.argmax(1) == material.prepared.targets[self.aside]
        return right

    def compare(self, as_it_was: Candidate, best: Candidate) -> dict[str, Any]:
        """Judge two candidates.

        Returns:
            Both accuracies on the drawings set aside, and the difference.
        """
        right = [self.judge(one) for one in (as_it_was, best)]
        figures = {
            name: {"accuracy": float(one.mean()), "accuracy_ci95": list(wilson_interval(int(one.sum()), len(one)))}
            for name, one in zip(("as_it_was", "best"), right, strict=True)
        }
        return {"n": len(right[0]), **figures, **paired_difference(*right)}

    def learnt(self) -> dict[str, int] | None:
        """Count the drawings that a tried backbone's weights learnt from; None where they are too few to matter."""
        counts = [int(one.prepared.learnt.sum()) for one in self._materials.values() if one.prepared.learnt is not None]
        drawings, n = max(counts, default=0), len(self.aside)
        return {"drawings": drawings, "of": n} if is_worth_reporting(drawings, n) else None

    def _fit(self, lessons: "TrainingSet", recipes: Sequence[Recipe], report: "Report | None") -> list["FittedHeads"]:
        from inkfold.heads.fit import fit_trials  # noqa: PLC0415
        from inkfold.models.backbone import choose_device  # noqa: PLC0415 - torch takes a second

        device = choose_device(recipes[0].backbone.device)
        trials = [build_trial(recipe, device) for recipe in recipes]
        return fit_trials(lessons, trials, device=device, report=report, progress=self._progress)

    def _by_views(self, candidates: Sequence[Candidate]) -> list[list[int]]:
        groups: dict[str, list[int]] = {}
        for i, candidate in enumerate(candidates):
            groups.setdefault(_views_key(candidate.recipe), []).append(i)
        return list(groups.values())

    def _material(self, recipe: Recipe) -> TrainingInputs:
        key = _views_key(recipe)
        if key not in self._materials:
            as_they_are = recipe.model_copy(update={"tta": ()})
            self._materials[key] = prepare_inputs(build_plan(as_they_are, self._launcher), self._read, Cost(), self._progress)
        return self._materials[key]


def _set_aside(recipe: Recipe, prepared: Prepared, groups: Shaped[np.ndarray, " n"] | None) -> Bool[np.ndarray, " n"]:
    """Choose the drawings that are never tuned on."""
    given_val = prepared.read.dataset.train.given_val
    if recipe.folds.split == "holdout" and given_val is not None:
        aside: np.ndarray = given_val[prepared.rows]
    else:
        wanted = recipe.tune.judge_fraction
        share = Fraction(wanted).limit_denominator(MOST_PARTS) or Fraction(1, round(1 / wanted))
        parts = assign_folds(prepared.targets, prepared.digests, share.denominator, recipe.seed, groups)
        aside = parts < share.numerator
    if not aside.any() or aside.all():
        what = "all drawings would be" if aside.any() else "no drawing would be"
        raise DataError(
            f"{prepared.read.dataset.root}: {what} set aside, expected some to judge by and some to tune on. "
            "Add drawings or groups, or change tune.judge_fraction or folds.split."
        )
    return aside


def _folds_of(
    recipe: Recipe, prepared: Prepared, groups: Shaped[np.ndarray, " n"] | None, rest: Bool[np.ndarray, " n"]
) -> Bool[np.ndarray, "folds rest"]:
    """Deal what is tuned on; one part is held out with `holdout`, unless val/ is what is set aside."""
    k, rest_groups = recipe.folds.k, None if groups is None else groups[rest]
    parts = assign_folds(prepared.targets[rest], prepared.digests[rest], k, recipe.seed, rest_groups)
    one = recipe.folds.split == "holdout" and prepared.read.dataset.train.given_val is None
    folds = np.stack([parts != fold for fold in range(1 if one else k)])
    empty = [fold for fold, learnt in enumerate(folds) if learnt.all() or not learnt.any()]
    if empty:
        raise DataError(
            f"{prepared.read.dataset.root}: of {len(parts)} drawings to tune on, fold {empty[0]} of {k} would hold out none or "
            "all. Add drawings or groups, or lower folds.k or tune.judge_fraction."
        )
    return folds


def _views_key(recipe: Recipe) -> str:
    """Name all of a recipe that decides which features it needs."""
    dumped = recipe.model_dump(mode="json")
    return key_digest(
        {name: dumped[name] for name in ("image", "backbone", "curriculum", "seed")} | {"epochs": recipe.train_head.epochs}
    )


def _only(lessons: "TrainingSet", rows: Bool[np.ndarray, " n"]) -> "TrainingSet":
    """Leave rows out of everything but the folds, which are of the rest already."""
    schooling = lessons.schooling
    if schooling is not None:
        shown = schooling.features
        schooling = replace(schooling, features=lambda epoch: shown(epoch)[rows])
    return replace(lessons, features=lessons.features[rows], targets=lessons.targets[rows], schooling=schooling)
