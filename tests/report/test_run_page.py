import numpy as np
import pytest

from inkfold.data.dataset import DataOptions
from inkfold.evaluation.metrics import expected_calibration_error, wilson_interval
from inkfold.report.run_data import read_run_record
from inkfold.report.run_page import SECTIONS, judged_view, ladder_view, run_view
from inkfold.report.thumbnails import open_album
from toy import CLASSES, toy_data
from toy_runs import made_up, write_run


@pytest.fixture
def shown(tmp_path):
    """A run over the toy drawings, its album, and what its page shows."""
    data = toy_data(tmp_path / "data")
    paths = sorted(path.relative_to(data / "train").as_posix() for path in (data / "train").rglob("*.png"))
    targets = np.array([CLASSES.index(path.partition("/")[0]) for path in paths])
    predictions = made_up(paths, targets, CLASSES, accuracy=0.3, folds=np.arange(len(paths)) % 2)
    record = read_run_record(write_run(tmp_path / "run", data, predictions))
    album = open_album(DataOptions(), data, "pad", "auto")
    return record, album, run_view(record, album)


def test_the_figures_are_those_of_the_metrics(shown):
    record, _, view = shown
    assert judged_view(record)["accuracy"] == record.metrics["out_of_fold"]["accuracy"]
    assert view["judged"]["accuracy_ci95"] == record.metrics["out_of_fold"]["accuracy_ci95"]
    expected = {one["class_name"]: one["recall"] for one in record.metrics["out_of_fold"]["per_class"]}
    assert {row["name"]: pytest.approx(row["recall"], abs=1e-6) for row in view["classes"]} == expected
    predictions = record.out_of_fold
    assert view["reliability"]["ece"] == expected_calibration_error(predictions.probs, predictions.targets)


def test_a_mistake_is_shown_with_samples_of_both_classes_but_not_with_itself(shown):
    record, album, view = shown
    assert view["failures"]
    for card in view["failures"]:
        assert card["picture"] is album.show(card["path"])
        assert card["picture"] not in card["target_samples"]
        assert len(card["target_samples"]) == len(card["pred_samples"]) == 3
        row = record.out_of_fold.image_paths.tolist().index(card["path"])
        assert card["target"] == CLASSES[record.out_of_fold.targets[row]] != card["pred"]


def test_a_pairs_mistaken_drawings_are_of_the_class_under_which_they_stand(shown):
    _, album, view = shown
    where = {picture.name: path for (_, path), picture in album.pictures.items()}
    for pair in view["pairs"]:
        assert pair["count"] == sum(side["count"] for side in pair["sides"])
        for side in pair["sides"]:
            assert {where[picture.name].partition("/")[0] for picture in side["mistaken"]} <= {side["name"]}


def test_the_contents_name_the_sections_that_are_there(shown):
    _, _, view = shown
    names = [name for name, _ in view["contents"]]
    assert names == [name for name in SECTIONS if name != "members"]  # one model has none


def test_stages_of_the_curriculum_end_where_the_next_begins(shown):
    _, _, view = shown
    assert [(stage["epochs"], stage["what"]) for stage in view["curves"]["stages"]] == [
        ("1–2", "drawings as they are"),
        ("3–6", "hflip@0.5, 4 views"),
    ]


N, NAMES = 100, ("a", "b")
GAIN = {"accuracy_without": 0.5, "accuracy_with": 0.6, "p_value": 0.01, "views": ["identity", "hflip"]}
TUNED = {"frozen_accuracy": 0.4, "accuracy": 0.5, "p_value": 0.0001}


def view(tmp_path, metrics):
    predictions = made_up([f"{i}" for i in range(N)], np.arange(N) % 2, NAMES, folds=np.arange(N) % 2)
    return ladder_view(read_run_record(write_run(tmp_path / "run", "data", predictions, metrics=metrics)))


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
