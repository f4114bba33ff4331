"""How class probabilities become one answer: the most probable class, unless another rule is better for the metric.

The rule has one or two numbers, which are fitted on out-of-fold predictions. It is judged nested: fitted on the other folds,
scored on the fold that was left out; and used only where that is better than the most probable class.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Float, Int64

from inkfold.errors import PredictionError
from inkfold.evaluation.paired import compare_figures
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.score_figures import metric_figures
from inkfold.evaluation.scores import Metric

log = logging.getLogger("inkfold.evaluation")

PRIOR_METRICS = ("balanced_accuracy", "macro_f1")
EXPONENTS = tuple(sorted((i / 8 for i in range(-8, 13)), key=abs))  # -1 to 1.5; below 0 for heads trained on balanced classes
SCALES = tuple(1 + i / 10 for i in range(11))
SHIFTS = tuple(i / 10 for i in (0, -1, 1, -2, 2, -3, 3, -4, 4, -5, 5))
PARTS = 5  # where the folds are but one


@final
@dataclass(frozen=True, slots=True)
class Decision:
    """A rule that turns class probabilities into one answer.

    Attributes:
        kind: `weighted`: the class whose probability times its weight is greatest. `expected_place`: of classes in an order,
            the one whose place is nearest to `scale` times the expected place plus `offset`.
        numbers: Weight of each class, by class id; or the place of each class in the order, from 0.
        scale: Factor of the expected place; 1 for `weighted`.
        offset: Added to the expected place, in places; 0 for `weighted`.

    Sources: weights by class shares: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021. Expected place: the
    Bayes rule of quadratic loss; Frank and Hall, "A simple approach to ordinal classification", ECML 2001, for the setting.
    """

    kind: Literal["weighted", "expected_place"]
    numbers: tuple[float, ...]
    scale: float = 1.0
    offset: float = 0.0

    def preds(self, probs: Float[np.ndarray, "n classes"]) -> Int64[np.ndarray, " n"]:
        """Decide on one class for each drawing.

        Args:
            probs: Class probabilities; rows sum to 1. A row of NaN gets any class.

        Returns:
            Class ids.
        """
        numbers = np.array(self.numbers)
        if self.kind == "weighted":
            preds: np.ndarray = (probs * numbers).argmax(1)
            return preds
        places = np.nan_to_num(probs.astype(np.float64) @ numbers * self.scale + self.offset)
        class_at = np.argsort(numbers)
        answers: np.ndarray = class_at[np.clip(np.floor(places + 0.5), 0, len(numbers) - 1).astype(np.int64)]
        return answers

    def as_json(self) -> dict[str, Any]:
        """Return the rule as JSON values, from which `from_json` rebuilds it."""
        return {"kind": self.kind, "numbers": list(self.numbers), "scale": self.scale, "offset": self.offset}

    @classmethod
    def from_json(cls, raw: Any, num_classes: int, where: str) -> "Decision":
        """Rebuild a rule from the values of `as_json`.

        Args:
            raw: JSON values of any origin; they are checked.
            num_classes: Number of classes that it must be for.
            where: What the error message calls the source, such as the file's name.

        Raises:
            PredictionError: If it is no rule for so many classes.
        """
        values = raw if isinstance(raw, Mapping) else {}
        numbers, scale, offset = (values.get(name) for name in ("numbers", "scale", "offset"))
        all_numbers = [*(numbers if isinstance(numbers, list) else []), scale, offset]
        sound = (
            values.get("kind") in ("weighted", "expected_place")
            and len(all_numbers) == num_classes + 2
            and all(type(value) in (int, float) and np.isfinite(value) for value in all_numbers)
            and (values["kind"] == "weighted" or sorted(all_numbers[:-2]) == list(range(num_classes)))
        )
        if not sound:
            raise PredictionError(
                f"{where}: decision is not a rule for {num_classes} classes. Restore the file, or train again."
            )
        return cls(values["kind"], tuple(map(float, all_numbers[:-2])), float(all_numbers[-2]), float(all_numbers[-1]))


@dataclass(frozen=True, slots=True)
class DecisionChoice:
    """Whether a rule other than the most probable class is used, and what it gains.

    Attributes:
        decision: The rule, fitted on all out-of-fold predictions; None where the most probable class is the answer.
        preds: The class that each held-out drawing is given, by a rule that was fitted on other folds; None likewise.
        figures: JSON values: whether it is `used`, the metric of the `most_probable` class and of the rule (`nested`), their
            `difference` with its 95 % interval and p-value. None for metrics that need no rule.
    """

    decision: Decision | None = None
    preds: Int64[np.ndarray, " n"] | None = None
    figures: dict[str, Any] | None = None


def choose_decision(metric: Metric, predictions: Predictions) -> DecisionChoice:
    """Fit a rule to a metric, judge it nested, and take it where it is better than the most probable class.

    Args:
        metric: What the answers are measured by. Metrics of ranks and of probabilities need no rule, and accuracy's is the most
            probable class.
        predictions: Out-of-fold predictions with true classes and folds; drawings of one group lie in one fold.

    Returns:
        The choice.
    """
    if not needs_rule(metric):
        return DecisionChoice()
    probs, targets = predictions.probs.astype(np.float64), predictions.targets
    assert targets is not None
    nested = nested_preds(metric, probs, targets, parts_of(predictions.folds, predictions.groups, len(targets)))
    usual = predictions.probs.argmax(1)
    figures = {
        "most_probable": metric_figures(metric, probs, targets, usual, predictions.groups),
        "nested": metric_figures(metric, probs, targets, nested, predictions.groups),
        **compare_figures(
            metric,
            metric.statistics(probs, targets, usual),
            metric.statistics(probs, targets, nested),
            predictions.groups,
        ),
    }
    used = answer_score(metric, targets, nested, probs) > answer_score(metric, targets, usual, probs)
    log.info(
        "%s: %s by the fitted rule, %s by the most probable class",
        metric.name,
        *(figures[key]["value"] for key in ("nested", "most_probable")),
    )
    if not used:
        return DecisionChoice(figures={"used": False, **figures})
    decision = fit_decision(metric, probs, targets)
    return DecisionChoice(decision, nested, {"used": True, "rule": _rule(decision), **figures})


def needs_rule(metric: Metric) -> bool:
    """Return whether the most probable class may not be the best answer for a metric."""
    return metric.name in PRIOR_METRICS or metric.ranks is not None


def nested_preds(
    metric: Metric,
    probs: Float[np.ndarray, "n classes"],
    targets: Int64[np.ndarray, " n"],
    parts: Int64[np.ndarray, " n"],
) -> Int64[np.ndarray, " n"]:
    """Decide on each part's drawings by a rule that was fitted on the other parts.

    Args:
        metric: What the rule is fitted to.
        probs: Class probabilities of drawings that the model was not trained on.
        targets: True class id of each drawing.
        parts: The part of each drawing, of two at least.

    Returns:
        Class ids.
    """
    preds = np.empty(len(targets), np.int64)
    for part in np.unique(parts):
        inside = parts == part
        preds[inside] = fit_decision(metric, probs[~inside], targets[~inside]).preds(probs[inside])
    return preds


def answer_score(
    metric: Metric, targets: Int64[np.ndarray, " n"], preds: Int64[np.ndarray, " n"], probs: Float[np.ndarray, "n classes"]
) -> float:
    """Score answers by a metric: greater is better, and rounded, so that summing in another order decides nothing."""
    return round(metric.signed(metric.score(probs, targets, preds)), 9)


def fit_decision(metric: Metric, probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"]) -> Decision:
    """Fit a rule to a metric.

    For balanced accuracy and macro F1, probabilities are divided by a power of the classes' shares: 0 is the most probable
    class, 1 the best rule for balanced accuracy if probabilities were exact. A weight for every class, fitted one by one, was
    less good nested: it fits chance. For the quadratic kappa, the expected place is stretched and shifted before it is rounded:
    the mean of uncertain predictions lies too near the middle.

    Args:
        metric: `balanced_accuracy`, `macro_f1`, or `quadratic_kappa` with its order.
        probs: Class probabilities of drawings that the model was not trained on.
        targets: True class id of each drawing.

    Returns:
        The best of a grid of rules; of equal ones the nearest to the most probable class.
    """
    rules = _expected_places(metric, probs) if metric.ranks is not None else _weightings(probs.shape[1], targets)
    scores = [answer_score(metric, targets, rule.preds(probs), probs) for rule in rules]
    return rules[int(np.argmax(scores))]


def _weightings(num_classes: int, targets: np.ndarray) -> list[Decision]:
    shares = np.maximum(np.bincount(targets, minlength=num_classes), 1) / len(targets)
    weights = [(shares / shares.max()) ** -exponent for exponent in EXPONENTS]
    return [Decision("weighted", tuple(values.tolist())) for values in weights]


def _expected_places(metric: Metric, probs: np.ndarray) -> list[Decision]:
    assert metric.ranks is not None
    places = tuple(map(float, metric.ranks))
    middle = float((probs.astype(np.float64) @ np.array(places)).mean())
    return [Decision("expected_place", places, scale, middle * (1 - scale) + shift) for scale in SCALES for shift in SHIFTS]


def parts_of(folds: Int64[np.ndarray, " n"] | None, groups: Int64[np.ndarray, " n"] | None, n: int) -> Int64[np.ndarray, " n"]:
    """Choose the parts that a rule is judged by: the folds, or parts of a single fold that keep groups whole.

    Args:
        folds: The fold that each drawing was held out from; None where it isn't known.
        groups: Number of each drawing's group; None where nothing is known of groups.
        n: Number of drawings, at least 1, as many as folds and groups have where these are known.
    """
    if folds is not None and len(np.unique(folds)) > 1:
        return folds
    groups = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence([0, 7]))).permutation(int(groups.max()) + 1)
    parts: np.ndarray = order[groups] % PARTS
    return parts


def _rule(decision: Decision) -> str:
    """Say a rule in words."""
    if decision.kind == "expected_place":
        return f"the expected class number, times {decision.scale:.2f} {decision.offset:+.2f}, rounded"
    return f"the most probable class after weights from {min(decision.numbers):.3g} to {max(decision.numbers):.3g} by class"
