import csv
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter

import numpy as np
import pytest
import yaml
from sklearn.metrics import accuracy_score

import inkfold
from inkfold.config.load import load_raw, load_recipe, validate_ensemble
from inkfold.config.recipe import EnsembleRecipe
from inkfold.config.sections import VoteSettings
from inkfold.ensemble import build as voting
from inkfold.ensemble.build import train_any, vote
from inkfold.ensemble.methods import METHODS
from inkfold.ensemble.model import Ensemble, load_any
from inkfold.errors import PredictionError, RecipeError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.run_dir import write_cost
from inkfold.pipeline.train import train
from inkfold.storage.files import TEMP_MARK
from toy import RECIPE, break_image, command_line, environment, files_below, read_rows, toy_data, toy_recipe, write_rows
from toy_votes import CHANGES, NAMES, ensemble_recipe, trained

RESULTS = ("vote.json", "metrics.json", "submission.csv", "predictions/out_of_fold.parquet", "predictions/test.parquet")
ENSEMBLE_FILES = {*RESULTS, "recipe.yaml", "cost.json", "manifest.json"}


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("data") / "data", test_per_class=5)


def read(path):
    return json.loads(path.read_text())


def contents(out, names=RESULTS):
    return {name: (out / name).read_bytes() for name in names}


def told(caught):
    return [str(problem) for problem in caught.value.problems] or [str(caught.value)]


# Votes of runs


def reference(runs, within, across):
    """Drawing by drawing over what the runs' files say; a count's equals go to the lowest class id, as numpy's argmax does."""
    files = [Predictions.load(run / "predictions/test.parquet") for run in runs]
    answers = []
    for i in range(len(files[0].image_paths)):
        models = []
        for one in files:
            folds = [fold[i].astype(np.float64) for fold in one.fold_probs]
            if within == "soft":
                models.append(sum(folds) / len(folds))
            else:
                votes = Counter(int(fold.argmax()) for fold in folds)
                models.append(np.array([votes[k] for k in range(3)]) / len(folds))
        if across == "soft":
            answers.append(int((sum(models) / len(models)).argmax()))
        else:
            votes = Counter(int(model.argmax()) for model in models)
            answers.append(min(k for k in votes if votes[k] == max(votes.values())))
    return answers


@pytest.mark.parametrize(("within", "across"), [("soft", "soft"), ("soft", "hard"), ("hard", "hard")])
def test_models_and_folds_vote_as_the_reference_defines_it(toys, tmp_path, within, across):
    runs = [toys[name] for name in CHANGES]
    ensemble = vote(runs, {"method": across, "within": within, "ties": "lowest_id"}, out=tmp_path / "out")
    expected = reference(runs, within, across)
    assert [int(row[2]) for row in read_rows(ensemble.path / "submission.csv")[1:]] == expected
    assert Predictions.load(ensemble.path / "predictions/test.parquet").preds.tolist() == expected
    truth = [int(row[2]) for row in read_rows(toys["data"] / "test_labels.csv")[1:]]
    measured = read(ensemble.path / "vote.json")["test_nested"][f"{within}-{across}"]["accuracy"]
    assert measured == pytest.approx(accuracy_score(truth, expected))
    assert ensemble.metrics["test"]["accuracy"] == pytest.approx(accuracy_score(truth, expected), abs=1e-6)


def test_a_vote_gives_a_run_like_any_other(toys, tmp_path):
    ensemble = vote([toys["linear"], toys["mlp"]], out=tmp_path / "out")
    assert isinstance(ensemble, Ensemble)
    below = files_below(tmp_path / "out")
    assert {name for name in below if not name.startswith("members/")} == ENSEMBLE_FILES
    for place, name in (("members/0-linear", "linear"), ("members/1-mlp", "mlp")):
        copied = {file.removeprefix(f"{place}/") for file in below if file.startswith(place)}
        assert copied == files_below(toys[name])
        assert contents(tmp_path / "out" / place, copied) == contents(toys[name], copied)
    run = load_any(toys["linear"])
    assert {*run.metrics} <= {*ensemble.metrics}
    assert ensemble.metrics["data"] == run.metrics["data"]
    assert ensemble.metrics["split"] == "kfold"
    assert {*ensemble.metrics["folds"][0]} == {*run.metrics["folds"][0]}
    assert [fold["n_train"] for fold in ensemble.metrics["folds"]] == [12, 12, 12]
    mine, theirs = (Predictions.load(path / "predictions/out_of_fold.parquet") for path in (ensemble.path, run.path))
    assert mine.image_paths.tolist() == theirs.image_paths.tolist()
    assert (mine.targets.tolist(), mine.folds.tolist()) == (theirs.targets.tolist(), theirs.folds.tolist())
    assert {*ensemble.manifest["versions"]} == {*run.manifest["versions"]}


def test_a_finished_vote_is_returned_and_nothing_is_written(toys, tmp_path, monkeypatch):
    first = vote([toys["linear"], toys["mlp"]], out=tmp_path / "out")
    before = {name: (first.path / name).stat().st_mtime_ns for name in files_below(first.path)}
    monkeypatch.setattr(voting, "judge", None)
    again = vote([toys["linear"], toys["mlp"]], out=tmp_path / "out")
    assert again.manifest == first.manifest
    assert {name: (first.path / name).stat().st_mtime_ns for name in files_below(first.path)} == before


@pytest.mark.parametrize("how", [{}, {"method": "stack", "calibrate": True}, {"method": "greedy"}])
def test_two_votes_give_the_same_bytes(toys, tmp_path, how):
    for out in ("one", "two"):
        vote([toys["linear"], toys["mlp"], toys["other-folds"]], how, out=tmp_path / out)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_taken_as_asked_for(toys, tmp_path, method):
    ensemble = vote([toys["linear"], toys["mlp"]], VoteSettings(method=method), out=tmp_path / "out")
    assert ensemble.way.way.method == method
    assert read(ensemble.path / "vote.json")["choice"] is None


def test_processes_that_torchrun_started_are_told_that_an_ensemble_is_not_trained_so(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match=r"several processes together train one run, .* inkfold vote RUN1 RUN2 --out OUT"):
        train_any(ensemble_recipe(tmp_path), data=tmp_path / "data", out=tmp_path / "run")


def test_another_vote_in_the_same_place_is_refused(toys, tmp_path):
    members = [toys["linear"], toys["mlp"]]
    vote(members, {"method": "soft"}, out=tmp_path / "out")
    for how, options in (
        ({"method": "hard"}, {}),
        ({"method": "soft"}, {"seed": 1}),
        ({"method": "soft"}, {"data": toys["data"]}),
    ):
        with pytest.raises(PredictionError, match="Choose another out"):
            vote(members, how, out=tmp_path / "out", **options)
    with pytest.raises(PredictionError, match="members"):
        vote(members[::-1], {"method": "soft"}, out=tmp_path / "out")
    with pytest.raises(PredictionError, match="Choose another out"):
        vote(members, {"method": "soft"}, out=toys["other-folds"])
    with pytest.raises(PredictionError, match="Choose another out"):
        train(RECIPE_RAW, data=toys["data"], out=tmp_path / "out")


RECIPE_RAW = yaml.safe_load(RECIPE)


def test_a_member_that_changed_since_is_told(toys, tmp_path):
    shutil.copytree(toys["linear"], tmp_path / "a")
    shutil.copy(toys["mlp"] / "submission.csv", tmp_path / "b.csv")
    members = [tmp_path / "a", tmp_path / "b.csv"]
    vote(members, {"method": "soft"}, out=tmp_path / "out")
    header, *rows = read_rows(tmp_path / "b.csv")
    write_rows(tmp_path / "b.csv", [header, *([*row[:2], 0] for row in rows)])
    with pytest.raises(PredictionError, match=r"is finished, but its members or data have changed since\. Choose another out"):
        vote(members, {"method": "soft"}, out=tmp_path / "out")
    vote([tmp_path / "a", toys["mlp"]], {"method": "soft"}, out=tmp_path / "runs")
    shutil.rmtree(tmp_path / "a")
    shutil.copytree(toys["other-folds"], tmp_path / "a")
    with pytest.raises(PredictionError, match="have changed since"):
        vote([tmp_path / "a", toys["mlp"]], {"method": "soft"}, out=tmp_path / "runs")


def test_data_that_changed_since_are_told(toys, tmp_path):
    shutil.copytree(toys["data"], tmp_path / "data")
    members = [toys["linear"] / "submission.csv", toys["mlp"] / "submission.csv"]
    given = {"data": tmp_path / "data", "settings": ["test_targets=test_labels.csv"], "out": tmp_path / "out"}
    first = vote(members, **given)
    assert first.metrics["test"]["n"] == 15
    header, *rows = read_rows(tmp_path / "data/test_labels.csv")
    write_rows(tmp_path / "data/test_labels.csv", [header, *([*row[:2], 0] for row in rows)])
    with pytest.raises(PredictionError, match="data have changed since"):
        vote(members, **given)


def test_members_of_other_folds_vote_too(toys, tmp_path):
    ensemble = vote([toys["other-folds"], toys["linear"]], out=tmp_path / "out")
    folds = [Predictions.load(path / "predictions/out_of_fold.parquet").folds for path in (toys["other-folds"], ensemble.path)]
    assert folds[0].tolist() == folds[1].tolist()
    mine = Predictions.load(toys["linear"] / "predictions/out_of_fold.parquet").folds
    assert mine.tolist() != folds[0].tolist()


def test_members_of_other_data_are_told(toys, tmp_path):
    other = toy_data(tmp_path / "other", train_per_class=7, test_per_class=5)
    run = train(RECIPE_RAW, data=other, out=tmp_path / "run")
    with pytest.raises(PredictionError) as caught:
        vote([toys["linear"], run.path], out=tmp_path / "out")
    [line] = told(caught)
    assert line.startswith("run, out of fold: has 21 drawings, linear 18, besides")
    assert not (tmp_path / "out").exists(), "a better list of members may go there"


def test_other_labels_and_classes_are_told(toys, tmp_path):
    header, *rows = read_rows(toys["data"] / "train.csv")
    shutil.copytree(toys["data"], tmp_path / "data")
    write_rows(tmp_path / "data/train.csv", [header, *([*rows[0][:1], rows[0][1], rows[0][2]], *rows[1:])])
    swapped = [[rows[6][0], rows[0][1], rows[6][2]], *rows[1:]]
    write_rows(tmp_path / "data/train.csv", [header, *swapped])
    run = train(RECIPE_RAW, data=tmp_path / "data", out=tmp_path / "run")
    with pytest.raises(PredictionError, match="has other labels than linear for 1 drawings"):
        vote([toys["linear"], run.path], out=tmp_path / "out")


def test_an_ensemble_can_not_vote_and_all_problems_are_told(toys, tmp_path):
    vote([toys["linear"], toys["mlp"]], {"method": "soft"}, out=tmp_path / "one")
    with pytest.raises(PredictionError) as caught:
        vote([tmp_path / "one", toys["mlp"], tmp_path / "gone"], out=tmp_path / "two")
    assert len(told(caught)) == 2
    assert "is an ensemble, expected a run of one model. Name its members instead." in told(caught)[0]


def test_one_member_is_too_few(toys, tmp_path):
    with pytest.raises(PredictionError, match="got 1 members, expected two at least"):
        vote([toys["linear"]], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_members_of_one_name_or_called_like_a_vote_are_told_apart(toys, tmp_path):
    for name, source in (("x/soft", "linear"), ("y/soft", "mlp"), ("stack", "other-folds")):
        shutil.copytree(toys[source], tmp_path / name)
    ensemble = vote([tmp_path / name for name in ("x/soft", "y/soft", "stack")], out=tmp_path / "out")
    found = read(ensemble.path / "vote.json")
    assert found["members"] == ["soft 1", "soft 2", "stack 1"]
    names = [one["name"] for one in found["candidates"]]
    assert len({*names}) == len(names) == 10
    of_stack = [one["test"] for one in found["candidates"] if one["name"] == "stack 1"]
    run = load_any(toys["other-folds"])
    assert of_stack[0]["accuracy"] == pytest.approx(run.metrics["test"]["accuracy"], abs=1e-6)
    assert files_below(tmp_path / "out/members/1-soft") == files_below(toys["mlp"])


def test_the_same_run_twice_is_voted_on_as_asked(toys, tmp_path):
    ensemble = vote([toys["linear"], toys["linear"]], {"method": "soft"}, out=tmp_path / "out")
    run = Predictions.load(toys["linear"] / "predictions/test.parquet")
    np.testing.assert_allclose(Predictions.load(ensemble.path / "predictions/test.parquet").probs, run.probs, atol=1e-6)


def test_holdout_runs_are_judged_on_what_they_held_out(tmp_path, data):
    changes = ("folds.split=holdout", "data.on_broken=skip")
    shutil.copytree(data, tmp_path / "data")
    for name in ("train/apple/sketch_0.png", "test/2.png"):
        break_image(tmp_path / "data" / name)
    runs = [
        train(RECIPE_RAW, *changes, *more, data=tmp_path / "data", out=tmp_path / f"run {i}")
        for i, more in enumerate([(), ("head={kind: mlp, hidden: [4]}",)])
    ]
    ensemble = vote([run.path for run in runs], {"method": "weighted"}, out=tmp_path / "out")
    assert ensemble.metrics["split"] == "holdout"
    assert ensemble.metrics["data"] == runs[0].metrics["data"]
    assert ensemble.metrics["data"]["skipped"] == {"train": 1, "test": 1}
    n = runs[0].metrics["out_of_fold"]["n"]
    assert [(fold["fold"], fold["n"], fold["n_train"]) for fold in ensemble.metrics["folds"]] == [(0, n, 17 - n)]
    assert ensemble.metrics["out_of_fold"]["n"] == n
    files = [tmp_path / "data/test" / f"{i}.png" for i in range(2)]
    assert ensemble.predict_proba(files).shape == (2, 3)


def test_runs_without_test_drawings_give_no_submission(tmp_path, data):
    runs = [
        train(RECIPE_RAW, *more, data=data / "train", out=tmp_path / f"run {i}")
        for i, more in enumerate([(), ("head={kind: mlp, hidden: [4]}",)])
    ]
    ensemble = vote([run.path for run in runs], out=tmp_path / "out")
    assert not (ensemble.path / "submission.csv").exists()
    assert not (ensemble.path / "predictions/test.parquet").exists()
    assert ensemble.metrics["data"]["n_test"] == 0
    assert ensemble.predict_proba(data / "test").shape == (15, 3)


def test_warnings_of_the_panel_and_of_the_members_are_kept_once(tmp_path, data):
    settings = ("folds.k=7",)
    first = train(RECIPE_RAW, *settings, data=data, out=tmp_path / "a")
    second = train(RECIPE_RAW, *settings, "seed=2", data=data, out=tmp_path / "b")
    shutil.copy(first.path / "submission.csv", tmp_path / "c.csv")
    ensemble = vote([first.path, second.path, tmp_path / "c.csv"], out=tmp_path / "out")
    warnings = ensemble.manifest["warnings"]
    assert [text for text in warnings if "c: has test predictions only" in text]
    assert warnings[1:] == first.manifest["warnings"] == second.manifest["warnings"]


def test_a_vote_costs_no_forward(toys, tmp_path):
    ensemble = vote([toys["linear"], toys["mlp"]], out=tmp_path / "out")
    cost = read(ensemble.path / "cost.json")
    assert (cost["forwards"], cost["forwards_cached"], cost["decoded"]) == (0, 0, 0)
    assert {*cost["seconds"]} == {"vote", "total"}
    assert cost["peak_memory_bytes"] > 0


def test_wrong_methods_and_seeds_are_told(toys, tmp_path):
    members = [toys["linear"], toys["mlp"]]
    with pytest.raises(RecipeError, match="'geometric', 'rank'"):
        vote(members, {"method": "best"}, out=tmp_path / "out")
    with pytest.raises(RecipeError, match="Did you mean 'within'"):
        vote(members, {"witin": "hard"}, out=tmp_path / "out")
    for seed in (-1, 2**32):
        with pytest.raises(RecipeError, match=f"seed: got {seed}"):
            vote(members, out=tmp_path / "out", seed=seed)
    assert not (tmp_path / "out").exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("stage", ["_copy_run", "judge", "write_verdict", "write_cost", "write_manifest"])
def test_a_vote_killed_anywhere_is_finished_by_the_same_command(toys, tmp_path, monkeypatch, stage):
    members = [toys["linear"], toys["mlp"]]
    whole = vote(members, out=tmp_path / "whole")
    calls = []
    real = getattr(voting, stage)

    def killed(*arguments):
        calls.append(1)
        if len(calls) == (2 if stage == "_copy_run" else 1):
            raise Killed
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(voting, stage, killed)
        with pytest.raises(Killed):
            vote(members, out=tmp_path / "out")
    assert not (tmp_path / "out/manifest.json").exists()
    with pytest.raises(PredictionError, match="no finished run"):
        load_any(tmp_path / "out")
    for place in (tmp_path / "out", tmp_path / "out/members/0-linear"):
        if place.is_dir():
            (place / f"vote.json{TEMP_MARK}1-abc").write_text("half")
    vote(members, out=tmp_path / "out")
    assert contents(tmp_path / "out") == contents(whole.path)
    assert files_below(tmp_path / "out") == files_below(whole.path)


def test_two_processes_do_not_vote_in_one_place(toys, tmp_path):
    from inkfold.config.recipe import VotedRecipe
    from inkfold.pipeline.run_dir import claimed

    members = [toys["linear"], toys["mlp"]]
    recipe = VotedRecipe(members=tuple(map(str, members)), vote=VoteSettings())
    with claimed(tmp_path / "out", recipe), pytest.raises(PredictionError, match="another process"):
        vote(members, out=tmp_path / "out")


# Runs and files of others


@pytest.mark.parametrize("method", ["auto", "soft", "hard", "geometric", "rank"])
def test_a_run_and_a_submission_vote_by_what_needs_no_fitting(toys, tmp_path, method):
    ensemble = vote([toys["linear"], toys["mlp"] / "submission.csv"], {"method": method}, out=tmp_path / "out")
    assert ensemble.way.way.method == ("soft" if method == "auto" else method)
    assert files_below(tmp_path / "out") >= ENSEMBLE_FILES - {"predictions/out_of_fold.parquet"}
    assert not (tmp_path / "out/predictions/out_of_fold.parquet").exists()
    assert "out_of_fold" not in ensemble.metrics
    assert "no vote could be judged" in read(ensemble.path / "vote.json")["not_estimated"]
    assert ensemble.metrics["data"]["n_train"] == 18
    assert any("submission: has test predictions only" in text for text in ensemble.manifest["warnings"])
    assert [one["run"] for one in ensemble.manifest["members"]] == ["members/0-linear", None]
    submission = read_rows(toys["mlp"] / "submission.csv")[1:]
    probs = Predictions.load(toys["linear"] / "predictions/test.parquet").probs.astype(np.float64)
    if method == "soft":
        one_hot = np.eye(3)[[int(row[2]) for row in submission]]
        shares = Predictions.load(ensemble.path / "predictions/test.parquet").probs
        np.testing.assert_allclose(shares, (probs + one_hot) / 2, atol=1e-6)


@pytest.mark.parametrize("how", [{"method": "weighted"}, {"method": "greedy"}, {"method": "stack"}, {"calibrate": True}])
def test_what_must_be_fitted_is_refused_beside_a_submission_and_the_place_stays_free(toys, tmp_path, how):
    with pytest.raises(PredictionError, match="fitted on out-of-fold predictions, which not all members have"):
        vote([toys["linear"], toys["mlp"] / "submission.csv"], how, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def as_files(run, directory, seed=None):
    """A run's predictions as somebody else would hand them over: rows and classes shuffled, folds stacked, other spellings."""
    directory.mkdir()
    rng = np.random.default_rng(seed)
    for part in ("out_of_fold", "test"):
        one = Predictions.load(run / f"predictions/{part}.parquet")
        rows, columns = rng.permutation(len(one.image_paths)), rng.permutation(3)
        folds = one.probs[None] if one.fold_probs is None else one.fold_probs
        probs = folds[:, rows][:, :, columns]
        names = [one.class_names[k] for k in columns]
        paths = np.array([f"./{path}" for path in one.image_paths[rows]])
        np.savez(directory / f"{part}.npz", probs=probs[0] if len(probs) == 1 else probs, image_paths=paths, class_names=names)
    return directory


def test_files_in_another_order_vote_like_the_run_that_they_came_from(toys, tmp_path):
    files = as_files(toys["mlp"], tmp_path / "mlp", seed=1)
    how = {"method": "weighted", "within": "hard", "ties": "lowest_id"}
    mixed = vote([toys["linear"], files], how, out=tmp_path / "mixed")
    pure = vote([toys["linear"], toys["mlp"]], how, out=tmp_path / "pure")
    assert contents(mixed.path) == contents(pure.path)
    turned = vote([files, toys["linear"]], how, out=tmp_path / "turned")
    assert contents(turned.path, ["submission.csv"]) == contents(pure.path, ["submission.csv"])


def test_files_alone_take_labels_rows_ids_and_columns_from_the_data(toys, tmp_path):
    shutil.copytree(toys["data"], tmp_path / "data")
    header, *rows = read_rows(tmp_path / "data/sample_submission.csv")
    assert header == ["ID", "image_path", "target"]
    write_rows(
        tmp_path / "data/sample_submission.csv", [["target", "key", "image_path"], *([0, f"k{i}", p] for i, p, _ in rows)]
    )
    members = [as_files(toys[name], tmp_path / name, seed=i) for i, name in enumerate(("linear", "mlp"))]
    alone = vote(
        members, {"method": "weighted"}, out=tmp_path / "out", data=tmp_path / "data", settings=["test_targets=test_labels.csv"]
    )
    pure = vote([toys["linear"], toys["mlp"]], {"method": "weighted"}, out=tmp_path / "pure")
    wanted = [["target", "key", "image_path"]]
    wanted += [[target, f"k{i}", path] for i, path, target in read_rows(pure.path / "submission.csv")[1:]]
    assert read_rows(alone.path / "submission.csv") == wanted
    np.testing.assert_allclose(alone.way.weights, pure.way.weights, atol=0.02)  # other parts, the same drawings to fit on
    assert alone.metrics["test"]["accuracy"] == pure.metrics["test"]["accuracy"]
    assert alone.metrics["out_of_fold"]["n"] == alone.metrics["data"]["n_train"] == 18
    with pytest.raises(PredictionError, match="no member says the true classes"):
        vote(members, out=tmp_path / "unlabelled")


def test_test_targets_may_be_named_for_runs_that_were_trained_without(tmp_path, data):
    runs = [train(RECIPE_RAW, f"seed={i}", data=data, out=tmp_path / f"run {i}") for i in range(2)]
    members = [run.path for run in runs]
    without = vote(members, {"method": "soft"}, out=tmp_path / "without")
    assert "test" not in without.metrics
    measured = vote(
        members, {"method": "soft"}, out=tmp_path / "with", data=data, settings=["data.test_targets=test_labels.csv"]
    )
    truth = [int(row[2]) for row in read_rows(data / "test_labels.csv")[1:]]
    preds = Predictions.load(measured.path / "predictions/test.parquet").preds
    assert measured.metrics["test"]["accuracy"] == pytest.approx(accuracy_score(truth, preds), abs=1e-6)
    assert len(read(measured.path / "vote.json")["test_nested"]) == 4
    assert contents(measured.path, ["submission.csv"]) == contents(without.path, ["submission.csv"])


def test_files_of_other_classes_than_the_named_data_are_told(toys, tmp_path):
    np.savez(tmp_path / "a.npz", probs=np.eye(2), image_paths=["0.png", "1.png"], class_names=["x", "y"])
    with pytest.raises(PredictionError) as caught:
        vote([tmp_path / "a.npz", tmp_path / "a.npz"], out=tmp_path / "out", data=toys["data"])
    assert "has 2 classes, the data 3" in told(caught)[0]


def test_files_alone_without_data_number_their_classes_from_0(toys, tmp_path):
    members = [as_files(toys[name], tmp_path / name, seed=3) / "test.npz" for name in ("linear", "mlp")]
    ensemble = vote(members, out=tmp_path / "out")
    names = ensemble.classes_
    assert {*names} == {*NAMES}
    targets = {row[1].removeprefix("./"): names[int(row[2])] for row in read_rows(ensemble.path / "submission.csv")[1:]}
    pure = vote([toys["linear"], toys["mlp"]], {"method": "soft"}, out=tmp_path / "pure")
    assert targets == {row[1]: NAMES[int(row[2])] for row in read_rows(pure.path / "submission.csv")[1:]}
    assert ensemble.class_targets.tolist() == [0, 1, 2]
    with pytest.raises(PredictionError, match="mere files"):
        ensemble.predict_proba(toys["data"] / "test")


# Submissions


def test_targets_with_gaps_go_into_the_submission(tmp_path, data):
    shutil.copytree(data, tmp_path / "data")
    gaps = {"0": "3", "1": "17", "2": "400"}
    for name in ("train.csv", "test_labels.csv"):
        header, *rows = read_rows(tmp_path / "data" / name)
        column = header.index("target")
        write_rows(
            tmp_path / "data" / name, [header, *([gaps[c] if i == column else c for i, c in enumerate(r)] for r in rows)]
        )
    settings = ("data.test_targets=test_labels.csv",)
    runs = [train(RECIPE_RAW, *settings, f"seed={i}", data=tmp_path / "data", out=tmp_path / f"run {i}") for i in range(2)]
    ensemble = vote([runs[0].path, runs[1].path / "submission.csv"], {"method": "soft"}, out=tmp_path / "out")
    written = [row[2] for row in read_rows(ensemble.path / "submission.csv")[1:]]
    preds = Predictions.load(ensemble.path / "predictions/test.parquet").preds
    assert written == [["3", "17", "400"][k] for k in preds]
    assert ensemble.class_targets.tolist() == [3, 17, 400]
    truth = [row[2] for row in read_rows(tmp_path / "data/test_labels.csv")[1:]]
    assert ensemble.metrics["test"]["accuracy"] == pytest.approx(accuracy_score(truth, written), abs=1e-6)


def test_a_drawing_that_is_to_be_predicted_twice_keeps_both_ids(tmp_path, data):
    shutil.copytree(data, tmp_path / "data")
    for name in ("test.csv", "sample_submission.csv"):
        header, *rows = read_rows(tmp_path / "data" / name)
        again = [*rows[3]]
        if "ID" in header:
            again[header.index("ID")] = "again"
        write_rows(tmp_path / "data" / name, [header, *rows, again])
    runs = [train(RECIPE_RAW, f"seed={i}", data=tmp_path / "data", out=tmp_path / f"run {i}") for i in range(2)]
    ensemble = vote([run.path for run in runs], {"method": "soft"}, out=tmp_path / "out")
    with (ensemble.path / "submission.csv").open() as file:
        mine = [(row["ID"], row["image_path"]) for row in csv.DictReader(file)]
    assert mine == [(row[0], row[1]) for row in read_rows(runs[0].path / "submission.csv")[1:]]
    assert mine[-1][0] == "again"
    assert mine[-1][1] == mine[3][1]


def test_the_datas_own_column_names_need_no_sample(tmp_path, data):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data/sample_submission.csv").unlink()
    header, *rows = read_rows(tmp_path / "data/train.csv")
    write_rows(tmp_path / "data/train.csv", [[{"target": "label"}.get(name, name) for name in header], *rows])
    runs = [
        train(RECIPE_RAW, "data.target_column=label", f"seed={i}", data=tmp_path / "data", out=tmp_path / f"run {i}")
        for i in range(2)
    ]
    ensemble = vote([run.path for run in runs], {"method": "soft"}, out=tmp_path / "out")
    assert read_rows(ensemble.path / "submission.csv")[0] == ["ID", "image_path", "target"]


# Ensembles' recipes


def test_an_ensembles_recipe_trains_its_members_and_lets_them_vote(tmp_path, data):
    recipe = ensemble_recipe(tmp_path)
    ensemble = train_any(recipe, data=data, out=tmp_path / "out")
    assert isinstance(ensemble, Ensemble)
    assert [one["name"] for one in ensemble.manifest["members"]] == ["one", "two"]
    assert [run.recipe.head.kind for run in ensemble.members] == ["linear", "mlp"]
    assert {name for name in files_below(tmp_path / "out") if not name.startswith("members/")} == ENSEMBLE_FILES
    voted = vote([tmp_path / "out/members/one", tmp_path / "out/members/two"], out=tmp_path / "voted")
    assert contents(ensemble.path) == contents(voted.path)
    plain = train(tmp_path / "toy.yaml", data=data, out=tmp_path / "plain")
    same = ("predictions/test.parquet", "predictions/out_of_fold.parquet", "heads.safetensors", "metrics.json")
    assert contents(tmp_path / "out/members/one", same) == contents(plain.path, same)


def test_members_share_the_bank_and_costs_are_added_up(tmp_path, data):
    ensemble = train_any(ensemble_recipe(tmp_path), data=data, out=tmp_path / "out")
    costs = [read(run.path / "cost.json") for run in ensemble.members]
    assert [(cost["forwards"], cost["forwards_cached"]) for cost in costs] == [(33, 0), (0, 33)]
    total = read(ensemble.path / "cost.json")
    assert (total["forwards"], total["forwards_cached"], total["decoded"]) == (33, 33, 33)
    for stage, took in total["seconds"].items():
        if stage not in ("vote", "total"):
            assert took == pytest.approx(sum(cost["seconds"][stage] for cost in costs), abs=2e-3)
    assert total["seconds"]["total"] >= sum(cost["seconds"]["total"] for cost in costs) + total["seconds"]["vote"] - 5e-3
    assert [*total["seconds"]][-1] == "total"
    assert total["peak_memory_bytes"] >= max(cost["peak_memory_bytes"] for cost in costs)


def test_peaks_that_no_one_knows_stay_unknown(tmp_path, monkeypatch):
    from inkfold.pipeline import run_dir as rundir

    known = {"forwards": 1, "forwards_cached": 2, "decoded": 3, "seconds": {"fit": 1.0, "total": 2.0}, "peak_memory_bytes": 7}
    unknown = {**known, "peak_memory_bytes": None}
    total = voting._total([known, unknown])
    assert (total["forwards"], total["seconds"], total["peak_memory_bytes"]) == (2, {"fit": 2.0, "total": 4.0}, 7)
    assert voting._total([unknown])["peak_memory_bytes"] is None
    monkeypatch.setattr(rundir, "_peak_memory", lambda: {"peak_memory_bytes": None, "peak_worker_memory_bytes": None})
    write_cost(tmp_path, voting._total([unknown]))
    assert read(tmp_path / "cost.json")["peak_memory_bytes"] is None
    write_cost(tmp_path, total)
    assert read(tmp_path / "cost.json")["peak_memory_bytes"] == 7


def test_a_finished_ensemble_is_returned_and_nothing_is_written(tmp_path, data, monkeypatch):
    recipe = ensemble_recipe(tmp_path)
    first = train_any(recipe, data=data, out=tmp_path / "out")
    before = {name: (first.path / name).stat().st_mtime_ns for name in files_below(first.path)}
    monkeypatch.setattr(voting, "judge", None)
    monkeypatch.setattr("inkfold.models.backbone.Backbone.__init__", None)
    again = train_any(recipe, data=data, out=tmp_path / "out")
    assert again.manifest == first.manifest
    assert {name: (first.path / name).stat().st_mtime_ns for name in files_below(first.path)} == before


def test_two_ensembles_give_the_same_bytes_whatever_is_in_the_bank(tmp_path, data, monkeypatch):
    recipe = ensemble_recipe(tmp_path)
    first = train_any(recipe, "vote.calibrate=true", data=data, out=tmp_path / "one")
    monkeypatch.setenv("INKFOLD_HOME", str(tmp_path / "other home"))
    fresh = train_any(recipe, "vote.calibrate=true", data=data, out=tmp_path / "two")
    assert contents(first.path) == contents(fresh.path)


def test_a_run_of_one_model_is_trained_as_ever(tmp_path, data):
    recipe = toy_recipe(tmp_path)
    forms = (recipe, str(recipe), load_recipe(recipe), load_raw(recipe))
    runs = [train_any(form, "fit.epochs=2", data=data, out=tmp_path / f"run {i}") for i, form in enumerate(forms)]
    assert {run.recipe.train_head.epochs for run in runs} == {2}
    assert not any(isinstance(run, Ensemble) for run in runs)
    assert inkfold.train is train_any


def test_an_ensembles_recipe_may_be_given_in_any_form(tmp_path, data, monkeypatch):
    path = ensemble_recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    raw = load_raw(path)
    forms = [path, str(path), raw, validate_ensemble(raw)]
    assert isinstance(forms[3], EnsembleRecipe)
    for i, form in enumerate(forms):
        train_any(form, f"data={data}", "vote.method=soft", out=tmp_path / f"out {i}")
    recipes = [contents(tmp_path / f"out {i}", ["recipe.yaml", "submission.csv"]) for i in range(4)]
    assert all(one == recipes[0] for one in recipes)
    assert raw == load_raw(path), "the caller's keys stay as they are"


def test_overrides_go_to_the_ensemble_or_to_every_member(tmp_path, data):
    overrides = ("vote.method=hard", "seed=7", "folds.k=2", "fit.epochs=2", "backbone.batch_size=5", f"data={data}")
    ensemble = train_any(ensemble_recipe(tmp_path), *overrides, out=tmp_path / "out")
    assert ensemble.way.way.method == "hard"
    for run in ensemble.members:
        assert (run.recipe.seed, run.recipe.folds.k, run.recipe.train_head.epochs) == (7, 2, 2)
        assert (run.recipe.backbone.name, run.recipe.backbone.weights, run.recipe.backbone.batch_size) == (
            "test_resnet",
            "untrained",
            5,
        )
    one, two = (Predictions.load(run.path / "predictions/out_of_fold.parquet").folds.tolist() for run in ensemble.members)
    assert one == two
    written = yaml.safe_load((ensemble.path / "recipe.yaml").read_text())
    assert (written["seed"], written["folds"]["k"], written["vote"]["method"]) == (7, 2, "hard")
    assert [member["set"]["fit.epochs"] for member in written["members"]] == [2, 2]


def test_members_may_be_overridden(tmp_path, data):
    recipe = ensemble_recipe(tmp_path)
    members = "members=[{recipe: toy.yaml, name: a}, {recipe: toy.yaml, name: b, set: {fit.lr: 0.1}}, {recipe: toy.yaml}]"
    ensemble = train_any(recipe, members, "vote.method=soft", data=data, out=tmp_path / "out")
    assert [one["name"] for one in ensemble.manifest["members"]] == ["a", "b", "toy"]


def test_the_recipe_in_the_ensemble_makes_it_again_from_anywhere(tmp_path, data, monkeypatch):
    first = train_any(ensemble_recipe(tmp_path), "fit.epochs=2", "seed=3", data=data, out=tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = train_any(first.path / "recipe.yaml", out=tmp_path / "again")
    assert contents(again.path) == contents(first.path)
    assert train_any(first.path / "recipe.yaml", out=first.path).manifest == first.manifest


def test_another_recipe_in_the_same_place_is_refused(tmp_path, data):
    recipe = ensemble_recipe(tmp_path)
    train_any(recipe, "vote.method=soft", data=data, out=tmp_path / "out")
    for changes in (("vote.method=hard",), ("vote.method=soft", "fit.epochs=3"), ("vote.method=soft", "seed=1"), ()):
        with pytest.raises(PredictionError, match="Choose another out"):
            train_any(recipe, *changes, data=data, out=tmp_path / "out")
    toy_recipe(tmp_path, RECIPE.replace("epochs: 5", "epochs: 4"))
    with pytest.raises(PredictionError, match=r"one/recipe\.yaml: fit\.epochs: is 5 there, 4 now"):
        train_any(recipe, "vote.method=soft", data=data, out=tmp_path / "out")
    with pytest.raises(PredictionError, match="Choose another out"):
        train_any(tmp_path / "toy.yaml", data=data, out=tmp_path / "out")


def test_data_that_changed_since_training_are_told(tmp_path, data):
    shutil.copytree(data, tmp_path / "data")
    recipe = ensemble_recipe(tmp_path)
    train_any(recipe, "vote.method=soft", data=tmp_path / "data", out=tmp_path / "out")
    shutil.copy(tmp_path / "data/train/apple/sketch_1.png", tmp_path / "data/train/apple/sketch_0.png")
    with pytest.raises(PredictionError, match="the data have changed since"):
        train_any(recipe, "vote.method=soft", data=tmp_path / "data", out=tmp_path / "out")


def test_a_member_that_was_made_anew_is_told(tmp_path, data):
    recipe = ensemble_recipe(tmp_path)
    train_any(recipe, "vote.method=soft", data=data, out=tmp_path / "out")
    manifest = tmp_path / "out/members/two/manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(PredictionError, match="members"):
        train_any(recipe, "vote.method=soft", data=data, out=tmp_path / "out")


def test_wrong_keys_are_told_before_anything_is_made(tmp_path, data):
    recipe = ensemble_recipe(tmp_path)
    for overrides, words in (
        (["vote.methd=hard"], "vote.methd: no such key. Did you mean 'method'?"),
        (["vot.method=hard"], "override 'vot.method': no such key. Did you mean 'vote'?"),
        (["folds.kk=3"], "folds.kk: no such key. Did you mean 'k'?"),
        (["fit.epoch=3"], "members: two: fit.epoch: no such key. Did you mean 'epochs'?"),
        (["vote.method=best"], "'greedy' or 'stack'"),
        (["members=[{recipe: toy.yaml}]"], "members"),
        (["members=[{recipe: toy.yaml, nam: a}, {recipe: toy.yaml}]"], "members.0.nam: no such key. Did you mean 'name'?"),
        (["members=[{recipe: toy.yaml}, {recipe: toy.yaml}]"], "got the names toy, toy, expected different ones"),
        (["nonsense"], "expected key=value"),
        (["seed=-1"], "seed"),
    ):
        with pytest.raises(RecipeError) as caught:
            train_any(recipe, *overrides, data=data, out=tmp_path / "out")
        assert words in "\n".join(told(caught)), overrides
    assert not (tmp_path / "out").exists()


def test_progress_names_the_member_and_its_stage(tmp_path, data):
    stages = []
    recipe = ensemble_recipe(tmp_path)
    train_any(recipe, data=data, out=tmp_path / "out", progress=lambda stage, done, total: stages.append(stage))
    assert [*dict.fromkeys(stages)] == [
        *("one: reading files", "one: decoding", "one: signing drawings", "one: features", "one: fitting heads"),
        *("two: reading files", "two: fitting heads", "ways to vote"),
    ]


def test_a_holdout_ensemble_says_so(tmp_path, data):
    ensemble = train_any(ensemble_recipe(tmp_path), "folds.split=holdout", data=data, out=tmp_path / "out")
    assert ensemble.metrics["split"] == "holdout"
    assert len(ensemble.metrics["folds"]) == 1
    assert ensemble.metrics["data"] == ensemble.members[0].metrics["data"]


def test_broken_drawings_are_left_out_of_an_ensemble_too(tmp_path, data):
    shutil.copytree(data, tmp_path / "data")
    break_image(tmp_path / "data/train/fish/sketch_2.png")
    break_image(tmp_path / "data/test/4.png")
    ensemble = train_any(ensemble_recipe(tmp_path), "data.on_broken=skip", data=tmp_path / "data", out=tmp_path / "out")
    assert ensemble.metrics["data"] == {"n_train": 17, "n_test": 15, "num_classes": 3, "skipped": {"train": 1, "test": 1}}
    assert len(read_rows(ensemble.path / "submission.csv")) == 16


def test_a_member_called_like_a_vote_keeps_its_directory(tmp_path, data):
    recipe = ensemble_recipe(tmp_path)
    members = "members=[{recipe: toy.yaml, name: soft}, {recipe: toy.yaml, name: b, set: {fit.lr: 0.1}}]"
    ensemble = train_any(recipe, members, data=data, out=tmp_path / "out")
    assert ensemble.manifest["members"] == [{"name": "soft 1", "run": "members/soft"}, {"name": "b", "run": "members/b"}]


@pytest.mark.parametrize("stage", ["second member", "judge", "write_verdict", "write_manifest"])
def test_an_ensemble_stopped_anywhere_is_finished_by_the_same_command(tmp_path, data, monkeypatch, stage):
    recipe = ensemble_recipe(tmp_path)
    whole = contents(train_any(recipe, data=data, out=tmp_path / "whole").path)
    trained_runs, real = [], voting.train

    def killed(*arguments, **options):
        trained_runs.append(options.get("out"))
        if stage != "second member" or len(trained_runs) == 2:
            raise Killed
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(voting, "train" if stage == "second member" else stage, killed)
        with pytest.raises(Killed):
            train_any(recipe, data=data, out=tmp_path / "out")
    before = (tmp_path / "out/members/one/manifest.json").stat().st_mtime_ns
    assert not (tmp_path / "out/manifest.json").exists()
    assert contents(train_any(recipe, data=data, out=tmp_path / "out").path) == whole
    assert (tmp_path / "out/members/one/manifest.json").stat().st_mtime_ns == before, "what was finished stays"


@pytest.mark.parametrize("sign", ["members/one/recipe.yaml", "members/one/manifest.json", "members/two/recipe.yaml"])
def test_an_ensemble_killed_by_the_system_is_finished_by_the_same_command(tmp_path, data, sign):
    recipe, out = ensemble_recipe(tmp_path), tmp_path / "out"
    settings = (f"data={data}", "fit.epochs=60")
    process = subprocess.Popen(
        command_line("train", recipe, *settings, f"out={out}"),
        env=environment(tmp_path / "inkfold-home"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (out / sign).is_file():
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (out / sign).is_file()
    resumed = train_any(recipe, *settings, out=out)
    fresh = train_any(recipe, *settings, out=tmp_path / "fresh")
    assert contents(resumed.path) == contents(fresh.path)
    assert files_below(resumed.path) == files_below(fresh.path)
