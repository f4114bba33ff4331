"""Fine-tuning a backbone whole: inkfold against timm's own training script, on the same drawings, split, epochs and settings.

Both sides train the same model from the same weights with AdamW, a cosine schedule, label smoothing, clipping and bfloat16
(where this processor has it) on the same drawings, and answer for the same held-out ones after each epoch. Augmentation: a
horizontal flip and a crop of 70 to 100 % of the area (timm), a flip, a zoom of 1 to 1.19 and a shift (inkfold). timm starts
with a random head, as its script does; inkfold is measured so (`start=random`) and as it comes, with the head fitted on
frozen features first. The rate is drawings a second between the steps of an epoch, so it holds data loading but no
evaluation; `whole s` is the time of the command with everything that belongs to it. The sides take turns, each in a process
of its own.

timm's script isn't in its wheel: take `train.py` of the release that is installed from its repository.

    .venv/bin/python benchmarks/finetune.py --timm-train train.py [--data DIR] [--weights DIR] [--rounds N] [--quick]
"""

import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inkfold.data.synthetic import write_sketches
from inkfold.evaluation.predictions import Predictions

LR, WEIGHT_DECAY, SMOOTHING, BATCH, CLIP = 1e-3, 0.05, 0.1, 64, 1.0
INKFOLD = """\
# One side of a benchmark.
backbone: {{name: {model}, weights: {weights}, precision: {precision}, device: cpu}}
image: {{size: {size}}}
folds: {{split: holdout}}
train_head: {{epochs: 8, batch_size: 256, optimiser: adamw, lr: 8.0e-3, weight_decay: 0.1}}
finetune: {{part: all, epochs: {epochs}, batch_size: {batch}, lr: {lr}, weight_decay: {decay}, label_smoothing: {smoothing},
  clip_norm: {clip}, precision: {precision}, start: {start}}}
curriculum:
  - {{augment: [hflip@0.5, "scale(1.0,1.19)", "translate(0.08)"]}}
seed: {seed}
"""
TIMM = """\
import runpy, sys
from inkfold.models.torchvision_compat import declare_missing_operators
declare_missing_operators()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a side did: drawings a second, held-out accuracy after the last epoch, seconds of the command."""

    rate: float
    accuracy: float
    seconds: float


def main() -> None:
    """Run the sides in turn and print the table and the RESULT line."""
    given = parse()
    sides: dict[str, list[Answer]] = {"timm train.py": [], "inkfold, random head": [], "inkfold": []}
    with tempfile.TemporaryDirectory() as temp:
        root = Path(temp)
        os.environ["INKFOLD_HOME"] = str(root / "home")
        given.data = given.data or write_sketches(root / "drawings", train_per_class=6 if given.quick else 200)
        for number in range(given.rounds):
            sides["inkfold, random head"].append(run_inkfold(given, root / f"random{number}", "random", number))
            if number == 0:
                lay_out(given, root / "random0", root / "folders")
            sides["timm train.py"].append(run_timm(given, root / f"timm{number}", root / "folders", number))
            sides["inkfold"].append(run_inkfold(given, root / f"head{number}", "head", number))
    report(given, sides)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timm-train", type=Path, required=True, help="timm's train.py")
    parser.add_argument("--data", type=Path, help="a data set; inkfold's own sketches without it")
    parser.add_argument("--weights", type=Path, help="directory of NAME.safetensors; random weights without it")
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=128, help="px")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes that timm loads data with")
    parser.add_argument("--quick", action="store_true", help="own sketches at 64 px, 2 epochs, one round; under a minute")
    given = parser.parse_args()
    if given.quick:
        given.data, given.size, given.epochs, given.rounds = None, 64, 2, 1
    from inkfold.models.backbone import choose_device, choose_training_precision

    given.precision = choose_training_precision("auto", choose_device("cpu"))
    return given


def run_inkfold(given: argparse.Namespace, out: Path, start: str, seed: int) -> Answer:
    """Train with inkfold in a process of its own, which tells when each step was done."""
    out.mkdir()
    weights = given.weights.absolute() / f"{given.model}.safetensors" if given.weights else "untrained"
    text = INKFOLD.format(
        model=given.model, weights=weights, precision=given.precision, size=given.size, epochs=given.epochs, batch=BATCH,
        lr=LR, decay=WEIGHT_DECAY, smoothing=SMOOTHING, clip=CLIP, start=start, seed=seed,
    )  # fmt: skip
    (out / "recipe.yaml").write_text(text, encoding="utf-8")
    code = (
        "import inkfold, json, sys, time\nsteps = []\n"
        "def told(stage, done, total):\n"
        "    if stage.startswith('fine-tuning'): steps.append((time.perf_counter(), done, total))\n"
        "inkfold.train(sys.argv[1], data=sys.argv[2], out=sys.argv[3], progress=told)\nprint(json.dumps(steps))\n"
    )
    started = time.perf_counter()
    done = called([sys.executable, "-c", code, str(out / "recipe.yaml"), str(given.data), str(out / "run")])
    seconds = time.perf_counter() - started
    metrics = json.loads((out / "run" / "metrics.json").read_text(encoding="utf-8"))
    cost = json.loads((out / "run" / "cost.json").read_text(encoding="utf-8"))
    steps = json.loads(done.splitlines()[-1])
    per_epoch = steps[-1][2] // given.epochs
    epochs = [steps[first : first + per_epoch] for first in range(0, len(steps), per_epoch)]
    drawings = cost["trained"] / given.epochs * (per_epoch - 1) / per_epoch
    rates = [drawings / (epoch[-1][0] - epoch[0][0]) for epoch in epochs]
    return Answer(statistics.median(rates), metrics["out_of_fold"]["accuracy"], seconds)


def lay_out(given: argparse.Namespace, out: Path, folders: Path) -> None:
    """Give timm the same drawings in the same parts, a folder a class."""
    held_out = set(Predictions.load(out / "run" / "predictions/out_of_fold.parquet").image_paths)
    with (given.data / "train.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            part = "validation" if row["image_path"] in held_out else "train"
            link = folders / part / row["class_name"] / Path(row["image_path"]).name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((given.data / "train" / row["image_path"]).absolute())
    for part in ("train", "validation"):
        for name in {path.name for path in folders.glob("*/*")}:
            (folders / part / name).mkdir(exist_ok=True)  # a class without a drawing there keeps its number


def run_timm(given: argparse.Namespace, out: Path, folders: Path, seed: int) -> Answer:
    """Train with timm's script in a process of its own."""
    classes = len(list((folders / "train").iterdir()))
    settings: dict[str, Any] = {
        "data-dir": folders, "model": given.model, "num-classes": classes, "img-size": given.size, "epochs": given.epochs,
        "batch-size": BATCH, "validation-batch-size": BATCH, "opt": "adamw", "lr": LR, "weight-decay": WEIGHT_DECAY,
        "smoothing": SMOOTHING, "clip-grad": CLIP, "sched": "cosine", "warmup-epochs": 0, "min-lr": 0, "cooldown-epochs": 0,
        "seed": seed, "workers": given.workers, "device": "cpu", "color-jitter": 0, "hflip": 0.5, "crop-pct": 1.0,
        "train-interpolation": "bilinear", "output": out, "experiment": "run", "log-interval": 10, "checkpoint-hist": 1,
    }  # fmt: skip
    command = [sys.executable, "-c", TIMM, str(given.timm_train)]
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    command += ["--scale", "0.7", "1.0", "--ratio", "1.0", "1.0", "--channels-last", "--sched-on-updates"]
    command += ["--amp", "--amp-dtype", "bfloat16"] if given.precision == "bfloat16" else []
    if given.weights:
        command += ["--pretrained", "--pretrained-path", str(given.weights.absolute() / f"{given.model}.safetensors")]
    started = time.perf_counter()
    log = called(command)
    seconds = time.perf_counter() - started
    told = re.findall(r"Train: (\d+) \[.*?Time: [\d.]+s,\s*[\d.]+/s\s*\([\d.]+s,\s*([\d.]+)/s\)", log)
    rates = {epoch: float(rate) for epoch, rate in told}  # the last line of an epoch holds its mean
    with (out / "run" / "summary.csv").open(newline="", encoding="utf-8") as file:
        accuracy = float(list(csv.DictReader(file))[-1]["eval_top1"]) / 100
    return Answer(statistics.median(rates.values()), accuracy, seconds)


def called(command: list[str]) -> str:
    """Run a command and give all that it says; end with that if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command[:4])} ...\n{done.stdout[-4000:]}")
    return done.stdout


def report(given: argparse.Namespace, sides: dict[str, list[Answer]]) -> None:
    """Print the table and the RESULT line."""
    print(f"{given.model}, {given.size} px, {given.epochs} epochs, batch {BATCH}, {given.precision}, {given.rounds} rounds")
    print(f"{'':<24}{'drawings/s':>12}{'ratio':>8}{'held-out accuracy':>20}{'whole s':>10}")
    base = statistics.median(one.rate for one in sides["timm train.py"])
    mean = {}
    for name, answers in sides.items():
        rate = statistics.median(one.rate for one in answers)
        mean[name] = statistics.mean(one.accuracy for one in answers)
        seconds = statistics.median(one.seconds for one in answers)
        print(f"{name:<24}{rate:>12.1f}{rate / base:>8.2f}{mean[name]:>20.4f}{seconds:>10.1f}")
    timm, random, ours = mean.values()
    ratio = statistics.median(one.rate for one in sides["inkfold"]) / base
    whole = statistics.median(one.seconds for one in sides["timm train.py"]) / statistics.median(
        one.seconds for one in sides["inkfold"]
    )
    print(
        f"RESULT ratio={ratio:.2f} ratio_whole={whole:.2f} accuracy={ours:.4f} accuracy_random_head={random:.4f} "
        f"accuracy_timm={timm:.4f}"
    )


if __name__ == "__main__":
    main()
