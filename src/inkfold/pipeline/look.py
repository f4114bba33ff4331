"""The line style of a run's training drawings, in which strokes are drawn that the run predicts: that of its exported file."""

import logging
from collections.abc import Mapping
from typing import Any

from inkfold.errors import InkfoldError
from inkfold.images.line_style import DRAWINGS, UNKNOWN, measure_line_style
from inkfold.pipeline.run import Run
from inkfold.pipeline.samples import collect_samples

log = logging.getLogger("inkfold.pipeline")

_measured: dict[tuple[str, str], Mapping[str, Any]] = {}


def look_of(run: Run) -> Mapping[str, Any]:
    """Measure the line style of a run's training drawings, once per process.

    Args:
        run: A finished run. Where its drawings are gone or have changed, the usual style is taken, with a warning.

    Returns:
        What `images.strokes.draw_page` takes as its look.
    """
    key = str(run.path.absolute()), run.manifest["data_fingerprint"]
    if key not in _measured:
        _measured[key] = _measure(run)
    return _measured[key]


def _measure(run: Run) -> Mapping[str, Any]:
    image = run.extractors()[0][0].image
    try:
        _, pixels = collect_samples(run).train.take_evenly(DRAWINGS).decode(image)
    except (InkfoldError, OSError) as error:
        reason = str(error).splitlines()[0]
        log.warning("%s: strokes are drawn in the usual line style, not in that of its training drawings: %s", run.path, reason)
        return dict(UNKNOWN)
    return measure_line_style(pixels, image)
