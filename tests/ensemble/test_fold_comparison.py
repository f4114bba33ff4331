import numpy as np
import pytest

from inkfold.ensemble.fold_comparison import HeldOut, compare_folds, held_out_by, warn_of_folds
from inkfold.ensemble.matching import match_drawings
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.run_files import open_run_files

N = 40
SETTINGS = {"folds.split": "kfold", "folds.k": "5", "folds.group_column": "null", "seed": "42", "data.root": "there"}


def run(name, folds, rows=None, *, groups=None, share=0.8, recipe="b/recipe.yaml", data=None, **settings):
    """A run that held out these drawings; keys of its recipe are written with `_` for the dot."""
    rows = np.arange(N) if rows is None else rows
    names = np.array([f"{row}.png" for row in rows], np.dtypes.StringDType())
    files = np.array([f"digest {row}".encode() for row in rows])
    probs = np.full((len(rows), 2), 0.5, np.float32)
    known = {"folds": np.asarray(folds), "groups": groups, "digests": files}
    predictions = Predictions(names, probs, ("a", "b"), rows % 2, **known)
    own = {**SETTINGS, **{key.replace("folds_", "folds."): value for key, value in settings.items()}}
    column = own["folds.group_column"]
    return HeldOut(name, predictions, share, own, recipe, data, None if column == "null" else f"folds.group_column={column}")


def compared(first, second):
    numbers = match_drawings([first.predictions, second.predictions])
    return compare_folds(first, second, tuple(numbers))


def test_the_same_folds_are_the_same_under_other_numbers():
    found = compared(run("A", np.arange(N) % 5), run("B", (np.arange(N) + 3) % 5))
    assert (found.verdict, found.reasons, found.unfair.any()) == ("same", (), False)


def test_a_holdout_is_compared_with_the_fold_that_held_out_the_same():
    held = np.flatnonzero(np.arange(N) % 5 == 2)
    assert compared(run("A", np.arange(N) % 5), run("B", np.zeros(len(held)), held)).verdict == "same"


def test_folds_dealt_by_another_seed_are_comparable_and_say_how_to_have_the_same():
    order = np.random.default_rng(0).permutation(N)
    found = compared(run("A", np.arange(N) % 5), run("B", order % 5, seed="7"))
    assert found.verdict == "comparable"
    assert "(seed 42 and 7)" in found.reasons[0]
    assert found.command == "inkfold train b/recipe.yaml seed=42 out=b-same-folds"


def test_more_folds_train_on_more_drawings_and_are_not_comparable():
    found = compared(run("A", np.arange(N) % 5), run("B", np.arange(N) % 10, share=0.9, folds_k="10"))
    assert found.verdict == "not comparable"
    assert found.reasons == (
        "B's models were trained on 90% of its drawings, A's on 80%: more drawings alone raise the accuracy.",
    )
    assert found.command == "inkfold train b/recipe.yaml folds.k=5 out=b-same-folds"


@pytest.mark.parametrize("turned", [False, True])
def test_folds_that_part_groups_are_not_comparable_with_folds_that_keep_them(turned):
    groups = np.arange(N) // 8
    strict = run("strict", groups, groups=groups, folds_group_column="artist", recipe="s/recipe.yaml")
    lax = run("lax", np.arange(N) % 5)
    found = compared(*((lax, strict) if turned else (strict, lax)))
    assert found.verdict == "not comparable"
    assert f"lax parts groups that strict keeps together: for {N} of {N} drawings" in found.reasons[0]
    assert found.stricter == int(turned)
    assert found.command == "inkfold train b/recipe.yaml folds.group_column=artist out=b-same-folds"


def test_groups_that_names_of_other_data_give_need_those_data():
    groups = np.arange(N) // 8
    strict = run("strict", groups, groups=groups, data="f00d", folds_group_column="artist", **{"data.root": "here"})
    found = compared(strict, run("lax", np.arange(N) % 5, data="beef"))
    assert found.command == "inkfold train b/recipe.yaml folds.group_column=artist data.root=here out=b-same-folds"


def test_a_few_parted_copies_are_left_out_and_the_rest_is_compared():
    groups = np.arange(N)
    groups[1] = groups[0]
    folds = np.arange(N) % 5
    folds[1] = folds[0]
    found = compared(run("A", folds, groups=groups), run("B", np.arange(N) % 5, folds_group_duplicates="false"))
    assert found.verdict == "comparable"
    assert np.flatnonzero(found.unfair).tolist() == [0, 1]
    assert "Left out: 2 drawings" in found.reasons[1]


def test_a_holdout_trained_on_what_it_does_not_hold_out():
    groups = np.arange(N) // 8
    strict = run("strict", groups, groups=groups)
    held = np.arange(0, N, 8)  # one drawing of each group
    found = compared(strict, run("lax", np.zeros(len(held)), held))
    assert found.verdict == "not comparable"
    assert found.unfair.all()


def test_equal_settings_on_equal_data_group_alike_whatever_was_purged():
    groups = np.arange(N) // 8
    first = run("A", np.arange(N) % 5, groups=groups, data="f00d")
    second = run("B", groups, groups=groups, data="f00d", seed="7")
    assert compared(first, second).verdict == "comparable"


def test_old_runs_without_groups_are_judged_by_their_recipes():
    strict, lax = run("A", np.arange(N) % 5, folds_group_column="artist"), run("B", (np.arange(N) + 1) // 2 % 5)
    found = compared(strict, lax)
    assert found.verdict == "not comparable"
    assert found.reasons == ("A keeps groups in one fold (folds.group_column=artist), and B doesn't: it may be optimistic.",)
    assert found.stricter == 0


def test_runs_without_a_common_held_out_drawing_are_not_comparable():
    found = compared(run("A", np.zeros(5), np.arange(5)), run("B", np.zeros(5), np.arange(5, 10)))
    assert found.verdict == "not comparable"
    assert found.reasons == ("A and B held out no drawing in common.",)


def test_what_a_run_says_of_its_folds_is_read_from_its_files(frozen_run):
    files = open_run_files(frozen_run / "run")
    own = held_out_by(files)
    assert own.train_share == pytest.approx(2 / 3)
    assert own.settings["folds.k"] == "3"
    assert own.recipe == str(frozen_run / "run" / "recipe.yaml")
    assert own.data == files.manifest["data_fingerprint"]


def test_a_vote_warns_of_each_member_that_can_not_be_compared_with_one_before_it():
    groups = np.arange(N) // 8
    strict = run("strict", groups, groups=groups, folds_group_column="artist")
    lax, other_seed = run("lax", np.arange(N) % 5), run("seed", (groups + 1) % 5, groups=groups, folds_group_column="artist")
    [warning] = warn_of_folds([strict, other_seed, lax])
    assert (warning.kind, warning.where, warning.severity) == ("other_folds", "lax", "warning")
    assert warning.message.startswith("other folds than strict. lax parts groups that strict keeps together")
    assert warning.message.endswith(
        "Train on the same folds: inkfold train b/recipe.yaml folds.group_column=artist out=b-same-folds"
    )
    assert warn_of_folds([strict, other_seed]) == []
