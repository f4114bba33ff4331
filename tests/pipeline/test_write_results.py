import json

import numpy as np
import pytest

from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.train import train
from toy import RUN_FILES, as_folders, files_below, read_rows, write_rows


def test_the_submission_is_the_argmax_of_the_folds_mean(data, plain):
    run = plain
    test = Predictions.load(run.path / "predictions/test.parquet")
    assert test.fold_probs.shape == (3, 6, 3)
    np.testing.assert_allclose(test.probs, test.fold_probs.astype(np.float64).mean(0), atol=1e-6)
    header, *rows = read_rows(run.path / "submission.csv")
    assert header == ["ID", "image_path", "target"]
    assert [row[:2] for row in rows] == [row[:2] for row in read_rows(data / "sample_submission.csv")[1:]]
    assert [int(row[2]) for row in rows] == test.probs.argmax(1).tolist()


def test_the_curve_has_the_stages_and_every_epoch(viewed):
    run = viewed
    curve = json.loads((run.path / "curve.json").read_text())
    assert curve["stages"] == [
        {"stage": 0, "epochs": 1, "augment": [], "views": "per_epoch", "lr_factor": 1.0},
        {"stage": 1, "epochs": 2, "augment": ["hflip@0.5"], "views": "per_epoch", "lr_factor": 1.0},
        {"stage": 2, "epochs": 3, "augment": ["rotate(15)", "vflip@0.5"], "views": 2, "lr_factor": 0.5},
    ]
    views = ["identity", "hflip@0.5 #0", "hflip@0.5 #1", *(f"rotate(15) + vflip@0.5 #{i}" for i in (0, 1, 0))]
    points = [(point["epoch"], point["stage"], point["view"]) for point in curve["epochs"]]
    assert points == list(zip(range(6), [0, 1, 1, 2, 2, 2], views, strict=True))
    by_hand = [0.01 * factor * (1 + np.cos(np.pi * epoch / 6)) / 2 for epoch, factor in enumerate([1, 1, 1, 0.5, 0.5, 0.5])]
    assert [point["lr"] for point in curve["epochs"]] == pytest.approx(by_hand)
    last = curve["epochs"][-1]
    assert set(last) == {"epoch", "stage", "view", "lr", "loss", "held_out_loss", "held_out_accuracy"}
    assert last["held_out_accuracy"] == pytest.approx(run.metrics["tta"]["accuracy_without"])


def test_the_curve_without_a_curriculum_is_one_stage_of_drawings_as_they_are(plain):
    run = plain
    curve = json.loads((run.path / "curve.json").read_text())
    assert curve["stages"] == [{"stage": 0, "epochs": 5, "augment": [], "views": "per_epoch", "lr_factor": 1.0}]
    assert [(point["stage"], point["view"]) for point in curve["epochs"]] == [(0, "identity")] * 5
    last, figures = curve["epochs"][-1], run.metrics["out_of_fold"]
    assert last["held_out_loss"] == pytest.approx(figures["nll"], abs=1e-5)
    assert last["held_out_accuracy"] == pytest.approx(figures["accuracy"], abs=1e-6)
    assert "tta" not in run.metrics


def test_the_submission_has_the_tables_own_numbers(tmp_path, data, recipe):
    header, *rows = read_rows(data / "train.csv")
    numbers = {"0": "7", "1": "3", "2": "40"}
    write_rows(data / "train.csv", [header, *([name, path, numbers[target]] for name, path, target in rows)])
    run = train(recipe, data=data, out=tmp_path / "run")
    assert run.classes_ == ("fish", "apple", "house"), "by number"
    assert run.class_targets.tolist() == [3, 7, 40]
    preds = Predictions.load(run.path / "predictions/test.parquet").preds
    written = [int(row[2]) for row in read_rows(run.path / "submission.csv")[1:]]
    assert written == [[3, 7, 40][pred] for pred in preds]
    assert any("target" in warning for warning in run.manifest["warnings"])


def test_the_submission_follows_the_sample(tmp_path, data, recipe):
    rows = read_rows(data / "sample_submission.csv")[1:]
    write_rows(data / "sample_submission.csv", [["image_path", "target", "key"], *([p, 0, f"k{i}"] for i, p, _ in rows[::-1])])
    run = train(recipe, data=data, out=tmp_path / "run")
    header, *written = read_rows(run.path / "submission.csv")
    assert header == ["image_path", "target", "key"]
    assert [(path, key) for path, _, key in written] == [(path, f"k{i}") for i, path, _ in rows], "in the test table's order"
    preds = Predictions.load(run.path / "predictions/test.parquet").preds
    assert [int(target) for _, target, _ in written] == preds.tolist()


def test_the_submission_follows_a_sample_without_ids(tmp_path, data, recipe):
    rows = read_rows(data / "sample_submission.csv")
    write_rows(data / "sample_submission.csv", [row[1:] for row in rows])
    run = train(recipe, data=data, out=tmp_path / "run")
    assert read_rows(run.path / "submission.csv")[0] == ["image_path", "target"]


def test_without_a_sample_ids_count_from_zero(tmp_path, data, recipe, plain, plain_features):
    (data / "sample_submission.csv").unlink()
    after = train(recipe, data=data, out=tmp_path / "two")
    assert (plain.path / "submission.csv").read_bytes() == (after.path / "submission.csv").read_bytes()


def test_folders_without_a_test_part_give_no_submission(tmp_path, data, recipe):
    run = train(recipe, data=as_folders(data, tmp_path / "folders"), out=tmp_path / "run")
    assert files_below(run.path) == RUN_FILES - {"submission.csv", "predictions/test.parquet"}
    assert run.metrics["data"]["n_test"] == 0


def test_a_contests_own_form_is_filled_and_kept(tmp_path, data, recipe, plain_features):
    ids = [row[1].removesuffix(".png") for row in read_rows(data / "sample_submission.csv")[1:]]
    write_rows(data / "sample_submission.csv", [["id", "house", "apple", "fish"], *([name, 0, 0, 0] for name in ids[::-1])])
    run = train(recipe, data=data, out=tmp_path / "run")
    assert files_below(run.path) == RUN_FILES | {"submission_form.json"}
    header, *rows = read_rows(run.path / "submission.csv")
    assert header == ["id", "house", "apple", "fish"]
    assert [row[0] for row in rows] == ids[::-1]
    probs = Predictions.load(run.path / "predictions/test.parquet").probs[::-1, [2, 0, 1]]
    assert np.array_equal(np.array([row[1:] for row in rows], np.float32), probs)
    assert "3 columns = the probability of each class" in run.files.submission_summary
