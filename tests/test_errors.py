import pytest

from inkfold import errors
from inkfold.errors import DataError, InkfoldError, Problem, problem_lines


def test_a_problem_is_its_place_and_its_message():
    assert str(Problem("missing_file", "train.csv row 8", "not found.")) == "train.csv row 8: not found."


def test_twenty_of_a_kind_are_shown_and_the_rest_are_counted():
    lines = problem_lines([Problem("gone", f"row {i}", "gone.") for i in range(23)])
    assert lines[:2] == ["error: row 0: gone.", "error: row 1: gone."]
    assert lines[20:] == ["error: ... and 3 more of this kind (gone, 23 in all)"]


def test_twenty_of_a_kind_need_no_count():
    assert len(problem_lines([Problem("gone", f"row {i}", "gone.") for i in range(20)])) == 20


def test_kinds_come_in_the_order_in_which_they_were_found():
    found = [Problem("b", "1", "x"), Problem("a", "2", "y", "warning"), Problem("b", "3", "z")]
    assert problem_lines(found) == ["error: 1: x", "error: 3: z", "warning: 2: y"]


def test_an_error_carries_its_problems_and_shows_them():
    error = DataError([Problem("a", "here", "wrong.")])
    assert str(error) == "error: here: wrong."
    assert error.problems == (Problem("a", "here", "wrong."),)


def test_an_error_of_one_sentence_has_no_problems():
    assert InkfoldError("no.").problems == ()
    assert str(InkfoldError("no.")) == "no."


@pytest.mark.parametrize("name", [name for name in dir(errors) if name.endswith("Error") and name != "InkfoldError"])
def test_every_error_is_one_of_ours_and_is_drawn_in_the_tree(name):
    assert issubclass(getattr(errors, name), InkfoldError)
    assert name in errors.__doc__
