import numpy as np
import pytest
import torch

from inkfold.errors import ExportError
from inkfold.export.backbone import is_convnet, quantise, trace
from inkfold.export.graph import Graph
from inkfold.export.verify import open_session
from inkfold.models.backbone import build_model
from inkfold.models.layers import features_of
from inkfold.models.weights import BackboneSpec, resolve_backbone

# As the winner's: rotary positions, SwiGLU.
VISION_TRANSFORMER = pytest.param("eva02_tiny_patch14_224", 28, marks=pytest.mark.slow)


def info_of(name, size):
    return resolve_backbone(BackboneSpec(name=name, weights="untrained", image_size=size))


@pytest.mark.parametrize(("name", "size"), [("test_resnet", 32), VISION_TRANSFORMER])
def test_a_model_gives_the_features_that_pytorch_gives_for_any_batch(name, size):
    info = info_of(name, size)
    session = open_session(trace(info).SerializeToString())
    for n in (1, 3):
        images = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(n))
        with torch.inference_mode():
            expected = build_model(info)(images).numpy()
        np.testing.assert_allclose(session.run(["features"], {"images": images.numpy()})[0], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["test_efficientnet", pytest.param("test_vit", marks=pytest.mark.slow)])
def test_a_model_gives_the_features_of_all_layers_that_pytorch_gives(name):
    info = resolve_backbone(BackboneSpec(name=name, weights="untrained", features="layers"))
    session = open_session(trace(info).SerializeToString())
    images = torch.randn(3, 3, info.image_size, info.image_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = features_of(build_model(info), images, "layers").numpy()
    np.testing.assert_allclose(session.run(["features"], {"images": images.numpy()})[0], expected, atol=1e-4)


def test_what_pytorch_cant_export_is_told_by_name(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("unsupported operator\nand much more")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(ExportError, match=r"'test_resnet.*unsupported operator\. Take another backbone"):
        trace(info_of("test_resnet", 32))


def test_a_missing_exporter_is_told(monkeypatch):
    def missing(*_, **__):
        raise ImportError("no onnxscript")

    monkeypatch.setattr(torch.onnx, "export", missing)
    with pytest.raises(ExportError, match=r"pip install 'inkfold\[export\]'"):
        trace(info_of("test_resnet", 32))


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
