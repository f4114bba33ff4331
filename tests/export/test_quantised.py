import numpy as np
import pytest

from inkfold.export.graph import Graph
from inkfold.export.quantised import is_convnet, quantise
from inkfold.export.verify import open_session


def network(kind):
    """A small network: one convolution and a matrix product, either of which may be the larger."""
    rng = np.random.default_rng(0)
    channels, width = (64, 4) if kind == "convnet" else (4, 512)
    g = Graph()
    convolved = g.op("Conv", "images", g.const(rng.normal(0, 0.2, (channels, 3, 3, 3)), np.float32))
    pooled = g.op("ReduceMean", g.op("Relu", convolved), g.ints(2, 3), keepdims=0)
    g.call(g.op("MatMul", pooled, g.const(rng.normal(0, 0.2, (channels, width)), np.float32)), "features")
    return g.model({"images": (np.float32, ["batch", 3, 16, 16])}, {"features": ["batch", width]}, {})


@pytest.mark.parametrize("kind", ["convnet", "transformer"])
def test_8_bits_come_near_and_are_smaller(kind):
    model, images = network(kind), np.random.default_rng(1).normal(0, 1, (20, 3, 16, 16)).astype(np.float32)
    assert is_convnet(model) == (kind == "convnet")
    quantised = quantise(model, images)
    kinds = {node.op_type for node in quantised.graph.node}
    assert ("DequantizeLinear" in kinds) == (kind == "convnet")
    assert ("MatMulInteger" in kinds) == (kind == "transformer")
    before, after = (open_session(one.SerializeToString()).run(None, {"images": images})[0] for one in (model, quantised))
    assert np.abs(before - after).max() < 0.05 * np.abs(before).max()
    if kind == "transformer":
        assert quantised.ByteSize() < model.ByteSize()
