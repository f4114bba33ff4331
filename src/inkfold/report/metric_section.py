"""What pages show of how answers are made: the metric they are chosen by, the test drawings' company and their class prior."""

from collections.abc import Mapping, Sequence
from typing import Any

from inkfold.evaluation.scores import ACCURACY, Metric
from inkfold.pipeline.run_files import RunFiles
from inkfold.report.html import p_equation


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


def prediction_facts(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say whether the test drawings are predicted together, and for which class prior; nothing where neither was asked for.

    Args:
        metrics: Content of a run's `metrics.json`.

    Returns:
        Pairs of a heading and a sentence.
    """
    facts = []
    if (tried := metrics.get("transductive")) is not None:
        facts.append(("label propagation", _propagation_in_words(tried)))
    if (prior := metrics.get("prior")) is not None:
        about = f"{prior['source']}; probabilities of test and new drawings are corrected for it, held-out figures are not"
        facts.append(("class prior", about))
    return facts


def _propagation_in_words(tried: Mapping[str, Any]) -> str:
    if "skipped" in tried:
        return f"not tried: {tried['reason']}"
    low, high = (f"{bound:+.3f}" for bound in tried["difference_ci95"])
    gain = f"{tried['difference']:+.3f} ({low} to {high}) on held-out drawings, {p_equation(tried['p_value'])}"
    if not tried["used"]:
        return f"tried and not used: {gain}"
    return (
        f"used for the test drawings, which are predicted together: {gain}. Held-out and test figures are with it; new "
        "drawings are predicted one by one, without it"
    )
