"""The functions that begin with finished runs: vote, audit, weakness, report, predict."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inkfold.api.inputs import Data, RunLike, as_dataset, path_of
from inkfold.api.parts import names_missing_parts
from inkfold.api.settings import Settings, as_overrides
from inkfold.errors import PredictionError
from inkfold.runtime.progress import ProgressOption, open_progress

if TYPE_CHECKING:
    from inkfold.config.sections import VoteSettings
    from inkfold.ensemble.model import Ensemble


@names_missing_parts
def vote(
    members: "Sequence[RunLike]",
    vote_recipe: "VoteSettings | Mapping[str, Any] | str | None" = None,
    *overrides: Settings,
    out: str | Path,
    data: Data = None,
    seed: int = 42,
    metric: str | None = None,
    progress: ProgressOption = None,
    **settings: Any,
) -> "Ensemble":
    """Combine runs and files of predictions into an ensemble, whose vote is chosen on out-of-fold predictions.

    The same as `inkfold vote MEMBERS --out OUT`.

    Args:
        members: Runs, their directories, files of test predictions, or directories with out_of_fold.* and test.*; see
            docs/votes.md.
        vote_recipe: The voting method (`"hard"`), or with its settings, such as `{"method": "hard", "ties": "lowest_id"}`; None
            chooses the method by the out-of-fold predictions.
        overrides: Keys of the section `data`: how `data` are read; see `train`.
        out: The ensemble's directory. The runs are copied into it, so that it can be moved by itself.
        data: The drawings; they name the classes and the true labels for files that don't. See `train`.
        seed: Seed of what is random in fitting a method, 0 to 4,294,967,295.
        metric: What the vote is chosen and measured by, as in a recipe; None takes the runs' own.
        progress: Receives the number of methods scored so far.
        settings: Keys of the section `data`, such as `data__test_targets="labels.csv"`; see `train`.

    Returns:
        The finished ensemble.

    Raises:
        RecipeError: If the method isn't known, or a setting isn't valid.
        PredictionError: With everything that doesn't fit.
        DataError: With every problem of the data.
    """
    from inkfold.ensemble.build import vote as build  # noqa: PLC0415 - torch takes a second
    from inkfold.storage.kept_drawings import note_run  # noqa: PLC0415

    parameters = ("members", "vote_recipe", "out", "data", "seed", "metric", "progress")
    listed = settings.pop("settings", ())  # the parameter's name before there were keywords
    texts = (*as_overrides({}, [*overrides, listed]), *as_overrides(settings, parameters=parameters))
    root, read_by = _root_and_settings(data)
    method = {"method": vote_recipe} if isinstance(vote_recipe, str) else vote_recipe
    paths = [path_of(member) for member in ([members] if isinstance(members, str | Path) else members)]
    read_by = (*read_by, *texts)
    if root is not None:
        note_run(root, Path(out))
    with open_progress(progress) as report:
        return build(paths, method, out=out, data=root, settings=read_by, seed=seed, metric=metric, progress=report)


@names_missing_parts
def audit(run: "RunLike", *, out: str | Path | None = None, progress: ProgressOption = None) -> dict[str, Any]:
    """Find duplicates, doubtful labels and classes that can't be told apart, and write `audit.json` into the run.

    The same as `inkfold audit RUN`.

    Args:
        run: A finished run or ensemble, or its directory.
        out: A CSV table in which you decide what becomes of doubtful drawings, for `data.corrections`; decisions that are in it
            stay. None writes none.
        progress: Receives each stage's name, what is done and the total.

    Returns:
        The content of `audit.json`.

    Raises:
        PredictionError: If the run isn't finished, or its data have changed.
        DataError: If the data can't be read any more.
        ExportError: If a file can't be written.
    """
    from inkfold.audit.fix import check_fix_file, write_fix_table  # noqa: PLC0415
    from inkfold.audit.run_audit import audit_run  # noqa: PLC0415 - torch takes a second
    from inkfold.storage.outputs import check_output  # noqa: PLC0415

    if out is not None:
        check_fix_file(Path(out))  # before the work, not after it
        check_output(Path(out))
    with open_progress(progress) as report:
        findings = audit_run(path_of(run), report)
    if out is not None:
        write_fix_table(path_of(run), findings, Path(out))
    return findings


@names_missing_parts
def weakness(run: "RunLike", *, data: str | Path | None = None, progress: ProgressOption = None) -> dict[str, Any]:
    """Measure a run on held-out drawings that are turned, bent, thinned or half erased, and write `weakness.json` into it.

    The same as `inkfold weakness RUN`.

    Args:
        run: A finished run of one model, or its directory.
        data: Folder of the drawings, if they have moved; None for the folder in the recipe.
        progress: Receives each stage's name, what is done and the total.

    Returns:
        The content of `weakness.json`: `clean` with accuracy and ci95, `rows`, the largest drop first, and `cost`.

    Raises:
        PredictionError: If it is an ensemble, or the drawings are not those that the run was trained on.
        DataError: With every drawing that can't be read.
        WeightsError: If the backbone's weights are gone or changed.
        ExportError: If `weakness.json` can't be written there.
    """
    from inkfold.audit.robustness import find_weaknesses  # noqa: PLC0415 - torch takes a second
    from inkfold.ensemble.model import load_run  # noqa: PLC0415
    from inkfold.pipeline.run import Run  # noqa: PLC0415

    model = load_run(run) if isinstance(run, str | Path) else run
    if not isinstance(model, Run):
        members = ", ".join(str(member.path) for member in model.members if member is not None)
        raise PredictionError(f"{model.path}: is an ensemble, expected a run of one model. Name one of its members: {members}.")
    with open_progress(progress) as report:
        return find_weaknesses(model, data, report)


@names_missing_parts
def report(runs: "RunLike | Sequence[RunLike]", out: str | Path | None = None, *, data: str | Path | None = None) -> Path:
    """Write one HTML file that shows a run, or compares several: figures, drawings and what to do next.

    The same as `inkfold report RUNS --out OUT`.

    Args:
        runs: A finished run or ensemble or its directory, or 2 to 26 of them.
        out: The HTML file, replaced when it exists; None takes `report.html` in the run, or `comparison.html` for several.
        data: Folder of the drawings, if they have moved; None for the folder in the recipe.

    Returns:
        The HTML file's path.

    Raises:
        PredictionError: If `out` doesn't end in .html, or a run isn't finished or its files were changed.
        ExportError: If the file can't be written.
    """
    from inkfold.report.write import write_report  # noqa: PLC0415
    from inkfold.storage.outputs import check_added_file  # noqa: PLC0415

    listed: Sequence[RunLike] = runs if isinstance(runs, list | tuple) else [runs]  # type: ignore[list-item]
    paths = [path_of(run) for run in listed]
    page = Path(out) if out is not None else paths[0] / "report.html" if len(paths) == 1 else Path("comparison.html")
    if out is None and len(paths) == 1:
        check_added_file(page, "write the report elsewhere: out=FILE.html")
    write_report(paths, page, data)
    return page


@names_missing_parts
def predict(
    run: "RunLike",
    drawings: Any,
    *,
    column: str | None = None,
    out: str | Path | None = None,
    on_broken: str = "error",
    cache: bool = False,
    progress: ProgressOption = None,
) -> list[str | None]:
    """Name the class of each drawing.

    The same as `inkfold predict RUN DRAWINGS --out OUT`. Probabilities are `load_run(run).predict_proba(drawings)`.

    Args:
        run: A finished run or ensemble, or its directory.
        drawings: One drawing or many, in any form that `inkfold.read_dataset` takes: a directory, paths, bytes, Pillow images,
            arrays, open files, strokes, a generator, or a table with a column of them.
        column: The table's column that holds the drawings; None looks for it.
        out: A .csv or .json file with each drawing's class, its number and its probability; None writes none.
        on_broken: `error` raises when all drawings have been read; `skip` answers None for a drawing that can't be read.
        cache: Whether features are taken from the feature bank where it has them, and new ones are stored there.
        progress: Receives the forward passes done.

    Returns:
        The classes' names, in the order of the drawings.

    Raises:
        DataError: With every drawing that can't be read, or the first thing that isn't a drawing.
        PredictionError: If the run isn't finished.
        WeightsError: If the backbone's weights are gone or changed.
    """
    from inkfold.data.from_memory import read_drawings  # noqa: PLC0415
    from inkfold.ensemble.model import load_run  # noqa: PLC0415 - torch takes a second
    from inkfold.pipeline.run import write_predictions  # noqa: PLC0415
    from inkfold.storage.outputs import check_output  # noqa: PLC0415

    if out is not None:
        check_output(Path(out))  # before the work, not after it
    model = load_run(run) if isinstance(run, str | Path) else run
    blank: list[int] = []
    source = read_drawings(drawings, column).with_names()
    with open_progress(progress) as report:
        probs = model.predict_proba(source, report, on_broken, cache=cache, blank=blank)
    if out is not None:
        write_predictions(Path(out), source.names or [], probs, model, blank)
    chosen = model.decide(probs).tolist()
    return [None if math.isnan(row[best]) else model.classes_[best] for best, row in zip(chosen, probs.tolist(), strict=True)]


def _root_and_settings(data: Data) -> tuple[str | Path | None, tuple[str, ...]]:
    """Return the place of data, and the keys of the section `data` that read them."""
    if data is None or isinstance(data, str | Path):
        return data, ()
    from inkfold.data.given import settings_of  # noqa: PLC0415

    keys = settings_of(as_dataset(data)).get("data", {})
    root = keys.pop("root")
    return root, as_overrides({"data": keys}) if keys else ()
