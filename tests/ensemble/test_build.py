import csv
import json
import shutil
import time
from collections import Counter

import numpy as np
import pytest
import yaml
from sklearn.metrics import accuracy_score

from forks import INKFOLD, Process
from inkfold.config.load import load_raw, load_recipe, validate_ensemble
from inkfold.config.recipe import EnsembleRecipe
from inkfold.config.sections import VoteSettings
from inkfold.ensemble import build
from inkfold.ensemble.build import train_any, vote
from inkfold.ensemble.methods import METHODS
from inkfold.ensemble.model import Ensemble, load_run
from inkfold.errors import PredictionError, RecipeError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.run_dir import write_cost
from inkfold.pipeline.train import train
from inkfold.storage.files import TEMP_MARK, write_text
from inkfold.storage.hashing import digest_file
from inkfold.storage.sealed import read_sealed, write_sealed
from toy import RECIPE, break_image, files_below, job_of, read_rows, toy_data, toy_recipe, write_rows
from toy_votes import CHANGES, NAMES, ensemble_recipe

pytestmark = pytest.mark.usefixtures("warm_home")

RESULTS = ("vote.json", "metrics.json", "submission.csv", "predictions/out_of_fold.parquet", "predictions/test.parquet")
ENSEMBLE_FILES = {*RESULTS, "recipe.yaml", "cost.json", "manifest.json"}


def read(path):
    return json.loads(path.read_text())


def contents(out, names=RESULTS):
    return {name: (out / name).read_bytes() for name in names}


def times(out):
    return {name: (out / name).stat().st_mtime_ns for name in files_below(out)}


def lines_of(caught):
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


def test_a_vote_gives_a_run_like_any_other(toys, voted):
    ensemble = voted()
    assert isinstance(ensemble, Ensemble)
    below = files_below(ensemble.path)
    assert {name for name in below if not name.startswith("members/")} == ENSEMBLE_FILES
    for place, name in (("members/0-linear", "linear"), ("members/1-mlp", "mlp")):
        copied = {file.removeprefix(f"{place}/") for file in below if file.startswith(place)}
        assert copied == files_below(toys[name])
        assert contents(ensemble.path / place, copied) == contents(toys[name], copied)
    run = load_run(toys["linear"])
    assert {*run.metrics} <= {*ensemble.metrics}
    assert ensemble.metrics["data"] == run.metrics["data"]
    assert ensemble.metrics["split"] == "kfold"
    assert {*ensemble.metrics["folds"][0]} == {*run.metrics["folds"][0]}
    assert [fold["n_train"] for fold in ensemble.metrics["folds"]] == [12, 12, 12]
    mine, theirs = (Predictions.load(path / "predictions/out_of_fold.parquet") for path in (ensemble.path, run.path))
    assert mine.image_paths.tolist() == theirs.image_paths.tolist()
    assert (mine.targets.tolist(), mine.folds.tolist()) == (theirs.targets.tolist(), theirs.folds.tolist())
    assert {*ensemble.manifest["versions"]} == {*run.manifest["versions"]}


def test_a_finished_vote_is_returned_and_nothing_is_written(toys, voted, tmp_path, monkeypatch):
    out = shutil.copytree(voted().path, tmp_path / "out")
    before = times(out)
    monkeypatch.setattr(build, "select_vote", None)
    assert vote([toys["linear"], toys["mlp"]], out=out).manifest == voted().manifest
    assert times(out) == before


@pytest.mark.parametrize("vote_recipe", [{}, {"method": "stack", "calibrate": True}, {"method": "greedy"}])
def test_two_votes_give_the_same_bytes(toys, tmp_path, vote_recipe):
    for out in ("one", "two"):
        vote([toys["linear"], toys["mlp"], toys["other-folds"]], vote_recipe, out=tmp_path / out)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_every_method_is_taken_as_it_is_named(voted):
    for method in METHODS:
        ensemble = voted(method=method)
        assert ensemble.fitted.method.kind == method
        assert read(ensemble.path / "vote.json")["choice"] is None


def test_an_ensemble_is_not_trained_by_processes_that_torchrun_started(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match=r"several processes together train one run, .* inkfold vote RUN1 RUN2 --out OUT"):
        train_any(ensemble_recipe(tmp_path), data=tmp_path / "data", out=tmp_path / "run")


def test_another_vote_in_the_same_place_is_refused(toys, voted, tmp_path):
    members = [toys["linear"], toys["mlp"]]
    shutil.copytree(voted(method="soft").path, tmp_path / "out")
    for vote_recipe, options in (
        ({"method": "hard"}, {}),
        ({"method": "soft"}, {"seed": 1}),
        ({"method": "soft"}, {"data": toys["data"]}),
    ):
        with pytest.raises(PredictionError, match="Choose another out"):
            vote(members, vote_recipe, out=tmp_path / "out", **options)
    with pytest.raises(PredictionError, match="members"):
        vote(members[::-1], {"method": "soft"}, out=tmp_path / "out")
    with pytest.raises(PredictionError, match="Choose another out"):
        vote(members, {"method": "soft"}, out=toys["other-folds"])
    with pytest.raises(PredictionError, match="Choose another out"):
        train(RECIPE_RAW, data=toys["data"], out=tmp_path / "out")


RECIPE_RAW = yaml.safe_load(RECIPE)


def test_a_member_that_changed_since_is_reported(toys, tmp_path):
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


def test_data_that_changed_since_are_reported(toys, tmp_path):
    shutil.copytree(toys["data"], tmp_path / "data")
    members = [toys["linear"] / "submission.csv", toys["mlp"] / "submission.csv"]
    arguments = {"data": tmp_path / "data", "settings": ["test_targets=test_labels.csv"], "out": tmp_path / "out"}
    first = vote(members, **arguments)
    assert first.metrics["test"]["n"] == 15
    header, *rows = read_rows(tmp_path / "data/test_labels.csv")
    write_rows(tmp_path / "data/test_labels.csv", [header, *([*row[:2], 0] for row in rows)])
    with pytest.raises(PredictionError, match="data have changed since"):
        vote(members, **arguments)


def test_members_of_other_folds_vote_too(toys, tmp_path):
    ensemble = vote([toys["other-folds"], toys["linear"]], out=tmp_path / "out")
    folds = [Predictions.load(path / "predictions/out_of_fold.parquet").folds for path in (toys["other-folds"], ensemble.path)]
    assert folds[0].tolist() == folds[1].tolist()
    mine = Predictions.load(toys["linear"] / "predictions/out_of_fold.parquet").folds
    assert mine.tolist() != folds[0].tolist()


def test_members_of_other_data_are_reported(toys, tmp_path):
    other = toy_data(tmp_path / "other", train_per_class=7, test_per_class=5)
    run = train(RECIPE_RAW, data=other, out=tmp_path / "run")
    with pytest.raises(PredictionError) as caught:
        vote([toys["linear"], run.path], out=tmp_path / "out")
    [line] = lines_of(caught)
    assert line.startswith("run, out of fold: has 21 drawings, linear 18; besides 3: ")
    assert not (tmp_path / "out").exists(), "a better list of members may go there"


def test_runs_that_held_out_other_drawings_are_reported_with_the_command_for_the_same_folds(toys, tmp_path):
    shutil.copytree(toys["other-folds"], tmp_path / "holdout")
    path = tmp_path / "holdout" / "predictions/out_of_fold.parquet"
    held_out = Predictions.load(path)
    held_out.select(held_out.folds == 0).save(path)
    recipe = (tmp_path / "holdout" / "recipe.yaml").read_text()
    write_text(tmp_path / "holdout" / "recipe.yaml", recipe.replace("split: kfold", "split: holdout"))
    manifest = read_sealed(tmp_path / "holdout" / "manifest.json", must_be_sealed=True)
    manifest["files"] = {name: digest_file(tmp_path / "holdout" / name) for name in manifest["files"]}
    write_sealed(tmp_path / "holdout" / "manifest.json", manifest)
    with pytest.raises(PredictionError) as caught:
        vote([toys["linear"], tmp_path / "holdout"], out=tmp_path / "out")
    first, second = lines_of(caught)
    assert first.startswith("holdout, out of fold: has 6 drawings, linear 18; without 12: ")
    out = tmp_path / "holdout"
    command = f"inkfold train {out}/recipe.yaml folds.split=kfold seed=42 out={out}-same-folds"
    assert second == f"holdout: this trains it on the same folds: {command}"


def test_other_labels_and_classes_are_reported(toys, tmp_path):
    header, *rows = read_rows(toys["data"] / "train.csv")
    shutil.copytree(toys["data"], tmp_path / "data")
    write_rows(tmp_path / "data/train.csv", [header, *([*rows[0][:1], rows[0][1], rows[0][2]], *rows[1:])])
    swapped = [[rows[6][0], rows[0][1], rows[6][2]], *rows[1:]]
    write_rows(tmp_path / "data/train.csv", [header, *swapped])
    run = train(RECIPE_RAW, data=tmp_path / "data", out=tmp_path / "run")
    with pytest.raises(PredictionError, match="has other labels than linear for 1 drawings"):
        vote([toys["linear"], run.path], out=tmp_path / "out")


def test_an_ensemble_can_not_vote_and_all_problems_are_reported(toys, voted, tmp_path):
    with pytest.raises(PredictionError) as caught:
        vote([voted().path, toys["mlp"], tmp_path / "gone"], out=tmp_path / "out")
    assert len(lines_of(caught)) == 2
    assert "is an ensemble, expected a run of one model. Name its members instead." in lines_of(caught)[0]


def test_one_member_is_too_few(toys, tmp_path):
    with pytest.raises(PredictionError, match="got 1 members, expected two at least"):
        vote([toys["linear"]], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_members_of_one_name_or_called_like_a_vote_get_different_names(toys, tmp_path):
    for name, source in (("x/soft", "linear"), ("y/soft", "mlp"), ("stack", "other-folds")):
        shutil.copytree(toys[source], tmp_path / name)
    ensemble = vote([tmp_path / name for name in ("x/soft", "y/soft", "stack")], out=tmp_path / "out")
    found = read(ensemble.path / "vote.json")
    assert found["members"] == ["soft 1", "soft 2", "stack 1"]
    names = [one["name"] for one in found["candidates"]]
    assert len({*names}) == len(names) == 10
    of_stack = [one["test"] for one in found["candidates"] if one["name"] == "stack 1"]
    run = load_run(toys["other-folds"])
    assert of_stack[0]["accuracy"] == pytest.approx(run.metrics["test"]["accuracy"], abs=1e-6)
    assert files_below(tmp_path / "out/members/1-soft") == files_below(toys["mlp"])


def test_the_same_run_twice_is_two_members(toys, tmp_path):
    ensemble = vote([toys["linear"], toys["linear"]], {"method": "soft"}, out=tmp_path / "out")
    run = Predictions.load(toys["linear"] / "predictions/test.parquet")
    np.testing.assert_allclose(Predictions.load(ensemble.path / "predictions/test.parquet").probs, run.probs, atol=1e-6)


def test_holdout_runs_are_scored_on_what_they_held_out(tmp_path, data):
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


def test_runs_that_held_out_some_of_the_same_parts_vote_on_the_drawings_that_all_held_out(toys, tmp_path):
    few = train(RECIPE_RAW, "folds.parts=2", "train_head.lr=0.03", data=toys["data"], out=tmp_path / "few")
    ensemble = vote([toys["mlp"], few.path], {"method": "weighted"}, out=tmp_path / "out")
    assert ensemble.metrics["parts"] == few.metrics["parts"] == {"held_out": 2, "of": 3, "drawings": 12}
    assert [(fold["fold"], fold["n"], fold["n_train"]) for fold in ensemble.metrics["folds"]] == [(0, 6, 12), (1, 6, 12)]
    assert ensemble.metrics["split"] == "kfold"
    [text] = [text for text in ensemble.manifest["warnings"] if "drawings" in text]
    assert text == (
        "vote: is chosen and measured on 12 of 18 drawings, those that are held out by all members (mlp 18, few 12). "
        "Train the others with folds.parts=null to measure it on all."
    )
    own = [Predictions.load(path / "predictions/test.parquet").fold_probs for path in (toys["mlp"], few.path)]
    assert [len(folds) for folds in own] == [3, 2]
    weights = np.array(ensemble.fitted.as_json()["weights"])
    expected = np.einsum("m,mnc->nc", weights / weights.sum(), np.stack([folds.mean(0) for folds in own]))
    np.testing.assert_allclose(Predictions.load(ensemble.path / "predictions/test.parquet").probs, expected, atol=1e-6)


def test_a_single_common_part_is_one_fold(toys, tmp_path):
    one = train(RECIPE_RAW, "folds.parts=1", data=toys["data"], out=tmp_path / "one")
    ensemble = vote([one.path, toys["mlp"]], out=tmp_path / "out")
    assert [(fold["fold"], fold["n"], fold["n_train"]) for fold in ensemble.metrics["folds"]] == [(0, 6, 12)]
    assert Predictions.load(ensemble.path / "predictions/out_of_fold.parquet").folds.tolist() == [0] * 6


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


def test_warnings_about_members_and_of_members_are_kept_once(tmp_path, data):
    settings = ("folds.k=7",)
    first = train(RECIPE_RAW, *settings, data=data, out=tmp_path / "a")
    second = train(RECIPE_RAW, *settings, "seed=2", data=data, out=tmp_path / "b")
    shutil.copy(first.path / "submission.csv", tmp_path / "c.csv")
    ensemble = vote([first.path, second.path, tmp_path / "c.csv"], out=tmp_path / "out")
    warnings = ensemble.manifest["warnings"]
    assert [text for text in warnings if "c: has test predictions only" in text]
    assert warnings[1:] == first.manifest["warnings"] == second.manifest["warnings"]


def test_a_vote_costs_no_forward(voted):
    cost = read(voted().path / "cost.json")
    assert (cost["forwards"], cost["forwards_cached"], cost["decoded"]) == (0, 0, 0)
    assert {*cost["seconds"]} == {"vote", "total"}
    assert cost["peak_memory_bytes"] > 0


def test_wrong_methods_and_seeds_are_reported(toys, tmp_path):
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


def test_a_vote_killed_anywhere_is_finished_by_the_same_command(toys, voted, tmp_path, monkeypatch):
    members, out = [toys["linear"], toys["mlp"]], tmp_path / "out"
    for stage in ("_copied", "select_vote", "write_selection", "write_cost", "write_manifest"):
        calls, real = [], getattr(build, stage)

        def killed(*arguments, stage=stage, calls=calls, real=real):
            calls.append(1)
            if len(calls) == (2 if stage == "_copied" else 1):
                raise Killed
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(build, stage, killed)
            with pytest.raises(Killed):
                vote(members, out=out)
        assert not (out / "manifest.json").exists()
        with pytest.raises(PredictionError, match="no finished run"):
            load_run(out)
        for place in (out, out / "members/0-linear"):
            (place / f"vote.json{TEMP_MARK}1-abc").write_text("half")
    vote(members, out=out)
    assert contents(out) == contents(voted().path)
    assert files_below(out) == files_below(voted().path)


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
    assert ensemble.fitted.method.kind == ("soft" if method == "auto" else method)
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


def test_what_must_be_fitted_is_refused_beside_a_submission_and_the_place_stays_free(toys, tmp_path):
    for vote_recipe in ({"method": "weighted"}, {"method": "greedy"}, {"method": "stack"}, {"calibrate": True}):
        with pytest.raises(PredictionError, match="fitted on out-of-fold predictions, which not all members have"):
            vote([toys["linear"], toys["mlp"] / "submission.csv"], vote_recipe, out=tmp_path / "out")
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


def test_files_in_another_order_vote_like_the_run_that_they_came_from(toys, voted, tmp_path):
    files = as_files(toys["mlp"], tmp_path / "mlp", seed=1)
    vote_recipe = {"method": "weighted", "within": "hard", "ties": "lowest_id"}
    mixed = vote([toys["linear"], files], vote_recipe, out=tmp_path / "mixed")
    pure = voted(**vote_recipe)
    assert contents(mixed.path) == contents(pure.path)
    turned = vote([files, toys["linear"]], vote_recipe, out=tmp_path / "turned")
    assert contents(turned.path, ["submission.csv"]) == contents(pure.path, ["submission.csv"])


def test_files_alone_take_labels_rows_ids_and_columns_from_the_data(toys, voted, tmp_path):
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
    pure = voted(method="weighted")
    wanted = [["target", "key", "image_path"]]
    wanted += [[target, f"k{i}", path] for i, path, target in read_rows(pure.path / "submission.csv")[1:]]
    assert read_rows(alone.path / "submission.csv") == wanted
    np.testing.assert_allclose(alone.fitted.weights, pure.fitted.weights, atol=0.02)  # other parts, the same drawings to fit on
    assert alone.metrics["test"]["accuracy"] == pure.metrics["test"]["accuracy"]
    assert alone.metrics["out_of_fold"]["n"] == alone.metrics["data"]["n_train"] == 18
    with pytest.raises(PredictionError, match="no member says the true classes"):
        vote(members, out=tmp_path / "unlabelled")


def test_test_targets_may_be_named_for_runs_that_were_trained_without(train_once, tmp_path, data):
    members = [run.path for run in train_once().ensemble.members]
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


def test_files_of_other_classes_than_the_named_data_are_reported(toys, tmp_path):
    np.savez(tmp_path / "a.npz", probs=np.eye(2), image_paths=["0.png", "1.png"], class_names=["x", "y"])
    with pytest.raises(PredictionError) as caught:
        vote([tmp_path / "a.npz", tmp_path / "a.npz"], out=tmp_path / "out", data=toys["data"])
    assert "has 2 classes, the data 3" in lines_of(caught)[0]


def test_files_alone_without_data_number_their_classes_from_0(toys, voted, tmp_path):
    members = [as_files(toys[name], tmp_path / name, seed=3) / "test.npz" for name in ("linear", "mlp")]
    ensemble = vote(members, out=tmp_path / "out")
    names = ensemble.classes_
    assert {*names} == {*NAMES}
    targets = {row[1].removeprefix("./"): names[int(row[2])] for row in read_rows(ensemble.path / "submission.csv")[1:]}
    pure = voted(method="soft")
    assert targets == {row[1]: NAMES[int(row[2])] for row in read_rows(pure.path / "submission.csv")[1:]}
    assert ensemble.class_targets.tolist() == [0, 1, 2]
    with pytest.raises(PredictionError, match="only files of predictions"):
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
    run = train(RECIPE_RAW, *settings, data=tmp_path / "data", out=tmp_path / "run")
    ensemble = vote([run.path, run.path / "submission.csv"], {"method": "soft"}, out=tmp_path / "out")
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
    run = train(RECIPE_RAW, data=tmp_path / "data", out=tmp_path / "run")
    ensemble = vote([run.path, run.path], {"method": "soft"}, out=tmp_path / "out")
    with (ensemble.path / "submission.csv").open() as file:
        mine = [(row["ID"], row["image_path"]) for row in csv.DictReader(file)]
    assert mine == [(row[0], row[1]) for row in read_rows(run.path / "submission.csv")[1:]]
    assert mine[-1][0] == "again"
    assert mine[-1][1] == mine[3][1]


def test_the_datas_own_column_names_need_no_sample(tmp_path, data):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data/sample_submission.csv").unlink()
    header, *rows = read_rows(tmp_path / "data/train.csv")
    write_rows(tmp_path / "data/train.csv", [[{"target": "label"}.get(name, name) for name in header], *rows])
    run = train(RECIPE_RAW, "data.target_column=label", data=tmp_path / "data", out=tmp_path / "run")
    ensemble = vote([run.path, run.path], {"method": "soft"}, out=tmp_path / "out")
    assert read_rows(ensemble.path / "submission.csv")[0] == ["ID", "image_path", "target"]


# Ensembles' recipes


def test_an_ensembles_recipe_trains_its_members_and_lets_them_vote(train_once, tmp_path):
    trained = train_once()
    ensemble, out = trained.ensemble, trained.ensemble.path
    assert [one["name"] for one in ensemble.manifest["members"]] == ["one", "two"]
    assert [run.recipe.head.kind for run in ensemble.members] == ["linear", "mlp"]
    assert {name for name in files_below(out) if not name.startswith("members/")} == ENSEMBLE_FILES
    voted = vote([out / "members/one", out / "members/two"], out=tmp_path / "voted")
    assert contents(out) == contents(voted.path)
    plain = train(trained.recipe.parent / "toy.yaml", data=trained.data, out=tmp_path / "plain")
    same = ("predictions/test.parquet", "predictions/out_of_fold.parquet", "heads.safetensors", "metrics.json")
    assert contents(out / "members/one", same) == contents(plain.path, same)


def test_members_share_the_bank_and_costs_are_added_up(train_once):
    ensemble = train_once().ensemble
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
    from inkfold.pipeline import run_dir

    known = {"forwards": 1, "forwards_cached": 2, "decoded": 3, "seconds": {"fit": 1.0, "total": 2.0}, "peak_memory_bytes": 7}
    unknown = {**known, "peak_memory_bytes": None}
    total = build._total([known, unknown])
    assert (total["forwards"], total["seconds"], total["peak_memory_bytes"]) == (2, {"fit": 2.0, "total": 4.0}, 7)
    assert build._total([unknown])["peak_memory_bytes"] is None
    monkeypatch.setattr(run_dir, "_peak_memory", lambda: {"peak_memory_bytes": None, "peak_worker_memory_bytes": None})
    write_cost(tmp_path, build._total([unknown]))
    assert read(tmp_path / "cost.json")["peak_memory_bytes"] is None
    write_cost(tmp_path, total)
    assert read(tmp_path / "cost.json")["peak_memory_bytes"] == 7


def test_a_finished_ensemble_is_returned_and_nothing_is_written(train_once, tmp_path, monkeypatch):
    trained = train_once()
    out = trained.copy(tmp_path / "out")
    before = times(out)
    monkeypatch.setattr(build, "select_vote", None)
    monkeypatch.setattr("inkfold.models.backbone.Backbone.__init__", None)
    assert train_any(trained.recipe, data=trained.data, out=out).manifest == trained.ensemble.manifest
    assert times(out) == before


def test_two_ensembles_give_the_same_bytes_whatever_is_in_the_bank(train_once, tmp_path, monkeypatch):
    trained = train_once("vote.calibrate=true")
    monkeypatch.setenv("INKFOLD_HOME", shutil.copytree(trained.home, tmp_path / "home").as_posix())
    again = train_any(trained.recipe, "vote.calibrate=true", data=trained.data, out=tmp_path / "out")
    assert [read(one.path / "cost.json")["forwards"] for one in (trained.ensemble, again)] == [33, 0]
    assert contents(again.path) == contents(trained.ensemble.path)


def test_a_run_of_one_model_is_trained_as_ever(tmp_path, data):
    recipe = toy_recipe(tmp_path)
    forms = (recipe, str(recipe), load_recipe(recipe), load_raw(recipe))
    runs = [train_any(form, "train_head.epochs=2", data=data, out=tmp_path / f"run {i}") for i, form in enumerate(forms)]
    assert {run.recipe.train_head.epochs for run in runs} == {2}
    assert not any(isinstance(run, Ensemble) for run in runs)


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


CHANGED = ("vote.method=hard", "seed=7", "folds.k=2", "train_head.epochs=2", "backbone.batch_size=5")


def test_overrides_go_to_the_ensemble_or_to_every_member(train_once):
    ensemble = train_once(*CHANGED).ensemble
    assert ensemble.fitted.method.kind == "hard"
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
    assert [member["set"]["train_head.epochs"] for member in written["members"]] == [2, 2]


def test_members_may_be_overridden_and_one_called_like_a_vote_keeps_its_directory(tmp_path, data):
    recipe = ensemble_recipe(tmp_path)
    members = (
        "members=[{recipe: toy.yaml, name: soft}, {recipe: toy.yaml, name: b, set: {head.kind: cosine}}, {recipe: toy.yaml}]"
    )
    ensemble = train_any(recipe, members, "vote.method=soft", data=data, out=tmp_path / "out")
    assert ensemble.manifest["members"] == [
        {"name": "soft 1", "run": "members/soft"},
        {"name": "b", "run": "members/b"},
        {"name": "toy", "run": "members/toy"},
    ]


def test_the_recipe_in_the_ensemble_makes_it_again_from_anywhere(train_once, tmp_path, monkeypatch):
    trained = train_once(*CHANGED)
    out = trained.copy(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    again = train_any(out / "recipe.yaml", out="again")
    assert contents(again.path) == contents(out)
    assert train_any(out / "recipe.yaml", out=out).manifest == trained.ensemble.manifest


def test_another_recipe_in_the_same_place_is_refused(tmp_path, data):
    recipe = ensemble_recipe(tmp_path)
    train_any(recipe, "vote.method=soft", data=data, out=tmp_path / "out")
    for changes in (("vote.method=hard",), ("vote.method=soft", "train_head.epochs=3"), ("vote.method=soft", "seed=1"), ()):
        with pytest.raises(PredictionError, match="Choose another out"):
            train_any(recipe, *changes, data=data, out=tmp_path / "out")
    toy_recipe(tmp_path, RECIPE.replace("epochs: 5", "epochs: 4"))
    with pytest.raises(PredictionError, match=r"one/recipe\.yaml: train_head\.epochs: is 5 there, 4 now"):
        train_any(recipe, "vote.method=soft", data=data, out=tmp_path / "out")
    with pytest.raises(PredictionError, match="Choose another out"):
        train_any(tmp_path / "toy.yaml", data=data, out=tmp_path / "out")


def test_data_that_changed_since_training_are_reported(tmp_path, data):
    shutil.copytree(data, tmp_path / "data")
    recipe = ensemble_recipe(tmp_path)
    train_any(recipe, "vote.method=soft", data=tmp_path / "data", out=tmp_path / "out")
    shutil.copy(tmp_path / "data/train/apple/sketch_1.png", tmp_path / "data/train/apple/sketch_0.png")
    with pytest.raises(PredictionError, match="the data have changed since"):
        train_any(recipe, "vote.method=soft", data=tmp_path / "data", out=tmp_path / "out")


def test_a_member_that_was_made_anew_is_reported(train_once, tmp_path):
    trained = train_once()
    manifest = trained.copy(tmp_path / "out") / "members/two/manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(PredictionError, match="members"):
        train_any(trained.recipe, data=trained.data, out=tmp_path / "out")


def test_wrong_keys_are_reported_before_anything_is_made(tmp_path, data):
    recipe = ensemble_recipe(tmp_path)
    for overrides, words in (
        (["vote.methd=hard"], "vote.methd: no such key. Did you mean 'method'?"),
        (["vot.method=hard"], "override 'vot.method': no such key. Did you mean 'vote'?"),
        (["folds.kk=3"], "folds.kk: no such key. Did you mean 'k'?"),
        (["train_head.epoch=3"], "members: two: train_head.epoch: no such key. Did you mean 'epochs'?"),
        (["vote.method=best"], "'greedy' or 'stack'"),
        (["members=[{recipe: toy.yaml}]"], "members"),
        (["members=[{recipe: toy.yaml, nam: a}, {recipe: toy.yaml}]"], "members.0.nam: no such key. Did you mean 'name'?"),
        (["members=[{recipe: toy.yaml}, {recipe: toy.yaml}]"], "got the names toy, toy, expected different ones"),
        (["nonsense"], "expected key=value"),
        (["seed=-1"], "seed"),
    ):
        with pytest.raises(RecipeError) as caught:
            train_any(recipe, *overrides, data=data, out=tmp_path / "out")
        assert words in "\n".join(lines_of(caught)), overrides
    assert not (tmp_path / "out").exists()


def test_progress_names_the_member_and_its_stage(train_once):
    assert [*dict.fromkeys(train_once().stages)] == [
        *("one: reading files", "one: decoding", "one: comparing lines", "one: features", "one: fitting heads"),
        *("two: reading files", "two: fitting heads", "voting methods"),
    ]


def test_a_holdout_ensemble_says_so_and_leaves_broken_drawings_out(tmp_path, data):
    shutil.copytree(data, tmp_path / "data")
    break_image(tmp_path / "data/train/fish/sketch_2.png")
    break_image(tmp_path / "data/test/4.png")
    overrides = ("data.on_broken=skip", "folds.split=holdout")
    ensemble = train_any(ensemble_recipe(tmp_path), *overrides, data=tmp_path / "data", out=tmp_path / "out")
    counts = {"n_train": 17, "n_test": 15, "num_classes": 3}
    assert ensemble.metrics["data"] == {**counts, "skipped": {"train": 1, "test": 1}, "blank": {"train": 0, "test": 0}}
    assert ensemble.metrics["data"] == ensemble.members[0].metrics["data"]
    assert len(read_rows(ensemble.path / "submission.csv")) == 16
    assert ensemble.metrics["split"] == "holdout"
    assert len(ensemble.metrics["folds"]) == 1


def test_an_ensemble_stopped_anywhere_is_finished_by_the_same_command(train_once, tmp_path, monkeypatch):
    trained, out, runs, real = train_once(), tmp_path / "out", [], build.train
    recipe, data = trained.recipe, trained.data

    def killed(*arguments, **options):
        runs.append(options.get("out"))
        if options.get("out") is None or len(runs) == 2:
            raise Killed
        return real(*arguments, **options)

    for stage in ("train", "select_vote", "write_selection", "write_manifest"):
        with monkeypatch.context() as patch:
            patch.setattr(build, stage, killed)
            with pytest.raises(Killed):
                train_any(recipe, data=data, out=out)
        assert not (out / "manifest.json").exists()
        if stage == "train":
            before = (out / "members/one/manifest.json").stat().st_mtime_ns
    assert contents(train_any(recipe, data=data, out=out).path) == contents(trained.ensemble.path)
    assert (out / "members/one/manifest.json").stat().st_mtime_ns == before, "what was finished stays"


@pytest.mark.parametrize("sign", ["members/one/recipe.yaml", "members/one/manifest.json", "members/two/recipe.yaml"])
def test_an_ensemble_killed_by_the_system_is_finished_by_the_same_command(train_once, tmp_path, data, sign):
    whole, out = train_once("train_head.epochs=60"), tmp_path / "out"
    recipe, settings = whole.recipe, (f"data={data}", "train_head.epochs=60")
    with Process(job_of(INKFOLD, "train", recipe, *settings, f"out={out}")) as process:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not (out / sign).is_file():
            time.sleep(0.005)
        process.kill()
    assert (out / sign).is_file()
    resumed = train_any(recipe, *settings, out=out)
    assert contents(resumed.path) == contents(whole.ensemble.path)
    assert files_below(resumed.path) == files_below(whole.ensemble.path)
