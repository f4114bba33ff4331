from dataclasses import replace

import numpy as np

from inkfold.data.dataset import DataOptions
from inkfold.evaluation.metrics import mcnemar
from inkfold.report.compare_page import comparison_view
from inkfold.report.run_data import read_run_record
from inkfold.report.thumbnails import open_album
from toy_runs import made_up, write_run

N, NAMES = 120, ("a", "b", "c")


def records(tmp_path, paths=None, names=NAMES):
    found = []
    for i, accuracy in enumerate((0.4, 0.9)):
        own = [f"{j}" for j in range(N)] if i == 0 or paths is None else paths
        order = np.random.default_rng(i).permutation(N)  # each run has its own order
        targets = np.arange(N) % 3
        predictions = made_up(
            [own[j] for j in order], targets[order], NAMES if i == 0 else names, accuracy=accuracy, seed=i, folds=order % 2
        )
        recipe = {"data": {"root": "gone"}, "fit": {"lr": 0.1 * (i + 1)}, "backbone": {"name": "x"}}
        found.append(read_run_record(write_run(tmp_path / "ab"[i], "gone", predictions, recipe=recipe)))
    return found


def view(found):
    return comparison_view(found, open_album(DataOptions(), None, "pad", "auto"))


def test_drawings_that_a_runs_backbone_knows_are_left_out_of_the_tests(tmp_path):
    first, second = records(tmp_path)
    assert view([first, second])["known"] == 0
    known = np.array([int(path) < 50 for path in second.out_of_fold.image_paths.tolist()])
    second = replace(second, out_of_fold=replace(second.out_of_fold, learnt=known))
    found = view([first, second])
    assert (found["told"]["n"], found["known"]) == (N - 50, 50)
    assert sum(row["n"] for row in found["classes"]) == N - 50
    assert all(int(card["path"]) >= 50 for card in (*found["won"], *found["lost"]))
    assert [run["judged"]["n"] for run in found["runs"]] == [N, N]


def test_runs_that_share_test_drawings_alone_leave_nothing_out(tmp_path):
    first, second = records(tmp_path, paths=[f"other {i}" for i in range(N)])
    tested = [replace(one, test=replace(first.out_of_fold, folds=None)) for one in (first, second)]
    tested[1] = replace(tested[1], out_of_fold=replace(second.out_of_fold, learnt=np.ones(N, bool)))
    found = view(tested)
    assert (found["told"]["where"], found["told"]["n"], found["known"]) == ("test", N, 0)


def test_where_all_are_known_all_are_compared(tmp_path):
    first, second = records(tmp_path)
    second = replace(second, out_of_fold=replace(second.out_of_fold, learnt=np.ones(N, bool)))
    found = view([first, second])
    assert (found["told"]["n"], found["known"]) == (N, 0)


def test_runs_are_compared_on_the_drawings_that_both_were_asked_about_whatever_their_order(tmp_path):
    first, second = records(tmp_path)
    found = view([first, second])
    rights = []
    for record in (first, second):
        predictions = record.out_of_fold
        by_path = dict(zip(predictions.image_paths.tolist(), (predictions.preds == predictions.targets).tolist(), strict=True))
        rights.append(np.array([by_path[str(i)] for i in range(N)]))
    assert found["told"]["n"] == N
    assert found["told"]["p_value"] == mcnemar(*rights)
    assert np.isclose(found["told"]["difference"], rights[1].mean() - rights[0].mean(), atol=1e-6)
    assert [one["words"] for one in found["tested"]] == ["held out"]
    for row in found["classes"]:
        inside = np.arange(N) % 3 == NAMES.index(row["name"])
        assert np.allclose(row["recall"], [right[inside].mean() for right in rights])
    assert [row["p_value"] for row in found["classes"]] == sorted(row["p_value"] for row in found["classes"])
    for card in found["won"]:
        assert rights[1][int(card["path"])]
        assert not rights[0][int(card["path"])]


def test_only_the_keys_that_differ_are_shown(tmp_path):
    assert view(records(tmp_path))["keys"] == [("fit.lr", ["0.1", "0.2"])]


def test_runs_without_common_drawings_or_classes_are_shown_without_a_test(tmp_path):
    apart = view(records(tmp_path / "paths", [f"other {j}" for j in range(N)]))
    other = view(records(tmp_path / "names", names=("x", "y", "z")))
    for found in (apart, other):
        assert found["told"] is None
        assert found["tested"] == found["classes"] == []
        assert len(found["runs"]) == 2
