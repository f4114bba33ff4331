"""Fine-tuning through the main path: whatever interrupts it, it ends with the same bytes."""

import contextlib
import json
import logging
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import forks
from forks import INKFOLD, run_together
from inkfold.config.load import validate_recipe
from inkfold.errors import PredictionError, RecipeError
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.tensorboard import FOLD_EVENTS
from inkfold.features.executors import InlineExecutor
from inkfold.finetune import train_fold
from inkfold.finetune.distillation import relation_loss
from inkfold.finetune.distributed import ProcessGroup
from inkfold.finetune.plan import FinetunePlan
from inkfold.models.depthwise import DepthwiseConv2d
from inkfold.pipeline import train as pipeline
from inkfold.pipeline.run import Run
from inkfold.pipeline.train import train
from inkfold.pipeline.unfinished import early_end
from inkfold.runtime.cost import Cost
from inkfold.storage.hashing import digest_file
from inkfold.storage.sealed import read_sealed, write_sealed
from toy import (
    KILLED_AT_MOMENTS,
    RECIPE,
    RUN_FILES,
    files_below,
    free_port,
    job_of,
    read_rows,
    run_code,
    toy_recipe,
    write_rows,
)

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("warm_home")

WEIGHTS = {f"weights/fold{fold}.safetensors" for fold in range(3)}
CURVES = [FOLD_EVENTS.format(fold) for fold in range(3)]
FINETUNED = f"""{RECIPE}
finetune: {{epochs: 3, batch_size: 5, lr: 3.0e-3, ema: 0.9, mixup: 0.2, cutmix: 0.5, precision: float32, warmup_epochs: 0.5}}
curriculum:
  - {{until_epoch: 1}}
  - {{augment: ["rotate(15)", hflip@0.5]}}
"""
WHOLE = FINETUNED.replace("batch_size: 16}", "batch_size: 16, train: all, drop_path: 0.1}")
ONE = "folds.parts=1"  # one fold is trained, a third of the time, as it is beside the others
RESULTS = (
    "metrics.json",
    "curve.json",
    "submission.csv",
    "heads.safetensors",
    "predictions/test.parquet",
    *sorted(WEIGHTS),
    *CURVES,
)


class Killed(BaseException):
    """Not an Exception, so that nothing handles it."""


@pytest.fixture
def data(frozen_run):
    return frozen_run / "data"


@pytest.fixture
def recipe(tmp_path):
    return toy_recipe(tmp_path, WHOLE)


@pytest.fixture
def whole(shared_directories, frozen_run):
    """The finished run of `recipe` on `data`, which nothing interrupted."""

    def make(directory):
        train(toy_recipe(directory, WHOLE), data=frozen_run / "data", out=directory / "run")

    return Run.load(shared_directories.get("fine-tuned run", make) / "run")


def contents(out):
    return {name: (out / name).read_bytes() for name in RESULTS}


def kill_at(monkeypatch, step):
    """Die just after a step, counted over all folds."""
    real, done = train_fold.FoldTrainer._step, iter(range(10_000))

    def dying(self, *arguments):
        real(self, *arguments)
        if next(done) == step:
            raise Killed

    monkeypatch.setattr(train_fold.FoldTrainer, "_step", dying)


def test_a_run_writes_its_files_and_predicts_new_drawings_as_the_test_drawings(data, whole):
    run = whole
    assert files_below(run.path) == RUN_FILES | WEIGHTS | set(CURVES)
    assert set(CURVES) < set(run.manifest["files"])
    test = Predictions.load(run.path / "predictions/test.parquet")
    again = run.predict_fold_proba([data / "test" / path for path in test.image_paths])
    np.testing.assert_allclose(again, test.fold_probs, atol=1e-6)
    assert len({values.tobytes() for values in test.fold_probs}) == 3, "each fold has a network of its own"
    cost = json.loads((run.path / "cost.json").read_text())
    assert cost["trained"] == 3 * 3 * 12
    assert 0 <= cost["waited_for_data_fraction"] <= 1
    assert run.metrics["finetune"]["accuracy"] == pytest.approx(run.metrics["out_of_fold"]["accuracy"], abs=1e-6)
    curve = json.loads((run.path / "curve.json").read_text())["epochs"]
    assert [point["stage"] for point in curve] == [0, 1, 1]
    assert curve[0]["view"] == "identity"
    assert len({point["view"] for point in curve[1:]}) == 2, "a new view an epoch"


def test_weights_that_are_gone_changed_or_outside_the_run_are_refused(tmp_path, whole):
    run = Run.load(shutil.copytree(whole.path, tmp_path / "run"))
    weights, manifest = run.path / "weights/fold1.safetensors", run.path / "manifest.json"
    whole, content = weights.read_bytes(), read_sealed(manifest, must_be_sealed=True)
    weights.write_bytes(whole[:-1] + b"x")
    with pytest.raises(PredictionError, match=r"fold1\.safetensors: is missing or not as it was written"):
        Run.load(run.path)
    weights.write_bytes(whole)
    write_sealed(manifest, {**content, "tuned": ["../elsewhere.safetensors", *content["tuned"]]})
    with pytest.raises(PredictionError, match=r"its files don't name \.\./elsewhere\.safetensors"):
        Run.load(run.path)


def test_each_folds_curve_can_be_read_while_it_is_trained(tmp_path, data, recipe):
    curve_bytes = []

    def watch(stage, done, total):
        if stage == "fine-tuning fold 1":
            path = tmp_path / "run" / CURVES[0]
            curve_bytes.append(path.stat().st_size if path.is_file() else 0)

    train(recipe, ONE, data=data, out=tmp_path / "run", progress=watch)
    sizes = sorted({*curve_bytes})
    assert len(sizes) == 3, "nothing, one epoch, two; the third is written after its last step"
    assert curve_bytes == sorted(curve_bytes)
    assert sizes[0] == 0
    assert (tmp_path / "run" / CURVES[0]).stat().st_size > sizes[2]


def test_depthwise_convolutions_are_trained_quickly_on_a_cpu(tmp_path, data, recipe, monkeypatch):
    real, found = train_fold.FoldTrainer._step, []

    def watch(self, *arguments):
        found.append(sum(isinstance(module, DepthwiseConv2d) for module in self.train_state.network.backbone.modules()))
        real(self, *arguments)
        raise Killed

    monkeypatch.setattr(train_fold.FoldTrainer, "_step", watch)
    with pytest.raises(Killed):
        train(recipe, "backbone.name=test_efficientnet", data=data, out=tmp_path / "run")
    assert found[0] > 0


def test_a_run_killed_after_several_steps_ends_with_the_same_bytes(tmp_path, data, recipe, whole, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "inkfold.finetune")
    monkeypatch.setattr(train_fold, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(train_fold, "CHECKPOINT_SHARE", 1e9)
    for step in (1, 3, 4, 2):  # each counted from the step that was lost: within epochs, in the first and last, of two folds
        with monkeypatch.context() as patched:
            kill_at(patched, step)
            with pytest.raises(Killed):
                train(recipe, data=data, out=tmp_path / "killed")
    continued = train(recipe, data=data, out=tmp_path / "killed")
    assert contents(continued.path) == contents(whole.path)
    trained = [json.loads((run.path / "cost.json").read_text())["trained"] for run in (whole, continued)]
    assert trained[1] < trained[0]
    resumed = [line.partition(" after ")[2] for line in caplog.messages if line.startswith("fold 0: continues")]
    assert resumed[:3] == ["0 epochs and 1 steps", "1 epochs and 1 steps", "2 epochs and 2 steps"]


def test_a_process_killed_at_random_moments_ends_with_the_same_bytes(tmp_path, data, recipe, whole):
    out = tmp_path / "killed"
    run_code(KILLED_AT_MOMENTS, recipe, data, out, 0.4, 1.0)
    continued = train(recipe, data=data, out=out)
    for name in WEIGHTS:
        expected, got = load_file(whole.path / name), load_file(continued.path / name)
        assert all(np.array_equal(got[tensor], values) for tensor, values in expected.items())


def test_batches_of_another_micro_size_agree_where_nothing_depends_on_a_batchs_company(tmp_path, data):
    text = RECIPE.replace("name: test_resnet", "name: test_vit, train: all").replace("size: 32", "size: 160")
    recipe = toy_recipe(tmp_path, text)
    settings = ("finetune.epochs=1", "finetune.batch_size=6", "finetune.precision=float32", "folds.split=holdout")
    one = train(recipe, *settings, data=data, out=tmp_path / "one")
    other = train(recipe, *settings, "finetune.micro_batch=2", data=data, out=tmp_path / "other")
    expected, got = (load_file(run.path / "weights/fold0.safetensors") for run in (one, other))
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, atol=2e-4)


def test_when_memory_runs_out_the_micro_batch_is_halved_and_reported_once(tmp_path, data, recipe, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "inkfold.finetune")
    real = train_fold.FoldTrainer._loss

    def short_of_memory(self, images, labels, teacher_features):
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, images, labels, teacher_features)

    monkeypatch.setattr(train_fold.FoldTrainer, "_loss", short_of_memory)
    run = train(recipe, "folds.parts=2", "finetune.epochs=2", data=data, out=tmp_path / "run")
    notes = [text for text in run.manifest["warnings"] if "memory ran out" in text]
    assert len(notes) == 2, "once a fold"
    assert "continues with 2 drawings per forward pass" in notes[0]
    settings = "12 drawings, 6 held out; 2 epochs of 3 steps in float32, batches of 4, at most 5 drawings a forward pass"
    folds = [line for fold, note in enumerate(notes) for line in (f"fold {fold}: {settings}", note)]
    assert caplog.messages == ["fine-tuning on cpu in one process", *folds]


def test_when_memory_is_short_for_one_drawing_the_error_says_what_to_set(tmp_path, data, recipe, monkeypatch):
    def short_of_memory(self, images, labels, teacher_features):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(train_fold.FoldTrainer, "_loss", short_of_memory)
    with pytest.raises(RecipeError, match=r"fold 0: out of memory at 1 drawings per forward pass\. Set .*checkpointing=true"):
        train(recipe, data=data, out=tmp_path / "run")


def test_trying_whether_memory_suffices_changes_nothing(tmp_path, data, recipe, whole, monkeypatch):
    fitted = []

    def try_step(self):
        fitted.append(self.train_state.fits_memory(torch.rand(4, 3, 32, 32)))

    monkeypatch.setattr(train_fold.FoldTrainer, "_find_micro_batch", try_step)
    assert finetuned(train(recipe, "folds.parts=2", data=data, out=tmp_path / "run")) == finetuned(whole)[:2]
    assert fitted == [True] * 2, "once a fold"


def test_a_loss_that_is_not_finite_is_tried_again_once(tmp_path, data, recipe, whole, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "inkfold.finetune")
    real, calls = train_fold.FoldTrainer._accumulate, iter(range(10_000))

    def once_broken(self, *arguments):
        return float("nan") if next(calls) == 5 else real(self, *arguments)

    monkeypatch.setattr(train_fold.FoldTrainer, "_accumulate", once_broken)
    assert finetuned(train(recipe, ONE, data=data, out=tmp_path / "run")) == finetuned(whole)[:1]
    assert "fold 0: a loss or gradient was not finite; trying again from the last checkpoint" in caplog.messages


def test_a_loss_that_stays_not_finite_stops_the_run_and_names_step_rate_and_drawings(tmp_path, data, recipe, monkeypatch):
    monkeypatch.setattr(train_fold.FoldTrainer, "_accumulate", lambda self, *arguments: float("inf"))
    with pytest.raises(
        RecipeError, match=r"loss was not finite, twice: epoch 1, step 1 of 3, at the rate .*, with .*/sketch_.*png"
    ):
        train(recipe, data=data, out=tmp_path / "run")


def test_interpolation_is_chosen_on_held_out_drawings_and_its_optimism_is_reported(tmp_path, data, recipe, caplog):
    caplog.set_level(logging.INFO, "inkfold.finetune")
    run = train(recipe, "finetune.interpolate=[0,0.5,1]", "finetune.epochs=2", data=data, out=tmp_path / "run")
    way = run.metrics["finetune"]["interpolation"]
    assert way["accuracy"][way["shares"].index(way["taken"])] == max(way["accuracy"])
    assert any(line.startswith(f"took a share of {way['taken']:g} of the way") for line in caplog.messages)
    assert way["accuracy"][0] == pytest.approx(run.metrics["finetune"]["frozen_accuracy"]), "a share of 0 is the frozen run"
    assert run.metrics["finetune"]["accuracy"] == pytest.approx(max(way["accuracy"]), abs=1e-6)
    assert run.metrics["out_of_fold"]["nested"]["accuracy"] == pytest.approx(way["nested_accuracy"], abs=1e-6)
    assert run.metrics["out_of_fold"]["nested"]["accuracy_ci95"] == way["nested_accuracy_ci95"]


def test_the_start_as_the_only_share_is_the_frozen_run(tmp_path, data, recipe):
    run = train(recipe, "finetune.interpolate=[0]", "finetune.epochs=1", "curriculum=[]", data=data, out=tmp_path / "run")
    assert run.metrics["out_of_fold"]["accuracy"] == pytest.approx(run.metrics["finetune"]["frozen_accuracy"])
    frozen = train(recipe, "finetune.part=none", "curriculum=[]", "finetune.drop_path=0", data=data, out=tmp_path / "frozen")
    expected, got = (one.predict_proba(sorted((data / "test").rglob("*.png"))) for one in (frozen, run))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_killed_run_resumes_from_the_heads_that_it_started_from_although_they_are_fitted_again(
    tmp_path, data, recipe, whole, monkeypatch
):
    real = pipeline.train_heads

    def fitted_elsewhere(*arguments):
        fitted = real(*arguments)
        return replace(fitted, heads={name: values * np.float32(1 + 1e-6) for name, values in fitted.heads.items()})

    with monkeypatch.context() as patched:
        kill_at(patched, 5)
        with pytest.raises(Killed):
            train(recipe, ONE, data=data, out=tmp_path / "killed")
    monkeypatch.setattr(pipeline, "train_heads", fitted_elsewhere)
    continued = train(recipe, ONE, data=data, out=tmp_path / "killed")
    [(weights, heads, *_)], [(expected_weights, expected_heads, *_), *_] = finetuned(continued), finetuned(whole)
    assert (weights, heads) == (expected_weights, expected_heads)
    assert json.loads((continued.path / "cost.json").read_text())["trained"] < 3 * 12, "not all of it again"


def test_a_checkpoint_of_another_training_is_not_continued_and_that_is_reported(tmp_path, data, recipe, monkeypatch):
    with monkeypatch.context() as patched:
        kill_at(patched, 5)
        with pytest.raises(Killed):
            train(recipe, ONE, data=data, out=tmp_path / "run")
    monkeypatch.setattr(FinetunePlan, "identity", lambda *arguments: "another PyTorch's")
    run = train(recipe, ONE, data=data, out=tmp_path / "run")
    assert [
        text for text in run.manifest["warnings"] if text.startswith("fold 0: the checkpoint there was of another training")
    ]
    assert json.loads((run.path / "cost.json").read_text())["trained"] == 3 * 12


def test_an_unfinished_run_resumes_with_a_smaller_micro_batch(tmp_path, data, recipe, monkeypatch):
    settings = ONE, "finetune.mixup=0", "finetune.cutmix=0"
    with monkeypatch.context() as patched:
        kill_at(patched, 5)
        with pytest.raises(Killed):
            train(recipe, *settings, data=data, out=tmp_path / "run")
    sizes, real = set(), train_fold.FoldTrainer._loss

    def watch(self, images, *arguments):
        sizes.add(len(images))
        return real(self, images, *arguments)

    monkeypatch.setattr(train_fold.FoldTrainer, "_loss", watch)
    smaller = "finetune.micro_batch=2", "finetune.checkpointing=true"
    run = train(recipe, *settings, *smaller, data=data, out=tmp_path / "run")
    assert sizes == {2}
    assert "micro_batch: 2" in (run.path / "recipe.yaml").read_text()
    assert json.loads((run.path / "cost.json").read_text())["trained"] < 3 * 12, "not all of it again"
    with pytest.raises(PredictionError, match=r"finetune\.micro_batch: is 2 there, 3 now"):
        train(recipe, *settings, "finetune.micro_batch=3", "finetune.checkpointing=true", data=data, out=tmp_path / "run")


def finetuned(run):
    """What each fold of a run became: its network's file, its heads and its held-out predictions."""
    heads = load_file(run.path / "heads.safetensors")
    out_of_fold = Predictions.load(run.path / "predictions/out_of_fold.parquet")
    test = Predictions.load(run.path / "predictions/test.parquet")
    return [
        (
            (run.path / f"weights/fold{fold}.safetensors").read_bytes(),
            {name: values[fold].tobytes() for name, values in heads.items()},
            dict(zip(out_of_fold.image_paths[rows].tolist(), map(bytes, out_of_fold.probs[rows]), strict=True)),
            test.fold_probs[fold].tobytes(),
        )
        for fold in range(len(run.folds))
        for rows in [out_of_fold.folds == fold]
    ]


def test_a_few_parts_have_the_networks_that_they_have_beside_all_parts(tmp_path, data, recipe, whole):
    run = train(recipe, "folds.parts=2", data=data, out=tmp_path / "run")
    assert finetuned(run) == finetuned(whole)[:2]
    assert run.metrics["parts"] == {"held_out": 2, "of": 3, "drawings": 12}
    assert run.metrics["out_of_fold"]["n"] == 12
    test = Predictions.load(run.path / "predictions/test.parquet")
    np.testing.assert_allclose(test.probs, test.fold_probs.mean(0), atol=1e-7)
    again = run.predict_fold_proba([data / "test" / path for path in test.image_paths])
    np.testing.assert_allclose(again, test.fold_probs, atol=1e-6)


def test_a_run_whose_time_is_over_is_finished_with_the_folds_that_are_trained(tmp_path, data, recipe, whole, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        kill_at(patched, 9 + 9 + 4)  # in the third fold
        with pytest.raises(Killed):
            train(recipe, data=data, out=out)
    end = early_end(out)
    assert (end.recipe.folds.parts, end.steps_left) == (2, 0)
    run = train(end.recipe, out=out)
    assert finetuned(run) == finetuned(whole)[:2]
    assert json.loads((out / "cost.json").read_text())["trained"] == 0
    assert {path.name for path in (out / "weights").iterdir()} == {"fold0.safetensors", "fold1.safetensors"}
    assert files_below(out) == RUN_FILES | {*sorted(WEIGHTS)[:2], *CURVES[:2]}


def test_a_run_of_a_few_parts_that_was_stopped_may_hold_out_all(tmp_path, data, recipe, whole, monkeypatch):
    with monkeypatch.context() as patched:
        kill_at(patched, 9 + 4)
        with pytest.raises(Killed):
            train(recipe, "folds.parts=2", data=data, out=tmp_path / "run")
    run = train(recipe, data=data, out=tmp_path / "run")
    assert contents(run.path) == contents(whole.path)
    assert json.loads((run.path / "cost.json").read_text())["trained"] < 2 * 3 * 12 + 1, "the first fold was kept"


LONG = ("finetune.epochs=6", "finetune.schedule={kind: one_cycle}", "folds.parts=1")


def test_a_training_that_the_clock_stopped_ends_as_if_it_was_to_stop_there_from_the_beginning(
    tmp_path, data, recipe, monkeypatch
):
    out = tmp_path / "killed"
    with monkeypatch.context() as patched:
        kill_at(patched, 6)  # after two epochs of three steps
        with pytest.raises(Killed):
            train(recipe, *LONG, data=data, out=out)
    end = early_end(out, 5)
    assert (end.recipe.finetune.stop_epoch, end.steps_left) == (3, 3)
    stopped = train(end.recipe, out=out)
    expected = train(recipe, *LONG, "finetune.stop_epoch=3", data=data, out=tmp_path / "planned")
    names = ("weights/fold0.safetensors", "heads.safetensors", "curve.json", CURVES[0], "predictions/test.parquet")
    assert [(stopped.path / name).read_bytes() for name in names] == [(expected.path / name).read_bytes() for name in names]
    assert json.loads((out / "cost.json").read_text())["trained"] == 12, "one epoch"
    rates = [point["lr"] for point in json.loads((out / "curve.json").read_text())["epochs"]]
    assert len(rates) == 3
    assert rates[1] < rates[2], "the schedule is the long one's: it stands near its top"


def test_a_training_whose_rates_would_have_been_others_by_then_is_not_continued(tmp_path, data, recipe, monkeypatch):
    with monkeypatch.context() as patched:
        kill_at(patched, 6)
        with pytest.raises(Killed):
            train(recipe, *LONG, data=data, out=tmp_path / "run")
    with pytest.raises(RecipeError, match=r"stop_epoch: fold 0 was trained for 2\.0 epochs with none, .* those with 2 by then"):
        train(recipe, *LONG, "finetune.stop_epoch=2", data=data, out=tmp_path / "run")
    train(recipe, *LONG, "finetune.stop_epoch=3", data=data, out=tmp_path / "run")


def test_other_machines_find_the_trained_weights_wherever_they_run(tmp_path, data, recipe, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = []

    class Elsewhere(InlineExecutor):
        def run(self, chunks, tracker):
            files.extend(chunk.job.backbone.changes_file for chunk in chunks)
            super().run(chunks, tracker)

    train(recipe, "folds.parts=2", "finetune.epochs=1", "curriculum=[]", data=data, out="run", on=Elsewhere())
    assert {path for path in files if path} == {str(tmp_path / "run" / name) for name in sorted(WEIGHTS)[:2]}


def test_the_best_weights_so_far_stay_until_the_checkpoint_knows_of_better_ones(tmp_path, data, recipe, monkeypatch):
    real, there = train_fold.FoldTrainer._save, []

    def watch(self):
        before = sorted(path.name for path in self._directory.glob("fold*.best*"))
        real(self)
        there.append((self.fold_state.best, before))

    monkeypatch.setattr(train_fold.FoldTrainer, "_save", watch)
    monkeypatch.setattr(train_fold.FoldTrainer, "_save_if_due", lambda self: None)
    monkeypatch.setattr(train_fold, "evaluate", lambda *arguments: (0.0, np.arange(6) < len(there) + 1))
    train(recipe, "finetune.keep=best", "folds.split=holdout", data=data, out=tmp_path / "run")
    assert [best for best, _ in there] == [0, 1, 2]
    assert there[2][1] == ["fold0.best1.safetensors", "fold0.best2.safetensors"]


def test_the_best_epochs_weights_are_kept_and_their_optimism_is_reported(tmp_path, data, recipe, caplog):
    caplog.set_level(logging.INFO, "inkfold.finetune")
    run = train(recipe, "finetune.keep=best", "finetune.ema=0", data=data, out=tmp_path / "run")
    selection = run.metrics["selection"]
    assert {"epochs", "nested_accuracy", "optimism"} <= {*selection}
    kept = [f"fold {fold}: kept the weights of epoch {epoch + 1} of 3" for fold, epoch in enumerate(selection["epochs"])]
    assert [line for line in caplog.messages if "kept" in line] == kept
    assert selection["accuracy"] == pytest.approx(run.metrics["out_of_fold"]["accuracy"])
    assert run.metrics["out_of_fold"]["nested"]["accuracy"] == pytest.approx(selection["nested_accuracy"], abs=1e-6)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("finetune.precision=float16", "float16 needs a GPU, and this runs on cpu. Take auto"),
        ("finetune.part=lora", r"lora needs peft. Install it: pip install 'inkfold\[lora\]'"),
    ],
)
def test_what_this_machine_cant_do_is_refused_before_drawings_are_read(tmp_path, data, recipe, monkeypatch, setting, message):
    monkeypatch.setattr("inkfold.pipeline.build.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=message):
        train(recipe, setting, "backbone.device=cpu", data=data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": {"kind": "knn"}}, "knn can't be trained with its backbone"),
        ({"train_head": {"starts": 2}}, "has one head"),
        ({"curriculum": [{"until_epoch": 4}, {"until_epoch": 20}]}, r"the last one at finetune.epochs, 10"),
    ],
)
def test_recipes_that_cannot_be_fine_tuned_are_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        validate_recipe({"backbone": {"name": "resnet18", "train": "all"}, **changes})


VIT = RECIPE.replace("name: test_resnet", "name: test_vit, train: all").replace("size: 32", "size: 160").replace("k: 3", "k: 2")
UNEVEN = (  # 9 drawings in batches of 5 and 4, of which processes have 3, 2 and 2, 2 per forward pass; 9 are held out
    "finetune.epochs=2",
    "finetune.batch_size=5",
    "finetune.micro_batch=2",
    "finetune.precision=float32",
    "finetune.layer_decay=0.8",
    "finetune.ema=0.5",
    "folds.split=holdout",
)
# The sharded training of two processes: each writes down what share it holds and ends after some steps, each of them saved.
ENDING = """
import pathlib, sys
import torch
from inkfold.cli import main as cli
from inkfold.finetune import train_fold
from torch.distributed.tensor import DTensor
real, done = train_fold.FoldTrainer._step, iter(range(1000))
def step(self, *arguments):
    real(self, *arguments)
    if next(done) == 2:
        state = self.train_state
        tensors = [*state.network.parameters(), *state.prediction_network.parameters()]
        tensors += [one.grad for one in state._parameters] + [one["exp_avg"] for one in state._optimiser.state.values()]
        assert all(isinstance(one, DTensor) for one in tensors)
        own, whole = sum(one.to_local().numel() for one in tensors), sum(one.numel() for one in tensors)
        pathlib.Path(f"share{self.process_group.rank}.txt").write_text(f"{own / whole:.1f}")
        torch.distributed.barrier()  # else the other process might fail at its next exchange
        sys.exit(9)
train_fold.FoldTrainer._step, train_fold.CHECKPOINT_S, train_fold.CHECKPOINT_SHARE = step, 0.0, 1e9
sys.exit(cli.main(sys.argv[1:]))
"""

# Two processes, of which the second has memory for two drawings at once.
SHORT = """
import sys
import torch
from inkfold.cli import main as cli
from inkfold.finetune import network
real = network.Network.forward
def forward(self, images):
    if torch.distributed.get_rank() == 1 and self.training and len(images) > 2:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return real(self, images)
network.Network.forward = forward
sys.exit(cli.main(sys.argv[1:]))
"""


def two_processes(code, *arguments):
    """Run code in two processes that train together. FSDP warns of how it is used, and warnings are errors in the parent."""
    code = f"import warnings; warnings.simplefilter('default')\n{code}"
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    done = run_together(*(job_of(code, *arguments, **place, RANK=str(rank)) for rank in range(2)))
    return [one.returncode for one in done], "\n".join(one.stderr[-3000:] for one in done)


TORCHRUN = (
    "import runpy, warnings; warnings.simplefilter('default'); runpy.run_module('torch.distributed.run', run_name='__main__')"
)


def by_torchrun(*arguments):
    """Run the command line in two forks, each for a process that PyTorch's launcher starts."""
    place = ["--nproc-per-node=2", "--master-addr=127.0.0.1", f"--master-port={free_port()}", "--no-python"]
    [done] = run_together(job_of(TORCHRUN, *place, sys.executable, forks.__file__, *arguments))
    return [done.returncode], done.stderr[-3000:]


def assert_equal_weights(run, other):
    expected, got = (load_file(path / "weights/fold0.safetensors") for path in (run, other))
    assert expected.keys() == got.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, atol=2e-4)


@pytest.fixture
def uneven(tmp_path):
    return toy_recipe(tmp_path, VIT)


@pytest.fixture
def alone(shared_directories, data):
    """The run of `uneven` that one process trained by itself."""

    def make(directory):
        train(toy_recipe(directory, VIT), *UNEVEN, data=data, out=directory / "run")

    return Run.load(shared_directories.get("uneven batches", make) / "run")


def test_two_processes_train_as_one_does(tmp_path, data, uneven, alone):
    arguments = ["train", uneven, f"data={data}", *UNEVEN]
    for shard, run, *start in (("none", by_torchrun), ("full", two_processes, INKFOLD)):
        codes, output = run(*start, *arguments, f"finetune.shard={shard}", f"out={tmp_path / shard}")
        assert not any(codes), output
        assert_equal_weights(alone.path, tmp_path / shard)
        curves = [json.loads((run / "curve.json").read_text())["epochs"] for run in (alone.path, tmp_path / shard)]
        for expected, got in zip(*curves, strict=True):
            assert got.pop("view") == expected.pop("view")
            assert got == pytest.approx(expected, rel=1e-4)


def test_where_one_of_two_processes_has_too_little_memory_both_take_fewer_drawings_at_once(tmp_path, data):
    recipe, settings = toy_recipe(tmp_path, VIT), ["finetune.batch_size=9", UNEVEN[0], *UNEVEN[3:]]
    codes, output = two_processes(SHORT, "train", recipe, f"data={data}", *settings, f"out={tmp_path / 'run'}")
    assert codes == [0, 0], output
    run = Run.load(tmp_path / "run")
    assert [text for text in run.manifest["warnings"] if "memory ran out; continues with 2 drawings per forward pass" in text]
    assert_equal_weights(train(recipe, *settings, data=data, out=tmp_path / "alone").path, run.path)


def test_a_sharded_training_that_ended_early_resumes_in_one_process_without_shards(tmp_path, data, uneven, alone, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = [*UNEVEN, "finetune.shard=full"]
    codes, output = two_processes(ENDING, "train", uneven, f"data={data}", *settings, f"out={tmp_path / 'run'}")
    shares = {path.name: path.read_text() for path in tmp_path.glob("share*.txt")}
    assert shares == {"share0.txt": "0.5", "share1.txt": "0.5"}, output
    assert codes == [9, 9]
    continued = train(uneven, *settings, data=data, out=tmp_path / "run")
    assert_equal_weights(alone.path, continued.path)
    trained = [json.loads((run.path / "cost.json").read_text())["trained"] for run in (alone, continued)]
    assert trained == [18, 9], "the second epoch alone; the first was done by two"


def test_batches_too_small_for_all_processes_are_refused_instead_of_waited_for(tmp_path, data, recipe, monkeypatch):
    many = contextlib.nullcontext(ProcessGroup(0, 7, torch.device("cpu")))
    monkeypatch.setattr("inkfold.finetune.distributed.joined_processes", lambda device: many)
    monkeypatch.setattr(ProcessGroup, "wait", lambda self: None)
    with pytest.raises(RecipeError, match=r"finetune\.batch_size: 7 processes can't share batches of 4 drawings"):
        train(recipe, data=data, out=tmp_path / "run")


@pytest.fixture
def distilled(tmp_path, frozen_run):
    """A recipe with a teacher: a finished run of its own."""
    text = FINETUNED.replace("batch_size: 16}", "batch_size: 16, train: all}").replace(
        "mixup: 0.2, cutmix: 0.5", f"teacher: {frozen_run / 'run'}"
    )
    return toy_recipe(tmp_path, text)


def test_a_distilled_network_finds_drawings_alike_as_its_teacher_does(tmp_path, data, distilled, frozen_run, own_home):
    digests = np.array([digest_file(path).encode() for path in sorted((data / "train").rglob("*.png"))])

    def features(run):
        return torch.from_numpy(run.extractors()[0][0].extract(digests, Cost()).read()).float()

    shutil.copytree(frozen_run / "home", own_home)
    teacher = features(Run.load(frozen_run / "run"))
    far = train(distilled, "finetune.teacher=null", "folds.split=holdout", data=data, out=tmp_path / "alone")
    near = train(distilled, "finetune.teacher_weight=10", "folds.split=holdout", data=data, out=tmp_path / "distilled")
    losses = [relation_loss(features(run), teacher).item() for run in (near, far)]
    assert losses[0] < 0.9 * losses[1]
    assert json.loads((near.path / "cost.json").read_text())["seconds"]["teacher"] > 0


def test_a_killed_run_with_a_teacher_ends_with_the_same_bytes(tmp_path, data, distilled, monkeypatch):
    whole = train(distilled, ONE, data=data, out=tmp_path / "whole")
    monkeypatch.setattr(train_fold, "CHECKPOINT_S", 0.0)
    with monkeypatch.context() as patched:
        kill_at(patched, 4)
        with pytest.raises(Killed):
            train(distilled, ONE, data=data, out=tmp_path / "killed")
    assert finetuned(train(distilled, ONE, data=data, out=tmp_path / "killed")) == finetuned(whole)


def test_a_teacher_that_is_no_finished_run_is_refused(tmp_path, data, distilled):
    with pytest.raises(PredictionError, match="no such directory"):
        train(distilled, f"finetune.teacher={tmp_path / 'nowhere'}", data=data, out=tmp_path / "run")
    with pytest.raises(RecipeError, match="saw whole drawings"):
        train(distilled, "finetune.mixup=0.2", data=data, out=tmp_path / "run")


def test_purged_drawings_are_not_trained_on(tmp_path, data):
    own = tmp_path / "data"
    shutil.copytree(data, own)
    header, *rows = read_rows(own / "train.csv")
    write_rows(own / "train.csv", [[*header, "who"], *([*row, i % 6] for i, row in enumerate(rows))])
    column = header.index("image_path")
    shutil.copy(own / "train" / rows[0][column], own / "train" / rows[1][column])  # one drawing of two people
    grouped = ("folds.group_column=who", "folds.group_duplicates=false", "finetune.epochs=1", "curriculum=[]")
    run = train(toy_recipe(tmp_path, WHOLE), *grouped, data=own, out=tmp_path / "run")
    assert run.metrics["purged"] == 2
    assert sorted(fold["n_train"] for fold in run.metrics["folds"]) == [11, 11, 12]
    assert json.loads((run.path / "cost.json").read_text())["trained"] == 11 + 11 + 12
