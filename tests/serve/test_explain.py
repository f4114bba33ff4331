import base64
import io

import numpy as np
import pytest
from PIL import Image

from inkfold.explain.picture import AGAINST, FOR
from inkfold.images.preprocess import ImageOptions
from inkfold.images.strokes import Sketch, Stroke, draw_page, page_of
from inkfold.serve.batching import QueueLimits
from inkfold.serve.explain import bounds_of
from inkfold.serve.schemas import Explanation
from models import CLASS_NAMES, about_json, write_model
from served import served

LEFT, RIGHT = [[10, 20], [10, 80]], [[80, 45], [80, 55]]
SKETCH = {"strokes": [LEFT, RIGHT], "width": 100, "height": 100}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(write_model(tmp_path_factory.mktemp("explain") / "toy.onnx")) as server:
        yield server


def test_strokes_that_make_the_answer_come_first_in_the_sketchs_own_units(server):
    status, answer = server.ask_json("POST", "/explain?strokes=2&class=left", SKETCH)
    assert status == 200
    Explanation.model_validate(answer)
    first, second = answer["strokes"]
    assert answer["class_name"] == "left"
    assert first["effect"] > 0 > second["effect"]
    assert first["box"]["left"] < 10 < first["box"]["right"] < 40
    assert first["box"]["top"] == pytest.approx(20, abs=5)
    assert first["box"]["bottom"] == pytest.approx(80, abs=5)
    assert second["box"]["left"] > 60
    assert first["ink_fraction"] > second["ink_fraction"]
    _, predicted = server.ask_json("POST", "/predict", SKETCH)
    assert answer["probability"] == next(
        one["probability"] for one in predicted["answers"][0]["top"] if one["class_name"] == "left"
    )


def test_the_picture_colours_the_ink_where_the_bounds_say(server):
    _, answer = server.ask_json("POST", "/explain?strokes=2&class=left", SKETCH)
    layer = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["picture"].partition(",")[2]))))
    bounds, unit = answer["bounds"], layer.shape[0] / (answer["bounds"]["right"] - answer["bounds"]["left"])
    column, row = round((10 - bounds["left"]) * unit), round((50 - bounds["top"]) * unit)
    on_left = layer[row, column - 1 : column + 2]
    on_left = on_left[on_left[:, 3].argmax()]
    assert on_left[3] > 200
    assert np.abs(on_left[:3].astype(int) - FOR).max() < 30
    on_right = layer[row, round((80 - bounds["left"]) * unit) - 1]
    assert on_right[0] > on_right[2] or on_right[3] < 50
    assert AGAINST[0] > AGAINST[2]
    assert layer[0, 0, 3] == 0


def test_a_picture_is_explained_in_its_pixels(server):
    page = Image.new("L", (200, 100), 255)
    page.paste(0, (20, 10, 30, 90))
    page.paste(0, (170, 45, 180, 55))
    file = io.BytesIO()
    page.save(file, "PNG")
    status, answer = server.ask_json("POST", "/explain?strokes=2&against=right&frame=page", file.getvalue(), "image/png")
    assert status == 200
    assert answer["bounds"] == {"left": 0, "top": -50, "right": 200, "bottom": 150}
    assert answer["against"] == "right"
    first = answer["strokes"][0]["box"]
    assert (first["left"], first["right"]) == (pytest.approx(20, abs=9), pytest.approx(30, abs=9))
    assert (first["top"], first["bottom"]) == (pytest.approx(10, abs=13), pytest.approx(90, abs=13))


def test_a_blank_page_rests_on_nothing(server):
    status, answer = server.ask_json("POST", "/explain", {"strokes": [], "width": 1, "height": 1})
    assert (status, answer["strokes"], answer["bounds"]) == (200, [], None)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("against=up", "against='up' in the query"),
        ("strokes=0", "strokes='0' in the query"),
        ("class=left&against=left", "which is the class that is explained"),
    ],
)
def test_wrong_values_are_refused_with_a_word(server, query, words):
    status, answer = server.ask_json("POST", f"/explain?{query}", SKETCH)
    assert status == 422
    assert words in answer["error"]["reason"]


def test_several_drawings_are_refused(server):
    page = io.BytesIO()
    Image.new("L", (20, 20), 255).save(page, "PNG")
    part = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + page.getvalue() + b"\r\n"
    status, answer = server.ask_json("POST", "/explain", part * 2 + b"--b--\r\n", "multipart/form-data; boundary=b")
    assert (status, answer["error"]["expected"]) == (422, "one drawing")
    assert server.ask("GET", "/explain")[0] == 405


def test_an_explanation_takes_a_place_of_the_queue_for_each_variant(tmp_path):
    with served(write_model(tmp_path / "toy.onnx"), queue=QueueLimits(waiting=2)) as server:
        assert server.ask_json("POST", "/predict", SKETCH)[0] == 200
        status, answer = server.ask_json("POST", "/explain?strokes=2", SKETCH)
        assert (status, answer["error"]["code"]) == (429, "queue_full")
        assert server.ask_json("POST", "/predict", SKETCH)[0] == 200


def test_the_drawn_page_is_where_its_ink_says():
    look = about_json()["look"]
    sketch = Sketch((Stroke(np.array([[30.0, 40.0], [70.0, 40.0]])), Stroke(np.array([[50.0, 20.0], [50.0, 60.0]]))), 100, 100)
    left, top, right, bottom = page_of(sketch, look)
    page = draw_page(sketch, look)
    rows, columns = np.flatnonzero((page < 128).any(1)), np.flatnonzero((page < 128).any(0))
    unit = (right - left) / len(page)
    assert right - left == pytest.approx(bottom - top)
    assert left + (columns[0] + columns[-1] + 1) / 2 * unit == pytest.approx(50, abs=0.2)
    assert top + (rows[0] + rows[-1] + 1) / 2 * unit == pytest.approx(40, abs=0.2)
    assert (columns[-1] - columns[0]) * unit == pytest.approx(40, rel=0.1)
    assert page_of(Sketch((), 100, 100), look) is None


def test_bounds_follow_how_the_model_takes_pages():
    look, sketch = about_json()["look"], Sketch((Stroke(np.array([[0.0, 0.0], [40.0, 20.0]])),), 100, 100)
    options = {how: ImageOptions(size_px=32, resize=how) for how in ("pad", "squash", "crop_to_ink")}
    frame = (10.0, 20.0, 50.0, 40.0)
    assert bounds_of(b"", frame, look, options["pad"], is_chosen=False) == (10, 10, 50, 50)
    assert bounds_of(b"", frame, look, options["squash"], is_chosen=True) == frame
    assert bounds_of(b"", frame, look, options["crop_to_ink"], is_chosen=True) is None
    assert bounds_of(b"", None, look, options["pad"], is_chosen=False) is None
    whole, cropped = (bounds_of(sketch, None, look, options[how], is_chosen=False) for how in ("pad", "crop_to_ink"))
    assert whole[0] <= cropped[0] < cropped[2] <= whole[2]
    assert cropped[2] - cropped[0] == pytest.approx(40, rel=0.2)
    assert len(CLASS_NAMES) == 4


def test_a_server_without_scipy_says_so(server, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'scipy.ndimage'", name="scipy.ndimage")

    monkeypatch.setattr("inkfold.serve.predict.import_module", missing)
    status, told = server.ask_json("POST", "/explain", SKETCH)
    assert status == 501
    assert told["error"]["do"] == "Install it on the server: pip install scipy."
    assert server.ask_json("POST", "/predict", SKETCH)[0] == 200
