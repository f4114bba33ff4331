import numpy as np
import pytest

from inkfold.auto.standing import Predicted, Standing

N = 200
TARGETS = np.arange(N) % 4


def predicted(right, seen=None, seconds=1.0, confidence=0.7):
    """Predict the first `right` drawings rightly, the others as the next class; `right` may also be a mask."""
    right = np.arange(N) < right if np.isscalar(right) else right
    probs = np.full((N, 4), (1 - confidence) / 3)
    probs[np.arange(N), np.where(right, TARGETS, (TARGETS + 1) % 4)] = confidence
    return Predicted(probs, right, np.zeros(N, bool) if seen is None else seen, seconds)


def test_the_most_accurate_comes_first():
    standing = Standing.of({"bad": predicted(50), "good": predicted(150)}, TARGETS, None)
    assert standing.ranked == ["good", "bad"]
    assert standing.accuracy("good") == 0.75
    assert standing.n == N


def test_drawings_that_a_backbone_was_pretrained_on_count_for_none():
    seen = np.arange(N) < 150
    standing = Standing.of({"memory": predicted(150, seen), "fair": predicted(np.arange(N) >= 150)}, TARGETS, None)
    assert standing.n == 50
    assert standing.ranked == ["fair", "memory"]


def test_a_backbone_that_was_pretrained_on_nearly_all_of_them_is_not_judged():
    seen = np.arange(N) < N - 39
    memory = predicted(N, seen)
    assert not memory.is_judged
    standing = Standing.of({"memory": memory, "fair": predicted(100)}, TARGETS, None)
    assert standing.ranked == ["fair"]
    assert standing.n == N, "what is not judged takes no drawings from the others"


def test_two_that_were_pretrained_on_different_halves_are_compared_on_all():
    first, second = np.arange(N) < 100, np.arange(N) >= 80
    standing = Standing.of({"a": predicted(100, first), "b": predicted(100, second)}, TARGETS, None)
    assert standing.n == N


def test_one_alone_votes_alone():
    assert Standing.of({"only": predicted(100)}, TARGETS, None).voters() == (["only"], 0.5)


def test_nothing_gives_no_vote():
    assert Standing.of({}, TARGETS, None).voters() == ([], None)


def complementary():
    """Two that are wrong, and not sure, on different drawings, and a copy of the first."""
    sure, unsure = predicted(np.arange(N) % 2 == 0), predicted(np.zeros(N, bool), confidence=0.4)
    first = np.where((np.arange(N) % 2 == 0)[:, None], sure.probs, unsure.probs)
    other = predicted(np.arange(N) % 2 == 1)
    second = np.where((np.arange(N) % 2 == 1)[:, None], other.probs, unsure.probs)
    seen = np.zeros(N, bool)
    return {
        "first": Predicted(first, np.ones(N, bool), seen, 5.0),
        "copy": Predicted(first, np.ones(N, bool), seen, 5.0),
        "second": Predicted(second, np.ones(N, bool), seen, 10.0),
    }


def test_the_vote_takes_what_complements_the_best_before_its_like():
    voters, accuracy = Standing.of(complementary(), TARGETS, None).voters()
    assert voters[:2] == ["copy", "second"]  # equally good ones by name
    assert accuracy == 1.0


def test_a_voter_whose_features_take_too_long_is_left_out():
    voters, _ = Standing.of(complementary(), TARGETS, None).voters(seconds=14.0)
    assert "second" not in voters


def test_many_drawings_on_which_a_vote_loses_keep_it_small():
    good, bad = predicted(180, confidence=0.5), predicted(20, confidence=0.9)
    assert Standing.of({"good": good, "bad": bad}, TARGETS, None).voters()[0] == ["good"]


def test_few_drawings_cannot_show_that_another_family_does_not_help():
    few = 12
    cut = {
        name: Predicted(own.probs[:few], own.half_right[:few], own.seen[:few], 1.0)
        for name, own in {"a": predicted(8), "b": predicted(8)}.items()
    }
    assert Standing.of(cut, TARGETS[:few], None).voters()[0] == ["a", "b"]


def test_what_is_distinguishably_worse_drops_out_with_its_figures():
    standing = Standing.of({"good": predicted(180), "bad": predicted(100)}, TARGETS, None)
    assert standing.dropped([]) == {"bad": "distinguishably worse: -0.400 against good on 200 drawings, p = 1.7e-24"}
    assert standing.dropped(["bad"]) == {}, "whose vote helps stays"


def test_of_many_alike_the_better_half_stays():
    standing = Standing.of({f"b{i}": predicted(100) for i in range(8)}, TARGETS, None)
    dropped = standing.dropped([])
    assert [*dropped] == ["b4", "b5", "b6", "b7"]
    assert all(why.startswith("not in the better half") for why in dropped.values())


def test_three_alike_all_stay():
    assert Standing.of({f"b{i}": predicted(100) for i in range(3)}, TARGETS, None).dropped([]) == {}


def test_groups_make_a_difference_less_sure():
    good, bad = predicted(110), predicted(100)
    groups = np.arange(N) // 20
    assert Standing.of({"good": good, "bad": bad}, TARGETS, None).dropped([]).keys() == {"bad"}
    assert Standing.of({"good": good, "bad": bad}, TARGETS, groups).dropped([]) == {}


@pytest.mark.parametrize("right", [0, N])
def test_all_right_or_all_wrong_is_no_problem(right):
    standing = Standing.of({"a": predicted(right), "b": predicted(right)}, TARGETS, None)
    assert standing.dropped([]) == {}
    assert standing.voters()[0][0] == "a"
