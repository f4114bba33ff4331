import pytest
import typer.main

from inkfold.cli.app import APP, complete_recipe
from inkfold.cli.main import main
from inkfold.config.load import shipped_recipes
from toy import inkfold, python

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
        ([], "Usage: inkfold [OPTIONS] COMMAND [ARGS]..."),
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
        (
            ["explore", "d", "--backbones", "train_head.lr=1e-3"],
            "'--backbones' expects a name, got only the setting train_head.lr=1e-3",
        ),
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
