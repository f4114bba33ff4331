"""A backbone as an ONNX model: normalised drawings in, features out. What PyTorch's exporter needs and says stays here."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

import torch

from inkfold.errors import ExportError
from inkfold.export.graph import IR_VERSION, OPSET, onnx
from inkfold.models.backbone import build_model
from inkfold.models.weights import BackboneInfo

EXAMPLES = 2  # a batch of one would be taken for a constant
IMAGES, FEATURES = "images", "features"


def trace(info: BackboneInfo) -> onnx.ModelProto:
    """Write down what a backbone computes, in float32.

    Args:
        info: The resolved backbone.

    Returns:
        A model of `images`, float32 (batch, 3, size, size), that gives `features`, (batch, d).

    Raises:
        ExportError: If the exporter can't follow the model.
    """
    model = build_model(info)
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own code to itself."""
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
