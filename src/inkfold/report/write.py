"""`inkfold report`: one self-contained HTML file of a finished run, or of several side by side. It only reads them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inkfold.config.load import merge_overrides
from inkfold.config.sections import DataSettings
from inkfold.data.dataset import DataOptions
from inkfold.errors import PredictionError
from inkfold.report.compare_page import MOST_RUNS, comparison_view
from inkfold.report.html import render_page
from inkfold.report.run_data import RunRecord, read_run_record
from inkfold.report.run_page import run_view
from inkfold.report.thumbnails import Album, open_album
from inkfold.storage.files import write_text


def write_report(runs: Sequence[str | Path], out: str | Path, data: str | Path | None = None) -> int:
    """Write the report of a run, or the comparison of several.

    Args:
        runs: Directories of finished runs and ensembles.
        out: The HTML file, named so; replaced when it exists.
        data: Where the drawings are now; None looks where they were.

    Returns:
        How many pictures of drawings it holds.

    Raises:
        PredictionError: If `out` doesn't end in .html, a run isn't finished, its files aren't as they were written, or there
            are too many.
    """
    if not 1 <= len(runs) <= MOST_RUNS:
        raise PredictionError(f"report: got {len(runs)} runs, expected 1 to {MOST_RUNS}. Name fewer.")
    if Path(out).suffix.lower() != ".html":
        raise PredictionError(
            f"report: got out '{out}', expected a file that ends in .html, as a browser wants it. Name it so."
        )
    records = [read_run_record(run) for run in runs]
    album = album_of(records[0], data)
    if len(records) == 1:
        page = render_page("run.html.j2", run_view(records[0], album), album.pictures.values())
    else:
        page = render_page("comparison.html.j2", comparison_view(records, album), album.pictures.values())
    write_text(Path(out), page)
    return len(album.pictures)


def album_of(record: RunRecord, data: str | Path | None = None) -> Album:
    """Find a run's drawings, read as it read them.

    Args:
        record: The run; of an ensemble, its first member that is a run decides.
        data: Where they are now; None looks where they were.

    Returns:
        The album.
    """
    model, image = record.models[0], {}
    section = model.get("data")
    if not isinstance(section, Mapping):  # a vote over mere files
        raw: dict[str, Any] = {}
        merge_overrides(raw, model.get("settings") or ())
        section = {**(raw.get("data") or {}), "root": section}
    image = model.get("image", {})
    options = DataOptions(**{name: value for name, value in section.items() if name in DataSettings.model_fields})
    resize, invert = image.get("resize", "pad"), image.get("invert", "auto")
    return open_album(options, data or section.get("root"), resize, invert)
