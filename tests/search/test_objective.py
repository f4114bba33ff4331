from dataclasses import replace

import numpy as np
import pytest
import yaml

from inkfold.data.dataset import read_dataset
from inkfold.errors import DataError
from inkfold.features.executors import InlineExecutor
from inkfold.pipeline.build import data_options, settle_recipe
from inkfold.pipeline.prepare import read_files
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import silent
from inkfold.search import objective as objective_module
from inkfold.search.halving import Halving
from inkfold.search.objective import Candidate, Objective
from toy import CLASSES, RECIPE, toy_data

pytestmark = pytest.mark.usefixtures("warm_home")

PER_CLASS = 20


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("data") / "data", train_per_class=PER_CLASS)


def objective(data, *overrides, **columns):
    """With columns of the training table, such as groups, put in."""
    recipe = settle_recipe(yaml.safe_load(RECIPE), overrides, data)
    dataset = replace(read_dataset(str(data), data_options(recipe)), test=None)
    dataset = replace(dataset, train=replace(dataset.train, **columns))
    return recipe, Objective(recipe, read_files(dataset, Cost(), silent), silent, InlineExecutor())


def test_the_wanted_share_is_set_aside(data):
    for fraction in (0.05, 0.2, 0.3, 0.4, 0.45, 0.55):
        _, made = objective(data, f"tune.judge_fraction={fraction}")
        assert made.aside.mean() == pytest.approx(fraction, abs=0.02)


def test_a_share_smaller_than_a_twentieth_is_one_part_of_more(data):
    _, made = objective(data, "tune.judge_fraction=0.02")
    assert made.aside.sum() in (1, 2)


def test_the_drawings_of_val_are_set_aside_with_holdout(data):
    given_val = np.arange(PER_CLASS * len(CLASSES)) % 4 == 0
    _, made = objective(data, "folds.split=holdout", given_val=given_val)
    rows = made._inputs_of(made_recipe := settle_recipe(yaml.safe_load(RECIPE), (), data)).prepared.rows
    assert (made.aside == given_val[rows]).all()
    assert made._folds.held_out.shape == (made_recipe.folds.k, (~given_val).sum())
    assert (made._folds.held_out.sum(0) == 1).all(), "the others are cross-validated"


def test_without_val_holdout_holds_out_one_part(data):
    _, made = objective(data, "folds.split=holdout")
    assert made._folds.held_out.shape == (1, (~made.aside).sum())


@pytest.mark.parametrize(
    ("overrides", "groups", "message"),
    [
        ((), ["all"] * 60, "drawing.* would be set aside"),
        ((), ["one"] * 30 + ["two"] * 30, "fold 0 of 3 would hold out none or all"),
        (("folds.k=60",), None, "of 48 drawings to search on, fold .* of 60 would hold out none"),
    ],
)
def test_too_few_drawings_or_groups_are_reported_before_any_trial(data, overrides, groups, message):
    columns = {} if groups is None else {"groups": np.array(groups)}
    with pytest.raises(DataError, match=message):
        objective(data, *overrides, **columns)


def test_a_val_without_drawings_is_reported(data):
    with pytest.raises(DataError, match="no drawing would be set aside"):
        objective(data, "folds.split=holdout", given_val=np.zeros(60, bool))


def test_trials_and_the_comparison_are_of_drawings_as_they_are(data):
    plain, made = objective(data)
    recipe = settle_recipe(yaml.safe_load(RECIPE), ("tta=[hflip, rotate(90)]",), data)
    both = [Candidate({}, recipe) for recipe in (plain, recipe)]
    assert (made.score(both[0]) == made.score(both[1])).all()
    first, second = made.evaluate_trials(both)
    assert first.held_out_accuracy == second.held_out_accuracy
    assert len(made._inputs) == 1, "no views are computed for what isn't asked"


def test_trials_that_read_pages_otherwise_have_features_of_their_own_for_the_same_drawings(data):
    plain, made = objective(data, "image.resize=pad")
    cropped = settle_recipe(yaml.safe_load(RECIPE), ("image.resize=crop_to_ink",), data)
    made.evaluate_trials([Candidate({}, recipe) for recipe in (plain, cropped)])
    padded, cut = (made._inputs_of(recipe) for recipe in (plain, cropped))
    assert (padded.prepared.digests == cut.prepared.digests).all()
    assert (padded.features.read() != cut.features.read()).any()


def test_the_best_epoch_is_not_chosen_by_the_drawings_set_aside(data, monkeypatch):
    plain, made = objective(data, "train_head.keep=best")
    seen = []
    real = Objective._fit
    monkeypatch.setattr(
        Objective, "_fit", lambda self, training_set, recipes: seen.append(training_set) or real(self, training_set, recipes)
    )
    right = made.score(Candidate({}, plain))
    assert len(right) == made.aside.sum()
    assert len(seen[0].targets) == (~made.aside).sum()


def candidates_of(data, *overrides):
    """The toy recipe, once with each override."""
    return [Candidate({}, settle_recipe(yaml.safe_load(RECIPE), (override,), data)) for override in overrides]


def test_a_whole_batch_reaches_a_rung_before_any_goes_on(data):
    _, made = objective(data)
    rates = [f"train_head.lr={rate}" for rate in (1e-6, 0.03, 1e-5, 0.01)]
    fast_end = Halving(earlier=([], []))
    fitted = made.evaluate_trials(candidates_of(data, *rates), fast_end)
    assert [len(fast_end.reached[i]) for i in range(4)] == [1, 2, 1, 2], "the better half of the four went on"
    assert [one.heads is None for one in fitted] == [
        len(fast_end.reached[i]) == 1 or one.heads is None for i, one in enumerate(fitted)
    ]
    assert sum(one.heads is not None for one in fitted) >= 1


def test_trials_wait_at_a_rung_for_no_more_than_memory_holds(data, monkeypatch):
    _, made = objective(data)
    candidates = candidates_of(data, *(f"train_head.lr={rate}" for rate in (0.01, 0.03, 1e-6)))
    cohorts = []
    real = Objective._fittings
    monkeypatch.setattr(
        Objective,
        "_fittings",
        lambda self, candidates, indices=None: cohorts.append(list(indices)) or real(self, candidates, indices),
    )
    made.evaluate_trials(candidates, Halving(earlier=([], [])))
    monkeypatch.setattr(objective_module, "STATE_BYTES", 2 * made._state_bytes(candidates[0].recipe))
    halving = Halving(earlier=([], []))
    made.evaluate_trials(candidates, halving)
    assert cohorts == [[0, 1, 2], [0, 1], [2]]
    assert len(halving.reached[2]) == 1, "it is compared with those before it"


def test_how_pages_are_read_is_not_chosen_by_the_drawings_set_aside(data, monkeypatch):
    usable = []
    from inkfold.pipeline import inputs

    real = inputs.choose_reading
    monkeypatch.setattr(inputs, "choose_reading", lambda *arguments: usable.append(arguments[4]) or real(*arguments))
    _, made = objective(data, "image.resize=auto")
    assert (usable[0] == ~made.aside).all()
