"""Turns a backbone into an ONNX model from normalised drawings to features; silences PyTorch's exporter and the quantiser."""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from inkfold.errors import ExportError
from inkfold.export.graph import IR_VERSION, OPSET, onnx
from inkfold.models.backbone import build_model
from inkfold.models.layers import LAST, features_of
from inkfold.models.weights import BackboneInfo

BATCH_SIZE = 8

EXAMPLES = 2  # a batch of one would be taken for a constant
IMAGES, FEATURES = "images", "features"


def trace(info: BackboneInfo) -> onnx.ModelProto:
    """Export a backbone's computation in float32.

    Args:
        info: The backbone's name, image size, mean and std, and the file of its weights.

    Returns:
        A model of `images`, float32 (batch, 3, size, size), that gives `features`, (batch, d).

    Raises:
        ExportError: If PyTorch's exporter can't trace the model.
    """
    model = _Extraction(info) if info.features != LAST else build_model(info)
    example = torch.zeros(EXAMPLES, len(info.mean), info.image_size, info.image_size)
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[IMAGES],
                output_names=[FEATURES],
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                verbose=False,
            )
    except ImportError as error:
        raise ExportError(f"export: needs onnxscript ({error}). Install it: pip install 'inkfold[export]'.") from None
    except Exception as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(
            f"backbone '{info.name}': PyTorch can't export it: {words[0][:300]}. Take another backbone."
        ) from error
    assert program is not None
    traced = program.model_proto
    traced.ir_version = IR_VERSION
    return traced


class _Extraction(torch.nn.Module):
    """A backbone's way from normalised drawings to features."""

    def __init__(self, info: BackboneInfo) -> None:
        super().__init__()
        self.model, self.kind = build_model(info), info.features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return features_of(self.model, images, self.kind)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings about its own code."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def is_convnet(model: onnx.ModelProto) -> bool:
    """Return whether most weights belong to convolutions."""
    sizes = {weights.name: int(np.prod(weights.dims)) for weights in model.graph.initializer}
    by_kind = {"Conv": 0, "MatMul": 0, "Gemm": 0}
    for node in model.graph.node:
        if node.op_type in by_kind:
            by_kind[node.op_type] += sum(sizes.get(name, 0) for name in node.input)
    return by_kind["Conv"] > by_kind["MatMul"] + by_kind["Gemm"]


def quantise(model: onnx.ModelProto, images: Float32[np.ndarray, "n 3 size size"]) -> onnx.ModelProto:
    """Quantise a backbone's weights and activations to 8-bit integers.

    Args:
        model: A float32 backbone, from `trace`.
        images: Normalised drawings, on which the ranges of a convnet's activations are measured.

    Returns:
        A model with the same inputs and outputs.
    """
    from onnxruntime import quantization  # noqa: PLC0415 - a second

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.starts = iter(range(0, len(images), BATCH_SIZE))

        def get_next(self) -> dict[str, Any] | None:
            start = next(self.starts, None)
            return None if start is None else {IMAGES: images[start : start + BATCH_SIZE]}

    with tempfile.TemporaryDirectory() as directory, _without_advice():
        source, prepared, target = (str(Path(directory) / name) for name in ("source.onnx", "prepared.onnx", "target.onnx"))
        onnx.save(model, source)
        quantization.quant_pre_process(source, prepared, skip_symbolic_shape=True)
        if is_convnet(model):
            quantization.quantize_static(prepared, target, Reader(), per_channel=True)
        else:
            quantization.quantize_dynamic(prepared, target, per_channel=True, weight_type=quantization.QuantType.QInt8)
        return onnx.load(target)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Silence the quantiser's advice, which it writes to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
