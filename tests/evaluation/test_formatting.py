import math

import pytest

from inkfold.evaluation.formatting import p_equation, p_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.000"),
        (0.04, "0.040"),
        (0.001, "0.001"),
        (0.00012, "0.00012"),
        (2.3e-5, "2.3e-05"),
        (1e-6, "1e-06"),
        (9.9e-7, "< 1e-6"),
        (0.0, "< 1e-6"),
        (math.nan, "not tested"),
    ],
)
def test_p_values_are_written_to_what_they_say(value, text):
    assert p_text(value) == text


def test_as_an_equation_a_p_value_is_equal_or_below():
    assert [p_equation(value) for value in (0.25, 1e-30, math.nan)] == ["p = 0.250", "p < 1e-6", "not tested"]
