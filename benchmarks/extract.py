"""Features a second: inkfold's backbone against timm as it comes (eager, float32, the default allocator).

Each measurement is a process of its own, since an allocator's settings belong to a process; the sides take turns.

    .venv/bin/python benchmarks/extract.py [--weights DIR] [--models NAME ...] [--threads N] [--quick]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

MODELS = ("tf_efficientnet_lite0", "mobilenetv2_100")
SIDES = ("timm eager float32", "inkfold auto", "inkfold float32")
BATCH = 32


def main() -> None:
    """Run all sides in turn and print the table and the RESULT line."""
    given = parse()
    if given.side:
        print(json.dumps(measure(given)))
        return
    rounds = 1 if given.quick else 5
    result = {}
    print(f"{'model':<26}{'side':<22}{'features/s':>12}{'ratio':>8}  (median of {rounds} rounds)")
    for model in given.models:
        rates: dict[str, list[float]] = {side: [] for side in SIDES}
        precision = ""
        for _ in range(rounds):
            for side in SIDES:
                answer = run_side(given, model, side)
                rates[side].append(float(answer["rate"]))
                precision = str(answer["precision"]) if side == "inkfold auto" else precision
        base = statistics.median(rates[SIDES[0]])
        for side in SIDES:
            rate = statistics.median(rates[side])
            label = f"{side} ({precision})" if side == "inkfold auto" else side
            print(f"{model:<26}{label:<22}{rate:>12.1f}{rate / base:>8.2f}")
        result[f"ratio_{model}"] = statistics.median(rates["inkfold auto"]) / base
        result[f"ratio_float32_{model}"] = statistics.median(rates["inkfold float32"]) / base
    result["ratio"] = min(value for name, value in result.items() if "float32" not in name)
    print("RESULT " + " ".join(f"{name}={value:.2f}" for name, value in result.items()))


def parse() -> argparse.Namespace:
    """Parse the command line; `--side` is how the script calls itself."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--weights", type=Path, help="directory of NAME.safetensors; random weights without it")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves PyTorch's own choice to both sides")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.images = 128 if given.quick else given.images
    return given


def run_side(given: argparse.Namespace, model: str, side: str) -> dict[str, float | str]:
    """Measure one side in a fresh process."""
    command = [sys.executable, __file__, "--side", side, "--models", model, "--images", str(given.images)]
    command += ["--threads", str(given.threads)] + (["--weights", str(given.weights)] if given.weights else [])
    answer: dict[str, float | str] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer


def measure(given: argparse.Namespace) -> dict[str, float | str]:
    """Time one side, from uint8 grey pixels to features, after two batches of warm-up."""
    import torch

    from inkfold.models.backbone import Backbone, build_model, choose_precision, keep_freed_memory
    from inkfold.models.weights import UNTRAINED, BackboneSpec, resolve_backbone

    if given.threads:
        torch.set_num_threads(given.threads)
    device = torch.device("cpu")
    precision = choose_precision("auto" if given.side == "inkfold auto" else "float32", device)
    file = given.weights / f"{given.models[0]}.safetensors" if given.weights else None
    arguments = {"pad_type": "same"} if file and given.models[0] == "mobilenetv2_100" else {}
    spec = BackboneSpec(
        name=given.models[0], weights=str(file) if file else UNTRAINED, precision=precision, model_args=arguments
    )
    info = resolve_backbone(spec)
    pixels = np.random.default_rng(0).integers(0, 256, (given.images, info.image_size, info.image_size), np.uint8)
    if given.side.startswith("inkfold"):
        backbone = Backbone(info, device, BATCH)
        with keep_freed_memory():
            backbone.extract(pixels[: 2 * BATCH])
            started = time.perf_counter()
            backbone.extract(pixels)
        return {"rate": len(pixels) / (time.perf_counter() - started), "precision": precision}
    model = build_model(info)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (info.mean, info.std))

    def extract(part: np.ndarray) -> None:
        with torch.inference_mode():
            for start in range(0, len(part), BATCH):
                batch = torch.from_numpy(part[start : start + BATCH])[:, None].expand(-1, 3, -1, -1)
                model((batch.float() / 255 - mean) / std)

    extract(pixels[: 2 * BATCH])
    started = time.perf_counter()
    extract(pixels)
    return {"rate": len(pixels) / (time.perf_counter() - started), "precision": precision}


if __name__ == "__main__":
    main()
