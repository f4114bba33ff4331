"""Voting methods and their honest scores: each drawing is predicted by numbers that were not fitted on it.

A method with nothing to fit is applied to the out-of-fold predictions as they are. Weights, member selections, temperatures and
stacking are cross-validated a second time: fitted on all parts of the drawings but one, and scored on that one. The parts are
the folds in which drawings were held out, so drawings that belong together stay together.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int64

from inkfold.config.sections import TieRule, VoteSettings
from inkfold.ensemble.metric_score import MetricScore, choose_by_metric, join_chosen, score_answers
from inkfold.ensemble.stacking import (
    TEMPERATURE_RANGE,
    all_tempered,
    fit_stack,
    fit_temperature,
    fit_weights,
    select_greedily,
    stacked,
    tempered,
)
from inkfold.ensemble.voting import geometric_vote, hard_vote, rank_vote, soft_vote
from inkfold.errors import PredictionError, Problem
from inkfold.evaluation.intervals import accuracy_figures
from inkfold.evaluation.metrics import bootstrap_interval
from inkfold.evaluation.paired import paired_difference
from inkfold.evaluation.scores import Metric
from inkfold.storage.scratch import scratch_array

MethodKind = Literal["soft", "hard", "geometric", "rank", "weighted", "greedy", "stack"]
METHODS: tuple[MethodKind, ...] = ("soft", "hard", "geometric", "rank", "weighted", "greedy", "stack")  # the simplest first
FITTED = ("weighted", "greedy", "stack")
ARRAYS = ("temperatures", "weights", "bias")
EXPECTED = {  # in a method that is read back from JSON
    "method": f"one of {', '.join(METHODS)}",
    "calibrated": "true or false",
    "ties": f"one of {', '.join(get_args(TieRule))}",
    "seed": "a whole number of at least 0",
    "temperatures": "numbers from {} to {} where it is calibrated, else null".format(*TEMPERATURE_RANGE),
    "weights": f"finite numbers for {', '.join(FITTED)}, not all 0 and below 0 for stack only, else null",
    "bias": "finite numbers for stack, else null",
}
TIES = VoteSettings().ties
CHUNK_ROWS = 256  # that are pooled at a time, so that no copy of all members is made
GOT_SHOWN = 60


@dataclass(frozen=True, slots=True)
class VotingMethod:
    """A method that pools the members' class probabilities into one prediction.

    Attributes:
        kind: What is averaged, counted or fitted; see docs/votes.md.
        calibrated: Whether each member's temperature is fitted before pooling.
        ties: How equal counts of a hard vote are decided; the other kinds ignore it.
        seed: Seed of greedy selection's random bags, at least 0; the other kinds ignore it.
    """

    kind: MethodKind
    calibrated: bool = False
    ties: TieRule = TIES
    seed: int = 0

    @property
    def name(self) -> str:
        """The name shown in tables; hard votes with different tie rules have different names."""
        ties = " (ties: mean probability)" if self.kind == "hard" and self.ties == "mean_probability" else ""
        return f"{'calibrated ' if self.calibrated else ''}{self.kind}{ties}"

    @property
    def is_fitted(self) -> bool:
        """Whether the method has numbers to fit."""
        return self.calibrated or self.kind in FITTED


@dataclass(frozen=True, slots=True)
class FittedMethod:
    """A voting method with the numbers that were fitted for it.

    Attributes:
        method: How members are pooled: its kind, tie rule and whether they are calibrated first.
        temperatures: Each member's temperature; None for a method that is not calibrated.
        weights: Each member's weight; None weighs all members alike.
        bias: Each class's bias, for `stack`; None for the other kinds.
    """

    method: VotingMethod
    temperatures: Float[np.ndarray, " members"] | None = None
    weights: Float[np.ndarray, " members"] | None = None
    bias: Float[np.ndarray, " classes"] | None = None

    def pool(self, members: Float[np.ndarray, "members n classes"]) -> Float[np.ndarray, "n classes"]:
        """Pool the members' class probabilities.

        Args:
            members: Class probabilities; every row sums to 1. May be memory-mapped: some rows are read at a time.

        Returns:
            Class probabilities, or shares of votes; rows sum to 1.

        Raises:
            PredictionError: If there are no members, or not as many members or classes as the method was fitted on.
        """
        if not len(members):
            raise PredictionError("members: got none, expected one at least. Name the runs or files that vote.")
        for name, values, axis, got in (
            ("temperatures", self.temperatures, "members", len(members)),
            ("weights", self.weights, "members", len(members)),
            ("bias", self.bias, "classes", members.shape[2]),
        ):
            if values is not None and len(values) != got:
                raise PredictionError(
                    f"vote: got {got} {axis}, expected {len(values)}, for which its {name} were fitted. Give it the same."
                )
        probs = scratch_array(members.shape[1:])
        for start in range(0, len(probs), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            probs[part] = self._pool(members[:, part])
        return probs

    def _pool(self, members: Float[np.ndarray, "members n classes"]) -> Float[np.ndarray, "n classes"]:
        if self.temperatures is not None:
            members = np.stack([tempered(probs, t) for probs, t in zip(members, self.temperatures, strict=True)])
        match self.method.kind:
            case "hard":
                mean = soft_vote(members) if self.method.ties == "mean_probability" else None
                return hard_vote(members.argmax(2), members.shape[2], mean)
            case "geometric":
                return geometric_vote(members)
            case "rank":
                return rank_vote(members)
            case "stack":
                assert self.weights is not None
                return stacked(members, self.weights, self.bias)
        return soft_vote(members, self.weights)

    def as_json(self) -> dict[str, Any]:
        """Give the method and its numbers as JSON values, from which `from_json` rebuilds it."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        return {
            "method": self.method.kind,
            "calibrated": self.method.calibrated,
            "ties": self.method.ties,
            "seed": self.method.seed,
            **{name: None if values is None else values.tolist() for name, values in arrays.items()},
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], where: str = "vote") -> "FittedMethod":
        """Rebuild a fitted method from the values of `as_json`.

        Args:
            raw: JSON values of any origin; they are checked.
            where: What error messages call the source, such as the file's name.

        Raises:
            PredictionError: With every key that is missing, unknown or has a value that `as_json` doesn't write.
        """
        if faults := _faults(raw):
            end = "Restore the file, or vote anew."
            raise PredictionError([Problem("method", where, f"{fault}. {end}") for fault in faults])
        arrays = {name: raw[name] for name in ARRAYS}
        return cls(
            VotingMethod(raw["method"], raw["calibrated"], raw["ties"], raw["seed"]),
            **{name: None if values is None else np.array(values, np.float64) for name, values in arrays.items()},
        )


@dataclass(frozen=True, slots=True)
class MethodScore:
    """How a member or a voting method does on labelled drawings.

    Attributes:
        name: What tables call the member or voting method; unique among those compared.
        probs: Class probabilities of each drawing, by numbers that were not fitted on it.
        right: Whether the most probable class is the true one, for each drawing.
        groups: Number of each drawing's group, whole ones of which intervals and tests resample; None where none is known.
        by_metric: What the metric says that methods are chosen by, and `right` is then of its answers; None for accuracy.
    """

    name: str
    probs: Float[np.ndarray, "n classes"]
    right: Bool[np.ndarray, " n"]
    groups: Int64[np.ndarray, " n"] | None = None
    by_metric: MetricScore | None = None

    def measured_by(self, metric: Metric, targets: Int64[np.ndarray, " n"], parts: Int64[np.ndarray, " n"]) -> "MethodScore":
        """Measure the same predictions by a metric too, with the rule for its answers.

        Args:
            metric: The metric; accuracy changes nothing.
            targets: True class id of each drawing, in the order of `probs`.
            parts: The second level's part of each drawing.
        """
        if metric.is_accuracy:
            return self
        score, preds = score_answers(metric, self.probs, targets, parts, self.groups)
        return replace(self, right=preds == targets, by_metric=score)

    def figures(self, targets: Int64[np.ndarray, " n"]) -> dict[str, Any]:
        """Measure accuracy and negative log-likelihood, each with a 95 % interval.

        Args:
            targets: True class id of each drawing, in the order of `probs`.

        Returns:
            JSON values: `accuracy`, `accuracy_ci95`, `interval` (how that was made), `nll` in nats, and `nll_ci95`; and
            `metric` where methods are chosen by another one than accuracy.
        """
        losses = -np.log(np.maximum(self.probs[np.arange(len(targets)), targets], 1e-15))
        return {
            **accuracy_figures(self.right, self.groups),
            "nll": float(losses.mean()),
            "nll_ci95": bootstrap_interval(losses, groups=self.groups),
            **({} if self.by_metric is None else {"metric": self.by_metric.figures()}),
        }


def fit_method(
    method: VotingMethod, members: Float[np.ndarray, "members n classes"], targets: Int64[np.ndarray, " n"]
) -> FittedMethod:
    """Fit a voting method's numbers on out-of-fold predictions.

    Args:
        method: The method; one with nothing to fit is returned without numbers.
        members: Class probabilities of drawings that the members were not trained on.
        targets: True class id of each drawing, in the order of the probabilities' rows.

    Raises:
        PredictionError: If there is something to fit, but there are no members or no drawings.
    """
    temperatures = None
    if method.calibrated:
        temperatures = np.array([fit_temperature(probs, targets) for probs in members])
        if method.kind in FITTED:
            members = all_tempered(members, temperatures)
    match method.kind:
        case "weighted":
            return FittedMethod(method, temperatures, fit_weights(members, targets))
        case "greedy":
            return FittedMethod(method, temperatures, select_greedily(members, targets, seed=method.seed))
        case "stack":
            return FittedMethod(method, temperatures, *fit_stack(members, targets))
    return FittedMethod(method, temperatures)


def score_method(
    method: VotingMethod,
    members: Float[np.ndarray, "members n classes"],
    targets: Int64[np.ndarray, " n"],
    parts: Int64[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"] | None = None,
) -> MethodScore:
    """Score a voting method by a second level of cross-validation; one with nothing to fit is simply applied.

    Args:
        method: How members are pooled; each part's predictions are made without its own labels.
        members: Class probabilities of drawings that the members were not trained on. May be memory-mapped; for a method with
            something to fit, one copy of the other parts is held at a time.
        targets: True class id of each drawing, in the order of the probabilities' rows.
        parts: The part that each drawing belongs to, by any number; a method with something to fit needs two parts at least.
        groups: Number of each drawing's group, for the score's intervals; None where nothing is known of groups.

    Returns:
        The method's predictions of each part, by numbers fitted on the other parts.

    Raises:
        PredictionError: If there are no members, or something is to be fitted and there are fewer than two parts.
    """
    if not method.is_fitted:
        probs = FittedMethod(method).pool(members)
    else:
        probs = scratch_array(members.shape[1:])
        for part in _second_level(parts):
            inside = parts == part
            probs[inside] = fit_method(method, members[:, ~inside], targets[~inside]).pool(members[:, inside])
    return MethodScore(method.name, probs, probs.argmax(1) == targets, groups)


def choose(scores: Sequence[MethodScore]) -> int:
    """Choose the index of the simplest candidate that is not significantly worse than the best, by accuracy or their metric.

    Args:
        scores: The candidates on the same drawings, the simplest first.

    Raises:
        PredictionError: If there are no candidates or no drawings.
    """
    if not scores:
        raise PredictionError("vote: got no method to choose from, expected one at least. Name one.")
    by_metric = [score.by_metric for score in scores if score.by_metric is not None]
    if len(by_metric) == len(scores):
        return choose_by_metric(by_metric)
    best = max(scores, key=lambda score: int(score.right.sum()))
    compared = (paired_difference(best.right, score.right, best.groups) for score in scores)
    return next(i for i, pair in enumerate(compared) if not pair["distinguishable"])


def compare(scores: Sequence[MethodScore]) -> list[dict[str, Any]]:
    """Compare the accuracy of every pair of candidates on the same drawings.

    For each pair both names, the difference with its interval, the p-value, and whether the difference is significant.
    """
    return [
        {"first": first.name, "second": second.name, **paired_difference(first.right, second.right, first.groups)}
        for i, first in enumerate(scores)
        for second in scores[i + 1 :]
    ]


def score_choice(scores: Sequence[MethodScore], parts: Int64[np.ndarray, " n"]) -> MethodScore:
    """Score `choose` itself: each part of the drawings is predicted by the candidate that the other parts choose.

    The accuracy of the best of many candidates is optimistic; this score is so only a little: the predictions by which a part's
    candidate is chosen come from numbers that were fitted on that part too.

    Args:
        scores: The candidates on the same drawings, the simplest first.
        parts: The part that each drawing belongs to; two parts at least.

    Raises:
        PredictionError: If there is no candidate, or there are fewer than two parts.
    """
    chosen = {part: scores[choose([_only(score, parts != part) for score in scores])] for part in _second_level(parts)}
    probs, right = scratch_array(scores[0].probs.shape), np.zeros(len(parts), bool)
    for part, score in chosen.items():
        inside = parts == part
        probs[inside], right[inside] = score.probs[inside], score.right[inside]
    by_metric = {part: score.by_metric for part, score in chosen.items() if score.by_metric is not None}
    joined = join_chosen(by_metric, parts) if by_metric else None
    return MethodScore("chosen by the other parts", probs, right, scores[0].groups, joined)


def _only(score: MethodScore, rows: Bool[np.ndarray, " n"]) -> MethodScore:
    """Keep of a score what `choose` needs of some drawings."""
    groups = None if score.groups is None else score.groups[rows]
    by_metric = None if score.by_metric is None else score.by_metric.select(rows)
    return MethodScore(score.name, score.probs[:0], score.right[rows], groups, by_metric)


def _second_level(parts: Int64[np.ndarray, " n"]) -> list[int]:
    """List the parts, of which there must be two at least: one to fit on, one to score on."""
    names: list[int] = np.unique(parts).tolist()
    if len(names) < 2:
        raise PredictionError(
            f"vote: got {len(names)} part of the drawings, expected two parts at least: a second level fits on one and scores "
            "on the other. Give out-of-fold predictions of several folds, or choose a vote that needs no fitting."
        )
    return names


def _faults(raw: Any) -> list[str]:
    """List everything in which JSON values differ from what `as_json` writes."""
    if not isinstance(raw, Mapping):
        return [f"got {_shown(raw)}, expected an object with {', '.join(EXPECTED)}"]
    faults = [f"has no '{name}'" for name in EXPECTED if name not in raw]
    faults += [f"has {_shown(name)}, expected only {', '.join(EXPECTED)}" for name in raw if name not in EXPECTED]
    if faults:
        return faults
    kind, temperatures, weights, bias = (raw[name] for name in ("method", *ARRAYS))
    sound = {
        "method": kind in METHODS,
        "calibrated": isinstance(raw["calibrated"], bool),
        "ties": raw["ties"] in get_args(TieRule),
        "seed": type(raw["seed"]) is int and raw["seed"] >= 0,
        "temperatures": _are_temperatures(temperatures) if raw["calibrated"] is True else temperatures is None,
        "weights": _are_weights(weights, kind) if kind in FITTED else weights is None,
        "bias": _are_numbers(bias) if kind == "stack" else bias is None,
    }
    faults = [f"{name}: got {_shown(raw[name])}, expected {EXPECTED[name]}" for name, ok in sound.items() if not ok]
    if not faults and temperatures and weights and len(temperatures) != len(weights):
        faults.append(f"weights: got {len(weights)}, expected {len(temperatures)}, as many as temperatures")
    return faults


def _are_temperatures(values: Any) -> bool:
    return _are_numbers(values) and TEMPERATURE_RANGE[0] <= min(values) <= max(values) <= TEMPERATURE_RANGE[1]


def _are_weights(values: Any, kind: str) -> bool:
    return _are_numbers(values) and (kind == "stack" or (min(values) >= 0 and any(values)))


def _are_numbers(values: Any) -> bool:
    greatest = sys.float_info.max  # neither infinity nor NaN nor an integer that no float holds is within it
    return isinstance(values, list) and bool(values) and all(type(v) in (int, float) and abs(v) <= greatest for v in values)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= GOT_SHOWN else f"{text[:GOT_SHOWN]} ..."
