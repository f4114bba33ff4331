"""The backbone that a recipe leaves open: compared on the training drawings where there is more than one to be had."""

import pytest

from inkfold.cli import main as cli
from inkfold.errors import PredictionError, RecipeError
from inkfold.models import ink_small as inksmall
from inkfold.models.weights import USUAL
from inkfold.pipeline import train as main_path
from inkfold.pipeline.build import build_plan, settle_recipe
from inkfold.pipeline.comparison import Comparison
from inkfold.pipeline.run import Run
from inkfold.pipeline.train import train
from toy import toy_data

RECIPE = {
    "backbone": {"device": "cpu", "precision": "float32"},
    "image": {"size": 32, "resize": "pad", "paper": "keep"},
    "folds": {"k": 3},
    "train_head": {"epochs": 2},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("drawings") / "data", train_per_class=16)


@pytest.fixture
def weights_of_both(tmp_path, monkeypatch, write_weights):
    """Random weights of EfficientNet-Lite0, beside those of ink-small that come with inkfold."""
    write_weights(tmp_path / f"weights/{USUAL}.safetensors", USUAL)
    monkeypatch.setenv("INKFOLD_WEIGHTS", str(tmp_path / "weights"))


@pytest.fixture
def lite0_is_better(monkeypatch):
    """Let Lite0's head be right wherever ink-small's is, and on each second drawing more."""
    real = Comparison.predict_right

    def better(self, extractor, cost, progress):
        right = real(self, extractor, cost, progress)
        if extractor.backbone.name.startswith(USUAL):
            right[:] = True
        else:
            right[::2] = False
        return right

    monkeypatch.setattr(Comparison, "predict_right", better)


def bytes_of(run):
    names = ("recipe.yaml", "metrics.json", "heads.safetensors", "submission.csv", "predictions/out_of_fold.parquet")
    return {name: (run.path / name).read_bytes() for name in names}


@pytest.mark.usefixtures("weights_of_both")
def test_ink_small_is_taken_where_lite0_is_not_better(tmp_path, data, capsys):
    assert cli.main(["train", "first", f"data={data}", f"out={tmp_path / 'run'}", "image.size=32", "folds.k=3"]) == 0
    printed = capsys.readouterr().out
    run = Run.load(tmp_path / "run")
    assert run.recipe.backbone.name == run.manifest["backbone"]["name"] == inksmall.NAME
    choice = run.metrics["backbone_choice"]
    assert choice["chosen"] == inksmall.NAME
    row = choice["compared"][USUAL]
    assert f"out of fold on {row['n']} drawings against {USUAL}" in printed
    assert row["n"] == run.metrics["learnt_by_backbone"]["new"]["n"], "it was pretrained on some of these"
    assert row["usual_accuracy"] > row["accuracy"], "random weights of Lite0"


@pytest.mark.usefixtures("weights_of_both", "lite0_is_better")
def test_lite0_is_taken_where_it_is_better_and_the_run_predicts_with_it(tmp_path, data):
    run = train(RECIPE, data=data, out=tmp_path / "run")
    assert run.recipe.backbone.name == USUAL
    assert run.manifest["backbone"]["name"].startswith(USUAL)
    row = run.metrics["backbone_choice"]["compared"][USUAL]
    assert row["distinguishable"]
    assert row["difference"] >= 0.5
    assert f"backbone: {USUAL}, +" in run.metrics["backbone_choice"]["reason"]
    named = train(RECIPE, f"backbone.name={USUAL}", data=data, out=tmp_path / "named")
    assert bytes_of(named)["heads.safetensors"] == bytes_of(run)["heads.safetensors"]
    assert "backbone_choice" not in named.metrics


@pytest.mark.usefixtures("weights_of_both", "lite0_is_better")
def test_a_run_killed_after_the_choice_ends_with_the_same_bytes_and_a_finished_one_chooses_nothing(tmp_path, data, monkeypatch):
    whole = train(RECIPE, data=data, out=tmp_path / "whole")
    real = main_path._run_stages

    def killed(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(main_path, "_run_stages", killed)
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, data=data, out=tmp_path / "killed")
    monkeypatch.setattr(main_path, "_run_stages", real)
    assert bytes_of(train(RECIPE, data=data, out=tmp_path / "killed")) == bytes_of(whole)

    monkeypatch.setattr("inkfold.pipeline.inputs.choose_backbone", None)
    assert train(RECIPE, data=data, out=tmp_path / "whole").path == whole.path
    with pytest.raises(PredictionError, match=r"backbone\.name"):
        train(RECIPE, "backbone.name=ink-small", data=data, out=tmp_path / "whole")
    assert train(RECIPE, f"backbone.name={USUAL}", data=data, out=tmp_path / "whole").path == whole.path


@pytest.mark.usefixtures("weights_of_both")
def test_another_networks_unfinished_run_is_not_taken_over(tmp_path, data, monkeypatch):
    def killed(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(main_path, "_run_stages", killed)
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, "backbone.name=test_resnet", "backbone.weights=untrained", data=data, out=tmp_path / "run")
    with pytest.raises(PredictionError, match=r"backbone\.name: is 'test_resnet' there"):
        train(RECIPE, data=data, out=tmp_path / "run")


@pytest.mark.usefixtures("weights_of_both")
@pytest.mark.parametrize(
    "settings",
    [
        ("finetune.part=all",),
        ("backbone.weights=untrained",),
        ("backbone.beside=[mobilenetv2_100]",),
        ("backbone.name=ink-small",),
    ],
)
def test_nothing_is_compared_where_frozen_features_do_not_decide_or_nothing_is_open(data, settings, monkeypatch):
    monkeypatch.setattr("inkfold.pipeline.build.resolve_backbone", lambda spec, home: spec)
    monkeypatch.setattr("inkfold.pipeline.build.build_extractor", lambda *given: type("Extractor", (), {"parts": ()}))
    plan = build_plan(settle_recipe(RECIPE, settings, data, leave_backbone=True))
    assert plan.rival is None
    assert plan.recipe.backbone.name == inksmall.NAME


def test_a_backbone_beside_itself_is_not_chosen(data):
    recipe = settle_recipe(RECIPE, ("backbone.beside=[ink-small]",), data)
    assert recipe.backbone.name == USUAL


def test_weights_without_a_name_are_refused(data):
    with pytest.raises(RecipeError, match=r"backbone\.weights: my\.safetensors are weights of a model that backbone\.name"):
        settle_recipe(RECIPE, ("backbone.weights=my.safetensors",), data)


@pytest.mark.usefixtures("weights_of_both")
def test_too_few_drawings_are_not_compared_and_the_run_says_so(tmp_path):
    data = toy_data(tmp_path / "few")
    run = train(RECIPE, data=data, out=tmp_path / "run")
    assert run.metrics["backbone_choice"]["compared"] == {}
    assert run.metrics["backbone_choice"]["reason"] == f"backbone: ink-small; too few drawings to compare it with {USUAL}"
