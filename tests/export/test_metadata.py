import json
from dataclasses import replace

import numpy as np
import pytest

from inkfold.errors import ExportError
from inkfold.export.graph import Graph
from inkfold.export.metadata import KEY, About, read_about
from toy import python

ABOUT = About(
    name="best",
    run="f00d",
    class_names=("사과", "fish"),
    class_targets=(3, 1),
    image={"size_px": 32, "fit": "pad", "colour": "auto", "invert": "auto", "interpolation": "bicubic", "pixel_limit": 9},
    fitted=False,
    num_features=64,
    backbones=("test_resnet",),
    folds=5,
    precision="float32",
    accuracy={"value": 0.5, "ci95": [0.4, 0.6], "of": "out_of_fold"},
    reliability=({"low": 0.0, "high": 0.1, "count": 0, "confidence": None, "accuracy": None},),
    look={"line_width_fraction": 0.01, "margin_fraction": 0.05, "ink": 0, "paper": 255},
    versions={"inkfold": "0"},
)


def model(**metadata):
    g = Graph()
    g.call(g.op("Neg", "x"), "y")
    return g.model({"x": (np.float32, ["n"])}, {"y": ["n"]}, metadata).SerializeToString()


def test_a_file_says_what_was_put_in(tmp_path):
    data = model(**{KEY: ABOUT.as_json()})
    assert read_about(data) == ABOUT
    (tmp_path / "model.onnx").write_bytes(data)
    assert read_about(tmp_path / "model.onnx") == ABOUT


def test_another_files_model_is_refused(tmp_path):
    with pytest.raises(ExportError, match="not one of inkfold's"):
        read_about(model())
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match=r"model\.onnx: no ONNX model"):
        read_about(tmp_path / "model.onnx")


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"format": 2})])
def test_what_cant_be_read_is_refused(text):
    with pytest.raises(ExportError, match="Export again"):
        About.from_json(text)


def test_what_is_missing_is_named():
    raw = json.loads(replace(ABOUT, accuracy=None).as_json())
    del raw["look"]
    with pytest.raises(ExportError, match="look"):
        About.from_json(json.dumps(raw))


def test_reading_needs_neither_torch_nor_onnx():
    code = "import sys, inkfold.export.metadata; print(sorted({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    assert python(code) == "[]"


def test_a_rule_is_in_the_description_and_decides(tmp_path):
    rule = {"kind": "weighted", "numbers": [1.0, 4.0], "scale": 1.0, "offset": 0.0}
    about = read_about(model(**{KEY: replace(ABOUT, decision=rule).as_json()}))
    assert about.decision == rule
    probs = np.array([[0.7, 0.3], [0.9, 0.1]], np.float32)
    assert about.decide(probs).tolist() == [1, 0]
    assert ABOUT.decide(probs).tolist() == [0, 0]
    assert "decision" not in json.loads(ABOUT.as_json()), "files without a rule are as they were"


def test_a_rule_for_other_classes_is_refused():
    text = json.dumps({**json.loads(ABOUT.as_json()), "decision": {"kind": "weighted", "numbers": [1.0]}})
    with pytest.raises(ExportError, match=r"its description can't be read: .*decision is not a rule for 2 classes"):
        read_about(model(**{KEY: text}))
