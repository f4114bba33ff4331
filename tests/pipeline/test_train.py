import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score

from inkfold.augment.views import IDENTITY, View
from inkfold.config.load import load_recipe, validate_recipe
from inkfold.config.operations import parse_operations
from inkfold.data.dataset import DataOptions
from inkfold.errors import DataError, PredictionError, RecipeError
from inkfold.evaluation.decision import Decision, DecisionChoice
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.score_figures import metric_figures
from inkfold.features.executors import open_executor
from inkfold.finetune.distributed import ProcessGroup
from inkfold.pipeline import transductive
from inkfold.pipeline.build import build_curriculum, check_options, settle_recipe
from inkfold.pipeline.finetuning import train_where_started
from inkfold.pipeline.run import Run, write_predictions
from inkfold.pipeline.train import train
from inkfold.runtime.progress import silent
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
    with_copies,
    write_rows,
)
from toy_bank import shard_files
from toy_results import RESULTS, SAME, VIEWS, contents

# As they are, flipped, flipped and turned, and two draws of the last stage. Flipped or not is no view of its own.
TRAIN_VIEWS, TEST_VIEWS = 5, 3
VIEWS_FORWARDS = 18 * TRAIN_VIEWS + 6 * TEST_VIEWS


def cost(run):
    return json.loads((run.path / "cost.json").read_text())


def out_of_fold(run):
    return Predictions.load(run.path / "predictions/out_of_fold.parquet")


def test_a_run_leaves_exactly_its_files(plain):
    run = plain
    assert files_below(run.path) == RUN_FILES
    assert {*run.manifest["files"], "manifest.json"} == RUN_FILES
    assert run.manifest["members"] == ["fold 0", "fold 1", "fold 2"]
    assert run.classes_ == CLASSES


def test_two_runs_give_the_same_bytes(tmp_path, data, recipe, plain, plain_features, monkeypatch):
    first = plain
    again = train(recipe, data=data, out=tmp_path / "two")
    monkeypatch.setenv("INKFOLD_HOME", str(tmp_path / "other home"))
    fresh = train(recipe, data=data, out=tmp_path / "three")
    assert contents(first.path) == contents(again.path) == contents(fresh.path)
    forwards = [json.loads((run.path / "cost.json").read_text())["forwards"] for run in (first, again, fresh)]
    assert forwards == [24, 0, 24]


def test_where_features_are_computed_is_no_part_of_a_run(tmp_path, frozen_run, with_views, viewed, viewed_run, own_home):
    inline, data = viewed, frozen_run / "data"
    pooled = train(with_views, data=data, out=tmp_path / "pooled", on="pool:1")
    assert contents(pooled.path, (*RESULTS, "recipe.yaml")) == contents(inline.path, (*RESULTS, "recipe.yaml"))
    assert cost(pooled)["forwards"] == cost(inline)["forwards"] == VIEWS_FORWARDS
    assert shard_files(own_home) == shard_files(viewed_run / "home")
    assert train(with_views, data=data, out=tmp_path / "pooled", on="inline").manifest == pooled.manifest, "continued elsewhere"


def test_an_unknown_place_for_features_is_reported_before_anything_is_read(tmp_path, recipe):
    with pytest.raises(RecipeError, match=r"on: got 'moon', expected inline, pool"):
        train(recipe, data=tmp_path / "no data", out=tmp_path / "run", on="moon")
    assert not (tmp_path / "run").exists()


def test_row_order_changes_nothing(tmp_path, data, recipe):
    first = train(recipe, data=data, out=tmp_path / "one")
    header, *rows = read_rows(data / "train.csv")
    order = np.random.default_rng(0).permutation(len(rows))
    write_rows(data / "train.csv", [header, *(rows[i] for i in order)])
    again = train(recipe, data=data, out=tmp_path / "two")
    assert contents(first.path) == contents(again.path)
    assert train(recipe, data=data, out=tmp_path / "one").manifest == first.manifest, "no other data"


def test_the_seed_changes_the_folds(tmp_path, data, recipe, plain):
    first = out_of_fold(plain)
    second = out_of_fold(train(recipe, "seed=43", data=data, out=tmp_path / "two"))
    assert not np.array_equal(first.folds, second.folds)


def test_a_finished_run_is_returned_without_any_work(tmp_path, data, recipe, own_home, monkeypatch, pipeline_log):
    first = train(recipe, data=data, out=tmp_path / "run")
    assert (
        "split kfold: each of 3 parts is held out by one fold; files of equal bytes, copies of a drawing stay in one part"
        in (pipeline_log())
    )
    before = {name: (first.path / name).stat().st_mtime_ns for name in RUN_FILES}
    shutil.rmtree(own_home)
    monkeypatch.setattr("inkfold.models.backbone.Backbone.__init__", None)
    monkeypatch.setattr("inkfold.storage.pixels.square_of", None)
    again = train(recipe, data=data, out=tmp_path / "run")
    assert pipeline_log() == [f"{tmp_path / 'run'}: is finished, and is returned as it is"]
    assert again.manifest == first.manifest
    assert {name: (first.path / name).stat().st_mtime_ns for name in RUN_FILES} == before
    assert files_below(first.path) == RUN_FILES


def test_a_run_without_its_manifest_is_finished_from_the_bank(tmp_path, data, recipe, pipeline_log):
    first = contents(train(recipe, data=data, out=tmp_path / "run").path)
    (tmp_path / "run/manifest.json").unlink()
    (tmp_path / "run/submission.csv").unlink()
    assert contents(train(recipe, data=data, out=tmp_path / "run").path) == first
    assert json.loads((tmp_path / "run/cost.json").read_text())["forwards"] == 0
    assert f"{tmp_path / 'run'}: holds an unfinished run, which is continued" in pipeline_log()


def test_another_head_on_the_same_features_needs_no_forward(tmp_path, data, recipe, plain_features):
    run = train(recipe, "head={kind: mlp, hidden: [5], activation: gelu}", data=data, out=tmp_path / "two")
    assert json.loads((run.path / "cost.json").read_text())["forwards"] == 0
    assert run.heads["layers.1.weight"].shape == (3, 5, 3)


def test_each_view_costs_one_forward_a_drawing_and_settled_views_share_them(viewed):
    costs = cost(viewed)
    assert (costs["forwards"], costs["forwards_cached"], costs["decoded"]) == (VIEWS_FORWARDS, 0, 24)


def test_other_heads_folds_and_rates_on_the_same_views_need_no_forward(tmp_path, data, with_views, viewed_features):
    changes = [
        "head={kind: mlp, hidden: [5]}",
        "folds.k=2",
        "train_head.lr=0.1",
        "curriculum=null",
        "tta=[hflip]",
        "train_head.scaling=none",
    ]
    for i, change in enumerate(changes):
        assert cost(train(with_views, change, data=data, out=tmp_path / f"other {i}"))["forwards"] == 0
    assert cost(train(with_views, data=data, out=tmp_path / "again"))["forwards_cached"] == VIEWS_FORWARDS


def test_a_larger_pool_costs_its_new_views_only(tmp_path, data, with_views, viewed_features):
    with_views.write_text(VIEWS.replace("views: 2", "views: 3"))
    assert cost(train(with_views, data=data, out=tmp_path / "two"))["forwards"] == 18


def test_copies_cost_one_forward_a_view(tmp_path, data, with_views):
    shutil.copy(data / "train/apple/sketch_0.png", data / "train/apple/sketch_1.png")
    shutil.copy(data / "train/fish/sketch_2.png", data / "test/4.png")
    forwards = cost(train(with_views, data=data, out=tmp_path / "run"))["forwards"]
    assert forwards == VIEWS_FORWARDS - TRAIN_VIEWS - TEST_VIEWS


def test_two_runs_with_views_give_the_same_bytes(tmp_path, data, with_views, viewed, viewed_features, monkeypatch):
    first = viewed
    again = train(with_views, data=data, out=tmp_path / "two")
    monkeypatch.setenv("INKFOLD_HOME", str(tmp_path / "other home"))
    header, *rows = read_rows(data / "train.csv")
    write_rows(data / "train.csv", [header, *rows[::-1]])
    fresh = train(with_views, data=data, out=tmp_path / "three")
    assert contents(first.path) == contents(again.path)
    assert contents(first.path, SAME) == contents(fresh.path, SAME)
    assert files_below(first.path) == RUN_FILES


def test_every_epoch_trains_on_its_own_view(tmp_path, data, with_views, monkeypatch):
    from inkfold.heads import fit

    real, epochs, factors = fit.fit_trials, [], []

    def watched(lessons, *arguments, **options):
        epochs.extend([lessons.features, *(lessons.augmented.features(epoch) for epoch in range(6))])
        factors.extend(lessons.augmented.lr_factors)
        return real(lessons, *arguments, **options)

    monkeypatch.setattr(fit, "fit_trials", watched)
    train(with_views, data=data, out=tmp_path / "run")
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5]
    plain, first, second, third, *last = epochs
    np.testing.assert_array_equal(first, plain)
    assert not np.array_equal(second, third), "other drawings are flipped"
    np.testing.assert_array_equal(last[0], last[2])
    for other in (last[1], plain, second):
        assert (last[0] == other).all(1).mean() < 0.5


def test_a_curriculum_changes_the_heads_and_test_time_views_do_not(tmp_path, data, with_views, viewed, viewed_features):
    others = [train(with_views, change, data=data, out=tmp_path / change) for change in ("tta=[]", "curriculum=[]")]
    heads, without_views, without_curriculum = (contents(run.path, ["heads.safetensors"]) for run in (viewed, *others))
    assert heads == without_views != without_curriculum


def test_predictions_are_the_mean_over_the_test_time_views(tmp_path, data, with_views, viewed, viewed_features):
    def probs(tta):
        return probs_of(train(with_views, f"tta={tta}", data=data, out=tmp_path / f"run {tta}"))

    def probs_of(run):
        test = Predictions.load(run.path / "predictions/test.parquet")
        return out_of_fold(run).probs, test.probs, test.fold_probs

    each = [probs(tta) for tta in ("[identity]", "[hflip]", "['hflip + rotate(5,5)']")]
    for together, *alone in zip(probs_of(viewed), *each, strict=True):
        np.testing.assert_allclose(together, np.mean(alone, 0), atol=1e-6)
        assert not np.allclose(alone[0], alone[1], atol=1e-4)
    for without, same in zip(probs("[]"), each[0], strict=True):
        assert np.array_equal(without, same)


@pytest.mark.parametrize(
    "tta", ["[identity, hflip, 'hflip + rotate(5,5)']", "['rotate(15)@0.5', 'rotate(15) + noise(9)', identity]"]
)
def test_a_loaded_run_predicts_the_test_drawings_as_training_did_under_the_same_views(tmp_path, data, with_views, tta):
    path = train(with_views, f"tta={tta}", data=data, out=tmp_path / "run").path
    expected = Predictions.load(path / "predictions/test.parquet").probs
    files = [data / "test" / f"{i}.png" for i in range(6)]
    run = Run.load(path)
    np.testing.assert_allclose(run.predict_proba(files), expected, atol=1e-6)
    np.testing.assert_allclose(run.predict_proba(files[4]), expected[4:5], atol=1e-6)


def test_a_broken_test_drawing_gets_the_classes_shares_under_test_time_views_too(tmp_path, data, with_views):
    break_image(data / "test/2.png")
    run = train(with_views, "data.on_broken=skip", data=data, out=tmp_path / "run")
    probs = Predictions.load(run.path / "predictions/test.parquet").probs
    np.testing.assert_allclose(probs[2], 1 / 3, atol=1e-6)
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)


def test_pixels_may_be_stored_larger_than_the_backbone_takes_them(tmp_path, data, with_views, viewed):
    run = train(with_views, "image.stored_size=48", data=data, out=tmp_path / "run")
    assert cost(run)["forwards"] == VIEWS_FORWARDS
    expected = Predictions.load(run.path / "predictions/test.parquet").probs
    np.testing.assert_allclose(run.predict_proba([data / "test" / f"{i}.png" for i in range(6)]), expected, atol=1e-6)
    assert contents(run.path) != contents(viewed.path)


def test_the_winners_curriculum_is_5_epochs_as_they_are_5_and_10_with_a_view_each():
    curriculum = build_curriculum(validate_recipe({"backbone": {"name": "x"}, "curriculum": "winner", "seed": 7}))
    flips = parse_operations(["hflip@0.5", "vflip@0.5", "rotate(10)@0.5"])
    warps = parse_operations(["hflip@0.5", "vflip@0.5", "rotate(15)@0.5", "elastic(30,4)@0.5", "grid(4,0.2)@0.5"])
    views = [curriculum.view(epoch) for epoch in range(curriculum.epochs)]
    assert views == [IDENTITY] * 5 + [View(flips, 7, i) for i in range(5)] + [View(warps, 7, i) for i in range(10)]
    assert len(curriculum.views()) == 16


def test_without_a_curriculum_all_epochs_train_on_drawings_as_they_are():
    curriculum = build_curriculum(validate_recipe({"backbone": {"name": "x"}, "train_head": {"epochs": 3}}))
    assert curriculum.epochs == 3
    assert curriculum.views() == (IDENTITY,)
    assert curriculum.lr_factors() == [1.0, 1.0, 1.0]


def test_added_drawings_cost_their_own_forwards_only(tmp_path, recipe, plain_features):
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


def test_holdout_holds_one_part_out(tmp_path, data, recipe, plain_features):
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


def test_holdout_takes_the_datas_own_validation_part(tmp_path, data, recipe, pipeline_log):
    run = train(recipe, "folds.split=holdout", data=with_val(data, tmp_path / "folders"), out=tmp_path / "run")
    assert "split holdout: the data's own val/ is held out" in pipeline_log()
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


def test_groups_stay_in_one_fold(tmp_path, data, recipe, plain_features):
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
    with pytest.raises(DataError, match=r"18 drawings are in one group, 'me', by `folds\.group_column=who`; all drawings"):
        train(recipe, "folds.group_column=who", data=data, out=tmp_path / "run")


def test_broken_drawings_of_both_tables_are_reported_together(tmp_path, data, recipe):
    for name in ("train/apple/sketch_0.png", "train/house/sketch_3.png", "test/2.png"):
        break_image(data / name)
    (data / "test/4.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        train(recipe, data=data, out=tmp_path / "run")
    places = [problem.where for problem in caught.value.problems if problem.severity == "error"]
    assert sorted(places) == ["test 2.png", "test 4.png", "train apple/sketch_0.png", "train house/sketch_3.png"]
    assert "on_broken" in str(caught.value)
    assert not (tmp_path / "run/manifest.json").exists()


def test_skipping_counts_the_broken_and_the_blank_and_still_predicts_every_test_row(tmp_path, data, recipe, pipeline_log):
    for name in ("train/apple/sketch_0.png", "train/house/sketch_3.png", "test/2.png"):
        break_image(data / name)
    Image.new("L", (48, 48), 255).save(data / "test/5.png")
    run = train(recipe, "data.on_broken=skip", data=data, out=tmp_path / "run")
    assert "1 blank test drawing(s), whose predictions mean nothing: 5.png" in run.manifest["warnings"]
    assert "3 broken drawings are left out: data.on_broken is skip" in pipeline_log()
    assert run.metrics["data"] == {
        "n_train": 16,
        "n_test": 6,
        "num_classes": 3,
        "skipped": {"train": 2, "test": 1},
        "blank": {"train": 0, "test": 1},
    }
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


def test_test_targets_change_nothing_but_the_measuring(tmp_path, data, recipe, plain, plain_features):
    with_targets = train(recipe, "data.test_targets=test_labels.csv", data=data, out=tmp_path / "one")
    without = plain
    assert "test" not in without.metrics
    assert contents(with_targets.path, ["submission.csv", "heads.safetensors"]) == contents(
        without.path, ["submission.csv", "heads.safetensors"]
    )


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
    predictions = out_of_fold(train(recipe, data=data, out=tmp_path / "run"))
    assert predictions.folds[0] == predictions.folds[1]
    assert np.array_equal(predictions.probs[0], predictions.probs[1])


def test_all_wrong_settings_are_reported_before_anything_is_written(tmp_path, data, recipe):
    with pytest.raises(RecipeError) as caught:
        train(recipe, "train_head.lr=0", "fold.k=3", data=data, out=tmp_path / "run")
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "run").exists()


def test_data_must_be_named(tmp_path, recipe):
    with pytest.raises(RecipeError, match="data=DIR"):
        train(recipe, out=tmp_path / "run")


def test_the_datas_folder_becomes_absolute_and_the_argument_overrides_the_recipe(tmp_path, recipe, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settled = settle_recipe(recipe, ("data=here", "backbone.weights=mine/w.safetensors"))
    assert settled.data.root == str(tmp_path / "here")
    assert settled.backbone.weights == str(tmp_path / "mine/w.safetensors")
    assert settle_recipe(recipe, ("data=here",), "there").data.root == str(tmp_path / "there")


def test_settling_leaves_the_callers_mapping_alone():
    raw = {"backbone": {"name": "resnet18"}, "train_head": {"lr": 0.5}}
    settle_recipe(raw, ("train_head.lr=0.1",), "x")
    assert raw == {"backbone": {"name": "resnet18"}, "train_head": {"lr": 0.5}}


def test_checks_settings_are_the_recipes_own(tmp_path):
    assert check_options(tmp_path, []) == (DataOptions(root=str(tmp_path)), 5)
    options, k = check_options(tmp_path, ["k=3", "group_column=who", "on_broken=skip", "data.label_column=word"])
    assert (options.group_column, options.on_broken, options.label_column, k) == ("who", "skip", "word", 3)
    with pytest.raises(RecipeError, match="Did you mean 'label_column'"):
        check_options(tmp_path, ["lable_column=x"])


def test_progress_names_every_stage(tmp_path, data, recipe):
    stages = []
    train(recipe, data=data, out=tmp_path / "run", progress=lambda stage, done, total: stages.append((stage, done == total)))
    ended = [stage for stage, done in stages if done]
    assert list(dict.fromkeys(ended)) == ["reading files", "decoding", "comparing lines", "features", "fitting heads"]


def test_the_recipe_in_the_run_holds_every_key(plain):
    run = plain
    assert load_recipe(run.path / "recipe.yaml") == run.recipe
    assert "scaling: standardise" in RECIPE
    assert "label_smoothing: 0.0" in (run.path / "recipe.yaml").read_text()


HEADS = [
    "{kind: linear}",
    "{kind: mlp, hidden: [7], norm: layer, dropout: 0.2}",
    "{kind: cosine}",
    "{kind: class_mean}",
    "{kind: knn, neighbours: 3}",
]


@pytest.mark.parametrize("head", HEADS)
def test_every_kind_of_head_makes_a_run_that_predicts_the_same_again(tmp_path, data, recipe, plain_features, head):
    run = train(recipe, f"head={head}", "train_head.starts=2", data=data, out=tmp_path / "run")
    test = Predictions.load(run.path / "predictions/test.parquet")
    files = [data / "test" / name for name in test.image_paths.tolist()]
    np.testing.assert_allclose(Run.load(run.path).predict_proba(files), test.probs, atol=1e-6)
    assert run.metrics["out_of_fold"]["n"] == 18


BESIDE = "backbone.beside=[{name: test_efficientnet, weights: untrained, features: layers, image_size: 48}]"


def test_several_backbones_under_one_head_make_a_run_that_predicts_the_same_again(tmp_path, data, recipe, plain_features):
    run = train(recipe, "backbone.features=layers", BESIDE, "tta=[identity, hflip]", data=data, out=tmp_path / "run")
    assert run.heads["layers.0.weight"].shape[1] == (96 + 32 + 32 + 48 + 192) + (256 + 16 + 24 + 32 + 48 + 64)
    assert [raw["name"] for raw in run.manifest["beside"]] == ["test_efficientnet.r160_in1k"]
    test = Predictions.load(run.path / "predictions/test.parquet")
    files = [data / "test" / name for name in test.image_paths.tolist()]
    np.testing.assert_allclose(Run.load(run.path).predict_proba(files), test.probs, atol=1e-6)
    pixels = [np.array(Image.open(file).convert("RGB")) for file in files]
    np.testing.assert_allclose(Run.load(run.path).predict_proba(pixels), test.probs, atol=1e-6)


def test_a_run_refuses_another_backbone_beside_the_first_than_it_was_trained_with(tmp_path, data, recipe, plain_features):
    run = train(recipe, BESIDE, data=data, out=tmp_path / "run")
    changed = replace(run, manifest={**run.manifest, "beside": [{**run.manifest["beside"][0], "weights_digest": "other"}]})
    with pytest.raises(PredictionError, match="not the one that this run was trained with; changed: weights_digest"):
        changed.extractors()


def test_several_starts_make_several_members_a_fold(tmp_path, data, recipe, plain_features):
    run = train(recipe, "train_head.starts=3", data=data, out=tmp_path / "run")
    assert run.manifest["members"] == [f"fold {fold}" for fold in range(3) for _ in range(3)]
    assert len(run.heads["layers.0.weight"]) == 9
    assert len(Predictions.load(run.path / "predictions/test.parquet").fold_probs) == 3


def test_training_that_diverges_is_reported_with_what_to_do(tmp_path, data, recipe, plain_features):
    diverging = (
        "train_head.lr=10",
        "train_head.optimiser=sgd",
        "train_head.weight_decay=10",
        "train_head.epochs=60",
        "train_head.scaling=none",
    )
    with pytest.raises(RecipeError, match=r"train_head\.lr: with 10 the loss was not finite in epoch \d+\. Lower it"):
        train(recipe, *diverging, data=data, out=tmp_path / "run")


def test_copies_that_named_groups_part_are_left_out_of_training_and_counted(tmp_path):
    data = toy_data(tmp_path / "data")
    with_copies(data)
    add_groups(data, lambda i: f"person {i % 6}")
    run = train(toy_recipe(tmp_path), "folds.group_column=who", data=data, out=tmp_path / "run")
    predictions, folds = out_of_fold(run), run.metrics["folds"]
    assert len(predictions.image_paths) == 18
    assert len(set(zip(predictions.groups.tolist(), predictions.folds.tolist(), strict=True))) == 6  # a fold for each person
    assert run.metrics["purged"] == sum(fold["purged"] for fold in folds) > 0
    assert all(fold["n"] + fold["n_train"] + fold["purged"] == 18 for fold in folds)
    assert "duplicates" not in run.metrics
    assert any("a copy of a held-out drawing was left out" in warning for warning in run.manifest["warnings"])


def test_copies_may_be_left_where_they_fall(tmp_path):
    data = toy_data(tmp_path / "data")
    with_copies(data)
    grouped = train(toy_recipe(tmp_path), data=data, out=tmp_path / "grouped")
    run = train(toy_recipe(tmp_path), "folds.group_duplicates=false", data=data, out=tmp_path / "run")
    assert "duplicates" not in run.metrics
    assert "duplicates" not in json.loads((run.path / "cost.json").read_text())["seconds"]
    assert run.metrics["out_of_fold"]["accuracy"] == pytest.approx(grouped.metrics["duplicates"]["parted"]["accuracy"])


def test_without_copies_nothing_is_fitted_twice(plain):
    assert "duplicates" not in plain.metrics
    assert "parted_duplicates" not in cost(plain)["seconds"]


@pytest.mark.parametrize(("on", "processes"), [("inline", 1), ("inline", 2), ("pool", 1), ("pool", 2), ("ray", 2)])
def test_processes_that_were_started_together_fine_tune_by_themselves(monkeypatch, on, processes):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "there")
    monkeypatch.setattr("inkfold.finetune.train_folds.train_folds", lambda *arguments: arguments)
    group = ProcessGroup(0, processes, torch.device("cpu"))
    with open_executor(on) as executor:
        assert train_where_started("job", group, executor, silent) == ("job", group, silent)


def test_one_process_that_computes_features_on_ray_fine_tunes_there_too(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "there")
    monkeypatch.setattr("inkfold.runtime.ray.RayConnection._connect", lambda self: "ray")
    monkeypatch.setattr("inkfold.finetune.ray_train.train_folds_on_ray", lambda *arguments: arguments)
    with open_executor("ray:3") as executor:
        alone = ProcessGroup(0, 1, torch.device("cpu"))
        assert train_where_started("job", alone, executor, silent) == ("ray", "job", 3, silent)


def test_a_finished_run_whose_submission_is_asked_for_in_another_form_says_so(
    tmp_path, data, recipe, plain_features, pipeline_log
):
    run = train(recipe, data=data, out=tmp_path / "run")
    train(recipe, data=data, out=tmp_path / "run")
    assert not any("another form" in message for message in pipeline_log())
    (data / "sample_submission.csv").write_text("id,label\n" + "".join(f"{i},fish\n" for i in range(6)))
    again = train(recipe, data=data, out=tmp_path / "run", progress=silent)
    assert again.manifest == run.manifest
    assert any("its submission has another form than the data ask for now" in message for message in pipeline_log())


def test_a_rule_gives_the_runs_answers_wherever_one_class_is_answered(tmp_path, data, recipe, plain_features, monkeypatch):
    rule = Decision("weighted", (1.0, 1e6, 1.0))

    def always_fish(metric, predictions):
        figures = metric_figures(metric, predictions.probs, predictions.targets)
        gain = {"difference": 0.1, "difference_ci95": [0.0, 0.2], "p_value": 0.04, "distinguishable": True}
        preds = np.ones(len(predictions.probs), np.int64)
        return DecisionChoice(rule, preds, {"used": True, "rule": "x", "most_probable": figures, "nested": figures, **gain})

    monkeypatch.setattr("inkfold.pipeline.train.choose_decision", always_fish)
    run = train(recipe, "metric=macro_f1", "data.test_targets=test_labels.csv", data=data, out=tmp_path / "run")
    assert run.decision == Run.load(run.path).decision == rule
    out_of_fold, test = run.files.out_of_fold, run.files.test
    assert out_of_fold.preds.tolist() == [1] * 18
    assert test.preds.tolist() == [1] * 6
    for part, predictions in (("out_of_fold", out_of_fold), ("test", test)):
        figures = run.metrics[part]
        expected = f1_score(predictions.targets, predictions.preds, average="macro")
        assert figures["metric"]["value"] == pytest.approx(expected, abs=1e-6)
        assert figures["accuracy"] == pytest.approx(1 / 3, abs=1e-6)
    assert {row[-1] for row in read_rows(run.path / "submission.csv")[1:]} == {str(run.class_targets[1])}
    assert run.predict(data / "test") == ["fish"] * 6
    write_predictions(tmp_path / "p.csv", ["a"], np.array([[0.9, 0.05, 0.05]], np.float32), run)
    assert read_rows(tmp_path / "p.csv")[1][:4] == ["a", "fish", str(run.class_targets[1]), "0.050000"]


def test_epochs_are_kept_by_the_recipes_metric(tmp_path, data, recipe, plain_features):
    run = train(recipe, "train_head.keep=best", "metric=log_loss", data=data, out=tmp_path / "run")
    chosen = run.metrics["selection"]["metric"]
    assert chosen["value"] == pytest.approx(run.metrics["out_of_fold"]["metric"]["value"], abs=1e-5)
    assert chosen["optimism"] == pytest.approx(chosen["nested"] - chosen["value"])
    assert run.decision is None
    assert run.metrics["metric"] == {"name": "log_loss", "title": "log loss", "greater_is_better": False}


def test_a_metric_that_does_not_suit_the_classes_is_refused_before_anything_is_written(tmp_path, data, recipe):
    with pytest.raises(RecipeError, match="metric: top_3 is 1 whatever is answered, as there are 3 classes"):
        train(recipe, "metric=top_3", data=data, out=tmp_path / "run")
    with pytest.raises(RecipeError, match="quadratic_kappa is for classes in an order"):
        train(recipe, "metric=quadratic_kappa", data=as_folders(data, tmp_path / "folders"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_class_prior_corrects_test_and_new_drawings_and_no_held_out_ones(tmp_path, data, recipe, plain, plain_features):
    (data / "prior.csv").write_text("class_name,share\nhouse,3\nfish,0\napple,1\n")
    run = train(recipe, "predict.prior=prior.csv", data=data, out=tmp_path / "run")
    expected = plain.files.test.fold_probs * [1, 0, 3]  # each class has a third of the training drawings
    expected /= expected.sum(2, keepdims=True)
    np.testing.assert_allclose(run.files.test.fold_probs, expected, atol=1e-6)
    np.testing.assert_allclose(run.predict_fold_proba(data / "test"), expected, atol=1e-4)
    kept = ("predictions/out_of_fold.parquet", "heads.safetensors")
    assert contents(run.path, kept) == contents(plain.path, kept)
    assert run.metrics["prior"] == run.manifest["prior"]
    assert run.metrics["prior"]["shares"] == [0.25, 0.0, 0.75]


def test_a_prior_of_other_classes_is_refused_before_anything_is_computed(tmp_path, data, recipe):
    (data / "prior.csv").write_text("class_name,share\nhouse,3\n")
    with pytest.raises(DataError, match="has no row for 2 of 3 classes"):
        train(recipe, "predict.prior=prior.csv", data=data, out=tmp_path / "run")
    assert not (tmp_path / "run/cost.json").exists()


def test_label_propagation_that_gains_nothing_changes_nothing_else(tmp_path, data, recipe, plain, plain_features):
    run = train(recipe, "predict.transductive=propagate", data=data, out=tmp_path / "run")
    unchanged = tuple(name for name in RESULTS if name != "metrics.json")
    assert contents(run.path, unchanged) == contents(plain.path, unchanged)
    tried = run.metrics.pop("transductive")
    assert not tried["used"]
    assert run.manifest["transductive"] == {"used": False}
    assert run.metrics == plain.metrics


def test_label_propagation_is_in_test_and_held_out_figures_and_not_in_later_predictions(
    tmp_path, data, recipe, plain, plain_features, monkeypatch
):
    monkeypatch.setattr(transductive, "is_better", lambda *_: True)
    run = train(recipe, "predict.transductive=propagate", "tta=[hflip]", data=data, out=tmp_path / "run")
    assert run.manifest["transductive"] == {"used": True}
    alone, together = run.files.out_of_fold_by_heads, run.files.out_of_fold
    assert (together.probs != alone.probs).any()
    right = {"without": alone.right.mean(), "with": together.right.mean()}
    tried, tta = run.metrics["transductive"], run.metrics["tta"]
    assert {name: tried[f"accuracy_{name}"] for name in right} == pytest.approx(right)
    assert tta["accuracy_with"] == pytest.approx(right["without"])  # each step by itself
    assert run.metrics["out_of_fold"]["accuracy"] == pytest.approx(right["with"])
    one_by_one = run.predict_fold_proba(data / "test")
    assert np.abs(one_by_one - run.files.test.fold_probs).max() > 0.01
    files = plain.files
    assert files.out_of_fold_by_heads is files.out_of_fold
