"""The setting `metric`: the figure that runs are measured and chosen by. Its names are defined here and nowhere else.

`inkfold.evaluation.scores` computes them.
"""

import re
from collections.abc import Mapping

DEFAULT_K = 5
LARGEST_K = 1000
METRIC_NAMES: Mapping[str, str] = {
    "accuracy": "share of drawings whose class is right",
    "balanced_accuracy": "mean over the classes of the share that is right (recall)",
    "macro_f1": "mean over the classes of F1, the harmonic mean of precision and recall",
    "top_k": "share of drawings whose class is among the K most probable ones: top_3, top_5",
    "map_at_k": "mean of 1 / rank of the right class, 0 below rank K: map_at_3, map_at_5",
    "log_loss": "mean negative log-probability of the right class; lower is better",
    "quadratic_kappa": "Cohen's kappa with quadratic weights, of classes that are in an order, such as grades",
}
WITH_K = {"top_k": "top_", "map_at_k": "map_at_"}
_K_FORM = re.compile(r"(?P<name>top|map_?at|map)_?@?(?:k?\((?P<inside>[0-9]{1,9})\)|(?P<after>[0-9]{1,9})|k)", re.ASCII)


def metric_name(text: str) -> str:
    """Bring a metric's name to its one form.

    Args:
        text: A name of `METRIC_NAMES`. `top_k` and `map_at_k` are also written with their K: `top_3`, `top_k(3)`, `map_at_3`,
            `map@3`; without one, K is 5.

    Returns:
        The name, in which K is a number: `top_3`, `map_at_5`.

    Raises:
        ValueError: If there is no such metric, or K is not from 1 to 1000.
    """
    name = text.strip().lower().replace("-", "_").replace(" ", "_")
    if name in METRIC_NAMES and name not in WITH_K:
        return name
    match = _K_FORM.fullmatch(name)
    if match is None:
        raise ValueError(f"expected one of: {', '.join(METRIC_NAMES)}; with a K of your own: top_3, map_at_3")
    k = int(match["inside"] or match["after"] or DEFAULT_K)
    if not 1 <= k <= LARGEST_K:
        raise ValueError(f"expected a K of 1 to {LARGEST_K}, such as top_3 or map_at_3")
    return f"{'top_' if match['name'] == 'top' else 'map_at_'}{k}"


def k_of(name: str) -> int | None:
    """Return the K of a metric's name as `metric_name` writes it; None for a metric that has none."""
    family = next((prefix for prefix in WITH_K.values() if name.startswith(prefix)), None)
    return None if family is None else int(name.removeprefix(family))
