import numpy as np
import pytest

from inkfold.data.blank import BlankDrawings, blank_problems, find_left_out, is_blank_class, shorten, warn_of_blank

TARGETS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])


def marked(*rows):
    return np.isin(np.arange(len(TARGETS)), rows)


def test_a_class_is_blank_if_more_than_half_of_its_drawings_are():
    assert is_blank_class(marked(0, 1, 4, 5, 7, 9), TARGETS, 5).tolist() == [False, True, False, True, False]


@pytest.mark.parametrize(("on_blank", "left_out"), [("skip", [0, 1, 7]), ("keep", []), ("error", [])])
def test_blank_drawings_are_left_out_but_for_those_of_blank_classes(on_blank, left_out):
    away = find_left_out(marked(0, 1, 4, 5, 7, 9), TARGETS, 4, on_blank)
    assert np.flatnonzero(away).tolist() == left_out


def test_no_class_is_ever_emptied():
    rng = np.random.default_rng(0)
    for _ in range(200):
        targets = rng.integers(0, 6, size=20)
        away = find_left_out(rng.random(20) < rng.random(), targets, 6, "skip")
        assert set(targets[~away]) == set(targets)


def test_a_problem_says_which_drawing_and_what_becomes_of_it():
    left, kept = blank_problems("train", ["a.png", "b.png"], "skip", ["cat", "empty"], [True, False])
    assert (left.kind, left.severity, left.where) == ("blank_drawing", "warning", "train a.png")
    assert left.message == (
        "is blank: nothing is drawn on it, and it is labelled 'cat'. Training leaves it out, as data.on_blank is skip. "
        "Draw it anew or remove it."
    )
    assert "most drawings of this class are. So training keeps it" in kept.message
    [trained_on] = blank_problems("train", ["a.png"], "keep", ["cat"], [False])
    assert "Training keeps it, as data.on_blank is keep" in trained_on.message
    [test] = blank_problems("test", ["t.png"], "skip")
    assert "keeps its row, but its prediction means nothing" in test.message
    for part, classes in (("train", ["cat"]), ("test", None)):
        [error] = blank_problems(part, ["a.png"], "error", classes, classes and [False])
        assert error.severity == "error"
        assert "set data.on_blank to skip or keep" in error.message


def test_warnings_count_and_name_each_kind():
    train, test = np.array([f"{i}.png" for i in range(40)]), np.array(["x.png", "y.png"])
    blank = BlankDrawings(np.arange(25), np.arange(2, 25), np.array([1]))
    left_out, kept, tests = warn_of_blank(blank, train, test)
    assert left_out.startswith("23 blank training drawing(s) left out (data.on_blank): 2.png, 3.png, ")
    assert left_out.endswith(", 21.png and 3 more")
    assert kept == "2 blank training drawing(s) trained on: 0.png, 1.png"
    assert tests == "1 blank test drawing(s), whose predictions mean nothing: y.png"
    assert warn_of_blank(BlankDrawings(), train, None) == []


def test_names_are_shortened_after_twenty():
    assert shorten(["a", "b"]) == "a, b"
    assert shorten([str(i) for i in range(21)]).endswith("18, 19 and 1 more")
