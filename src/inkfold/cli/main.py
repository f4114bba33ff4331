"""The command line: parses, calls, prints. Heavy modules are imported by the command that needs them."""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from inkfold.cli.arguments import build_parser
from inkfold.cli.output import (
    print_audit,
    print_backbones,
    print_exported,
    print_run,
    print_search,
    print_table,
    print_weaknesses,
)
from inkfold.errors import ExportError, InkfoldError, RecipeError, problem_lines

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141  # 128 + SIGPIPE, which Windows hasn't


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Without the program's name; None takes the process's own.

    Returns:
        The exit code: 0, 1 for findings of `check`, 2 for what the user can mend, 130 after Ctrl-C.
    """
    given = build_parser(COMMANDS).parse_args(arguments)
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
        return EXIT_PIPE_CLOSED
    except OSError as error:
        if given.debug:
            raise
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error) or type(error).__name__
        print(f"error: {text}. Check the place and its free space.", file=sys.stderr)
        return EXIT_USER_ERROR


def _error_text(error: InkfoldError) -> str:
    return "\n".join(problem_lines(error.problems)) if error.problems else f"error: {error}"


def _train(given: argparse.Namespace) -> int:
    from inkfold.ensemble.build import train_any
    from inkfold.pipeline.run_files import open_run_files
    from inkfold.report.trackers import log_run, open_tracker

    out, settings = _take(given.settings, "out")
    if out is None:
        raise InkfoldError("out: is missing. Say where the run goes: out=RUN.")
    tracker = open_tracker(given.log) if given.log else None
    run = _with_progress(lambda progress: train_any(given.recipe, *settings, out=out, progress=progress, on=given.on))
    print_run(run)
    if tracker is not None:
        log_run(tracker, open_run_files(out))
    return 0


def _vote(given: argparse.Namespace) -> int:
    from inkfold.config.load import validate_vote
    from inkfold.ensemble.build import vote

    how = validate_vote({name: getattr(given, name) for name in ("method", "within", "ties", "calibrate")})
    run = _with_progress(
        lambda progress: vote(
            given.members, how, out=given.out, data=given.data, settings=given.set, seed=given.seed, progress=progress
        )
    )
    print_run(run)
    return 0


def _explore(given: argparse.Namespace) -> int:
    from inkfold.search.backbones import explore, explored_json

    settings, names = given.settings, given.backbones
    rows, problems = _with_progress(
        lambda progress: explore(given.data, names, settings, sample=given.sample, progress=progress, on=given.on)
    )
    if given.json:
        print(explored_json(given.data, rows, problems))
    else:
        print_backbones(rows)
        for name, problem in problems.items():
            print(f"not tried: {name}: {problem.splitlines()[0]}", file=sys.stderr)
    measured = [row.as_json() for row in rows if row.images_per_s]
    if given.plot and measured:
        from inkfold.evaluation.plots import plot_costs

        plot_costs(given.plot, measured, "Backbones on these drawings")
        print(f"plot: {given.plot}", file=sys.stderr)
    elif given.plot:
        print("no plot: what the features cost is not known, as none were computed by this version", file=sys.stderr)
    return 0 if rows else EXIT_USER_ERROR


def _tune(given: argparse.Namespace) -> int:
    from inkfold.search.study import tune

    out, settings = _take(given.settings, "out")
    if out is None:
        raise InkfoldError("out: is missing. Say where the study goes: out=STUDY.")
    _refuse_ensemble("tune", given.recipe)
    summary = _with_progress(lambda progress: tune(given.recipe, *settings, out=out, progress=progress, on=given.on))
    print_search(summary, out)
    return 0


def _predict(given: argparse.Namespace) -> int:
    from inkfold.ensemble.model import load_run
    from inkfold.pipeline.run import files_of, write_predictions

    run = load_run(given.run)
    names, files = files_of(given.images)
    probs = _with_progress(lambda progress: run.predict_proba(files, progress, given.on_broken))
    write_predictions(given.out, names, probs, run)
    broken = sum(math.isnan(first) for first in probs[:, 0].tolist())
    print(f"{len(names) - broken} drawings predicted, {broken} left empty as broken: {given.out}")
    return 0


def _weakness(given: argparse.Namespace) -> int:
    from inkfold.audit.robustness import find_weaknesses
    from inkfold.ensemble.model import load_run
    from inkfold.pipeline.run import Run

    run = load_run(given.run)
    if not isinstance(run, Run):
        members = ", ".join(str(member.path) for member in run.members if member is not None)
        raise InkfoldError(f"{given.run}: is an ensemble. Ask its members one by one: {members or 'runs, not mere files'}.")
    found = _with_progress(lambda progress: find_weaknesses(run, given.data, progress))
    if given.json:
        _print_json(found)
    else:
        print_weaknesses(found, run.path)
    return 0


def _report(given: argparse.Namespace) -> int:
    from pathlib import Path

    from inkfold.report.write import write_report

    out = given.out or (given.runs[0] / "report.html" if len(given.runs) == 1 else Path("comparison.html"))
    pictures = write_report(given.runs, out, given.data)
    print(f"report: {out} ({out.stat().st_size / 1e6:.1f} MB, {pictures} drawings)")
    return 0


def _write_index(given: argparse.Namespace) -> None:
    """Write the index of drawings beside a model, which is of use without it."""
    from inkfold.serve.index import write_index

    try:
        path = _with_progress(lambda progress: write_index(given.run, given.out, given.data, progress))
        print(f"nearest drawings: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    except InkfoldError as error:
        print(f"warning: no index of drawings: {error}".splitlines()[0], file=sys.stderr)


def _serve(given: argparse.Namespace) -> int:
    try:
        import h11  # noqa: F401
        import onnxruntime  # noqa: F401
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise InkfoldError(
            f"serve: needs {error.name}, which isn't installed: pip install 'inkfold[serve]' for exported models, "
            "'inkfold[export,serve]' for runs too."
        ) from None
    from inkfold.serve.prepare import find_model
    from inkfold.serve.server import ServeOptions, serve

    options = ServeOptions(given.host, given.port, given.threads, given.open)
    serve(find_model(given.model, _say), options, _say)
    return 0


def _export(given: argparse.Namespace) -> int:
    from inkfold.export.export import ExportOptions, export_onnx, export_safetensors, export_set

    if given.out is None and given.safetensors is None:
        raise ExportError("export: says nowhere to write. Give --out FILE, --safetensors FILE or both.")
    if given.out is None and (given.quantise or given.set or given.nearest):
        raise ExportError("export: --quantise, --set and --nearest are about the ONNX file. Give --out too.")
    options = ExportOptions(
        int8=given.quantise == "int8",
        views=not given.without_tta,
        fitted=given.fitted,
        data=given.data,
        drawings=max(1, given.drawings),
    )
    if given.out is not None and given.set:
        print_exported(_with_progress(lambda progress: export_set(given.run, given.out, options, progress)))
    elif given.out is not None:
        print_exported([_with_progress(lambda progress: export_onnx(given.run, given.out, options, progress))])
    if given.nearest:
        _write_index(given)
    if given.safetensors is not None:
        size_bytes = export_safetensors(given.run, given.safetensors)
        print(f"network: {given.safetensors} ({size_bytes / 1e6:.1f} MB)")
    return 0


def _check(given: argparse.Namespace) -> int:
    from inkfold.audit.check import check_data
    from inkfold.pipeline.build import check_options

    options, k = check_options(given.data, given.settings)
    if given.html and given.no_duplicates:
        raise InkfoldError("check: --html shows duplicates, and --no-duplicates looks for none. Leave one of them out.")
    checkup = _with_progress(
        lambda progress: check_data(given.data, options, k=k, duplicates=not given.no_duplicates, progress=progress)
    )
    if given.html:
        from inkfold.report.check_page import write_check_page

        write_check_page(given.html, checkup)
        print(f"page: {given.html}", file=sys.stderr)
    if given.json:
        _print_json(checkup.as_json())
    else:
        for line in problem_lines(checkup.problems):
            print(line)
        counts = {key: value for key, value in checkup.counts.items() if key != "class_names"}
        for key, value in counts.items():
            print(f"{key}: {value}")
        print("ready to train" if checkup.ok else "not ready: mend the errors, or train with data.on_broken=skip")
    return 0 if checkup.ok else 1


def _audit(given: argparse.Namespace) -> int:
    from inkfold.audit.run_audit import audit_run

    audit = _with_progress(lambda progress: audit_run(given.run, progress))
    if given.json:
        _print_json(audit)
    else:
        print_audit(audit, given.run)
    return 0


def _augment(given: argparse.Namespace) -> int:
    from inkfold.pipeline.build import settle_recipe
    from inkfold.report.contact_sheet import write_preview

    _refuse_ensemble("augment", given.recipe)
    recipe = settle_recipe(given.recipe, tuple(given.settings))
    columns = write_preview(recipe, given.out, max(1, given.rows))
    if len(columns) == 1:
        print("the recipe shows drawings as they are; try curriculum=winner")
    print(f"{len(columns)} views: {given.out}")
    return 0


def _recipes(given: argparse.Namespace) -> int:
    from inkfold.config.load import shipped_recipes

    for name, path in shipped_recipes().items():
        print(f"{name:<24} {path.read_text(encoding='utf-8').splitlines()[0].removeprefix('# ')}")
    return 0


def _cache(given: argparse.Namespace) -> int:
    from inkfold.storage.cache import home, list_cache, prune_cache

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
    print_table(f"{'removed from' if given.action == 'prune' else 'in'} {home()}", _CACHE_COLUMNS, rows)
    return 0


def _demo(given: argparse.Namespace) -> int:
    from inkfold.data.synthetic import RECIPE, prepare_demo
    from inkfold.pipeline.train import train
    from inkfold.report.write import write_report

    data = prepare_demo(given.out, per_class=given.per_class)
    print(f"drew the sample: {data}")
    print("backbone: ink-small, which has seen other drawings of these classes by the same hand: expect less of your own.")
    settings = [f"data={data}", "data.test_targets=test_labels.csv"]
    run = _with_progress(lambda progress: train(RECIPE, *settings, out=given.out / "run", progress=progress))
    print_run(run)
    write_report([run.path], given.out / "report.html")
    print(f"report: {given.out / 'report.html'}")
    if given.serve:
        return main(["serve", str(run.path), "--open"])
    program = sys.argv[0] if os.path.basename(sys.argv[0]).startswith("inkfold") else "inkfold"  # noqa: PTH119
    print(f"draw, and see what it says: {program} serve {run.path} --open")
    return 0


_CACHE_COLUMNS = ("entry", "size", "shards", "days", "made with")


def _refuse_ensemble(command: str, recipe: str) -> None:
    from inkfold.config.load import load_raw

    raw = load_raw(recipe)
    if "members" not in raw:
        return
    members = raw["members"] if isinstance(raw["members"], list) else []
    named = dict.fromkeys(str(one["recipe"]) for one in members if isinstance(one, dict) and "recipe" in one)
    those = f", such as its members' own: {', '.join(named)}" if named else ""
    raise RecipeError(f"recipe '{recipe}': is an ensemble's, and {command} takes one model's. Name one{those}.")


def _take(settings: Sequence[str], key: str) -> tuple[str | None, list[str]]:
    """Take `key=value` out of the settings; the last one counts."""
    found = [text.partition("=")[2] for text in settings if text.partition("=")[0] == key]
    return (found[-1] if found else None), [text for text in settings if text.partition("=")[0] != key]


def _say(text: str) -> None:
    print(text, flush=True)


def _print_json(values: Any) -> None:
    print(json.dumps(values, indent=2, ensure_ascii=False))


def _with_progress(work: Callable[[Any], Any]) -> Any:
    from inkfold.runtime.progress import console_progress

    with console_progress() as progress:
        return work(progress)


COMMANDS = {
    "train": _train,
    "explore": _explore,
    "tune": _tune,
    "vote": _vote,
    "predict": _predict,
    "weakness": _weakness,
    "report": _report,
    "serve": _serve,
    "export": _export,
    "check": _check,
    "audit": _audit,
    "augment": _augment,
    "recipes": _recipes,
    "cache": _cache,
    "demo": _demo,
}


if __name__ == "__main__":
    sys.exit(main())
