import numpy as np
import pytest
import torch

from inkfold.data.synthetic import draw_sketch
from inkfold.errors import WeightsError
from inkfold.models import ink_small as inksmall
from inkfold.models.backbone import Backbone, build_model
from inkfold.models.weights import USUAL, BackboneSpec, find_weights_file, is_obtainable, resolve_backbone
from inkfold.pipeline.run import Run
from toy import inkfold, toy_data, toy_recipe

MOST_BYTES = 4_000_000


@pytest.fixture
def info():
    return resolve_backbone(BackboneSpec(name=inksmall.NAME))


def test_its_weights_come_with_the_package_and_are_small(info):
    assert info.name == "ink-small"
    assert info.weights_file == str(inksmall.WEIGHTS)
    assert inksmall.WEIGHTS.stat().st_size <= MOST_BYTES
    assert (info.image_size, info.mean) == (64, (1.0,))


def test_it_takes_one_grey_channel_and_tells_drawings_apart(info):
    drawings = np.stack([draw_sketch(name, 0, i, 64) for name in ("cat", "house", "star") for i in range(6)])
    features = Backbone(info, torch.device("cpu")).extract(drawings).astype(np.float32)
    features -= features.mean(0)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    cosines = features @ features.T - 2 * np.eye(len(features))
    nearest = cosines.argmax(1) // 6
    assert (nearest == np.repeat(np.arange(3), 6)).mean() > 0.8


def test_its_weights_are_whole_numbers_of_its_architecture(info):
    model = build_model(info)
    assert all(torch.isfinite(values).all() for values in model.parameters())
    assert sum(values.numel() for values in model.parameters()) < 2_000_000


def test_other_weights_can_be_named_and_a_file_in_the_users_directory_goes_before_the_packages(tmp_path, monkeypatch):
    own = tmp_path / "ink-small.safetensors"
    own.write_bytes(inksmall.WEIGHTS.read_bytes())
    monkeypatch.setenv("INKFOLD_WEIGHTS", str(tmp_path))
    assert find_weights_file(BackboneSpec(name=inksmall.NAME)) == own
    assert find_weights_file(BackboneSpec(name=inksmall.NAME, weights="untrained")) is None


def test_a_backbone_is_obtainable_where_its_weights_are_at_hand_or_come_from_the_hub(tmp_path, monkeypatch):
    def refuse(name, config):
        raise WeightsError("no network")

    monkeypatch.delenv("INKFOLD_WEIGHTS", raising=False)
    monkeypatch.setattr("inkfold.models.weights.download", refuse)
    assert not is_obtainable(USUAL)
    (tmp_path / f"{USUAL}.safetensors").touch()
    monkeypatch.setenv("INKFOLD_WEIGHTS", str(tmp_path))
    assert is_obtainable(USUAL)


def test_a_run_without_a_backbones_name_says_which_one_it_took(tmp_path):
    data, recipe = toy_data(tmp_path / "data"), toy_recipe(tmp_path, "folds: {k: 3}\n")
    done = inkfold("train", recipe, f"data={data}", f"out={tmp_path / 'run'}", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert "backbone: ink-small, which comes with inkfold" in done.stdout
    assert Run.load(tmp_path / "run").recipe.backbone.name == "ink-small"


def test_other_names_are_timms():
    assert inksmall.timm_name("resnet18.a1_in1k") == "resnet18.a1_in1k"
    assert inksmall.timm_name("ink-small") == "ink_small"
