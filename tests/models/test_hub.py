import socket
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from inkfold.errors import RecipeError, WeightsError
from inkfold.models.hub import download
from inkfold.models.weights import BackboneSpec, resolve_backbone

NAME = "test_resnet.r160_in1k"
OFFLINE_WAYS = (
    "backbone.weights=PATH.safetensors",
    f"INKFOLD_WEIGHTS to one with {NAME}.safetensors or test_resnet.safetensors",
    "the hub",
    "HF_HOME",
    "backbone.weights=untrained",
)


def put(directory, name, first=0):
    directory.mkdir(parents=True, exist_ok=True)
    save_file({"weights": np.arange(first, first + 3)}, directory / name)
    return directory / name


def test_without_network_and_weights_the_error_names_each_way():
    with pytest.raises(WeightsError) as caught:
        resolve_backbone(BackboneSpec(name=NAME))
    assert all(way in str(caught.value) for way in OFFLINE_WAYS), str(caught.value)


def test_without_a_name_server_the_hub_s_client_is_not_asked(monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants

    def unknown(*args):
        raise socket.gaierror(-2, "Name or service not known")

    def asked(*args):
        raise AssertionError("the hub's client would retry for half a minute")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", asked)
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)
    with pytest.raises(WeightsError, match=r"gaierror(?s:.)*HF_HOME"):
        resolve_backbone(BackboneSpec(name=NAME))


def test_what_lies_in_the_hub_s_cache_is_taken_last(tmp_path, monkeypatch):
    import huggingface_hub

    cached = put(tmp_path / "hub", "model.safetensors", first=1)
    asked = []

    def look(repository, filename):
        asked.append((repository, filename))
        return str(cached) if filename == "model.safetensors" else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", look)
    assert resolve_backbone(BackboneSpec(name=NAME)).weights_file == str(cached)
    assert asked == [(f"timm/{NAME}", "model.safetensors")]
    monkeypatch.setenv("INKFOLD_WEIGHTS", str(tmp_path))
    own = put(tmp_path, "test_resnet.safetensors")
    assert resolve_backbone(BackboneSpec(name=NAME)).weights_file == str(own)


def test_weights_at_a_plain_address_are_fetched_once_and_their_digest_is_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    digest = sha256(b"weights").hexdigest()[:8]
    good, bad = tmp_path / f"net-{digest}.pth", tmp_path / "net-00000000.pth"
    for file in (good, bad):
        file.write_bytes(b"weights")
    fetched = download("net", SimpleNamespace(hf_hub_id=None, url=good.as_uri()))
    assert fetched == tmp_path / "cache" / "hub" / "checkpoints" / good.name
    good.unlink()
    assert download("net", SimpleNamespace(hf_hub_id=None, url=good.as_uri())).read_bytes() == b"weights"
    with pytest.raises(WeightsError, match="the hub can't give them"):
        download("net", SimpleNamespace(hf_hub_id=None, url=bad.as_uri()))


def test_an_unknown_model_names_near_ones():
    with pytest.raises(RecipeError, match=r"timm .* has no 'tset_resnet\.r160_in1k'\. Near: test_resnet, "):
        resolve_backbone(BackboneSpec(name="tset_resnet.r160_in1k"))
    with pytest.raises(RecipeError, match="Near: none"):
        resolve_backbone(BackboneSpec(name="0000000"))


def test_an_unknown_tag_lists_the_known_ones(tmp_path):
    file = put(tmp_path, "mine.safetensors")
    for weights in (None, "untrained", str(file)):
        with pytest.raises(RecipeError, match=r"'test_resnet' has no weights 'a9'\. Known: test_resnet\.r160_in1k\."):
            resolve_backbone(BackboneSpec(name="test_resnet.a9", weights=weights))
