import csv
import json

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss

from inkfold.config.sections import VoteSettings
from inkfold.ensemble.methods import METHODS
from inkfold.ensemble.selection import (
    NO_OUT_OF_FOLD,
    NOT_ESTIMATED,
    Facts,
    refuse_unfit,
    select_vote,
    vote_json,
    write_selection,
)
from inkfold.ensemble.submission import SubmissionFormat
from inkfold.errors import PredictionError
from inkfold.evaluation.metrics import wilson_interval
from inkfold.evaluation.predictions import Predictions
from toy_votes import NAMES, some_panel, some_probs, without_out_of_fold

FACTS = Facts(60, {"train": 0, "test": 0}, "kfold")
UNFITTED = ("soft", "hard", "geometric", "rank")


def how(**given):
    return VoteSettings(**given)


def written(out, panel, recipe, form=None, facts=FACTS):
    verdict = select_vote(panel, recipe)
    files = write_selection(out, panel, verdict, recipe, form or SubmissionFormat(np.arange(3)), facts)
    return verdict, files


def read(path):
    return json.loads(path.read_text())


def test_every_way_and_every_member_is_judged_and_the_simplest_of_equals_is_taken():
    panel, asked = some_panel(), how()
    verdict = select_vote(panel, asked)
    assert [one.name for one in verdict.singles] == ["model 0", "model 1", "model 2"]
    assert [one.way.method for one in verdict.fitted] == list(METHODS)
    for one, probs in zip(verdict.singles, panel.out_of_fold, strict=True):
        assert one.right.mean() == accuracy_score(panel.targets, probs.argmax(1))
    best = max(one.right.sum() for one in verdict.ways)
    rights = [one.right for one in verdict.ways]
    top = next(right for right in rights if right.sum() == best)

    def same(right):
        lost, won = int((top & ~right).sum()), int((right & ~top).sum())
        return not lost + won or binomtest(won, won + lost).pvalue >= 0.05

    assert verdict.chosen == next(i for i, right in enumerate(rights) if same(right))
    assert verdict.choice is not None


def test_a_better_fitted_way_is_taken_where_it_can_be_told():
    """Two members of noise drown the good one in a soft vote; weights find it."""
    targets = np.arange(300) % 3
    loud = np.eye(3, dtype=np.float32)[np.random.default_rng(5).integers(0, 3, 300)]
    also = np.eye(3, dtype=np.float32)[np.random.default_rng(6).integers(0, 3, 300)]
    members = np.stack([some_probs(targets, 3, 0, 2.0), loud, also])
    panel = some_panel(n=300, out_of_fold=members)
    verdict = select_vote(panel, how())
    assert verdict.taken.way.method in ("weighted", "greedy", "stack")
    pairs = vote_json(panel, verdict, how())["pairs"]
    [pair] = [one for one in pairs if (one["first"], one["second"]) == ("soft", verdict.taken.way.name)]
    assert pair["distinguishable"]
    assert pair["verdict"] == "distinguishable"


@pytest.mark.parametrize("method", METHODS)
def test_what_is_asked_for_is_taken_and_nothing_is_chosen(method):
    verdict = select_vote(some_panel(), how(method=method))
    assert verdict.taken.way.method == method
    assert verdict.choice is None


def test_a_drawings_own_label_has_no_say_in_its_own_fitted_answer():
    panel = some_panel()
    before = select_vote(panel, how(calibrate=True))
    targets = panel.targets.copy()
    inside = panel.parts == 2
    targets[inside] = (targets[inside] + 1) % 3
    after = select_vote(some_panel(targets=targets), how(calibrate=True))
    for one, other in zip(before.ways, after.ways, strict=True):
        np.testing.assert_array_equal(one.probs[inside], other.probs[inside])
    assert any(
        not np.array_equal(one.probs[~inside], other.probs[~inside]) for one, other in zip(before.ways, after.ways, strict=True)
    )


def test_what_choosing_is_worth_does_not_come_from_the_drawings_judged():
    panel = some_panel()
    verdict = select_vote(panel, how())
    inside = panel.parts == 1
    from inkfold.ensemble.methods import MethodScore, choose

    chosen = verdict.ways[choose([MethodScore(one.name, one.probs[~inside], one.right[~inside]) for one in verdict.ways])]
    np.testing.assert_array_equal(verdict.choice.right[inside], chosen.right[inside])


def test_the_second_levels_stack_is_scikit_learns_logistic_regression():
    """A shared weight a member and a bias a class: sklearn fits the same on one-hot contrasts of two classes."""
    targets = np.arange(80) % 2
    members = np.stack([some_probs(targets, 2, 0, 1.0), some_probs(targets, 2, 1, 2.0)])
    parts = np.arange(80) % 4
    panel = some_panel(
        n=80, strengths=(1, 1), class_names=("a", "b"), out_of_fold=members, targets=targets, parts=parts, test=None
    )
    stack = select_vote(panel, how(method="stack")).ways[METHODS.index("stack")]
    contrast = (np.log(members[:, :, 1]) - np.log(members[:, :, 0])).T
    for part in range(4):
        outside = parts != part
        found = LogisticRegression(C=1e6).fit(contrast[outside], targets[outside]).predict(contrast[~outside])
        assert (found == stack.probs[~outside].argmax(1)).mean() > 0.9


@pytest.mark.parametrize("method", ["auto", *UNFITTED])
def test_without_out_of_fold_predictions_what_needs_no_fitting_is_left(method):
    panel = without_out_of_fold()
    verdict = select_vote(panel, how(method=method))
    assert verdict.taken.way.method == ("soft" if method == "auto" else method)
    assert (verdict.singles, verdict.ways, verdict.choice) == ((), (), None)
    assert [one.way.method for one in verdict.fitted] == list(UNFITTED)


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "weighted"},
        {"method": "greedy"},
        {"method": "stack"},
        {"calibrate": True},
        {"method": "rank", "calibrate": True},
    ],
)
def test_what_must_be_fitted_is_refused_without_out_of_fold_predictions(asked):
    with pytest.raises(PredictionError, match="is fitted on out-of-fold predictions, which not all members have"):
        select_vote(without_out_of_fold(), how(**asked))
    with pytest.raises(PredictionError, match="Take soft, hard, geometric or rank"):
        refuse_unfit(without_out_of_fold(), how(**asked))
    refuse_unfit(some_panel(), how(**asked))


def test_progress_is_told_of_each_way():
    told = []
    select_vote(some_panel(), how(), progress=lambda *report: told.append(report))
    assert told == [("ways to vote", i + 1, len(METHODS)) for i in range(len(METHODS))]


def test_figures_are_those_of_the_files_and_agree_with_scikit_learn(tmp_path):
    panel = some_panel()
    verdict, files = written(tmp_path, panel, how(method="weighted"))
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
    assert saved.folds.tolist() == panel.parts.tolist()
    assert [(fold["fold"], fold["n"], fold["n_train"]) for fold in metrics["folds"]] == [(i, 12, 48) for i in range(5)]
    test = Predictions.load(tmp_path / "predictions/test.parquet")
    assert metrics["test"]["accuracy"] == pytest.approx(accuracy_score(panel.test_targets, test.preds), abs=1e-6)
    weights = verdict.taken.weights
    by_hand = np.einsum("m,mnc->nc", weights / weights.sum(), np.stack([one.mean(0) for one in panel.test]))
    np.testing.assert_allclose(test.probs, by_hand, atol=1e-6)
    assert "choice" not in metrics


def test_what_choosing_flatters_is_in_the_metrics_too(tmp_path):
    written(tmp_path, some_panel(), how())
    choice = read(tmp_path / "metrics.json")["choice"]
    assert choice == read(tmp_path / "vote.json")["choice"]
    assert choice["accuracy_ci95"][0] <= choice["accuracy"] <= choice["accuracy_ci95"][1]


def test_every_figure_has_an_interval_and_every_pair_a_test():
    panel = some_panel()
    found = vote_json(panel, select_vote(panel, how()), how())
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
    panel = some_panel(n=240)
    found = vote_json(panel, select_vote(panel, how()), how())
    for one, probs in zip(found["candidates"], panel.out_of_fold, strict=False):
        right = probs.argmax(1) == panel.targets
        assert one["accuracy_ci95"] == pytest.approx(wilson_interval(int(right.sum()), 240))


def loops(panel, within, across):
    """The reference's votes over folds and models, drawing by drawing; equals go to the lowest class id."""

    def count(answers):
        votes = [answers.count(k) for k in range(3)]
        return [v / len(answers) for v in votes]

    def mean(rows):
        return [sum(row[k] for row in rows) / len(rows) for k in range(3)]

    def best(row):
        return max(range(3), key=lambda k: (row[k], -k))

    preds = []
    for i in range(len(panel.test_paths)):
        models = []
        for folds in panel.test:
            rows = [folds[f, i].astype(np.float64).tolist() for f in range(len(folds))]
            models.append(mean(rows) if within == "soft" else count([best(row) for row in rows]))
        preds.append(best(mean(models) if across == "soft" else count([best(row) for row in models])))
    return preds


@pytest.mark.parametrize("within", ["soft", "hard"])
@pytest.mark.parametrize("across", ["soft", "hard"])
def test_votes_over_folds_are_measured_on_test_drawings_as_the_reference_votes(within, across):
    panel = some_panel(tests=90, strengths=(0.3, 0.5, 0.4, 0.2))
    found = vote_json(panel, select_vote(panel, how()), how())["test_nested"]
    assert found[f"{within}-{across}"]["accuracy"] == pytest.approx(np.mean(loops(panel, within, across) == panel.test_targets))


@pytest.mark.parametrize("within", ["soft", "hard"])
@pytest.mark.parametrize("across", ["soft", "hard"])
def test_predictions_are_the_references_loops(tmp_path, within, across):
    panel = some_panel(tests=90, strengths=(0.3, 0.5, 0.4, 0.2))
    written(tmp_path, panel, how(method=across, within=within, ties="lowest_id"))
    assert Predictions.load(tmp_path / "predictions/test.parquet").preds.tolist() == loops(panel, within, across)


def test_how_folds_vote_changes_nothing_out_of_fold(tmp_path):
    for within in ("soft", "hard"):
        written(tmp_path / within, some_panel(), how(within=within))
    soft, hard = (read(tmp_path / within / "metrics.json") for within in ("soft", "hard"))
    assert soft["out_of_fold"] == hard["out_of_fold"]
    assert soft["test"] != hard["test"]


def test_without_labels_of_the_test_drawings_nothing_is_measured_on_them(tmp_path):
    panel = some_panel(test_targets=None)
    written(tmp_path, panel, how())
    found = read(tmp_path / "vote.json")
    assert (found["test_pairs"], found["test_nested"], found["n"]["test"]) == ([], {}, 0)
    assert all("test" not in one for one in found["candidates"])
    assert "test" not in read(tmp_path / "metrics.json")
    assert (tmp_path / "submission.csv").is_file()


def test_test_labels_decide_nothing(tmp_path):
    written(tmp_path / "with", some_panel(), how())
    written(tmp_path / "without", some_panel(test_targets=None), how())
    names = ("submission.csv", "predictions/out_of_fold.parquet")
    for name in names:
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    assert read(tmp_path / "with/vote.json")["way"] == read(tmp_path / "without/vote.json")["way"]


def test_without_test_drawings_there_is_no_submission(tmp_path):
    panel = some_panel(test=None, test_paths=np.empty(0, np.dtypes.StringDType()), test_targets=None)
    _, files = written(tmp_path, panel, how())
    assert files == ["metrics.json", "vote.json", "predictions/out_of_fold.parquet"]
    assert not (tmp_path / "submission.csv").exists()
    assert read(tmp_path / "metrics.json")["data"]["n_test"] == 0


def test_without_out_of_fold_predictions_members_and_votes_are_measured_on_labelled_tests(tmp_path):
    _, files = written(tmp_path, without_out_of_fold(), how())
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
    facts = Facts(300, {"train": 2, "test": 1}, "holdout")
    written(tmp_path, some_panel(), how(), facts=facts)
    metrics = read(tmp_path / "metrics.json")
    assert metrics["split"] == "holdout"
    assert [(fold["fold"], fold["n"], fold["n_train"]) for fold in metrics["folds"]] == [(0, 60, 240)]
    assert metrics["data"] == {"n_train": 300, "n_test": 24, "num_classes": 3, "skipped": {"train": 2, "test": 1}}
    assert set(Predictions.load(tmp_path / "predictions/out_of_fold.parquet").folds.tolist()) == {0}


def test_the_submission_has_the_classes_numbers(tmp_path):
    panel = some_panel()
    written(tmp_path, panel, how(), SubmissionFormat(np.array([3, 7, 40])))
    with (tmp_path / "submission.csv").open() as file:
        rows = [*csv.DictReader(file)]
    preds = Predictions.load(tmp_path / "predictions/test.parquet").preds
    assert [int(row["target"]) for row in rows] == [[3, 7, 40][k] for k in preds]
    assert [row["ID"] for row in rows] == [str(i) for i in range(24)]


def test_a_tie_that_less_than_single_precision_decides_is_decided_in_every_file(tmp_path):
    first = np.array([[0.6, 0.4 - 1e-9, 1e-9]])
    second = np.array([[0.4, 0.6, 0.0]])
    panel = some_panel(
        test=(first[None], second[None]), test_paths=np.array(["x.png"], np.dtypes.StringDType()), test_targets=np.array([0]),
        names=("a", "b"), out_of_fold=some_panel().out_of_fold[:2],
    )  # fmt: skip
    verdict, _ = written(tmp_path, panel, how(method="hard"))
    answer = int(verdict.taken.pool(panel.test_members("soft", "lowest_id")).argmax())
    saved = Predictions.load(tmp_path / "predictions/test.parquet")
    assert saved.probs.argmax(1).tolist() == [answer]
    assert (tmp_path / "submission.csv").read_text().splitlines()[1] == f"0,x.png,{answer}"


def test_two_votes_give_the_same_bytes(tmp_path):
    names = ("vote.json", "metrics.json", "submission.csv", "predictions/test.parquet", "predictions/out_of_fold.parquet")
    for out in ("one", "two"):
        written(tmp_path / out, some_panel(), how(calibrate=True))
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_no_test_drawings_at_all_are_written_too(tmp_path):
    empty = tuple(np.empty((2, 0, 3), np.float32) for _ in range(3))
    panel = some_panel(test=empty, test_paths=np.empty(0, np.dtypes.StringDType()), test_targets=np.empty(0, int))
    _, files = written(tmp_path, panel, how())
    assert "submission.csv" in files
    assert "test" not in read(tmp_path / "metrics.json")
    assert panel.class_names == NAMES
