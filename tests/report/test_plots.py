import re
from xml.etree import ElementTree as ET

from inkfold.report.plots import VARIABLES, draw_curves, draw_reliability, draw_search, draw_step_costs

BINS = [
    {"count": 1, "confidence": 0.1, "accuracy": 1.0, "ci95": (0.2, 0.9999999)},
    {"count": 90, "confidence": 0.8, "accuracy": 0.7, "ci95": (0.6, 0.8)},
]

BEST = [
    {"seconds": 0.2, "accuracy": 0.4, "accuracy_ci95": None},
    {"seconds": 5000.0, "accuracy": 0.5, "accuracy_ci95": [0.4, 0.6]},
]
TRIED = [
    {"seconds": 0.2, "cost": 0.0, "accuracy": 0.4, "is_best": True},
    {"seconds": 90.0, "cost": 88.0, "accuracy": 0.3, "is_best": False},
]


def drawn():
    lines = {"training": [3.0, 2.0, 1.0], "held out": [3.0, 2.5, 2.4]}
    return [
        draw_curves(lines, "loss", "loss", [(1, 1), (2, 3)]),
        draw_curves({"held out": [0.1]}, "accuracy", "accuracy"),
        draw_reliability({"A": BINS, "B": BINS}),
        draw_search(BEST, TRIED, "accuracy", "search"),
        draw_step_costs(TRIED, "accuracy", "costs"),
    ]


def test_plots_have_the_pages_colours_text_as_text_and_no_names_in_common():
    plots = drawn()
    ids = [set(re.findall(r'\bid="([^"]+)"', plot)) for plot in plots]
    assert not ids[0] & ids[1]
    for plot, own in zip(plots, ids, strict=True):
        ET.fromstring(plot)
        assert not re.search(r"#[0-9a-f]{6}\b", plot)
        assert {*re.findall(r"url\(#([^)]+)\)", plot), *re.findall(r'href="#([^"]+)"', plot)} <= own
        assert "<style" not in plot
        assert not re.search(r'<svg[^>]*(width|height)="', plot)
    assert "<text" in plots[0]
    assert "held out" in plots[0]
    assert "var(--c1)" in plots[0]


def test_equal_data_give_equal_bytes():
    assert drawn() == drawn()


def test_every_colour_stands_for_one_of_the_pages():
    assert len({*VARIABLES.values()}) == len(VARIABLES)


def test_time_is_marked_in_the_units_that_people_use():
    over_time, by_cost = (re.findall(r">([\d.]+ (?:s|min|h|d))<", plot) for plot in drawn()[3:])
    assert over_time == ["1 s", "5 s", "20 s", "1 min", "5 min", "20 min", "1 h"]
    assert by_cost == ["0.1 s", "1 s", "5 s", "20 s", "1 min"]
