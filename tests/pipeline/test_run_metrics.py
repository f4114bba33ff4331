import json
import shutil

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, recall_score

from inkfold.evaluation.intervals import wilson_interval
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.train import train
from toy import CLASSES, PER_CLASS, read_rows, toy_data, toy_recipe, with_copies


def out_of_fold(run):
    return Predictions.load(run.path / "predictions/out_of_fold.parquet")


def test_figures_agree_with_scikit_learn_on_the_tables_own_labels(data, plain):
    run = plain
    predictions = out_of_fold(run)
    rows = read_rows(data / "train.csv")[1:]
    assert predictions.image_paths.tolist() == [path for _, path, _ in rows], "in the table's order"
    truth = [int(target) for *_, target in rows]
    assert predictions.targets.tolist() == truth
    figures = run.metrics["out_of_fold"]
    assert figures["accuracy"] == pytest.approx(accuracy_score(truth, predictions.preds), abs=1e-6)
    assert figures["macro_recall"] == pytest.approx(recall_score(truth, predictions.preds, average="macro"), abs=1e-6)
    assert [(fold["n"], fold["n_train"]) for fold in run.metrics["folds"]] == [(6, 12)] * 3
    for fold in run.metrics["folds"]:
        own = predictions.folds == fold["fold"]
        assert fold["accuracy"] == pytest.approx(accuracy_score(np.array(truth)[own], predictions.preds[own]), abs=1e-6)


def test_what_test_time_views_bring_is_measured_against_the_same_heads_without_them(
    tmp_path, data, with_views, viewed, viewed_features
):
    run = viewed
    plain = train(with_views, "tta=[]", data=data, out=tmp_path / "without")
    before, after = (out_of_fold(each).preds == out_of_fold(each).targets for each in (plain, run))
    assert run.metrics["tta"]["views"] == ["identity", "hflip", "hflip + rotate(5,5)"]
    assert run.metrics["tta"]["accuracy_without"] == pytest.approx(plain.metrics["out_of_fold"]["accuracy"], abs=1e-6)
    assert run.metrics["tta"]["accuracy_with"] == pytest.approx(run.metrics["out_of_fold"]["accuracy"], abs=1e-6)
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert run.metrics["tta"]["p_value"] == pytest.approx(expected)
    assert "tta" not in plain.metrics


@pytest.mark.parametrize("elsewhere", [False, True])
def test_test_targets_measure_the_test(tmp_path, data, recipe, elsewhere):
    labels = data / "test_labels.csv"
    if elsewhere:
        labels = labels.rename(tmp_path / "labels.csv")
    run = train(recipe, f"data.test_targets={labels if elsewhere else labels.name}", data=data, out=tmp_path / "run")
    truth = [int(row[2]) for row in read_rows(labels)[1:]]
    preds = Predictions.load(run.path / "predictions/test.parquet").preds
    assert run.metrics["test"]["accuracy"] == pytest.approx(accuracy_score(truth, preds), abs=1e-6)
    assert run.metrics["test"]["n"] == 6


def test_the_choice_of_the_best_epochs_is_reported_with_its_optimism(tmp_path, data, recipe, plain_features):
    run = train(recipe, "train_head.keep=best", data=data, out=tmp_path / "run")
    selection = run.metrics["selection"]
    assert len(selection["epochs"]) == 3
    assert selection["accuracy"] == pytest.approx(run.metrics["out_of_fold"]["accuracy"], abs=1e-6)
    assert selection["optimism"] == pytest.approx(selection["accuracy"] - selection["nested_accuracy"])
    nested = Predictions.load(run.path / "predictions/out_of_fold.parquet").nested_right
    assert nested.mean() == pytest.approx(selection["nested_accuracy"])
    low, high = wilson_interval(int(nested.sum()), 18)
    assert selection["nested_accuracy_ci95"] == pytest.approx([low, high], abs=1e-6)
    assert run.metrics["out_of_fold"]["nested"]["accuracy_ci95"] == selection["nested_accuracy_ci95"]


def test_copies_stay_in_one_fold_and_the_optimism_of_splitting_them_apart_is_measured(tmp_path):
    data = toy_data(tmp_path / "data")
    with_copies(data)
    run = train(toy_recipe(tmp_path), data=data, out=tmp_path / "run")
    out_of_fold = Predictions.load(run.path / "predictions/out_of_fold.parquet")
    folds = dict(zip(out_of_fold.image_paths.tolist(), out_of_fold.folds.tolist(), strict=True))
    for name in CLASSES:
        for place in range(0, PER_CLASS, 2):
            assert folds[f"{name}/sketch_{place}.png"] == folds[f"{name}/sketch_{place + 1}.png"]
    duplicates = run.metrics["duplicates"]
    assert (duplicates["groups"], duplicates["drawings"]) == (9, 18)
    assert duplicates["grouped"]["accuracy"] == pytest.approx(run.metrics["out_of_fold"]["accuracy"])
    assert duplicates["difference"] == pytest.approx(
        duplicates["grouped"]["accuracy"] - duplicates["parted"]["accuracy"], abs=1e-6
    )
    assert duplicates["parted"]["accuracy_of_copies"] == duplicates["parted"]["accuracy"]  # all are copies
    cost = json.loads((run.path / "cost.json").read_text())
    assert {"duplicates", "parted_duplicates"} <= set(cost["seconds"])


def test_groups_that_names_suggest_are_the_headline_and_what_splitting_them_says_stands_beside(tmp_path):
    data = tmp_path / "data"
    for name in CLASSES:
        for i, path in enumerate(sorted((toy_data(tmp_path / "toy") / "train" / name).iterdir())):
            (data / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, data / name / f"photo{i // 2}-{i % 2}.png")
    run = train(toy_recipe(tmp_path), data=data, out=tmp_path / "run")
    split = train(toy_recipe(tmp_path), "folds.group_pattern=none", data=data, out=tmp_path / "split")
    folds = dict(zip(*(out_of_fold(run).image_paths.tolist(), out_of_fold(run).folds.tolist()), strict=True))
    assert all(folds[f"{name}/photo{i}-0.png"] == folds[f"{name}/photo{i}-1.png"] for name in CLASSES for i in range(3))
    groups = run.metrics["groups"]
    assert (groups["proposed"], groups["groups"], groups["drawings"]) == (True, 9, 18)
    assert groups["grouped"]["accuracy"] == pytest.approx(run.metrics["out_of_fold"]["accuracy"])
    assert groups["parted"]["accuracy"] == pytest.approx(split.metrics["out_of_fold"]["accuracy"])
    assert any(groups["key"] in warning for warning in run.manifest["warnings"])
    assert len(set(out_of_fold(run).groups.tolist())) == 9
    assert "groups" not in split.metrics


def test_accuracy_leaves_no_metric_in_the_figures(plain):
    assert "metric" not in plain.metrics
    assert "metric" not in plain.metrics["out_of_fold"]
    assert plain.decision is None
