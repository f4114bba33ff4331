from pathlib import Path
from typing import get_args

import pytest

from inkfold.auto.record import AutoRecord, Kind, State, Step
from inkfold.auto.wording import KINDS, STATES, best_in_words, continue_command, gain_in_words, outcome_in_words
from toy_search import search_record


def test_the_best_figure_is_written_with_its_interval_its_step_and_its_time():
    assert best_in_words(search_record()) == "accuracy 0.570 (0.530-0.610) by a vote of 2 models, after 26.0 s"
    record = search_record()
    record.choice = {"step": "lite0-layers", "members": ["lite0-layers"], "why": "the best of 2"}
    record.metric = {"name": "log_loss", "title": "log loss", "greater_is_better": False}
    record.best[-1]["accuracy_ci95"] = None
    assert best_in_words(record) == "log loss 0.570 by vote, after 26.0 s"
    assert best_in_words(AutoRecord()) == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("reading", "1.5 s"),
        ("ink-small-linear", "0.500 (0.460-0.540), taken, 5.0 s"),
        ("lite0-layers", "0.540 (0.500-0.580), +0.040 (p = 0.004), taken, 12.0 s"),
        ("lite0-finetuned", "not begun: it would take 25 min of 31 s left"),
        ("views", "failed after 3.0 s: mirrored drawings"),
    ],
)
def test_what_came_of_a_step_is_one_line(name, expected):
    assert outcome_in_words(search_record().step(name)) == expected


def test_a_races_figure_is_said_to_be_of_few_drawings():
    race = Step("backbones", "race", "done", seconds=9.0, accuracy=0.41, n=600)
    assert outcome_in_words(race) == "0.410 on 600 drawings, 9.0 s"


def test_a_step_that_was_stopped_or_runs_says_so():
    assert outcome_in_words(Step("a", "finetune", "stopped", seconds=61, accuracy=0.5)) == "0.500, stopped after 1 min 1 s"
    assert outcome_in_words(Step("a", "finetune")) == "running"
    assert outcome_in_words(Step("a", "finetune", "skipped")) == "not begun"


@pytest.mark.parametrize(
    ("gain", "p_value", "expected"),
    [
        (None, None, ""),
        (0.01, None, "+0.010"),
        (-0.01, 0.04, "-0.010 (p = 0.040)"),
        (-0.0001, 0.9, "0.000 (not distinguishable)"),
    ],
)
def test_a_gain_is_written_with_its_p_value_or_that_it_is_none(gain, p_value, expected):
    assert gain_in_words(Step("a", "head", gain=gain, p_value=p_value)) == expected


@pytest.mark.parametrize(
    ("spent_s", "budget_s", "seconds", "budget"),
    [(28, 30, 60, "2m"), (600, 600, 3600, "2h"), (3600, 3600, 3600, "2h"), (43300, 43200, 43200, "48h")],
)
def test_the_command_that_goes_on_has_room_for_the_forecasts_period(spent_s, budget_s, seconds, budget):
    record = AutoRecord(budget_s=budget_s, spent_s=spent_s)
    record.forecast = {"seconds": seconds, "gain": 0.1, "low": 0.0, "high": 0.2, "words": ""}
    assert continue_command(Path("my runs"), record) == f"inkfold train 'my runs/auto.yaml' 'out=my runs' budget={budget}"


@pytest.mark.parametrize(("high", "spent_s"), [(0.0, 60.0), (0.1, 720 * 3600.0)])
def test_no_command_goes_on_where_time_brings_nothing_or_can_not_be_more(high, spent_s):
    record = AutoRecord(budget_s=60.0, spent_s=spent_s)
    record.forecast = {"seconds": 60.0, "gain": 0.0, "low": 0.0, "high": high, "words": ""}
    assert continue_command(Path("run"), record) == ""
    assert continue_command(Path("run"), AutoRecord()) == ""


def test_every_kind_of_step_has_a_name_and_every_state_but_done_a_word():
    assert {*KINDS} == {*get_args(Kind)}
    assert {*STATES, "done"} == {*get_args(State)}
