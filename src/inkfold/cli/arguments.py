"""The command line's grammar: which commands there are and what each takes. What they do is in `cli`."""

import argparse
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

DESCRIPTION = "Turns a folder of labelled drawings into the best classifier that your machine can afford, and proves it."
TRAIN_HELP = """\
examples:
  inkfold train cpu-small data=drawings out=runs/first
  inkfold train recipes/eva02-large-linear.yaml data=drawings out=runs/eva fit.lr=3e-4 seed=7
  inkfold train cpu-ensemble data=drawings out=runs/ensemble vote.method=hard

Of an ensemble, data, folds, members, vote and seed are its own; every other key goes to all its members.
"""
TUNE_HELP = """\
examples:
  inkfold tune cpu-small data=drawings out=studies/first tune.trials=100
  inkfold tune cpu-small data=drawings out=studies/lr 'tune.space={fit.lr: {low: 1e-4, high: 0.1, log: true}}'

The same command again continues a study, also with more tune.trials; run it in several terminals to work on one study at once.
"""
VOTE_HELP = """\
examples:
  inkfold vote runs/lite0 runs/mobilenet runs/resnet --out runs/ensemble
  inkfold vote runs/lite0 theirs.csv theirs.npz --method hard --ties lowest_id --out runs/ensemble

A file holds test predictions: .csv (image_path with target, or with a column for each class), .npz (probs, image_paths),
.npy (with NAME.csv beside it, whose image_path names the rows) or .parquet. A directory may hold out_of_fold.* and test.*.
"""
REPORT_HELP = """\
examples:
  inkfold report runs/best
  inkfold report runs/small runs/best --out comparison.html
"""
SERVE_HELP = """\
examples:
  inkfold serve runs/best --open
  inkfold serve model.onnx --port 9000

A run is exported once, into INKFOLD_HOME. The page is at /, the interface at /docs.
Needs extras: pip install 'inkfold[export,serve]', on a machine that serves an exported model 'inkfold[serve]'.
"""
EXPORT_HELP = """\
examples:
  inkfold export runs/best --out model.onnx
  inkfold export runs/best --out small.onnx --quantise int8
  inkfold export runs/best --safetensors model.safetensors
  inkfold export runs/ensemble --out members --set

The file takes uint8 drawings of any size, (batch, height, width, 1 or 3), and gives class probabilities; docs/export.md.
"""
COLLECT: dict[str, Any] = {"nargs": "*", "metavar": "key=value"}

Command = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """Takes key=value after options too, where argparse gives up looking for them."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Move what looks like a setting to a command's settings."""
        given, rest = super().parse_known_args(args, namespace)
        if "settings" in given:
            names = getattr(given, "backbones", [])
            given.settings = [*given.settings, *(text for text in (*names, *rest) if _is_setting(text))]
            rest = [text for text in rest if not _is_setting(text)]
            if names:
                given.backbones = [name for name in names if not _is_setting(name)]
                if not given.backbones:
                    self.error(f"argument --backbones: expected a name, got only the setting {names[0]}")
        return given, rest


def _is_setting(text: str) -> bool:
    return "=" in text and not text.startswith("-")


def build_parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """Build the parser of all commands.

    Args:
        commands: What each does, by name.

    Returns:
        A parser whose answers have `command`.
    """
    parser = _Parser("inkfold", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"inkfold {version('inkfold')}")
    shared = _Parser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    added = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (about, epilog, fill) in _GRAMMAR.items():
        shape: dict[str, Any] = {"epilog": epilog, "formatter_class": argparse.RawDescriptionHelpFormatter} if epilog else {}
        command = added.add_parser(name, help=about, description=about, parents=[shared], **shape)
        command.set_defaults(command=commands[name])
        fill(command)
    return parser


def _add_on(command: argparse.ArgumentParser) -> None:
    about = "who computes features, with the same results: inline, pool[:N], ray[:ADDRESS][:N]; on Ray, N fine-tune together"
    command.add_argument("--on", default="inline", metavar="WHERE", help=about)


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 1")
    return int(text)


def _fill_train(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", help="a YAML file, or a shipped recipe's name (see `inkfold recipes`)")
    command.add_argument("settings", **COLLECT, help="data=DIR out=RUN, and any key of the recipe")
    _add_on(command)
    command.add_argument("--log", metavar="TRACKER", help="tell wandb or mlflow, if installed, of the finished run")


def _fill_explore(command: argparse.ArgumentParser) -> None:
    command.add_argument("data", type=Path)
    command.add_argument("settings", **COLLECT, help="keys of the recipe that all have in common")
    command.add_argument("--backbones", nargs="+", default=[], metavar="NAME", help="timm's names, also such as 'vit_tiny*'")
    command.add_argument(
        "--sample", type=int, help="about so many drawings, one of each class at least, for a quick first pass"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--plot", type=Path, help="write accuracy against cost as an .svg")
    _add_on(command)


def _fill_tune(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", help="a YAML file, or a shipped recipe's name; its tune section says what to try")
    command.add_argument("settings", **COLLECT, help="data=DIR out=STUDY, and any key of the recipe")
    _add_on(command)


def _fill_vote(command: argparse.ArgumentParser) -> None:
    command.add_argument("members", nargs="+", type=Path, metavar="MEMBER", help="a run, a file or a directory of predictions")
    command.add_argument("--out", type=Path, required=True, help="the ensemble's directory")
    command.add_argument("--method", default="auto", help="auto, soft, hard, geometric, rank, weighted, greedy or stack")
    command.add_argument("--within", default="soft", help="how the folds of a model vote on test drawings: soft or hard")
    command.add_argument("--ties", default="mean_probability", help="of hard votes: mean_probability or lowest_id")
    command.add_argument("--calibrate", action="store_true", help="fit each member's temperature out of fold first")
    command.add_argument("--data", type=Path, help="names classes and labels for files that don't")
    command.add_argument("--seed", type=int, default=42, help="of what is random in fitting a vote")
    command.add_argument(
        "--set", nargs="+", default=[], metavar="key=value", help="how the data are read, such as data.test_targets=labels.csv"
    )


def _fill_predict(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path)
    command.add_argument("images", type=Path, help="a drawing, or a directory of drawings")
    command.add_argument("--out", type=Path, required=True, help="the CSV to write")
    command.add_argument("--on-broken", choices=("error", "skip"), default="error", help="skip: leave their cells empty")


def _fill_weakness(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path)
    command.add_argument("--data", type=Path, help="where the drawings are, if they have moved")
    command.add_argument("--json", action="store_true", help="print JSON")


def _fill_report(command: argparse.ArgumentParser) -> None:
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a finished run or ensemble; several are compared")
    command.add_argument("--out", type=Path, help="the HTML file; RUN/report.html, or comparison.html for several")
    command.add_argument("--data", type=Path, help="where the drawings are, if they have moved")


def _fill_serve(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", type=Path, metavar="RUN_OR_ONNX", help="a finished run, or an exported model")
    command.add_argument("--host", default="127.0.0.1", help="who can reach it: this machine alone unless you say otherwise")
    command.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    command.add_argument("--threads", type=_whole, help="of each forward; two, or as many as there are cores")
    command.add_argument("--open", action="store_true", help="open the page in your browser")


def _fill_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path)
    command.add_argument("--out", type=Path, metavar="FILE", help="the ONNX file; with --set, a directory")
    command.add_argument("--quantise", choices=("int8",), help="8-bit numbers: smaller and faster; says what they cost")
    command.add_argument("--set", action="store_true", help="of an ensemble: a file a member, and set.json with weights")
    command.add_argument("--safetensors", type=Path, metavar="FILE", help="write the network for PyTorch users, too or only")
    command.add_argument("--nearest", action="store_true", help="write the index of training drawings that `serve` shows, too")
    command.add_argument("--without-tta", action="store_true", help="leave test-time views out")
    command.add_argument("--fitted", action="store_true", help="take only squares made by inkfold.images.preprocess")
    command.add_argument("--data", type=Path, help="where the drawings are, if they have moved")
    command.add_argument("--drawings", type=int, default=500, metavar="N", help="ask file and run for so many, and compare")


def _fill_check(command: argparse.ArgumentParser) -> None:
    command.add_argument("data", type=Path)
    command.add_argument("settings", **COLLECT, help="keys of the recipe's data section, k=5")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--html", type=Path, help="write a page with pictures of the duplicates")
    command.add_argument(
        "--no-duplicates", action="store_true", help="don't look for duplicates; then nothing is written at all"
    )


def _fill_audit(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path)
    command.add_argument("--json", action="store_true", help="print what is written to RUN/audit.json")


def _fill_augment(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", help="a YAML file, or a shipped recipe's name")
    command.add_argument("settings", **COLLECT, help="data=DIR, curriculum=winner, any key of the recipe")
    command.add_argument("--out", type=Path, required=True, help="the picture to write: .png, .jpg or .webp")
    command.add_argument("--rows", type=int, default=8, help="drawings to show")


def _fill_recipes(command: argparse.ArgumentParser) -> None:
    pass


def _fill_cache(command: argparse.ArgumentParser) -> None:
    command.add_argument("action", nargs="?", choices=("list", "prune"), default="list")
    command.add_argument("names", nargs="*", help="entries to prune; none means all that are old enough")
    command.add_argument("--older-than-days", type=float, help="prune only what nothing was added to for so long")
    command.add_argument("--all", action="store_true", help="prune everything")


def _fill_demo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, default=Path("demo"))
    command.add_argument("--per-class", type=int, default=40, help="training drawings a class")
    command.add_argument("--serve", action="store_true", help="end with the page to draw on, until Ctrl-C")


_GRAMMAR: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], None]]] = {
    "train": ("drawings to a run: folds, predictions, metrics, submission", TRAIN_HELP, _fill_train),
    "explore": ("compare backbones on your drawings: accuracy and cost", "", _fill_explore),
    "tune": ("the best hyper-parameters for these drawings, and an honest figure of what they gain", TUNE_HELP, _fill_tune),
    "vote": ("runs and files of predictions to an ensemble, chosen on out-of-fold predictions", VOTE_HELP, _fill_vote),
    "predict": ("new drawings to a CSV, with a finished run", "", _fill_predict),
    "report": (
        "one HTML file that shows a run, or several side by side: figures, drawings, what next",
        REPORT_HELP,
        _fill_report,
    ),
    "serve": ("a page to draw on, and an HTTP interface", SERVE_HELP, _fill_serve),
    "export": ("a run as one ONNX file with its preprocessing inside, checked against the run", EXPORT_HELP, _fill_export),
    "weakness": (
        "how a run fares when its drawings are turned, bent, thin or half erased, and what to learn from",
        "",
        _fill_weakness,
    ),
    "check": ("read and decode a data set and say what is wrong with it, duplicates and leaks among it", "", _fill_check),
    "audit": ("duplicates, doubtful labels and confused classes in the data of a finished run", "", _fill_audit),
    "augment": ("a contact sheet of what a recipe's augmentation does to your drawings", "", _fill_augment),
    "recipes": ("list the shipped recipes", "", _fill_recipes),
    "cache": ("list or prune decoded drawings, features and served models", "", _fill_cache),
    "demo": ("the main job on drawings that inkfold draws itself, offline", "", _fill_demo),
}
