"""The figure that a study maximises: cross-validated accuracy on one part of the drawings; the other part is set aside.

Both parts are predicted as they are, without the test-time views of a recipe's `tta`, so that the accuracy by which a trial is
chosen and the one that is reported mean the same.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from inkfold.config.recipe import Recipe
from inkfold.data.splits import Folds, assign_folds
from inkfold.errors import DataError
from inkfold.evaluation.intervals import accuracy_figures
from inkfold.evaluation.paired import compare_figures, paired_difference
from inkfold.evaluation.predictions import is_worth_reporting
from inkfold.evaluation.score_figures import statistics_figures
from inkfold.features.executors import Executor
from inkfold.heads.head import mean_probs
from inkfold.pipeline.build import build_plan, build_trial, metric_of
from inkfold.pipeline.inputs import TrainingInputs, build_training_set, prepare_inputs
from inkfold.pipeline.prepare import Prepared, ReadData
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress
from inkfold.search.halving import RUNGS, Halving, rung_epoch
from inkfold.storage.hashing import key_digest

if TYPE_CHECKING:
    from inkfold.heads.fit import FittedHeads, TrialFitting
    from inkfold.heads.training_set import TrainingSet

log = logging.getLogger("inkfold.search")

_Fitting: TypeAlias = "tuple[TrialFitting, list[int]]"  # with the index of each of its trials among the candidates

MOST_PARTS = 20
STATE_BYTES = 1 << 30  # of heads that wait for others at a rung; a constant, as what is compared there must not vary


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipe that is tried.

    Attributes:
        values: The values that are changed, by dotted key.
        recipe: The recipe with the values that are tried.
    """

    values: Mapping[str, Any]
    recipe: Recipe


class Objective:
    """Scores of candidates on the drawings that are searched on and on those that were set aside.

    With `folds.split=holdout`, the drawings of val/ are those set aside where the data have it, and the others are
    cross-validated. Otherwise `tune.judge_fraction` is set aside, to the nearest share of at most 20 equal parts.

    Args:
        recipe: The recipe before the search: its data, folds and seed hold for all candidates.
        read: The data set that is searched on, whose files have been read once.
        progress: Receives the progress of decoding, extraction and fitting.
        executor: Computes the features that are not in the bank.

    Raises:
        DataError: If nothing would be set aside, or a fold would hold out nothing or train on nothing.
    """

    def __init__(self, recipe: Recipe, read: ReadData, progress: Progress, executor: Executor) -> None:
        self._recipe, self._read, self._progress, self._executor = recipe, read, progress, executor
        self.metric = metric_of(recipe, read.dataset)
        self._inputs: dict[str, TrainingInputs] = {}
        prepared = self._inputs_of(recipe).prepared
        self.aside: Bool[np.ndarray, " n"] = _set_aside(recipe, prepared)
        self._rest = prepared.copies.leave_out(self.aside[None], recipe.folds.k, prepared.targets).trained_on[0]
        self._folds = _folds_of(recipe, prepared, self._rest)
        log.info("%d drawings are set aside, %d searched on", self.aside.sum(), self._rest.sum())

    def evaluate_trials(self, candidates: Sequence[Candidate], halving: Halving | None = None) -> list["FittedHeads"]:
        """Cross-validate candidates on the drawings that are searched on, and return the fitted heads in their order.

        Candidates that need the same features are fitted in one program. All of them reach a rung before any goes on, unless
        their heads need too much memory; then those after the first wait for the others' end.

        Args:
            candidates: The recipes to try, with the values that tell them apart, in any order.
            halving: Decides which of them are fitted beyond each rung; None fits all to their end.
        """
        results: dict[int, FittedHeads] = {}
        for fittings in [self._fittings(candidates)] if halving is None else self._cohorts(candidates):
            if halving is not None:
                _fit_to_rungs(fittings, halving)
            for fitting, indices in fittings:
                fitting.run()
                results |= dict(zip(indices, fitting.fitted(), strict=True))
        return [results[i] for i in range(len(candidates))]

    def score(self, candidate: Candidate) -> Bool[np.ndarray, " aside"]:
        """Return which of the drawings set aside a candidate predicts right; see `predict`."""
        right: np.ndarray = self.predict(candidate).argmax(1) == self._inputs_of(candidate.recipe).prepared.targets[self.aside]
        return right

    def predict(self, candidate: Candidate) -> Float[np.ndarray, "aside classes"]:
        """Fit a candidate on all drawings that are searched on, and predict those set aside.

        With `train_head.keep=best` the folds' heads are averaged: each chooses its epoch by its own held-out part, not by the
        drawings that are predicted. A candidate whose training diverged gives all classes the same probability.
        """
        recipe, inputs = candidate.recipe, self._inputs_of(candidate.recipe)
        if recipe.train_head.keep == "best":
            training_set = self._searched_on(recipe)
        else:
            training_set = build_training_set(inputs, Folds(self._rest[None], self.aside[None]))
        fitting = self._fit(training_set, [recipe])
        fitting.run()
        [fitted] = fitting.fitted()
        if fitted.heads is None:
            classes = len(inputs.prepared.read.dataset.class_names)
            return np.full((int(self.aside.sum()), classes), 1 / classes)
        return mean_probs(fitted.heads, fitted.spec, inputs.features.read()[self.aside], range(len(fitted.folds)))

    def compare(self, as_it_was: Candidate, best: Candidate) -> dict[str, Any]:
        """Compare two candidates on the drawings set aside.

        Args:
            as_it_was: The recipe before the search.
            best: The trial that had the best score on the drawings that were searched on.

        Returns:
            JSON values: both accuracies with their intervals, and the difference with its interval and p-value; the same
            by the recipe's metric, below `metric`.
        """
        probs = [self.predict(candidate) for candidate in (as_it_was, best)]
        targets = self._inputs_of(as_it_was.recipe).prepared.targets[self.aside]
        right = [own.argmax(1) == targets for own in probs]
        groups = self._inputs_of(as_it_was.recipe).prepared.groups
        groups = None if groups is None else np.unique(groups[self.aside], return_inverse=True)[1]
        figures = {name: accuracy_figures(own, groups) for name, own in zip(("as_it_was", "best"), right, strict=True)}
        compared = {"n": len(targets), **figures, **paired_difference(right[0], right[1], groups)}
        if self.metric.is_accuracy:
            return compared
        statistics = [self.metric.statistics(own, targets) for own in probs]
        values = [statistics_figures(self.metric, own, groups) for own in statistics]
        difference = compare_figures(self.metric, statistics[0], statistics[1], groups)
        return {**compared, "metric": {"as_it_was": values[0], "best": values[1], **difference}}

    def seen_in_pretraining(self) -> dict[str, int] | None:
        """Count the drawings that a tried backbone's weights were trained on before; None where they are too few to matter."""
        flags = [inputs.prepared.seen for inputs in self._inputs.values()]
        counts = [int(seen.sum()) for seen in flags if seen is not None]
        drawings, n = max(counts, default=0), len(self.aside)
        return {"drawings": drawings, "of": n} if is_worth_reporting(drawings, n) else None

    def _fit(self, training_set: "TrainingSet", recipes: Sequence[Recipe]) -> "TrialFitting":
        from inkfold.heads.fit import TrialFitting  # noqa: PLC0415
        from inkfold.models.backbone import choose_device  # noqa: PLC0415 - torch takes a second

        device = choose_device(recipes[0].backbone.device)
        trials = [build_trial(recipe, device) for recipe in recipes]
        return TrialFitting(
            training_set,
            trials,
            device=device,
            threads_per_group=1,
            folds_together=True,
            progress=self._progress,
            metric=self.metric,
        )

    def _fittings(self, candidates: Sequence[Candidate], indices: Sequence[int] | None = None) -> "list[_Fitting]":
        """Begin to fit candidates, those that need the same features in one program, with each one's index."""
        fittings = []
        for own in self._by_features(candidates, range(len(candidates)) if indices is None else indices):
            recipes = [candidates[i].recipe for i in own]
            fittings.append((self._fit(self._searched_on(recipes[0]), recipes), own))
        return fittings

    def _cohorts(self, candidates: Sequence[Candidate]) -> Iterator["list[_Fitting]"]:
        """Begin to fit as many candidates at a time as the memory for their heads' states allows."""
        cohort, used = list[int](), 0
        for i, candidate in enumerate(candidates):
            own = self._state_bytes(candidate.recipe)
            if cohort and used + own > STATE_BYTES:
                yield self._fittings(candidates, cohort)
                cohort, used = [], 0
            cohort.append(i)
            used += own
        yield self._fittings(candidates, cohort)

    def _state_bytes(self, recipe: Recipe) -> int:
        from inkfold.heads.fit import state_bytes  # noqa: PLC0415
        from inkfold.models.backbone import choose_device  # noqa: PLC0415 - torch takes a second

        trial = build_trial(recipe, choose_device(recipe.backbone.device))
        return state_bytes(build_training_set(self._inputs_of(recipe), self._folds), trial)

    def _by_features(self, candidates: Sequence[Candidate], indices: Sequence[int]) -> list[list[int]]:
        groups: dict[str, list[int]] = {}
        for i in indices:
            groups.setdefault(_features_key(candidates[i].recipe), []).append(i)
        return list(groups.values())

    def _searched_on(self, recipe: Recipe) -> "TrainingSet":
        return _only(build_training_set(self._inputs_of(recipe), self._folds), self._rest)

    def _inputs_of(self, recipe: Recipe) -> TrainingInputs:
        key = _features_key(recipe)
        if key not in self._inputs:
            as_they_are, cost = recipe.model_copy(update={"tta": ()}), Cost()
            self._inputs[key] = prepare_inputs(
                build_plan(as_they_are, self._executor),
                self._read,
                cost,
                self._progress,
                compared=lambda prepared: ~_set_aside(self._recipe, prepared),
            )
            log.info("features %d: %d forwards, %d from the bank", len(self._inputs), cost.forwards, cost.forwards_cached)
        return self._inputs[key]


def _fit_to_rungs(fittings: Sequence[_Fitting], halving: Halving) -> None:
    """Fit all candidates to one rung after the other, and stop those that fall behind there."""
    for rung in range(RUNGS):
        accuracies: dict[int, float] = {}
        for fitting, indices in fittings:
            fitting.run(partial(rung_epoch, rung=rung))
            accuracies |= {indices[trial]: accuracy for trial, accuracy in fitting.scores().items()}
        stopped = halving.stopped(rung, accuracies)
        for fitting, indices in fittings:
            fitting.stop({trial for trial, i in enumerate(indices) if i in stopped})


def _set_aside(recipe: Recipe, prepared: Prepared) -> Bool[np.ndarray, " n"]:
    """Choose the drawings that are never searched on."""
    given_val = prepared.read.dataset.train.given_val
    if recipe.folds.split == "holdout" and given_val is not None:
        aside: np.ndarray = given_val[prepared.rows]
    else:
        wanted = recipe.tune.judge_fraction
        share = Fraction(wanted).limit_denominator(MOST_PARTS) or Fraction(1, round(1 / wanted))
        parts = assign_folds(prepared.targets, prepared.digests, share.denominator, recipe.seed, prepared.units(recipe.folds.k))
        aside = parts < share.numerator
    if not aside.any() or aside.all():
        what = "all drawings would be" if aside.any() else "no drawing would be"
        raise DataError(
            f"{prepared.read.dataset.root}: {what} set aside, expected some to set aside and some to search on. "
            "Add drawings or groups, or change tune.judge_fraction or folds.split."
        )
    return aside


def _folds_of(recipe: Recipe, prepared: Prepared, rest: Bool[np.ndarray, " n"]) -> Folds:
    """Divide the drawings that are searched on; `holdout` holds out one part, unless val/ is what is set aside."""
    k = recipe.folds.k
    parts = assign_folds(prepared.targets[rest], prepared.digests[rest], k, recipe.seed, prepared.units(k)[rest])
    single = recipe.folds.split == "holdout" and prepared.read.dataset.train.given_val is None
    held_out = np.stack([parts == fold for fold in range(1 if single else k)])
    folds = prepared.copies.select(rest).leave_out(held_out, k, prepared.targets[rest])
    if recipe.folds.is_partial:
        folds = folds.first(recipe.folds.held_out_parts)
    empty = [fold for fold in range(len(folds)) if not (folds.held_out[fold].any() and folds.trained_on[fold].any())]
    if empty:
        raise DataError(
            f"{prepared.read.dataset.root}: of {len(parts)} drawings to search on, fold {empty[0]} of {k} would hold out none "
            "or all. Add drawings or groups, or lower folds.k or tune.judge_fraction."
        )
    return folds


def _features_key(recipe: Recipe) -> str:
    """Digest everything in a recipe that decides which features it needs."""
    dumped = recipe.model_dump(mode="json")
    return key_digest(
        {name: dumped[name] for name in ("image", "backbone", "curriculum", "seed")} | {"epochs": recipe.train_head.epochs}
    )


def _only(training_set: "TrainingSet", rows: Bool[np.ndarray, " n"]) -> "TrainingSet":
    """Keep only some rows of everything but the folds, which have only these rows already."""
    augmented = training_set.augmented
    if augmented is not None:
        features_of = augmented.features
        augmented = replace(augmented, features=lambda epoch: features_of(epoch)[rows])
    return replace(training_set, features=training_set.features[rows], targets=training_set.targets[rows], augmented=augmented)
