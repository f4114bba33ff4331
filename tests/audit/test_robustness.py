"""A run measured on changed drawings: what it costs, what it finds, and which command it suggests."""

import json

import numpy as np
import pytest
from PIL import Image

from inkfold.audit import photographed
from inkfold.audit import robustness as weakness
from inkfold.audit.robustness import CHANGES, add_augmentation, find_weaknesses
from inkfold.config.load import load_recipe, validate_recipe
from inkfold.errors import PredictionError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.train import train
from inkfold.storage.sealed import read_sealed
from toy import inkfold, toy_recipe

TUNED = "finetune.part=all", "finetune.epochs=1", "finetune.precision=float32"


PHOTOGRAPHS = [change.name for change in CHANGES if change.photograph]


@pytest.fixture(autouse=True)
def small_photographs(monkeypatch):
    monkeypatch.setattr(photographed, "LEAST_PX", 64)
    monkeypatch.setattr(photographed, "MOST_PX", 64)


@pytest.fixture
def trained(frozen_run):
    return frozen_run


def recipe(**changes):
    return validate_recipe({"backbone": {"name": "resnet18"}, **changes})


def wrong_under(name, real):
    """Predict every drawing rightly, but those under one view wrongly."""

    def predict(shown, prepared, views, folds, fitted):
        actual = real(shown, prepared, views, folds, fitted)
        hits = np.eye(3, dtype=np.float32)[actual.targets]
        wrong = [str(view) for view in views] == [name]
        return Predictions(
            actual.image_paths, np.roll(hits, 1, 1) if wrong else hits, actual.class_names, actual.targets, actual.folds
        )

    return predict


def test_unchanged_drawings_are_predicted_as_out_of_fold(run):
    found = find_weaknesses(run)
    assert found == read_sealed(run.path / "weakness.json", must_be_sealed=True)
    assert found["clean"]["accuracy"] == run.metrics["out_of_fold"]["accuracy"]
    assert found["clean"]["n"] == 18
    assert {row["name"] for row in found["rows"]} == {change.name for change in CHANGES}
    drops = [row["drop"] for row in found["rows"]]
    assert drops == sorted(drops, reverse=True)
    for row in found["rows"]:
        assert row["drop"] == pytest.approx(found["clean"]["accuracy"] - row["accuracy"], abs=1e-6)


def test_folds_that_keep_copies_together_are_found_again(tmp_path, data):
    for name in ("apple", "fish", "house"):
        for place in (0, 2, 4):
            pixels = np.asarray(Image.open(data / f"train/{name}/sketch_{place}.png"))
            Image.fromarray(np.ascontiguousarray(pixels[:, ::-1])).save(data / f"train/{name}/sketch_{place + 1}.png")
    run = train(toy_recipe(tmp_path), data=data, out=tmp_path / "copies")
    assert run.metrics["duplicates"]["groups"] == 9
    assert find_weaknesses(run)["clean"]["accuracy"] == run.metrics["out_of_fold"]["accuracy"]


def test_a_second_time_costs_no_forward_pass(run):
    first, second = find_weaknesses(run), find_weaknesses(run)
    assert first["cost"]["forwards"] == 18 * len(CHANGES), "unchanged drawings were in the bank"
    assert second["cost"]["forwards"] == 0
    assert first["rows"] == second["rows"]


def test_only_held_out_drawings_are_predicted(tmp_path, data):
    run = train(toy_recipe(tmp_path), "folds.split=holdout", data=data, out=tmp_path / "holdout")
    found = find_weaknesses(run)
    assert found["clean"]["n"] == 6
    assert found["cost"]["forwards"] == 6 * len(CHANGES)


def test_each_finetuned_fold_predicts_with_its_own_backbone(tmp_path, data):
    run = train(toy_recipe(tmp_path), *TUNED, data=data, out=tmp_path / "tuned")
    found = find_weaknesses(run)
    assert found["clean"]["accuracy"] == run.metrics["out_of_fold"]["accuracy"]
    assert found["cost"]["forwards"] == 18 * len(CHANGES)


def test_a_drop_that_cannot_be_chance_names_the_command_to_try(run, monkeypatch):
    monkeypatch.setattr(weakness, "predict_held_out", wrong_under("hflip", weakness.predict_held_out))
    worst, *others = find_weaknesses(run)["rows"]
    assert (worst["name"], worst["drop"], worst["significant"]) == ("mirrored", 1.0, True)
    assert worst["augmentation"] == "hflip@0.5"
    assert not any(row["significant"] or row["command"] for row in others if row["name"] not in PHOTOGRAPHS)
    *command, setting = worst["command"].split(" ", 4)
    assert command == ["inkfold", "train", f"{run.path}/recipe.yaml", f"out={run.path}-hflip"]
    again = load_recipe(run.path / "recipe.yaml", (setting.strip("'"),))
    assert [(stage.augment, stage.views) for stage in again.curriculum] == [(("hflip@0.5",), 4)]


def test_photographs_lose_accuracy_that_unchanged_drawings_keep(run):
    rows = {row["name"]: row for row in find_weaknesses(run)["rows"]}
    assert {rows[name]["n"] for name in PHOTOGRAPHS} == {18}
    assert rows["photo: pencil"]["view"] == "photograph(pencil)"
    assert max(rows[name]["drop"] for name in PHOTOGRAPHS) > 0


def test_few_drawings_of_each_fold_are_photographed_and_compared_with_themselves(run, monkeypatch):
    everything = find_weaknesses(run)
    monkeypatch.setattr(photographed, "MOST", 6)
    few = find_weaknesses(run)
    assert few["clean"] == everything["clean"]
    assert few["cost"]["forwards"] == 0, "the few are among those that were photographed before"
    for row in few["rows"]:
        assert row["n"] == (6 if row["name"] in PHOTOGRAPHS else 18)
        assert row["drop"] <= 1


@pytest.mark.parametrize(
    ("name", "setting", "reading", "augmentation"),
    [
        ("small on a large page", "image.resize=crop_to_ink", {"resize": "pad"}, None),
        ("small on a large page", None, {"resize": "crop_to_ink"}, "scale(0.2,1)@0.5, translate(0.3)@0.5"),
        ("photo: ruled paper", None, {"paper": "auto"}, None),
    ],
)
def test_another_way_of_reading_is_named_before_an_augmentation(run, name, setting, reading, augmentation):
    [change] = [change for change in CHANGES if change.name == name]
    image = run.extractors()[0][0].image.model_copy(update=reading)
    named, augment, command = weakness._remedy(run, image, change)
    assert (named, augment) == (setting, augmentation)
    assert (command is None) == (setting is None and augmentation is None)
    if setting is not None:
        assert command.split(" ")[3:] == [f"out={run.path}-resize", setting]


def test_a_page_of_any_paper_and_polarity_is_photographed_as_ink_on_white(run):
    image = run.extractors()[0][0].image
    page = np.full((40, 40), 200, np.uint8)
    page[18:22, 5:35] = 50
    for pixels in (page, 255 - page):
        white = photographed._on_white(pixels, image)
        assert (white[0, 0], white[20, 20]) in ((255, 63), (255, 64))


@pytest.mark.parametrize(("invert", "remedy"), [("auto", None), ("never", "invert@0.5")])
def test_light_on_dark_needs_augmentation_only_where_reading_does_not_invert_it(tmp_path, data, monkeypatch, invert, remedy):
    run = train(toy_recipe(tmp_path), f"image.invert={invert}", data=data, out=tmp_path / "run")
    monkeypatch.setattr(weakness, "mcnemar", lambda first, second, groups=None: 0.0)
    monkeypatch.setattr(weakness, "predict_held_out", wrong_under("invert", weakness.predict_held_out))
    [row] = [row for row in find_weaknesses(run)["rows"] if row["name"] == "light on dark"]
    assert (row["drop"], row["augmentation"]) == (1.0, remedy)


def test_an_augmentation_joins_the_stages_that_change_drawings():
    before = recipe(curriculum=[{"until_epoch": 5}, {"augment": ["hflip@0.5", "rotate(15)@0.5"]}])
    assert add_augmentation(before, "vflip@0.5") == (
        'curriculum=[{"until_epoch": 5}, {"augment": ["hflip@0.5", "rotate(15)@0.5", "vflip@0.5"], "views": 4}]'
    )


def test_an_augmentation_that_is_there_is_widened_or_left():
    for there, remedy, expected in (
        ("rotate(15)@0.5", "rotate(45)@0.5", ["rotate(45)@0.5"]),
        ("rotate(45)@0.5", "rotate(15)@0.5", None),
        ("elastic(20,4)@0.5", "elastic(30,4)@0.5", None),
        ("hflip@0.3", "hflip@0.5", None),
        ("scale(0.9,1.1)", "scale(0.6,1.1)@0.5, translate(0.15)@0.5", ["scale(0.6,1.1)@0.5", "translate(0.15)@0.5"]),
    ):
        setting = add_augmentation(
            recipe(curriculum=[{"augment": [there]}], backbone={"name": "resnet18", "train": "all"}), remedy
        )
        expected_setting = None if expected is None else f"curriculum={json.dumps([{'augment': expected}])}"
        assert setting == expected_setting, there


def test_other_drawings_are_refused(run, data):
    next(iter((data / "train").rglob("*.png"))).write_bytes(next(iter((data / "test").rglob("*.png"))).read_bytes())
    with pytest.raises(PredictionError, match=r"not the drawings that .* (learnt from|trained on)"):
        find_weaknesses(run, data)


def test_the_command_shows_every_change(run, tmp_path):
    home = tmp_path / "home"
    done = inkfold("weakness", run.path, home=home)
    assert done.returncode == 0, done.stderr
    assert all(change.name in done.stdout for change in CHANGES)
    assert json.loads(inkfold("weakness", run.path, "--json", home=home).stdout)["format"] == 1


def test_an_ensemble_is_refused_with_the_names_of_its_members(tmp_path, data, run):
    other = train(toy_recipe(tmp_path), "seed=1", data=data, out=tmp_path / "other")
    home = tmp_path / "home"
    assert inkfold("vote", run.path, other.path, "--out", tmp_path / "both", home=home).returncode == 0
    done = inkfold("weakness", tmp_path / "both", home=home)
    assert done.returncode == 2
    assert "is an ensemble. Ask its members one by one" in done.stderr
    assert str(other.path.name) in done.stderr
