from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from inkfold.data.dataset import DataOptions
from inkfold.evaluation.paired import mcnemar
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.scores import Metric
from inkfold.pipeline.run_files import open_run_files
from inkfold.report.compare_page import comparison_view
from inkfold.report.thumbnails import open_album
from toy_runs import made_up, write_run

N, NAMES = 120, ("a", "b", "c")


def two_runs(tmp_path, paths=None, names=NAMES, seen=None, test=False):
    """Two runs, of which the second may have other drawings or classes, or a backbone that saw some drawings in pretraining."""
    runs = []
    for i, accuracy in enumerate((0.4, 0.9)):
        own = [f"{j}" for j in range(N)] if i == 0 or paths is None else paths
        order = np.random.default_rng(i).permutation(N)  # each run has its own order
        targets = np.arange(N) % 3
        predictions = made_up(
            [own[j] for j in order], targets[order], NAMES if i == 0 else names, accuracy=accuracy, seed=i, folds=order % 2
        )
        if i == 1 and seen is not None:
            predictions = replace(
                predictions, seen=np.array([int(path.split()[-1]) < seen for path in predictions.image_paths])
            )
        tested = made_up([f"test {j}" for j in range(N)], np.arange(N) % 3, NAMES, seed=i) if test else None
        recipe = {"data": {"root": "gone"}, "train_head": {"lr": 0.1 * (i + 1)}, "backbone": {"name": "x"}}
        runs.append(open_run_files(write_run(tmp_path / "ab"[i], "gone", predictions, tested, recipe=recipe)))
    return runs


def left_out(shown):
    return [text for text in shown["answer"]["notes"] if text.startswith("Left out")]


def view(runs):
    return comparison_view(runs, open_album(DataOptions(), None, "pad", "auto"))


def test_drawings_that_a_runs_backbone_saw_in_pretraining_are_left_out_of_the_tests(tmp_path):
    assert left_out(view(two_runs(tmp_path / "none"))) == []
    shown = view(two_runs(tmp_path / "some", seen=50))
    assert shown["answer"]["n"] == N - 50
    assert left_out(shown) == ["Left out: 50 drawings that a run's backbone was pretrained on."]
    assert sum(row["n"] for row in shown["classes"]) == N - 50
    assert all(int(card["path"]) >= 50 for card in (*shown["won"], *shown["lost"]))
    assert [run["evaluated"]["n"] for run in shown["runs"]] == [N, N]


def test_runs_that_share_test_drawings_alone_leave_nothing_out(tmp_path):
    shown = view(two_runs(tmp_path, [f"other {i}" for i in range(N)], seen=N, test=True))
    assert (shown["answer"]["part"], shown["answer"]["n"], left_out(shown)) == ("test", N, [])
    assert [apart["part"] for apart in shown["apart"]] == ["held-out"]
    assert "No held-out drawing in common: A has 120, B has 120, matched by path" in shown["apart"][0]["notes"][0]
    assert shown["apart"][0]["has_test"]


def test_where_all_drawings_were_seen_all_are_compared(tmp_path):
    shown = view(two_runs(tmp_path, seen=N))
    assert (shown["answer"]["n"], left_out(shown)) == (N, [])


def test_runs_are_compared_on_the_drawings_that_both_predicted_whatever_their_order(tmp_path):
    runs = two_runs(tmp_path)
    shown = view(runs)
    rights = []
    for run in runs:
        predictions = run.out_of_fold
        by_path = dict(zip(predictions.image_paths.tolist(), (predictions.preds == predictions.targets).tolist(), strict=True))
        rights.append(np.array([by_path[str(i)] for i in range(N)]))
    assert shown["answer"]["n"] == N
    assert shown["answer"]["p_value"] == mcnemar(*rights)
    assert np.isclose(shown["answer"]["difference"], rights[1].mean() - rights[0].mean(), atol=1e-6)
    assert [test["part"] for test in shown["tests"]] == ["held-out"]
    for row in shown["classes"]:
        inside = np.arange(N) % 3 == NAMES.index(row["name"])
        assert np.allclose(row["recall"], [right[inside].mean() for right in rights])
    assert [row["p_value"] for row in shown["classes"]] == sorted(row["p_value"] for row in shown["classes"])
    for card in shown["won"]:
        assert rights[1][int(card["path"])]
        assert not rights[0][int(card["path"])]


def test_only_the_keys_that_differ_are_shown(tmp_path):
    assert view(two_runs(tmp_path))["keys"] == [("train_head.lr", ["0.1", "0.2"])]


def test_runs_without_common_drawings_or_classes_are_shown_without_a_test(tmp_path):
    apart = view(two_runs(tmp_path / "paths", [f"other {j}" for j in range(N)]))
    other = view(two_runs(tmp_path / "names", names=("x", "y", "z")))
    for shown in (apart, other):
        assert shown["answer"] is None
        assert shown["tests"] == shown["classes"] == []
        assert len(shown["runs"]) == 2
        assert len(shown["apart"]) == 1
    assert "Other classes: 3 classes that only A has, not B ('a', 'b', 'c')" in other["apart"][0]["notes"][0]


def three_runs(tmp_path, change, **metrics):
    """Three runs on the same files in folders of their own, of which a test changes the last one's predictions and recipe."""
    runs = []
    for i, accuracy in enumerate((0.4, 0.7, 0.97)):
        files = np.array([f"digest {j}".encode() for j in range(N)])
        predictions = made_up(
            [f"{'abc'[i]}/{j}" for j in range(N)], np.arange(N) % 3, NAMES, accuracy=accuracy, seed=i, folds=np.arange(N) % 5
        )
        recipe = {"data": {"root": "gone"}, "folds": {"k": 5, "group_column": None}, "seed": 42}
        predictions = replace(predictions, digests=files)
        if i == 2:
            predictions, recipe = change(predictions, recipe)
        run = write_run(tmp_path / "abc"[i], "gone", predictions, recipe=recipe, metrics=metrics if i == 2 else None)
        runs.append(open_run_files(run))
    return runs


def test_every_run_is_compared_with_the_best_single_one_and_the_other_pairs_are_listed_too(tmp_path):
    shown = view(three_runs(tmp_path, lambda *same: same))
    assert shown["best"]["letter"] == "C"
    assert [(test["first"], test["second"], test["n"]) for test in shown["tests"]] == [("C", "A", N), ("C", "B", N)]
    assert [(test["first"], test["second"]) for test in shown["other_pairs"]] == [("A", "B")]
    assert (shown["answer"]["first"], shown["answer"]["second"]) == ("B", "C")
    assert shown["answer"]["difference"] > 0
    assert shown["answer"]["notes"] == ()
    assert [row["letter"] for row in shown["shown"]] == ["A", "B", "C"]
    assert all(len(row["recall"]) == 3 for row in shown["classes"])


def test_a_run_whose_folds_gave_it_an_advantage_is_no_best_run_but_stands_apart_with_what_to_do(tmp_path):
    def part_groups(predictions, recipe):
        return replace(predictions, folds=np.arange(N) // 5 % 5), recipe

    runs = three_runs(tmp_path, part_groups)
    for run, number in zip(runs[:2], "ab", strict=True):
        predictions = replace(run.out_of_fold, groups=np.arange(N) % 5)
        recipe = {"data": {"root": "gone"}, "folds": {"k": 5, "group_column": "artist"}, "seed": 42}
        runs["ab".index(number)] = open_run_files(write_run(tmp_path / f"{number}2", "gone", predictions, recipe=recipe))
    shown = view(runs)
    assert shown["best"]["letter"] == "B"
    [apart] = shown["apart"]
    assert (apart["first"], apart["second"]) == ("B", "C")
    assert "C parts groups that B keeps together: for 120 of 120 drawings" in apart["notes"][0]
    recipe = tmp_path / "c" / "recipe.yaml"
    assert apart["command"] == f"inkfold train {recipe} folds.group_column=artist out={tmp_path / 'c'}-same-folds"
    assert [run["is_apart"] for run in shown["runs"]] == [False, False, True]
    assert [row["letter"] for row in shown["shown"]] == ["A", "B"]
    assert (shown["answer"]["first"], shown["answer"]["second"]) == ("A", "B")


def test_drawings_that_are_labelled_differently_or_that_one_run_lacks_are_left_out(tmp_path):
    def relabel(predictions, recipe):
        targets = predictions.targets.copy()
        targets[:4] = (targets[:4] + 1) % 3
        return replace(predictions, targets=targets).select(np.arange(N - 10)), recipe

    shown = view(three_runs(tmp_path, relabel))
    test = next(test for test in shown["tests"] if {test["first"], test["second"]} == {"B", "C"})
    assert test["n"] == N - 14
    notes = " ".join(test["notes"])
    assert "10 drawings that only B has, not C ('b/110', 'b/111', 'b/112' and others)" in notes
    assert "Left out: 4 drawings that they label differently, such as 'b/0'." in notes


def test_runs_with_their_classes_in_another_order_are_compared(tmp_path):
    def turn(predictions, recipe):
        turned = replace(
            predictions, probs=predictions.probs[:, ::-1], targets=2 - predictions.targets, class_names=NAMES[::-1]
        )
        return turned, recipe

    plain, other = view(three_runs(tmp_path / "plain", lambda *same: same)), view(three_runs(tmp_path / "turned", turn))
    assert [test["difference"] for test in other["tests"]] == [test["difference"] for test in plain["tests"]]
    assert other["classes"] == plain["classes"]


def test_what_other_drawings_chose_is_compared_and_not_the_optimistic_choice(tmp_path):
    def choose(predictions, recipe):
        return replace(predictions, nested_right=np.zeros(N)), recipe

    shown = view(three_runs(tmp_path, choose))
    assert shown["best"]["letter"] == "B"
    assert next(test for test in shown["tests"] if test["second"] == "C")["difference"] < -0.7


def test_runs_of_one_metric_are_compared_by_it_and_the_best_is_the_best_by_it(tmp_path):
    runs, answers = [], ([0, 0, 0, 0, 2, 2], [0, 0, 1, 1, 2, 1])
    for name, preds in zip("ab", answers, strict=True):
        targets = np.array([0, 0, 1, 1, 2, 2] * 10)
        probs = np.eye(3, dtype=np.float32)[np.tile(preds, 10)]
        paths = np.array([f"{i}" for i in range(60)], np.dtypes.StringDType())
        predictions = Predictions(paths, probs, NAMES, targets, np.arange(60) % 2)
        out = write_run(tmp_path / name, "gone", predictions, metrics=Metric("macro_f1").as_json())
        runs.append(open_run_files(out))
        runs[-1].metrics["out_of_fold"]["metric"] = {"value": 0.5, "ci95": [0.4, 0.6]}
    shown = view(runs)
    metric = shown["metric"]
    assert (metric["title"], metric["n"], shown["best"]["letter"]) == ("macro F1", 60, "B")
    assert [one["value"] for one in metric["values"]] == [0.5, 0.5]
    assert (metric["answer"]["first"], metric["answer"]["second"]) == ("A", "B")
    scores = [f1_score([0, 0, 1, 1, 2, 2], preds, average="macro") for preds in answers]
    assert (metric["answer"]["first_value"], metric["answer"]["second_value"]) == pytest.approx(scores, abs=1e-6)
    assert metric["answer"]["difference"] == pytest.approx(scores[1] - scores[0], abs=1e-6)
    assert [(test["first"], test["second"]) for test in metric["tests"]] == [("B", "A")]
    runs[1].metrics.update(Metric("log_loss").as_json())
    assert view(runs)["metric"] is None
