"""Finished runs written straight from made-up predictions: what a report reads, without training."""

import numpy as np
import yaml

from inkfold.evaluation.metrics import measure
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.manifest import FORMAT
from inkfold.storage.files import write_json, write_text
from inkfold.storage.hashing import digest_file

COST = {
    "forwards": 100,
    "forwards_cached": 20,
    "decoded": 100,
    "trained": 0,
    "seconds": {"fit": 1.0, "total": 61.2},
    "device": "cpu",
    "precision": "float32",
    "peak_memory_bytes": 2**30,
}
BACKBONE = {"name": "test_resnet.r160_in1k", "weights_source": "somewhere.safetensors"}


def made_up(paths, targets, class_names, *, accuracy=0.6, seed=0, folds=None):
    """Predictions that are right about so often, and as sure as they are right."""
    rng = np.random.default_rng(seed)
    n, k = len(targets), len(class_names)
    probs = rng.dirichlet(np.full(k, 0.3), n)
    said = np.where(rng.random(n) < accuracy, targets, rng.integers(0, k, n))
    sure = rng.uniform(0.4, 0.95, n)
    probs = probs * (1 - sure)[:, None]
    probs[np.arange(n), said] += sure
    names = np.array(list(paths), np.dtypes.StringDType())
    return Predictions(names, probs.astype(np.float32), tuple(class_names), np.asarray(targets, np.int64), folds)


def curve(epochs=6):
    """Two stages; the loss falls."""
    points = [
        {"epoch": i, "stage": int(i >= 2), "view": "v", "lr": 0.1, "loss": 3 - 0.4 * i, "held_out_loss": 3 - 0.2 * i}
        for i in range(epochs)
    ]
    for i, point in enumerate(points):
        point["held_out_accuracy"] = 0.2 + 0.05 * i
    stages = [
        {"stage": 0, "epochs": 2, "augment": [], "views": "per_epoch", "lr_factor": 1.0},
        {"stage": 1, "epochs": epochs - 2, "augment": ["hflip@0.5"], "views": 4, "lr_factor": 1.0},
    ]
    return {"stages": stages, "epochs": points}


def write_run(out, data, out_of_fold=None, test=None, *, recipe=None, metrics=None, with_curve=True, **manifest):
    """Write a run's files and, last, its manifest."""
    known = out_of_fold or test
    out.mkdir(parents=True)
    recipe = recipe or {
        "data": {"root": str(data), "test_targets": None},
        "image": {"fit": "pad", "invert": "auto"},
        "backbone": {"name": "test_resnet", "weights": None},
        "train_head": {"lr": 0.01},
        "seed": 42,
    }
    write_text(out / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    counts = {"n_train": 0 if out_of_fold is None else len(out_of_fold.probs), "n_test": 0 if test is None else len(test.probs)}
    found = {"data": {**counts, "num_classes": len(known.class_names), "skipped": {"train": 0, "test": 0}}, "split": "kfold"}
    if out_of_fold is not None:
        found["out_of_fold"] = measure(out_of_fold.probs, out_of_fold.targets, out_of_fold.class_names)
        found["folds"] = [
            {"fold": fold, "n_train": 1, **measure(out_of_fold.probs[rows], out_of_fold.targets[rows])}
            for fold in np.unique(out_of_fold.folds).tolist()
            for rows in [out_of_fold.folds == fold]
        ]
        out_of_fold.save(out / "predictions/out_of_fold.parquet")
    if test is not None:
        if test.targets is not None:
            found["test"] = measure(test.probs, test.targets, test.class_names)
        test.save(out / "predictions/test.parquet")
    write_json(out / "metrics.json", {**found, **(metrics or {})})
    write_json(out / "cost.json", COST)
    if with_curve:
        write_json(out / "curve.json", curve())
    finish(out, known.class_names, **manifest)
    return out


def finish(out, class_names, **manifest):
    """Write the manifest over all files that are there."""
    files = [
        path for path in out.rglob("*") if path.is_file() and path.name not in ("manifest.json", "audit.json", "weakness.json")
    ]
    content = {
        "class_names": list(class_names),
        "class_targets": list(range(len(class_names))),
        "members": ["fold 0", "fold 1"],
        "backbone": BACKBONE,
        "data_fingerprint": "f00d",
        "warnings": [],
        "versions": {"inkfold": "0", "python": "3"},
    }
    digests = {path.relative_to(out).as_posix(): digest_file(path) for path in files}
    write_json(out / "manifest.json", {"format": FORMAT, **content, **manifest, "files": digests})


def weakness():
    """As another command writes it."""
    rows = [
        {
            "name": name,
            "accuracy": a,
            "ci95": [a - 0.05, a + 0.05],
            "drop": 0.6 - a,
            "augmentation": how,
            "command": f"inkfold train {how}",
        }
        for name, a, how in (("mirrored", 0.58, "hflip"), ("upside down", 0.2, "vflip@0.5"), ("thin lines", 0.5, "erode"))
    ]
    return {"clean": {"accuracy": 0.6, "ci95": [0.55, 0.65]}, "rows": rows}


def audit(paths, names, fingerprint="f00d"):
    """As `inkfold audit` writes it, of some of a run's drawings."""
    pair = {
        "first": 0,
        "second": 1,
        "turn_deg": 90.0,
        "flip": False,
        "transform": "turned by 90 degrees",
        "identical_bytes": False,
    }
    members = [{"part": "train", "image_path": path, "class_name": name} for path, name in zip(paths[:2], names, strict=False)]
    doubtful = {"image_path": paths[2], "given": names[0], "suggested": names[1], "score": 0.1, "doubt": 0.8}
    labels = {
        "n": len(paths),
        "accuracy": 0.6,
        "models": [
            {"name": "the run itself", "accuracy": 0.6, "asked": True},
            {"name": "ridge regression on ink-small", "accuracy": 0.5, "asked": True},
            {"name": "nearest drawings on ink-small", "accuracy": 0.1, "asked": False},
        ],
        "notes": [],
        "method": "the most doubtful first",
        "doubts": {"expected_wrong": 0.8, "expected_wrong_ci95": [0.2, 1.0], "found_fraction": 0.3},
        "doubtful": [{**doubtful, "suggested_probability": 0.9}],
        "estimated_wrong_fraction": 0.02,
        "confused": [
            {
                "first": names[0],
                "second": names[1],
                "n": 9,
                "best_model": "the run itself",
                "accuracy": 0.6,
                "accuracy_ci95": [0.4, 0.8],
                "could_be": 0.9,
                "first_as_second": 2,
                "second_as_first": 1,
            }
        ],
        "ceiling": {"accuracy": 0.97, "lost_to_conflicts": 0.01, "lost_to_confused": 0.02, "premise": "labels stay so"},
    }
    groups = [{"kind": "across", "conflict": True, "members": members, "pairs": [{**pair, "similarity": 0.99}]}]
    counts = {"within": 0, "across": 1, "leak": 0, "conflicts": 1, "drawings": 2}
    part = {"accuracy": 0.6, "accuracy_ci95": [0.5, 0.7], "accuracy_of_copies": 0.8}
    drop = {"difference": -0.01, "difference_ci95": [-0.02, 0.0], "p_value": 0.04, "distinguishable": True}
    accuracy = {"groups": 1, "drawings": 2, "parted": part, "grouped": part, **drop}
    return {
        "format": 2,
        "data_fingerprint": fingerprint,
        "n": {"train": len(paths), "test": 0, "unusable": 0},
        "duplicates": {"counts": counts, "accuracy": accuracy, "groups": groups},
        "labels": labels,
        "next": ["look at the pairs"],
    }
