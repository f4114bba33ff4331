import json
import shutil
from pathlib import Path

import pytest

from inkfold.auto.status import Status
from inkfold.cli.main import main
from inkfold.ensemble.model import load_run
from toy import RUN_FILES, as_folders, break_image, files_below, read_rows
from toy_cli import words
from toy_search import search_record


def test_what_was_skipped_and_warned_of_is_printed(tmp_path, data, recipe, capsys):
    root = as_folders(data, tmp_path / "folders")
    break_image(root / "apple/sketch_0.png")
    settings = (f"data={root}", "data.on_broken=skip", "folds.k=7", f"out={tmp_path / 'run'}")
    assert main(words("train", recipe, *settings)) == 0
    printed = capsys.readouterr()
    assert "left out as broken: 1 train" in printed.out
    assert "backbone: test_resnet" in printed.out, "what auto or a short name stands for is said"
    assert "warning: class 'apple'" in printed.err
    assert "submission" not in printed.out


def test_vote_says_what_can_and_can_not_be_told_apart_and_predicts(tmp_path, data, runs, capsys):
    out = tmp_path / "both"
    capsys.readouterr()
    assert main(words("vote", *runs, "--out", out)) == 0
    printed = capsys.readouterr()
    assert "not distinguishable" in printed.out
    assert "can't be judged out of fold" in printed.out
    assert f"run: {out}\nsubmission: {out / 'submission.csv'}" in printed.out
    assert "voting methods: 7/7" in printed.err
    assert main(words("vote", *runs, "--out", out)) == 0
    again = capsys.readouterr()
    assert "voting methods" not in again.err, "it is finished"
    assert ("was finished before: nothing was computed" in printed.out, "was finished before" in again.out) == (False, True)
    assert main(words("predict", out, data / "test", "--out", tmp_path / "p.csv")) == 0
    submitted = {path: target for _, path, target in read_rows(out / "submission.csv")[1:]}
    assert {row[0]: row[2] for row in read_rows(tmp_path / "p.csv")[1:]} == submitted


def test_votes_options_reach_the_vote(tmp_path, data, runs):
    out = tmp_path / "both"
    options = ("--method", "hard", "--within", "hard", "--ties", "lowest_id", "--calibrate", "--seed", "3")
    named = ("--data", data, "--set", "data.test_targets=test_labels.csv", "on_broken=skip")
    assert main(words("vote", *runs, "--out", out, *options, *named)) == 0
    found = json.loads((out / "vote.json").read_text())
    assert found["vote"] == {"method": "hard", "within": "hard", "ties": "lowest_id", "calibrate": True, "compare": True}
    assert (found["taken"], found["way"]["seed"]) == ("calibrated hard", 3)
    assert found["n"]["test"] == 6
    written = (out / "recipe.yaml").read_text()
    assert "- data.test_targets=test_labels.csv" in written
    assert "seed: 3" in written


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--method", "best"], "error: vote: method: got 'best'. Input should be 'auto', 'soft', 'hard'"),
        (["--within", "rank"], "error: vote: within: got 'rank'. Input should be 'soft' or 'hard'"),
        (["--ties", "first"], "error: vote: ties: got 'first'. Input should be 'lowest_id' or 'mean_probability'"),
        (["--seed", "-1"], "error: seed: got -1, expected a whole number from 0 to 4294967295."),
        (["--set", "on_broken=skip"], "error: data: is missing, which on_broken=skip would say how to read. Add --data DIR."),
        ([], "gone: no such file or directory"),
    ],
)
def test_votes_errors_are_lines(tmp_path, capsys, arguments, expected):
    assert main(words("vote", tmp_path / "gone", tmp_path / "away", "--out", tmp_path / "out", *arguments)) == 2
    printed = capsys.readouterr()
    assert expected in printed.err
    assert all(line.startswith("error: ") for line in printed.err.splitlines())
    assert printed.out == ""
    assert not (tmp_path / "out").exists()


def test_a_submission_votes_beside_a_run(tmp_path, runs, capsys):
    members = (runs[0], runs[1] / "submission.csv")
    assert main(words("vote", *members, "--method", "stack", "--out", tmp_path / "both")) == 2
    assert "Take soft, hard, geometric or rank" in capsys.readouterr().err
    assert main(words("vote", *members, "--out", tmp_path / "both")) == 0
    printed = capsys.readouterr()
    assert "no vote could be judged" in printed.out
    assert "warning: submission: has test predictions only" in printed.err
    assert main(words("predict", tmp_path / "both", runs[0], "--out", tmp_path / "p.csv")) == 2


def test_train_takes_an_ensembles_recipe(tmp_path, data, recipe, capsys):
    members = "members:\n  - {recipe: toy.yaml, name: one}\n  - {recipe: toy.yaml, name: two, set: {train_head.lr: 0.1}}\n"
    (tmp_path / "ensemble.yaml").write_text(members)
    given = (
        "train",
        tmp_path / "ensemble.yaml",
        f"data={data}",
        f"out={tmp_path / 'both'}",
        "train_head.epochs=2",
        "folds.k=3",
    )
    assert main(words(*given)) == 0
    printed = capsys.readouterr()
    assert "two: fitting heads: 6/6" in printed.err
    assert "24 forwards, 24 from the bank" in printed.out
    assert "not distinguishable" in printed.out
    assert main(words(*given, "train_heed.lr=1")) == 2
    assert capsys.readouterr().err == "error: override 'train_heed.lr': no such key. Did you mean 'train_head'?\n"


def test_tune_says_what_it_found_and_where_the_recipe_is(tmp_path, data, recipe, capsys):
    space = "tune.space={train_head.lr: {low: 1.0e-3, high: 1.0e-1, log: true}}"
    given = ("tune", recipe, f"data={data}", "tune.trials=2", space)
    assert main(words(*given)) == 2
    assert capsys.readouterr().err == "error: out: is missing. Say where the study goes: out=STUDY.\n"
    assert main(words(*given, f"out={tmp_path / 'study'}")) == 0
    printed = capsys.readouterr().out
    assert "set aside, never searched on" in printed
    assert "(optimistic)" in printed
    assert f"study: {tmp_path / 'study'}" in printed
    assert "keep your recipe: " in printed, "21 drawings tell no two recipes apart"
    assert main(words(*given, f"out={tmp_path / 'study'}", "tune.space={train_head.lrr: {low: 1, high: 2}}")) == 2


def test_explore_prints_a_table_or_json_and_says_what_it_did_not_try(tmp_path, data, capsys, monkeypatch, write_weights):
    write_weights(tmp_path / "weights/test_resnet.safetensors", "test_resnet")
    monkeypatch.setenv("INKFOLD_WEIGHTS", str(tmp_path / "weights"))
    small = ("image.size=32", "folds.k=3", "train_head.epochs=2", "backbone.device=cpu", "backbone.precision=float32")
    given = ("explore", data, *small, "--backbones", "test_resnet", "test_efficientnet")
    assert main(words(*given)) == 0
    printed = capsys.readouterr()
    assert "test_resnet" in printed.out
    assert "not tried: test_efficientnet" in printed.err
    assert main(words(*given, "--json", "--plot", tmp_path / "costs.svg")) == 0
    printed = capsys.readouterr()
    assert [row["name"].partition(".")[0] for row in json.loads(printed.out)["backbones"]] == ["test_resnet"]
    assert "no plot: what the features cost is not known" in printed.err, "too few drawings to measure a rate by"
    assert main(words("explore", data, *small, "--backbones", "test_efficientnet")) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--backbones", "x", "train_head.lr=1e-3", "y", "b=2", "--sample", "3"),
        ("--backbones", "x", "--backbones", "y", "train_head.lr=1e-3", "b=2", "--sample", "3"),
        ("train_head.lr=1e-3", "--sample", "3", "b=2", "--backbones", "x", "y"),
        ("--backbones", "x", "--sample=3", "--backbones=y", "train_head.lr=1e-3", "b=2"),
    ],
)
def test_backbones_are_repeated_or_listed_and_settings_stand_among_them(monkeypatch, arguments):
    calls = []

    def explore(data, names, settings, *, sample, progress, on):
        calls.append((str(data), names, settings, sample))
        return [], {}

    monkeypatch.setattr("inkfold.search.backbones.explore", explore)
    assert main(["explore", "d", "a=1", *arguments]) == 2, "nothing was explored"
    assert calls == [("d", ["x", "y"], ["a=1", "train_head.lr=1e-3", "b=2"], 3)]


@pytest.mark.parametrize("command", ["train", "explore", "tune"])
def test_an_unknown_place_for_features_is_a_line(tmp_path, data, recipe, capsys, command):
    place = [recipe, f"data={data}", f"out={tmp_path / 'out'}"] if command != "explore" else [data]
    assert main(words(command, *place, "--on", "pool:0")) == 2
    assert capsys.readouterr().err.startswith("error: on: got 'pool:0', expected inline, pool, pool:N with N from 1, ray")


def test_features_can_be_computed_in_processes(tmp_path, data, recipe, capsys):
    assert main(words("train", recipe, "--on", "pool:1", f"data={data}", f"out={tmp_path / 'run'}")) == 0
    assert files_below(tmp_path / "run") == RUN_FILES


@pytest.mark.parametrize(
    "arguments", [("tune", "cpu-ensemble", "data=d", "out=o"), ("augment", "cpu-ensemble", "data=d", "--out", "x.png")]
)
def test_an_ensembles_recipe_is_refused_where_one_models_is_needed(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    told = f"error: recipe 'cpu-ensemble': is an ensemble's, and {arguments[0]} takes one model's. Name one"
    assert capsys.readouterr().err == f"{told}, such as its members' own: cpu-best.\n"
    assert not list(tmp_path.glob("o*"))


def test_verbose_training_says_what_was_chosen_and_what_was_reused(tmp_path, data, recipe, capsys):
    assert main(words("train", recipe, f"data={data}", f"out={tmp_path / 'one'}")) == 0
    assert "inkfold." not in capsys.readouterr().err
    assert main(words("train", "-v", recipe, f"data={data}", f"out={tmp_path / 'two'}")) == 0
    logged = [line for line in capsys.readouterr().err.splitlines() if line.startswith("inkfold.")]
    expected = (
        f"inkfold.data: {data}: read as competition, 18 training drawings of 3 classes, 6 test drawings",
        "inkfold.models: backbone test_resnet: weights untrained, as set",
        "inkfold.features: test_resnet.r160_in1k: 18 of 18 features are in the bank, computing 0",
        "inkfold.data: 18 drawings in 18 groups that stay together: 3 folds of 6 to 6",
    )
    for line in expected:
        assert line in logged
    assert any("are remembered in" in line for line in logged)
    assert main(words("train", "-vv", recipe, f"data={data}", f"out={tmp_path / 'three'}", "image.size=48")) == 0
    logged = capsys.readouterr().err
    assert "inkfold.features: test_resnet.r160_in1k: 0 of 18 features are in the bank, computing 18" in logged
    assert "inkfold.features: the backbone runs on cpu in float32 at 48 px, with 16 drawings in each forward pass" in logged
    assert "inkfold.runtime: decoding: 18 drawings in this process" in logged


@pytest.fixture
def searches(tmp_path, frozen_run, monkeypatch):
    """What a search is called with, in place of the search, which finds the toy run and adds 10 seconds to the toy record."""
    found = []

    def search(recipe, *overrides, out, progress, on="inline"):
        found.append((recipe, overrides, on, isinstance(progress, Status)))
        if not (out := Path(out)).exists():
            shutil.copytree(frozen_run / "run", out)
        record = search_record()
        record.spent_s += 10.0 * (len(found) - 1)
        record.save(out)
        return load_run(out)

    monkeypatch.setattr("inkfold.auto.train.train_any", search)
    return found


def test_a_search_says_what_it_tried_and_when_it_goes_on_what_it_added(tmp_path, data, capsys, searches):
    out = tmp_path / "best"
    words_of_search = words("train", "auto", f"data={data}", f"out={out}", "budget=1m", "seed=7", "--on", "pool")
    assert main(words_of_search) == 0
    printed = capsys.readouterr().out
    assert searches == [("auto", (f"data={data}", "budget=1m", "seed=7"), "pool", True)]
    assert "search: 28.0 s of 1 min 0 s spent, 6 steps\n" in printed
    assert f"run: {out}" in printed
    assert f"\nwithout the search: inkfold train {out / 'recipe.yaml'} 'data=" in printed
    assert main(words_of_search) == 0
    printed = capsys.readouterr().out
    assert "search: 38.0 s of 1 min 0 s spent, 6 steps; this call tried 0 steps in 10.0 s" in printed
    assert "was finished before" not in printed


def test_a_search_in_a_file_of_its_own_is_one(tmp_path, data, capsys, searches):
    (tmp_path / "mine.yaml").write_text("budget: 1m\nset: {image.resize: pad}\n")
    assert main(words("train", tmp_path / "mine.yaml", f"data={data}", f"out={tmp_path / 'best'}")) == 0
    assert "taken: vote, a vote of" in capsys.readouterr().out


def test_a_budget_for_one_model_is_refused_with_the_command_that_searches(tmp_path, data, capsys):
    for recipe in ("first", "cpu-ensemble"):
        assert main(words("train", recipe, f"data={data}", f"out={tmp_path / 'run'}", "budget=10m")) == 2
        assert "search: inkfold train auto data=DIR out=RUN budget=10m." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
