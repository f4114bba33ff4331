"""Toy ONNX files that keep to the interface of exported models: where on the page the ink is decides the class."""

import json

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from inkfold.report.thumbnails import grey_png
from inkfold.serve.nearest import build_index, index_path, save_index

SIZE_PX = 32
CLASS_NAMES = ("left", "right", "top", "bottom")
RING_CLASSES = ("line", "sun", "umbrella", "바다", "the Eiffel Tower", *(f"class {i}" for i in range(95)))
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
    halves = np.zeros((side, side, 4), np.float32)
    halves[:, : side // 2, 0], halves[:, side // 2 :, 1] = 1, 1
    halves[: side // 2, :, 2], halves[side // 2 :, :, 3] = 1, 1
    return write_ink_model(path, halves / side**2, np.eye(4) * sharpness, np.zeros(4), about)


def write_ring_model(path):
    """A model that calls ink in the very middle of the page a line and other ink a sun; the other classes are never first."""
    sure = [{**one, "count": 1000, "accuracy": min(0.97, one["accuracy"] + 0.03)} for one in RELIABILITY]
    names = list(RING_CLASSES)
    about = about_json(class_names=names, class_targets=list(range(len(names))), num_features=2, reliability=sure)
    side, middle = 96, slice(44, -44)
    about["image"]["size_px"] = side
    places = np.zeros((side, side, 2), np.float32)
    places[middle, middle, 0], places[..., 1] = 1 / 8**2, 1 / side**2
    outputs, bias = np.zeros((2, len(names))), np.full(len(names), -6.0)
    outputs[0, :2], bias[:5] = (200, -200), (0, 8, 1, 0.5, 0.2)
    return write_ink_model(path, places, outputs, bias, about)


def write_ink_model(path, places, outputs, bias, about):
    """Write a model whose features are the ink of some places, (side, side, features), and whose logits are linear in them."""
    features, classes = outputs.shape
    tensors = {
        "channels": np.array([3], np.int64),
        "paper": np.array(255, np.float32),
        "flat": np.array([0, -1], np.int64),
        "places": (places.reshape(-1, features) / 255).astype(np.float32),
        "outputs": outputs.astype(np.float32),
        "bias": bias.astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "channels"], ["grey"], keepdims=0),
        helper.make_node("Sub", ["paper", "grey"], ["ink"]),
        helper.make_node("Reshape", ["ink", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "places"], ["features"]),
        helper.make_node("MatMul", ["features", "outputs"], ["unbiased"]),
        helper.make_node("Add", ["unbiased", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probs"], axis=1),
    ]
    sizes = {"probs": classes, "features": features}
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", "channels"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name, size in sizes.items()],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"inkfold": json.dumps(about)})
    path.write_bytes(model.SerializeToString())
    return path


def write_ring_index(model):
    """An index beside a ring model, of drawings that can be told apart by nothing but their class."""
    classes = np.repeat(np.arange(5), 4)
    features = np.stack([classes + 1.0, np.ones(len(classes))], axis=1)
    index = build_index(features, classes, [grey_png(np.full((64, 64), 200, np.uint8))] * len(classes))
    save_index(index_path(model), index)
