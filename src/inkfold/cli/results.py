"""The commands that use or examine finished runs: predict, report, weakness, audit."""

import contextlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from inkfold.cli.app import AsJson, MovedData, RunDirectory, any_number, command, notes_beside
from inkfold.cli.output import print_audit, print_comparison, print_fix_table, print_json, print_weaknesses
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
    """Classify new drawings with a finished run, into a CSV."""
    from inkfold.data.blank import MEND, NOTHING
    from inkfold.data.from_memory import files_of
    from inkfold.ensemble.model import load_run
    from inkfold.ensemble.predict_submission import submission_settings, write_predicted_submission
    from inkfold.pipeline.run import write_predictions
    from inkfold.storage.outputs import check_output

    check_output(out)  # before the work, not after it
    notes = notes_beside(out)
    if settings and not submission:
        raise InkfoldError(f"predict: --set {settings[0]} says how a submission is written. Add --submission, or leave it out.")
    model = load_run(run)
    names, files = files_of(images)
    if submission:
        submission_settings(model, settings)  # raises before the work, not after it
    blank: list[int] = []
    with console_progress() as progress:
        probs = model.predict_proba(files, progress, on_broken, blank=blank)
    if blank and on_blank == "error":
        raise DataError([Problem("blank_drawing", names[row], f"{NOTHING}. {MEND}, or try --on-blank keep.") for row in blank])
    if submission:
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


@command(REPORT_EXAMPLES, reads=("runs",))
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Finished runs or ensembles; several are compared.")],
    *,
    out: Annotated[
        Path | None, typer.Option(help="The HTML file; by default RUN/report.html, or comparison.html for several.")
    ] = None,
    data: MovedData = None,
) -> int:
    """Write one HTML file that shows a run, or compares several. It holds figures, drawings and what to do next."""
    from inkfold.report.write import compare_runs, write_report
    from inkfold.storage.outputs import check_added_file, check_output

    page = out or (runs[0] / "report.html" if len(runs) == 1 else Path("comparison.html"))
    if out is None and len(runs) == 1 and runs[0].is_dir():
        check_added_file(page, "write the report elsewhere: --out FILE.html")
    else:
        check_output(page)
    pictures = write_report(runs, page, data)
    size = f"{page.stat().st_size / 1e6:.1f} MB, " if page.is_file() else ""
    with contextlib.redirect_stdout(notes_beside(page)):
        if len(runs) > 1:
            print_comparison(compare_runs(runs))
        print(f"report: {page} ({size}{pictures} drawings)")
    return 0


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
