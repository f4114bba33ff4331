from pathlib import Path

import numpy as np
import pytest
import yaml

from inkfold.api.settings import as_overrides, as_text
from inkfold.config.keys import all_keys, is_key, nearest_key
from inkfold.config.load import load_recipe
from inkfold.errors import RecipeError

FORMS = {
    "sections": ((), {"train_head": {"epochs": 7, "lr": 0.1}, "seed": 3}),
    "old sections": ((), {"fit": {"epochs": 7, "lr": 0.1}, "seed": 3}),
    "underscores": ((), {"train_head__epochs": 7, "train_head__lr": 0.1, "seed": 3}),
    "dots": ((), {"train_head.epochs": 7, "fit.lr": 0.1, "seed": 3}),
    "texts": (("train_head.epochs=7", "train_head.lr=0.1", "seed=3"), {}),
    "a list": ((["train_head.epochs=7", "train_head.lr=0.1"],), {"seed": np.int64(3)}),
    "a mapping": (({"train_head": {"epochs": 7, "lr": np.float64(0.1)}, "seed": 3},), {}),
    "the last one wins": (("seed=2", {"train_head": {"epochs": 6, "lr": 0.1}}), {"train_head__epochs": 7, "seed": 3}),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_settings_are_the_same_recipe(form):
    given, settings = FORMS[form]
    recipe = load_recipe("first", as_overrides(settings, given))
    assert (recipe.train_head.epochs, recipe.train_head.lr, recipe.seed) == (7, 0.1, 3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.3, "0.3"),
        (True, "true"),
        (None, "null"),
        ((1, 2), "[1, 2]"),
        (np.float32(0.5), "0.5"),
        (np.arange(3), "[0, 1, 2]"),
        (Path("a b"), "a b"),
        ("1", "'1'"),
        ({}, "{}"),
        ("[ab]-\\d", "'[ab]-\\d'"),
    ],
)
def test_values_are_written_as_they_are_typed_on_the_command_line(value, text):
    assert as_text(value) == text
    plain = value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value) if isinstance(value, Path) else value
    assert yaml.safe_load(text) == (list(plain) if isinstance(plain, tuple) else plain)


def test_every_value_that_no_recipe_can_hold_is_named():
    with pytest.raises(RecipeError) as caught:
        as_overrides({"seed": object(), "folds": {"k": {1, 2}, "split": print}, "metric": "accuracy"}, [5])
    text = str(caught.value)
    assert "seed: got <object" in text
    assert "folds.split" in text
    assert "settings: got int, expected 'key=value'" in text


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("epohcs", "train_head.epochs"),
        ("train_haed", "train_head"),
        ("train_head.epocs", None),  # of a section that there is: the recipe's own validation knows
        ("buget", "budget"),
        ("otu", "out"),
        ("Seed", "seed"),
        ("folds.k", None),
    ],
)
def test_a_typo_is_answered_with_the_nearest_key(typed, meant):
    assert is_key(typed) == (meant is None)
    if meant is None:
        as_overrides({typed: 3})
        return
    with pytest.raises(RecipeError, match=f"{typed}: is no key of a recipe. Did you mean '{meant}'"):
        as_overrides({typed: 3}, parameters=("data", "out"))


def test_keys_whose_own_keys_have_dots_are_left_whole():
    space = {"train_head.lr": [1.0e-3, 1.0e-2]}
    assert as_overrides({"tune": {"space": space, "trials": 3}}) == (
        "tune.space={train_head.lr: [0.001, 0.01]}",
        "tune.trials=3",
    )


def test_every_key_of_every_kind_of_recipe_is_known():
    keys = set(all_keys())
    assert {"train_head.epochs", "folds.k", "auto.budget", "vote.method", "head.hidden", "finetune.part", "members"} <= keys
    assert nearest_key("zzzzzzzzzzz") is None
