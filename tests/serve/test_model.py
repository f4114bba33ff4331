import json

import numpy as np
import pytest

from inkfold.errors import ExportError
from inkfold.images.decode import BrokenImage
from inkfold.serve.model import OnnxModel
from models import CLASS_NAMES, about_json, write_model
from served import bar, png
from toy import python


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "toy.onnx")


@pytest.fixture(scope="module")
def onnx_model(model):
    return OnnxModel(model)


def read(onnx_model, pixels):
    return onnx_model.read(png(pixels), onnx_model.check(png(pixels)))[0]


@pytest.mark.parametrize("side", CLASS_NAMES)
def test_pages_and_files_are_answered(onnx_model, side):
    output = onnx_model.predict([onnx_model.preprocess(bar(side)), read(onnx_model, bar(side))])
    assert [CLASS_NAMES[i] for i in output.probs.argmax(1)] == [side, side]
    np.testing.assert_allclose(output.probs.sum(1), 1, rtol=1e-5)
    assert output.features.shape == (2, 4)


def test_grey_and_coloured_drawings_share_a_batch(onnx_model):
    colour = np.repeat(bar("left")[..., None], 3, 2)
    colour[colour[..., 0] == 0] = (200, 0, 0)
    alone = onnx_model.predict([onnx_model.preprocess(bar("top"))]).probs[0]
    both = onnx_model.predict([onnx_model.preprocess(bar("top")), onnx_model.preprocess(colour)])
    np.testing.assert_allclose(both.probs[0], alone, rtol=1e-5)
    assert both.probs[1].argmax() == 0


def test_the_header_is_believed_before_a_bomb_is_decoded(onnx_model):
    with pytest.raises(BrokenImage, match="at most 1000000"):
        onnx_model.check(png(np.zeros((1001, 1000), np.uint8)))


def test_a_set_of_files_votes_with_its_weights(tmp_path):
    write_model(tmp_path / "a.onnx", sharpness=0.0)  # all classes alike
    image = {**about_json()["image"], "size_px": 16}
    write_model(tmp_path / "b.onnx", image=image)
    members = {**about_json(), "files": ["a.onnx", "b.onnx"], "weights": [1, 3]}
    (tmp_path / "set.json").write_text(json.dumps(members))
    together, alone = OnnxModel(tmp_path), OnnxModel(tmp_path / "b.onnx")
    of_b = alone.predict([alone.preprocess(bar("left"))]).probs
    of_set = together.predict([together.preprocess(bar("left"))]).probs
    np.testing.assert_allclose(of_set, 0.25 * 0.25 + 0.75 * of_b, rtol=1e-5)


@pytest.mark.parametrize("text", ["{", "[]", '{"files": ["a"], "weights": []}', '{"files": [], "weights": []}'])
def test_a_set_that_contradicts_itself_is_refused(tmp_path, text):
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(ExportError, match=r"set\.json"):
        OnnxModel(tmp_path)


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match=r"x\.onnx: can't be loaded"):
        OnnxModel(tmp_path / "x.onnx")


def test_the_server_loads_no_torch(model):
    code = (
        "import sys\nfrom pathlib import Path\nimport inkfold.serve.server, inkfold.serve.application\n"
        f"inkfold.serve.predict.load_model(Path({str(model)!r}))\n"
        "print([name for name in ('torch', 'torchvision', 'timm', 'onnx', 'matplotlib') if name in sys.modules])"
    )
    assert python(code) == "[]"
