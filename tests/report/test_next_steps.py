import shlex
from dataclasses import replace

import numpy as np
import pytest

from inkfold.evaluation.error_analysis import class_rows, confused_pairs
from inkfold.pipeline.build import settle_recipe
from inkfold.pipeline.run_files import open_run_files
from inkfold.report.next_steps import MOST, next_steps
from inkfold.storage.files import write_json
from toy_cli import parse
from toy_runs import BACKBONE, audit, curve, finish, made_up, weakness, write_run

N, NAMES = 200, ("a", "b", "c", "d")
PATHS, TARGETS = [f"{i}.png" for i in range(N)], np.arange(N) % 4


def steps_of(out):
    opened = open_run_files(out)
    return next_steps(opened, class_rows(opened.evaluated), confused_pairs(opened.evaluated))


def run(tmp_path, *, accuracy=0.6, part="none", **more):
    backbone = {"name": "test_resnet", "weights": None}
    recipe = {"data": {"root": "some data"}, "backbone": backbone, "finetune": {"part": part}, "image": {}}
    predictions = made_up(PATHS, TARGETS, NAMES, accuracy=accuracy, folds=np.arange(N) % 5)
    return write_run(tmp_path / "run", "some data", predictions, recipe=recipe, **more)


def titles(steps):
    return [step.what for step in steps]


def test_frozen_features_that_end_low_call_for_fine_tuning_with_a_command_that_parses(tmp_path):
    step = steps_of(run(tmp_path))[0]
    assert step.what == "Fine-tune the backbone"
    assert f"reaches {100 * open_run_files(tmp_path / 'run').metrics['out_of_fold']['accuracy']:.1f} %" in step.why
    words = shlex.split(step.command)
    assert "data=some data" in words
    assert "backbone.name=test_resnet" in words
    values = parse(*words[1:])
    settings = [text for text in values["settings"] if not text.startswith("out=")]
    assert settle_recipe(values["recipe"], tuple(settings)).finetune.part == "all"


@pytest.mark.parametrize(("accuracy", "part"), [(1.0, "none"), (0.6, "all")])
def test_a_backbone_that_is_trained_or_good_enough_needs_none(tmp_path, accuracy, part):
    assert "Fine-tune the backbone" not in titles(steps_of(run(tmp_path, accuracy=accuracy, part=part)))


def test_random_weights_come_first(tmp_path):
    steps = steps_of(run(tmp_path, backbone={**BACKBONE, "weights_source": "untrained"}))
    assert titles(steps)[0] == "Use a backbone with trained weights"
    assert "Fine-tune the backbone" not in titles(steps)


def test_overfitting_calls_for_augmentation_unless_there_is_some(tmp_path):
    out = run(tmp_path)  # its second stage flips
    assert "Augment the drawings" not in titles(steps_of(out))
    plain = curve()
    for stage in plain["stages"]:
        stage["augment"] = []
    write_json(out / "curve.json", plain)
    finish(out, NAMES)
    [step] = [step for step in steps_of(out) if step.what == "Augment the drawings"]
    _, _, recipe, *settings = shlex.split(step.command)
    assert settings.pop() == f"out={out}-augmented"
    assert settle_recipe(recipe, tuple(settings)).curriculum[0].views == 8


def test_the_greatest_weakness_gives_its_own_command(tmp_path):
    out = run(tmp_path, part="all")
    write_json(out / "weakness.json", weakness())
    [step] = [step for step in steps_of(out) if step.what == "Augment with vflip@0.5"]
    assert "On such drawings 40.0 points are lost" in step.expectation
    assert step.command == "inkfold train vflip@0.5"
    assert "60.0 % to 20.0 %" in step.why


def test_fixed_readings_that_do_not_suit_the_pages_call_for_auto(tmp_path):
    recipe = {"data": {"root": "some data"}, "backbone": {"name": "test_resnet"}}
    predictions = made_up(PATHS, TARGETS, NAMES, folds=np.arange(N) % 5)
    cases = [
        ({"resize": "pad", "paper": "auto"}, {"filled": 0.3, "photographed": 0.1}, ["resize"]),
        ({"resize": "auto", "paper": "keep"}, {"filled": 0.3, "photographed": 0.1}, ["paper"]),
        ({"resize": "pad", "paper": "auto"}, {"filled": 0.6, "photographed": 0.0}, []),
        ({"resize": "pad", "paper": "auto"}, {"filled": 0.1, "photographed": 0.5}, []),  # whose ink isn't known
        ({"resize": "auto", "paper": "keep"}, {"filled": 0.9, "photographed": 0.01}, []),
    ]
    for number, (image, pages, keys) in enumerate(cases):
        metrics = {"reading": {"pages": pages, "reason": "reading: so"}}
        out = write_run(tmp_path / str(number), "d", predictions, recipe={**recipe, "image": image}, metrics=metrics)
        steps = [step for step in steps_of(out) if step.what.startswith("Try image.")]
        assert titles(steps) == [f"Try image.{key}=auto" for key in keys]
        assert all(f" image.{key}=auto out={out}-{key}" in step.command for key, step in zip(keys, steps, strict=True))


def test_what_an_audit_found_comes_first(tmp_path):
    out = run(tmp_path)
    write_json(out / "audit.json", audit(PATHS[:3], NAMES))
    first = steps_of(out)[0]
    assert first.what == "Correct the data"
    assert first.why.startswith("1 group of duplicates with different labels, 1 doubtful label.")
    assert first.expectation.startswith("Gain not measured. About 2.0% of the labels are estimated to be wrong.")


def test_weak_classes_are_those_whose_whole_interval_is_below(tmp_path):
    predictions = made_up(PATHS, TARGETS, NAMES, accuracy=1.0, folds=np.arange(N) % 5)
    weak = predictions.probs.copy()
    weak[TARGETS == 2] = np.roll(weak[TARGETS == 2], 1, axis=1)
    predictions = type(predictions)(predictions.image_paths, weak, NAMES, predictions.targets, predictions.folds)
    out = write_run(tmp_path / "run", "data", predictions)
    [step] = [step for step in steps_of(out) if step.what == "Add drawings of the weakest classes"]
    assert step.why.startswith("c (0 of 50): ")


def test_without_true_classes_the_only_step_is_to_add_them(tmp_path):
    known = made_up(PATHS, TARGETS, NAMES)
    blind = open_run_files(write_run(tmp_path / "blind", "data", None, replace(known, targets=None)))
    assert titles(next_steps(blind, [], [])) == ["Add the drawings' classes"]
    assert len(steps_of(write_run(tmp_path / "run", "data", None, known))) <= MOST


def test_every_step_says_what_it_gains_and_where_that_was_measured_the_greatest_first(tmp_path):
    steps = steps_of(run(tmp_path))
    assert titles(steps)[:3] == ["Fine-tune the backbone", "Compare other backbones", "Combine it with a second model"]
    assert steps[0].expectation.startswith("Elsewhere: 12.0 points, a small backbone on 345 classes")
    assert all(step.expectation.endswith("Not measured on these drawings.") for step in steps[:3])
    for step in steps[:3]:
        for line in step.command.splitlines():
            _, command, *words = shlex.split(line)
            parse(command, *words)
    first, second = steps[2].command.splitlines()
    assert first.endswith(f"backbone.name=tf_efficientnet_lite0 out={tmp_path / 'run'}-tf_efficientnet_lite0")
    assert second == f"inkfold vote {tmp_path / 'run'} {tmp_path / 'run'}-tf_efficientnet_lite0 --out {tmp_path / 'run'}-vote"


@pytest.mark.parametrize(
    ("metrics", "what", "command"),
    [
        (
            {"tta": {"accuracy_without": 0.62, "accuracy_with": 0.5, "p_value": 0.01, "views": ["identity"]}},
            "Leave out the test-time views",
            "tta=[]",
        ),
        (
            {"finetune": {"frozen_accuracy": 0.72, "accuracy": 0.6, "p_value": 1e-9}},
            "Keep the backbone frozen",
            "finetune.part=none",
        ),
    ],
)
def test_what_the_run_measured_as_a_loss_is_advised_against(tmp_path, metrics, what, command):
    out = run(tmp_path, part="all", metrics=metrics)
    step = steps_of(out)[0]
    assert step.what == what
    assert step.expectation.startswith("Measured on this run: 12.0 points, p ")
    assert command in step.command
    of_chance = {name: {**figures, "p_value": 0.2} for name, figures in metrics.items()}
    assert what not in titles(steps_of(run(tmp_path / "chance", part="all", metrics=of_chance)))


def test_groups_that_a_warning_proposes_come_first(tmp_path):
    warning = r"image paths: names suggest groups. To keep each in one fold: `folds.group_pattern=(photo\d+)`."
    step = steps_of(run(tmp_path, warnings=[warning]))[0]
    assert step.what == "Keep groups of drawings together"
    assert r"'folds.group_pattern=(photo\d+)'" in step.command
    grouped = run(tmp_path / "grouped", warnings=[warning], metrics={"groups": {"groups": 3}})
    assert step.what not in titles(steps_of(grouped))


def test_steps_that_gain_less_than_half_a_point_are_left_out(tmp_path):
    good = steps_of(run(tmp_path, accuracy=1.0))
    assert not {"Fine-tune the backbone", "Combine it with a second model", "Search hyper-parameters"} & {*titles(good)}
