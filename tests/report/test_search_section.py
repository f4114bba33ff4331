import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from inkfold.auto.forecast import forecast
from inkfold.auto.record import AUTO, RacedBackbone, Step
from inkfold.data.dataset import DataOptions
from inkfold.errors import PredictionError
from inkfold.pipeline.run_files import open_run_files
from inkfold.report.next_steps import next_steps
from inkfold.report.run_page import run_view
from inkfold.report.search_section import MOST_BACKBONES, MOST_CHARS, MOST_STEPS, search_view
from inkfold.report.thumbnails import open_album
from inkfold.report.write import write_report
from toy import CLASSES
from toy_runs import made_up, write_run
from toy_search import search_record


@pytest.fixture
def path(tmp_path):
    predictions = made_up([f"{i}.png" for i in range(12)], np.arange(12) % 3, CLASSES, folds=np.arange(12) % 2)
    return write_run(tmp_path / "run", tmp_path / "data", predictions)


@pytest.fixture
def record():
    return search_record()


def view_of(path, record):
    record.save(path)
    return search_view(open_run_files(path))


def page_of(path):
    write_report([path], path.parent / "page.html")
    return (path.parent / "page.html").read_text()


def test_a_run_that_was_trained_by_itself_has_no_such_section(path):
    assert search_view(open_run_files(path)) is None
    page = page_of(path)
    assert 'id="search"' not in page
    assert 'href="#search"' not in page


def test_the_section_has_every_step_with_its_cost_figure_and_gain(path, record):
    rows = {row["name"]: row for row in view_of(path, record)["steps"]}
    assert [*rows] == [step.name for step in record.steps]
    layers = rows["lite0-layers"]
    assert (layers["figure"], layers["seconds"], layers["gain"]) == ("54.0 (50.0–58.0)", 12.0, "+0.040 (p = 0.004)")
    assert (layers["is_best"], layers["state"], layers["kind"]) == (True, "", "frozen backbone")
    assert (rows["lite0-finetuned"]["seconds"], rows["lite0-finetuned"]["state"]) == (1500.0, "not begun")
    assert (rows["views"]["figure"], rows["views"]["state"]) == ("", "failed")
    assert rows["vote"]["members"] == ["ink-small-linear", "lite0-layers"]


def test_the_section_has_the_best_figure_over_time_the_backbones_and_the_choice(path, record):
    record.forecast = forecast(record)
    view = view_of(path, record)
    assert [(point["seconds"], point["figure"], point["test"]) for point in view["points"]] == [
        (6.5, "50.0 (46.0–54.0)", "–"),
        (22.5, "54.0 (50.0–58.0)", "53.0"),
        (26.0, "57.0 (53.0–61.0)", "56.0"),
    ]
    assert [(row["name"], row["rate"], row["skill"]) for row in view["backbones"]] == [
        ("ink-small", "2,700", "–"),
        ("lite0", "110", "24.4"),
        ("eva02", "0.2", "70.7"),
    ]
    assert view["choice"].startswith("Taken: vote, a vote of ink-small-linear, lite0-layers: more than chance better")
    assert view["forecast"].startswith("The next minute would bring nothing")
    assert view["time"].replace("\u00a0", " ") == "28.0 s of 1 min 0 s"
    assert view["has_test"]


def test_both_plots_are_whole_say_what_they_show_and_contain_no_name(path, record):
    record.metric = {"name": "macro_f1", "title": "<macro F1>", "greater_is_better": True}
    over_time, by_cost = view_of(path, record)["plots"]
    for plot, words in (
        (over_time, ("time of the search", "10 s", "best so far")),
        (by_cost, ("time that the step took", "taken")),
    ):
        label = ET.fromstring(plot).get("aria-label")
        assert "time" in label
        assert all(word in plot for word in words)
        assert not re.search("lite0|macro", plot)


def test_another_metric_than_accuracy_is_written_as_it_is(path, record):
    record.metric = {"name": "log_loss", "title": "log loss", "greater_is_better": False}
    view = view_of(path, record)
    assert view["title"] == "log loss"
    assert view["points"][0]["figure"] == "0.500 (0.460–0.540)"


def test_a_search_that_measured_nothing_has_no_plots(path, record):
    record.steps, record.best, record.choice = record.steps[:1], [], None
    view = view_of(path, record)
    assert (view["plots"], view["choice"], view["points"]) == ([], None, [])
    assert 'id="search"' in page_of(path)


def test_what_a_record_says_is_escaped(path, record):
    evil = "<script>alert(1)</script>"
    record.steps[1].name = record.steps[1].why = record.backbones[0].name = record.backbones[0].why = evil
    record.steps[-1].members = [evil]
    record.choice = {"step": evil, "why": evil}
    record.machine = {"device": evil}
    record.best[0]["step"] = evil
    record.forecast = {"seconds": 60.0, "gain": None, "low": None, "high": None, "words": evil}
    record.save(path)
    page = page_of(path)
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 8


def test_a_huge_record_makes_no_huge_page(path, record):
    record.steps = [
        Step(f"step-{i}", "head", "done", "x" * 10_000, seconds=1.0, began_s=float(i), accuracy=0.5)
        for i in range(MOST_STEPS + 7)
    ]
    record.backbones = [RacedBackbone(f"net-{i}", "hub", why="y" * 10_000) for i in range(MOST_BACKBONES + 3)]
    record.best = [
        {"seconds": float(i + 1), "step": "s" * 10_000, "accuracy": 0.5, "accuracy_ci95": None} for i in range(MOST_STEPS + 7)
    ]
    view = view_of(path, record)
    assert (len(view["steps"]), view["more_steps"]) == (MOST_STEPS, 7)
    assert (len(view["backbones"]), view["more_backbones"]) == (MOST_BACKBONES, 3)
    assert len(view["points"]) == MOST_STEPS
    assert max(len(row["why"]) for row in view["steps"]) == MOST_CHARS
    assert len(page_of(path)) < 700_000


@pytest.mark.parametrize("figure", [-1e308, 1e308, 0.0])
def test_figures_out_of_all_bounds_break_nothing(path, record, figure):
    record.steps[1].accuracy, record.steps[1].accuracy_ci95, record.steps[1].seconds = figure, [figure, figure], -5.0
    record.best[0]["accuracy"], record.best[0]["seconds"] = figure, -3.0
    record.save(path)
    assert 'id="search"' in page_of(path)


def test_a_file_that_is_no_record_is_an_error_that_says_so(path):
    (path / AUTO).write_text("{}")
    with pytest.raises(PredictionError, match=r"auto\.json: not a record of a search.*or remove it"):
        search_view(open_run_files(path))


def test_a_searched_run_is_advised_to_search_longer_and_not_what_the_search_has_tried(path, record):
    album = open_album(DataOptions(), path.parent / "data", "pad", "auto")
    before = {step.what for step in run_view(open_run_files(path), album)["steps"]}
    assert {"Fine-tune the backbone", "Compare other backbones", "Combine it with a second model"} <= before
    record.steps = [step for step in record.steps if step.state != "skipped"]
    record.spent_s = 58.0
    record.forecast = forecast(record)
    record.save(path)
    steps = {step.what: step for step in next_steps(open_run_files(path), [], [])}
    assert not {"Fine-tune the backbone", "Compare other backbones", "Combine it with a second model"} & {*steps}
    longer = steps["Search longer"]
    assert longer.command == f"inkfold train {path}/auto.yaml out={path} budget=2m"
    assert longer.expectation.startswith("Gain not measured. Forecast: the next minute would probably bring +0.")
    record.forecast |= {"gain": 0.0, "high": 0.0}
    record.save(path)
    assert "Search longer" not in {step.what for step in next_steps(open_run_files(path), [], [])}
