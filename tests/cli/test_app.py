import logging

import pytest
import typer.main

from inkfold.cli.app import APP, complete_recipe, log_to_stderr
from inkfold.cli.main import main
from inkfold.config.load import shipped_recipes
from inkfold.errors import RecipeError
from toy import inkfold, python
from toy_cli import parse, words

COMMANDS = list(typer.main.get_command(APP).commands)


@pytest.mark.parametrize(
    ("arguments", "light"),
    [(["--help"], {"numpy", "torch", "pydantic", "rich", "timm"}), (["train", "--help"], {"numpy", "torch", "rich", "timm"})],
)
def test_help_imports_nothing_heavy(arguments, light):
    code = (
        f"import sys\nfrom inkfold.cli.main import main\nassert main({arguments}) == 0\n"
        f"print('loaded:', [name for name in {sorted(light)} if name in sys.modules])"
    )
    assert python(code).endswith("loaded: []")


def test_help_lists_every_command_with_its_first_sentence_whole(capsys):
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:")[2]
    assert [line.split()[0] for line in listed.strip().splitlines()] == COMMANDS
    assert "..." not in listed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    for option in ("--help", "-h"):
        assert main([command, option]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"Usage: inkfold {command} [OPTIONS]")
        assert {"--verbose", "--debug"} <= set(printed.replace(",", "").split())
    assert (f"\n    inkfold {command} " in printed) == ("examples:" in printed)


def test_the_version_is_the_packages(capsys):
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"inkfold {version('inkfold')}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["serve"], "Missing argument 'RUN_OR_ONNX'"),
        (["serve", "run", "--threads", "0"], "'--threads'"),
        ([], "Missing command"),
        (["fly"], "No such command 'fly'."),
        (["trian", "cpu-small"], "Did you mean 'train'?"),
        (["predict", "run"], "Missing argument 'IMAGES'"),
        (["predict", "a", "b", "c=1", "--out", "x"], "unexpected extra argument"),
        (["train"], "Missing argument 'RECIPE'"),
        (["train", "r", "--lr=3"], "No such option: --lr"),
        (["train", "r", "--debgu"], "--debug"),
        (["vote", "a", "b"], "Missing option '--out'"),
        (["vote", "--out", "x"], "Missing argument 'MEMBER'"),
        (["augment", "cpu-small"], "Missing option '--out'"),
        (["augment", "r", "--out", "x", "late"], "got 'late', expected key=value"),
        (["explore", "d", "late"], "Got 'late', expected key=value"),
        (["explore", "d", "--backbones", "fit.lr=1e-3"], "'--backbones' expects a name, got only the setting fit.lr=1e-3"),
        (["predict", "run", "images", "--out", "x", "--on-broken", "crash"], "'crash' is not one of 'error', 'skip'"),
    ],
)
def test_wrong_usage_exits_with_2_and_shows_the_commands_own_usage(arguments, expected, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    command = arguments[0] if arguments and arguments[0] in COMMANDS else "[OPTIONS]"
    assert printed.err.startswith(f"Usage: inkfold {command}")
    assert expected in printed.err
    assert printed.out == ""


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


def failing_with(error):
    def fail():
        raise error

    return fail


def test_an_interrupt_exits_with_130(monkeypatch, capsys):
    monkeypatch.setattr("inkfold.config.load.shipped_recipes", failing_with(KeyboardInterrupt))
    assert main(["recipes"]) == 130
    assert "continues" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("no space in the pool"), "error: no space in the pool. Check"),
        (OSError(), "error: OSError. Check"),
        (OSError(28, "No space left on device"), "error: [Errno 28] No space left on device. Check"),
        (OSError(28, "No space left on device", "a/b"), "error: a/b: No space left on device. Check"),
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
    import contextlib
    import io

    with log_to_stderr(1), contextlib.redirect_stderr(io.StringIO()) as bars:
        logging.getLogger("inkfold.features").info("beside bars")
    assert bars.getvalue() == "inkfold.features: beside bars\n"
    assert capsys.readouterr().err == ""


def test_names_of_recipes_are_completed():
    assert complete_recipe("") == list(shipped_recipes())
    assert complete_recipe("cpu-s") == ["cpu-small"]


@pytest.mark.parametrize(("typed", "expected"), [("inkfold tr", "train"), ("inkfold train cpu-s", "cpu-small")])
def test_a_shell_completes_commands_and_recipes(tmp_path, typed, expected):
    completing = {"_INKFOLD_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    assert inkfold(home=tmp_path, variables=completing).stdout.split() == [expected]


def test_completion_scripts_can_be_shown(tmp_path):
    shown = inkfold("--show-completion", "bash", home=tmp_path, variables={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    assert shown.returncode == 0
    assert "_INKFOLD_COMPLETE=complete_bash" in shown.stdout
