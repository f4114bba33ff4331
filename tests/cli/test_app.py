import contextlib
import io
import logging
import sys
from pathlib import Path

import pytest

from inkfold.cli.app import log_to_stderr
from inkfold.cli.main import main
from inkfold.errors import RecipeError
from toy import inkfold
from toy_cli import parse, words


@pytest.mark.parametrize(
    "arguments",
    [
        ("a=1", "b.c=2", "--out", "x.png", "--rows", "3"),
        ("--out", "x.png", "--rows", "3", "a=1", "b.c=2"),
        ("a=1", "--out", "x.png", "b.c=2", "--rows", "3"),
    ],
)
def test_settings_may_stand_before_between_and_after_options(arguments):
    values = parse("augment", "cpu-small", *arguments)
    assert (values["recipe"], values["settings"], values["rows"]) == ("cpu-small", ["a=1", "b.c=2"], 3)


def test_errors_are_lines_without_a_traceback(tmp_path, data, recipe, capsys):
    assert main(words("train", recipe, f"data={data}", f"out={tmp_path / 'run'}", "train_head.lr=0", "fold.k=2")) == 2
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") for line in lines)
    assert "train_head.lr" in printed.err
    assert "Did you mean 'folds'?" in printed.err
    assert printed.out == ""


def test_an_error_of_one_sentence_is_one_line(tmp_path, data, recipe, capsys):
    assert main(words("train", recipe, f"data={data}")) == 2
    assert capsys.readouterr().err == "error: out: is missing. Say where the run goes: out=RUN.\n"
    assert main(words("train", "nowhere", f"data={data}", f"out={tmp_path / 'run'}")) == 2
    assert capsys.readouterr().err.startswith("error: recipe 'nowhere' is neither a file nor shipped.")
    assert main(words("predict", tmp_path / "none", data, "--out", tmp_path / "p.csv")) == 2
    assert "no such directory, expected a finished run's" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path, data, recipe):
    with pytest.raises(RecipeError):
        main(words("train", "--debug", recipe, f"data={data}", f"out={tmp_path / 'run'}", "train_head.lr=0"))
    arguments = ("train", recipe, f"data={data}", "out=run", "train_head.lr=0")
    plain, debug = (inkfold(*arguments, *more, home=tmp_path, cwd=tmp_path) for more in ((), ("--debug",)))
    assert plain.returncode == 2
    assert "Traceback" not in plain.stderr
    assert debug.returncode != 0
    assert "Traceback" in debug.stderr


def failing_with(error):
    def fail():
        raise error

    return fail


def test_an_interrupt_exits_with_130(monkeypatch, capsys):
    monkeypatch.setattr("inkfold.config.load.shipped_recipes", failing_with(KeyboardInterrupt))
    assert main(["recipes"]) == 130
    assert "continues" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_a_full_disk_behind_standard_output_is_a_line(monkeypatch, capsys):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["recipes"]) == 2
    assert capsys.readouterr().err == (
        "error: standard output: No space left on device. Make room on that disk, or choose another place.\n"
    )


def test_a_command_works_without_standard_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["recipes"]) == 0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("no space in the pool"), "error: no space in the pool. Check"),
        (OSError(), "error: OSError. Check"),
        (OSError(28, "No space left on device"), "error: [Errno 28] No space left on device. Make room"),
        (OSError(28, "No space left on device", "a/b"), "error: a/b: No space left on device. Make room"),
    ],
)
def test_an_operating_systems_error_is_a_line_with_what_is_known(monkeypatch, capsys, error, expected):
    monkeypatch.setattr("inkfold.config.load.shipped_recipes", failing_with(error))
    assert main(["recipes"]) == 2
    assert capsys.readouterr().err.startswith(expected)


def test_a_closed_pipe_is_no_error_on_any_system(monkeypatch, capfd):
    monkeypatch.setattr("inkfold.config.load.shipped_recipes", failing_with(BrokenPipeError))
    monkeypatch.setattr("inkfold.cli.app.os.dup2", lambda *_: None)
    monkeypatch.delattr("signal.SIGPIPE", raising=False)
    assert main(["recipes"]) == 141
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["recipes"], []),
        (["recipes", "-v"], ["inkfold.config: chosen"]),
        (["-v", "recipes"], ["inkfold.config: chosen"]),
        (["recipes", "-vv"], ["inkfold.config: chosen", "inkfold.config: detail"]),
        (["-v", "recipes", "--verbose"], ["inkfold.config: chosen", "inkfold.config: detail"]),
    ],
)
def test_verbose_prints_the_log_on_standard_error(monkeypatch, capsys, arguments, lines):
    def shipped():
        logging.getLogger("inkfold.config").info("chosen")
        logging.getLogger("inkfold.config").debug("detail")
        return {}

    monkeypatch.setattr("inkfold.config.load.shipped_recipes", shipped)
    assert main(arguments) == 0
    assert capsys.readouterr().err.splitlines() == lines
    assert not logging.getLogger("inkfold").handlers, "the next command begins silent"


def test_the_log_goes_where_standard_error_is_when_it_is_written(capsys):
    with log_to_stderr(1), contextlib.redirect_stderr(io.StringIO()) as bars:
        logging.getLogger("inkfold.features").info("beside bars")
    assert bars.getvalue() == "inkfold.features: beside bars\n"
    assert capsys.readouterr().err == ""
