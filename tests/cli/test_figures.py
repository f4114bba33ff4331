import pytest

from inkfold.cli.figures import difference_of, figure_of, p_value_of, print_table
from inkfold.evaluation.formatting import signed, with_interval


def test_tables_are_aligned_by_their_title(capsys):
    print_table("", ("a", "b"), [("1", "2"), ("100", "200")])
    print_table("things", ("a", "b", "name"), [("1", "2", "x"), ("100", "200", "yy")])
    plain, titled = capsys.readouterr().out.split("things")
    assert "│   1 │   2 │" in plain
    assert "│ 1   │   2 │ x    │" in titled


@pytest.mark.parametrize(("difference", "text"), [(0.02, "+0.0200"), (-0.02, "-0.0200"), (-0.00004, "0.0000"), (0.0, "0.0000")])
def test_a_difference_has_a_sign_unless_it_rounds_to_zero(difference, text):
    assert signed(difference) == text


def test_a_tested_difference_says_whether_it_is_more_than_chance_and_which_groups_were_resampled():
    part = {"difference": 0.05, "difference_ci95": [0.01, 0.09], "p_value": 0.01, "distinguishable": True}
    assert difference_of(part) == "+0.0500 (+0.0100 to +0.0900), p = 0.010: more than chance"
    part |= {"p_value": 0.4, "distinguishable": False, "groups_resampled": 1200}
    assert difference_of(part) == ("+0.0500 (+0.0100 to +0.0900), p = 0.400: not distinguishable from chance, by 1,200 groups")


def test_a_p_value_is_written_only_where_its_key_says_that_two_can_be_told_apart():
    assert p_value_of({"p_value": 0.01, "distinguishable": True}) == "p = 0.010"
    assert p_value_of({"p_value": 0.4, "significant": False}, "significant") == "not distinguishable"


def test_a_figure_stands_before_its_interval():
    assert figure_of({"accuracy": 0.5, "accuracy_ci95": [0.4, 0.6]}, "accuracy") == "0.500 (0.400-0.600)"


def test_an_interval_from_below_zero_has_no_dash():
    assert with_interval(0.1, [-0.2, 0.4]) == "0.100 (-0.200 to 0.400)"
    assert with_interval(0.1, [0.0, 0.4]) == "0.100 (0.000-0.400)"
