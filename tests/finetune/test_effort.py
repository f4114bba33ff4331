import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkfold.config.load import validate_recipe
from inkfold.finetune.effort import Effort, choose_effort, finetune_recipe, good_epochs
from inkfold.finetune.step_time import FoldSize, StepTime

TIME = StepTime(step_s=0.1, predict_s=0.0, save_s=0.0, start_s=0.0, batch_size=10)
SIZE = FoldSize(trained_on=1000, held_out=250)  # an epoch takes 100 steps, in 10 s


def chosen(seconds, per_class=20):
    effort = choose_effort(seconds, TIME, SIZE, 5, per_class)
    return None if effort is None else (effort.epochs, effort.parts)


def test_few_parts_are_trained_well_before_there_are_more_of_them():
    assert chosen(39) is None
    assert chosen(40) == (4, 1)
    assert chosen(239) == (23, 1)
    assert chosen(240) == (12, 2)
    assert chosen(599) == (14, 4)
    assert chosen(600) == (12, 5)
    assert chosen(1e6) == (36, 5)


def test_many_drawings_of_a_class_need_fewer_epochs_and_few_drawings_need_enough_steps():
    assert good_epochs(20, 100) == good_epochs(5, 100) == 12
    assert good_epochs(200, 100) == 6
    assert good_epochs(10_000, 100) == 4
    assert good_epochs(10, 8) == 25, "200 steps"
    assert good_epochs(10, 1) == 60
    assert chosen(300, per_class=200) == (6, 5)
    assert chosen(1e6, per_class=200) == (18, 5)
    few = choose_effort(1e6, TIME, FoldSize(trained_on=80, held_out=20), 5, 10)
    assert (few.epochs, few.parts) == (60, 5)


@given(st.floats(0, 1e5), st.floats(0.01, 10), st.floats(0, 1), st.floats(0, 30), st.integers(1, 10), st.floats(1, 1000))
def test_what_is_chosen_fits_the_time_whatever_it_is(seconds, step_s, predict_s, start_s, k, per_class):
    time = StepTime(step_s, predict_s, start_s / 10, start_s, 16)
    size = FoldSize(200, 50, tests=40, views=6)
    effort = choose_effort(seconds, time, size, k, per_class)
    if effort is not None:
        assert effort.seconds == time.training_s(size, effort.epochs, effort.parts) <= seconds * (1 + 1e-9)
        assert 1 <= effort.parts <= k


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("epochs", [4, 30])
def test_the_recipe_can_be_trained_and_mirrors_only_what_may_be(epochs, mirrored):
    raw = finetune_recipe("ink-small", 64, Effort(epochs, 2, 100.0, is_short=epochs < 12), mirrored=mirrored)
    recipe = validate_recipe(raw)
    assert (recipe.finetune.epochs, recipe.folds.held_out_parts, recipe.image.size) == (epochs, 2, 64)
    assert recipe.is_finetuned
    assert ("hflip" in str(raw)) == mirrored
    assert bool(recipe.tta) == (epochs == 30)
