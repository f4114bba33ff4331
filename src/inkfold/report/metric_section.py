"""What pages show of the metric that runs are measured by, where that isn't accuracy."""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.score_figures import compare_by
from inkfold.evaluation.scores import ACCURACY, Metric
from inkfold.pipeline.run_files import RunFiles


def common_metric(runs: Sequence[RunFiles]) -> Metric:
    """Return the metric that runs are compared by: their own where it is the same for all, else accuracy."""
    metrics = [Metric.of_run(run.metrics) for run in runs]
    return metrics[0] if len({*metrics}) == 1 else ACCURACY


def metric_view(runs: Sequence[RunFiles], shared: Sequence[Predictions], letters: tuple[str, str]) -> dict[str, Any] | None:
    """Gather the values and paired tests of several runs by the metric that all of them are measured by.

    Args:
        runs: Finished runs, in the page's order.
        shared: Their predictions of the drawings that all predicted, in one order; empty where there are none.
        letters: Letters of the two runs that the page compares in detail.

    Returns:
        The view; None where the metric is accuracy, which the page shows anyway.
    """
    metric = common_metric(runs)
    if metric.is_accuracy:
        return None
    tests = [
        {**compare_by(metric, shared[i], shared[j]), "first": ascii_uppercase[i], "second": ascii_uppercase[j]}
        for i in range(len(shared))
        for j in range(i + 1, len(shared))
    ]
    return {
        **metric.as_json()["metric"],
        "values": [None if run.evaluated_part is None else run.metrics[run.evaluated_part].get("metric") for run in runs],
        "tests": tests,
        "answer": next((test for test in tests if (test["first"], test["second"]) == letters), None),
        "n": len(shared[0].probs) if shared else 0,
    }


def decision_note(run: RunFiles) -> str:
    """Say by which rule the answers are given, and what it gains; empty where that is the most probable class."""
    decision = run.metrics.get("decision")
    if decision is None:
        return ""
    title, usual, nested = run.metrics["metric"]["title"], decision["most_probable"]["value"], decision["nested"]["value"]
    if not decision["used"]:
        return f"Answers are the most probable class. A rule fitted to {title} on other drawings gave {nested:.3f}, not more."
    low, high = decision["difference_ci95"]
    return (
        f"Answers are {decision['rule']}: {title} {nested:.3f} by the rule fitted on other drawings, {usual:.3f} by the most "
        f"probable class; the difference is {decision['difference']:+.3f} ({low:+.3f} to {high:+.3f})."
    )
