import numpy as np

from inkfold.evaluation.intervals import wilson_interval
from inkfold.pipeline.run_files import open_run_files
from inkfold.report.html import p_equation
from inkfold.report.ladder import ladder_view
from toy_runs import made_up, write_run

N, NAMES = 100, ("a", "b")
GAIN = {"accuracy_without": 0.5, "accuracy_with": 0.6, "p_value": 0.01, "views": ["identity", "hflip"]}
TUNED = {"frozen_accuracy": 0.4, "accuracy": 0.5, "p_value": 0.0001}


def view(tmp_path, metrics):
    predictions = made_up([f"{i}" for i in range(N)], np.arange(N) % 2, NAMES, folds=np.arange(N) % 2)
    return ladder_view(open_run_files(write_run(tmp_path / "run", "data", predictions, metrics=metrics)))


def test_each_step_has_its_interval_and_its_gain(tmp_path):
    ladder = view(tmp_path, {"finetune": TUNED, "tta": GAIN})
    assert [row["label"] for row in ladder["rows"]] == [
        "head on frozen features",
        "fine-tuned backbone",
        "mean over test-time views",
        "its folds",
        "this run",
    ]
    frozen, tuned, views, folds, _ = ladder["rows"]
    assert frozen["ci95"] == wilson_interval(40, N)
    assert tuned["gain"].startswith("+10.0 points")
    assert views["accuracy"] == 0.6
    assert len(folds["dots"]) == 2
    assert ladder["scale"][0] <= frozen["ci95"][0]
    assert "50.0 %" in ladder["about"]


def test_epochs_that_other_drawings_chose_are_the_runs_figure_and_those_kept_stand_above(tmp_path):
    nested = {"accuracy": 0.25, "accuracy_ci95": [0.2, 0.3]}
    view(tmp_path, {})
    run = open_run_files(tmp_path / "run")
    run.metrics["out_of_fold"]["nested"] = nested
    *_, kept, own = ladder_view(run)["rows"]
    assert (kept["label"], kept["note"]) == ("this run, epochs as kept", "optimistic")
    assert kept["accuracy"] == run.metrics["out_of_fold"]["accuracy"]
    assert (own["label"], own["accuracy"], own["ci95"]) == ("this run", 0.25, [0.2, 0.3])


def test_a_frozen_run_starts_with_unchanged_drawings(tmp_path):
    assert [row["label"] for row in view(tmp_path, {"tta": GAIN})["rows"]][:2] == [
        "unchanged drawings",
        "mean over test-time views",
    ]


def test_intervals_that_the_run_has_kept_are_shown(tmp_path):
    gain = {**GAIN, "accuracy_without_ci95": [0.3, 0.7], "accuracy_with_ci95": [0.4, 0.8]}
    unchanged, views, *_ = view(tmp_path, {"tta": gain})["rows"]
    assert (unchanged["ci95"], views["ci95"]) == ([0.3, 0.7], [0.4, 0.8])


TOGETHER = {
    "accuracy_without": 0.5,
    "accuracy_with": 0.6,
    "accuracy_without_ci95": [0.4, 0.6],
    "accuracy_with_ci95": [0.5, 0.7],
}


def test_label_propagation_is_a_step_where_it_is_used(tmp_path):
    tried = {**TOGETHER, "used": True, "p_value": 0.01}
    tried |= {"difference": 0.1, "difference_ci95": [0.05, 0.15]}
    rows = view(tmp_path, {"transductive": tried})["rows"]
    assert [row["label"] for row in rows][:2] == ["drawings one by one", "test drawings together"]
    assert rows[1]["gain"] == f"+10.0 points, {p_equation(0.01)}"
    assert rows[1]["ci95"] == [0.5, 0.7]
    after_views = view(tmp_path / "views", {"tta": GAIN, "transductive": {**tried, "name": "log_loss"}})["rows"]
    assert [row["label"] for row in after_views][1:3] == ["mean over test-time views", "test drawings together"]
    assert after_views[2]["gain"] == "+10.0 points"  # the p-value is of another metric
    unused = view(tmp_path / "unused", {"transductive": {**tried, "used": False}})["rows"]
    assert "test drawings together" not in [row["label"] for row in unused]
