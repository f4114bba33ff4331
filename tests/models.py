"""Toy ONNX files that keep to the interface of exported models: how dark each cell of a grid is decides the class."""

import json

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SIZE_PX = 32
CLASS_NAMES = ("left", "right", "top", "bottom")
RELIABILITY = [
    {"low": i / 10, "high": (i + 1) / 10, "count": 200, "confidence": i / 10 + 0.05, "accuracy": round(i / 10 + 0.05, 2)}
    for i in range(10)
]


def about_json(**changes):
    """Metadata as export writes them."""
    return {
        "format": 1,
        "name": "toy",
        "run": "0" * 32,
        "class_names": list(CLASS_NAMES),
        "class_targets": [10, 20, 30, 40],
        "image": {
            "size_px": SIZE_PX,
            "fit": "pad",
            "colour": "auto",
            "invert": "auto",
            "interpolation": "bilinear",
            "pixel_limit": 1_000_000,
        },
        "fitted": False,
        "num_features": 4,
        "backbones": ["toy"],
        "folds": 1,
        "precision": "float32",
        "accuracy": {"value": 0.75, "ci95": [0.7, 0.8], "of": "out_of_fold"},
        "reliability": RELIABILITY,
        "look": {"line_width_fraction": 0.02, "margin_fraction": 0.05, "ink": 0, "paper": 255},
        "versions": {"inkfold": "0", "torch": "0", "timm": "0", "onnx": "0"},
        **changes,
    }


def write_model(path, sharpness=40.0, **changes):
    """A model that says in which half of the page the ink is: features are the ink of the four halves."""
    about = about_json(**changes)
    side = about["image"]["size_px"]
    halves = np.zeros((4, side, side), np.float32)
    halves[0, :, : side // 2], halves[1, :, side // 2 :] = 1, 1
    halves[2, : side // 2], halves[3, side // 2 :] = 1, 1
    weights = (halves.reshape(4, -1) / 255 / side**2).T
    tensors = {
        "channels": np.array([3], np.int64),
        "paper": np.array(255, np.float32),
        "flat": np.array([0, -1], np.int64),
        "weights": weights,
        "sharp": np.array(sharpness, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "channels"], ["grey"], keepdims=0),
        helper.make_node("Sub", ["paper", "grey"], ["ink"]),
        helper.make_node("Reshape", ["ink", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["features"]),
        helper.make_node("Mul", ["features", "sharp"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probs"], axis=1),
    ]
    shape = ["batch", "height", "width", "channels"]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("probs", "features")],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"inkfold": json.dumps(about)})
    path.write_bytes(model.SerializeToString())
    return path
