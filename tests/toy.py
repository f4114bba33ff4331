"""Toy data and a recipe that takes a second, for the tests of the main path."""

import csv
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from forks import INKFOLD, run_together
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
image: {{size: 32, resize: pad, paper: keep}}
folds: {{k: 3}}
train_head: {{epochs: 5, batch_size: 8, lr: 1.0e-2, precision: float32, scaling: standardise}}
"""

# Starts the same training once per moment, in children of a process that has imported everything; a timer ends each as
# abruptly as SIGKILL does, once it has computed for that many seconds, which a busy machine doesn't change.
KILLED_AT_MOMENTS = """
import os, signal, sys
from inkfold.pipeline.train import train

recipe, data, out, *moments = sys.argv[1:]
for moment in map(float, moments):
    child = os.fork()
    if not child:
        signal.setitimer(signal.ITIMER_PROF, moment)
        train(recipe, data=data, out=out)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGPROF, status
    print(status)
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
    return run_together({**job_of(INKFOLD, *arguments), "env": env, "cwd": str(cwd or Path.cwd())})[0]


def run_code(code, *arguments, **variables):
    """Run code with arguments in a process of its own, which has imported inkfold and PyTorch, and give what it prints."""
    done = run_together(job_of(code, *arguments, **variables))[0]
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def job_of(code, *arguments, **variables):
    environ = {**environment(os.environ["INKFOLD_HOME"]), **variables}
    return {"code": code, "argv": ["-c", *map(str, arguments)], "env": environ, "cwd": str(Path.cwd())}


def python(code):
    """Run code in a fresh interpreter and give what it prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.strip()


def free_port():
    """A port on which nobody listens now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def break_image(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def with_copies(data):
    """Make half of the drawings of each class mirrored copies of the other half."""
    for name in CLASSES:
        for place in range(0, PER_CLASS, 2):
            pixels = np.asarray(Image.open(data / f"train/{name}/sketch_{place}.png"))
            Image.fromarray(np.ascontiguousarray(pixels[:, ::-1])).save(data / f"train/{name}/sketch_{place + 1}.png")
