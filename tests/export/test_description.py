import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from inkfold.ensemble.build import vote
from inkfold.ensemble.model import load_run
from inkfold.evaluation.predictions import Predictions
from inkfold.export.description import BINS, describe
from inkfold.export.metadata import About
from inkfold.export.model_graph import GraphOptions
from inkfold.pipeline.run_files import BY_HEADS, OUT_OF_FOLD
from inkfold.pipeline.train import train
from inkfold.storage.files import write_json
from inkfold.storage.hashing import digest_file
from toy import CLASSES, RECIPE, toy_data, toy_recipe

LOOK = {"line_width_fraction": 0.01, "margin_fraction": 0.05, "ink": 0, "paper": 255}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("described")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INKFOLD_HOME", str(root / "home"))
        recipe = toy_recipe(root, RECIPE + "tta: [hflip]\n")
        return train(recipe, "data.test_targets=test_labels.csv", data=toy_data(root / "data"), out=root / "run")


def test_a_run_is_named_by_its_manifest(run):
    about = describe(run, GraphOptions(), LOOK, 64)
    assert about.run == digest_file(run.path / "manifest.json")
    assert (about.name, about.class_names, about.class_targets) == ("run", CLASSES, (0, 1, 2))
    assert (about.folds, about.backbones) == (3, (run.manifest["backbone"]["name"],))
    assert About.from_json(about.as_json()) == about


def test_confidence_is_compared_with_accuracy_in_ten_bins(run):
    held_out = Predictions.load(run.path / "predictions/out_of_fold.parquet")
    bins = describe(run, GraphOptions(), LOOK, 64).reliability
    assert [(one["low"], one["high"]) for one in bins] == [(i / 10, (i + 1) / 10) for i in range(BINS)]
    assert sum(one["count"] for one in bins) == 18
    confidence = held_out.probs.max(1)
    for one in bins:
        inside = (confidence >= one["low"]) & (confidence < one["high"])
        assert one["count"] == inside.sum()
        if inside.any():
            assert one["accuracy"] == pytest.approx((held_out.preds == held_out.targets)[inside].mean())
            assert one["low"] <= one["confidence"] <= one["high"]
        else:
            assert (one["accuracy"], one["confidence"]) == (None, None)


def test_the_accuracy_is_that_of_what_is_exported(run):
    with_views = describe(run, GraphOptions(), LOOK, 64).accuracy
    assert with_views["value"] == run.metrics["out_of_fold"]["accuracy"]
    without = describe(run, GraphOptions(views=False), LOOK, 64).accuracy
    assert without["value"] == run.metrics["tta"]["accuracy_without"]
    low, high = without["ci95"]
    assert low <= without["value"] <= high


def test_an_ensemble_counts_its_members_folds(run, tmp_path):
    other = shutil.copytree(run.path, tmp_path / "other")
    ensemble = vote([run.path, other], {"method": "soft"}, out=tmp_path / "out")
    about = describe(load_run(ensemble.path), GraphOptions(), LOOK, 64)
    assert (about.folds, len(about.backbones)) == (6, 1)
    assert np.isfinite(json.loads(about.as_json())["accuracy"]["value"])


@pytest.fixture
def propagated(run, tmp_path):
    """A copy of the run in which label propagation was right on all held-out drawings, and its heads as often as they were."""
    path = shutil.copytree(run.path, tmp_path / "propagated")
    alone = run.files.out_of_fold
    shutil.copy(path / OUT_OF_FOLD, path / BY_HEADS)
    replace(alone, probs=np.eye(3, dtype=np.float32)[alone.targets]).save(path / OUT_OF_FOLD)
    figures = {"used": True, "accuracy_without": 0.25, "accuracy_without_ci95": [0.1, 0.4]}
    metrics = json.loads((path / "metrics.json").read_text())
    write_json(path / "metrics.json", {**metrics, "transductive": figures})
    manifest = {**run.manifest, "transductive": {"used": True}}
    manifest["files"] = {name: digest_file(path / name) for name in [*manifest["files"], BY_HEADS]}
    write_json(path / "manifest.json", manifest)
    return load_run(path)


def test_figures_are_of_drawings_one_by_one_without_label_propagation(run, propagated):
    about = describe(propagated, GraphOptions(views=True), LOOK, 64)
    assert (about.accuracy["value"], about.accuracy["ci95"]) == (0.25, [0.1, 0.4])
    assert about.reliability == describe(run, GraphOptions(), LOOK, 64).reliability


def test_an_ensemble_over_label_propagation_names_its_members_and_no_accuracy(run, propagated, tmp_path):
    ensemble = vote([run.path, propagated.path], {"method": "soft"}, out=tmp_path / "vote")
    assert ensemble.manifest["transductive"] == {"used": True, "members": ["propagated"]}
    about = describe(ensemble, GraphOptions(), LOOK, 64)
    assert (about.accuracy, about.reliability) == (None, ())
    alone = vote([run.path, run.path], {"method": "soft"}, out=tmp_path / "alone")
    assert "transductive" not in alone.manifest
