import io
import json
import threading
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

import inkfold
from inkfold.errors import InkfoldError
from models import write_model
from served import bar, png

SKETCH = {"strokes": [[[10, 10], [10, 90]]], "width": 100, "height": 100}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "toy.onnx", sharpness=400.0)


def ask(url, body, kind):
    request = urllib.request.Request(f"{url}predict", body, {"content-type": kind})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["answers"][0]["top"][0]["class_name"]


def test_a_server_answers_from_a_thread_and_closes_by_with(model, capfd):
    before = threading.active_count()
    with inkfold.serve(model) as server, inkfold.serve(model, threads=1) as other:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.url != other.url, "each takes a free port"
        assert ask(server.url, png(bar("left")), "image/png") == "left"
        onnx = inkfold.serve.OnnxModel(model)
        own = onnx.about.class_names[onnx.predict_proba(SKETCH)[0].argmax()]
        assert ask(server.url, json.dumps(SKETCH).encode(), "application/json") == own
        assert repr(server) == f"<inkfold server at {server.url}>"
    assert not server.is_running
    assert "closed" in repr(server)
    server.close()
    ends = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < ends:  # those that decoded end a moment after the server
        time.sleep(0.01)
    assert threading.active_count() == before, threading.enumerate()
    assert capfd.readouterr() == ("", "")
    with pytest.raises(OSError, match="refused"):
        ask(server.url, b"", "image/png")


def test_an_exported_model_takes_drawings_in_every_form(model, tmp_path):
    page = bar("left")
    (tmp_path / "left.png").write_bytes(png(page))
    onnx = inkfold.serve.OnnxModel(model)
    expected = onnx.predict_proba(page)
    assert onnx.about.class_names[expected[0].argmax()] == "left"
    forms = (
        png(page),
        tmp_path / "left.png",
        Image.fromarray(page),
        page / 255,
        io.BytesIO(png(page)),
        (one for one in [page]),
    )
    for form in forms:
        np.testing.assert_array_equal(onnx.predict_proba(form), expected)
    strokes = onnx.predict_proba(SKETCH)
    np.testing.assert_array_equal(strokes, onnx.predict_proba(json.dumps(SKETCH)))
    assert onnx.predict_proba([]).shape == (0, expected.shape[1])
    with pytest.raises(inkfold.InkfoldError, match=r"drawing drawings\[1\]: has 0 bytes"):
        onnx.predict_proba([page, b""])
    with pytest.raises(inkfold.InkfoldError, match=r"drawing .*gone\.png: .*No such file"):
        onnx.predict_proba([tmp_path / "gone.png"])


def test_what_keeps_it_from_listening_is_raised_where_it_was_asked_for(model, tmp_path):
    with inkfold.serve(model) as server:
        port = int(server.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(InkfoldError, match=f"127.0.0.1:{port}: can't listen there"):
            inkfold.serve(model, port=port)
    with pytest.raises(InkfoldError, match="no such file or directory"):
        inkfold.serve(tmp_path / "gone")
    with pytest.raises(InkfoldError, match="serve: got prot, expected options among"):
        inkfold.serve(model, prot=1)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(InkfoldError, match=r"broken\.onnx"):
        inkfold.serve(tmp_path / "broken.onnx")


def test_a_server_that_others_reach_has_a_token_in_its_address(model):
    with inkfold.serve(model, host="0.0.0.0") as server:
        assert "?" in server.url
    with inkfold.serve(model, token="x" * 40) as server:
        assert "x" * 40 in server.url
