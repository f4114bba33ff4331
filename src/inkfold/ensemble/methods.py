"""Ways to vote, judged honestly: each one's figure comes from drawings that it was not fitted on.

Votes without anything to fit are simply applied to out-of-fold predictions. Weights, selections, temperatures and stacking
are fitted on all second-level parts but one and judged on that one. The parts are the folds in which drawings were held out,
so drawings that belong together stay together.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int64

from inkfold.config.sections import TieRule, VoteSettings
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
from inkfold.evaluation.metrics import bootstrap_interval, paired_difference, wilson_interval

Method = Literal["soft", "hard", "geometric", "rank", "weighted", "greedy", "stack"]
METHODS: tuple[Method, ...] = ("soft", "hard", "geometric", "rank", "weighted", "greedy", "stack")  # the simplest first
FITTED = ("weighted", "greedy", "stack")
EXPECTED = {  # of what is read back
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
    """One way to pool members.

    Attributes:
        method: How.
        calibrated: Whether each member's temperature is fitted first.
        ties: Of hard votes.
        seed: Of greedy selection's bags.
    """

    method: Method
    calibrated: bool = False
    ties: TieRule = TIES
    seed: int = 0

    @property
    def name(self) -> str:
        """For tables; it tells hard votes with different tie rules apart."""
        ties = " (ties: mean probability)" if self.method == "hard" and self.ties == "mean_probability" else ""
        return f"{'calibrated ' if self.calibrated else ''}{self.method}{ties}"

    @property
    def is_fitted(self) -> bool:
        """Whether it has anything to fit."""
        return self.calibrated or self.method in FITTED


@dataclass(frozen=True, slots=True)
class FittedMethod:
    """A way with what was fitted.

    Attributes:
        way: Which.
        temperatures: Of each member; None without calibration.
        weights: Of each member; None weighs all alike.
        bias: Of each class, for `stack`.
    """

    way: VotingMethod
    temperatures: Float[np.ndarray, " members"] | None = None
    weights: Float[np.ndarray, " members"] | None = None
    bias: Float[np.ndarray, " classes"] | None = None

    def pool(self, members: Float[np.ndarray, "members n classes"]) -> Float[np.ndarray, "n classes"]:
        """Pool members' class probabilities.

        Args:
            members: May be memory-mapped.

        Returns:
            Probabilities or shares; rows sum to 1.

        Raises:
            PredictionError: If there are no members, or not as many members or classes as it was fitted on.
        """
        if not len(members):
            raise PredictionError("members: got none, expected one at least. Name the runs or files that vote.")
        for name, values, of, got in (
            ("temperatures", self.temperatures, "members", len(members)),
            ("weights", self.weights, "members", len(members)),
            ("bias", self.bias, "classes", members.shape[2]),
        ):
            if values is not None and len(values) != got:
                raise PredictionError(
                    f"vote: got {got} {of}, expected {len(values)}, which its {name} are of. Give it the same."
                )
        probs = np.empty(members.shape[1:])
        for start in range(0, len(probs), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            probs[part] = self._pool(members[:, part])
        return probs

    def _pool(self, members: Float[np.ndarray, "members n classes"]) -> Float[np.ndarray, "n classes"]:
        if self.temperatures is not None:
            members = np.stack([tempered(one, t) for one, t in zip(members, self.temperatures, strict=True)])
        match self.way.method:
            case "hard":
                mean = soft_vote(members) if self.way.ties == "mean_probability" else None
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
        """Give all that `from_json` needs."""
        arrays = {name: getattr(self, name) for name in ("temperatures", "weights", "bias")}
        return {
            "method": self.way.method,
            "calibrated": self.way.calibrated,
            "ties": self.way.ties,
            "seed": self.way.seed,
            **{name: None if values is None else values.tolist() for name, values in arrays.items()},
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], where: str = "vote") -> "FittedMethod":
        """Rebuild from `as_json`.

        Args:
            raw: What was read, by whomever it was written.
            where: For the error, such as the file's name.

        Returns:
            The same way with the same numbers.

        Raises:
            PredictionError: With everything that is missing, unknown or not as `as_json` writes it.
        """
        if faults := _faults(raw):
            end = "Restore the file, or vote anew."
            raise PredictionError([Problem("way", where, f"{fault}. {end}") for fault in faults])
        arrays = {name: raw[name] for name in ("temperatures", "weights", "bias")}
        return cls(
            VotingMethod(raw["method"], raw["calibrated"], raw["ties"], raw["seed"]),
            **{name: None if values is None else np.array(values, np.float64) for name, values in arrays.items()},
        )


@dataclass(frozen=True, slots=True)
class MethodScore:
    """A candidate's honest figures.

    Attributes:
        name: For tables.
        probs: Of each drawing, by what was fitted without it.
        right: Where it was right.
    """

    name: str
    probs: Float[np.ndarray, "n classes"]
    right: Bool[np.ndarray, " n"]

    def figures(self, targets: Int64[np.ndarray, " n"]) -> dict[str, Any]:
        """Give accuracy with Wilson's 95 % interval and negative log-likelihood with a bootstrap's, as JSON values."""
        own = self.probs[np.arange(len(targets)), targets]
        losses = -np.log(np.maximum(own, 1e-15))
        return {
            "accuracy": float(self.right.mean()),
            "accuracy_ci95": list(wilson_interval(int(self.right.sum()), len(self.right))),
            "nll": float(losses.mean()),
            "nll_ci95": bootstrap_interval(losses),
        }


def fit_method(
    way: VotingMethod, members: Float[np.ndarray, "members n classes"], targets: Int64[np.ndarray, " n"]
) -> FittedMethod:
    """Fit a way on out-of-fold predictions.

    Args:
        way: Which.
        members: Class probabilities of drawings that the members hadn't seen.
        targets: True class ids.

    Returns:
        The way with its numbers.

    Raises:
        PredictionError: If there is anything to fit, and no members or no drawings.
    """
    temperatures = None
    if way.calibrated:
        temperatures = np.array([fit_temperature(one, targets) for one in members])
        if way.method in FITTED:
            members = all_tempered(members, temperatures)
    match way.method:
        case "weighted":
            return FittedMethod(way, temperatures, fit_weights(members, targets))
        case "greedy":
            return FittedMethod(way, temperatures, select_greedily(members, targets, seed=way.seed))
        case "stack":
            return FittedMethod(way, temperatures, *fit_stack(members, targets))
    return FittedMethod(way, temperatures)


def score_method(
    way: VotingMethod,
    members: Float[np.ndarray, "members n classes"],
    targets: Int64[np.ndarray, " n"],
    parts: Int64[np.ndarray, " n"],
) -> MethodScore:
    """Judge a way by a second level of cross-validation; one with nothing to fit is simply applied.

    Args:
        way: Which.
        members: Class probabilities of drawings that the members hadn't seen. May be memory-mapped; of a way with something to
            fit, one copy of the other parts is held at a time.
        targets: True class ids.
        parts: The part of each drawing; two parts at least for what is fitted.

    Returns:
        Its answers, each by what was fitted on the other parts.

    Raises:
        PredictionError: If there are no members, or something is to be fitted and there are fewer than two parts.
    """
    if not way.is_fitted:
        probs = FittedMethod(way).pool(members)
    else:
        probs = np.zeros(members.shape[1:])
        for part in _second_level(parts):
            inside = parts == part
            probs[inside] = fit_method(way, members[:, ~inside], targets[~inside]).pool(members[:, inside])
    return MethodScore(way.name, probs, probs.argmax(1) == targets)


def choose(judged: Sequence[MethodScore]) -> int:
    """Take the simplest of those that can't be told from the most accurate one.

    Args:
        judged: The simplest first.

    Returns:
        Its place.

    Raises:
        PredictionError: If there is none, or there are no drawings.
    """
    if not judged:
        raise PredictionError("vote: got no way to choose from, expected one at least. Name one.")
    best = max(judged, key=lambda one: int(one.right.sum()))
    return next(i for i, one in enumerate(judged) if not paired_difference(best.right, one.right)["distinguishable"])


def compare(judged: Sequence[MethodScore]) -> list[dict[str, Any]]:
    """Test every pair.

    Args:
        judged: What is compared.

    Returns:
        For each pair its names, the difference with its interval, the p-value, and whether it can be told apart from chance.
    """
    return [
        {"first": one.name, "second": other.name, **paired_difference(one.right, other.right)}
        for i, one in enumerate(judged)
        for other in judged[i + 1 :]
    ]


def score_choice(judged: Sequence[MethodScore], parts: Int64[np.ndarray, " n"]) -> MethodScore:
    """Judge `choose`: each part is answered by the candidate that the other parts choose.

    The best of many candidates flatters itself; this doesn't, but for a little: what candidates with something to fit answer
    for the other parts, they answer after being fitted on this one too.

    Args:
        judged: The simplest first.
        parts: The part of each drawing; two parts at least.

    Returns:
        The answers of whichever was chosen.

    Raises:
        PredictionError: If there is no candidate, or there are fewer than two parts.
    """
    chosen = {
        part: judged[choose([MethodScore(one.name, one.probs[:0], one.right[parts != part]) for one in judged])]
        for part in _second_level(parts)
    }
    probs, right = np.zeros(judged[0].probs.shape), np.zeros(len(parts), bool)
    for part, one in chosen.items():
        inside = parts == part
        probs[inside], right[inside] = one.probs[inside], one.right[inside]
    return MethodScore("chosen by the other parts", probs, right)


def _second_level(parts: Int64[np.ndarray, " n"]) -> list[int]:
    """Name the parts, of which there must be two at least: one to fit on, one to judge by."""
    names: list[int] = np.unique(parts).tolist()
    if len(names) < 2:
        raise PredictionError(
            f"vote: got {len(names)} part of the drawings, expected two parts at least: a second level fits on one and judges "
            "by the other. Give out-of-fold predictions of several folds, or take a vote that needs no fitting."
        )
    return names


def _faults(raw: Any) -> list[str]:
    """Say everything that isn't as `as_json` writes it."""
    if not isinstance(raw, Mapping):
        return [f"got {_shown(raw)}, expected an object with {', '.join(EXPECTED)}"]
    faults = [f"has no '{name}'" for name in EXPECTED if name not in raw]
    faults += [f"has {_shown(name)}, expected only {', '.join(EXPECTED)}" for name in raw if name not in EXPECTED]
    if faults:
        return faults
    method, temperatures, weights, bias = (raw[name] for name in ("method", "temperatures", "weights", "bias"))
    sound = {
        "method": method in METHODS,
        "calibrated": isinstance(raw["calibrated"], bool),
        "ties": raw["ties"] in get_args(TieRule),
        "seed": type(raw["seed"]) is int and raw["seed"] >= 0,
        "temperatures": _are_temperatures(temperatures) if raw["calibrated"] is True else temperatures is None,
        "weights": _are_weights(weights, method) if method in FITTED else weights is None,
        "bias": _are_numbers(bias) if method == "stack" else bias is None,
    }
    faults = [f"{name}: got {_shown(raw[name])}, expected {EXPECTED[name]}" for name, ok in sound.items() if not ok]
    if not faults and temperatures and weights and len(temperatures) != len(weights):
        faults.append(f"weights: got {len(weights)}, expected {len(temperatures)}, as many as temperatures")
    return faults


def _are_temperatures(values: Any) -> bool:
    return _are_numbers(values) and TEMPERATURE_RANGE[0] <= min(values) <= max(values) <= TEMPERATURE_RANGE[1]


def _are_weights(values: Any, method: str) -> bool:
    return _are_numbers(values) and (method == "stack" or (min(values) >= 0 and any(values)))


def _are_numbers(values: Any) -> bool:
    greatest = sys.float_info.max  # neither infinity nor NaN nor an integer that no float holds is within it
    return isinstance(values, list) and bool(values) and all(type(v) in (int, float) and abs(v) <= greatest for v in values)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= GOT_SHOWN else f"{text[:GOT_SHOWN]} ..."
