import shlex

import numpy as np
import pytest

from inkfold.evaluation.error_analysis import class_rows, confused_pairs
from inkfold.pipeline.build import settle_recipe
from inkfold.report.next_steps import MOST, next_steps
from inkfold.report.run_data import read_run_record
from inkfold.storage.files import write_json
from toy_cli import parse
from toy_runs import BACKBONE, audit, curve, finish, made_up, weakness, write_run

N, NAMES = 200, ("a", "b", "c", "d")
PATHS, TARGETS = [f"{i}.png" for i in range(N)], np.arange(N) % 4


def steps_of(out):
    record = read_run_record(out)
    predictions = record.judged[1]
    return next_steps(record, class_rows(predictions), confused_pairs(predictions))


def run(tmp_path, *, accuracy=0.6, train="frozen", **more):
    recipe = {"data": {"root": "some data"}, "backbone": {"name": "test_resnet", "weights": None, "train": train}, "image": {}}
    predictions = made_up(PATHS, TARGETS, NAMES, accuracy=accuracy, folds=np.arange(N) % 5)
    return write_run(tmp_path / "run", "some data", predictions, recipe=recipe, **more)


def titles(steps):
    return [step.what for step in steps]


def test_frozen_features_that_end_low_call_for_fine_tuning_with_a_command_that_parses(tmp_path):
    step = steps_of(run(tmp_path))[0]
    assert step.what == "Train the backbone too"
    assert f"ends at {100 * read_run_record(tmp_path / 'run').metrics['out_of_fold']['accuracy']:.1f} %" in step.why
    words = shlex.split(step.command)
    assert "data=some data" in words
    assert "backbone.name=test_resnet" in words
    values = parse(*words[1:])
    settings = [text for text in values["settings"] if not text.startswith("out=")]
    assert settle_recipe(values["recipe"], tuple(settings)).backbone.train == "all"


@pytest.mark.parametrize(("accuracy", "train"), [(1.0, "frozen"), (0.6, "all")])
def test_a_backbone_that_is_trained_or_good_enough_needs_none(tmp_path, accuracy, train):
    assert "Train the backbone too" not in titles(steps_of(run(tmp_path, accuracy=accuracy, train=train)))


def test_random_weights_are_told_of_first(tmp_path):
    steps = steps_of(run(tmp_path, backbone={**BACKBONE, "weights_source": "untrained"}))
    assert titles(steps)[0] == "Give the backbone trained weights"
    assert "Train the backbone too" not in titles(steps)


def test_learning_by_heart_calls_for_views_unless_there_are_some(tmp_path):
    out = run(tmp_path)  # its second stage flips
    assert "Show it more views of each drawing" not in titles(steps_of(out))
    plain = curve()
    for stage in plain["stages"]:
        stage["augment"] = []
    write_json(out / "curve.json", plain)
    finish(out, NAMES)
    [step] = [step for step in steps_of(out) if step.what == "Show it more views of each drawing"]
    _, _, recipe, *settings = shlex.split(step.command)
    assert settings.pop() == f"out={out}-augmented"
    assert settle_recipe(recipe, tuple(settings)).curriculum[0].views == 8


def test_the_greatest_weakness_gives_its_own_command(tmp_path):
    out = run(tmp_path, train="all")
    write_json(out / "weakness.json", weakness())
    step = steps_of(out)[0]
    assert step.what == "Show it drawings under vflip@0.5"
    assert step.command == "inkfold train vflip@0.5"
    assert "60.0 % to 20.0 %" in step.why


def test_what_an_audit_found_comes_first(tmp_path):
    out = run(tmp_path)
    write_json(out / "audit.json", audit(PATHS[:3], NAMES))
    first = steps_of(out)[0]
    assert first.what == "Settle what is wrong with the data"
    assert first.why.startswith("1 group of copies with different labels, 1 doubtful label.")


def test_weak_classes_are_those_whose_whole_interval_is_below(tmp_path):
    predictions = made_up(PATHS, TARGETS, NAMES, accuracy=1.0, folds=np.arange(N) % 5)
    weak = predictions.probs.copy()
    weak[TARGETS == 2] = np.roll(weak[TARGETS == 2], 1, axis=1)
    predictions = type(predictions)(predictions.image_paths, weak, NAMES, predictions.targets, predictions.folds)
    out = write_run(tmp_path / "run", "data", predictions)
    [step] = [step for step in steps_of(out) if step.what == "Draw more of the weakest classes"]
    assert step.why.startswith("c (0 of 50): ")


def test_without_known_classes_they_are_asked_for(tmp_path):
    record = read_run_record(write_run(tmp_path / "run", "data", None, made_up(PATHS, TARGETS, NAMES)))
    blind = type(record)(**{name: getattr(record, name) for name in ("path", "manifest", "metrics", "cost", "recipe")})
    assert titles(next_steps(blind, [], [])) == ["Give the drawings' classes"]
    assert len(steps_of(tmp_path / "run")) <= MOST
