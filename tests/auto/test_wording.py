import pytest

from inkfold.auto.record import AutoRecord, Step
from inkfold.auto.wording import best_in_words, gain_in_words, outcome_in_words
from toy_search import search_record


def test_the_best_figure_is_written_with_its_interval_its_step_and_its_time():
    assert best_in_words(search_record()) == "accuracy 0.570 (0.530-0.610) by vote, after 26.0 s"
    record = search_record()
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
