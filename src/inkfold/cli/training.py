"""The commands that make runs: train, explore, tune, vote, demo."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inkfold.cli.app import (
    EXIT_USER_ERROR,
    AsJson,
    Executor,
    RecipeName,
    any_number,
    command,
    is_setting,
    settings_argument,
    take_out,
)
from inkfold.cli.output import print_backbones, print_search
from inkfold.cli.run_output import print_run
from inkfold.errors import RecipeError
from inkfold.runtime.progress import console_progress

if TYPE_CHECKING:
    from inkfold.ensemble.model import Ensemble
    from inkfold.pipeline.run import Run

TRAIN_EXAMPLES = """\
examples:
  inkfold train auto data=drawings out=runs/best budget=10m
  inkfold train auto data=drawings out=runs/best budget=1h
  inkfold train auto data=drawings out=runs/again auto.replay=runs/best/auto.json
  inkfold train cpu-small data=drawings out=runs/first
  inkfold train recipes/eva02-large-linear.yaml data=drawings out=runs/eva folds.k=10 seed=7
  inkfold train cpu-ensemble data=drawings out=runs/ensemble vote.method=hard

auto searches for the best classifier within the budget (30s, 10m, 1h, 12h);
with a larger one, the same command goes on. Any key of a recipe, such as
image.resize=pad, then holds for everything that is tried.

In an ensemble's recipe, data, folds, members, vote and seed belong to the
ensemble; every other key is passed to all its members.
"""
EXPLORE_EXAMPLES = """\
examples:
  inkfold explore drawings
  inkfold explore drawings --backbones 'convnext_atto*' --backbones resnet18 --sample 2000
  inkfold explore drawings --backbones mobilenetv2_100 --plot costs.svg
"""
TUNE_EXAMPLES = """\
examples:
  inkfold tune cpu-small data=drawings out=studies/first tune.trials=100
  inkfold tune cpu-small data=drawings out=studies/smooth 'tune.space={head.hidden: [[64], [256]]}'

The same command again continues a study, also with more tune.trials; run it
in several terminals to let them share one study.
"""
VOTE_EXAMPLES = """\
examples:
  inkfold vote runs/lite0 runs/mobilenet runs/resnet --out runs/ensemble
  inkfold vote runs/lite0 theirs.csv theirs.npz --method hard --ties lowest_id --out runs/ensemble

A file holds test predictions: .csv (image_path with target, or with a column
for each class), .npz (probs, image_paths), .npy (with NAME.csv beside it,
whose image_path names the rows) or .parquet. A directory may hold
out_of_fold.* and test.*.
"""


@command(TRAIN_EXAMPLES, part="train")
def train(
    recipe: RecipeName,
    settings: Annotated[list[str], settings_argument("data=DIR out=RUN, and any key of the recipe.")],
    *,
    on: Executor = "inline",
    log: Annotated[
        str | None, typer.Option(metavar="TRACKER", help="Send the finished run to wandb or mlflow, if installed.")
    ] = None,
) -> int:
    """Train a classifier on labelled drawings. Leaves a run: folds, predictions, metrics, submission."""
    from inkfold.auto.train import train_any
    from inkfold.pipeline.run_files import open_run_files
    from inkfold.report.trackers import log_run, open_tracker

    out, others = take_out(settings, "run")
    tracker = open_tracker(log) if log else None
    if is_search(recipe):
        run = _search(recipe, others, out=out, on=on)
    else:
        was_finished = _is_finished(out)
        with console_progress() as progress:
            run = train_any(recipe, *others, out=out, progress=progress, on=on)
        print_run(run, was_finished=was_finished)
    if tracker is not None:
        log_run(tracker, open_run_files(out))
    return 0


@command(EXPLORE_EXAMPLES, part="train")
def explore(
    ctx: typer.Context,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The directory or table of labelled drawings.")],
    words: Annotated[list[str], typer.Argument(help="Keys of the recipe that all backbones share.", **any_number("key=value"))],
    *,
    backbones: Annotated[
        list[str],
        typer.Option(help="A name that timm knows, or a pattern such as 'vit_tiny*'; repeat it.", **any_number("NAME")),
    ],
    sample: Annotated[
        int | None, typer.Option(help="Take about so many drawings, at least one of each class, for a quick first pass.")
    ] = None,
    as_json: AsJson = False,
    plot: Annotated[Path | None, typer.Option(help="Write accuracy against cost as an .svg.")] = None,
    on: Executor = "inline",
) -> int:
    """Compare backbones on your drawings: accuracy and cost."""
    from inkfold.search.backbones import explore as explore_backbones
    from inkfold.search.backbones import explored_json
    from inkfold.storage.outputs import check_output

    if plot:
        check_output(plot)  # before the work, not after it
    names, settings = _sort_words(ctx, backbones, words)
    if any(setting.startswith("metric=") for setting in settings):
        print("metric: explore compares backbones by accuracy; train, tune and vote go by the metric", file=sys.stderr)
    with console_progress() as progress:
        rows, problems = explore_backbones(data, names, settings, sample=sample, progress=progress, on=on)
    if as_json:
        print(explored_json(data, rows, problems))
    else:
        print_backbones(rows)
        for name, problem in problems.items():
            print(f"not tried: {name}: {problem.splitlines()[0]}", file=sys.stderr)
    measured = [row.as_json() for row in rows if row.images_per_s]
    if plot and measured:
        from inkfold.evaluation.plots import plot_costs

        plot_costs(plot, measured)
        print(f"plot: {plot}", file=sys.stderr)
    elif plot:
        print("no plot: what the features cost is not known, as none were computed by this version", file=sys.stderr)
    return 0 if rows else EXIT_USER_ERROR


def _sort_words(ctx: typer.Context, backbones: list[str], words: list[str]) -> tuple[list[str], list[str]]:
    """Part names from settings: `--backbones a b c=1` is read as `--backbones a --backbones b c=1`."""
    names = [word for word in backbones if not is_setting(word)]
    if backbones and not names:
        ctx.fail(f"Option '--backbones' expects a name, got only the setting {backbones[0]}.")
    more = [word for word in words if not is_setting(word)]
    if more and not backbones:
        ctx.fail(f"Got {more[0]!r}, expected key=value.")
    return [*names, *more], [word for word in (*words, *backbones) if is_setting(word)]


@command(TUNE_EXAMPLES, part="train")
def tune(
    recipe: RecipeName,
    settings: Annotated[
        list[str], settings_argument("data=DIR out=STUDY, and any key of the recipe; its tune section says what to try.")
    ],
    *,
    on: Executor = "inline",
) -> int:
    """Search hyper-parameters, and measure what they gain. The gain is measured on drawings that the search never saw."""
    from inkfold.search.study import tune as tune_recipe

    out, others = take_out(settings, "study")
    refuse_ensemble("tune", recipe)
    with console_progress() as progress:
        summary = tune_recipe(recipe, *others, out=out, progress=progress, on=on)
    print_search(summary, out)
    return 0


@command(VOTE_EXAMPLES, reads=("members",))
def vote(
    members: Annotated[list[Path], typer.Argument(metavar="MEMBER", help="Runs, and files or directories of predictions.")],
    *,
    settings: Annotated[
        list[str],
        typer.Option(
            "--set", help="How the data are read, such as data.test_targets=labels.csv; repeat it.", **any_number("key=value")
        ),
    ],
    out: Annotated[Path, typer.Option(help="The ensemble's directory.")],
    method: Annotated[
        str, typer.Option(help="auto, soft, hard, geometric, rank, weighted, greedy or stack; auto chooses out of fold.")
    ] = "auto",
    within: Annotated[str, typer.Option(help="How the folds of one model vote on test drawings: soft or hard.")] = "soft",
    ties: Annotated[
        str, typer.Option(help="Which class wins a tie of hard votes: mean_probability or lowest_id.")
    ] = "mean_probability",
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Fit each member's temperature out of fold before the vote.")
    ] = False,
    data: Annotated[Path | None, typer.Option(help="The data set that names classes and labels for files that don't.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of what is random in fitting a vote.")] = 42,
    metric: Annotated[
        str | None,
        typer.Option(help="What the vote is chosen by, such as macro_f1; by default the runs' own metric."),
    ] = None,
) -> int:
    """Combine runs and files of predictions into an ensemble. Its vote is chosen on out-of-fold predictions."""
    from inkfold.config.load import validate_vote
    from inkfold.ensemble.build import vote as build_ensemble

    # `--set a=1 b=2` is read as `--set a=1 --set b=2`
    more = [str(path) for path in members if settings and is_setting(str(path)) and not path.exists()]
    recipe = validate_vote({"method": method, "within": within, "ties": ties, "calibrate": calibrate})
    was_finished = _is_finished(out)
    with console_progress() as progress:
        run = build_ensemble(
            [path for path in members if str(path) not in more],
            recipe,
            out=out,
            data=data,
            settings=[*settings, *more],
            seed=seed,
            metric=metric,
            progress=progress,
        )
    print_run(run, was_finished=was_finished)
    return 0


@command(part="train")
def demo(
    *,
    out: Annotated[Path, typer.Option(help="The directory for the drawings, the run and its report.")] = Path("demo"),
    per_class: Annotated[int, typer.Option(help="Training drawings of each class.")] = 40,
    budget: Annotated[str, typer.Option(help="Time of the search, such as 30s or 5m; a larger one goes on.")] = "30s",
    serve: Annotated[bool, typer.Option("--serve", help="Open the page to draw on at the end, until Ctrl-C.")] = False,
) -> int:
    """Train and report on drawings that inkfold makes itself, offline."""
    from inkfold.cli import deployment
    from inkfold.data.synthetic import RECIPE, prepare_demo
    from inkfold.report.write import write_report

    data = prepare_demo(out, per_class=per_class)
    print(f"drew the sample: {data}")
    print("backbone: ink-small, which has seen other drawings of these classes by the same hand: expect less of your own.")
    settings = [f"data={data}", "data.test_targets=test_labels.csv", f"budget={budget}"]
    run = _search(RECIPE, settings, out=str(out / "run"))
    write_report([run.path], out / "report.html")
    print(f"report: {out / 'report.html'}")
    if serve:
        return deployment.serve(run.path, open_page=True)
    program = sys.argv[0] if os.path.basename(sys.argv[0]).startswith("inkfold") else "inkfold"  # noqa: PTH119
    print(f"draw, and see what it says: {program} serve {run.path} --open")
    return 0


def _search(recipe: str, settings: Sequence[str], *, out: str, on: str = "inline") -> "Run | Ensemble":
    """Search within a budget, and print what was found, what it cost, and what more time would bring."""
    from inkfold.auto.record import AUTO, AutoRecord
    from inkfold.auto.status import console_status
    from inkfold.auto.train import train_any
    from inkfold.cli.auto_output import print_search as print_found

    spent_s = AutoRecord.load(Path(out) / AUTO).spent_s if (Path(out) / AUTO).is_file() else 0.0
    with console_status() as status:
        run = train_any(recipe, *settings, out=out, progress=status, on=on)
    print_run(run)
    root = run.files.model_recipes[0].get("data", {}).get("root")
    print_found(AutoRecord.load(Path(out) / AUTO), Path(out), data=root, spent_before_s=spent_s)
    return run


def is_search(recipe: str) -> bool:
    """Say whether a recipe, a file or a shipped one's name, is of a search within a budget of time."""
    from inkfold.config.load import load_raw

    return "auto" in load_raw(recipe)


def _is_finished(out: str | Path) -> bool:
    from inkfold.pipeline.manifest import MANIFEST

    return (Path(out) / MANIFEST).is_file()


def refuse_ensemble(name: str, recipe: str) -> None:
    """Refuse an ensemble's recipe where one model's is needed.

    Args:
        name: The command's name, for the message.
        recipe: A file, or the name of a shipped recipe.

    Raises:
        RecipeError: If the recipe has members.
    """
    from inkfold.config.load import load_raw

    raw = load_raw(recipe)
    if "members" not in raw:
        return
    members = raw["members"] if isinstance(raw["members"], list) else []
    named = dict.fromkeys(str(member["recipe"]) for member in members if isinstance(member, dict) and "recipe" in member)
    those = f", such as its members' own: {', '.join(named)}" if named else ""
    raise RecipeError(f"recipe '{recipe}': is an ensemble's, and {name} takes one model's. Name one{those}.")
