"""Toy data and a recipe that takes a second, for the tests of the main path."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from inkfold.data.synthetic import write_sketches

torch.set_num_threads(1)  # such small steps take a hundred times as long where threads wait for a busy core

CLASSES = ("apple", "fish", "house")
PER_CLASS = 6
TESTS_PER_CLASS = 2
RUN_FILES = {
    "recipe.yaml",
    "metrics.json",
    "cost.json",
    "curve.json",
    "events/events.out.tfevents.0.inkfold",
    "heads.safetensors",
    "predictions/out_of_fold.parquet",
    "predictions/test.parquet",
    "submission.csv",
    "manifest.json",
}
BACKBONE = "{name: test_resnet, weights: untrained, device: cpu, precision: float32, batch_size: 16}"
RECIPE = f"""\
# A toy.
backbone: {BACKBONE}
image: {{size: 32}}
folds: {{k: 3}}
fit: {{epochs: 5, batch_size: 8, lr: 1.0e-2, precision: float32, scaling: standardise}}
"""


def toy_data(root, **options):
    """A competition with 3 x 6 training and 3 x 2 test drawings of 48 px."""
    given = {"train_per_class": PER_CLASS, "test_per_class": TESTS_PER_CLASS, "classes": CLASSES, "size_px": 48}
    return write_sketches(root, **{**given, **options})


def toy_recipe(directory, text=RECIPE):
    path = directory / "toy.yaml"
    path.write_text(text)
    return path


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write_rows(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def as_folders(data, root):
    """The same training drawings as one folder a class."""
    shutil.copytree(data / "train", root)
    return root


def files_below(directory):
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def environment(home):
    return {**os.environ, "INKFOLD_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def command_line(*arguments):
    return [sys.executable, "-W", "error", "-m", "inkfold", *map(str, arguments)]


def inkfold(*arguments, home, cwd=None, variables=None):
    """Run the command line in a process of its own, with more environment variables."""
    env = {**environment(home), **(variables or {})}
    return subprocess.run(command_line(*arguments), env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def python(code):
    """Run code in a fresh interpreter and give what it prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def break_image(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])
