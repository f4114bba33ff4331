import re
from xml.etree import ElementTree as ET

from inkfold.report.plots import VARIABLES, draw_curves, draw_reliability

BINS = [
    {"count": 1, "confidence": 0.1, "accuracy": 1.0, "ci95": (0.2, 0.9999999)},
    {"count": 90, "confidence": 0.8, "accuracy": 0.7, "ci95": (0.6, 0.8)},
]


def drawn():
    lines = {"training": [3.0, 2.0, 1.0], "held out": [3.0, 2.5, 2.4]}
    return [
        draw_curves(lines, "loss", "loss", [(1, 1), (2, 3)]),
        draw_curves({"held out": [0.1]}, "accuracy", "accuracy"),
        draw_reliability({"A": BINS, "B": BINS}),
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
