"""What a panel's out-of-fold predictions say of each way to vote, which way is taken, and the files that say so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inkfold.config.sections import VoteRecipe
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
from inkfold.ensemble.model import single_precision
from inkfold.ensemble.submission import SubmissionFormat
from inkfold.ensemble.voting import nested_vote
from inkfold.errors import PredictionError
from inkfold.evaluation.metrics import measure
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.results import measure_seen
from inkfold.pipeline.run_files import METRICS, OUT_OF_FOLD, SUBMISSION, TEST, VOTE
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.files import write_json

NOT_ESTIMATED = (
    "How the folds of one model vote, soft or hard, can't be judged out of fold: each drawing was held out from one fold only."
)
NO_OUT_OF_FOLD = (
    "Not all members have out-of-fold predictions, so no vote could be judged by them, and none was chosen or fitted."
)
NOT_DISTINGUISHABLE = "not distinguishable"


@dataclass(frozen=True, slots=True)
class Selection:
    """What was found.

    Attributes:
        singles: Each member by itself; empty without out-of-fold predictions.
        ways: Each way, judged honestly; likewise.
        fitted: Each way, fitted on all out-of-fold predictions; without them those that have nothing to fit.
        chosen: The place of the way that is taken.
        choice: What choosing is worth: each part answered by the way that the other parts chose; None where nothing was chosen.
    """

    singles: tuple[MethodScore, ...]
    ways: tuple[MethodScore, ...]
    fitted: tuple[FittedMethod, ...]
    chosen: int
    choice: MethodScore | None = None

    @property
    def taken(self) -> FittedMethod:
        """The way that is taken."""
        return self.fitted[self.chosen]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the members say of their data.

    Attributes:
        n_train: Training drawings.
        skipped: Drawings that were left out as broken, by table.
        split: `holdout` where only one part was held out.
    """

    n_train: int
    skipped: Mapping[str, int]
    split: Literal["kfold", "holdout"]


def refuse_unfit(panel: AlignedMembers, how: VoteRecipe) -> None:
    """Refuse a vote that would have to be fitted on what isn't there.

    Args:
        panel: The members.
        how: The method.

    Raises:
        PredictionError: If it is fitted, and not all members have out-of-fold predictions.
    """
    if panel.out_of_fold is None and (how.method in FITTED or how.calibrate):
        raise PredictionError(
            f"vote: {how.method}{' calibrated' if how.calibrate else ''} is fitted on out-of-fold predictions, which not all "
            "members have. Take soft, hard, geometric or rank, or give the members' out-of-fold predictions."
        )


def select_vote(panel: AlignedMembers, how: VoteRecipe, seed: int = 0, progress: Progress = silent) -> Selection:
    """Judge every way, and fit the one that is asked for.

    Args:
        panel: The members.
        how: The method, or `auto`: the simplest that can't be told from the most accurate; soft where nothing can be judged.
        seed: Of what is random in fitting.
        progress: Told of each way.

    Returns:
        All figures, and the fitted way.

    Raises:
        PredictionError: If a fitted method is asked for without out-of-fold predictions.
    """
    refuse_unfit(panel, how)
    ways = [VotingMethod(method, how.calibrate, how.ties, seed) for method in METHODS]
    asked = METHODS.index("soft" if how.method == "auto" else how.method)
    if panel.out_of_fold is None:
        return Selection((), (), tuple(FittedMethod(way) for way in ways if not way.is_fitted), asked)
    singles = tuple(
        MethodScore(name, probs, probs.argmax(1) == panel.targets)
        for name, probs in zip(panel.names, panel.out_of_fold, strict=True)
    )
    judged, fitted = [], []
    for i, way in enumerate(ways):
        judged.append(score_method(way, panel.out_of_fold, panel.targets, panel.parts))
        fitted.append(fit_method(way, panel.out_of_fold, panel.targets))
        progress("ways to vote", i + 1, len(ways))
    if how.method != "auto":
        return Selection(singles, tuple(judged), tuple(fitted), asked)
    return Selection(singles, tuple(judged), tuple(fitted), choose(judged), score_choice(judged, panel.parts))


def write_selection(
    out: Path, panel: AlignedMembers, verdict: Selection, how: VoteRecipe, form: SubmissionFormat, facts: Facts
) -> list[str]:
    """Write predictions, metrics, the vote and the submission.

    Args:
        out: The ensemble's directory.
        panel: The members.
        verdict: What was found.
        how: How the folds vote.
        form: Of the submission.
        facts: Of the members' data.

    Returns:
        The files' names below the directory.
    """
    metrics, files = _data_figures(panel, facts), [METRICS, VOTE]
    if verdict.ways:
        probs, held_in = single_precision(verdict.ways[verdict.chosen].probs), _held_in(panel, facts)
        metrics["out_of_fold"] = measure(probs, panel.targets, panel.class_names)
        if verdict.choice is not None:
            metrics["choice"] = verdict.choice.figures(panel.targets)
        metrics["folds"] = [_fold_figures(fold, probs, held_in, panel, facts) for fold in np.unique(held_in).tolist()]
        out_of_fold = Predictions(panel.out_of_fold_paths, probs, panel.class_names, panel.targets, held_in, seen=panel.learnt)
        out_of_fold.save(out / OUT_OF_FOLD)
        if (told := measure_seen(out_of_fold)) is not None:
            metrics["learnt_by_backbone"] = told
        files.append(OUT_OF_FOLD)
    if panel.test is not None:
        shares = single_precision(verdict.taken.pool(panel.test_members(how.within, how.ties)))
        Predictions(panel.test_paths, shares, panel.class_names, panel.test_targets).save(out / TEST)
        if panel.test_targets is not None and len(panel.test_targets):
            metrics["test"] = measure(shares, panel.test_targets, panel.class_names)
        form.write(out / SUBMISSION, panel.test_paths, shares.argmax(1))
        files += [TEST, SUBMISSION]
    write_json(out / METRICS, metrics)
    write_json(out / VOTE, vote_json(panel, verdict, how))
    return files


def vote_json(panel: AlignedMembers, verdict: Selection, how: VoteRecipe) -> dict[str, Any]:
    """Give all that was found as JSON values.

    Args:
        panel: The members.
        verdict: What was found.
        how: How the folds vote.

    Returns:
        The way taken with all its numbers; every candidate's figures, out of fold and on test drawings whose classes are
        known; every pair's test; what can't be told; how members differ.
    """
    judged = [*verdict.singles, *verdict.ways]
    tested, nested = _judged_on_test(panel, verdict, how), _nested_on_test(panel)
    names = [one.name for one in judged or tested]
    candidates = [
        {
            "name": name,
            "kind": "member" if i < len(panel.names) else "vote",
            **(judged[i].figures(panel.targets) if judged else {}),
            **({"test": tested[i].figures(_test_targets(panel))} if tested else {}),
        }
        for i, name in enumerate(names)
    ]
    found: dict[str, Any] = {
        "vote": how.model_dump(mode="json"),
        "taken": verdict.taken.way.name,
        "way": verdict.taken.as_json(),
        "choice": None if verdict.choice is None else verdict.choice.figures(panel.targets),
        "members": list(panel.names),
        "n": {"out_of_fold": len(panel.targets), "test": len(_test_targets(panel))},
        "candidates": candidates,
        "pairs": _pairs(judged),
        "test_pairs": _pairs(tested),
        "not_estimated": NOT_ESTIMATED if judged else f"{NO_OUT_OF_FOLD} {NOT_ESTIMATED}",
        "test_nested": {one.name: one.figures(_test_targets(panel)) for one in nested},
        "test_nested_pairs": _pairs(nested),
    }
    if panel.out_of_fold is not None:
        found["diversity"] = measure_diversity(panel.names, panel.out_of_fold, panel.targets, panel.class_names)
    return found


def _data_figures(panel: AlignedMembers, facts: Facts) -> dict[str, Any]:
    counts = {"n_train": facts.n_train, "n_test": len(panel.test_paths), "num_classes": len(panel.class_names)}
    return {"data": {**counts, "skipped": dict(facts.skipped)}, "split": facts.split}


def _held_in(panel: AlignedMembers, facts: Facts) -> np.ndarray:
    """Give the fold of each drawing: the second level's parts, but where one part alone was held out, that."""
    return np.zeros_like(panel.parts) if facts.split == "holdout" else panel.parts


def _fold_figures(fold: int, probs: np.ndarray, held_in: np.ndarray, panel: AlignedMembers, facts: Facts) -> dict[str, Any]:
    inside = held_in == fold
    n_train = (facts.n_train if facts.split == "holdout" else len(inside)) - int(inside.sum())
    return {"fold": fold, "n_train": n_train, **measure(probs[inside], panel.targets[inside])}


def _pairs(judged: Sequence[MethodScore]) -> list[dict[str, Any]]:
    """Test every pair, and say in words what can't be told apart."""
    return [
        {**pair, "verdict": "distinguishable" if pair["distinguishable"] else NOT_DISTINGUISHABLE} for pair in compare(judged)
    ]


def _test_targets(panel: AlignedMembers) -> np.ndarray:
    """Give the test drawings' classes; none where they are not known."""
    return np.empty(0, np.int64) if panel.test is None or panel.test_targets is None else panel.test_targets


def _judged_on_test(panel: AlignedMembers, verdict: Selection, how: VoteRecipe) -> list[MethodScore]:
    """Judge every candidate on the test drawings, where their classes are known: to look at, never to choose by."""
    targets = _test_targets(panel)
    if not len(targets):
        return []
    members = panel.test_members(how.within, how.ties)
    shares = [*zip(panel.names, members, strict=True), *((one.way.name, one.pool(members)) for one in verdict.fitted)]
    return [MethodScore(name, one, one.argmax(1) == targets) for name, one in shares]


def _nested_on_test(panel: AlignedMembers) -> list[MethodScore]:
    """Judge the reference's votes over folds, then models, and hard-soft beside them, by its tie rule."""
    targets = _test_targets(panel)
    if not len(targets):
        return []
    assert panel.test is not None
    found = []
    for within in ("soft", "hard"):
        for across in ("soft", "hard"):
            shares = nested_vote(panel.test, within, across)
            found.append(MethodScore(f"{within}-{across}", shares, shares.argmax(1) == targets))
    return found
