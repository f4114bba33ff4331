from pathlib import Path

import pytest

from inkfold.auto.forecast import forecast
from inkfold.cli.auto_output import print_search
from toy_printed import cells, lines_with
from toy_search import search_record


def printed(capsys, record, **values):
    print_search(record, Path("runs/best"), **{"data": "my drawings", **values})
    return capsys.readouterr().out


def test_a_search_ends_with_a_table_of_all_that_was_tried(capsys):
    text = printed(capsys, search_record())
    rows = {cells(line)[0]: cells(line) for line in text.splitlines() if "│" in line}
    assert rows["ink-small-linear"][1:] == ["5.0 s", "0.500 (0.460-0.540)", "", "taken", "quick, and made for drawings"]
    assert rows["lite0-layers"][1:4] == ["12.0 s", "0.540 (0.500-0.580)", "+0.040 (p = 0.004)"]
    assert rows["lite0-finetuned"][1:4] == ["about 25 min 0 s", "not begun", ""]
    assert rows["views"][1:3] == ["3.0 s", "failed"]
    assert rows["lite0"] == ["lite0", "110", "0.460", "100", "24.4 %", "taken", "INKFOLD_WEIGHTS, the best of the race"]
    assert rows["eva02"] == ["eva02", "0.2", "", "", "70.7 %", "", "hub, its features would take 40 min"]


def test_what_was_taken_is_said_with_the_command_that_repeats_it_and_the_one_that_goes_on(capsys):
    record = search_record()
    record.spent_s, record.steps[4].expected_s = 58.0, None
    record.forecast = forecast(record)
    lines = printed(capsys, record).splitlines()
    assert "search: 58.0 s of 1 min 0 s spent, 6 steps" in lines
    assert "taken: vote, a vote of ink-small-linear, lite0-layers: more than chance better than the best" in lines
    assert lines_with("\n".join(lines), "forecast: the next minute would probably bring +0.0")
    assert lines[-2] == "with more time: inkfold train runs/best/auto.yaml out=runs/best budget=2m"
    assert lines[-1] == "without the search: inkfold train runs/best/recipe.yaml 'data=my drawings' out=NEW"


@pytest.mark.parametrize(
    ("before_s", "expected"),
    [
        (20.0, "search: 28.0 s of 1 min 0 s spent, 6 steps; this call tried 2 steps in 8.0 s"),
        (
            28.0,
            "search: 28.0 s of 1 min 0 s spent, 6 steps; this call tried 0 steps in 0.0 s: no time was left or nothing to try, "
            "and a larger budget goes on from here",
        ),
    ],
)
def test_a_search_that_went_on_says_what_this_call_added(capsys, before_s, expected):
    assert expected in printed(capsys, search_record(), spent_before_s=before_s).splitlines()


def test_another_metric_names_the_column(capsys):
    record = search_record()
    record.metric = {"name": "macro_f1", "title": "macro F1", "greater_is_better": True}
    assert "macro F1 (95 %)" in printed(capsys, record)


def test_a_search_of_one_backbone_lists_no_backbones_and_unknown_data_is_left_out(capsys):
    record = search_record()
    record.backbones, record.choice, record.forecast = record.backbones[:1], None, None
    text = printed(capsys, record, data=None)
    assert "sketch top-1" not in text
    assert text.splitlines()[-1] == "without the search: inkfold train runs/best/recipe.yaml out=NEW"


def test_figures_of_a_part_of_the_drawings_are_said_to_be(capsys):
    record = search_record()
    assert "compared on" not in printed(capsys, record)
    record.data["n_train"] = 1200
    expected = "compared on 400 of 1,200 drawings: those that were held out and that no backbone was pretrained on"
    assert expected in printed(capsys, record).splitlines()
