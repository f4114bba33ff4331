import json
import shutil

import pytest

from inkfold.errors import PredictionError
from inkfold.pipeline.frozen_heads import add_split_apart
from inkfold.pipeline.shared import SharedInputs
from inkfold.pipeline.train import train
from toy import CLASSES, files_below, toy_data, toy_recipe, with_copies
from toy_results import RESULTS, contents


def copies(directory):
    data = toy_data(directory / "data")
    with_copies(data)
    return data


def photos(directory):
    data = directory / "photos"
    for name in CLASSES:
        (data / name).mkdir(parents=True)
        for i, path in enumerate(sorted((toy_data(directory / "data") / "train" / name).iterdir())):
            shutil.copy(path, data / name / f"photo{i // 2}-{i % 2}.png")
    return data


def manifest(run):
    return {**json.loads((run.path / "manifest.json").read_text()), "files": None, "digest": None}


@pytest.mark.parametrize(("make", "part"), [(copies, "duplicates"), (photos, "groups")])
def test_what_a_run_was_trained_without_is_measured_later_and_stands_where_it_would_have_stood(tmp_path, make, part):
    data, recipe, shared = make(tmp_path), toy_recipe(tmp_path), SharedInputs()
    whole = train(recipe, data=data, out=tmp_path / "whole")
    run = train(recipe, data=data, out=tmp_path / "run", shared=shared, measure_apart=False)
    assert "parted" in whole.metrics[part]
    assert "parted" not in run.metrics.get(part, {})
    other = [name for name in RESULTS if name != "metrics.json" and (whole.path / name).exists()]
    assert contents(run.path, other) == contents(whole.path, other)
    completed = add_split_apart(run.path, shared)
    assert contents(completed.path, [*other, "metrics.json"]) == contents(whole.path, [*other, "metrics.json"])
    assert manifest(completed) == manifest(whole)
    assert files_below(completed.path) == files_below(whole.path)
    before = (run.path / "manifest.json").read_bytes()
    assert add_split_apart(run.path).metrics == whole.metrics
    assert (run.path / "manifest.json").read_bytes() == before


def test_a_run_without_copies_stays_as_it_is(tmp_path, frozen_run, plain_features):
    path = shutil.copytree(frozen_run / "run", tmp_path / "run")
    before = {name: (path / name).read_bytes() for name in files_below(path)}
    add_split_apart(path)
    assert {name: (path / name).read_bytes() for name in files_below(path)} == before


def test_figures_of_other_data_are_not_added(tmp_path):
    data, recipe = copies(tmp_path), toy_recipe(tmp_path)
    run = train(recipe, data=data, out=tmp_path / "run", measure_apart=False)
    before = (run.path / "metrics.json").read_bytes()
    (data / f"train/{CLASSES[0]}/sketch_0.png").write_bytes((data / f"train/{CLASSES[0]}/sketch_2.png").read_bytes())
    with pytest.raises(PredictionError, match="the data have changed since"):
        add_split_apart(run.path)
    assert (run.path / "metrics.json").read_bytes() == before


def test_a_limit_of_the_search_for_copies_is_said(tmp_path):
    data, recipe = copies(tmp_path), toy_recipe(tmp_path)
    run = train(recipe, "folds.copy_pairs=1", data=data, out=tmp_path / "run")
    [line] = [line for line in run.manifest["warnings"] if "folds.copy_pairs" in line]
    assert line.startswith("copies among the training drawings were searched for by the 1 most similar of ")
    assert not any("copy_pairs" in line for line in train(recipe, data=data, out=tmp_path / "all").manifest["warnings"])
