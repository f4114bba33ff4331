import numpy as np

from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.score_figures import measure_by
from inkfold.evaluation.scores import Metric
from inkfold.pipeline.run_files import open_run_files
from inkfold.report.metric_section import common_metric, decision_note, prediction_facts
from inkfold.report.write import write_report
from toy_runs import write_run


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


def run_of(directory, metric, seed):
    """A run's files, measured by a metric; its answers are those of a rule."""
    targets = np.arange(60) % 3
    probs = np.random.default_rng(seed).dirichlet(np.ones(3), 60).astype(np.float32) / 2 + np.eye(3)[targets] / 2
    paths = np.array([f"{i}.png" for i in range(60)], np.dtypes.StringDType())
    predictions = Predictions(
        paths, probs, ("a", "b", "c"), targets, np.arange(60) % 2, decided=(targets + (targets == seed)) % 3
    )
    metrics = {**metric.as_json(), "out_of_fold": measure_by(metric, predictions, per_class=True)}
    return write_run(directory, "data", predictions, metrics=metrics)


def test_pages_name_the_metric_first_and_accuracy_beside(tmp_path):
    metric = Metric("macro_f1")
    runs = [run_of(tmp_path / name, metric, seed) for seed, name in enumerate(("one", "two"))]
    write_report([runs[0]], tmp_path / "one.html")
    headline = (tmp_path / "one.html").read_text().partition('class="figure"')[2].partition("<dl")[0]
    value = open_run_files(runs[0]).metrics["out_of_fold"]["metric"]["value"]
    assert headline.index(f"{value:.3f}") < headline.index("macro F1") < headline.index("66.7&nbsp;%")
    write_report(runs, tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text()
    headline = page.partition('class="figure"')[2].partition("<dl")[0]
    assert headline.index("macro F1, B against A") < headline.index("points")
    assert 'id="metric"' in page


def test_pages_of_accuracy_say_nothing_of_metrics(tmp_path):
    runs = [run_of(tmp_path / name, Metric("accuracy"), seed) for seed, name in enumerate(("one", "two"))]
    write_report(runs, tmp_path / "both.html")
    assert 'id="metric"' not in (tmp_path / "both.html").read_text()


def test_how_the_test_drawings_are_predicted_as_a_whole_is_a_fact():
    tried = {"difference": 0.02, "difference_ci95": [0.01, 0.03], "p_value": 0.001, "used": True}
    prior = {"source": "uniform", "shares": [0.5, 0.5], "trained": [0.4, 0.6]}
    (first, used), (second, shares) = prediction_facts({"transductive": tried, "prior": prior})
    assert (first, second) == ("label propagation", "class prior")
    assert used.startswith("used for the test drawings, which are predicted together: +0.020 (+0.010 to +0.030) on held-out")
    assert shares.startswith("uniform; probabilities of test and new drawings are corrected for it")
    assert prediction_facts({"transductive": {**tried, "used": False}})[0][1].startswith("tried and not used: +0.020")
    skipped = {"used": False, "skipped": "no_test_drawings", "reason": "there are no test drawings"}
    assert prediction_facts({"transductive": skipped}) == [("label propagation", "not tried: there are no test drawings")]
    assert prediction_facts({}) == []
