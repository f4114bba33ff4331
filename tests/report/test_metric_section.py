from inkfold.evaluation.scores import Metric
from inkfold.report.metric_section import common_metric, decision_note


class Run:
    """The parts of a finished run that the section reads."""

    evaluated_part = "out_of_fold"

    def __init__(self, metric, value=0.5, decision=None):
        figures = {} if metric == "accuracy" else {"metric": {"value": value, "ci95": [0.4, 0.6]}}
        self.metrics = {**Metric(metric).as_json(), "out_of_fold": figures, **({"decision": decision} if decision else {})}


def test_runs_of_one_metric_are_compared_by_it_and_others_by_accuracy():
    assert common_metric([Run("macro_f1"), Run("macro_f1")]) == Metric("macro_f1")
    assert common_metric([Run("macro_f1"), Run("log_loss")]) == Metric("accuracy")
    assert common_metric([Run("accuracy"), Run("accuracy")]) == Metric("accuracy")


def test_a_rule_is_named_with_its_gain():
    figures = {"most_probable": {"value": 0.6}, "nested": {"value": 0.65}, "difference": 0.05, "difference_ci95": [0.01, 0.09]}
    used = decision_note(Run("macro_f1", decision={"used": True, "rule": "weights", **figures}))
    assert "Answers are weights: macro F1 0.650" in used
    assert "+0.050 (+0.010 to +0.090)" in used
    assert "not more" in decision_note(Run("macro_f1", decision={"used": False, **figures}))
    assert decision_note(Run("macro_f1")) == ""
