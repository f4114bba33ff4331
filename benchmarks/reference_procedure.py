"""inkfold against the procedure that it replaces: a frozen backbone inside the training loop.

The procedure is written from its description: 5 stratified folds x 15 epochs, every image decoded and sent through the
backbone each time, a linear head, Adam, batch 64. Both sides are whole processes on the same drawings, backbone and
head; inkfold starts with an empty cache.

    .venv/bin/python benchmarks/reference_procedure.py [--data DIR] [--weights FILE] [--classes N] [--per-class N] [--quick]
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from inkfold.data.synthetic import write_sketches

MEAN_STD = (0.5, 0.5, 0.5)


def main() -> None:
    """Run both sides and print the table and the RESULT line."""
    given = parse()
    if given.side == "reference":
        print(json.dumps(reference(given)))
        return
    with tempfile.TemporaryDirectory() as temp:
        source = given.data or write_sketches(Path(temp) / "all", train_per_class=given.per_class, test_per_class=1)
        drawings = take_subset(source, Path(temp) / "drawings", given.classes, given.per_class)
        sides = {"inkfold": run_inkfold(given, drawings, Path(temp)), "reference": run_reference(given, drawings)}
    print(f"{given.backbone}, {given.folds} folds x {given.epochs} epochs, {sides['inkfold']['n']} drawings")
    print(f"{'side':<12}{'forwards':>10}{'seconds':>10}{'out-of-fold accuracy':>22}")
    for name, side in sides.items():
        print(f"{name:<12}{side['forwards']:>10.0f}{side['seconds']:>10.1f}{side['accuracy']:>22.3f}")
    ratio = sides["reference"]["seconds"] / sides["inkfold"]["seconds"]
    forwards = sides["reference"]["forwards"] / sides["inkfold"]["forwards"]
    accuracies = " ".join(f"accuracy_{name}={side['accuracy']:.4f}" for name, side in sides.items())
    print(f"RESULT ratio={ratio:.1f} ratio_forwards={forwards:.1f} {accuracies}")


def parse() -> argparse.Namespace:
    """Parse the command line; `--side` is how the script calls itself."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="competition layout; inkfold's own sketches without it")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", type=Path, help="weights file; random weights without it")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--per-class", type=int, default=15)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--workers", type=int, default=1, help="the reference's loader processes")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--side", choices=("reference",), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.quick:
        given.classes, given.per_class, given.epochs = (
            min(given.classes, 5),
            min(given.per_class, 10),
            min(given.epochs, 5),
        )
    return given


def take_subset(source: Path, target: Path, classes: int, per_class: int) -> Path:
    """Copy the first classes and drawings of a data set, so that both sides read the same files."""
    taken: dict[str, list[dict[str, str]]] = {}
    with (source / "train.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["class_name"] in taken or len(taken) < classes:
                taken.setdefault(row["class_name"], []).append(row)
    target.mkdir()
    with (target / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class_name", "image_path", "target"])
        for number, (name, rows) in enumerate(taken.items()):
            for row in rows[:per_class]:
                destination = target / "train" / row["image_path"]
                destination.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / "train" / row["image_path"], destination)
                writer.writerow([name, row["image_path"], number])
    return target


def run_inkfold(given: argparse.Namespace, drawings: Path, temp: Path) -> dict[str, float]:
    """Time `inkfold train` as a process, with an empty cache."""
    out = temp / "run"
    recipe = temp / "recipe.yaml"
    values = json.dumps({"mean": MEAN_STD, "std": MEAN_STD})[1:-1]
    weights = json.dumps(str(given.weights) if given.weights else "untrained")
    recipe.write_text(
        f'{{"backbone": {{"name": "{given.backbone}", "weights": {weights}, {values}}}, "image": {{"fit": "squash"}}, '
        f'"folds": {{"k": {given.folds}}}, "train_head": {{"epochs": {given.epochs}, "schedule": {{"kind": "constant"}}}}}}'
    )
    command = [sys.executable, "-m", "inkfold", "train", str(recipe), f"data={drawings}", f"out={out}"]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "INKFOLD_HOME": str(temp / "home")})
    seconds = time.perf_counter() - started
    metrics = json.loads((out / "metrics.json").read_text())["out_of_fold"]
    forwards = json.loads((out / "cost.json").read_text())["forwards"]
    return {"seconds": seconds, "forwards": forwards, "accuracy": metrics["accuracy"], "n": metrics["n"]}


def run_reference(given: argparse.Namespace, drawings: Path) -> dict[str, float]:
    """Time the procedure as a process."""
    command = [sys.executable, __file__, "--side", "reference", "--data", str(drawings), "--backbone", given.backbone]
    for name in ("folds", "epochs", "workers"):
        command += [f"--{name}", str(getattr(given, name))]
    command += ["--weights", str(given.weights)] if given.weights else []
    started = time.perf_counter()
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {**answer, "seconds": time.perf_counter() - started}


def reference(given: argparse.Namespace) -> dict[str, float]:
    """Train as the description says: the backbone runs in every step of every epoch of every fold."""
    from sklearn.model_selection import StratifiedKFold

    from inkfold.models.torchvision_compat import declare_missing_operators

    declare_missing_operators()
    import timm
    import torch
    from PIL import Image
    from torchvision import transforms

    with (given.data / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = [(given.data / "train" / row["image_path"], int(row["target"])) for row in csv.DictReader(file)]
    targets = np.array([target for _, target in rows])
    torch.manual_seed(0)
    overlay = {"file": str(given.weights)} if given.weights else None
    backbone = timm.create_model(
        given.backbone, pretrained=given.weights is not None, pretrained_cfg_overlay=overlay, num_classes=0
    ).eval()
    size = backbone.pretrained_cfg["input_size"][-1]
    transform = transforms.Compose(
        [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(MEAN_STD, MEAN_STD)]
    )

    class Files(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __init__(self, indices: np.ndarray) -> None:
            self.indices = indices

        def __len__(self) -> int:
            return len(self.indices)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            path, target = rows[self.indices[i]]
            return transform(Image.open(path).convert("RGB")), target

    forwards = right = 0
    splitter = StratifiedKFold(given.folds, shuffle=True, random_state=42)
    for parts in splitter.split(targets, targets):
        loaders = [
            torch.utils.data.DataLoader(Files(part), 64, shuffle=shuffle, num_workers=given.workers)
            for part, shuffle in zip(parts, (True, False), strict=True)
        ]
        of_fold = reference_fold(given, backbone, loaders, int(targets.max()) + 1)
        forwards, right = forwards + of_fold[0], right + of_fold[1]
    return {"forwards": forwards, "accuracy": right / len(rows)}


def reference_fold(given: argparse.Namespace, backbone: Any, loaders: list[Any], num_classes: int) -> tuple[int, int]:
    """Train one fold's head; give the forwards made and the held-out drawings that the last epoch has right."""
    import torch

    head = torch.nn.Linear(backbone.num_features, num_classes)
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-3)
    forwards = right = 0
    for _ in range(given.epochs):
        for images, labels in loaders[0]:
            with torch.no_grad():
                features = backbone(images)
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(head(features), labels).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            forwards += len(images)
        right = 0
        with torch.no_grad():
            for images, labels in loaders[1]:
                right += int((head(backbone(images)).argmax(1) == labels).sum())
                forwards += len(images)
    return forwards, right


if __name__ == "__main__":
    main()
