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

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
RANKED_AT_ONCE = 8192  # drawings whose probabilities are compared with that of their own class


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

    @property
    def worst(self) -> float:
        """What `signed` gives predictions that are useless, such as those of a training that diverged."""
        return {"log_loss": float(np.log(np.finfo(np.float32).eps)), "quadratic_kappa": -1.0}.get(self.name, 0.0)

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
        preds = probs.argmax(1) if preds is None else preds
        columns, values, width = _SUMS[_family(self.name)](self, probs, targets, preds)
        return float(self.value(np.bincount(columns.ravel(), values.ravel(), width)))

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

    @property
    def limits(self) -> tuple[float, float] | None:
        """Lowest and highest value; None where there is none, or where resamples don't tell how near it is."""
        return None if self.name in ("log_loss", "quadratic_kappa") else (0.0, 1.0)

    def value(self, sums: Float[np.ndarray, "*batch s"]) -> Float[np.ndarray, "*batch"]:
        """Compute the metric from sums of `statistics` over drawings; for every leading index on its own."""
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


def warn_of_order(metric: Metric, class_names: Sequence[str]) -> list[str]:
    """Say in which order the classes are taken where only their numbers say it: these may be mere ids.

    Args:
        metric: The metric, as `build_metric` returns it.
        class_names: Name of each class, by class id.

    Returns:
        One warning; none for metrics without an order, and where the names have numbers.
    """
    if metric.ranks is None or _numbers_of_names(class_names) is not None:
        return []
    shown = [class_names[i] for i in np.argsort(metric.ranks)[:5].tolist()]
    return [
        f"{metric.title} takes the classes in the order of their numbers in the data: {', '.join(shown)}"
        f"{', ...' if len(class_names) > 5 else ''}. If that isn't their order, its value means nothing: number them anew."
    ]


def _numbers_of_names(names: Sequence[str]) -> list[float] | None:
    """The first number in each class's name; None where a name has none, or two have the same."""
    matches = [_NUMBER.search(name) for name in names]
    numbers = [float(match[0]) for match in matches if match is not None]
    return numbers if len({*numbers}) == len(names) else None


def true_ranks(probs: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Count, for each drawing, the classes that come before the true one: more probable, or as probable with a lower id.

    This is `argmax`'s rule of ties. scikit-learn's `top_k_accuracy_score` prefers the higher id; without ties both are equal.
    """
    ranks = np.empty(len(targets), np.int64)
    for start in range(0, len(targets), RANKED_AT_ONCE):
        rows = slice(start, start + RANKED_AT_ONCE)
        some, own = probs[rows], targets[rows][:, None]
        of_true = np.take_along_axis(some, own, 1)
        tied_before = (some == of_true) & (np.arange(some.shape[1]) < own)
        ranks[rows] = ((some > of_true) | tied_before).sum(1)
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
    values: np.ndarray = sums[..., 1] / sums[..., 0]
    return values


def _balanced_accuracy(sums: np.ndarray) -> np.ndarray:
    counts, _, hits = np.split(sums, 3, axis=-1)
    occurs = counts > 0
    values: np.ndarray = np.divide(hits, counts, out=np.zeros_like(hits), where=occurs).sum(-1) / occurs.sum(-1)
    return values


def _macro_f1(sums: np.ndarray) -> np.ndarray:
    counts, predicted, hits = np.split(sums, 3, axis=-1)
    both = counts + predicted
    occurs = both > 0  # truly or as an answer: scikit-learn's labels where none are named
    values: np.ndarray = np.divide(2 * hits, both, out=np.zeros_like(hits), where=occurs).sum(-1) / occurs.sum(-1)
    return values


def _quadratic_kappa(sums: np.ndarray) -> np.ndarray:
    n, true, predicted, true_squared, predicted_squared, observed = np.moveaxis(sums, -1, 0)
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
