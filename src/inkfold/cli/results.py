"""The commands that use or examine finished runs: predict, explain, report, weakness, audit."""

import contextlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from inkfold.cli.app import AsJson, MovedData, RunDirectory, any_number, command, notes_beside
from inkfold.cli.output import print_audit, print_comparison, print_explanation, print_fix_table, print_json, print_weaknesses
from inkfold.errors import DataError, InkfoldError, Problem, problem_lines
from inkfold.runtime.progress import console_progress

if TYPE_CHECKING:
    from inkfold.ensemble.model import Ensemble
    from inkfold.pipeline.run import Run

Raw = Annotated[
    bool,
    typer.Option(
        "--raw",
        help="Write names as they are; otherwise those that a spreadsheet would compute (=, +, -, @) get an apostrophe.",
    ),
]
EXPLAIN_EXAMPLES = """\
examples:
  inkfold explain runs/small drawing.png --out why.png
  inkfold explain runs/small drawing.png --against cat --out why-not-cat.png
"""
REPORT_EXAMPLES = """\
examples:
  inkfold report runs/best
  inkfold report runs/small runs/best --out comparison.html
"""


@command(reads=("run",))
def predict(
    run: RunDirectory,
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A drawing, or a directory of drawings.")],
    *,
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="Another form for --submission: submission.sample=FILE, or submission.columns=id,label; repeat it.",
            **any_number("key=value"),
        ),
    ],
    out: Annotated[Path, typer.Option(help="The CSV file to write, or a JSON file if its name ends in .json.")],
    on_broken: Annotated[
        Literal["error", "skip"], typer.Option(help="What a drawing that can't be read does: skip leaves its cells empty.")
    ] = "error",
    on_blank: Annotated[
        Literal["error", "skip", "keep"],
        typer.Option(
            help="What a drawing without ink does: skip leaves its cells empty. The column blank marks it in any case."
        ),
    ] = "keep",
    submission: Annotated[
        bool, typer.Option("--submission", help="Write a submission, in the run's form or in that of the settings.")
    ] = False,
    raw: Raw = False,
) -> int:
    """Classify new drawings with a run or exported model, into a CSV."""
    from inkfold.data.blank import MEND, NOTHING
    from inkfold.data.from_memory import files_of
    from inkfold.ensemble.model import load_run
    from inkfold.ensemble.predict_submission import submission_settings, write_predicted_submission
    from inkfold.pipeline.run import write_predictions
    from inkfold.serve.exported import ExportedModel, is_exported
    from inkfold.storage.outputs import check_output

    check_output(out)  # before the work, not after it
    notes = notes_beside(out)
    if settings and not submission:
        raise InkfoldError(f"predict: --set {settings[0]} says how a submission is written. Add --submission, or leave it out.")
    exported = is_exported(run)
    if submission and exported:
        raise InkfoldError(f"predict: {run} is an exported model, which has no submission. Name the run, or omit it.")
    model = ExportedModel(run) if exported else load_run(run)
    names, files = files_of(images)
    if submission and not isinstance(model, ExportedModel):
        submission_settings(model, settings)  # raises before the work, not after it
    blank: list[int] = []
    with console_progress() as progress:
        probs = model.predict_proba(files, progress, on_broken, blank=blank)
    if blank and on_blank == "error":
        raise DataError([Problem("blank_drawing", names[row], f"{NOTHING}. {MEND}, or try --on-blank keep.") for row in blank])
    if submission and not isinstance(model, ExportedModel):
        form, warnings = write_predicted_submission(out, model, names, files, probs, settings)
        warnings = [*warnings, *(Problem("blank_drawing", names[row], f"{NOTHING}.", "warning") for row in blank)]
        for line in problem_lines(warnings):
            print(line, file=sys.stderr)
        if _was_propagated(model):
            print(
                f"predicted one by one: {model.path / 'submission.csv'} was predicted with label propagation, and may differ",
                file=notes,
            )
        print(f"submission: {out}\nsubmission's form, {form}", file=notes)
        return 0
    broken = sum(math.isnan(first) for first in probs[:, 0].tolist())
    if on_blank == "skip":
        probs[blank] = math.nan
    write_predictions(out, names, probs, model, blank, raw=raw)
    for line in problem_lines([Problem("blank_drawing", names[row], f"{NOTHING}.", "warning") for row in blank]):
        print(line, file=sys.stderr)
    empty = len(blank) if on_blank == "skip" else 0
    note = f", {len(blank)} blank {'left empty' if empty else 'among them'}" if blank else ""
    print(f"{len(names) - broken - empty} drawings predicted{note}, {broken} left empty as broken: {out}", file=notes)
    return 0


def _was_propagated(model: "Run | Ensemble") -> bool:
    """Return whether the model's own test drawings, or those of one of its members, were predicted together."""
    return bool(model.manifest.get("transductive", {}).get("used"))


@command(EXPLAIN_EXAMPLES, reads=("run",), part="train")
def explain(
    run: RunDirectory,
    drawing: Annotated[Path, typer.Argument(metavar="DRAWING", help="The file of a drawing.")],
    *,
    out: Annotated[Path, typer.Option(help="The PNG file to write.")],
    against: Annotated[
        str | None, typer.Option(metavar="CLASS", help="A second class: what speaks for the answer rather than for this?")
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", metavar="CLASS", help="The class to explain, instead of the run's answer.")
    ] = None,
    strokes: Annotated[
        int | None, typer.Option(show_default="24", help="The most strokes; each costs as much as predicting a drawing.")
    ] = None,
    method: Annotated[
        Literal["occlusion", "gradients"], typer.Option(help="Erase strokes, or add up integrated gradients over them.")
    ] = "occlusion",
    as_json: AsJson = False,
) -> int:
    """Show the strokes that an answer rests on, as a picture."""
    from inkfold.ensemble.model import load_run
    from inkfold.storage.outputs import check_output, write_output

    if out.suffix.lower() != ".png":
        raise InkfoldError(f"explain: --out {out}: expected a name that ends in .png.")
    check_output(out)  # before the work, not after it
    with console_progress() as progress:
        found = load_run(run).explain(
            drawing, against, class_name=class_name, strokes=strokes, method=method, progress=progress
        )
    write_output(out, found.to_png())
    if as_json:
        print_json(found.as_json())
        return 0
    with contextlib.redirect_stdout(notes_beside(out)):
        print_explanation(found)
        print(f"picture: {out}")
    return 0


@command(REPORT_EXAMPLES, reads=("runs",))
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Finished runs or ensembles; several are compared.")],
    *,
    out: Annotated[
        Path | None, typer.Option(help="The HTML file; by default RUN/report.html, or comparison.html for several.")
    ] = None,
    data: MovedData = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Show which strokes the mistakes rest on: erases them one by one, at most 17 forward passes a mistake.",
        ),
    ] = False,
) -> int:
    """Write one HTML file that shows a run, or compares several. It holds figures, drawings and what to do next."""
    from inkfold.report.write import compare_runs, write_report
    from inkfold.storage.outputs import check_added_file, check_output

    page = out or (runs[0] / "report.html" if len(runs) == 1 else Path("comparison.html"))
    if out is None and len(runs) == 1 and runs[0].is_dir():
        check_added_file(page, "write the report elsewhere: --out FILE.html")
    else:
        check_output(page)
    if explain:
        _explain_mistakes(runs, data)
    pictures = write_report(runs, page, data)
    size = f"{page.stat().st_size / 1e6:.1f} MB, " if page.is_file() else ""
    with contextlib.redirect_stdout(notes_beside(page)):
        if len(runs) > 1:
            print_comparison(compare_runs(runs))
        print(f"report: {page} ({size}{pictures} drawings)")
    return 0


def _explain_mistakes(runs: list[Path], data: Path | None) -> None:
    """Find out what a run's mistakes rest on; without its weights the report is written all the same."""
    from inkfold.audit.explained import explain_mistakes
    from inkfold.ensemble.model import load_run
    from inkfold.errors import WeightsError

    if len(runs) > 1:
        raise InkfoldError(f"report: --explain is for one run, got {len(runs)}. Explain each by itself.")
    try:
        with console_progress() as progress:
            found = explain_mistakes(load_run(runs[0]), data, progress)
    except WeightsError as error:
        print(f"warning: mistakes are shown without what they rest on: {error}", file=sys.stderr)
        return
    cost = found["cost"]
    print(
        f"explained {len(found['rows'])} mistakes: {cost['forwards']} forward passes, {cost['seconds']:.1f} s", file=sys.stderr
    )


@command(reads=("run",), part="train")
def weakness(run: RunDirectory, *, data: MovedData = None, as_json: AsJson = False) -> int:
    """Measure a run on drawings turned, bent, thinned or half erased. Names the augmentation that may help."""
    from inkfold.audit.robustness import find_weaknesses
    from inkfold.ensemble.model import load_run
    from inkfold.pipeline.run import Run

    model = load_run(run)
    if not isinstance(model, Run):
        members = ", ".join(str(member.path) for member in model.members if member is not None)
        raise InkfoldError(f"{run}: is an ensemble. Ask its members one by one: {members or 'runs, not files of predictions'}.")
    with console_progress() as progress:
        weaknesses = find_weaknesses(model, data, progress)
    if as_json:
        print_json(weaknesses)
    else:
        print_weaknesses(weaknesses, model.path)
    return 0


@command(reads=("run",), part="train")
def audit(
    run: RunDirectory,
    *,
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv", help="Write a table in which you decide, for data.corrections=FILE.csv; decisions in it stay."
        ),
    ] = None,
    raw: Raw = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is written to RUN/audit.json.")] = False,
) -> int:
    """Find duplicates, doubtful labels and inseparable classes. Asks several models about a run."""
    from inkfold.audit.run_audit import audit_run

    if fix is not None:
        from inkfold.audit.fix import check_fix_file
        from inkfold.storage.outputs import check_output

        check_fix_file(fix)  # before the work, not after it
        check_output(fix)
    with console_progress() as progress:
        findings = audit_run(run, progress)
    if as_json:
        print_json(findings)
    else:
        print_audit(findings, run)
    if fix is not None:
        from inkfold.audit.fix import write_fix_table

        print_fix_table(write_fix_table(run, findings, fix, raw=raw), file=sys.stderr if as_json else sys.stdout)
    return 0
