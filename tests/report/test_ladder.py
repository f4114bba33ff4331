import numpy as np

from inkfold.evaluation.intervals import wilson_interval
from inkfold.pipeline.run_files import open_run_files
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


def test_a_frozen_run_starts_with_unchanged_drawings(tmp_path):
    assert [row["label"] for row in view(tmp_path, {"tta": GAIN})["rows"]][:2] == [
        "unchanged drawings",
        "mean over test-time views",
    ]


def test_intervals_that_the_run_has_kept_are_shown(tmp_path):
    gain = {**GAIN, "accuracy_without_ci95": [0.3, 0.7], "accuracy_with_ci95": [0.4, 0.8]}
    unchanged, views, *_ = view(tmp_path, {"tta": gain})["rows"]
    assert (unchanged["ci95"], views["ci95"]) == ([0.3, 0.7], [0.4, 0.8])
