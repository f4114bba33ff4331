import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkfold.augment.curriculum import Curriculum, Stage
from inkfold.augment.views import IDENTITY, View
from inkfold.config.operations import parse_operations

SEED = 3
FLIPS = parse_operations(["hflip@0.5", "vflip@0.5", "rotate(10)@0.5"])
WARPS = parse_operations(["hflip@0.5", "rotate(15)@0.5", "elastic(30,4)@0.5", "grid(4,0.2)@0.5"])
FIXED = parse_operations("hflip + rotate(5,5)")

stages = st.lists(
    st.builds(
        Stage,
        st.integers(1, 6),
        st.sampled_from([(), FIXED, FLIPS, WARPS]),
        st.none() | st.integers(1, 8),
        st.sampled_from([0.5, 1.0]),
    ),
    min_size=1,
    max_size=4,
)


def indices(*given_stages):
    curriculum = Curriculum(given_stages, SEED)
    return [curriculum.view(epoch).index for epoch in range(curriculum.epochs)]


def test_the_winners_stages_show_1_and_5_and_10_views():
    curriculum = Curriculum([Stage(5), Stage(5, FLIPS), Stage(10, WARPS)], SEED)
    assert curriculum.epochs == 20
    assert [curriculum.stage(epoch) for epoch in range(20)] == [0] * 5 + [1] * 5 + [2] * 10
    assert [curriculum.view(epoch) for epoch in range(5)] == [IDENTITY] * 5
    assert [curriculum.view(epoch) for epoch in range(5, 10)] == [View(FLIPS, SEED, index) for index in range(5)]
    assert [curriculum.view(epoch) for epoch in range(10, 20)] == [View(WARPS, SEED, index) for index in range(10)]
    assert len(curriculum.views()) == len(set(curriculum.views())) == 1 + 5 + 10


def test_a_pool_goes_round_its_views():
    assert indices(Stage(5, FLIPS, views=2)) == [0, 1, 0, 1, 0]
    assert indices(Stage(3, FLIPS, views=1)) == [0, 0, 0]
    assert len(Curriculum([Stage(5, FLIPS, views=2)], SEED).views()) == 2


def test_a_pool_larger_than_the_stage_shows_one_view_an_epoch():
    assert indices(Stage(3, FLIPS, views=10)) == [0, 1, 2]


@given(st.integers(1, 12), st.integers(1, 12))
def test_a_stages_first_views_are_the_same_whatever_the_pools_size(epochs, views):
    pool, per_epoch = (Curriculum([Stage(epochs, FLIPS, size)], SEED) for size in (views, None))
    both = range(min(epochs, views))
    assert [pool.view(epoch) for epoch in both] == [per_epoch.view(epoch) for epoch in both]
    assert set(pool.views()) <= set(per_epoch.views())


def test_stages_of_equal_operations_go_on_numbering_where_each_epoch_has_its_own_view():
    assert indices(Stage(2, FLIPS), Stage(3, FLIPS)) == [0, 1, 2, 3, 4]
    assert indices(Stage(2, FLIPS), Stage(2, WARPS), Stage(2, FLIPS)) == [0, 1, 0, 1, 2, 3]
    assert indices(Stage(4, FLIPS, views=2), Stage(2, FLIPS)) == [0, 1, 0, 1, 2, 3]


def test_stages_of_equal_operations_share_one_pool():
    assert indices(Stage(3, FLIPS, views=2), Stage(3, FLIPS, views=3)) == [0, 1, 0, 0, 1, 2]
    assert indices(Stage(3, FLIPS), Stage(3, FLIPS, views=2)) == [0, 1, 2, 0, 1, 0]


def test_what_draws_nothing_is_one_view_without_seed_and_number():
    curriculum = Curriculum([Stage(2), Stage(3, FIXED), Stage(2, FIXED)], SEED)
    assert curriculum.views() == (IDENTITY, View(FIXED))


def test_what_draws_only_whether_it_is_applied_has_several_views():
    assert indices(Stage(3, parse_operations("hflip@0.5"))) == [0, 1, 2]


def test_every_epoch_has_its_stages_factor_of_the_rate():
    curriculum = Curriculum([Stage(1), Stage(2, FLIPS, lr_factor=0.5), Stage(3, WARPS, 1, 0.1)], SEED)
    assert curriculum.lr_factors() == [1.0, 0.5, 0.5, 0.1, 0.1, 0.1]


def test_the_seed_is_in_every_view_that_draws():
    one, other = (Curriculum([Stage(2), Stage(3, FLIPS)], seed).views() for seed in (1, 2))
    assert set(one) & set(other) == {IDENTITY}
    assert [view.index for view in one] == [view.index for view in other]


def test_an_epoch_after_the_last_has_no_view():
    with pytest.raises(IndexError):
        Curriculum([Stage(2)], SEED).view(2)


@given(stages)
def test_the_epochs_are_the_stages_in_their_order_and_the_views_are_those_of_the_epochs(given_stages):
    curriculum = Curriculum(given_stages, SEED)
    epochs = range(curriculum.epochs)
    assert curriculum.epochs == sum(stage.epochs for stage in given_stages) == len(curriculum.lr_factors())
    assert [curriculum.stage(epoch) for epoch in epochs] == sorted(curriculum.stage(epoch) for epoch in epochs)
    for epoch in epochs:
        stage = given_stages[curriculum.stage(epoch)]
        assert curriculum.view(epoch).operations == stage.operations
        assert curriculum.lr_factors()[epoch] == stage.lr_factor
    assert list(curriculum.views()) == list(dict.fromkeys(curriculum.view(epoch) for epoch in epochs))
    for number, stage in enumerate(given_stages):
        shown = {curriculum.view(epoch) for epoch in epochs if curriculum.stage(epoch) == number}
        drawn = bool(stage.operations) and stage.operations != FIXED
        assert len(shown) == (min(stage.epochs, stage.views or stage.epochs) if drawn else 1)


def test_epochs_after_a_pool_go_on_where_the_last_new_view_was():
    turn = parse_operations(["rotate(5)"])
    curriculum = Curriculum([Stage(3, turn), Stage(2, turn, 2), Stage(3, turn)], 1)
    assert [curriculum.view(epoch).index for epoch in range(8)] == [0, 1, 2, 0, 1, 3, 4, 5]
