"""Writes a submission for drawings that a finished run or ensemble has predicted: in its own form, or in a new sample's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from inkfold.config.load import merge_overrides, validate_recipe
from inkfold.config.sections import SubmissionSettings
from inkfold.data.labels import Classes
from inkfold.data.layouts import detect_layout, find_tables
from inkfold.data.submission_choice import form_of_sample
from inkfold.data.submission_form import SubmissionForm, read_form
from inkfold.data.submission_ids import id_kinds
from inkfold.data.submission_sample import read_sample_file
from inkfold.data.submission_settings import Source, form_of_settings
from inkfold.data.tables import STRING, quoted
from inkfold.data.types import DataOptions, Drawings
from inkfold.ensemble.member_predictions import path_keys
from inkfold.ensemble.model import Ensemble, first_run
from inkfold.ensemble.submission import SubmissionFormat, format_of_submission
from inkfold.errors import DataError, PredictionError, Problem, RecipeError
from inkfold.pipeline.build import data_options
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_files import SUBMISSION, SUBMISSION_FORM

MOST_FOLDERS = 5  # above the drawings that paths of a table may count


def submission_settings(model: Run | Ensemble, overrides: Sequence[str]) -> tuple[SubmissionSettings, bool]:
    """Read the settings of a submission that is written for new predictions.

    Args:
        model: The finished run or ensemble, whose recipe has the defaults.
        overrides: Changes such as `submission.sample=FILE` or `submission.columns=id,label`; a path starts at the working
            directory.

    Returns:
        The settings, and whether they say another form than the run's own.

    Raises:
        RecipeError: If a key is another section's, or a value is wrong.
    """
    foreign = [text for text in overrides if not text.startswith("submission.")]
    if foreign:
        raise RecipeError(f"{foreign[0]}: only keys of the section submission can be set here, such as submission.columns.")
    own = first_run(model).recipe.submission
    if not overrides:
        return own, False
    is_new_sample = any(text.startswith("submission.sample=") for text in overrides)
    raw: dict[str, object] = {} if is_new_sample else {"submission": own.model_dump(mode="json", exclude={"sample"})}
    merge_overrides(raw, overrides)
    settings = validate_recipe(raw).submission
    if settings.sample is not None and settings.columns is None and not Path(settings.sample).is_file():
        raise RecipeError(f"submission.sample={settings.sample}: no such file. Correct its path, which starts here.")
    return settings, True


def write_predicted_submission(
    path: Path,
    model: Run | Ensemble,
    names: Sequence[str],
    files: Sequence[str],
    probs: Float32[np.ndarray, "n classes"],
    overrides: Sequence[str] = (),
) -> tuple[str, list[Problem]]:
    """Write a submission for predicted drawings.

    Args:
        path: The CSV file; replaced if it exists.
        model: The finished run or ensemble that predicted them.
        names: Name of each drawing, relative to the folder that was predicted.
        files: Path of each drawing's file.
        probs: Class probabilities of each drawing; a row of NaN, for a drawing that can't be read, is refused.
        overrides: Settings of the section `submission`; none takes the run's own form.

    Returns:
        The form in words, and warnings about it.

    Raises:
        PredictionError: If drawings of the run's submission are missing, or some can't be read.
        DataError: If the sample or the settings don't fit the drawings or the classes.
    """
    broken = [name for name, row in zip(names, probs, strict=True) if np.isnan(row).any()]
    if broken:
        raise PredictionError(
            f"{len(broken)} drawing(s) can't be read: {quoted(broken, 3)}, and a submission needs an answer in each row. "
            "Restore them, or leave them and their rows out."
        )
    settings, is_other = submission_settings(model, overrides)
    kept = read_form(model.path / SUBMISSION_FORM)
    names = names if kept is None or is_other else _as_in(kept, names, files)
    problems: list[Problem] = []
    if is_other:
        kept = _new_form(model, names, files, settings, problems)
    elif kept is not None and not kept.from_sample:
        kept = _for_drawings(model, kept, names, files)
    if kept is None:
        submission = _usual_format(model, names)
    else:
        _require_rows(model, kept.image_paths, names)
        submission = SubmissionFormat(model.class_targets, form=kept)
    submission.write_probs(path, np.array(names, STRING), probs, model.classes_, model.decide(probs))
    words = ", ".join(submission.columns) if kept is None else kept.summary
    return words, [problem for problem in problems if problem.severity == "warning"]


def _as_in(form: SubmissionForm, names: Sequence[str], files: Sequence[str]) -> Sequence[str]:
    """Spell the names as the form does, which may count more of the folders above: `test/a.png` for `a.png`."""
    wanted = {*path_keys(form.image_paths)}
    folder = Path(files[0]).absolute().parents[len(Path(names[0]).parts) - 1]
    prefix = ""
    for part in ["", *folder.parts[:0:-1]][:MOST_FOLDERS]:
        prefix = f"{part}/{prefix}" if part else ""
        longer = [f"{prefix}{name}" for name in names]
        if wanted <= {*path_keys(longer)}:
            return longer
    return names


def _for_drawings(model: Run | Ensemble, form: SubmissionForm, names: Sequence[str], files: Sequence[str]) -> SubmissionForm:
    """Name other drawings in the way that the form names those of the run; as they are where they are the same."""
    if {*path_keys(names)} == {*path_keys(form.image_paths)}:
        return form
    kinds = {kind.setting: kind for kind in id_kinds(_drawings(names, files), _folder_above(names, files), {})}
    for column in form.columns:
        if column.cells is not None and column.id_setting not in kinds:
            raise PredictionError(
                f"{model.path / SUBMISSION}: column {column.heading!r} can't be filled for these drawings, as "
                f"{column.id_setting!r} doesn't name them. Set the form anew: --set submission.columns=id,label."
            )
    cells = [None if column.cells is None else kinds[str(column.id_setting)].names for column in form.columns]
    return form.with_drawings(names, cells)


def _drawings(names: Sequence[str], files: Sequence[str]) -> Drawings:
    return Drawings(np.array(names, STRING), np.array([Path(file).absolute().as_posix() for file in files], STRING))


def _folder_above(names: Sequence[str], files: Sequence[str]) -> Path:
    """The folder above the one that was predicted, from which a root path starts."""
    return Path(files[0]).absolute().parents[len(Path(names[0]).parts)]


def _new_form(
    model: Run | Ensemble, names: Sequence[str], files: Sequence[str], settings: SubmissionSettings, problems: list[Problem]
) -> SubmissionForm:
    """Decide the form by the settings or the sample that they name."""
    run = first_run(model)
    options = data_options(run.recipe).model_copy(update={"submission": settings})
    classes = Classes(model.classes_, model.class_targets)
    source = Source(_folder_above(names, files), _train_table(options), None, _drawings(names, files), classes)
    form = None
    if settings.sample is not None and settings.columns is None:
        form = form_of_sample(
            read_sample_file(Path(settings.sample), source.texts(options).all_texts), source, options, problems
        )
    elif settings.columns is not None:
        form = form_of_settings(source, options, problems)
    else:
        text = "say nothing without a header. Add `submission.columns=id,label` or `submission.sample=FILE`."
        problems.append(Problem("missing_columns", "submission.labels and submission.id", text))
    if form is None:
        raise DataError(problems)
    return form


def _train_table(options: DataOptions) -> Path | None:
    """The table that the run was trained on, which shows whether classes have numbers of their own; None if it is gone."""
    place = Path(str(options.root))
    if not place.exists():
        return None
    try:
        return find_tables(place, detect_layout(place, options), options)["train"]
    except DataError:
        return None


def _usual_format(model: Run | Ensemble, names: Sequence[str]) -> SubmissionFormat:
    """The run's ids and rows where all its test drawings are there; inkfold's own where these are other drawings."""
    columns = first_run(model).recipe.data
    own = format_of_submission(model.path / SUBMISSION, columns.path_column, columns.target_column, model.class_targets)
    if own.paths is None or {*path_keys(own.paths)}.isdisjoint(path_keys(names)):
        return SubmissionFormat(model.class_targets)
    _require_rows(model, own.paths, names)
    return own


def _require_rows(model: Run | Ensemble, paths: Sequence[str], names: Sequence[str]) -> None:
    known = {*path_keys(names)}
    absent = [path for path, key in zip(paths, path_keys(paths), strict=True) if key not in known]
    if absent:
        raise PredictionError(
            f"{model.path / SUBMISSION}: has rows for {len(absent)} drawing(s) that aren't among those to predict: "
            f"{quoted(absent, 5)}. Name the folder of all test drawings, or another form: --set submission.sample=FILE."
        )
