import numpy as np

from inkfold.evaluation.metrics import wilson_interval
from inkfold.report.ladder import ladder_view
from inkfold.report.run_data import read_record
from toy_runs import made_up, write_run

N, NAMES = 100, ("a", "b")
GAIN = {"accuracy_without": 0.5, "accuracy_with": 0.6, "p_value": 0.01, "views": ["identity", "hflip"]}
TUNED = {"frozen_accuracy": 0.4, "accuracy": 0.5, "p_value": 0.0001}


def view(tmp_path, metrics):
    predictions = made_up([f"{i}" for i in range(N)], np.arange(N) % 2, NAMES, folds=np.arange(N) % 2)
    return ladder_view(read_record(write_run(tmp_path / "run", "data", predictions, metrics=metrics)))


def test_each_step_stands_with_its_interval_and_what_it_gained(tmp_path):
    found = view(tmp_path, {"finetune": TUNED, "tta": GAIN})
    assert [row["label"] for row in found["rows"]] == [
        "head on frozen features",
        "backbone trained too",
        "mean over test-time views",
        "its folds",
        "this run",
    ]
    frozen, tuned, views, folds, _ = found["rows"]
    assert frozen["ci95"] == wilson_interval(40, N)
    assert tuned["against"].startswith("+10.0 points")
    assert views["accuracy"] == 0.6
    assert len(folds["dots"]) == 2
    assert found["scale"][0] <= frozen["ci95"][0]
    assert "50.0 %" in found["about"]


def test_a_frozen_run_starts_with_drawings_as_they_are(tmp_path):
    assert [row["label"] for row in view(tmp_path, {"tta": GAIN})["rows"]][:2] == [
        "drawings as they are",
        "mean over test-time views",
    ]
