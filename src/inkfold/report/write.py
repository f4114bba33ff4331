"""`inkfold report`: one self-contained HTML file about a finished run, or about several side by side."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from inkfold.config.load import merge_overrides
from inkfold.config.sections import DataSettings
from inkfold.data.dataset import DataOptions
from inkfold.errors import PredictionError
from inkfold.pipeline.run_files import RunFiles, open_run_files
from inkfold.report.compare_page import MOST_RUNS, comparison_view
from inkfold.report.html import render_page
from inkfold.report.local_paths import places_of, without_local_paths
from inkfold.report.run_comparison import RunComparison
from inkfold.report.run_page import run_view
from inkfold.report.thumbnails import Album, open_album
from inkfold.storage.outputs import is_special, write_output

log = logging.getLogger("inkfold.report")


def write_report(runs: Sequence[str | Path], out: str | Path, data: str | Path | None = None) -> int:
    """Write the report of a run, or the comparison of several, and count its pictures of drawings.

    It can be shared: of the paths of this machine only what is of use elsewhere is in it.

    Args:
        runs: Directories of 1 to 26 finished runs and ensembles.
        out: The HTML file, whose name ends in .html; replaced when it exists.
        data: Folder of the drawings, if they have moved; None for the folder in the recipe.

    Raises:
        PredictionError: If `out` doesn't end in .html, there are too many runs, a run is not finished, or its files were
            changed.
    """
    if not 1 <= len(runs) <= MOST_RUNS:
        raise PredictionError(f"report: got {len(runs)} runs, expected 1 to {MOST_RUNS}. Name fewer.")
    if Path(out).suffix.lower() != ".html" and not is_special(Path(out)):
        raise PredictionError(
            f"report: got out '{out}', expected a file that ends in .html, as a browser wants it. Name it so."
        )
    opened = [open_run_files(run) for run in runs]
    album = open_album_of(opened[0], data)
    one = len(opened) == 1
    view = run_view(opened[0], album) if one else comparison_view(opened, album)
    places = [place for run in opened for place in places_of(run)] + [Path(place) for place in (data, out) if place is not None]
    view = without_local_paths(view, places)
    page = render_page("run.html.j2" if one else "comparison.html.j2", view, album.pictures.values())
    write_output(Path(out), page)
    log.info("%s: %d pictures%s", out, len(album.pictures), "" if album.why is None else f"; {album.why}")
    return len(album.pictures)


def compare_runs(runs: Sequence[str | Path]) -> RunComparison:
    """Compare finished runs pair by pair, as their page does.

    Args:
        runs: Directories of 2 to 26 finished runs and ensembles.

    Raises:
        PredictionError: If a run is not finished, or its files were changed.
    """
    return RunComparison([open_run_files(run) for run in runs], ascii_uppercase[: len(runs)])


def open_album_of(run: RunFiles, data: str | Path | None = None) -> Album:
    """Open an album of a run's drawings, read as the run read them.

    Args:
        run: Files of the run; of an ensemble, the recipe of its first member that is a run decides.
        data: Folder of the drawings, if they have moved; None for the folder in the recipe.
    """
    recipe = run.model_recipes[0]
    section = recipe.get("data")
    if not isinstance(section, Mapping):  # an ensemble of files of predictions alone
        raw: dict[str, Any] = {}
        merge_overrides(raw, recipe.get("settings") or ())
        section = {**(raw.get("data") or {}), "root": section}
    image = {**recipe.get("image", {}), **run.manifest.get("image", {})}
    options = DataOptions(**{name: value for name, value in section.items() if name in DataSettings.model_fields})
    options = options.model_copy(update={"corrections": run.corrections})
    resize, invert = image.get("resize", "pad"), image.get("invert", "auto")
    resize = "crop_to_ink" if resize == "auto" else resize  # an ensemble's
    return open_album(options, data or section.get("root"), resize, invert, image.get("paper", "keep"))
