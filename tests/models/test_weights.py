import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save

from inkfold.errors import WeightsError
from inkfold.models import weights as module
from inkfold.models.weights import (
    BackboneInfo,
    BackboneSpec,
    find_weights_file,
    pretrained_overlay,
    resolve_backbone,
)
from inkfold.storage.hashing import digest_file

NAME = "test_resnet.r160_in1k"
WEIGHTS = save({"weights": np.arange(3)})


def put(directory, name, data=WEIGHTS):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(data)
    return directory / name


def test_the_recipe_s_file_goes_before_the_directories(tmp_path, monkeypatch):
    put(tmp_path / "dir", f"{NAME}.safetensors")
    own = put(tmp_path, "mine.pth")
    monkeypatch.setenv("INKFOLD_WEIGHTS", str(tmp_path / "dir"))
    assert find_weights_file(BackboneSpec(name=NAME, weights=str(own))) == own


def test_in_a_directory_the_tagged_name_goes_before_the_bare_one(tmp_path, monkeypatch):
    monkeypatch.setenv("INKFOLD_WEIGHTS", str(tmp_path))
    assert find_weights_file(BackboneSpec(name=NAME)) is None
    bare = put(tmp_path, "test_resnet.safetensors")
    assert find_weights_file(BackboneSpec(name=NAME)) == bare
    tagged = put(tmp_path, f"{NAME}.bin")
    assert find_weights_file(BackboneSpec(name=NAME)) == tagged
    assert find_weights_file(BackboneSpec(name="test_resnet")) == bare
    assert find_weights_file(BackboneSpec(name="test_resnet.other")) == bare


def test_the_directories_are_searched_in_their_order_and_absent_ones_passed_over(tmp_path, monkeypatch):
    monkeypatch.setenv("INKFOLD_WEIGHTS", os.pathsep.join(["", *(str(tmp_path / name) for name in ("no", "a", "b"))]))
    second = put(tmp_path / "b", f"{NAME}.safetensors")
    assert find_weights_file(BackboneSpec(name=NAME)) == second
    first = put(tmp_path / "a", "test_resnet.pt")
    assert find_weights_file(BackboneSpec(name=NAME)) == first


def test_untrained_weights_need_no_file_even_where_there_is_one(tmp_path, monkeypatch):
    put(tmp_path, f"{NAME}.safetensors")
    monkeypatch.setenv("INKFOLD_WEIGHTS", str(tmp_path))
    info = resolve_backbone(BackboneSpec(name=NAME, weights="untrained", seed=3), tmp_path / "descriptions")
    assert (info.weights_file, info.init_seed) == (None, 3)
    assert pretrained_overlay(info) is None


@pytest.mark.parametrize("name", ["gone.safetensors", "weights.txt", "."])
def test_a_named_file_that_is_not_there_or_no_weights_file_is_refused(tmp_path, name):
    put(tmp_path, "weights.txt")
    with pytest.raises(WeightsError, match=r"backbone\.weights: .* is not a file ending in \.safetensors, \.pth"):
        resolve_backbone(BackboneSpec(name=NAME, weights=str(tmp_path / name)))


@pytest.mark.parametrize("data", [b"", b"no tensors at all", WEIGHTS[:-1], WEIGHTS + b"0"])
def test_a_safetensors_file_that_is_not_whole_is_told_before_anything_is_computed(tmp_path, data):
    file = put(tmp_path, "mine.safetensors", data)
    with pytest.raises(WeightsError, match=r"mine\.safetensors: not a whole safetensors file: .*\. Copy or fetch it again"):
        resolve_backbone(BackboneSpec(name=NAME, weights=str(file)), tmp_path / "descriptions")


def test_weights_are_named_by_their_whole_path_for_processes_elsewhere(tmp_path, monkeypatch):
    file = put(tmp_path / "mine", f"{NAME}.safetensors")
    monkeypatch.chdir(tmp_path)
    assert resolve_backbone(BackboneSpec(name=NAME, weights=f"mine/{file.name}")).weights_file == str(file)
    monkeypatch.setenv("INKFOLD_WEIGHTS", "mine")
    assert resolve_backbone(BackboneSpec(name=NAME)).weights_file == str(file)


def test_timm_s_own_configuration_comes_last(tmp_path):
    file = put(tmp_path, "mine.safetensors")
    info = resolve_backbone(BackboneSpec(name="test_resnet", weights=str(file)))
    # timm/models/resnet.py, test_resnet.r160_in1k: mean and std 0.5, input 3 x 160 x 160, bilinear
    assert info.name == NAME
    assert (info.mean, info.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (info.image_size, info.interpolation, info.resize_embeddings) == (160, "bilinear", False)
    assert info.weights_digest == hashlib.blake2b(WEIGHTS, digest_size=16).hexdigest() == digest_file(file)


SIDECAR = {
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
    "interpolation": "bicubic",
    "image_size": 96,
    "model_args": {"drop_rate": 0.0},
}


def test_the_file_s_neighbour_says_what_timm_does_not_know_and_the_recipe_goes_before_it(tmp_path):
    file = put(tmp_path, "mine.v2.safetensors")
    put(tmp_path, "mine.v2.json", json.dumps(SIDECAR).encode())
    spec = BackboneSpec(name=NAME, weights=str(file))
    info = resolve_backbone(spec)
    assert (info.mean, info.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (info.interpolation, info.image_size, info.model_args) == ("bicubic", 96, {"drop_rate": 0.0})
    asked = {"mean": (0.9, 0.8, 0.7), "interpolation": "nearest", "image_size": 64, "model_args": {"drop_rate": 0.5}}
    info = resolve_backbone(spec.model_copy(update=asked))
    assert {name: getattr(info, name) for name in asked} == asked
    assert info.std == (0.4, 0.5, 0.6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"mena": [0, 0, 0], "zoom": 1}', "got mena, zoom, expected only mean, std"),
        ("{mean: 1}", "not JSON"),
        ("[1, 2]", "got list, expected an object"),
        ("5", "got int, expected an object"),
    ],
)
def test_a_neighbour_that_says_something_else_is_refused(tmp_path, text, words):
    file = put(tmp_path, "mine.safetensors")
    put(tmp_path, "mine.json", text.encode())
    with pytest.raises(WeightsError, match=rf"mine\.json: {words}"):
        resolve_backbone(BackboneSpec(name=NAME, weights=str(file)))


def test_a_changed_weights_file_has_another_key_and_a_moved_one_the_same(tmp_path):
    descriptions = tmp_path / "descriptions"
    first = resolve_backbone(BackboneSpec(name=NAME, weights=str(put(tmp_path, "a.safetensors"))), descriptions)
    moved = resolve_backbone(BackboneSpec(name=NAME, weights=str(put(tmp_path, "b.safetensors"))), descriptions)
    changed = put(tmp_path, "a.safetensors", save({"weights": np.arange(1, 4)}))
    second = resolve_backbone(BackboneSpec(name=NAME, weights=str(changed)), descriptions)
    assert first.key() == moved.key()
    assert moved.weights_file == str(tmp_path / "b.safetensors")
    assert second.weights_digest != first.weights_digest
    assert second.key() != first.key()


@pytest.mark.parametrize(
    "change", [('"image_size": ', '"image_size": 1'), ('"mean": [', '"mean": [9, '), ("{", ""), ('"digest"', '"former"')]
)
def test_a_damaged_description_is_made_again_and_said_so(tmp_path, caplog, change):
    spec = BackboneSpec(name=NAME, weights=str(put(tmp_path, "a.safetensors")))
    first = resolve_backbone(spec, tmp_path / "descriptions")
    [path] = (tmp_path / "descriptions").iterdir()
    whole = path.read_text()
    path.write_text(whole.replace(*change, 1))
    assert resolve_backbone(spec, tmp_path / "descriptions") == first
    assert path.read_text() == whole
    assert f"{path}: " in caplog.text
    assert "so the backbone is resolved again" in caplog.text


def test_a_description_of_other_weights_is_not_used(tmp_path):
    specs = [
        BackboneSpec(name=NAME, weights=str(put(tmp_path, name, save({"a": np.arange(n)}))))
        for n, name in ((3, "a.safetensors"), (4, "b.safetensors"))
    ]
    first, second = (resolve_backbone(spec, tmp_path / name) for spec, name in zip(specs, "ab", strict=True))
    [one], [other] = (list((tmp_path / name).iterdir()) for name in "ab")
    shutil.copy(one, other)
    assert resolve_backbone(specs[1], tmp_path / "b") == second != first


@pytest.mark.parametrize(
    "other",
    [
        {"mean": (0.5, 0.5, 0.4)},
        {"std": (0.5, 0.5, 0.4)},
        {"interpolation": "nearest"},
        {"image_size": 64},
        {"model_args": {"drop_rate": 0.1}},
        {"precision": "bfloat16"},
    ],
)
def test_all_that_decides_the_features_is_in_the_key_also_through_the_descriptions(tmp_path, other):
    spec = BackboneSpec(name=NAME, weights=str(put(tmp_path, "a.safetensors")))
    keys = [resolve_backbone(one, tmp_path / "descriptions").key() for one in (spec, spec.model_copy(update=other), spec)]
    assert keys[0] == keys[2] != keys[1]


def test_untrained_weights_are_keyed_by_their_seed():
    first, second = (resolve_backbone(BackboneSpec(name=NAME, weights="untrained", seed=seed)).key() for seed in (0, 1))
    assert first != second


def test_a_new_neighbour_is_seen_past_a_kept_description(tmp_path):
    spec = BackboneSpec(name=NAME, weights=str(put(tmp_path, "mine.safetensors")))
    assert resolve_backbone(spec, tmp_path / "descriptions").image_size == 160
    put(tmp_path, "mine.json", b'{"image_size": 64}')
    assert resolve_backbone(spec, tmp_path / "descriptions").image_size == 64


def test_a_kept_description_answers_without_timm(tmp_path):
    file = put(tmp_path, "mine.safetensors")
    info = resolve_backbone(BackboneSpec(name=NAME, weights=str(file)), tmp_path / "descriptions")
    script = """
import sys
from pathlib import Path
from inkfold.models.weights import BackboneSpec, resolve_backbone
info = resolve_backbone(BackboneSpec(name=sys.argv[1], weights=sys.argv[2]), Path(sys.argv[3]))
print("timm" in sys.modules, info.key())
"""
    command = [sys.executable, "-c", script, NAME, file, tmp_path / "descriptions"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"False {info.key()}\n"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}'])
def test_a_damaged_description_is_made_anew(tmp_path, text):
    spec = BackboneSpec(name=NAME, weights=str(put(tmp_path, "mine.safetensors")))
    info = resolve_backbone(spec, tmp_path / "descriptions")
    (kept,) = (tmp_path / "descriptions").iterdir()
    whole = kept.read_text(encoding="utf-8")
    kept.write_text(text, encoding="utf-8")
    assert resolve_backbone(spec, tmp_path / "descriptions") == info
    assert kept.read_text(encoding="utf-8") == whole


def test_a_description_survives_json():
    info = resolve_backbone(BackboneSpec(name=NAME, weights="untrained", model_args={"drop_rate": 0.1}))
    assert BackboneInfo.from_json(json.loads(json.dumps(info.as_json()))) == info


@pytest.mark.parametrize("change", [{"zoom": 1}, {"mean": None}])
def test_a_description_with_other_fields_is_refused(change):
    raw = resolve_backbone(BackboneSpec(name=NAME, weights="untrained")).as_json() | change
    with pytest.raises(WeightsError, match="another version of inkfold"):
        BackboneInfo.from_json(raw)
    with pytest.raises(WeightsError, match="another version of inkfold"):
        BackboneInfo.from_json({})


@pytest.mark.parametrize(
    ("name", "size", "resized"), [("test_vit2", 160, False), ("test_vit2", 96, True), ("test_resnet", 96, False)]
)
def test_only_models_with_position_embeddings_are_told_another_size(name, size, resized):
    assert resolve_backbone(BackboneSpec(name=name, weights="untrained", image_size=size)).resize_embeddings is resized


def test_a_weights_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    file, reads = tmp_path / "own.safetensors", []
    file.write_bytes(b"one")
    monkeypatch.setattr(module, "digest_file", lambda path: reads.append(path) or digest_file(path))
    first = module.digest_weights(file)
    assert module.digest_weights(file) == first == digest_file(file)
    assert len(reads) == 1
    file.write_bytes(b"another")
    assert module.digest_weights(file) == digest_file(file) != first
    assert len(reads) == 2


def test_the_log_says_where_weights_come_from_and_why(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="inkfold")
    file = put(tmp_path / "dir", f"{NAME}.safetensors")
    resolve_backbone(BackboneSpec(name=NAME, weights="untrained"))
    resolve_backbone(BackboneSpec(name=NAME, weights=str(file)))
    resolve_backbone(BackboneSpec(name="ink-small"))
    monkeypatch.setenv("INKFOLD_WEIGHTS", str(tmp_path / "dir"))
    resolve_backbone(BackboneSpec(name=NAME))
    expected = (
        "untrained, as set",
        f"{file}, which backbone.weights names",
        "comes with inkfold",
        f"{file}, found in INKFOLD_WEIGHTS",
    )
    for message, reason in zip(caplog.messages, expected, strict=True):
        assert message.endswith(reason)
    monkeypatch.delenv("INKFOLD_WEIGHTS")
    with pytest.raises(WeightsError):
        resolve_backbone(BackboneSpec(name=NAME))
    assert caplog.messages[-2] == f"backbone {NAME}: weights from the hub's cache or the hub, as no local file has its name"
    assert caplog.messages[-1] == f"timm/{NAME} isn't in the hub's cache: asking the hub for it"


def test_a_pointer_of_git_lfs_is_no_file_of_weights(tmp_path):
    file = tmp_path / "pointer.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n")
    with pytest.raises(WeightsError, match="a pointer of Git LFS, not the weights themselves"):
        resolve_backbone(BackboneSpec(name="test_resnet", weights=str(file)))
