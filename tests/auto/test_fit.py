from pathlib import Path

import numpy as np
import pytest
import yaml

from inkfold.auto import fit as module
from inkfold.auto.fit import as_overrides, fit
from inkfold.auto.status import Status
from inkfold.auto.train import settle_request
from inkfold.config.load import load_raw
from inkfold.errors import RecipeError


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What the search is called with, in place of the search."""
    found = []

    def search(recipe, *overrides, data, out, progress):
        found.append((recipe, overrides, data, Path(out), progress))
        return "the run"

    monkeypatch.setattr(module, "train_any", search)
    monkeypatch.chdir(tmp_path)
    return found


def test_drawings_and_a_budget_are_a_search_of_them(calls, tmp_path):
    (tmp_path / "auto").write_text("a file of the recipe's name")
    assert fit("drawings", "1h", out="best", progress=print, folds__k=10, image={"resize": "pad"}, seed=7) == "the run"
    [(recipe, overrides, data, out, progress)] = calls
    assert (data, out, progress) == ("drawings", Path("best"), print)
    request = settle_request(load_raw(recipe), overrides, data)
    root = str(tmp_path / "drawings")
    assert (request.auto.budget, request.folds.k, request.seed, request.data.root) == ("1h", 10, 7, root)
    assert request.set == {"image.resize": "pad"}


def test_without_a_directory_each_call_has_the_next_one_that_is_free(calls, tmp_path):
    for _ in range(2):
        fit("drawings", progress=print)
    (tmp_path / "runs/auto-3").write_text("")
    fit("drawings", progress=print)
    assert [str(call[3]) for call in calls] == ["runs/auto-1", "runs/auto-2", "runs/auto-4"]
    assert all(call[3].is_dir() for call in calls)


def test_the_search_is_shown_where_nothing_else_was_asked_for(calls):
    fit("drawings", out="best")
    assert isinstance(calls[0][4], Status)


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
    assert as_overrides({"a__b": value}) == [f"a.b={text}"]
    plain = value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value) if isinstance(value, Path) else value
    assert yaml.safe_load(text) == (list(plain) if isinstance(plain, tuple) else plain)


def test_every_value_that_no_recipe_can_hold_is_named():
    with pytest.raises(RecipeError) as caught:
        as_overrides({"seed": object(), "folds": {"k": {1, 2}, "split": print}, "metric": "accuracy"})
    text = str(caught.value)
    assert "seed: got <object" in text
    assert "folds.split" in text


def test_a_budget_that_is_none_is_an_error_that_says_what_one_is(tmp_path):
    with pytest.raises(RecipeError, match=r"auto\.budget: got 'soon'\. expected a duration such as 30s"):
        fit(tmp_path, "soon", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
