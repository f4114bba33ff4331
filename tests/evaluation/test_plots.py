from xml.etree import ElementTree as ET

import pytest

from inkfold.evaluation.plots import plot_costs, plot_history, plot_importance

ROWS = [
    {"name": "small", "accuracy": 0.4, "accuracy_ci95": [0.38, 0.42], "images_per_s": 200.0},
    {"name": "large <one>", "accuracy": 0.5, "accuracy_ci95": [0.48, 0.52], "images_per_s": 10.0},
]


def texts(path):
    return {
        element.text for element in ET.fromstring(path.read_text(encoding="utf-8")).iter("{http://www.w3.org/2000/svg}text")
    }


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (
            lambda path: plot_history(path, [0.4, None, 0.45], 0.41),
            {"Trials", "trial", "best so far", "the recipe as it is"},
        ),
        (
            lambda path: plot_importance(path, {"train_head.lr": 0.8, "train_head.epochs": 0.2}),
            {"train_head.lr", "train_head.epochs", "importance for being among the best tenth"},
        ),
        (
            lambda path: plot_costs(path, ROWS),
            {"small", "large <one>", "Backbones on these drawings", "seconds for 1,000 drawings"},
        ),
    ],
    ids=["history", "bars", "costs"],
)
def test_a_plot_is_an_svg_whose_text_is_text_and_whose_bytes_are_a_function_of_the_data(tmp_path, draw, words):
    draw(tmp_path / "one.svg")
    draw(tmp_path / "two.svg")
    assert words <= texts(tmp_path / "one.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_a_history_of_trials_that_were_all_given_up_is_drawn_too(tmp_path):
    plot_history(tmp_path / "none.svg", [None, None], 0.3)
    assert "Trials" in texts(tmp_path / "none.svg")
