import math

import pytest

from inkfold.auto.forecast import forecast
from inkfold.auto.record import Step
from toy_search import search_record


def of_points(points, spent_s, budget_s=None, **changes):
    """A record of a search whose best figure was so at these times, and which had time for all that it knew."""
    record = search_record()
    record.spent_s, record.budget_s = spent_s, budget_s or spent_s
    record.best = [{"seconds": t, "step": "x", "accuracy": figure, "accuracy_ci95": None} for t, figure in points]
    record.steps = [step for step in record.steps if step.state != "skipped"]
    record.backbones = []
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def power_law(exponent, spent_s, count=12):
    times = [8 * (spent_s / 8) ** (i / (count - 1)) for i in range(count)]
    return [(t, 1 - 0.6 * (t / 8) ** -exponent) for t in times]


@pytest.mark.parametrize("exponent", [0.05, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("spent_s", [30.0, 600.0, 3600.0])
def test_a_smooth_curve_goes_on_about_as_it_does(exponent, spent_s):
    points = power_law(exponent, spent_s)
    told = forecast(of_points(points, spent_s))
    truth = 0.6 * ((spent_s / 8) ** -exponent - ((spent_s + told["seconds"]) / 8) ** -exponent)
    assert told["low"] <= truth <= told["high"]
    assert 0.7 * truth <= told["gain"] <= 1.3 * truth


def test_no_more_is_promised_than_if_the_whole_curve_went_on_as_a_line_in_log_time():
    for points in ([(5, 0.3), (6, 0.4), (50, 0.41)], [(5, 0.3), (50, 0.4), (55, 0.5)], [(5, 0.3), (20, 0.4), (60, 0.5)]):
        told = forecast(of_points(points, 60.0))
        line = (points[-1][1] - points[0][1]) * math.log((60 + told["seconds"]) / 60) / math.log(60 / points[0][0])
        assert 0 < told["gain"] <= 1.15 * line


def test_a_curve_that_has_been_flat_for_long_promises_less_than_one_that_just_rose():
    flat = forecast(of_points([(5, 0.3), (8, 0.4), (12, 0.45)], 600.0))
    risen = forecast(of_points([(5, 0.3), (100, 0.4), (550, 0.45)], 600.0))
    assert flat["gain"] < risen["gain"] / 2
    assert (flat["low"], risen["low"]) == (0, 0)


def test_an_accuracy_of_almost_1_has_little_left_to_gain():
    told = forecast(of_points([(5, 0.3), (20, 0.7), (60, 0.99)], 60.0))
    assert told["high"] <= 0.01 + 1e-9


def test_fewer_than_three_points_are_unknown():
    told = forecast(of_points([(5, 0.3), (20, 0.4)], 60.0))
    assert (told["gain"], told["low"], told["high"]) == (None, None, None)
    assert (
        told["words"]
        == "what the next minute would bring is unknown: the best figure has 2 of the 3 points that it takes to say"
    )


@pytest.mark.parametrize(
    ("spent_s", "seconds", "period"),
    [(5, 60, "minute"), (30, 60, "minute"), (120, 600, "10 minutes"), (600, 3600, "hour"), (9000, 43200, "12 hours")],
)
def test_the_period_is_one_that_the_curve_can_say_something_of(spent_s, seconds, period):
    told = forecast(of_points(power_law(0.1, 5 * spent_s)[:4], spent_s))
    assert told["seconds"] == seconds
    assert told["words"].startswith(f"the next {period} would probably bring +0.")


def test_where_everything_was_tried_before_the_end_more_time_brings_nothing():
    told = forecast(of_points(power_law(0.1, 60.0), 60.0, budget_s=600.0))
    assert (told["gain"], told["low"], told["high"]) == (0, 0, 0)
    assert told["words"] == "everything that this search knows has been tried: more time alone would bring nothing"


def test_what_time_was_wanting_for_comes_next_and_is_named():
    later = Step("tuned", "finetune", "skipped", "it takes longer than what is left", expected_s=1500.0, began_s=50.0)
    sooner = Step("views", "views", "stopped", "mirrored", expected_s=60.0, expected_gain=0.01)
    reading = Step("reading", "reading", "stopped", expected_s=1.0)
    not_worth_it = Step("wide", "head", "skipped", "its gain is not worth it", began_s=20.0)
    told = forecast(of_points(power_law(0.1, 60.0), 60.0, budget_s=600.0, steps=[later, not_worth_it]))
    nothing = "the next minute would bring nothing: what is left to try takes longer; next would come tuned (about 25 min 0 s)"
    assert told["words"] == nothing
    assert told["high"] == 0
    told = forecast(of_points(power_law(0.1, 60.0), 60.0, budget_s=600.0, steps=[reading, later, sooner]))
    assert told["gain"] > 0
    assert told["words"].endswith("; next would come views (about 1 min 0 s), tuned (about 25 min 0 s)")
