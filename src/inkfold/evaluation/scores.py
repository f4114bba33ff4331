"""The metrics that a recipe can name, computed from sums over drawings.

Every metric is a function of sums of a few numbers per drawing, so that one resampling of drawings, or of groups of them, gives
the interval and the paired test of any metric. Definitions are scikit-learn's where it has them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int64

from inkfold.config.metric import k_of, metric_name
from inkfold.errors import PredictionError, RecipeError
from inkfold.evaluation.metrics import SIGNIFICANT, measure
from inkfold.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from scipy.sparse import csr_array

RESAMPLES = 2000
RESAMPLED_AT_ONCE = 8 << 20  # counts of drawings or groups that are in memory together
DIGITS = 6
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that says how good predictions are.

    Attributes:
        name: Its name as `config.metric.metric_name` writes it.
        ranks: Place of each class in the classes' order, from 0, by class id; None for metrics that need no order.
    """

    name: str = "accuracy"
    ranks: tuple[int, ...] | None = None

    @property
    def title(self) -> str:
        """The name as tables show it."""
        return self.name.replace("_", " ").replace("macro f1", "macro F1").replace("map at ", "MAP@").replace("top ", "top-")

    @property
    def k(self) -> int | None:
        """Number of classes that a drawing's answer may name; None for metrics of one answer, and of probabilities."""
        return k_of(self.name)

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater value is the better one; `signed` makes it so for all metrics."""
        return self.name != "log_loss"

    @property
    def is_accuracy(self) -> bool:
        """Whether it is the accuracy, which every run gives anyway."""
        return self.name == "accuracy"

    def as_json(self) -> dict[str, Any]:
        """Return the entry `metric` of `metrics.json`, from which `of_run` rebuilds it; nothing for accuracy."""
        if self.is_accuracy:
            return {}
        order = {} if self.ranks is None else {"ranks": list(self.ranks)}
        return {"metric": {"name": self.name, "title": self.title, "greater_is_better": self.greater_is_better, **order}}

    @classmethod
    def of_run(cls, metrics: Mapping[str, Any]) -> "Metric":
        """Rebuild the metric of a run or an ensemble.

        Args:
            metrics: Content of its `metrics.json`; runs that don't name a metric are measured by accuracy.

        Raises:
            PredictionError: If it names a metric that isn't known.
        """
        entry = metrics.get("metric") or {"name": ACCURACY.name}
        try:
            name = metric_name(entry["name"])
            ranks = None if entry.get("ranks") is None else tuple(map(int, entry["ranks"]))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise PredictionError(f"metrics.json: metric is not one that is known: {error}. Train again.") from None
        return cls(name, ranks)

    def signed(self, value: float) -> float:
        """Turn a value into one that is greater where predictions are better."""
        return value if self.greater_is_better else -value

    def score(
        self,
        probs: Float[np.ndarray, "n classes"],
        targets: Int64[np.ndarray, " n"],
        preds: Int64[np.ndarray, " n"] | None = None,
    ) -> float:
        """Compute the metric.

        Args:
            probs: Class probabilities; rows sum to 1.
            targets: True class id of each drawing; at least one drawing.
            preds: The class that each drawing is given; None takes the most probable one.

        Returns:
            The metric's value.
        """
        return float(self.value(self.statistics(probs, targets, preds).sum(0)[None])[0])

    def statistics(
        self,
        probs: Float[np.ndarray, "n classes"],
        targets: Int64[np.ndarray, " n"],
        preds: Int64[np.ndarray, " n"] | None = None,
    ) -> "csr_array":
        """Compute the numbers of each drawing, whose sums the metric is a function of; see `score` for the arguments.

        Returns:
            A sparse array with a row for each drawing.
        """
        from scipy.sparse import csr_array  # noqa: PLC0415 - 100 ms

        preds = probs.argmax(1) if preds is None else preds
        columns, values, width = _SUMS[_family(self.name)](self, probs, targets, preds)
        n = len(targets)
        rows = np.repeat(np.arange(n), columns.shape[1])
        return csr_array((values.ravel(), (rows, columns.ravel())), shape=(n, width))

    def value(self, sums: Float[np.ndarray, "b sums"]) -> Float[np.ndarray, " b"]:
        """Compute the metric of several sets of drawings.

        Args:
            sums: For each set, the sum of its drawings' `statistics`.

        Returns:
            The value of each set.
        """
        return _VALUES[_family(self.name)](np.asarray(sums, np.float64))


ACCURACY = Metric()


def build_metric(
    name: str,
    class_names: Sequence[str],
    class_targets: Int64[np.ndarray, " classes"] | None = None,
    *,
    numbered: bool = False,
) -> Metric:
    """Build a metric for the classes of some data.

    Args:
        name: The metric's name, as `config.metric.metric_name` writes it.
        class_names: Name of each class, by class id.
        class_targets: Number of each class in the data's tables, by class id; None counts from 0.
        numbered: Whether these numbers are the data's own, so that they put the classes in an order.

    Returns:
        The metric; `quadratic_kappa` has the classes' order: by the number in each name, else by the data's own class numbers.

    Raises:
        RecipeError: If the metric says nothing about these classes: there are too few for its K, or they have no order.
    """
    k = k_of(name)
    if name.startswith("top_") and k is not None and k >= len(class_names):
        raise RecipeError(
            f"metric: {name} is 1 whatever is answered, as there are {len(class_names)} classes. Take a smaller K, such as "
            f"metric=top_{max(1, len(class_names) - 1)}."
        )
    if name != "quadratic_kappa":
        return Metric(name)
    keys = _numbers_of_names(class_names)
    if keys is None and numbered and class_targets is not None:
        keys = class_targets.astype(float).tolist()
    if keys is None:
        shown = ", ".join(map(repr, class_names[:5])) + (", ..." if len(class_names) > 5 else "")
        raise RecipeError(
            f"metric: quadratic_kappa is for classes in an order, such as grades, and these have none: {shown}. Give each "
            "class's name its number (0_mild, 1_severe), or the table a column of class numbers (data.target_column)."
        )
    return Metric(name, tuple(int(rank) for rank in np.argsort(np.argsort(np.array(keys), kind="stable"), kind="stable")))


def _numbers_of_names(names: Sequence[str]) -> list[float] | None:
    """The first number in each class's name; None where a name has none, or two have the same."""
    matches = [_NUMBER.search(name) for name in names]
    numbers = [float(match[0]) for match in matches if match is not None]
    return numbers if len({*numbers}) == len(names) else None


def true_ranks(probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Count, for each drawing, the classes that come before the true one: more probable, or as probable with a lower id.

    This is `argmax`'s rule of ties. scikit-learn's `top_k_accuracy_score` prefers the higher id; without ties both are equal.
    """
    of_true = probs[np.arange(len(targets)), targets][:, None]
    tied_before = (probs == of_true) & (np.arange(probs.shape[1]) < targets[:, None])
    ranks: np.ndarray = ((probs > of_true) | tied_before).sum(1)
    return ranks


_Sums = tuple[np.ndarray, np.ndarray, int]  # of each drawing: columns and values, (n, few); and the number of columns


def _mean_of(values: np.ndarray) -> _Sums:
    n = len(values)
    return np.tile([0, 1], (n, 1)), np.stack([np.ones(n), values], axis=1), 2


def _right(metric: Metric, probs: np.ndarray, targets: np.ndarray, preds: np.ndarray) -> _Sums:
    return _mean_of(preds == targets)


def _in_top_k(metric: Metric, probs: np.ndarray, targets: np.ndarray, preds: np.ndarray) -> _Sums:
    assert metric.k is not None
    return _mean_of(true_ranks(probs, targets) < metric.k)


def _reciprocal_rank(metric: Metric, probs: np.ndarray, targets: np.ndarray, preds: np.ndarray) -> _Sums:
    assert metric.k is not None
    ranks = true_ranks(probs, targets)
    return _mean_of(np.where(ranks < metric.k, 1 / (1 + ranks), 0.0))


def _loss(metric: Metric, probs: np.ndarray, targets: np.ndarray, preds: np.ndarray) -> _Sums:
    eps = np.finfo(probs.dtype).eps  # scikit-learn's, which depends on the precision too
    return _mean_of(-np.log(np.clip(probs[np.arange(len(targets)), targets], eps, 1 - eps).astype(np.float64)))


def _of_classes(metric: Metric, probs: np.ndarray, targets: np.ndarray, preds: np.ndarray) -> _Sums:
    """Count the drawings of each class, those predicted as it, and those of both."""
    k = probs.shape[1]
    columns = np.stack([targets, k + preds, 2 * k + targets], axis=1)
    return columns, np.stack([np.ones(len(targets)), np.ones(len(targets)), preds == targets], axis=1), 3 * k


def _of_order(metric: Metric, probs: np.ndarray, targets: np.ndarray, preds: np.ndarray) -> _Sums:
    """Sum up places in the order, true and predicted, and their squares."""
    assert metric.ranks is not None
    ranks = np.array(metric.ranks, np.float64)
    true, predicted = ranks[targets], ranks[preds]
    values = np.stack([np.ones(len(true)), true, predicted, true**2, predicted**2, (true - predicted) ** 2], axis=1)
    return np.tile(np.arange(6), (len(true), 1)), values, 6


def _mean(sums: np.ndarray) -> np.ndarray:
    values: np.ndarray = sums[:, 1] / sums[:, 0]
    return values


def _balanced_accuracy(sums: np.ndarray) -> np.ndarray:
    counts, _, hits = np.split(sums, 3, axis=1)
    occurs = counts > 0
    values: np.ndarray = np.divide(hits, counts, out=np.zeros_like(hits), where=occurs).sum(1) / occurs.sum(1)
    return values


def _macro_f1(sums: np.ndarray) -> np.ndarray:
    counts, predicted, hits = np.split(sums, 3, axis=1)
    both = counts + predicted
    occurs = both > 0  # truly or as an answer: scikit-learn's labels where none are named
    values: np.ndarray = np.divide(2 * hits, both, out=np.zeros_like(hits), where=occurs).sum(1) / occurs.sum(1)
    return values


def _quadratic_kappa(sums: np.ndarray) -> np.ndarray:
    n, true, predicted, true_squared, predicted_squared, observed = sums.T
    expected = true_squared + predicted_squared - 2 * true * predicted / n
    # 0 where all drawings are of one class and get it: no agreement beyond chance can be seen (undefined in scikit-learn)
    is_defined = expected > 1e-9 * n
    values: np.ndarray = np.where(is_defined, 1 - observed / np.where(is_defined, expected, 1.0), 0.0)
    return values


_SUMS: Mapping[str, Callable[[Metric, np.ndarray, np.ndarray, np.ndarray], _Sums]] = {
    "accuracy": _right,
    "balanced_accuracy": _of_classes,
    "macro_f1": _of_classes,
    "top": _in_top_k,
    "map_at": _reciprocal_rank,
    "log_loss": _loss,
    "quadratic_kappa": _of_order,
}
_VALUES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": _mean,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "top": _mean,
    "map_at": _mean,
    "log_loss": _mean,
    "quadratic_kappa": _quadratic_kappa,
}


def _family(name: str) -> str:
    return name if k_of(name) is None else name.rpartition("_")[0]


def resampled_scores(
    metric: Metric, statistics: "csr_array", groups: Int64[np.ndarray, " n"] | None = None, seed: int = 0
) -> Float[np.ndarray, " resamples"]:
    """Compute a metric on bootstrap samples of drawings, or of whole groups of them.

    Calls with the same number of groups and the same seed draw the same samples, so that the scores of two classifiers on the
    same drawings can be subtracted.

    Args:
        metric: The metric.
        statistics: Of each drawing, as `Metric.statistics` returns them.
        groups: Number of each drawing's group; None resamples drawings.
        seed: Seed of the random draws.

    Returns:
        The metric of 2000 samples.

    Source: Efron, Ann. Stat. 7 (1979); of clusters: Field and Welsh, J. R. Stat. Soc. B 69 (2007).
    """
    from scipy.sparse import csr_array  # noqa: PLC0415 - 100 ms

    if groups is not None:
        members = np.unique(groups, return_inverse=True)[1]
        n = len(members)
        statistics = csr_array((np.ones(n), (members, np.arange(n))), shape=(members.max() + 1, n)) @ statistics
    units = statistics.shape[0]
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 6])))
    step, scores = max(1, RESAMPLED_AT_ONCE // units), list[np.ndarray]()
    for start in range(0, RESAMPLES, step):
        draws = rng.integers(0, units, (min(step, RESAMPLES - start), units))
        counts = np.stack([np.bincount(drawn, minlength=units) for drawn in draws])
        scores.append(metric.value(counts @ statistics))
    return np.concatenate(scores)


def score_interval(metric: Metric, value: float, resampled: Float[np.ndarray, " resamples"]) -> list[float]:
    """Give the 95 % interval of a score from its bootstrap samples.

    It is the percentile interval. Macro F1 is lower in samples than in what they are drawn from, as samples lack some drawings
    of small classes, so its interval is corrected for that bias: at 372 drawings of 28 classes it held the true value in 94 %
    of simulations instead of 83 %.

    Args:
        metric: The metric.
        value: The score of the drawings as they are.
        resampled: The score of each bootstrap sample.

    Source: Efron, "Nonparametric standard errors and confidence intervals", Can. J. Stat. 9 (1981).
    """
    levels = np.array([0.025, 0.975])
    if metric.name == "macro_f1":
        from scipy.special import ndtr, ndtri  # noqa: PLC0415 - 200 ms

        below = ((resampled < value).mean() + (resampled <= value).mean()) / 2
        levels = ndtr(2 * ndtri(np.clip(below, 1 / len(resampled), 1 - 1 / len(resampled))) + ndtri(levels))
    return [_rounded(bound) for bound in np.percentile(resampled, 100 * levels)]


def metric_figures(
    metric: Metric,
    probs: Float[np.ndarray, "n classes"],
    targets: Int64[np.ndarray, " n"],
    preds: Int64[np.ndarray, " n"] | None = None,
    groups: Int64[np.ndarray, " n"] | None = None,
) -> dict[str, Any]:
    """Measure predictions by a metric, with its 95 % interval.

    Args:
        metric: The metric.
        probs: Class probabilities; rows sum to 1.
        targets: True class id of each drawing.
        preds: The class that each drawing is given; None takes the most probable one.
        groups: Number of each drawing's group; None takes each drawing by itself.

    Returns:
        JSON values: `name`, `value`, `ci95` (see `score_interval`) and `greater_is_better`.
    """
    statistics = metric.statistics(probs, targets, preds)
    value = float(metric.value(statistics.sum(0)[None])[0])
    return {
        "name": metric.name,
        "value": _rounded(value),
        "ci95": score_interval(metric, value, resampled_scores(metric, statistics, groups)),
        "greater_is_better": metric.greater_is_better,
    }


def measure_by(metric: Metric, predictions: Predictions, *, per_class: bool = False) -> dict[str, Any]:
    """Measure predictions by the usual figures, and by a metric.

    Args:
        metric: The metric; accuracy adds nothing to the usual figures.
        predictions: Predictions with true classes.
        per_class: Whether recall and precision of each class are given.

    Returns:
        JSON values as `metrics.measure` returns them, with `metric` as `metric_figures` returns it.
    """
    probs, targets = predictions.probs, predictions.targets
    assert targets is not None
    figures = measure(probs, targets, predictions.class_names if per_class else None, predictions.preds)
    if metric.is_accuracy:
        return figures
    return {"metric": metric_figures(metric, probs, targets, predictions.preds, predictions.groups), **figures}


def compare_by(metric: Metric, first: Predictions, second: Predictions) -> dict[str, Any]:
    """Compare two classifiers by a metric.

    Args:
        metric: The metric.
        first: Predictions with true classes, by the first classifier; its groups are resampled.
        second: Predictions of the same drawings in the same order.

    Returns:
        JSON values: the metric's `name`, `first_value`, `second_value`, and those of `paired_scores`.
    """
    assert first.targets is not None
    statistics = [metric.statistics(one.probs, first.targets, one.preds) for one in (first, second)]
    scores = [_rounded(metric.value(own.sum(0)[None])[0]) for own in statistics]
    comparison = paired_scores(metric, *statistics, first.groups)
    return {"name": metric.name, "first_value": scores[0], "second_value": scores[1], **comparison}


def paired_scores(
    metric: Metric, first: "csr_array", second: "csr_array", groups: Int64[np.ndarray, " n"] | None = None
) -> dict[str, Any]:
    """Compare two classifiers on the same drawings by a metric, by a paired bootstrap.

    Args:
        metric: The metric.
        first: The first classifier's `Metric.statistics`.
        second: The second one's, of the same drawings in the same order.
        groups: Number of each drawing's group; None takes each drawing by itself.

    Returns:
        JSON values as `metrics.paired_difference` returns them: `difference` (second minus first, in the metric's own
        direction), `difference_ci95`, `p_value`, and `distinguishable`, whether the p-value is below 0.05.

    Source: the p-value by the share of samples beyond 0: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), 15.
    """
    values = [metric.value(statistics.sum(0)[None])[0] for statistics in (first, second)]
    resampled = [resampled_scores(metric, statistics, groups) for statistics in (first, second)]
    return score_difference(values[1] - values[0], resampled[1] - resampled[0])


def score_difference(difference: float, resampled: Float[np.ndarray, " resamples"]) -> dict[str, Any]:
    """Give the interval and the p-value of a difference of scores; see `paired_scores`.

    Args:
        difference: Of the drawings as they are.
        resampled: Of each bootstrap sample.
    """
    beyond = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
    p_value = min(1.0, 2 * (beyond + 1) / (len(resampled) + 1))
    return {
        "difference": _rounded(difference),
        "difference_ci95": [_rounded(bound) for bound in np.percentile(resampled, (2.5, 97.5))],
        "p_value": p_value,
        "distinguishable": p_value < SIGNIFICANT,
    }


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)
