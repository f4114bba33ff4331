import json

import pytest

from inkfold.cli import main
from inkfold.config import shipped_recipes
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
        "import sys\nfrom inkfold.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as done:\n    assert not done.code\n"
        "print('loaded:', [name for name in ('numpy', 'torch', 'pydantic', 'rich', 'timm') if name in sys.modules])"
    )
    printed = python(code)
    assert printed.endswith("loaded: []")
    for command in ("train", "predict", "check", "recipes", "cache", "demo"):
        assert f"\n    {command}" in printed


@pytest.mark.parametrize("command", ["train", "predict", "check", "recipes", "cache", "demo"])
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


@pytest.mark.parametrize("arguments", [[], ["fly"], ["predict", "run"], ["train"]])
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
    assert "fitting heads: 5/5" in printed.err
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
    assert "no finished run" in capsys.readouterr().err


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

    monkeypatch.setattr("inkfold.cli._recipes", interrupted)
    assert main(["recipes"]) == 130
    assert "continues" in capsys.readouterr().err
