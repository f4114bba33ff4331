"""Exported files beside the runs that they come from: how far their answers are apart, how large they are, how fast.

    python benchmarks/export.py --data DIR          # a backbone and head after the other, 500 drawings each
    python benchmarks/export.py --quick             # the sample that inkfold draws, an untrained backbone

Latency is that of a whole answer, from uint8 squares to probabilities, at batch 1 and 32, on two threads: PyTorch eager (the
same backbone in float32, channels last, and heads), ONNX Runtime and OpenVINO on the same file, and ONNX Runtime in 8 bits, in
turn in one process, the median of many. The ratio is PyTorch's time over ONNX Runtime's at batch 1.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inkfold.data.synthetic import prepare_demo
from inkfold.export.export import Exported, ExportOptions, export_onnx
from inkfold.export.graph import onnxruntime
from inkfold.export.verify import in_float32
from inkfold.finetune.network import HeadModule
from inkfold.models.backbone import NetworkInput, build_model, keep_freed_memory
from inkfold.pipeline.run import Run, head_spec
from inkfold.pipeline.train import train

THREADS = 2
BATCHES = (1, 32)
HEADS: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear"},
    "mlp": {"kind": "mlp", "hidden": [256]},
    "cosine": {"kind": "cosine"},
    "class_mean": {"kind": "class_mean"},
    "knn": {"kind": "knn"},
}
FIT = {"epochs": 8, "batch_size": 256, "optimiser": "adamw", "lr": 0.008, "weight_decay": 0.1, "scaling": "standardise"}

Answer = Callable[[np.ndarray], Any]


def make_run(backbone: dict[str, Any], head: dict[str, Any], data: Path, out: Path) -> Run:
    """Train on frozen features, which later runs take from the bank."""
    labels = ["data.test_targets=test_labels.csv"] if (data / "test_labels.csv").is_file() else []
    return train({"backbone": backbone, "head": head, "fit": FIT}, *labels, data=data, out=out)


def eager(run: Run) -> Answer:
    """The same model as a careful user of PyTorch runs it."""
    single = in_float32(run)
    assert isinstance(single, Run)
    info = single.extractors()[0][0].backbone
    model = build_model(info).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    heads = [HeadModule(head_spec(run.recipe), run.heads, member).eval() for member in range(len(run.folds))]
    given = NetworkInput(info, torch.device("cpu"))

    def answer(squares: np.ndarray) -> Any:
        with torch.inference_mode():
            features = model(given.of(squares).contiguous(memory_format=torch.channels_last))
            return torch.stack([head(features).softmax(-1) for head in heads]).mean(0)

    return answer


def ort(path: Path) -> Answer:
    """ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda squares: session.run(["probs"], {"images": squares})


def openvino(path: Path) -> Answer | None:
    """OpenVINO on the same file; None where it is not installed or can't read it."""
    try:
        import openvino as ov
    except ImportError:
        return None
    try:
        settings = {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        compiled = ov.Core().compile_model(str(path), "CPU", settings)
        request = compiled.create_infer_request()
        request.infer({"images": np.zeros((1, 8, 8, 1), np.uint8)})
    except RuntimeError as error:
        print(f"OpenVINO can't run {path.name}: {str(error).strip().splitlines()[-1][:200]}")
        return None
    return lambda squares: request.infer({"images": squares})


def latencies(sides: dict[str, Answer], size_px: int, batch: int, repeats: int) -> dict[str, float]:
    """Ask all sides in turn; the median of each, ms."""
    rng = np.random.default_rng(0)
    took: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 2):
        squares = np.repeat(rng.integers(0, 256, (batch, size_px, size_px, 1), np.uint8), 3, axis=3)
        for name, answer in sides.items():
            start = time.perf_counter()
            answer(squares)
            if repeat >= 2:  # the first ones load and plan
                took[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in took.items()}


def row(name: str, head: str, exported: Exported) -> None:
    """Print what a file is."""
    parity, check = exported.parity, exported.quantisation
    cells = f"{name:<24} {head:<11} {exported.about.precision:<8} {exported.size_bytes / 1e6:>6.1f}"
    same = f"{round(parity.agreement * parity.drawings):>5}/{parity.drawings} {parity.largest_difference:>9.6f}"
    lost = ""
    if check is not None and check.difference is not None:
        low, high = check.difference["difference_ci95"]
        lost = f"  {check.difference['difference']:+.4f} ({low:+.4f} to {high:+.4f}), same answer {check.agreement:.1%}"
    elif check is not None:
        lost = f"  same answer {check.agreement:.1%} of {check.drawings}"
    print(f"{cells} {same}{lost}")


def measure(backbone: dict[str, Any], heads: Sequence[str], data: Path, root: Path, given: argparse.Namespace) -> float:
    """Print all figures of a backbone; give PyTorch's time over ONNX Runtime's at batch 1."""
    name, files, first = backbone["name"], dict[str, Path](), None
    for head in heads:
        run = make_run(backbone, HEADS[head], data, root / name / head)
        options = ExportOptions(drawings=given.drawings)
        row(name, head, export_onnx(run.path, root / name / f"{head}.onnx", options))
        first = first or run
    assert first is not None
    files = {"onnxruntime": root / name / f"{heads[0]}.onnx", "int8": root / name / "int8.onnx"}
    row(name, heads[0], export_onnx(first.path, files["int8"], ExportOptions(int8=True, drawings=given.drawings)))
    sides = {"eager": eager(first), "onnxruntime": ort(files["onnxruntime"])}
    if (vino := openvino(files["onnxruntime"])) is not None:
        sides["openvino"] = vino
    sides["onnxruntime int8"] = ort(files["int8"])
    size_px, ratio = first.extractors()[0][0].backbone.image_size, 0.0
    for batch in BATCHES:
        found = latencies(sides, size_px, batch, max(5, given.repeats // batch))
        print(f"{name} batch {batch}: " + ", ".join(f"{side} {took:.1f} ms" for side, took in found.items()))
        ratio = ratio or found["eager"] / found["onnxruntime"]
    return ratio


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="drawings to learn from; without, the sample that inkfold draws")
    parser.add_argument("--backbones", nargs="+", default=["tf_efficientnet_lite0", "mobilenetv2_100"], metavar="NAME")
    parser.add_argument("--heads", nargs="+", default=[*HEADS], choices=[*HEADS])
    parser.add_argument("--drawings", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="an untrained backbone at 64 px, two heads, under a minute")
    given = parser.parse_args()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as directory, keep_freed_memory():
        root = Path(directory)
        os.environ.setdefault("INKFOLD_HOME", str(root / "home"))
        data = given.data or prepare_demo(root / "data", per_class=10)
        weights = None if given.data else "untrained"  # the sample's accuracy says nothing anyway
        backbones: list[dict[str, Any]] = [{"name": name, "weights": weights} for name in given.backbones]
        if given.quick:
            backbones, given.heads, given.drawings = [{"name": "test_resnet", "weights": "untrained"}], ["linear", "knn"], 60
            given.repeats = 40
        print(f"{'backbone':<24} {'head':<11} {'numbers':<8} {'MB':>6} {'same answer':>9} {'difference':>9}  8 bits: accuracy")
        ratios = [measure(backbone, given.heads, data, root, given) for backbone in backbones]
    print(f"RESULT ratio={statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
