import json
import sys

import pytest

from inkfold.cli.arguments import build_parser
from inkfold.cli.main import COMMANDS, main
from inkfold.config.load import shipped_recipes
from inkfold.errors import RecipeError
from toy import CLASSES, RUN_FILES, as_folders, break_image, files_below, inkfold, python, read_rows, toy_data, toy_recipe


@pytest.fixture
def data(tmp_path):
    return toy_data(tmp_path / "data")


@pytest.fixture
def recipe(tmp_path):
    return toy_recipe(tmp_path)


def words(*arguments):
    return [str(argument) for argument in arguments]


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom inkfold.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as done:\n    assert not done.code\n"
        "print('loaded:', [name for name in ('numpy', 'torch', 'pydantic', 'rich', 'timm') if name in sys.modules])"
    )
    printed = python(code)
    assert printed.endswith("loaded: []")
    for command in COMMANDS:
        assert f"\n    {command}" in printed


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    assert "usage: inkfold" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys):
    from importlib.metadata import version

    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"inkfold {version('inkfold')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve"],
        ["serve", "run", "--threads", "0"],
        [],
        ["fly"],
        ["predict", "run"],
        ["train"],
        ["vote", "a", "b"],
        ["vote", "--out", "x"],
        ["augment", "cpu-small"],
    ],
)
def test_a_wrong_command_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_train_and_predict_say_what_they_did(tmp_path, data, recipe, capsys):
    assert main(words("train", recipe, f"data={data}", f"out={tmp_path / 'run'}")) == 0
    printed = capsys.readouterr()
    assert files_below(tmp_path / "run") == RUN_FILES
    assert "out of fold" in printed.out
    assert "24 forwards, 0 from the bank" in printed.out
    assert f"submission: {tmp_path / 'run/submission.csv'}" in printed.out
    assert "fitting heads: 15/15" in printed.err
    assert main(words("predict", tmp_path / "run", data / "test", "--out", tmp_path / "p.csv")) == 0
    header, *rows = read_rows(tmp_path / "p.csv")
    assert header == ["image_path", "class_name", "target", "probability"]
    assert sorted(row[0] for row in rows) == [f"{i}.png" for i in range(6)]
    submitted = {path: target for _, path, target in read_rows(tmp_path / "run/submission.csv")[1:]}
    assert {row[0]: row[2] for row in rows} == submitted
    assert all(row[1] == CLASSES[int(row[2])] for row in rows)


def test_what_was_skipped_and_warned_of_is_printed(tmp_path, data, recipe, capsys):
    root = as_folders(data, tmp_path / "folders")
    break_image(root / "apple/sketch_0.png")
    settings = (f"data={root}", "data.on_broken=skip", "folds.k=7", f"out={tmp_path / 'run'}")
    assert main(words("train", recipe, *settings)) == 0
    printed = capsys.readouterr()
    assert "left out as broken: 1 train" in printed.out
    assert "warning: class 'apple'" in printed.err
    assert "submission" not in printed.out


def test_errors_are_lines_without_a_traceback(tmp_path, data, recipe, capsys):
    assert main(words("train", recipe, f"data={data}", f"out={tmp_path / 'run'}", "fit.lr=0", "fold.k=2")) == 2
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") for line in lines)
    assert "fit.lr" in printed.err
    assert "Did you mean 'folds'?" in printed.err
    assert printed.out == ""


def test_an_error_of_one_sentence_is_one_line(tmp_path, data, recipe, capsys):
    assert main(words("train", recipe, f"data={data}")) == 2
    assert capsys.readouterr().err == "error: out: is missing. Say where the run goes: out=RUN.\n"
    assert main(words("train", "nowhere", f"data={data}", f"out={tmp_path / 'run'}")) == 2
    assert capsys.readouterr().err.startswith("error: recipe 'nowhere' is neither a file nor shipped.")
    assert main(words("predict", tmp_path / "none", data, "--out", tmp_path / "p.csv")) == 2
    assert "no such directory, expected a finished run's" in capsys.readouterr().err


def test_a_place_that_can_not_be_written_is_told_in_a_line(tmp_path, data, recipe, capsys):
    assert main(words("train", recipe, f"data={data}", f"out={tmp_path / 'run'}")) == 0
    (tmp_path / "file").write_text("")
    capsys.readouterr()
    assert main(words("predict", tmp_path / "run", data / "test", "--out", tmp_path / "file/p.csv")) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert str(tmp_path / "file") in line


def test_debug_shows_the_traceback(tmp_path, data, recipe):
    with pytest.raises(RecipeError):
        main(words("train", "--debug", recipe, f"data={data}", f"out={tmp_path / 'run'}", "fit.lr=0"))
    arguments = ("train", recipe, f"data={data}", "out=run", "fit.lr=0")
    plain, debug = (inkfold(*arguments, *more, home=tmp_path, cwd=tmp_path) for more in ((), ("--debug",)))
    assert plain.returncode == 2
    assert "Traceback" not in plain.stderr
    assert debug.returncode != 0
    assert "Traceback" in debug.stderr


def test_check_prints_a_report_and_tells_by_its_exit_code(data, capsys):
    assert main(words("check", data)) == 0
    assert "ready to train" in capsys.readouterr().out
    break_image(data / "train/apple/sketch_0.png")
    assert main(words("check", data, "k=7")) == 1
    printed = capsys.readouterr().out
    assert "error: train apple/sketch_0.png" in printed
    assert "warning: class 'fish'" in printed
    assert "not ready" in printed
    assert main(words("check", data, "on_broken=skip")) == 0
    assert main(words("check", data / "gone")) == 2


def test_checks_json_is_json(data, capsys):
    break_image(data / "test/0.png")
    assert main(words("check", data, "--json")) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["broken"] == 1
    assert report["class_names"] == list(CLASSES)


def test_recipes_lists_all(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_recipes())
    assert not any("# " in line for line in lines)


def test_the_cache_is_listed_and_pruned_only_as_told(tmp_path, data, recipe, capsys, own_home):
    assert main(["cache"]) == 0
    assert main(words("train", recipe, f"data={data}", f"out={tmp_path / 'run'}")) == 0
    capsys.readouterr()
    assert main(["cache", "list"]) == 0
    listed = capsys.readouterr().out
    assert "features/test_resnet" in listed
    assert "pixels/grey-32" in listed
    before = files_below(own_home)
    assert main(["cache", "prune"]) == 2
    assert "say what" in capsys.readouterr().err
    assert main(["cache", "prune", "--older-than-days", "1"]) == 0
    assert files_below(own_home) == before
    [features] = (own_home / "features").iterdir()
    assert main(["cache", "prune", features.name]) == 0
    assert not features.exists()
    assert (own_home / "pixels").exists()
    assert main(["cache", "prune", "--all"]) == 0
    assert not any(name.startswith("pixels/") for name in files_below(own_home))


def test_an_interrupt_exits_with_130(monkeypatch, capsys):
    def interrupted(given):
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, "recipes", interrupted)
    assert main(["recipes"]) == 130
    assert "continues" in capsys.readouterr().err


@pytest.fixture
def runs(tmp_path, data, recipe):
    """Two finished runs on the same drawings."""
    changes = {"one": (), "two": ("head={kind: mlp, hidden: [4]}",)}
    for name, settings in changes.items():
        assert main(words("train", recipe, f"data={data}", f"out={tmp_path / name}", *settings)) == 0
    return [tmp_path / name for name in changes]


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
    assert "voting methods" not in capsys.readouterr().err, "it is finished"
    assert main(words("predict", out, data / "test", "--out", tmp_path / "p.csv")) == 0
    submitted = {path: target for _, path, target in read_rows(out / "submission.csv")[1:]}
    assert {row[0]: row[2] for row in read_rows(tmp_path / "p.csv")[1:]} == submitted


def test_votes_options_reach_the_vote(tmp_path, data, runs):
    out = tmp_path / "both"
    options = ("--method", "hard", "--within", "hard", "--ties", "lowest_id", "--calibrate", "--seed", "3")
    named = ("--data", data, "--set", "data.test_targets=test_labels.csv", "on_broken=skip")
    assert main(words("vote", *runs, "--out", out, *options, *named)) == 0
    found = json.loads((out / "vote.json").read_text())
    assert found["vote"] == {"method": "hard", "within": "hard", "ties": "lowest_id", "calibrate": True}
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
    members = "members:\n  - {recipe: toy.yaml, name: one}\n  - {recipe: toy.yaml, name: two, set: {fit.lr: 0.1}}\n"
    (tmp_path / "ensemble.yaml").write_text(members)
    given = ("train", tmp_path / "ensemble.yaml", f"data={data}", f"out={tmp_path / 'both'}", "fit.epochs=2", "folds.k=3")
    assert main(words(*given)) == 0
    printed = capsys.readouterr()
    assert "two: fitting heads: 6/6" in printed.err
    assert "24 forwards, 24 from the bank" in printed.out
    assert "not distinguishable" in printed.out
    assert main(words(*given, "fitt.lr=1")) == 2
    assert capsys.readouterr().err == "error: override 'fitt.lr': no such key. Did you mean 'fit'?\n"


def test_tune_says_what_it_found_and_where_the_recipe_is(tmp_path, data, recipe, capsys):
    space = "tune.space={fit.lr: {low: 1.0e-3, high: 1.0e-1, log: true}}"
    given = ("tune", recipe, f"data={data}", "tune.trials=2", space)
    assert main(words(*given)) == 2
    assert capsys.readouterr().err == "error: out: is missing. Say where the study goes: out=STUDY.\n"
    assert main(words(*given, f"out={tmp_path / 'study'}")) == 0
    printed = capsys.readouterr().out
    assert "set aside, never tuned on" in printed
    assert "(flatters itself)" in printed
    assert f"recipe: {tmp_path / 'study'}/best.yaml" in printed
    assert main(words(*given, f"out={tmp_path / 'study'}", "tune.space={fit.lrr: {low: 1, high: 2}}")) == 2


def test_explore_prints_a_table_or_json_and_says_what_it_did_not_try(tmp_path, data, capsys, monkeypatch, write_weights):
    write_weights(tmp_path / "weights/test_resnet.safetensors", "test_resnet")
    monkeypatch.setenv("INKFOLD_WEIGHTS", str(tmp_path / "weights"))
    small = ("image.size=32", "folds.k=3", "fit.epochs=2", "backbone.device=cpu", "backbone.precision=float32")
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


@pytest.mark.parametrize("command", ["train", "explore", "tune"])
def test_an_unknown_place_for_features_is_a_line(tmp_path, data, recipe, capsys, command):
    place = [recipe, f"data={data}", f"out={tmp_path / 'out'}"] if command != "explore" else [data]
    assert main(words(command, *place, "--on", "pool:0")) == 2
    assert capsys.readouterr().err.startswith("error: on: got 'pool:0', expected inline, pool, pool:N with N from 1, ray")


def test_features_can_be_computed_in_processes(tmp_path, data, recipe, capsys):
    assert main(words("train", recipe, "--on", "pool:1", f"data={data}", f"out={tmp_path / 'run'}")) == 0
    assert files_below(tmp_path / "run") == RUN_FILES


def test_augment_draws_a_sheet_of_the_recipes_views(tmp_path, data, recipe, capsys):
    given = ("augment", recipe, f"data={data}", "--out", tmp_path / "sheet.png", "--rows", "2")
    assert main(words(*given)) == 0
    printed = capsys.readouterr().out
    assert "the recipe shows drawings as they are" in printed
    assert f"1 views: {tmp_path / 'sheet.png'}" in printed
    assert main(words(*given, "curriculum=winner")) == 0
    assert "as they are" not in capsys.readouterr().out
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert main(words("augment", recipe, f"data={data}", "--out", tmp_path / "sheet.gif")) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("a=1", "b.c=2", "--out", "x.png", "--rows", "3"),
        ("--out", "x.png", "--rows", "3", "a=1", "b.c=2"),
        ("a=1", "--out", "x.png", "b.c=2", "--rows", "3"),
    ],
)
def test_settings_may_stand_before_between_and_after_options(arguments):
    given = build_parser(COMMANDS).parse_args(["augment", "cpu-small", *arguments])
    assert (given.recipe, given.settings, given.rows) == ("cpu-small", ["a=1", "b.c=2"], 3)


@pytest.mark.parametrize(
    "arguments", [["augment", "r", "--out", "x", "late"], ["train", "r", "--lr=3"], ["predict", "a", "b", "c=1"]]
)
def test_what_is_no_setting_is_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        build_parser(COMMANDS).parse_args(arguments)
    assert "usage" in capsys.readouterr().err


def test_settings_after_backbones_are_settings(capsys):
    given = build_parser(COMMANDS).parse_args(
        ["explore", "d", "a=1", "--backbones", "x", "fit.lr=1e-3", "y", "b=2", "--sample", "3"]
    )
    assert (given.backbones, given.settings, given.sample) == (["x", "y"], ["a=1", "fit.lr=1e-3", "b=2"], 3)
    with pytest.raises(SystemExit):
        build_parser(COMMANDS).parse_args(["explore", "d", "--backbones", "fit.lr=1e-3"])
    assert "--backbones: expected a name, got only the setting fit.lr=1e-3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("no space in the pool"), "error: no space in the pool. Check"),
        (OSError(), "error: OSError. Check"),
        (OSError(28, "No space left on device"), "error: [Errno 28] No space left on device. Check"),
        (OSError(28, "No space left on device", "a/b"), "error: a/b: No space left on device. Check"),
    ],
)
def test_an_operating_systems_error_is_a_line_with_what_is_known(monkeypatch, capsys, error, told):
    def failing(given):
        raise error

    monkeypatch.setitem(COMMANDS, "recipes", failing)
    assert main(["recipes"]) == 2
    assert capsys.readouterr().err.startswith(told)


def test_a_closed_pipe_is_no_error_on_any_system(monkeypatch, capfd):
    def failing(given):
        raise BrokenPipeError

    monkeypatch.setitem(COMMANDS, "recipes", failing)
    monkeypatch.setattr("inkfold.cli.main.os.dup2", lambda *_: None)
    monkeypatch.delattr("signal.SIGPIPE", raising=False)
    assert main(["recipes"]) == 141
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "arguments", [("tune", "cpu-ensemble", "data=d", "out=o"), ("augment", "cpu-ensemble", "data=d", "--out", "x.png")]
)
def test_an_ensembles_recipe_is_refused_where_one_models_is_needed(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    told = f"error: recipe 'cpu-ensemble': is an ensemble's, and {arguments[0]} takes one model's. Name one"
    assert capsys.readouterr().err == f"{told}, such as its members' own: cpu-best.\n"
    assert not list(tmp_path.glob("o*"))


def test_serving_says_what_is_missing(tmp_path, capsys, monkeypatch):
    assert main(words("serve", tmp_path / "none")) == 2
    assert "no such file or directory, expected a finished run or an ONNX file" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(words("serve", tmp_path)) == 2
    assert "pip install 'inkfold[serve]'" in capsys.readouterr().err


def test_an_exported_run_is_served_with_its_index(tmp_path, data, recipe, capsys):
    from inkfold.serve.predict import load_model

    assert main(words("train", recipe, f"data={data}", f"out={tmp_path / 'run'}")) == 0
    assert main(words("export", tmp_path / "run", "--out", tmp_path / "m.onnx", "--nearest")) == 0
    assert f"nearest drawings: {tmp_path / 'm.nearest.safetensors'}" in capsys.readouterr().out
    model, index = load_model(tmp_path / "m.onnx")
    drawing = next((data / "train").rglob("*.png"))
    output = model.predict([model.read(drawing.read_bytes())])
    rows, similar = index.find(output.features, 1)
    assert similar[0, 0] > 0.99
    assert CLASSES[index.targets[rows[0, 0]]] == drawing.parent.name
