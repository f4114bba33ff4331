import posixpath
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkfold.ensemble.member_predictions import MemberPredictions, path_keys, plain_path
from inkfold.ensemble.members import align_members
from inkfold.ensemble.voting import vote_of_folds
from inkfold.errors import PredictionError
from inkfold.evaluation.predictions import Predictions

CLASSES = ("tench", "kite", "바다거북")
PATHS = tuple(f"train/{i}.png" for i in range(6))
TARGETS = (0, 1, 2, 0, 1, 2)
RUN = Path("a-run")
member = MemberPredictions


def texts(values):
    return np.array(list(values), np.dtypes.StringDType())


def random_probs(n=6, classes=3, seed=0, folds=None):
    shape = (n, classes) if folds is None else (folds, n, classes)
    return np.random.default_rng(seed).dirichlet(np.ones(classes), shape[:-1]).astype(np.float32)


def some(paths=PATHS, seed=0, probs=None, class_names=CLASSES, **known):
    probs = random_probs(len(paths), len(class_names), seed) if probs is None else np.array(probs)
    return Predictions(texts(paths), probs, tuple(class_names), **known)


def labelled(seed=0, **changes):
    return some(seed=seed, **{"targets": np.array(TARGETS), **changes})


def folds_of(seed, folds=2, **changes):
    fold_probs = random_probs(folds=folds, seed=seed)
    return some(**{"probs": fold_probs.mean(0), "fold_probs": fold_probs, **changes})


def shuffled(one, seed):
    """The same predictions with rows and class columns in another order."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(one.image_paths)), rng.permutation(len(one.class_names))
    return Predictions(
        one.image_paths[rows],
        one.probs[rows][:, columns],
        tuple(one.class_names[k] for k in columns),
        None if one.targets is None else np.argsort(columns)[one.targets[rows]],
        None if one.folds is None else one.folds[rows],
        None if one.fold_probs is None else one.fold_probs[:, rows][:, :, columns],
    )


def problems_of(*members, **options):
    with pytest.raises(PredictionError) as caught:
        align_members(members, **options)
    return {(problem.kind, problem.where): problem.message for problem in caught.value.problems}


def cells(one):
    """An independent view: what a member says of a drawing and a class, fold by fold."""
    folds = [one.probs] if one.fold_probs is None else one.fold_probs
    return {
        (path, name): [float(fold[row][column]) for fold in folds]
        for row, path in enumerate(one.image_paths.tolist())
        for column, name in enumerate(one.class_names)
    }


def test_rows_and_classes_are_matched_by_name_in_any_order():
    members = [labelled(i, folds=np.array([0, 1, 2, 0, 1, 2])) for i in range(3)]
    tests = [folds_of(i, folds=i + 1) for i in range(3)]
    predictions = [member(f"m{i}", shuffled(members[i], i + 5), shuffled(tests[i], i + 50)) for i in range(3)]
    aligned = align_members(predictions)
    assert sorted(aligned.class_names) == sorted(CLASSES)
    for i in range(3):
        said, said_test = cells(members[i]), cells(tests[i])
        for row, path in enumerate(aligned.out_of_fold_paths.tolist()):
            for column, name in enumerate(aligned.class_names):
                assert aligned.out_of_fold[i, row, column] == said[path, name][0]
        assert len(aligned.test[i]) == i + 1
        for row, path in enumerate(aligned.test_paths.tolist()):
            for column, name in enumerate(aligned.class_names):
                assert aligned.test[i][:, row, column].tolist() == said_test[path, name]
    truth = dict(zip(PATHS, TARGETS, strict=True))
    names = [aligned.class_names[target] for target in aligned.targets]
    assert names == [CLASSES[truth[path]] for path in aligned.out_of_fold_paths.tolist()]
    parts = dict(zip(aligned.out_of_fold_paths.tolist(), aligned.parts.tolist(), strict=True))
    assert [parts[path] for path in PATHS] == [0, 1, 2, 0, 1, 2]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_order_of_a_members_rows_and_columns_is_irrelevant_to_the_bit(seed, other):
    first, second = labelled(1), labelled(2, targets=None)
    plain = align_members([member("a", first, None), member("b", second, None)])
    mixed = align_members([member("a", first, None), member("b", shuffled(second, seed), None)])
    assert np.array_equal(plain.out_of_fold, mixed.out_of_fold)
    led = align_members([member("b", shuffled(second, other), None), member("a", first, None, RUN)])
    assert np.array_equal(led.out_of_fold[::-1], plain.out_of_fold)
    assert np.array_equal(led.targets, plain.targets)


def test_what_some_members_backbone_was_trained_on_is_known_in_the_aligned_order():
    known = np.arange(6) < 2
    first, second = labelled(seen=known), shuffled(labelled(1), 3)
    second = replace(second, seen=np.isin(second.image_paths, first.image_paths[1:3]))
    aligned = align_members([member("a", first, None), member("b", second, None), member("c", labelled(2), None)])
    assert aligned.seen_in_pretraining.tolist() == [True, True, True, False, False, False]
    assert align_members([member("a", labelled(), None), member("b", labelled(1), None)]).seen_in_pretraining is None


def test_the_first_run_gives_the_order_because_its_submission_has_the_datas_rows():
    run, shuffle = folds_of(1), shuffled(folds_of(2), 3)
    aligned = align_members([member("file", None, shuffle), member("run", None, run, RUN)])
    assert aligned.names == ("file", "run")
    assert aligned.test_paths.tolist() == list(PATHS)
    assert aligned.class_names == CLASSES
    assert np.array_equal(aligned.test[1], run.fold_probs)
    assert align_members([member("file", None, shuffle), member("run", None, run)]).class_names == shuffle.class_names


def test_test_columns_follow_the_training_columns_of_the_same_member():
    wrong_way_round = folds_of(3, class_names=CLASSES[::-1])
    aligned = align_members([member("a", labelled(0), wrong_way_round), member("b", labelled(1), folds_of(4))])
    assert aligned.class_names == CLASSES
    assert np.array_equal(aligned.test[0], wrong_way_round.fold_probs[:, :, ::-1])


def test_one_drawing_may_be_spelled_in_several_ways():
    for spelling in (
        lambda path: "./" + path,
        lambda path: path.replace("/", "\\"),
        lambda path: ".\\" + path.replace("/", "\\"),
        lambda path: path.replace("/", "//"),
        lambda path: f" {path} ",
        lambda path: unicodedata.normalize("NFD", path),
        lambda path: "x/../" + path,
    ):
        paths = [f"train/é가{i}.png" for i in range(4)]
        ours, theirs = folds_of(0, paths=paths, probs=random_probs(4), fold_probs=None), some([*map(spelling, paths)], seed=1)
        for members in ([ours, theirs], [theirs, ours]):
            aligned = align_members([member(f"m{i}", None, one, RUN if one is ours else None) for i, one in enumerate(members)])
            assert aligned.test_paths.tolist() == paths
            assert [fold[0].tolist() for fold in aligned.test] == [one.probs.tolist() for one in members]


def test_keys_of_two_spellings_in_one_list_stay_apart():
    assert path_keys(["./a.png", "b\\c.png"]) == ["a.png", "b/c.png"]
    assert path_keys(["b\\c.png", "b/c.png", "./a.png"]) == ["b\\c.png", "b/c.png", "a.png"]
    assert path_keys(texts(["/abs//x", "../x"]).tolist()) == ["/abs/x", "../x"]
    assert path_keys([]) == []
    decomposed = "e\u0301"
    assert path_keys([decomposed, decomposed + " ", "\u00e9"]) == [decomposed, decomposed + " ", "\u00e9"]
    assert path_keys(["a/b", "a\\b", "./a\\b "]) == ["a/b", "a\\b", "./a\\b "]
    assert path_keys(["a ", "a", "a \\", "c\\d"]) == ["a ", "a", "a \\", "c/d"]


@given(st.lists(st.text("ab./\\ é", max_size=6)))
def test_keys_never_merge_different_paths_of_one_list(paths):
    assert len({*path_keys(paths)}) == len({*paths})


def test_a_run_may_hold_files_whose_names_differ_by_a_backslash():
    paths = ("a\\b.png", "a/b.png", "c.png")
    members = [member(name, None, some(paths, seed), RUN) for seed, name in enumerate("xy")]
    aligned = align_members(members)
    assert aligned.test_paths.tolist() == list(paths)
    assert np.array_equal(aligned.test[1][0], members[1].test.probs)


def test_different_drawings_are_reported_of_each_member_with_examples():
    fewer, other = some(PATHS[:4]), some([*PATHS[:5], "new.png"])
    members = [member("a", None, some()), member("b", None, fewer), member("c", None, other)]
    problems = problems_of(*members)
    text = "has 4 drawings, a 6, without 'train/4.png', 'train/5.png'. All members must have the same."
    assert problems[("drawings", "b, test")] == text
    assert "has 6 drawings, a 6, without 'train/5.png', besides 'new.png'" in problems[("drawings", "c, test")]


def test_only_a_few_of_many_missing_drawings_are_named():
    [(_, text)] = problems_of(member("a", None, some()), member("b", None, some(PATHS[:1]))).items()
    assert "without 'train/1.png', 'train/2.png', 'train/3.png' and 2 more." in text


def test_different_classes_are_reported():
    named_otherwise = some(class_names=("tench", "kite", "turtle"))
    problems = problems_of(
        member("a", None, some()), member("b", None, named_otherwise), member("c", None, some(class_names=CLASSES[:2]))
    )
    assert "has 3 classes, a 3, without '바다거북', besides 'turtle'" in problems[("classes", "b, test")]
    assert "has 2 classes, a 3, without '바다거북'" in problems[("classes", "c, test")]


def test_everything_that_is_wrong_is_reported_at_once():
    bad = random_probs()
    bad[1, 0] = np.nan
    problems = problems_of(
        member("a", labelled(), some()),
        member("b", labelled(probs=bad), some(PATHS[:3])),
        member("c", labelled(class_names=("tench", "kite", "x")), some([*PATHS[:5], PATHS[0]])),
    )
    assert {*problems} == {
        ("rows", "b, out of fold"),
        ("drawings", "b, test"),
        ("classes", "c, out of fold"),
        ("drawings", "c, test"),
        ("drawings_twice", "c, test"),
    }


def test_a_drawing_that_is_there_twice_is_refused_in_whatever_spelling():
    twice = some(["a.png", "b.png", "./a.png"], seed=1)
    problems = problems_of(member("a", None, some(["a.png", "b.png"])), member("b", None, twice))
    assert (
        "names 1 drawings more than once, such as './a.png', expected one row each" in problems[("drawings_twice", "b, test")]
    )


def test_a_test_table_may_name_a_drawing_twice_if_a_run_does():
    paths = ("a.png", "b.png", "a.png")
    probs = random_probs(3)
    probs[2] = probs[0]
    run, copy, single = some(paths, probs=probs), some(paths[::-1], probs=probs), some(["b.png", "a.png"], seed=3)
    aligned = align_members([member("run", None, run, RUN), member("copy", None, copy), member("single", None, single)])
    assert aligned.test_paths.tolist() == list(paths)
    assert np.array_equal(aligned.test[0][0], probs)
    assert np.array_equal(aligned.test[2][0], single.probs[[1, 0, 1]])
    problems = problems_of(member("run", None, run, RUN), member("torn", None, some(paths, seed=9)))
    assert {*problems} == {("drawings_twice", "torn, test")}
    problems = problems_of(member("a", None, run), member("b", None, run))
    assert len(problems) == 2
    problems = problems_of(*(member(name, replace(run, targets=np.array([0, 1, 0])), None, RUN) for name in "ab"))
    assert len(problems) == 2


def test_a_number_that_is_none_is_found_in_any_fold():
    for dtype in (np.float16, np.float32, np.float64):
        for value in (np.nan, np.inf, -np.inf):
            torn = random_probs(folds=3).astype(dtype)
            torn[2, 4, 1] = value
            problems = problems_of(member("a", None, some()), member("b", None, some(probs=torn.mean(0), fold_probs=torn)))
            assert [*problems] == [("rows", "b, test")]
            assert "1 rows hold NaN or infinity, such as that of 'train/4.png' in fold 2: " in problems[("rows", "b, test")]


def test_both_infinities_in_one_row_raise_no_warning():
    torn = random_probs()
    torn[3] = [np.inf, -np.inf, 1]
    assert "NaN or infinity" in problems_of(member("a", None, some()), member("b", None, some(probs=torn)))[("rows", "b, test")]


def test_logits_are_refused_with_advice():
    logits = np.array([[4.0, -2.0, 1.0]] * 6) * 1000
    with pytest.raises(PredictionError) as caught:
        align_members([member("a", None, some()), member("b", None, some(probs=logits))])
    negative, sums = [problem.message for problem in caught.value.problems]
    assert negative.startswith("6 rows hold numbers below 0, such as that of 'train/0.png': 4000, -2000, 1000 ...;")
    assert "6 rows don't sum to 1, such as that of 'train/0.png': 4000, -2000, 1000 ... (sum 3000)" in sums
    assert "Take the softmax of logits" in sums


def test_rows_that_do_not_sum_to_1_are_refused():
    for factor in (0.9, 0.99, 1.002, 1.1, 2.0, 100.0, 0.0):
        assert problems_of(member("a", None, some()), member("b", None, some(probs=random_probs() * factor)))
        one_row = random_probs().astype(np.float64)
        one_row[5] *= factor
        [text] = problems_of(member("a", None, some()), member("b", None, some(probs=one_row))).values()
        assert text.startswith("1 rows don't sum to 1, such as that of 'train/5.png'")


def test_a_missing_class_is_noticed():
    probs = random_probs(200, 345)[:, 1:]
    paths = [str(i) for i in range(200)]
    names = [str(i) for i in range(344)]
    members = [member("a", None, some(paths, probs=random_probs(200, 344), class_names=names))]
    assert problems_of(*members, member("b", None, some(paths, probs=np.round(probs, 2), class_names=names)))


def test_honest_rounding_is_accepted_and_rows_then_sum_to_1():
    for dtype in (np.float32, np.float64):
        for decimals in (3, 4, 5, 6):
            for classes in (2, 3, 10, 345, 500):
                rng = np.random.default_rng(0)
                scores = rng.normal(0, rng.uniform(0.5, 8, (300, 1)), (300, classes))  # from nearly flat to nearly sure
                exact = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
                exact = exact[np.abs(np.round(exact, decimals).sum(1) - 1) < 0.2]
                assert len(exact) > 100
                rounded = np.round(exact, decimals).astype(dtype)
                paths, names = [str(i) for i in range(len(exact))], [str(i) for i in range(classes)]
                aligned = align_members([member(name, None, some(paths, probs=rounded, class_names=names)) for name in "ab"])
                sums = aligned.test[0][0].sum(1, dtype=np.float64)
                assert np.abs(sums - 1).max() < 2e-6
                expected = rounded / rounded.sum(1, keepdims=True, dtype=np.float64)
                np.testing.assert_allclose(aligned.test[0][0], expected, atol=2e-6)


def test_a_third_in_three_decimals_sums_to_1():
    thirds = np.tile([0.333, 0.333, 0.333], (6, 1))
    aligned = align_members([member(name, None, some(probs=thirds)) for name in "ab"])
    np.testing.assert_allclose(aligned.test[0], 1 / 3, rtol=1e-6)


def test_float16_rows_are_accepted_and_rows_then_sum_to_1():
    paths, names = [str(i) for i in range(300)], [str(i) for i in range(500)]
    half = random_probs(300, 500).astype(np.float16)
    aligned = align_members([member(name, None, some(paths, probs=half, class_names=names)) for name in "ab"])
    assert aligned.test[0].dtype == np.float32
    assert np.abs(aligned.test[0].sum(2, dtype=np.float64) - 1).max() < 2e-6


def test_a_hair_below_0_becomes_0():
    probs = random_probs()
    probs[0] = [1, -1e-8, 0]
    aligned = align_members([member("a", None, some()), member("b", None, some(probs=probs))])
    assert aligned.test[1].min() == 0


def test_rows_of_runs_stay_as_they_are_to_the_bit_and_are_not_copied():
    runs = [folds_of(seed) for seed in range(2)]
    aligned = align_members([member(name, None, one, RUN) for name, one in zip("ab", runs, strict=True)])
    assert all(np.shares_memory(ours, run.fold_probs) for ours, run in zip(aligned.test, runs, strict=True))


def test_predictions_are_kept_in_float32_once():
    members = [
        member(name, labelled(seed, probs=random_probs(seed=seed).astype(np.float64)), None) for seed, name in enumerate("ab")
    ]
    assert align_members(members).out_of_fold.dtype == np.float32


def test_a_vote_needs_two_members():
    assert "got 1 members, expected two" in problems_of(member("a", None, some()))[("members", "vote")]
    assert "got 0 members, expected two" in problems_of()[("members", "vote")]


def test_a_member_without_predictions_is_named():
    problems = problems_of(member("a", None, None), member("b", None, some()))
    assert problems[("members", "a")] == "has no predictions at all. Leave it out."
    assert "a has no predictions; b has test predictions" in problems[("members", "vote")]


def test_members_with_nothing_in_common_are_listed():
    problems = problems_of(member("a", labelled(), None), member("b", None, some()))
    expected = "no kind of predictions is had by all members: a has out-of-fold predictions; b has test predictions."
    assert problems[("members", "vote")].startswith(expected)


def test_what_only_some_members_have_is_left_out_with_a_warning():
    aligned = align_members([member("a", labelled(), some()), member("b", None, some(seed=1))])
    assert aligned.out_of_fold is None
    assert (len(aligned.out_of_fold_paths), len(aligned.targets), len(aligned.parts)) == (0, 0, 0)
    assert len(aligned.test) == 2
    [warning] = aligned.warnings
    assert (warning.where, warning.severity) == ("b", "warning")
    aligned = align_members([member("a", labelled(), some()), member("b", labelled(1), None)])
    assert aligned.test is None
    assert aligned.test_targets is None
    assert len(aligned.test_paths) == 0
    assert aligned.out_of_fold.shape == (2, 6, 3)
    assert align_members([member("a", labelled(), None), member("b", labelled(1), None)]).warnings == ()


def test_classes_come_from_predictions_that_count():
    stray = labelled(class_names=("x", "y", "z"))
    aligned = align_members([member("a", stray, some()), member("b", None, some(seed=1))])
    assert aligned.class_names == CLASSES


def test_labels_that_one_member_knows_are_enough():
    knows = shuffled(labelled(1), 7)
    aligned = align_members([member("a", some(), some()), member("b", knows, shuffled(labelled(2), 8))])
    assert aligned.targets.tolist() == list(TARGETS)
    assert aligned.test_targets.tolist() == list(TARGETS)
    assert align_members([member("a", None, some()), member("b", None, some())]).test_targets is None


def test_labels_that_no_member_has_are_required():
    problems = problems_of(member("a", some(), some()), member("b", some(), some()))
    assert [*problems] == [("labels", "a, out of fold")]
    assert "--data DIR" in problems[("labels", "a, out of fold")]


def test_labels_that_differ_are_reported_even_if_the_first_member_has_none():
    wrong = shuffled(labelled(2, targets=np.array([0, 1, 2, 0, 2, 2])), 4)
    problems = problems_of(member("a", some(), None), member("b", labelled(1), None), member("c", wrong, None))
    assert [*problems] == [("labels", "c, out of fold")]
    assert "has other labels than b for 1 drawings, such as 'train/4.png'" in problems[("labels", "c, out of fold")]
    problems = problems_of(member("a", None, labelled(1)), member("b", None, wrong))
    assert [*problems] == [("labels", "b, test")]


def test_the_same_labels_in_another_class_order_do_not_differ():
    aligned = align_members([member("a", labelled(1), None), member("b", shuffled(labelled(2), 3), None)])
    assert aligned.targets.tolist() == list(TARGETS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": np.array([0, 1, 3, 0, 1, 2])}, "got class ids 0 to 3, expected 0 to 2"),
        ({"targets": np.array([0, 1, -1, 0, 1, 2])}, "got class ids -1 to 2, expected 0 to 2"),
        ({"targets": np.array([0, 1])}, "got 2 class ids, expected 6"),
        ({"folds": np.array([0, 1])}, "got 2 folds, expected 6"),
        ({"class_names": ("a", "b", "a")}, "names class 'a' more than once"),
        ({"probs": random_probs(5)}, "got (1, 5, 3), expected (folds, 6, 3)"),
        ({"probs": random_probs(6, 4)}, "got (1, 6, 4), expected (folds, 6, 3)"),
        ({"fold_probs": random_probs(folds=2)}, "got the predictions of 2 folds, expected one per drawing"),
        ({"fold_probs": np.empty((0, 6, 3))}, "got (0, 6, 3), expected (folds, 6, 3)"),
    ],
)
def test_malformed_predictions_are_reported(changes, words):
    problems = problems_of(member("a", labelled(), None), member("b", labelled(1, **changes), None))
    assert words in problems[("form", "b, out of fold")]


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_drawings_to_score_a_vote_are_reported(n):
    few = some(PATHS[:n], targets=np.zeros(n, np.int64))
    problems = problems_of(member("a", few, None), member("b", few, None))
    assert f"got {n} drawings, expected two at least" in problems[("form", "b, out of fold")]


def test_no_test_drawings_are_aligned_too():
    empty = some([], probs=np.empty((0, 3), np.float32))
    aligned = align_members([member("a", labelled(), empty), member("b", labelled(1), empty)])
    assert aligned.test_members("soft", "lowest_id").shape == (2, 0, 3)


def test_one_fold_of_answers_out_of_fold_is_taken_as_it_is():
    one = labelled(1, fold_probs=random_probs(seed=1)[None])
    assert np.array_equal(align_members([member("a", labelled(), None), member("b", one, None)]).out_of_fold[1], one.probs)


def test_parts_are_the_folds_of_the_first_member_that_has_some():
    folds = np.array([0, 0, 1, 1, 2, 2])
    held_out_once = labelled(0, folds=np.zeros(6, np.int64))
    members = [labelled(1), held_out_once, shuffled(labelled(2, folds=folds), 3), labelled(3, folds=folds[::-1])]
    aligned = align_members([member(str(i), one, None) for i, one in enumerate(members)])
    assert aligned.parts.tolist() == folds.tolist()


@pytest.mark.parametrize("folds", [None, np.zeros(6, np.int64)], ids=["no folds", "holdout"])
def test_without_folds_drawings_are_dealt_out_by_name(folds):
    first, second = labelled(0, folds=folds), labelled(1)
    aligned = align_members([member("a", first, None), member("b", second, None)], num_parts=3)
    assert np.bincount(aligned.parts).tolist() == [2, 2, 2]
    mixed = align_members([member("a", shuffled(first, 4), None), member("b", second, None)], num_parts=3)
    part_of = [dict(zip(one.out_of_fold_paths.tolist(), one.parts.tolist(), strict=True)) for one in (aligned, mixed)]
    assert part_of[0] == part_of[1]


def test_there_are_two_parts_at_least_however_few_drawings():
    for n in (2, 3, 4, 5, 7, 11):
        paths = [f"{i}.png" for i in range(n)]
        members = [member(name, some(paths, targets=np.zeros(n, np.int64)), None) for name in "ab"]
        sizes = np.bincount(align_members(members).parts)
        assert len(sizes) == min(n, 5)
        assert sizes.max() - sizes.min() <= 1


def test_folds_vote_softly_or_by_their_answers():
    folds = np.array([[[0.6, 0.4, 0.0]], [[0.6, 0.4, 0.0]], [[0.0, 0.9, 0.1]]])
    np.testing.assert_allclose(vote_of_folds(folds, "soft", "lowest_id"), [[0.4, 17 / 30, 1 / 30]])
    np.testing.assert_allclose(vote_of_folds(folds, "hard", "lowest_id"), [[2 / 3, 1 / 3, 0]])
    tied = folds[1:]
    assert vote_of_folds(tied, "hard", "lowest_id").argmax(1).tolist() == [0]
    assert vote_of_folds(tied, "hard", "mean_probability").argmax(1).tolist() == [1]


def test_each_members_folds_vote_by_themselves():
    for ties in ("lowest_id", "mean_probability"):
        for within in ("soft", "hard"):
            tests = [folds_of(seed, folds=seed + 1) for seed in range(3)]
            aligned = align_members([member(str(i), None, one) for i, one in enumerate(tests)])
            voted = aligned.test_members(within, ties)
            for ours, one in zip(voted, tests, strict=True):
                assert np.array_equal(ours, vote_of_folds(one.fold_probs, within, ties))
            np.testing.assert_allclose(voted.sum(2), 1)


@given(st.text(alphabet="ab./\\ é\u0301", max_size=12))
def test_plain_paths_get_the_key_that_normalising_gives(text):
    expected = posixpath.normpath(re.sub(r"[\\/]+", "/", unicodedata.normalize("NFC", text).strip()))
    assert plain_path(text) == expected


def test_groups_are_those_of_the_member_that_knows_the_fewest_in_the_aligned_order():
    photos, people = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 0, 1])
    first = labelled(groups=photos)
    order = np.array([3, 1, 5, 0, 4, 2])
    second = labelled(seed=1)
    second = some(
        [PATHS[row] for row in order], probs=second.probs[order], targets=np.array(TARGETS)[order], groups=people[order]
    )
    aligned = align_members([member("a", first, None), member("b", second, None)])
    assert aligned.groups.tolist() == people.tolist()
    assert align_members([member("a", first, None), member("b", labelled(seed=1), None)]).groups.tolist() == photos.tolist()
    assert align_members([member("a", labelled(), None), member("b", labelled(seed=1), None)]).groups is None
