"""Trains with timm's own `train.py` on folders of drawings and answers for others: one side of `auto.py`.

timm's script isn't in its wheel: take `train.py` of the release that is installed from its repository. Settings are those of
timm's own fine-tunings (AdamW, cosine schedule to 0 after a short warm-up, label smoothing, weight decay 0.05, clipping) at the
rate that suits small convolutional networks on drawings (`finetune.py`), its augmentation for drawings: flips, crops of 70 to
100 % of the area, no colour jitter; bfloat16 and channels last. All drawings are trained on; its script wants a validation set,
which is one drawing here.

    python benchmarks/timm_driver.py --script train.py --train FOLDERS --test FOLDER --model NAME --out FILE --epochs N
    python benchmarks/timm_driver.py ... --measure             # prints what a drawing costs
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from inkfold.models.torchvision_compat import declare_missing_operators

BATCH = 64
MEASURED = 10 * BATCH
SCRIPT = """\
import runpy, sys
from inkfold.models.torchvision_compat import declare_missing_operators
declare_missing_operators()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def lay_out(files: list[Path], classes: list[str], root: Path) -> Path:
    """Link drawings into the folders that timm's script reads: `train` and `validation`, with all classes in both."""
    for part, chosen in (("train", files), ("validation", files[:1])):
        for name in classes:
            (root / part / name).mkdir(parents=True)
        for file in chosen:
            (root / part / file.parent.name / file.name).symlink_to(file.absolute())
    return root


def arguments(options: argparse.Namespace, folders: Path, classes: int, out: Path) -> list[str]:
    """Give the arguments of timm's script."""
    settings: dict[str, Any] = {
        "data-dir": folders, "model": options.model, "num-classes": classes, "img-size": options.size, "epochs": options.epochs,
        "batch-size": options.batch, "validation-batch-size": BATCH, "opt": "adamw", "lr": 1e-3, "weight-decay": 0.05,
        "smoothing": 0.1, "clip-grad": 1.0, "sched": "cosine", "warmup-epochs": min(1, options.epochs // 5), "min-lr": 0,
        "cooldown-epochs": 0, "seed": options.seed, "workers": options.workers, "color-jitter": 0, "hflip": 0.5,
        "crop-pct": 1.0, "train-interpolation": "bilinear", "output": out, "experiment": "run", "checkpoint-hist": 1,
        "log-interval": 2, "val-interval": options.epochs,
    }  # fmt: skip
    command = [str(options.script), "--scale", "0.7", "1.0", "--ratio", "1.0", "1.0", "--channels-last", "--sched-on-updates"]
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    import torch

    command += ["--device", "cuda" if torch.cuda.is_available() else "cpu"]
    command += ["--amp", "--amp-dtype", "bfloat16"] if options.bfloat16 else []
    return command + (["--pretrained", "--pretrained-path", str(options.weights)] if options.weights else [])


def train(options: argparse.Namespace, files: list[Path], classes: list[str], scratch: Path) -> str:
    """Run timm's script, which leaves its checkpoint in `scratch`, and return what it wrote."""
    command = arguments(options, lay_out(files, classes, scratch / "folders"), len(classes), scratch)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(done.stdout[-4000:])
    return done.stdout


def answer(options: argparse.Namespace, checkpoint: Path, classes: list[str], files: list[Path]) -> list[str]:
    """Predict the class of each file with timm's own evaluation transform."""
    import timm
    import torch
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    model = timm.create_model(options.model, num_classes=len(classes), checkpoint_path=checkpoint).eval()
    config = resolve_data_config({"img_size": options.size, "crop_pct": 1.0}, model=model)
    transform = create_transform(**config)
    names: list[str] = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
        for first in range(0, len(files), BATCH):
            pages = [Image.open(file).convert("RGB") for file in files[first : first + BATCH]]
            logits = model(torch.stack([transform(page) for page in pages]))
            names += [classes[i] for i in logits.argmax(1).tolist()]
    return names


def main() -> None:
    """Measure, or train and answer."""
    options = parse()
    declare_missing_operators()
    from timm.utils import natural_key

    files = sorted(path for path in options.train.glob("*/*") if path.is_file())
    classes = sorted({file.parent.name for file in files}, key=natural_key)
    test = sorted(path for path in options.test.iterdir() if path.is_file())
    options.batch = min(BATCH, len(files))  # its loader leaves out what fills no batch
    if options.measure:
        files, test, options.epochs = files[:: max(1, len(files) // MEASURED)][:MEASURED], test[: 4 * BATCH], 1
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        log = train(options, files, classes, Path(scratch))
        trained = time.perf_counter()
        names = answer(options, Path(scratch) / "run" / "last.pth.tar", classes, test)
    if options.measure:
        predict_s = (time.perf_counter() - trained) / len(test)
        print(json.dumps({**seconds_each(log, trained - started, len(files)), "predict_s": predict_s}))
        return
    answers = {path.name: name for path, name in zip(test, names, strict=True)}
    options.out.write_text(json.dumps({"answers": answers, "about": {"epochs": options.epochs, "size": options.size}}))


def seconds_each(log: str, whole_s: float, trained: int) -> dict[str, float]:
    """Read from the script's log what a trained drawing costs, and what the start does."""
    rates = re.findall(r"Train: \d+ \[.*?Time: [\d.]+s,\s*([\d.]+)/s", log)
    later = sorted(float(rate) for rate in rates[1:] or rates)  # the first step holds all warming up
    train_s = 1 / later[len(later) // 2]
    return {"train_s": train_s, "startup_s": max(0.0, whole_s - train_s * trained)}


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, required=True, help="timm's train.py")
    parser.add_argument("--train", type=Path, required=True, help="a folder for each class")
    parser.add_argument("--test", type=Path, required=True, help="a folder of drawings")
    parser.add_argument("--model", required=True, help="timm's name of the backbone")
    parser.add_argument("--weights", type=Path, help="its pretrained weights; without them it starts untrained")
    parser.add_argument("--size", type=int, default=128, help="px")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true", help="train and predict in bfloat16")
    parser.add_argument("--workers", type=int, default=1, help="processes that read drawings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the answers")
    parser.add_argument("--measure", action="store_true", help="only print what a drawing costs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
