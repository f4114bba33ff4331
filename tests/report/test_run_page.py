import re

import numpy as np
import pytest

from inkfold.data.dataset import DataOptions
from inkfold.pipeline.run_files import open_run_files
from inkfold.report.html import render_page
from inkfold.report.run_page import SECTIONS, evaluation_view, run_view
from inkfold.report.thumbnails import open_album
from toy import CLASSES, toy_data
from toy_runs import made_up, write_run


@pytest.fixture
def shown(tmp_path):
    """A run over the toy drawings, its album, and what its page shows."""
    data = toy_data(tmp_path / "data")
    paths = sorted(path.relative_to(data / "train").as_posix() for path in (data / "train").rglob("*.png"))
    targets = np.array([CLASSES.index(path.partition("/")[0]) for path in paths])
    predictions = made_up(paths, targets, CLASSES, accuracy=0.3, folds=np.arange(len(paths)) % 2)
    run = open_run_files(write_run(tmp_path / "run", data, predictions))
    album = open_album(DataOptions(), data, "pad", "auto")
    return run, album, run_view(run, album)


def test_the_figures_are_those_of_the_metrics(shown):
    run, _, view = shown
    assert evaluation_view(run)["accuracy"] == run.metrics["out_of_fold"]["accuracy"]
    assert view["evaluated"]["accuracy_ci95"] == run.metrics["out_of_fold"]["accuracy_ci95"]
    expected = {one["class_name"]: one["recall"] for one in run.metrics["out_of_fold"]["per_class"]}
    assert {row["name"]: pytest.approx(row["recall"], abs=1e-6) for row in view["classes"]} == expected
    assert view["evaluated"]["ece"] == run.metrics["out_of_fold"]["ece"]
    assert sum(row["count"] for row in view["reliability"]["bins"]) == view["evaluated"]["n"]


def test_a_mistake_is_shown_with_samples_of_both_classes_but_not_with_itself(shown):
    run, album, view = shown
    assert view["failures"]
    for card in view["failures"]:
        assert card["picture"] is album.show(card["path"])
        assert card["picture"] not in card["target_samples"]
        assert len(card["target_samples"]) == len(card["pred_samples"]) == 3
        row = run.out_of_fold.image_paths.tolist().index(card["path"])
        assert card["target"] == CLASSES[run.out_of_fold.targets[row]] != card["pred"]


def test_a_pairs_mistaken_drawings_are_of_the_class_under_which_they_stand(shown):
    _, album, view = shown
    where = {picture.name: path for (_, path), picture in album.pictures.items()}
    for pair in view["pairs"]:
        assert pair["count"] == sum(side["count"] for side in pair["sides"])
        for side in pair["sides"]:
            assert {where[picture.name].partition("/")[0] for picture in side["mistaken"]} <= {side["name"]}


def test_the_contents_name_the_sections_that_are_there(shown):
    _, _, view = shown
    names = [name for name, _ in view["contents"]]
    assert names == [name for name in SECTIONS if name not in ("members", "search")]  # one model has none, nor a search


def test_stages_of_the_curriculum_end_where_the_next_begins(shown):
    _, _, view = shown
    assert [(stage["epochs"], stage["augmentation"]) for stage in view["curves"]["stages"]] == [
        ("1–2", "none"),
        ("3–6", "hflip@0.5, 4 views"),
    ]


def test_how_pages_are_read_is_a_fact_of_the_run_where_it_was_chosen(tmp_path):
    data = toy_data(tmp_path / "data")
    predictions = made_up([f"{i}.png" for i in range(12)], np.arange(12) % 3, CLASSES, folds=np.arange(12) % 2)
    metrics = {"reading": {"pages": {"filled": 1.0, "photographed": 0.0}, "reason": "reading: image.resize=pad; for reasons"}}
    album = open_album(DataOptions(), data, "pad", "auto")
    chosen = run_view(open_run_files(write_run(tmp_path / "chosen", data, predictions, metrics=metrics)), album)
    assert ("reading", "image.resize=pad; for reasons") in chosen["facts"]
    fixed = run_view(open_run_files(write_run(tmp_path / "fixed", data, predictions)), album)
    assert "reading" not in dict(fixed["facts"])


def test_copies_of_drawings_trained_on_stand_under_the_headline(shown):
    run, album, view = shown
    assert view["leaks"] == []
    figures = {**run.metrics["out_of_fold"], "n": 4, "accuracy": 0.25, "accuracy_ci95": [0.05, 0.7]}
    run.metrics["test"] = {**run.metrics["out_of_fold"], "without_copies": figures}
    run.metrics["leaks"] = {"test": {"drawings": 1234, "of": 5143, "identical": 3, "other_label": 2}}
    page = render_page("run.html.j2", run_view(run, album), album.pictures.values())
    text = " ".join(re.sub(r"<[^>]*>", "", page).replace("&nbsp;", " ").split())
    counts = "1,234 of 5,143 test drawings are copies of drawings trained on, 2 with another label."
    assert f"{counts} On the 4 others 25.0 % (5.0–70.0)" in text
