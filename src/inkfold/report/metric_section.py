"""What pages show of the metric that runs are measured by, where that isn't accuracy."""

from collections.abc import Sequence

from inkfold.evaluation.scores import ACCURACY, Metric
from inkfold.pipeline.run_files import RunFiles


def common_metric(runs: Sequence[RunFiles]) -> Metric:
    """Return the metric that runs are compared by: their own where it is the same for all, else accuracy."""
    metrics = [Metric.of_run(run.metrics) for run in runs]
    return metrics[0] if len({*metrics}) == 1 else ACCURACY


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
