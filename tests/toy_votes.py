"""Finished toy runs, and members made of numbers, for the tests of votes."""

import numpy as np
import pytest

from inkfold.ensemble.members import AlignedMembers
from inkfold.pipeline.train import train
from toy import toy_data, toy_recipe

NAMES = ("apple", "fish", "house")
CHANGES = {
    "linear": [],
    "mlp": ["head={kind: mlp, hidden: [5]}", "train_head.lr=0.03"],
    "other-folds": ["seed=3", "train_head.epochs=2"],
}
ENSEMBLE = """\
members:
  - {recipe: toy.yaml, name: one}
  - {recipe: toy.yaml, name: two, set: {head: {kind: mlp, hidden: [4]}}}
folds: {k: 3}
"""


def trained(root, *overrides, **options):
    """Three runs on the same drawings; their directories by name, and the data's as `data`."""
    data = toy_data(root / "data", **{"test_per_class": 5, **options})
    recipe = toy_recipe(root)
    settings = ("data.test_targets=test_labels.csv", *overrides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INKFOLD_HOME", str(root / "home"))
        for name, changes in CHANGES.items():
            train(recipe, *settings, *changes, data=data, out=root / name)
    return {"data": data, **{name: root / name for name in CHANGES}}


def ensemble_recipe(directory, text=ENSEMBLE):
    toy_recipe(directory)
    path = directory / "ensemble.yaml"
    path.write_text(text)
    return path


def texts(values):
    return np.array([*values], np.dtypes.StringDType())


def some_probs(targets, classes, seed, strength):
    """Probabilities that favour the true class by `strength`."""
    logits = np.random.default_rng(seed).normal(size=(len(targets), classes))
    logits[np.arange(len(targets)), targets] += strength
    exponents = np.exp(logits)
    return (exponents / exponents.sum(1, keepdims=True)).astype(np.float32)


def some_members(n=60, tests=24, folds=3, strengths=(1.0, 1.5, 0.5), **changes):
    """Members of different strength on three classes, with true labels everywhere."""
    targets, test_targets = np.arange(n) % 3, np.arange(tests) % 3
    fields = {
        "names": tuple(f"model {i}" for i in range(len(strengths))),
        "class_names": NAMES,
        "out_of_fold": np.stack([some_probs(targets, 3, i, strength) for i, strength in enumerate(strengths)]),
        "out_of_fold_paths": texts(f"train/{i}.png" for i in range(n)),
        "targets": targets,
        "parts": np.arange(n) // 3 % 5,
        "test": tuple(
            np.stack([some_probs(test_targets, 3, (i, fold), strength) for fold in range(folds)])
            for i, strength in enumerate(strengths)
        ),
        "test_paths": texts(f"test/{i}.png" for i in range(tests)),
        "test_targets": test_targets,
    }
    return AlignedMembers(**{**fields, **changes})


def without_out_of_fold(changes=None):
    nothing = {"out_of_fold": None, "out_of_fold_paths": texts([]), "targets": np.empty(0, int), "parts": np.empty(0, int)}
    return some_members(**nothing, **(changes or {}))
