"""The choice of a voting method by the members' out-of-fold predictions, and the files that document it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int64

from inkfold.config.sections import VoteSettings
from inkfold.ensemble.diversity import measure_diversity
from inkfold.ensemble.members import AlignedMembers
from inkfold.ensemble.methods import (
    FITTED,
    METHODS,
    FittedMethod,
    MethodScore,
    VotingMethod,
    choose,
    compare,
    fit_method,
    score_choice,
    score_method,
)
from inkfold.ensemble.metric_score import MetricScore, metric_pairs
from inkfold.ensemble.model import single_precision
from inkfold.ensemble.submission import SubmissionFormat
from inkfold.ensemble.voting import nested_vote
from inkfold.errors import PredictionError
from inkfold.evaluation.decision import Decision, DecisionChoice, choose_decision
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.score_figures import measure_by
from inkfold.evaluation.scores import ACCURACY, Metric
from inkfold.pipeline.run_files import METRICS, OUT_OF_FOLD, SUBMISSION, SUBMISSION_FORM, TEST, VOTE
from inkfold.pipeline.seen import measure_seen
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.files import write_json

log = logging.getLogger("inkfold.ensemble")

NOT_ESTIMATED = (
    "How the folds of one model vote, soft or hard, can't be judged out of fold: each drawing was held out from one fold only."
)
NO_OUT_OF_FOLD = (
    "Not all members have out-of-fold predictions, so no vote could be judged by them, and none was chosen or fitted."
)
NOT_DISTINGUISHABLE = "not distinguishable"


@dataclass(frozen=True, slots=True)
class Selection:
    """The scores of members and voting methods, and the method that was chosen.

    Attributes:
        member_scores: Each member alone; empty without out-of-fold predictions.
        method_scores: Each voting method, scored on drawings that it was not fitted on; likewise.
        fitted: Each method, fitted on all out-of-fold predictions; without them, the methods that have nothing to fit.
        chosen: Index of the method that the ensemble uses.
        choice: Score of choosing: each part predicted by the method that the other parts chose; None where the recipe names
            the method.
        metric: What methods are chosen and measured by.
        decision: The rule that turns the chosen method's probabilities into answers, and what it gains.
    """

    member_scores: tuple[MethodScore, ...]
    method_scores: tuple[MethodScore, ...]
    fitted: tuple[FittedMethod, ...]
    chosen: int
    choice: MethodScore | None = None
    metric: Metric = ACCURACY
    decision: DecisionChoice = field(default_factory=DecisionChoice)

    @property
    def taken(self) -> FittedMethod:
        """The method that the ensemble uses."""
        return self.fitted[self.chosen]


@dataclass(frozen=True, slots=True)
class DataSummary:
    """Counts and split of the data that the members were trained on.

    Attributes:
        n_train: Number of training drawings that the members were trained on.
        skipped: Number of drawings left out as broken, by table (`train`, `test`).
        split: `holdout` where only one part of the training drawings was held out.
        blank: Number of drawings without ink: training drawings that were left out, and test drawings.
        of_parts: Into how many parts the drawings are divided, where members held out only the first ones; else None.
    """

    n_train: int
    skipped: Mapping[str, int]
    split: Literal["kfold", "holdout"]
    blank: Mapping[str, int] = field(default_factory=lambda: {"train": 0, "test": 0})
    of_parts: int | None = None

    @property
    def is_partial(self) -> bool:
        """Whether some of the training drawings were held out by no member."""
        return self.split == "holdout" or self.of_parts is not None


def refuse_unfit(aligned: AlignedMembers, vote_recipe: VoteSettings) -> None:
    """Refuse a voting method that needs out-of-fold predictions where some members have none.

    Args:
        aligned: All members' predictions; `out_of_fold` is None where some member has none.
        vote_recipe: The voting method, and whether members are calibrated first.

    Raises:
        PredictionError: If the method has something to fit, and not all members have out-of-fold predictions.
    """
    if aligned.out_of_fold is None and (vote_recipe.method in FITTED or vote_recipe.calibrate):
        raise PredictionError(
            f"vote: {vote_recipe.method}{' calibrated' if vote_recipe.calibrate else ''} is fitted on out-of-fold predictions, "
            "which not all members have. Take soft, hard, geometric or rank, or give the members' out-of-fold predictions."
        )


def select_vote(
    aligned: AlignedMembers,
    vote_recipe: VoteSettings,
    seed: int = 0,
    progress: Progress = silent,
    metric: Metric = ACCURACY,
) -> Selection:
    """Score every voting method, and fit the one that the recipe names or that is chosen.

    Args:
        aligned: All members' predictions; methods are scored on their out-of-fold part.
        vote_recipe: The method, or `auto`: the simplest that is not significantly less accurate than the most accurate one;
            soft where nothing can be scored.
        seed: Seed of greedy selection's random bags, at least 0.
        progress: Receives the number of methods scored so far.
        metric: What methods are chosen by.

    Raises:
        PredictionError: If the recipe names a method that is fitted, and there are no out-of-fold predictions.
    """
    refuse_unfit(aligned, vote_recipe)
    named_kind = "soft" if vote_recipe.method == "auto" else vote_recipe.method
    kinds = METHODS if vote_recipe.compare or vote_recipe.method == "auto" else (named_kind,)
    methods = [VotingMethod(kind, vote_recipe.calibrate, vote_recipe.ties, seed) for kind in kinds]
    named = kinds.index(named_kind)
    if aligned.out_of_fold is None:
        log.info("vote: %s, as not all members have out-of-fold predictions to score methods by", named_kind)
        unfitted = tuple(FittedMethod(method) for method in methods if not method.is_fitted)
        return Selection((), (), unfitted, named, metric=metric)
    member_scores = _score_members(aligned, aligned.out_of_fold, metric)
    scores, fitted = [], []
    for i, method in enumerate(methods):
        score = score_method(method, aligned.out_of_fold, aligned.targets, aligned.parts, aligned.groups)
        scores.append(score.measured_by(metric, aligned.targets, aligned.parts))
        fitted.append(fit_method(method, aligned.out_of_fold, aligned.targets))
        log.info("vote: %s has accuracy %.4f out of fold", method.name, scores[-1].right.mean())
        progress("voting methods", i + 1, len(methods))
    if vote_recipe.method != "auto":
        log.info("vote: %s, as the recipe names it", methods[named].name)
        decision = _decide(aligned, scores[named], metric)
        return Selection(member_scores, tuple(scores), tuple(fitted), named, metric=metric, decision=decision)
    chosen = choose(scores)
    log.info("vote: chose %s, the simplest that is not distinguishable from the most accurate", methods[chosen].name)
    choice, decision = score_choice(scores, aligned.parts), _decide(aligned, scores[chosen], metric)
    return Selection(member_scores, tuple(scores), tuple(fitted), chosen, choice, metric, decision)


def _score_members(
    aligned: AlignedMembers, out_of_fold: Float[np.ndarray, "members n classes"], metric: Metric
) -> tuple[MethodScore, ...]:
    """Score each member by itself, as voting methods are scored."""
    return tuple(
        MethodScore(name, probs, probs.argmax(1) == aligned.targets, aligned.groups).measured_by(
            metric, aligned.targets, aligned.parts
        )
        for name, probs in zip(aligned.names, out_of_fold, strict=True)
    )


def _decide(aligned: AlignedMembers, score: MethodScore, metric: Metric) -> DecisionChoice:
    """Fit the rule for a method's answers, and judge it by the second level's parts."""
    probs = single_precision(score.probs)
    return choose_decision(
        metric,
        Predictions(
            aligned.out_of_fold_paths, probs, aligned.class_names, aligned.targets, aligned.parts, groups=aligned.groups
        ),
    )


def write_selection(
    out: Path,
    aligned: AlignedMembers,
    selection: Selection,
    vote_recipe: VoteSettings,
    submission: SubmissionFormat,
    data: DataSummary,
) -> list[str]:
    """Write the ensemble's predictions, metrics, vote.json and submission.

    Args:
        out: The ensemble's directory; files of the same names are replaced.
        aligned: The members' predictions that `selection` was made on.
        selection: The scores of all members and methods, and the fitted method that was chosen.
        vote_recipe: The method's settings; `within` and `ties` decide how a member's folds vote on test drawings.
        submission: Columns, rows and ids of the submission.
        data: Counts and split of the members' data.

    Returns:
        The written files' names, relative to the directory.
    """
    counts = {"n_train": data.n_train, "n_test": len(aligned.test_paths), "num_classes": len(aligned.class_names)}
    metrics: dict[str, Any] = {
        "data": {**counts, "skipped": dict(data.skipped), "blank": dict(data.blank)},
        "split": data.split,
        **selection.metric.as_json(),
    }
    files = [METRICS, VOTE]
    if selection.method_scores:
        metrics |= _write_out_of_fold(out / OUT_OF_FOLD, aligned, selection, data)
        files.append(OUT_OF_FOLD)
    if aligned.test is not None:
        tested = _test_predictions(aligned, selection, vote_recipe)
        tested.save(out / TEST)
        if aligned.test_targets is not None and len(aligned.test_targets):
            metrics["test"] = measure_by(selection.metric, tested, per_class=True)
        submission.write_probs(out / SUBMISSION, aligned.test_paths, tested.probs, aligned.class_names, tested.preds)
        files += [TEST, SUBMISSION]
        if submission.form is not None:
            write_json(out / SUBMISSION_FORM, submission.form.as_json())
            files.append(SUBMISSION_FORM)
    write_json(out / METRICS, metrics)
    write_json(out / VOTE, vote_json(aligned, selection, vote_recipe))
    return files


def _test_predictions(aligned: AlignedMembers, selection: Selection, vote_recipe: VoteSettings) -> Predictions:
    """Predict the test drawings by the vote that was taken, with its rule for answers."""
    shares = single_precision(selection.taken.pool(aligned.test_members(vote_recipe.within, vote_recipe.ties)))
    rule = selection.decision.decision
    return Predictions(
        aligned.test_paths,
        shares,
        aligned.class_names,
        aligned.test_targets,
        groups=aligned.test_groups,
        digests=aligned.test_digests,
        decided=None if rule is None else rule.preds(shares),
    )


def _write_out_of_fold(path: Path, aligned: AlignedMembers, selection: Selection, data: DataSummary) -> dict[str, Any]:
    """Write the chosen method's predictions of the training drawings, and measure them."""
    probs = single_precision(selection.method_scores[selection.chosen].probs)
    held_in = _held_out_in(aligned, data)
    predictions = Predictions(
        aligned.out_of_fold_paths,
        probs,
        aligned.class_names,
        aligned.targets,
        held_in,
        seen=aligned.seen_in_pretraining,
        digests=aligned.digests,
        groups=aligned.groups,
        decided=selection.decision.preds,
    )
    predictions.save(path)
    metrics: dict[str, Any] = {"out_of_fold": measure_by(selection.metric, predictions, per_class=True)}
    if selection.decision.figures is not None:
        metrics["decision"] = selection.decision.figures
    if selection.choice is not None:
        metrics["choice"] = selection.choice.figures(aligned.targets)
    folds = np.unique(held_in).tolist()
    if data.of_parts is not None:
        metrics["parts"] = {"held_out": len(folds), "of": data.of_parts, "drawings": len(held_in)}
    metrics["folds"] = [_fold_figures(fold, predictions, held_in, selection.metric, data) for fold in folds]
    seen = measure_seen(predictions)
    return metrics if seen is None else {**metrics, "learnt_by_backbone": seen}


def _held_out_in(aligned: AlignedMembers, data: DataSummary) -> Int64[np.ndarray, " n"]:
    """Give the fold that held each drawing out: one for all of a holdout, else the second level's parts."""
    if data.of_parts is not None and aligned.held_out_in is not None:
        return aligned.held_out_in
    return np.zeros_like(aligned.parts) if data.split == "holdout" else aligned.parts


def vote_json(aligned: AlignedMembers, selection: Selection, vote_recipe: VoteSettings) -> dict[str, Any]:
    """Give the content of vote.json.

    That is the chosen method with its fitted numbers; every candidate's figures, out of fold and on test drawings of known
    class; the comparison of every pair; what can't be estimated; how the members differ.
    """
    scores = [*selection.member_scores, *selection.method_scores]
    tested, nested = _score_on_test(aligned, selection, vote_recipe), _score_nested_votes(aligned)
    candidates = [
        {
            "name": score.name,
            "kind": "member" if i < len(aligned.names) else "vote",
            **(scores[i].figures(aligned.targets) if scores else {}),
            **({"test": tested[i].figures(_test_targets(aligned))} if tested else {}),
        }
        for i, score in enumerate(scores or tested)
    ]
    content: dict[str, Any] = {
        "vote": vote_recipe.model_dump(mode="json"),
        "taken": selection.taken.method.name,
        "way": selection.taken.as_json(),
        "choice": None if selection.choice is None else selection.choice.figures(aligned.targets),
        "members": list(aligned.names),
        "n": {"out_of_fold": len(aligned.targets), "test": len(_test_targets(aligned))},
        "candidates": candidates,
        "pairs": _pairs(scores),
        "test_pairs": _pairs(tested),
        "not_estimated": NOT_ESTIMATED if scores else f"{NO_OUT_OF_FOLD} {NOT_ESTIMATED}",
        "test_nested": {score.name: score.figures(_test_targets(aligned)) for score in nested},
        "test_nested_pairs": _pairs(nested),
    }
    if not selection.metric.is_accuracy:
        content["metric_pairs"] = _metric_pairs(scores, selection)
        content["test_metric_pairs"] = _metric_pairs(tested, selection)
    if aligned.out_of_fold is not None:
        content["diversity"] = measure_diversity(
            aligned.names, aligned.out_of_fold, aligned.targets, aligned.class_names, aligned.groups
        )
    return content


def _fold_figures(
    fold: int, predictions: Predictions, held_in: np.ndarray, metric: Metric, data: DataSummary
) -> dict[str, Any]:
    inside = held_in == fold
    n_train = (data.n_train if data.is_partial else len(inside)) - int(inside.sum())
    return {"fold": fold, "n_train": n_train, **measure_by(metric, predictions.select(inside))}


def _pairs(scores: Sequence[MethodScore]) -> list[dict[str, Any]]:
    """Compare every pair, with a verdict in words."""
    return [
        {**pair, "verdict": "distinguishable" if pair["distinguishable"] else NOT_DISTINGUISHABLE} for pair in compare(scores)
    ]


def _test_targets(aligned: AlignedMembers) -> np.ndarray:
    """Give the test drawings' class ids; none where they are not known."""
    return np.empty(0, np.int64) if aligned.test is None or aligned.test_targets is None else aligned.test_targets


def _score_on_test(aligned: AlignedMembers, selection: Selection, vote_recipe: VoteSettings) -> list[MethodScore]:
    """Score every candidate on test drawings of known class: these scores are reported, and nothing is chosen by them."""
    targets = _test_targets(aligned)
    if not len(targets):
        return []
    members = aligned.test_members(vote_recipe.within, vote_recipe.ties)
    shares = [*zip(aligned.names, members, strict=True)]
    shares += [(fitted.method.name, fitted.pool(members)) for fitted in selection.fitted]
    scored = [score.by_metric for score in (*selection.member_scores, *selection.method_scores)]
    rules = [None if score is None else score.rule for score in scored]
    return [
        _test_score(name, probs, aligned, selection.metric, rule)
        for (name, probs), rule in zip(shares, rules or [None] * len(shares), strict=True)
    ]


def _test_score(name: str, probs: np.ndarray, aligned: AlignedMembers, metric: Metric, rule: Decision | None) -> MethodScore:
    """Score a candidate on test drawings, by the rule that was fitted on its out-of-fold predictions."""
    targets, groups = _test_targets(aligned), aligned.test_groups
    preds = probs.argmax(1) if rule is None else rule.preds(probs)
    by_metric = None if metric.is_accuracy else MetricScore(metric, metric.statistics(probs, targets, preds), groups, rule)
    return MethodScore(name, probs, preds == targets, groups, by_metric)


def _metric_pairs(scores: Sequence[MethodScore], selection: Selection) -> list[dict[str, Any]]:
    """Compare the vote that is taken with every other candidate by the metric."""
    by_metric = [score.by_metric for score in scores if score.by_metric is not None]
    if not by_metric:
        return []
    return metric_pairs([score.name for score in scores], by_metric, selection.taken.method.name)


def _score_nested_votes(aligned: AlignedMembers) -> list[MethodScore]:
    """Score votes over folds, then models, as the reference defines them (and hard-soft too), by its tie rule."""
    targets = _test_targets(aligned)
    if not len(targets):
        return []
    assert aligned.test is not None
    scores = []
    for within in ("soft", "hard"):
        for across in ("soft", "hard"):
            shares = nested_vote(aligned.test, within, across, "lowest_id")
            scores.append(MethodScore(f"{within}-{across}", shares, shares.argmax(1) == targets, aligned.test_groups))
    return scores
