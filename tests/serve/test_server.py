"""The whole server over HTTP, with a toy model."""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from inkfold.errors import ExportError, InkfoldError
from inkfold.images.announced import ALPHA, PictureLimits
from inkfold.report.thumbnails import grey_png
from inkfold.serve.access import AccessOptions
from inkfold.serve.batching import QueueLimits
from inkfold.serve.http import HttpLimits
from inkfold.serve.model import OnnxModel
from inkfold.serve.nearest import build_index, index_path, save_index
from inkfold.serve.security import HEADERS
from models import CLASS_NAMES, SIZE_PX, about_json, write_model
from served import Server, answered, bar, png, served
from toy import environment

LEFT = png(bar("left"))
SKETCH = {"strokes": [[[10, 10], [10, 90]]], "width": 100, "height": 100}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A sharp toy model with an index of one drawing per class."""
    path = write_model(tmp_path_factory.mktemp("model") / "toy.onnx", sharpness=400.0)
    pages = [bar(name) for name in CLASS_NAMES]
    halves = [[page[:, :32], page[:, 32:], page[:32], page[32:]] for page in pages]
    ink = np.array([[(255.0 - half).mean() for half in four] for four in halves])
    save_index(index_path(path), build_index(ink, np.arange(4), [grey_png(page) for page in pages]))
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("site")
    (directory / "index.html").write_text("<!doctype html><title>draw</title>")
    return directory


@pytest.fixture(scope="module")
def server(model, site):
    with served(model, site=site) as running:
        yield running


@pytest.mark.parametrize("side", CLASS_NAMES)
def test_a_picture_is_recognised(server, side):
    status, body = server.ask_json("POST", "/predict?top=2&nearest=1", png(bar(side)), "image/png")
    (answer,) = body["answers"]
    assert status == 200
    assert answer["top"][0]["class_name"] == side
    assert answer["top"][0]["target"] == 10 * (1 + CLASS_NAMES.index(side))
    assert answer["top"][0]["probability"] > 0.9
    assert answer["sure"]["words"] == "almost_certain"
    assert (answer["name"], len(answer["top"])) == (None, 2)
    assert [neighbour["class_name"] for neighbour in answer["nearest"]] == [side]
    assert set(body["time_ms"]) == {"queued", "model", "total"}


def test_the_nearest_drawings_come_with_their_pictures(server):
    _, body = server.ask_json("POST", "/predict", LEFT)
    nearest = body["answers"][0]["nearest"]
    assert nearest[0]["class_name"] == "left"
    assert len(nearest) == 4
    assert nearest[0]["similarity"] == pytest.approx(1, abs=0.01)
    kind, _, data = nearest[0]["image"].partition(",")
    assert kind == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (64, 64)


def test_strokes_are_recognised(server):
    status, body = server.ask_json("POST", "/predict?nearest=0", {**SKETCH, "strokes": [[[10, 10], [90, 10], [90, 90]]]})
    assert status == 200
    assert {guess["class_name"] for guess in body["answers"][0]["top"][:2]} == {"top", "right"}
    assert body["answers"][0]["nearest"] == []


def test_the_files_of_a_form_are_answered_in_their_order(server):
    parts = [
        f'--xyz\r\ncontent-disposition: form-data; name="f"; filename="{side}.png"\r\n\r\n'.encode() for side in CLASS_NAMES
    ]
    pictures = [png(bar(side)) for side in CLASS_NAMES]
    form = b"".join(head + data + b"\r\n" for head, data in zip(parts, pictures, strict=True)) + b"--xyz--"
    status, body = server.ask_json("POST", "/predict?top=1", form, "multipart/form-data; boundary=xyz")
    assert status == 200
    assert [answer["name"] for answer in body["answers"]] == [f"{side}.png" for side in CLASS_NAMES]
    assert [answer["top"][0]["class_name"] for answer in body["answers"]] == list(CLASS_NAMES)


@pytest.mark.parametrize("page", [png(np.full((50, 50), 255, np.uint8)), {**SKETCH, "strokes": []}], ids=["picture", "strokes"])
def test_a_blank_page_is_called_blank(server, page):
    status, body = server.ask_json("POST", "/predict", page)
    assert status == 200
    assert body["answers"][0]["sure"]["words"] == "blank"
    assert body["answers"][0]["nearest"] == []


def test_a_picture_without_its_type_gets_the_same_answer(server):
    typed = server.ask_json("POST", "/predict", LEFT, "image/png")[1]["answers"][0]["top"]
    untyped = server.ask_json("POST", "/predict", LEFT)[1]["answers"][0]["top"]
    assert typed == untyped


@pytest.mark.parametrize(
    ("request_line", "body", "kind", "status", "code"),
    [
        ("GET /nothing", None, "", 404, "not_found"),
        ("GET /predict", None, "", 405, "wrong_method"),
        ("DELETE /", None, "", 405, "wrong_method"),
        ("CONNECT /predict", None, "", 405, "wrong_method"),
        ("POST /predict", b"", "image/png", 400, "empty_body"),
        ("POST /predict", b"x", "text/plain", 415, "unsupported_type"),
        ("POST /predict", b"x" * 100, "image/png", 422, "not_an_image"),
        ("POST /predict", LEFT[:60], "image/png", 422, "truncated"),
        ("POST /predict", png(np.zeros((1500, 1500), np.uint8)), "image/png", 422, "too_large"),
        ("POST /predict", b"<html>", "image/png", 422, "not_an_image"),
        ("POST /predict", b"{", "application/json", 400, "malformed_json"),
        ("POST /predict", b"{}", "application/json", 422, "invalid_value"),
        ("POST /predict", b"[" * 90_000, "application/json", 400, "malformed_json"),
        ("POST /predict", b" " * ((1 << 20) + 1), "application/json", 413, "body_too_large"),
        ("POST /predict?top=x", LEFT, "image/png", 422, "invalid_value"),
    ],
)
def test_a_bad_request_is_refused_with_a_reason(server, request_line, body, kind, status, code):
    got, answer = server.ask_json(*request_line.split(), body, kind)
    assert got == status
    assert set(answer["error"]) == {"code", "reason", "expected", "do"}
    assert answer["error"]["code"] == code
    assert all(answer["error"].values())
    assert server.ask_json("POST", "/predict?top=1", LEFT)[1]["answers"][0]["top"][0]["class_name"] == "left"


def test_every_answer_carries_the_security_headers(server):
    for path in ("/", "/nothing", "/docs", "/docs.css", "/api/model", "/metrics"):
        _, headers, _ = server.ask("GET", path)
        assert dict(HEADERS).items() <= headers.items()
    with server.connect() as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert b"content-security-policy" in answered(connection)


def test_the_model_is_described(server):
    status, body = server.ask_json("GET", "/api/model")
    assert status == 200
    assert body["class_names"] == list(CLASS_NAMES)
    assert (body["classes"], body["size_px"], body["nearest"]) == (4, SIZE_PX, True)
    assert body["accuracy"] == about_json()["accuracy"]
    assert body["look"] == about_json()["look"]
    assert set(body["limits"]) == {"body_bytes", "pixels", "side_ratio", "decoded_bytes", "strokes", "points"}
    assert set(body) == {
        *("name", "classes", "class_names", "size_px", "backbones", "folds", "accuracy", "look", "nearest", "limits")
    }


def test_the_page_and_the_interface_are_there(server):
    assert server.ask("GET", "/")[2] == b"<!doctype html><title>draw</title>"
    tag = server.ask("GET", "/")[1]["etag"]
    assert server.ask("GET", "/", headers={"if-none-match": tag})[0] == 304
    assert b"POST /predict" in server.ask("GET", "/docs")[2]
    assert server.ask_json("GET", "/openapi.json")[1]["openapi"] == "3.1.0"
    status, headers, body = server.ask("HEAD", "/docs")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 1000


def test_health_readiness_and_metrics(server):
    server.ask_json("POST", "/predict", LEFT)
    assert server.ask_json("GET", "/healthz") == (200, {"alive": True})
    assert server.ask_json("GET", "/readyz") == (200, {"ready": True})
    _, headers, body = server.ask("GET", "/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
    assert float(lines['inkfold_requests_total{path="/predict",status="200"}']) >= 1
    assert float(lines["inkfold_resident_bytes"]) > 1e7


def test_requests_of_a_foreign_page_are_refused(server):
    assert server.ask("GET", "/api/model", headers={"host": "evil.example"})[0] == 400
    assert server.ask("POST", "/predict", LEFT, {"origin": "http://evil.example"})[0] == 400
    origin = f"http://127.0.0.1:{server.port}"
    assert server.ask("POST", "/predict", LEFT, {"origin": origin})[0] == 200


def test_the_frame_is_said_and_may_be_chosen(server):
    small = np.full((200, 200), 255, np.uint8)
    small[20:80, 20:80] = bar("left", 60)
    _, found = server.ask_json("POST", "/predict?top=1", png(small))
    assert found["answers"][0]["frame"]["right"] < 120
    chosen = ",".join(str(found["answers"][0]["frame"][side]) for side in ("left", "top", "right", "bottom"))
    _, again = server.ask_json("POST", f"/predict?top=1&frame={chosen}", png(small))
    assert again["answers"][0]["frame"] == found["answers"][0]["frame"]
    assert again["answers"][0]["top"] == found["answers"][0]["top"]
    _, whole = server.ask_json("POST", "/predict?top=1&frame=page", png(small))
    assert whole["answers"][0]["frame"] == {"left": 0, "top": 0, "right": 200, "bottom": 200}
    _, strokes = server.ask_json("POST", "/predict", {**SKETCH, "frame": {"left": 0, "top": 0, "right": 50, "bottom": 50}})
    assert strokes["answers"][0]["frame"] == {"left": 9.5, "top": 9.5, "right": 10.5, "bottom": 50.5}
    status, body = server.ask_json("POST", "/predict", {**SKETCH, "frame": {"left": 5, "top": 0, "right": 5, "bottom": 50}})
    assert (status, body["error"]["code"]) == (422, "invalid_value")


def test_strokes_are_answered_while_pictures_block_their_threads(model, site, monkeypatch):
    go, read = threading.Event(), OnnxModel.read

    def blocked(self, *args):
        go.wait(60)
        return read(self, *args)

    monkeypatch.setattr(OnnxModel, "read", blocked)
    with served(model, site=site, queue=QueueLimits(answer_s=60.0)) as running:
        threads = [threading.Thread(target=running.ask, args=("POST", "/predict", LEFT)) for _ in range(6)]
        for thread in threads:
            thread.start()
        assert running.ask_json("POST", "/predict", SKETCH)[0] == 200
        assert all(thread.is_alive() for thread in threads)
        go.set()
        for thread in threads:
            thread.join()


def test_pictures_that_decode_to_too_much_together_are_refused(model, site):
    form = b"".join(b"--x\r\ncontent-disposition: form-data; filename=a\r\n\r\n" + LEFT + b"\r\n" for _ in range(3)) + b"--x--"
    with served(model, site=site, queue=QueueLimits(waiting=2)) as running:
        status, body = running.ask_json("POST", "/predict", form, "multipart/form-data; boundary=x")
        assert (status, body["error"]["code"]) == (413, "too_large_together")
        assert running.ask_json("POST", "/predict", LEFT)[0] == 200


def test_all_decoders_together_take_no_more_than_their_bytes():
    """The bound that the documentation states, from the limits alone: none of it depends on what clients send."""
    queue, pictures = QueueLimits(), PictureLimits()
    assert pictures.decoded_bytes == queue.decoding_bytes == 384 << 20
    assert pictures.pixels * ALPHA <= pictures.decoded_bytes  # a picture of as many pixels as are said is read


def test_options_say_what_is_allowed(server):
    status, headers, body = server.ask("OPTIONS", "/predict")
    assert (status, headers["allow"], body) == (204, "POST, OPTIONS", b"")
    assert "content-length" not in headers
    assert server.ask("DELETE", "/docs")[1]["allow"] == "GET, HEAD, OPTIONS"


def test_many_clients_at_once_are_all_answered_right(server):
    wrong = []

    def client(side):
        for _ in range(5):
            body = server.ask_json("POST", "/predict?top=1", png(bar(side)))[1]
            if body["answers"][0]["top"][0]["class_name"] != side:
                wrong.append(body)

    threads = [threading.Thread(target=client, args=(CLASS_NAMES[i % 4],)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_past_the_queue_clients_get_429(model, site):
    with served(model, site=site, queue=QueueLimits(waiting=0)) as running:
        status, headers, body = running.ask("POST", "/predict", LEFT)
        assert (status, headers["retry-after"]) == (429, "1")
        assert json.loads(body)["error"]["code"] == "queue_full"


def test_past_their_time_clients_get_504(model, site):
    with served(model, site=site, queue=QueueLimits(answer_s=0.0)) as running:
        assert running.ask_json("POST", "/predict", LEFT)[1]["error"]["code"] == "too_late"


def test_past_the_body_limit_clients_get_413(model, site):
    with served(model, site=site, limits=HttpLimits(body_bytes=100)) as running:
        status, body = running.ask_json("POST", "/predict", b"x" * 101)
        assert (status, body["error"]["code"]) == (413, "body_too_large")


def test_without_an_index_there_are_no_neighbours(tmp_path, site):
    with served(write_model(tmp_path / "m.onnx"), site=site) as running:
        assert running.ask_json("GET", "/api/model")[1]["nearest"] is False
        assert running.ask_json("POST", "/predict", LEFT)[1]["answers"][0]["nearest"] == []


def test_another_models_index_is_refused(tmp_path, site):
    path = write_model(tmp_path / "m.onnx")
    save_index(index_path(path), build_index(np.ones((3, 9)), np.arange(3), [b""] * 3))
    with pytest.raises(ExportError, match="expected 4 features"), served(path, site=site):
        pass


def test_an_address_in_use_is_said(server, model, site):
    from inkfold.serve.server import ServeOptions, serve

    with pytest.raises(InkfoldError, match="Choose another with --host or --port"):
        serve(model, ServeOptions(port=server.port, site=site), print)


def test_off_loopback_there_are_a_token_a_warning_and_no_foreign_names(model, site):
    with served(model, site=site, host="0.0.0.0") as running:
        while not running.said[-1].startswith("WARNING"):
            time.sleep(0.01)
        assert "can be reached from other machines" in running.said[-1]
        token = re.search(r"/\?token=(\S+)", running.said[-2])[1]
        assert running.ask("POST", "/predict", LEFT)[0] == 401
        assert running.ask("POST", "/predict", LEFT, {"authorization": f"Bearer {token}"})[0] == 200
        assert running.ask("GET", "/healthz")[0] == 200
        assert running.ask("GET", "/healthz", headers={"host": "drawings.lan"})[0] == 400
        assert running.ask_json("GET", "/metrics")[1]["error"]["code"] == "no_token"


def test_off_loopback_a_token_can_be_done_without(model, site):
    access = AccessOptions(no_token=True, allow_hosts=("drawings.lan",))
    with served(model, site=site, host="0.0.0.0", access=access) as running:
        assert running.ask("GET", "/", headers={"host": "drawings.lan"})[0] == 200
        assert running.ask("GET", "/", headers={"host": "foreign.lan"})[0] == 400


@pytest.mark.parametrize("host", ["", "::", "LOCALHOST", "127.0.0.1:0"])
def test_addresses_are_understood_in_every_form(model, site, host):
    with served(model, site=site, host=host, access=AccessOptions(no_token=True)) as running:
        assert running.ask("GET", "/healthz")[0] == 200


def test_a_request_without_the_token_is_refused_before_its_body_is_read(model, site):
    with served(model, site=site, access=AccessOptions(token="a-token-of-nineteen")) as running, running.connect() as begun:
        begun.sendall(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8000000\r\n\r\n")
        assert b" 401 " in begun.recv(100)


def test_the_figures_have_a_port_of_their_own(model, site):
    with served(model, site=site, access=AccessOptions(token="a-token-of-nineteen", metrics_port=0)) as running:
        line = next(line for line in running.said if line.startswith("metrics:"))
        monitor = Server(int(re.search(r":(\d+)/metrics", line)[1]), [])
        assert b"inkfold_connections" in monitor.ask("GET", "/metrics")[2]
        assert monitor.ask("GET", "/api/model")[0] == 404
        headers = {"authorization": "Bearer a-token-of-nineteen"}
        assert running.ask("GET", "/metrics", headers=headers)[0] == 404
        document = json.loads(running.ask("GET", "/openapi.json", headers=headers)[2])
        assert "/metrics" not in document["paths"]


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM ends a process at once there")
def test_sigterm_stops_it_with_answers_in_flight_sent(model, tmp_path):
    command = [sys.executable, "-W", "error", "-m", "inkfold", "serve", str(model), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(tmp_path))
    assert "serving toy" in process.stdout.readline()
    port = int(process.stdout.readline().split()[1].rsplit(":", 1)[1].strip("/"))
    with process.stdout, process.stderr, Server(port, []).connect() as begun:
        begun.sendall(f"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(LEFT)}\r\n\r\n".encode() + LEFT[:50])
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        begun.sendall(LEFT[50:])
        assert b'"class_name":"left"' in answered(begun)
        assert process.wait(10) == 0
        assert process.stdout.read().startswith("stopping")
        assert process.stderr.read() == ""
