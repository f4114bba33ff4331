"""A backbone in 8-bit whole numbers: convolutions by ranges measured on drawings, matrix products by ranges found as they run.

Vision transformers lose too much with fixed ranges, and most of a convnet can't be done with ranges found on the way.
"""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from inkfold.export.backbone import IMAGES
from inkfold.export.graph import onnx

BATCH_SIZE = 8


def is_convnet(model: onnx.ModelProto) -> bool:
    """Tell whether most weights are those of convolutions."""
    sizes = {one.name: int(np.prod(one.dims)) for one in model.graph.initializer}
    by_kind = {"Conv": 0, "MatMul": 0, "Gemm": 0}
    for node in model.graph.node:
        if node.op_type in by_kind:
            by_kind[node.op_type] += sum(sizes.get(name, 0) for name in node.input)
    return by_kind["Conv"] > by_kind["MatMul"] + by_kind["Gemm"]


def quantise(model: onnx.ModelProto, images: Float32[np.ndarray, "n 3 size size"]) -> onnx.ModelProto:
    """Turn a backbone's weights, and what flows between its layers, into 8-bit whole numbers.

    Args:
        model: From `traced.trace`.
        images: Normalised drawings, on which a convnet's ranges are measured.

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

    with tempfile.TemporaryDirectory() as directory, _quiet():
        source, prepared, target = (str(Path(directory) / name) for name in ("source.onnx", "prepared.onnx", "target.onnx"))
        onnx.save(model, source)
        quantization.quant_pre_process(source, prepared, skip_symbolic_shape=True)
        if is_convnet(model):
            quantization.quantize_static(prepared, target, Reader(), per_channel=True)
        else:
            quantization.quantize_dynamic(prepared, target, per_channel=True, weight_type=quantization.QuantType.QInt8)
        return onnx.load(target)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice, which it writes to the root logger, to itself."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
