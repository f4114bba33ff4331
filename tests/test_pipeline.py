import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score

from inkfold.config import load_recipe
from inkfold.dataset import DataOptions
from inkfold.errors import DataError, RecipeError
from inkfold.pipeline import check_options, settle_recipe, train
from inkfold.predictions import Predictions
from toy import (
    CLASSES,
    RECIPE,
    RUN_FILES,
    as_folders,
    break_image,
    files_below,
    read_rows,
    toy_data,
    toy_recipe,
    write_rows,
)

SAME = ("metrics.json", "submission.csv", "heads.safetensors", "predictions/test.parquet")
RESULTS = (*SAME, "predictions/out_of_fold.parquet")


@pytest.fixture
def data(tmp_path):
    return toy_data(tmp_path / "data")


@pytest.fixture
def recipe(tmp_path):
    return toy_recipe(tmp_path)


def contents(out, names=RESULTS):
    return {name: (out / name).read_bytes() for name in names}


def out_of_fold(run):
    return Predictions.load(run.path / "predictions/out_of_fold.parquet")


def test_a_run_leaves_exactly_its_files(tmp_path, data, recipe):
    run = train(recipe, data=data, out=tmp_path / "run")
    assert files_below(tmp_path / "run") == RUN_FILES
    assert {*run.manifest["files"], "manifest.json"} == RUN_FILES
    assert run.manifest["members"] == ["fold 0", "fold 1", "fold 2"]
    assert run.classes_ == CLASSES


def test_figures_agree_with_scikit_learn_on_the_tables_own_labels(tmp_path, data, recipe):
    run = train(recipe, data=data, out=tmp_path / "run")
    found = out_of_fold(run)
    rows = read_rows(data / "train.csv")[1:]
    assert found.image_paths.tolist() == [path for _, path, _ in rows], "in the table's order"
    truth = [int(target) for *_, target in rows]
    assert found.targets.tolist() == truth
    figures = run.metrics["out_of_fold"]
    assert figures["accuracy"] == pytest.approx(accuracy_score(truth, found.preds), abs=1e-6)
    assert figures["macro_recall"] == pytest.approx(recall_score(truth, found.preds, average="macro"), abs=1e-6)
    assert [(fold["n"], fold["n_train"]) for fold in run.metrics["folds"]] == [(6, 12)] * 3
    for fold in run.metrics["folds"]:
        own = found.folds == fold["fold"]
        assert fold["accuracy"] == pytest.approx(accuracy_score(np.array(truth)[own], found.preds[own]), abs=1e-6)


def test_the_submission_is_the_argmax_of_the_folds_mean(tmp_path, data, recipe):
    run = train(recipe, data=data, out=tmp_path / "run")
    test = Predictions.load(run.path / "predictions/test.parquet")
    assert test.fold_probs.shape == (3, 6, 3)
    np.testing.assert_allclose(test.probs, test.fold_probs.astype(np.float64).mean(0), atol=1e-6)
    header, *rows = read_rows(run.path / "submission.csv")
    assert header == ["ID", "image_path", "target"]
    assert [row[:2] for row in rows] == [row[:2] for row in read_rows(data / "sample_submission.csv")[1:]]
    assert [int(row[2]) for row in rows] == test.probs.argmax(1).tolist()


def test_two_runs_give_the_same_bytes(tmp_path, data, recipe, monkeypatch):
    first = train(recipe, data=data, out=tmp_path / "one")
    again = train(recipe, data=data, out=tmp_path / "two")
    monkeypatch.setenv("INKFOLD_HOME", str(tmp_path / "other home"))
    fresh = train(recipe, data=data, out=tmp_path / "three")
    assert contents(first.path) == contents(again.path) == contents(fresh.path)
    forwards = [json.loads((run.path / "cost.json").read_text())["forwards"] for run in (first, again, fresh)]
    assert forwards == [24, 0, 24]


def test_row_order_changes_nothing(tmp_path, data, recipe):
    first = train(recipe, data=data, out=tmp_path / "one")
    header, *rows = read_rows(data / "train.csv")
    order = np.random.default_rng(0).permutation(len(rows))
    write_rows(data / "train.csv", [header, *(rows[i] for i in order)])
    again = train(recipe, data=data, out=tmp_path / "two")
    assert contents(first.path, SAME) == contents(again.path, SAME)
    assert out_of_fold(again).image_paths.tolist() == [rows[i][1] for i in order]
    assert train(recipe, data=data, out=tmp_path / "one").manifest == first.manifest, "no other data"


def test_the_seed_changes_the_folds(tmp_path, data, recipe):
    one = out_of_fold(train(recipe, data=data, out=tmp_path / "one"))
    two = out_of_fold(train(recipe, "seed=43", data=data, out=tmp_path / "two"))
    assert not np.array_equal(one.folds, two.folds)


def test_a_finished_run_is_returned_without_any_work(tmp_path, data, recipe, monkeypatch):
    first = train(recipe, data=data, out=tmp_path / "run")
    before = {name: (first.path / name).stat().st_mtime_ns for name in RUN_FILES}
    shutil.rmtree(tmp_path / "inkfold-home")
    monkeypatch.setattr("inkfold.backbone.Backbone.__init__", None)
    monkeypatch.setattr("inkfold.store.read_drawing", None)
    again = train(recipe, data=data, out=tmp_path / "run")
    assert again.manifest == first.manifest
    assert {name: (first.path / name).stat().st_mtime_ns for name in RUN_FILES} == before
    assert files_below(first.path) == RUN_FILES


def test_a_run_without_its_manifest_is_finished_from_the_bank(tmp_path, data, recipe):
    first = contents(train(recipe, data=data, out=tmp_path / "run").path)
    (tmp_path / "run/manifest.json").unlink()
    (tmp_path / "run/submission.csv").unlink()
    assert contents(train(recipe, data=data, out=tmp_path / "run").path) == first
    assert json.loads((tmp_path / "run/cost.json").read_text())["forwards"] == 0


def test_another_head_on_the_same_features_needs_no_forward(tmp_path, data, recipe):
    train(recipe, data=data, out=tmp_path / "one")
    run = train(recipe, "head={kind: mlp, hidden: [5], activation: gelu}", data=data, out=tmp_path / "two")
    assert json.loads((run.path / "cost.json").read_text())["forwards"] == 0
    assert run.heads["layers.1.weight"].shape == (3, 5, 3)


def test_added_drawings_cost_their_own_forwards_only(tmp_path, data, recipe):
    train(recipe, data=data, out=tmp_path / "one")
    more = toy_data(tmp_path / "more", train_per_class=8)
    run = train(recipe, data=more, out=tmp_path / "two")
    assert json.loads((run.path / "cost.json").read_text())["forwards"] == 6


def test_a_recipe_may_be_a_mapping_or_a_recipe(tmp_path, data, recipe):
    run = train(recipe, data=data, out=tmp_path / "one")
    loaded = load_recipe(recipe)
    from_recipe = train(loaded, data=data, out=tmp_path / "two")
    from_mapping = train(loaded.model_dump(mode="json"), f"data={data}", out=tmp_path / "three")
    assert run.recipe == from_recipe.recipe == from_mapping.recipe
    assert contents(run.path) == contents(from_recipe.path) == contents(from_mapping.path)


def test_holdout_holds_one_part_out(tmp_path, data, recipe):
    run = train(recipe, "folds.split=holdout", data=data, out=tmp_path / "run")
    assert run.manifest["members"] == ["fold 0"]
    assert run.metrics["split"] == "holdout"
    assert run.metrics["out_of_fold"]["n"] == 6
    assert run.metrics["folds"][0]["n_train"] == 12
    assert Predictions.load(run.path / "predictions/test.parquet").fold_probs.shape == (1, 6, 3)


def with_val(data, root):
    as_folders(data, root / "train")
    for name in CLASSES:
        (root / "val" / name).mkdir(parents=True)
        (root / "train" / name / "sketch_5.png").rename(root / "val" / name / "mine.png")
    return root


def test_holdout_takes_the_datas_own_validation_part(tmp_path, data, recipe):
    run = train(recipe, "folds.split=holdout", data=with_val(data, tmp_path / "folders"), out=tmp_path / "run")
    assert sorted(out_of_fold(run).image_paths.tolist()) == [f"{name}/mine.png" for name in CLASSES]
    assert run.metrics["folds"][0]["n_train"] == 15


def test_kfold_deals_the_datas_own_validation_part_with_the_rest(tmp_path, data, recipe):
    run = train(recipe, data=with_val(data, tmp_path / "folders"), out=tmp_path / "run")
    assert run.metrics["out_of_fold"]["n"] == 18


def test_a_validation_part_of_broken_drawings_is_refused(tmp_path, data, recipe):
    root = with_val(data, tmp_path / "folders")
    for path in (root / "val").rglob("*.png"):
        break_image(path)
    with pytest.raises(DataError, match="no drawing is held out"):
        train(recipe, "folds.split=holdout", "data.on_broken=skip", data=root, out=tmp_path / "run")


def add_groups(data, group_of):
    header, *rows = read_rows(data / "train.csv")
    write_rows(data / "train.csv", [[*header, "who"], *([*row, group_of(i)] for i, row in enumerate(rows))])


def test_groups_stay_in_one_fold(tmp_path, data, recipe):
    add_groups(data, lambda i: f"사람 {i % 6}")
    folds = out_of_fold(train(recipe, "folds.group_column=who", data=data, out=tmp_path / "run")).folds
    for group in range(6):
        assert len(set(folds[group::6])) == 1
    assert len(set(folds)) == 3


def test_fewer_groups_than_folds_leave_a_fold_empty(tmp_path, data, recipe):
    add_groups(data, lambda i: i % 2)
    run = train(recipe, "folds.group_column=who", data=data, out=tmp_path / "run")
    assert run.metrics["out_of_fold"]["n"] == 18
    assert [fold["n"] for fold in run.metrics["folds"]] == [9, 9]


def test_one_group_alone_is_refused(tmp_path, data, recipe):
    add_groups(data, lambda i: "me")
    with pytest.raises(DataError, match="all drawings are held out at once"):
        train(recipe, "folds.group_column=who", data=data, out=tmp_path / "run")


def test_the_submission_has_the_tables_own_numbers(tmp_path, data, recipe):
    header, *rows = read_rows(data / "train.csv")
    numbers = {"0": "7", "1": "3", "2": "40"}
    write_rows(data / "train.csv", [header, *([name, path, numbers[target]] for name, path, target in rows)])
    run = train(recipe, data=data, out=tmp_path / "run")
    assert run.classes_ == ("fish", "apple", "house"), "by number"
    assert run.class_targets.tolist() == [3, 7, 40]
    preds = Predictions.load(run.path / "predictions/test.parquet").preds
    written = [int(row[2]) for row in read_rows(run.path / "submission.csv")[1:]]
    assert written == [[3, 7, 40][pred] for pred in preds]
    assert any("target" in warning for warning in run.manifest["warnings"])


def test_the_submission_follows_the_sample(tmp_path, data, recipe):
    rows = read_rows(data / "sample_submission.csv")[1:]
    write_rows(data / "sample_submission.csv", [["image_path", "target", "key"], *([p, 0, f"k{i}"] for i, p, _ in rows[::-1])])
    run = train(recipe, data=data, out=tmp_path / "run")
    header, *written = read_rows(run.path / "submission.csv")
    assert header == ["image_path", "target", "key"]
    assert [(path, key) for path, _, key in written] == [(path, f"k{i}") for i, path, _ in rows], "in the test table's order"
    preds = Predictions.load(run.path / "predictions/test.parquet").preds
    assert [int(target) for _, target, _ in written] == preds.tolist()


def test_the_submission_follows_a_sample_without_ids(tmp_path, data, recipe):
    rows = read_rows(data / "sample_submission.csv")
    write_rows(data / "sample_submission.csv", [row[1:] for row in rows])
    run = train(recipe, data=data, out=tmp_path / "run")
    assert read_rows(run.path / "submission.csv")[0] == ["image_path", "target"]


def test_without_a_sample_ids_count_from_zero(tmp_path, data, recipe):
    before = train(recipe, data=data, out=tmp_path / "one")
    (data / "sample_submission.csv").unlink()
    after = train(recipe, data=data, out=tmp_path / "two")
    assert (before.path / "submission.csv").read_bytes() == (after.path / "submission.csv").read_bytes()


def test_broken_drawings_of_both_tables_are_told_together(tmp_path, data, recipe):
    for name in ("train/apple/sketch_0.png", "train/house/sketch_3.png", "test/2.png"):
        break_image(data / name)
    (data / "test/4.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        train(recipe, data=data, out=tmp_path / "run")
    places = [problem.where for problem in caught.value.problems if problem.severity == "error"]
    assert sorted(places) == ["test 2.png", "test 4.png", "train apple/sketch_0.png", "train house/sketch_3.png"]
    assert "on_broken" in str(caught.value)
    assert not (tmp_path / "run/manifest.json").exists()


def test_skipping_counts_the_broken_and_still_answers_every_test_row(tmp_path, data, recipe):
    for name in ("train/apple/sketch_0.png", "train/house/sketch_3.png", "test/2.png"):
        break_image(data / name)
    run = train(recipe, "data.on_broken=skip", data=data, out=tmp_path / "run")
    assert run.metrics["data"] == {"n_train": 16, "n_test": 6, "num_classes": 3, "skipped": {"train": 2, "test": 1}}
    assert run.metrics["out_of_fold"]["n"] == 16
    rows = read_rows(run.path / "submission.csv")[1:]
    assert [row[1] for row in rows] == [f"{i}.png" for i in range(6)]
    broken = Predictions.load(run.path / "predictions/test.parquet").probs[2]
    np.testing.assert_allclose(broken, [5 / 16, 6 / 16, 5 / 16], atol=1e-6)
    assert rows[2][2] == "1", "the commonest class"


def test_missing_files_are_refused_all_together_or_skipped_and_counted(tmp_path, data, recipe):
    for name in ("train/apple/sketch_0.png", "train/fish/sketch_1.png", "test/3.png"):
        (data / name).unlink()
    with pytest.raises(DataError) as caught:
        train(recipe, data=data, out=tmp_path / "no")
    missing = [problem.where for problem in caught.value.problems if problem.kind == "missing_file"]
    assert missing == ["train.csv row 1", "train.csv row 8", "test.csv row 4"]
    assert not (tmp_path / "no").exists()
    break_image(data / "train/house/sketch_2.png")
    run = train(recipe, "data.on_broken=skip", data=data, out=tmp_path / "run")
    assert run.metrics["data"]["skipped"] == {"train": 3, "test": 1}
    assert len(read_rows(run.path / "submission.csv")) == 7
    assert len([warning for warning in run.manifest["warnings"] if "not found" in warning]) == 3


def test_a_test_part_without_one_whole_drawing_gets_the_classes_shares(tmp_path, data, recipe):
    for path in (data / "test").iterdir():
        break_image(path)
    run = train(recipe, "data.on_broken=skip", data=data, out=tmp_path / "run")
    assert run.metrics["data"]["skipped"] == {"train": 0, "test": 6}
    np.testing.assert_allclose(Predictions.load(run.path / "predictions/test.parquet").probs, 1 / 3, atol=1e-6)


def test_skipping_all_but_one_class_is_refused(tmp_path, data, recipe):
    for name in ("apple", "house"):
        for path in (data / "train" / name).iterdir():
            break_image(path)
    with pytest.raises(DataError, match="fewer than two classes"):
        train(recipe, "data.on_broken=skip", data=data, out=tmp_path / "run")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_given_test_targets_measure_the_test(tmp_path, data, recipe, elsewhere):
    labels = data / "test_labels.csv"
    if elsewhere:
        labels = labels.rename(tmp_path / "labels.csv")
    run = train(recipe, f"data.test_targets={labels if elsewhere else labels.name}", data=data, out=tmp_path / "run")
    truth = [int(row[2]) for row in read_rows(labels)[1:]]
    preds = Predictions.load(run.path / "predictions/test.parquet").preds
    assert run.metrics["test"]["accuracy"] == pytest.approx(accuracy_score(truth, preds), abs=1e-6)
    assert run.metrics["test"]["n"] == 6


def test_test_targets_change_nothing_but_the_measuring(tmp_path, data, recipe):
    with_targets = train(recipe, "data.test_targets=test_labels.csv", data=data, out=tmp_path / "one")
    without = train(recipe, data=data, out=tmp_path / "two")
    assert "test" not in without.metrics
    assert contents(with_targets.path, ["submission.csv", "heads.safetensors"]) == contents(
        without.path, ["submission.csv", "heads.safetensors"]
    )


def test_folders_without_a_test_part_give_no_submission(tmp_path, data, recipe):
    run = train(recipe, data=as_folders(data, tmp_path / "folders"), out=tmp_path / "run")
    assert files_below(run.path) == RUN_FILES - {"submission.csv", "predictions/test.parquet"}
    assert run.metrics["data"]["n_test"] == 0


def test_a_test_part_of_class_folders_is_measured(tmp_path, data, recipe):
    as_folders(data, tmp_path / "folders/train")
    for name in CLASSES:
        (tmp_path / "folders/test" / name).mkdir(parents=True)
        shutil.copy(data / "train" / name / "sketch_0.png", tmp_path / "folders/test" / name / "x.png")
    run = train(recipe, data=tmp_path / "folders", out=tmp_path / "run")
    assert run.metrics["test"]["n"] == 3


def test_class_and_file_names_of_any_script_go_through(tmp_path, data, recipe):
    root = as_folders(data, tmp_path / "그림")
    (root / "apple").rename(root / "사과, 'x'")
    run = train(recipe, data=root, out=tmp_path / "결과")
    assert run.classes_ == ("fish", "house", "사과, 'x'")
    assert any("사과" in path for path in out_of_fold(run).image_paths.tolist())
    assert "사과" in (run.path / "metrics.json").read_text(encoding="utf-8")


def test_a_class_with_fewer_drawings_than_folds_is_warned_of(tmp_path, data, recipe):
    header, *rows = read_rows(data / "train.csv")
    write_rows(data / "train.csv", [header, *rows[4:]])
    run = train(recipe, data=data, out=tmp_path / "run")
    assert len(run.manifest["warnings"]) == 1
    assert "'apple'" in run.manifest["warnings"][0]


def test_identical_files_share_a_fold(tmp_path, data, recipe):
    shutil.copy(data / "train/apple/sketch_0.png", data / "train/apple/sketch_1.png")
    found = out_of_fold(train(recipe, data=data, out=tmp_path / "run"))
    assert found.folds[0] == found.folds[1]
    assert np.array_equal(found.probs[0], found.probs[1])


def test_all_wrong_settings_are_told_before_anything_is_made(tmp_path, data, recipe):
    with pytest.raises(RecipeError) as caught:
        train(recipe, "fit.lr=0", "fold.k=3", data=data, out=tmp_path / "run")
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "run").exists()


def test_data_must_be_named(tmp_path, recipe):
    with pytest.raises(RecipeError, match="data=DIR"):
        train(recipe, out=tmp_path / "run")


def test_the_datas_folder_becomes_absolute_and_the_argument_goes_first(tmp_path, recipe, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert settle_recipe(recipe, ("data=here",)).data.root == str(tmp_path / "here")
    assert settle_recipe(recipe, ("data=here",), "there").data.root == str(tmp_path / "there")


def test_settling_leaves_the_callers_mapping_alone():
    raw = {"backbone": {"name": "resnet18"}, "fit": {"lr": 0.5}}
    settle_recipe(raw, ("fit.lr=0.1",), "x")
    assert raw == {"backbone": {"name": "resnet18"}, "fit": {"lr": 0.5}}


def test_checks_settings_are_the_recipes_own(tmp_path):
    assert check_options(tmp_path, []) == (DataOptions(), 5)
    options, k = check_options(tmp_path, ["k=3", "group_column=who", "on_broken=skip", "data.label_column=word"])
    assert (options.group_column, options.on_broken, options.label_column, k) == ("who", "skip", "word", 3)
    with pytest.raises(RecipeError, match="Did you mean 'label_column'"):
        check_options(tmp_path, ["lable_column=x"])


def test_progress_names_every_stage(tmp_path, data, recipe):
    stages = []
    train(recipe, data=data, out=tmp_path / "run", progress=lambda stage, done, total: stages.append((stage, done == total)))
    ended = [stage for stage, done in stages if done]
    assert list(dict.fromkeys(ended)) == ["reading files", "decoding", "features", "fitting heads"]


def test_the_recipe_in_the_run_holds_every_key(tmp_path, data, recipe):
    run = train(recipe, data=data, out=tmp_path / "run")
    assert load_recipe(run.path / "recipe.yaml") == run.recipe
    assert "standardise: true" in RECIPE
    assert "label_smoothing: 0.0" in (run.path / "recipe.yaml").read_text()
