import csv
import inspect
import pkgutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inkfold
from inkfold.api import training
from inkfold.auto import fit as search
from inkfold.auto.status import Status
from inkfold.auto.train import settle_request
from inkfold.config.load import load_raw
from inkfold.errors import DataError, PredictionError, RecipeError
from inkfold.storage.kept_drawings import is_kept_set, runs_of
from toy import RECIPE


@pytest.fixture
def drawings(frozen_run):
    """The toy's training drawings as Pillow images, with their labels."""
    with (frozen_run / "data/train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pages = [Image.open(frozen_run / "data/train" / row["image_path"]) for row in rows]
    for page in pages:
        page.load()  # which closes its file
    return pages, [row["class_name"] for row in rows]


def test_a_run_from_memory_is_that_of_the_files(warm_home, drawings, frozen_run, tmp_path):
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(RECIPE)
    pages, labels = drawings
    data = [Path(page.filename).read_bytes() for page in pages]
    run = inkfold.train(recipe, data=(data, labels))
    expected = inkfold.load_run(frozen_run / "run")
    assert run.metrics["out_of_fold"]["accuracy"] == expected.metrics["out_of_fold"]["accuracy"]
    for name, tensor in expected.heads.items():  # bytes keep their digest, so folds, order and all that follows are the same
        np.testing.assert_array_equal(run.heads[name], tensor)

    root = Path(run.recipe.data.root)
    assert is_kept_set(root)
    assert runs_of(root) == [], "the run isn't kept, so nothing needs the drawings"
    kept = run.save(tmp_path / "runs/kept")
    assert runs_of(root) == [str(tmp_path / "runs/kept")]
    assert kept.save(tmp_path / "runs/kept").path == tmp_path / "runs/kept", "the same run is left as it is"
    np.testing.assert_array_equal(kept.predict_proba(pages[:3]), run.predict_proba(pages[:3]))

    again = inkfold.train(recipe, data=(data, labels), out=tmp_path / "runs/kept")
    assert again.manifest == kept.manifest, "resumed: it is finished"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("mine")
    with pytest.raises(PredictionError, match="holds something else, expected a new or empty directory"):
        run.save(tmp_path / "other")
    assert inkfold.audit(kept)["n"]["train"] == len(pages)
    assert inkfold.report(kept) == kept.path / "report.html"
    assert inkfold.report.write_report([kept.path], tmp_path / "again.html") > 0, "pictures of the drawings"


def test_all_that_begins_with_drawings_takes_them_from_memory(warm_home, drawings, tmp_path):
    pages, labels = drawings
    dataset = inkfold.read_dataset(pages, labels)
    assert inkfold.check(dataset, duplicates=False).ok
    assert inkfold.check((pages, labels), on_broken="skip", k=2, duplicates=False).ok
    sheet = inkfold.augment({"backbone": {"name": "test_resnet", "weights": "untrained"}}, data=dataset, rows=2)
    assert isinstance(sheet, Image.Image)
    inkfold.augment(
        {"backbone": {"name": "test_resnet"}}, "curriculum=winner", data=dataset, rows=1, out=tmp_path / "sheet.png"
    )
    with Image.open(tmp_path / "sheet.png") as written:
        assert written.width > sheet.width
    with pytest.raises(RecipeError, match=r"data\.on_brokne: no such key. Did you mean 'on_broken'"):
        inkfold.check(dataset, on_brokne="skip")
    with pytest.raises(DataError, match="labels: got None"):
        inkfold.train("first", data=pages)
    with pytest.raises(RecipeError, match="data: is missing"):
        inkfold.train("first")


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What the search is called with, in place of the search."""
    found = []

    def train(recipe, *overrides, out, progress):
        found.append((recipe, overrides, Path(out), progress))
        return "the run"

    monkeypatch.setattr(search, "train_any", train)
    monkeypatch.chdir(tmp_path)
    return found


def test_drawings_and_a_budget_are_a_search_of_them(calls, tmp_path):
    (tmp_path / "auto").write_text("a file of the recipe's name")
    settings = {"folds__k": 10, "image": {"resize": "pad"}, "seed": 7}
    assert training.fit("drawings", "1h", "metric=macro_f1", out="best", progress=print, **settings) == "the run"
    [(recipe, overrides, out, progress)] = calls
    assert (out, progress) == (Path("best"), print)
    request = settle_request(load_raw(recipe), overrides)
    root = str(tmp_path / "drawings")
    assert (request.auto.budget, request.folds.k, request.seed, request.data.root) == ("1h", 10, 7, root)
    assert (request.set, request.metric) == ({"image.resize": "pad"}, "macro_f1")


def test_without_a_directory_each_call_has_the_next_one_that_is_free(calls, tmp_path):
    for _ in range(2):
        inkfold.fit("drawings", progress=print)
    (tmp_path / "runs/auto-3").write_text("")
    inkfold.fit("drawings", progress=print)
    assert [str(call[2]) for call in calls] == ["runs/auto-1", "runs/auto-2", "runs/auto-4"]
    assert all(call[2].is_dir() for call in calls)


def test_the_search_is_shown_where_nothing_else_was_asked_for(calls):
    inkfold.fit("drawings", out="best")
    assert isinstance(calls[0][3], Status)


def test_a_budget_that_is_none_is_an_error_that_says_what_one_is(tmp_path):
    with pytest.raises(RecipeError, match=r"auto\.budget: got 'soon'\. expected a duration such as 30s"):
        inkfold.fit(tmp_path, "soon", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_commands_functions_have_one_style():
    names = [name for name in inkfold.__all__ if not name[0].isupper() and name not in ("load_run", "read_dataset")]
    commands = {
        "train",
        "fit",
        "tune",
        "explore",
        "vote",
        "audit",
        "weakness",
        "report",
        "export",
        "serve",
        "augment",
        "check",
        "predict",
    }
    assert commands <= {*names}
    for name in commands:
        parameters = inspect.signature(getattr(inkfold, name)).parameters.values()
        first, *_ = parameters
        assert first.kind == first.POSITIONAL_OR_KEYWORD, name
        for parameter in parameters:
            if parameter.name in ("progress", "on", "data", "seed") and parameter is not first:
                assert parameter.kind == parameter.KEYWORD_ONLY, (name, parameter)
    modules = {module.name for module in pkgutil.iter_modules(inkfold.__path__)}
    for name in modules & commands - {"fit"}:
        assert inspect.ismodule(getattr(inkfold, name)), name
