import pytest

from inkfold.pipeline.build import settle_recipe
from inkfold.pipeline.shared import SharedInputs
from inkfold.pipeline.train import train
from inkfold.runtime.cost import Cost
from toy_results import RESULTS, contents


def test_trainings_that_share_their_inputs_leave_the_same_bytes_as_alone(tmp_path, data, recipe, plain, plain_features):
    shared = SharedInputs()
    other = train(recipe, "train_head.lr=0.001", data=data, out=tmp_path / "other", shared=shared)
    run = train(recipe, data=data, out=tmp_path / "run", shared=shared)
    alone = train(recipe, "train_head.lr=0.001", data=data, out=tmp_path / "alone")
    assert contents(run.path) == contents(plain.path)
    assert contents(other.path, (*RESULTS, "recipe.yaml")) == contents(alone.path, (*RESULTS, "recipe.yaml"))


def test_what_changes_in_the_folder_does_not_reach_later_trainings(tmp_path, data, recipe, plain, plain_features):
    shared = SharedInputs()
    train(recipe, "train_head.lr=0.001", data=data, out=tmp_path / "first", shared=shared)
    (data / "train.csv").unlink()
    run = train(recipe, data=data, out=tmp_path / "run", shared=shared)
    assert contents(run.path) == contents(plain.path)


def test_other_options_never_get_what_belongs_to_these(data, recipe):
    shared = SharedInputs()
    first = settle_recipe(recipe, (), data)
    read = shared.read(first, Cost())
    assert shared.read(settle_recipe(recipe, ("train_head.lr=0.001",), data), Cost()) is read
    assert shared.read(settle_recipe(recipe, ("folds.k=2",), data), Cost()) is not read


def test_a_computation_that_fails_is_not_kept():
    shared = SharedInputs()
    with pytest.raises(ZeroDivisionError):
        shared.once("ratio", "of nothing", lambda: 1 / 0)
    assert shared.once("ratio", "of nothing", lambda: 2.0) == 2.0
    assert shared.once("ratio", "of nothing", lambda: 3.0) == 2.0
    assert shared.once("ratio", "of something", lambda: 3.0) == 3.0
    assert shared.once("count", "of nothing", lambda: 4) == 4
