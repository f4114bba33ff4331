import numpy as np
import pytest
import torch

from inkfold.errors import ExportError
from inkfold.export.backbone import trace
from inkfold.export.verify import open_session
from inkfold.models.backbone import build_model
from inkfold.models.weights import BackboneSpec, resolve_backbone

# As the winner's: rotary positions, SwiGLU.
VISION_TRANSFORMER = pytest.param("eva02_tiny_patch14_224", 28, marks=pytest.mark.slow)


def info_of(name, size):
    return resolve_backbone(BackboneSpec(name, weights="untrained", image_size=size))


@pytest.mark.parametrize(("name", "size"), [("test_resnet", 32), VISION_TRANSFORMER])
def test_a_model_gives_the_features_that_pytorch_gives_for_any_batch(name, size):
    info = info_of(name, size)
    session = open_session(trace(info).SerializeToString())
    for n in (1, 3):
        images = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(n))
        with torch.inference_mode():
            expected = build_model(info)(images).numpy()
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
