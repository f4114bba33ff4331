"""The command line: parses, calls, prints. Heavy modules are imported by the command that needs them."""

import argparse
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inkfold.errors import InkfoldError, problem_lines

if TYPE_CHECKING:
    from inkfold.run import Run

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

DESCRIPTION = "Turns a folder of labelled drawings into the best classifier that your machine can afford, and proves it."
TRAIN_HELP = """\
examples:
  inkfold train cpu-small data=drawings out=runs/first
  inkfold train recipes/eva02-large-linear.yaml data=drawings out=runs/eva fit.lr=3e-4 seed=7
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Without the program's name; None takes the process's own.

    Returns:
        The exit code: 0, 1 for findings of `check`, 2 for what the user can mend, 130 after Ctrl-C.
    """
    given = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = given.command
    try:
        return command(given)
    except InkfoldError as error:
        if given.debug:
            raise
        print(_error_text(error), file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted; what was done is kept: the same command continues.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `inkfold ... | head` is no error
        return 128 + signal.SIGPIPE
    except OSError as error:
        if given.debug:
            raise
        print(f"error: {error.filename}: {error.strerror}. Check the place and its free space.", file=sys.stderr)
        return EXIT_USER_ERROR


def _error_text(error: InkfoldError) -> str:
    return "\n".join(problem_lines(error.problems)) if error.problems else f"error: {error}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("inkfold", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=_version())
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], about: str, **options: Any) -> Any:
        added = commands.add_parser(name, help=about, description=about, parents=[shared], **options)
        added.set_defaults(command=command)
        return added

    raw = {"epilog": TRAIN_HELP, "formatter_class": argparse.RawDescriptionHelpFormatter}
    command = add("train", _train, "drawings to a run: folds, predictions, metrics, submission", **raw)
    command.add_argument("recipe", help="a YAML file, or a shipped recipe's name (see `inkfold recipes`)")
    command.add_argument("settings", nargs="*", metavar="key=value", help="data=DIR out=RUN, and any key of the recipe")
    command = add("predict", _predict, "new drawings to a CSV, with a finished run")
    command.add_argument("run", type=Path)
    command.add_argument("images", type=Path, help="a drawing, or a directory of drawings")
    command.add_argument("--out", type=Path, required=True, help="the CSV to write")
    command.add_argument("--on-broken", choices=("error", "skip"), default="error", help="skip: leave their cells empty")
    command = add("check", _check, "read and decode a data set and say what is wrong with it")
    command.add_argument("data", type=Path)
    command.add_argument("settings", nargs="*", metavar="key=value", help="keys of the recipe's data section, k=5")
    command.add_argument("--json", action="store_true", help="print JSON")
    command = add("augment", _augment, "a contact sheet of what a recipe's augmentation does to your drawings")
    command.add_argument("recipe", help="a YAML file, or a shipped recipe's name")
    command.add_argument("settings", nargs="*", metavar="key=value", help="data=DIR, curriculum=winner, any key of the recipe")
    command.add_argument("--out", type=Path, required=True, help="the picture to write: .png, .jpg or .webp")
    command.add_argument("--rows", type=int, default=8, help="drawings to show")
    command = add("recipes", _recipes, "list the shipped recipes")
    command = add("cache", _cache, "list or prune decoded drawings and features")
    command.add_argument("action", nargs="?", choices=("list", "prune"), default="list")
    command.add_argument("names", nargs="*", help="entries to prune; none means all that are old enough")
    command.add_argument("--older-than-days", type=float, help="prune only what nothing was added to for so long")
    command.add_argument("--all", action="store_true", help="prune everything")
    command = add("demo", _demo, "the main job on drawings that inkfold draws itself, offline")
    command.add_argument("--out", type=Path, default=Path("demo"))
    command.add_argument("--per-class", type=int, default=40, help="training drawings a class")
    return parser


def _train(given: argparse.Namespace) -> int:
    from inkfold.pipeline import train

    out, settings = _take(given.settings, "out")
    if out is None:
        raise InkfoldError("out: is missing. Say where the run goes: out=RUN.")
    run = _with_progress(lambda progress: train(given.recipe, *settings, out=out, progress=progress))
    _print_run(run)
    return 0


def _predict(given: argparse.Namespace) -> int:
    from inkfold.run import files_of, load_run, write_predictions

    run = load_run(given.run)
    names, files = files_of(given.images)
    probs = _with_progress(lambda progress: run.predict_proba(files, progress, given.on_broken))
    write_predictions(given.out, names, probs, run)
    broken = sum(math.isnan(first) for first in probs[:, 0].tolist())
    print(f"{len(names) - broken} drawings predicted, {broken} left empty as broken: {given.out}")
    return 0


def _check(given: argparse.Namespace) -> int:
    from inkfold.check import check_data
    from inkfold.pipeline import check_options

    options, k = check_options(given.data, given.settings)
    checkup = _with_progress(lambda progress: check_data(given.data, options, k=k, progress=progress))
    if given.json:
        print(json.dumps(checkup.as_json(), indent=2, ensure_ascii=False))
    else:
        for line in problem_lines(checkup.problems):
            print(line)
        counts = {key: value for key, value in checkup.counts.items() if key != "class_names"}
        for key, value in counts.items():
            print(f"{key}: {value}")
        print("ready to train" if checkup.ok else "not ready: mend the errors, or train with data.on_broken=skip")
    return 0 if checkup.ok else 1


def _augment(given: argparse.Namespace) -> int:
    from inkfold.pipeline import settle_recipe
    from inkfold.preview import write_preview

    recipe = settle_recipe(given.recipe, tuple(given.settings))
    columns = write_preview(recipe, given.out, max(1, given.rows))
    if len(columns) == 1:
        print("the recipe shows drawings as they are; try curriculum=winner")
    print(f"{len(columns)} views: {given.out}")
    return 0


def _recipes(given: argparse.Namespace) -> int:
    from inkfold.config import shipped_recipes

    for name, path in shipped_recipes().items():
        print(f"{name:<24} {path.read_text(encoding='utf-8').splitlines()[0].removeprefix('# ')}")
    return 0


def _cache(given: argparse.Namespace) -> int:
    from inkfold.cache import list_cache, prune_cache
    from inkfold.home import home

    if given.action == "prune":
        if not (given.names or given.all or given.older_than_days is not None):
            raise InkfoldError("cache prune: say what: NAMES, --older-than-days DAYS or --all.")
        entries = prune_cache(home(), given.names, older_than_days=given.older_than_days)
    else:
        entries = list_cache(home())
    rows = [
        (entry.name, f"{entry.bytes / 1e6:.1f} MB", str(entry.shards), f"{entry.age_days:.1f}", entry.description)
        for entry in entries
    ]
    _print_table(f"{'removed from' if given.action == 'prune' else 'in'} {home()}", _CACHE_COLUMNS, rows)
    return 0


def _demo(given: argparse.Namespace) -> int:
    from inkfold.demo import RECIPE, prepare_demo
    from inkfold.pipeline import train

    data = prepare_demo(given.out, per_class=given.per_class)
    print(f"drew the sample: {data}")
    print("backbone: untrained (seeded random weights), so the accuracy shows the path, not what drawings can reach.")
    settings = [f"data={data}", "data.test_targets=test_labels.csv"]
    run = _with_progress(lambda progress: train(RECIPE, *settings, out=given.out / "run", progress=progress))
    _print_run(run)
    return 0


_CACHE_COLUMNS = ("entry", "size", "shards", "days", "made with")


def _print_run(run: "Run") -> None:
    metrics = run.metrics
    rows = [("out of fold" if metrics["split"] == "kfold" else "held out", *_figures(metrics["out_of_fold"]))]
    rows += [(f"  fold {fold['fold']}", *_figures(fold)) for fold in metrics["folds"]]
    rows += [("test", *_figures(metrics["test"]))] if "test" in metrics else []
    _print_table("", ("", "drawings", "accuracy (95 %)", "top-5 (95 %)", "macro recall", "nll", "ece"), rows)
    _print_curve(run)
    skipped = {name: count for name, count in metrics["data"]["skipped"].items() if count}
    if skipped:
        print(f"left out as broken: {', '.join(f'{count} {name}' for name, count in skipped.items())}")
    for warning in run.manifest["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    cost = json.loads((run.path / "cost.json").read_text(encoding="utf-8"))
    seconds = ", ".join(f"{stage} {took:.1f}" for stage, took in cost["seconds"].items() if stage != "total")
    print(
        f"{cost['forwards']} forwards, {cost['forwards_cached']} from the bank; {cost['seconds']['total']:.1f} s ({seconds}); "
        f"peak {(cost['peak_memory_bytes'] or 0) / 2**20:.0f} MiB"
    )
    submission = run.path / "submission.csv"
    print(f"run: {run.path}" + (f"\nsubmission: {submission}" if submission.is_file() else ""))


def _print_curve(run: "Run") -> None:
    """Show where each stage ended, if there is more than drawings as they are."""
    curve = json.loads((run.path / "curve.json").read_text(encoding="utf-8"))
    if any(stage["augment"] for stage in curve["stages"]) or len(curve["stages"]) > 1:
        rows = []
        for stage in curve["stages"]:
            points = [point for point in curve["epochs"] if point["stage"] == stage["stage"]]
            rows.append(
                (
                    f"{points[0]['epoch']}-{points[-1]['epoch'] + 1}",
                    str(stage["views"]) if stage["augment"] else "",
                    f"{points[-1]['loss']:.3f}",
                    f"{points[-1]['held_out_loss']:.3f}",
                    f"{points[-1]['held_out_accuracy']:.3f}",
                    " + ".join(stage["augment"]) or "drawings as they are",
                )
            )
        _print_table("stages", ("epochs", "views", "loss", "held-out loss", "held-out accuracy", "what is learnt from"), rows)
    if gain := run.metrics.get("tta"):
        difference = gain["accuracy_with"] - gain["accuracy_without"]
        verdict = "not distinguishable from chance" if gain["p_value"] > 0.05 else "more than chance"
        print(f"test-time views: {difference:+.4f} out of fold, p = {gain['p_value']:.3g}: {verdict}")


def _figures(part: dict[str, Any]) -> tuple[str, ...]:
    def share(name: str) -> str:
        low, high = part[f"{name}_ci95"]
        return f"{part[name]:.3f} ({low:.3f}-{high:.3f})"

    return (
        str(part["n"]),
        share("accuracy"),
        share("top5_accuracy"),
        f"{part['macro_recall']:.3f}",
        f"{part['nll']:.3f}",
        f"{part['ece']:.3f}",
    )


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i in (0, len(columns) - 1) and title != "" else "right")
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)


def _take(settings: Sequence[str], key: str) -> tuple[str | None, list[str]]:
    """Take `key=value` out of the settings; the last one counts."""
    found = [text.partition("=")[2] for text in settings if text.partition("=")[0] == key]
    return (found[-1] if found else None), [text for text in settings if text.partition("=")[0] != key]


def _with_progress(work: Callable[[Any], Any]) -> Any:
    from inkfold.progress import console_progress

    with console_progress() as progress:
        return work(progress)


def _version() -> str:
    from importlib.metadata import version

    return f"inkfold {version('inkfold')}"


if __name__ == "__main__":
    sys.exit(main())
