from dataclasses import replace

import numpy as np

from inkfold.data.dataset import DataOptions
from inkfold.evaluation.paired import mcnemar
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


def view(runs):
    return comparison_view(runs, open_album(DataOptions(), None, "pad", "auto"))


def test_drawings_that_a_runs_backbone_saw_in_pretraining_are_left_out_of_the_tests(tmp_path):
    assert view(two_runs(tmp_path / "none"))["excluded"] == 0
    shown = view(two_runs(tmp_path / "some", seen=50))
    assert (shown["answer"]["n"], shown["excluded"]) == (N - 50, 50)
    assert sum(row["n"] for row in shown["classes"]) == N - 50
    assert all(int(card["path"]) >= 50 for card in (*shown["won"], *shown["lost"]))
    assert [run["evaluated"]["n"] for run in shown["runs"]] == [N, N]


def test_runs_that_share_test_drawings_alone_leave_nothing_out(tmp_path):
    shown = view(two_runs(tmp_path, [f"other {i}" for i in range(N)], seen=N, test=True))
    assert (shown["answer"]["part"], shown["answer"]["n"], shown["excluded"]) == ("test", N, 0)


def test_where_all_drawings_were_seen_all_are_compared(tmp_path):
    shown = view(two_runs(tmp_path, seen=N))
    assert (shown["answer"]["n"], shown["excluded"]) == (N, 0)


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
    assert [test["part"] for test in shown["tests"]] == ["held out"]
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
