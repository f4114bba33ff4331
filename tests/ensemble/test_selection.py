import csv
import json
import logging

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

from inkfold.config.sections import VoteSettings
from inkfold.ensemble.methods import METHODS
from inkfold.ensemble.selection import (
    NO_OUT_OF_FOLD,
    NOT_ESTIMATED,
    DataSummary,
    refuse_unfit,
    select_vote,
    vote_json,
    write_selection,
)
from inkfold.ensemble.submission import SubmissionFormat
from inkfold.errors import PredictionError
from inkfold.evaluation.intervals import wilson_interval
from inkfold.evaluation.predictions import Predictions, softmax
from inkfold.evaluation.scores import Metric
from toy_votes import NAMES, some_members, some_probs, without_out_of_fold

SUMMARY = DataSummary(60, {"train": 0, "test": 0}, "kfold")
UNFITTED = ("soft", "hard", "geometric", "rank")


def written(out, aligned, recipe, submission=None, summary=SUMMARY):
    selection = select_vote(aligned, recipe)
    files = write_selection(out, aligned, selection, recipe, submission or SubmissionFormat(np.arange(3)), summary)
    return selection, files


def read(path):
    return json.loads(path.read_text())


def test_every_method_and_every_member_is_scored_and_the_simplest_of_equals_is_taken():
    aligned, recipe = some_members(), VoteSettings()
    selection = select_vote(aligned, recipe)
    assert [one.name for one in selection.member_scores] == ["model 0", "model 1", "model 2"]
    assert [one.method.kind for one in selection.fitted] == list(METHODS)
    for one, probs in zip(selection.member_scores, aligned.out_of_fold, strict=True):
        assert one.right.mean() == accuracy_score(aligned.targets, probs.argmax(1))
    best = max(one.right.sum() for one in selection.method_scores)
    rights = [one.right for one in selection.method_scores]
    top = next(right for right in rights if right.sum() == best)

    def same(right):
        lost, won = int((top & ~right).sum()), int((right & ~top).sum())
        return not lost + won or binomtest(won, won + lost).pvalue >= 0.05

    assert selection.chosen == next(i for i, right in enumerate(rights) if same(right))
    assert selection.choice is not None


def test_a_better_fitted_method_is_chosen_where_it_is_significantly_better():
    """Two members of noise drown the good one in a soft vote; weights find it."""
    targets = np.arange(300) % 3
    loud = np.eye(3, dtype=np.float32)[np.random.default_rng(5).integers(0, 3, 300)]
    also = np.eye(3, dtype=np.float32)[np.random.default_rng(6).integers(0, 3, 300)]
    members = np.stack([some_probs(targets, 3, 0, 2.0), loud, also])
    aligned = some_members(n=300, out_of_fold=members)
    selection = select_vote(aligned, VoteSettings())
    assert selection.taken.method.kind in ("weighted", "greedy", "stack")
    pairs = vote_json(aligned, selection, VoteSettings())["pairs"]
    [pair] = [one for one in pairs if (one["first"], one["second"]) == ("soft", selection.taken.method.name)]
    assert pair["distinguishable"]
    assert pair["verdict"] == "distinguishable"


def test_a_named_method_is_taken_and_nothing_is_chosen():
    for method in METHODS:
        selection = select_vote(some_members(), VoteSettings(method=method))
        assert selection.taken.method.kind == method
        assert selection.choice is None


def test_a_drawings_own_label_has_no_say_in_its_own_fitted_answer():
    aligned = some_members()
    before = select_vote(aligned, VoteSettings(calibrate=True))
    targets = aligned.targets.copy()
    inside = aligned.parts == 2
    targets[inside] = (targets[inside] + 1) % 3
    after = select_vote(some_members(targets=targets), VoteSettings(calibrate=True))
    for one, other in zip(before.method_scores, after.method_scores, strict=True):
        np.testing.assert_array_equal(one.probs[inside], other.probs[inside])
    assert any(
        not np.array_equal(one.probs[~inside], other.probs[~inside])
        for one, other in zip(before.method_scores, after.method_scores, strict=True)
    )


def test_the_score_of_choosing_does_not_come_from_the_drawings_scored():
    aligned = some_members()
    selection = select_vote(aligned, VoteSettings())
    inside = aligned.parts == 1
    from inkfold.ensemble.methods import MethodScore, choose

    chosen = selection.method_scores[
        choose([MethodScore(one.name, one.probs[~inside], one.right[~inside]) for one in selection.method_scores])
    ]
    np.testing.assert_array_equal(selection.choice.right[inside], chosen.right[inside])


def test_the_second_levels_stack_is_scikit_learns_logistic_regression():
    """One weight per member and one bias per class: scikit-learn fits the same on one-hot contrasts of two classes."""
    targets = np.arange(80) % 2
    members = np.stack([some_probs(targets, 2, 0, 1.0), some_probs(targets, 2, 1, 2.0)])
    parts = np.arange(80) % 4
    aligned = some_members(
        n=80, strengths=(1, 1), class_names=("a", "b"), out_of_fold=members, targets=targets, parts=parts, test=None
    )
    stack = select_vote(aligned, VoteSettings(method="stack")).method_scores[METHODS.index("stack")]
    contrast = (np.log(members[:, :, 1]) - np.log(members[:, :, 0])).T
    for part in range(4):
        outside = parts != part
        found = LogisticRegression(C=1e6).fit(contrast[outside], targets[outside]).predict(contrast[~outside])
        assert (found == stack.probs[~outside].argmax(1)).mean() > 0.9


def test_without_out_of_fold_predictions_what_needs_no_fitting_is_left():
    for method in ("auto", *UNFITTED):
        aligned = without_out_of_fold()
        selection = select_vote(aligned, VoteSettings(method=method))
        assert selection.taken.method.kind == ("soft" if method == "auto" else method)
        assert (selection.member_scores, selection.method_scores, selection.choice) == ((), (), None)
        assert [one.method.kind for one in selection.fitted] == list(UNFITTED)


def test_what_must_be_fitted_is_refused_without_out_of_fold_predictions():
    for recipe in (
        {"method": "weighted"},
        {"method": "greedy"},
        {"method": "stack"},
        {"calibrate": True},
        {"method": "rank", "calibrate": True},
    ):
        with pytest.raises(PredictionError, match="is fitted on out-of-fold predictions, which not all members have"):
            select_vote(without_out_of_fold(), VoteSettings(**recipe))
        with pytest.raises(PredictionError, match="Take soft, hard, geometric or rank"):
            refuse_unfit(without_out_of_fold(), VoteSettings(**recipe))
        refuse_unfit(some_members(), VoteSettings(**recipe))


def test_the_log_says_which_method_is_used_and_why(caplog):
    caplog.set_level(logging.INFO, "inkfold.ensemble")
    selection = select_vote(some_members(), VoteSettings())
    select_vote(some_members(), VoteSettings(method="rank"))
    select_vote(without_out_of_fold(), VoteSettings())
    name = selection.taken.method.name
    assert [line for line in caplog.messages if "has accuracy" not in line] == [
        f"vote: chose {name}, the simplest that is not distinguishable from the most accurate",
        "vote: rank, as the recipe names it",
        "vote: soft, as not all members have out-of-fold predictions to score methods by",
    ]
    assert f"vote: soft has accuracy {selection.method_scores[0].right.mean():.4f} out of fold" in caplog.messages


def test_progress_counts_the_methods():
    reports = []
    select_vote(some_members(), VoteSettings(), progress=lambda *report: reports.append(report))
    assert reports == [("voting methods", i + 1, len(METHODS)) for i in range(len(METHODS))]


def test_figures_are_those_of_the_files_and_agree_with_scikit_learn(tmp_path):
    aligned = some_members()
    selection, files = written(tmp_path, aligned, VoteSettings(method="weighted"))
    assert files == [
        "metrics.json",
        "vote.json",
        "predictions/out_of_fold.parquet",
        "predictions/test.parquet",
        "submission.csv",
    ]
    metrics = read(tmp_path / "metrics.json")
    saved = Predictions.load(tmp_path / "predictions/out_of_fold.parquet")
    assert metrics["out_of_fold"]["accuracy"] == pytest.approx(accuracy_score(saved.targets, saved.preds), abs=1e-6)
    assert metrics["out_of_fold"]["nll"] == pytest.approx(log_loss(saved.targets, saved.probs), abs=1e-5)
    assert saved.folds.tolist() == aligned.parts.tolist()
    assert [(fold["fold"], fold["n"], fold["n_train"]) for fold in metrics["folds"]] == [(i, 12, 48) for i in range(5)]
    test = Predictions.load(tmp_path / "predictions/test.parquet")
    assert metrics["test"]["accuracy"] == pytest.approx(accuracy_score(aligned.test_targets, test.preds), abs=1e-6)
    weights = selection.taken.weights
    by_hand = np.einsum("m,mnc->nc", weights / weights.sum(), np.stack([one.mean(0) for one in aligned.test]))
    np.testing.assert_allclose(test.probs, by_hand, atol=1e-6)
    assert "choice" not in metrics


def test_the_score_of_choosing_is_in_the_metrics_too(tmp_path):
    written(tmp_path, some_members(), VoteSettings())
    choice = read(tmp_path / "metrics.json")["choice"]
    assert choice == read(tmp_path / "vote.json")["choice"]
    assert choice["accuracy_ci95"][0] <= choice["accuracy"] <= choice["accuracy_ci95"][1]


def test_every_figure_has_an_interval_and_every_pair_a_test():
    aligned = some_members()
    found = vote_json(aligned, select_vote(aligned, VoteSettings()), VoteSettings())
    assert [one["kind"] for one in found["candidates"]] == ["member"] * 3 + ["vote"] * 7
    for one in found["candidates"]:
        for figures in (one, one["test"]):
            for name in ("accuracy", "nll"):
                low, high = figures[f"{name}_ci95"]
                assert low <= figures[name] <= high
    count = len(found["candidates"])
    for name, expected in (
        ("pairs", count * (count - 1) // 2),
        ("test_pairs", count * (count - 1) // 2),
        ("test_nested_pairs", 6),
    ):
        assert len(found[name]) == expected
        for pair in found[name]:
            assert pair["verdict"] == ("distinguishable" if pair["p_value"] < 0.05 else "not distinguishable")
            assert pair["difference_ci95"][0] <= pair["difference"] <= pair["difference_ci95"][1]
    assert found["not_estimated"] == NOT_ESTIMATED
    assert found["n"] == {"out_of_fold": 60, "test": 24}
    assert len(found["diversity"]["pairs"]) == 3


def test_intervals_are_wilsons():
    aligned = some_members(n=240)
    found = vote_json(aligned, select_vote(aligned, VoteSettings()), VoteSettings())
    for one, probs in zip(found["candidates"], aligned.out_of_fold, strict=False):
        right = probs.argmax(1) == aligned.targets
        assert one["accuracy_ci95"] == pytest.approx(wilson_interval(int(right.sum()), 240))


def loops(aligned, within, across):
    """The reference's votes over folds and models, drawing by drawing; equals go to the lowest class id."""

    def count(answers):
        votes = [answers.count(k) for k in range(3)]
        return [v / len(answers) for v in votes]

    def mean(rows):
        return [sum(row[k] for row in rows) / len(rows) for k in range(3)]

    def best(row):
        return max(range(3), key=lambda k: (row[k], -k))

    preds = []
    for i in range(len(aligned.test_paths)):
        models = []
        for folds in aligned.test:
            rows = [folds[f, i].astype(np.float64).tolist() for f in range(len(folds))]
            models.append(mean(rows) if within == "soft" else count([best(row) for row in rows]))
        preds.append(best(mean(models) if across == "soft" else count([best(row) for row in models])))
    return preds


@pytest.mark.parametrize("within", ["soft", "hard"])
@pytest.mark.parametrize("across", ["soft", "hard"])
def test_votes_over_folds_are_measured_on_test_drawings_as_the_reference_votes(within, across):
    aligned = some_members(tests=90, strengths=(0.3, 0.5, 0.4, 0.2))
    found = vote_json(aligned, select_vote(aligned, VoteSettings()), VoteSettings())["test_nested"]
    assert found[f"{within}-{across}"]["accuracy"] == pytest.approx(
        np.mean(loops(aligned, within, across) == aligned.test_targets)
    )


@pytest.mark.parametrize("within", ["soft", "hard"])
@pytest.mark.parametrize("across", ["soft", "hard"])
def test_predictions_are_the_references_loops(tmp_path, within, across):
    aligned = some_members(tests=90, strengths=(0.3, 0.5, 0.4, 0.2))
    written(tmp_path, aligned, VoteSettings(method=across, within=within, ties="lowest_id"))
    assert Predictions.load(tmp_path / "predictions/test.parquet").preds.tolist() == loops(aligned, within, across)


def test_how_folds_vote_changes_nothing_out_of_fold(tmp_path):
    for within in ("soft", "hard"):
        written(tmp_path / within, some_members(), VoteSettings(within=within))
    soft, hard = (read(tmp_path / within / "metrics.json") for within in ("soft", "hard"))
    assert soft["out_of_fold"] == hard["out_of_fold"]
    assert soft["test"] != hard["test"]


def test_without_labels_of_the_test_drawings_nothing_is_measured_on_them(tmp_path):
    aligned = some_members(test_targets=None)
    written(tmp_path, aligned, VoteSettings())
    found = read(tmp_path / "vote.json")
    assert (found["test_pairs"], found["test_nested"], found["n"]["test"]) == ([], {}, 0)
    assert all("test" not in one for one in found["candidates"])
    assert "test" not in read(tmp_path / "metrics.json")
    assert (tmp_path / "submission.csv").is_file()


def test_test_labels_decide_nothing(tmp_path):
    written(tmp_path / "with", some_members(), VoteSettings())
    written(tmp_path / "without", some_members(test_targets=None), VoteSettings())
    names = ("submission.csv", "predictions/out_of_fold.parquet")
    for name in names:
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    assert read(tmp_path / "with/vote.json")["way"] == read(tmp_path / "without/vote.json")["way"]


def test_without_test_drawings_there_is_no_submission(tmp_path):
    aligned = some_members(test=None, test_paths=np.empty(0, np.dtypes.StringDType()), test_targets=None)
    _, files = written(tmp_path, aligned, VoteSettings())
    assert files == ["metrics.json", "vote.json", "predictions/out_of_fold.parquet"]
    assert not (tmp_path / "submission.csv").exists()
    assert read(tmp_path / "metrics.json")["data"]["n_test"] == 0


def test_without_out_of_fold_predictions_members_and_votes_are_measured_on_labelled_tests(tmp_path):
    _, files = written(tmp_path, without_out_of_fold(), VoteSettings())
    assert files == ["metrics.json", "vote.json", "predictions/test.parquet", "submission.csv"]
    found = read(tmp_path / "vote.json")
    assert found["not_estimated"] == f"{NO_OUT_OF_FOLD} {NOT_ESTIMATED}"
    assert [one["name"] for one in found["candidates"]] == [
        *("model 0", "model 1", "model 2"),
        *("soft", "hard (ties: mean probability)", "geometric", "rank"),
    ]
    assert all({*one} == {"name", "kind", "test"} for one in found["candidates"])
    assert (found["pairs"], len(found["test_pairs"]), found["choice"]) == ([], 21, None)
    assert "diversity" not in found
    assert "out_of_fold" not in read(tmp_path / "metrics.json")


def test_a_holdouts_drawings_are_one_fold(tmp_path):
    summary = DataSummary(300, {"train": 2, "test": 1}, "holdout")
    written(tmp_path, some_members(), VoteSettings(), summary=summary)
    metrics = read(tmp_path / "metrics.json")
    assert metrics["split"] == "holdout"
    assert [(fold["fold"], fold["n"], fold["n_train"]) for fold in metrics["folds"]] == [(0, 60, 240)]
    left_out = {"skipped": {"train": 2, "test": 1}, "blank": {"train": 0, "test": 0}}
    assert metrics["data"] == {"n_train": 300, "n_test": 24, "num_classes": 3, **left_out}
    assert set(Predictions.load(tmp_path / "predictions/out_of_fold.parquet").folds.tolist()) == {0}


def test_the_submission_has_the_classes_numbers(tmp_path):
    aligned = some_members()
    written(tmp_path, aligned, VoteSettings(), SubmissionFormat(np.array([3, 7, 40])))
    with (tmp_path / "submission.csv").open() as file:
        rows = [*csv.DictReader(file)]
    preds = Predictions.load(tmp_path / "predictions/test.parquet").preds
    assert [int(row["target"]) for row in rows] == [[3, 7, 40][k] for k in preds]
    assert [row["ID"] for row in rows] == [str(i) for i in range(24)]


def test_a_tie_that_less_than_single_precision_decides_is_decided_in_every_file(tmp_path):
    first = np.array([[0.6, 0.4 - 1e-9, 1e-9]])
    second = np.array([[0.4, 0.6, 0.0]])
    aligned = some_members(
        test=(first[None], second[None]), test_paths=np.array(["x.png"], np.dtypes.StringDType()), test_targets=np.array([0]),
        names=("a", "b"), out_of_fold=some_members().out_of_fold[:2],
    )  # fmt: skip
    selection, _ = written(tmp_path, aligned, VoteSettings(method="hard"))
    answer = int(selection.taken.pool(aligned.test_members("soft", "lowest_id")).argmax())
    saved = Predictions.load(tmp_path / "predictions/test.parquet")
    assert saved.probs.argmax(1).tolist() == [answer]
    assert (tmp_path / "submission.csv").read_text().splitlines()[1] == f"0,x.png,{answer}"


def test_two_votes_give_the_same_bytes(tmp_path):
    names = ("vote.json", "metrics.json", "submission.csv", "predictions/test.parquet", "predictions/out_of_fold.parquet")
    for out in ("one", "two"):
        written(tmp_path / out, some_members(), VoteSettings(calibrate=True))
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_no_test_drawings_at_all_are_written_too(tmp_path):
    empty = tuple(np.empty((2, 0, 3), np.float32) for _ in range(3))
    aligned = some_members(test=empty, test_paths=np.empty(0, np.dtypes.StringDType()), test_targets=np.empty(0, int))
    _, files = written(tmp_path, aligned, VoteSettings())
    assert "submission.csv" in files
    assert "test" not in read(tmp_path / "metrics.json")
    assert aligned.class_names == NAMES


def test_an_ensemble_is_chosen_and_answered_by_its_metric(tmp_path):
    """Two classes of very different size, which members lean towards the larger of."""
    targets = np.where(np.arange(120) % 10 == 0, 1, 0)
    leaning = np.array([1.5, 0.0, -2.0])
    members = np.stack([softmax(np.log(some_probs(targets, 3, seed, 2.0)) + leaning) for seed in range(3)])
    aligned = some_members(n=120, out_of_fold=members, targets=targets, test_targets=np.zeros(24, np.int64))
    recipe, metric = VoteSettings(), Metric("balanced_accuracy")
    selection = select_vote(aligned, recipe, metric=metric)
    write_selection(tmp_path, aligned, selection, recipe, SubmissionFormat(np.arange(3)), SUMMARY)
    metrics, vote = read(tmp_path / "metrics.json"), read(tmp_path / "vote.json")
    predictions = Predictions.load(tmp_path / "predictions/out_of_fold.parquet")
    assert metrics["decision"]["used"]
    figures = metrics["out_of_fold"]
    assert figures["metric"]["value"] == pytest.approx(balanced_accuracy_score(targets, predictions.preds), abs=1e-6)
    assert figures["accuracy"] == pytest.approx(accuracy_score(targets, predictions.preds), abs=1e-6)
    assert all("metric" in part for part in (metrics["test"], metrics["choice"], *metrics["folds"], *vote["candidates"]))
    assert {pair["first"] for pair in vote["metric_pairs"]} == {vote["taken"]}
    assert len(vote["metric_pairs"]) == len(vote["candidates"]) - 1
    rule = selection.decision.decision
    test = Predictions.load(tmp_path / "predictions/test.parquet")
    assert test.preds.tolist() == rule.preds(test.probs).tolist()
    rows = [*csv.reader((tmp_path / "submission.csv").read_text().splitlines())]
    assert [int(row[-1]) for row in rows[1:]] == test.preds.tolist()
