import pytest

from inkfold.search.halving import Halving, rung_epoch


@pytest.mark.parametrize(("epochs", "expected"), [(20, (5, 10)), (15, (3, 6)), (3, (1, 2)), (1, (1, 2))])
def test_trials_are_compared_after_a_quarter_and_after_half_of_their_epochs(epochs, expected):
    assert (rung_epoch(epochs, 0), rung_epoch(epochs, 1)) == expected


def test_the_better_half_goes_on():
    halving = Halving(earlier=([], []))
    assert halving.stopped(0, {0: 0.1, 1: 0.4, 2: 0.3, 3: 0.2}) == {0, 3}
    assert halving.stopped(1, {1: 0.6, 2: 0.5}) == {2}
    assert halving.reached == {0: [0.1], 1: [0.4, 0.6], 2: [0.3, 0.5], 3: [0.2]}


def test_trials_are_compared_with_those_of_earlier_batches_at_the_same_rung():
    halving = Halving(earlier=([0.5, 0.6, 0.7, 0.8], [0.9]))
    assert halving.stopped(0, {0: 0.55, 1: 0.65}) == {0}, "of six, 0.65 is the third"
    assert Halving(earlier=([0.1, 0.2], [])).stopped(0, {0: 0.15, 1: 0.3}) == {0}


def test_equal_trials_stay_together():
    assert Halving(earlier=([], [])).stopped(0, {0: 0.2, 1: 0.2, 2: 0.2, 3: 0.1}) == {3}


def test_a_spared_trial_is_compared_but_never_stopped():
    halving = Halving(earlier=([], []), spared=[0])
    assert halving.stopped(0, {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4}) == {1}
    assert halving.stopped(1, {}) == set()


def test_trials_that_come_to_a_rung_later_are_compared_with_those_before():
    halving = Halving(earlier=([], []))
    assert halving.stopped(0, {0: 0.3, 1: 0.4}) == {0}
    assert halving.stopped(0, {2: 0.35, 3: 0.5}) == {2}


def test_a_single_trial_goes_on():
    assert Halving(earlier=([], [])).stopped(0, {0: 0.0}) == set()
