"""What augmentation by views gives and costs on a data set: out-of-fold and test accuracy, forwards, paired tests.

Every row is a whole run of inkfold with the same recipe but for its curriculum or its test-time views. All rows share one
bank, so a view that an earlier row has shown costs nothing again; `new` counts the forwards that a row added and `alone`
those that it would need by itself. The reference sends every drawing of every fold's training and validation part through
its backbone in each epoch: `k * epochs` forwards a drawing, and `k` a test drawing.

    .venv/bin/python benchmarks/views.py --data DIR [--test-targets FILE] [--weights DIR] [--backbones NAME ...] [--quick]
"""

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import inkfold
from inkfold.config.load import load_recipe
from inkfold.data.synthetic import write_sketches
from inkfold.evaluation.paired import mcnemar
from inkfold.evaluation.predictions import Predictions

BACKBONES = ("tf_efficientnet_lite0", "mobilenetv2_100")
# What timm does not know of weights in TensorFlow's manner, which are measured here.
OF_BACKBONE = {
    "mobilenetv2_100": ("backbone.mean=[0.5,0.5,0.5]", "backbone.std=[0.5,0.5,0.5]", "backbone.model_args={pad_type: same}"),
}
FLIP_TURN = "hflip@0.5, rotate(15)@0.5"
ROWS: dict[str, tuple[str, ...]] = {
    "none": (),
    "flip and rotation": (f"curriculum=[{{augment: [{FLIP_TURN}]}}]",),
    "with vertical flip": (f"curriculum=[{{augment: [{FLIP_TURN}, vflip@0.5]}}]",),
    "curriculum, a view an epoch": ("curriculum=winner",),
    "curriculum, 8 views a stage": ("curriculum={name: winner, views: 8}",),
    "curriculum, 4 views a stage": ("curriculum={name: winner, views: 4}",),
    "curriculum, 2 views a stage": ("curriculum={name: winner, views: 2}",),
    "curriculum, 1 view a stage": ("curriculum={name: winner, views: 1}",),
    "curriculum without vertical flip, pools of 4": (  # of 20 epochs
        "curriculum=[{until_epoch: 5}, {until_epoch: 10, views: 4, augment: [hflip@0.5, rotate(10)@0.5]}, "
        "{until_epoch: 20, views: 4, augment: [hflip@0.5, rotate(15)@0.5, 'elastic(30,4)@0.5', 'grid(4,0.2)@0.5']}]",
    ),
    "none, test-time hflip": ("tta=[identity, hflip]",),
    "flip and rotation, test-time hflip": (f"curriculum=[{{augment: [{FLIP_TURN}]}}]", "tta=[identity, hflip]"),
    "flip and rotation, test-time hflip, +-8 degrees": (
        f"curriculum=[{{augment: [{FLIP_TURN}]}}]",
        "tta=[identity, hflip, 'rotate(8,8)', 'rotate(-8,-8)', 'hflip + rotate(8,8)', 'hflip + rotate(-8,-8)']",
    ),
}


def main() -> None:
    """Run all rows for each backbone and print the tables and the RESULT line."""
    given = parse()
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temp:
        os.environ["INKFOLD_HOME"] = str(given.home or Path(temp) / "home")
        if given.weights:
            os.environ["INKFOLD_WEIGHTS"] = str(given.weights)
        data = given.data or write_sketches(Path(temp) / "drawings", train_per_class=8 if given.quick else 40)
        for backbone in given.backbones:
            settings = common_settings(given, backbone)
            result |= study(given, data, backbone, settings, Path(temp))
    print("RESULT " + " ".join(f"{name}={value:.4f}" for name, value in result.items()))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data set; inkfold's own sketches without it")
    parser.add_argument("--test-targets", help="table of the test drawings' true targets, below the data's folder")
    parser.add_argument("--weights", type=Path, help="directory of NAME.safetensors; random weights without it")
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--recipe", default="cpu-small")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="more overrides, the same for all rows")
    parser.add_argument("--rows", nargs="*", help="only those whose name contains one of these")
    parser.add_argument("--home", type=Path, help="keep the bank here")
    parser.add_argument("--quick", action="store_true", help="own sketches at 64 px, 4 epochs, three rows; under a minute")
    given = parser.parse_args()
    if given.quick:
        given.backbones, given.rows = given.backbones[:1], given.rows or ["none", "4 views"]
    return given


def common_settings(given: argparse.Namespace, backbone: str) -> tuple[str, ...]:
    """List what all rows of a backbone have in common."""
    settings = [f"backbone.name={backbone}", "train_head.epochs=20", *given.set]
    settings += OF_BACKBONE.get(backbone, ()) if given.weights else ["backbone.weights=untrained"]
    settings += [f"data.test_targets={given.test_targets}"] if given.test_targets else []
    settings += ["image.size=64", "train_head.epochs=4"] if given.quick else []
    return tuple(settings)


def study(given: argparse.Namespace, data: Path, backbone: str, settings: tuple[str, ...], temp: Path) -> dict[str, float]:
    """Run the rows of one backbone, printing each when it is done."""
    print(f"{backbone}: {given.recipe} {' '.join(given.set)}")
    print(
        f"{'':<50}{'out of fold (95 %)':>22}{'p':>10}{'test (95 %)':>22}{'new':>9}{'alone':>8}{'reference':>11}{'seconds':>9}"
    )
    result: dict[str, float] = {}
    baseline = None
    for number, (name, changes) in enumerate(ROWS.items()):
        if given.rows and not any(part in name for part in given.rows):
            continue
        out = temp / f"{backbone}-{number}"
        run = inkfold.train(given.recipe, *settings, *changes, data=data, out=out)
        predictions = Predictions.load(out / "predictions/out_of_fold.parquet")
        right = predictions.preds == predictions.targets
        baseline = right if baseline is None else baseline
        cost = json.loads((out / "cost.json").read_text(encoding="utf-8"))
        metrics: Mapping[str, Any] = run.metrics
        recipe = load_recipe(out / "recipe.yaml")
        alone = cost["forwards"] + cost["forwards_cached"]
        reference = recipe.folds.k * (recipe.train_head.epochs * len(right) + metrics["data"]["n_test"])
        print(
            f"{name:<50}{figures(metrics['out_of_fold']):>22}{mcnemar(baseline, right):>10.2g}"
            f"{figures(metrics['test']) if 'test' in metrics else '':>22}{cost['forwards']:>9}{alone:>8}{reference:>11}"
            f"{cost['seconds']['total']:>9.0f}",
            flush=True,
        )
        key = f"{backbone}_{number}"
        result |= {f"{key}_oof": metrics["out_of_fold"]["accuracy"], f"{key}_fewer_forwards": reference / alone}
        result |= {f"{key}_test": metrics["test"]["accuracy"]} if "test" in metrics else {}
    return result


def figures(part: Mapping[str, Any]) -> str:
    """Write an accuracy with its interval."""
    low, high = part["accuracy_ci95"]
    return f"{part['accuracy']:.3f} ({low:.3f}-{high:.3f})"


if __name__ == "__main__":
    main()
