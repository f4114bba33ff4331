import pytest

from inkfold.evaluation.intervals import wilson_interval
from inkfold.serve.confidence import BLANK, measured_confidence


def bins(*accuracies, count=400):
    k = len(accuracies)
    return [
        {"low": i / k, "high": (i + 1) / k, "count": count, "confidence": (i + 0.5) / k, "accuracy": accuracy}
        for i, accuracy in enumerate(accuracies)
    ]


@pytest.mark.parametrize(("accuracy", "words"), [(0.99, "almost_certain"), (0.75, "likely"), (0.45, "unsure"), (0.1, "guess")])
def test_the_words_say_how_often_such_answers_were_right(accuracy, words):
    confidence = measured_confidence(0.5, bins(accuracy))
    assert confidence.words == words
    assert confidence.accuracy == accuracy
    assert (confidence.low, confidence.high) == wilson_interval(round(400 * accuracy), 400)
    assert f"{accuracy:.0%} were right" in confidence.text


def test_an_interval_that_does_not_reach_all_is_not_rounded_to_it():
    assert "(95 % interval 99% to 100%)" in measured_confidence(0.5, bins(1.0, count=1136)).text


def test_a_high_probability_alone_makes_no_strong_words():
    assert measured_confidence(0.999, bins(0.1, 0.2)).words == "guess"


def test_few_drawings_make_no_strong_words():
    assert measured_confidence(0.9, bins(1.0, count=5)).words == "unsure"  # Wilson's lower end of 5 of 5 is 0.57


def test_a_bin_of_few_drawings_is_judged_with_those_below():
    few = [*bins(0.5, 1.0)]
    few[1] = {**few[1], "count": 4}
    confidence = measured_confidence(0.9, few)
    assert confidence.count == 404
    assert confidence.accuracy == pytest.approx(204 / 404)


def test_an_empty_bin_takes_the_nearest_below():
    some = bins(0.3, 0.6, 0.9)
    some[1] = {**some[1], "count": 0, "accuracy": None}
    assert measured_confidence(0.5, some).accuracy == pytest.approx(0.3)


def test_where_nothing_was_measured_it_says_so():
    confidence = measured_confidence(0.9, [])
    assert (confidence.words, confidence.accuracy, confidence.count) == ("guess", None, 0)
    assert "nobody has measured" in confidence.text


def test_a_blank_page_is_no_answer():
    assert (BLANK.words, BLANK.accuracy) == ("blank", None)


def test_drawings_that_belong_together_count_as_the_independent_ones_that_they_are_worth():
    worth = [{**one, "independent": 40.0} for one in bins(0.95)]
    confidence = measured_confidence(0.5, worth)
    assert (confidence.low, confidence.high) == pytest.approx(wilson_interval(38, 40))
    assert (confidence.accuracy, confidence.count, confidence.words) == (0.95, 400, "likely")
    few = [{**one, "independent": 20.0} for one in bins(0.5, 1.0)]
    assert measured_confidence(0.9, few).count == 800  # 400 drawings worth 20 are judged together with those below
