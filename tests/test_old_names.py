"""Scripts that were written before there were packages still run, with a warning."""

import importlib
import sys
import warnings

import pytest

import inkfold
import inkfold.api.training
from inkfold.images.preprocess import ImageOptions


@pytest.fixture(autouse=True)
def imported_here_alone():
    yield
    sys.modules.pop("inkfold.fit", None)
    vars(inkfold).pop("fit", None)


def test_drawings_are_read_by_their_old_names():
    with pytest.warns(DeprecationWarning, match=r"inkfold\.images"):
        old = importlib.import_module("inkfold.fit")
    assert old.ImageOptions(64, fit="squash") == ImageOptions(size_px=64, resize="squash")
    with pytest.warns(DeprecationWarning, match=r"inkfold\.data"):
        types = importlib.import_module("inkfold.drawings")
    assert types.DataOptions(label_column="word").label_column == "word"
    assert (callable(old.read_drawing), types.Drawings.__module__) == (True, "inkfold.data.types")


def test_the_function_that_has_such_a_name_now_works_whatever_was_imported_before(monkeypatch):
    calls = []
    monkeypatch.setattr(inkfold.api.training, "fit", lambda *arguments, **settings: calls.append((arguments, settings)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("inkfold.fit")
    inkfold.fit("drawings", budget="10m")
    assert calls == [(("drawings",), {"budget": "10m"})]
