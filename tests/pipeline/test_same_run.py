import json
from dataclasses import replace

import pytest

from inkfold.errors import PredictionError
from inkfold.pipeline.run import Run
from inkfold.pipeline.same_run import RULES, refuse_changes
from inkfold.pipeline.train import train
from inkfold.storage.sealed import read_sealed


@pytest.fixture
def run(frozen_run):
    return Run.load(frozen_run / "run")


def with_manifest(run, **changes):
    return replace(run, manifest={**run.manifest, **changes})


def test_a_run_whose_backbone_rules_and_packages_are_the_same_is_the_same(run, caplog):
    refuse_changes(run, run.recipe, run.prior)
    assert caplog.records == []
    assert run.manifest["made_by"] == {"rules": RULES}


def test_every_other_thing_that_made_it_is_named(run):
    backbone = {**run.manifest["backbone"], "weights_digest": "before", "timm_version": "0.1"}
    older = with_manifest(run, backbone=backbone, made_by={"rules": {**RULES, "fitting": 1, "of another version": 7}})
    with pytest.raises(PredictionError) as error:
        refuse_changes(older, run.recipe, None)
    texts = [str(problem) for problem in error.value.problems]
    assert len(texts) == 3
    assert f"{run.path}: test_resnet.r160_in1k: timm_version is '0.1' there, " in texts[1]
    assert "weights_digest is 'before' there, 'untrained-42-torch-" in texts[0]
    assert "inkfold's rules of fitting: is 1 there, " in texts[2]
    assert all(text.endswith("Choose another out= for the new run.") for text in texts)


def test_a_run_of_an_older_version_has_no_rules_to_compare(run):
    refuse_changes(with_manifest(run, made_by={}), run.recipe, None)
    older = replace(run, manifest={name: value for name, value in run.manifest.items() if name != "made_by"})
    refuse_changes(older, run.recipe, None)


def test_packages_that_decide_last_bits_alone_are_only_reported(run, caplog):
    refuse_changes(with_manifest(run, versions={"numpy": "0.9", "gone-package": "1", "python": "3.0"}), run.recipe, None)
    [text] = caplog.messages
    assert "was made with numpy 0.9 (now " in text
    assert "gone" not in text


def test_replaced_weights_and_a_changed_prior_make_another_run(tmp_path, data, write_weights, recipe, caplog):
    weights, prior = write_weights(tmp_path / "test_resnet.safetensors", "test_resnet"), tmp_path / "prior.csv"
    prior.write_text("class_name,share\napple,1\nfish,2\nhouse,3\n")
    text = recipe.read_text().replace("weights: untrained", f"weights: {weights}")
    recipe.write_text(text + f"predict: {{prior: {prior}}}\n")
    out = tmp_path / "run"
    train(recipe, data=data, out=out)
    before = (out / "manifest.json").read_bytes()
    train(recipe, data=data, out=out)
    write_weights(weights, "test_resnet", seed=1)
    prior.write_text("class_name,share\napple,1\nfish,2\nhouse,4\n")
    with pytest.raises(PredictionError) as error:
        train(recipe, data=data, out=out)
    texts = [str(problem) for problem in error.value.problems]
    assert len(texts) == 2
    assert f"test_resnet.r160_in1k: weights_digest is '{json.loads(before)['backbone']['weights_digest']}' there" in texts[0]
    assert f"predict.prior {prior}: has other shares than the run was made with, of apple, fish, house" in texts[1]
    assert (out / "manifest.json").read_bytes() == before, "the run that would be replaced is kept"
    prior.write_text("class_name,share\napple,1\nfish,2\nhouse,3\n")
    write_weights(weights, "test_resnet")
    assert train(recipe, data=data, out=out).manifest == read_sealed(out / "manifest.json", must_be_sealed=True)
    weights.unlink()
    train(recipe, data=data, out=out)  # weights that are gone can't have changed the run
    assert "can't be compared with its backbone: backbone.weights: " in caplog.text
