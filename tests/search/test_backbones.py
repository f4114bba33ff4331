import json
from dataclasses import replace

import numpy as np
import pytest

from inkfold.data.dataset import DataOptions, read_dataset
from inkfold.errors import DataError, RecipeError
from inkfold.evaluation.intervals import wilson_interval
from inkfold.models.published import PUBLISHED, PublishedBackbone
from inkfold.models.weights import BackboneSpec, resolve_backbone
from inkfold.search.backbones import USUAL, _sampled, backbone_names, explore, published
from toy import inkfold, toy_data

SMALL = ("image.size=32", "folds.k=3", "train_head.epochs=3", "backbone.device=cpu", "backbone.precision=float32")
NAMES = ("test_resnet", "test_efficientnet")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("data") / "data", train_per_class=24)


@pytest.fixture
def weights(tmp_path, monkeypatch, write_weights):
    for i, name in enumerate(NAMES):
        write_weights(tmp_path / "weights" / f"{name}.safetensors", name, seed=i)
    monkeypatch.setenv("INKFOLD_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def test_backbones_are_ranked_by_their_accuracy_out_of_fold(data, weights):
    rows, problems = explore(data, NAMES, SMALL)
    assert problems == {}
    assert {row.name.partition(".")[0] for row in rows} == set(NAMES)
    assert rows[0].accuracy >= rows[1].accuracy
    for row in rows:
        assert row.accuracy_ci95 == wilson_interval(round(row.accuracy * 72), 72)
        assert (row.forwards, row.image_size, row.precision) == (72, 32, "float32")
        assert row.images_per_s > 0
        assert row.weights_bytes == 4 * row.parameters
    assert rows[0].p_value == 1
    assert 0 <= rows[1].p_value <= 1


def test_parameters_are_those_of_the_model_without_its_classifier(data, weights):
    import timm

    [row], _ = explore(data, ["test_resnet"], SMALL)
    model = timm.create_model("test_resnet", num_classes=0)
    assert row.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_what_is_in_the_bank_is_free_and_its_rate_is_remembered(data, weights):
    [first], _ = explore(data, ["test_resnet"], SMALL)
    [again], _ = explore(data, ["test_resnet"], SMALL)
    assert (first.forwards, again.forwards) == (72, 0)
    assert again.images_per_s == first.images_per_s
    assert again.accuracy == first.accuracy


def test_a_sample_is_a_share_of_every_class_and_grows_without_forwards_twice(data, weights):
    [few], _ = explore(data, ["test_resnet"], SMALL, sample=36)
    [more], _ = explore(data, ["test_resnet"], SMALL, sample=48)
    [everything], _ = explore(data, ["test_resnet"], SMALL, sample=1000)
    assert (few.forwards, more.forwards, everything.forwards) == (36, 12, 24)


def test_backbones_without_weights_are_reported_and_leave_the_others_alone(data, weights):
    rows, problems = explore(data, ("test_resnet", "resnet18.a1_in1k", "no_such_model"), SMALL)
    assert len(rows) == 1
    assert problems["resnet18.a1_in1k"].startswith("no weights for 'resnet18.a1_in1k'")
    assert "has no 'no_such_model'" in problems["no_such_model"]


def test_two_names_of_one_backbone_are_one_row(data, weights):
    rows, _ = explore(data, ("test_resnet", "test_resnet.r160_in1k"), SMALL)
    assert [row.name for row in rows] == ["test_resnet.r160_in1k"]


def test_without_names_local_weights_come_before_the_usual_ones(weights, write_weights):
    assert backbone_names([]) == [*sorted(NAMES), *USUAL]
    write_weights(weights / "resnet18.safetensors", "test_resnet")
    assert "resnet18.a1_in1k" not in backbone_names([])


def test_patterns_name_pretrained_models(weights):
    assert backbone_names(["mobilenetv2_1?0.ra_in1k", "test_resnet"]) == [
        "mobilenetv2_100.ra_in1k",
        "mobilenetv2_140.ra_in1k",
        "test_resnet",
    ]
    assert "test_efficientnet" in backbone_names(["test_eff*"]), "local weights are found by patterns too"
    with pytest.raises(RecipeError, match="'nothing_like_this\\*' matches none"):
        backbone_names(["nothing_like_this*"])


def publish(monkeypatch):
    row = PublishedBackbone("test_resnet.r160_in1k", 0.5, 0.5, 0.1, 160, 12.5)
    monkeypatch.setitem(PUBLISHED, row.name, row)


def test_a_known_backbone_has_its_published_accuracy_on_sketches(monkeypatch):
    publish(monkeypatch)
    untrained = resolve_backbone(BackboneSpec(name="test_resnet", weights="untrained"))
    from_hub, spec = replace(untrained, init_seed=None), BackboneSpec(name="test_resnet")
    assert published(from_hub, spec) == 12.5
    assert published(replace(from_hub, name="other"), spec) is None
    assert published(untrained, BackboneSpec(name="test_resnet", weights="untrained")) is None


def test_weights_of_a_local_file_have_no_published_accuracy(data, weights, monkeypatch):
    publish(monkeypatch)
    [row], _ = explore(data, ["test_resnet"], SMALL)
    assert (row.name, row.imagenet_sketch_top1) == ("test_resnet.r160_in1k", None)


def test_a_sample_has_a_drawing_of_each_class_at_least(data, weights):
    dataset = read_dataset(str(data), DataOptions())
    assert sorted(_sampled(dataset, 1, 0).train.targets.tolist()) == [0, 1, 2]


def test_errors_of_the_data_and_of_settings_stop_it(tmp_path, weights):
    with pytest.raises(DataError):
        explore(tmp_path / "nowhere", ["test_resnet"])
    with pytest.raises(RecipeError, match="no such key"):
        explore(tmp_path, ["test_resnet"], ["train_head.lrr=1"])


def test_the_command_prints_a_table_or_json_and_draws_a_plot(tmp_path, data, weights):
    command = ("explore", data, *SMALL, "--backbones", *NAMES)
    done = inkfold(*command, "--plot", tmp_path / "cost.svg", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert "test_resnet.r160_in1k" in done.stdout
    assert "test_efficientnet" in (tmp_path / "cost.svg").read_text()
    found = json.loads(inkfold(*command, "resnet18.a1_in1k", "--json", home=tmp_path / "home").stdout)
    assert [row["forwards"] for row in found["backbones"]] == [0, 0]
    assert list(found["problems"]) == ["resnet18.a1_in1k"]
    assert np.diff([row["accuracy"] for row in found["backbones"]]) <= 0


def test_the_command_fails_when_nothing_could_be_tried(tmp_path, data):
    done = inkfold("explore", data, "--backbones", "resnet18.a1_in1k", home=tmp_path / "home")
    assert done.returncode == 2
    assert "not tried: resnet18.a1_in1k: no weights" in done.stderr
