"""Small ONNX graphs run for tests."""

import numpy as np

from inkfold.export.verify import open_session


def run_graph(graph, inputs, output):
    """Finish a graph whose inputs are arrays, and run it."""
    given = {name: (values.dtype, [f"{name}{i}" for i in range(values.ndim)]) for name, values in inputs.items()}
    graph.call(output, "out")
    model = graph.model(given, {"out": None}, {})
    return open_session(model.SerializeToString()).run(["out"], dict(inputs))[0]


def as_images(pixels):
    """One drawing as a file takes it."""
    return (pixels if pixels.ndim == 3 else pixels[..., None])[None]


def as_three(pixels):
    """Three channels, as numbers."""
    return (pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)).astype(np.float32)
