import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from inkfold.models import at_hand
from inkfold.models.at_hand import cached_names, hub_answers, local_names


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(at_hand, "_cache_directory", lambda: str(tmp_path / "cache"))
    return tmp_path / "cache"


def put_into_cache(cache, name, file="model.safetensors", content=b"weights", commit="c" * 40):
    repository = cache / f"models--timm--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / file).write_bytes(content)
    return repository


def test_local_names_are_those_of_files_of_weights(tmp_path, monkeypatch):
    for name in ("b.safetensors", "a.tag.pth", "a.tag.safetensors", "a.json", "README.md"):
        (tmp_path / name).touch()
    monkeypatch.setenv("INKFOLD_WEIGHTS", f"{tmp_path}:{tmp_path / 'nowhere'}:")
    assert local_names() == ["a.tag", "b"]


def test_models_of_timm_that_are_whole_in_the_cache_are_found(cache):
    put_into_cache(cache, "resnet18.a1_in1k")
    put_into_cache(cache, "old.in1k", "pytorch_model.bin")
    assert cached_names() == ["old.in1k", "resnet18.a1_in1k"]


def test_what_is_broken_in_the_cache_is_left_out(cache):
    put_into_cache(cache, "empty.in1k", content=b"")
    dangling = put_into_cache(cache, "dangling.in1k") / "snapshots" / ("c" * 40) / "model.safetensors"
    dangling.unlink()
    dangling.symlink_to(cache / "blobs" / "gone")
    circle = put_into_cache(cache, "circle.in1k") / "snapshots" / ("c" * 40) / "model.safetensors"
    circle.unlink()
    circle.symlink_to(circle)
    (put_into_cache(cache, "no-reference.in1k") / "refs" / "main").unlink()
    put_into_cache(cache, "only-a-configuration.in1k", "config.json")
    (cache / "models--timm--a-file.in1k").touch()
    (cache / "models--other--resnet18").mkdir()
    assert cached_names() == []


def test_without_a_cache_nothing_is_found(cache):
    assert cached_names() == []


def test_the_hub_is_not_asked_offline():
    assert not hub_answers()  # conftest sets HF_HUB_OFFLINE, and no test has a network


@pytest.mark.parametrize(("status", "answers"), [(200, True), (503, False)])
def test_the_hub_answers_only_with_success(status, answers, monkeypatch):
    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert hub_answers() is answers
        server.shutdown()


def test_an_address_that_nothing_listens_on_is_no_answer(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert not hub_answers()
