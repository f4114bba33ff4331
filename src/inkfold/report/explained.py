"""What the mistakes on a run's page rest on, from `explained.json`, which `inkfold report --explain` writes."""

import base64
import io
import math
from typing import Any

import numpy as np
from PIL import Image

from inkfold.errors import PredictionError
from inkfold.pipeline.manifest import EXPLAINED
from inkfold.pipeline.run_files import RunFiles
from inkfold.report.thumbnails import SIDE_PX, Album

LEAST_FACTOR = 1.1  # a stroke without which the answer is hardly less likely isn't worth a sentence


def explained_pictures(run: RunFiles, album: Album) -> dict[tuple[str, str], dict[str, Any]]:
    """Embed the coloured pictures of a run's mistakes.

    Args:
        run: The run's files; anybody may have made them.
        album: The page's pictures, to which these are added as long as there is room.

    Returns:
        By path and predicted class, `picture` and `sentence`; empty where nobody asked.

    Raises:
        PredictionError: If `explained.json` has another form than expected.
    """
    if run.explained is None:
        return {}
    try:
        found = {}
        for row in run.explained["rows"]:
            path, pred = str(row["path"]), str(row["pred"])
            picture = album.embed((EXPLAINED, path), _pixels(str(row["picture"])))
            if picture is not None:
                found[path, pred] = {"picture": picture, "sentence": _sentence(float(row["strongest"]), str(row["where"]))}
        return found
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise PredictionError(
            f"{run.path / EXPLAINED}: has an unknown form ({error}). Write it again: inkfold report {run.path} --explain."
        ) from None


def explained_note(run: RunFiles) -> str | None:
    """Write what the colours say and what they cost; None where nobody asked.

    Raises:
        PredictionError: If `explained.json` has another form than expected.
    """
    if run.explained is None:
        return None
    try:
        forwards, seconds = int(run.explained["cost"]["forwards"]), float(run.explained["cost"]["seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise PredictionError(
            f"{run.path / EXPLAINED}: has an unknown form ({error}). Write it again: inkfold report {run.path} --explain."
        ) from None
    return (
        "The coloured pictures show what the fold that made the mistake rested on: orange strokes speak for the predicted "
        "class rather than for the true one, blue strokes the other way round, grey ones change nothing. "
        f"It took {forwards:,} forward passes, {seconds:.1f} s."
    )


def _pixels(text: str) -> np.ndarray:
    """Read a picture of the page's size; a file of any other size isn't ours."""
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as image:
        if image.size != (SIDE_PX, SIDE_PX):
            raise ValueError(f"a picture of {image.size[0]} x {image.size[1]} px")
        return np.asarray(image.convert("RGB"))


def _sentence(strongest: float, where: str) -> str:
    factor = math.exp(min(strongest, 20.0))
    if factor < LEAST_FACTOR:
        return "no single stroke speaks for the predicted class"
    shown = ">1,000" if factor > 1000 else f"{factor:.1f}"
    return f"without the strongest orange stroke, {where}, its lead over the true class would be {shown} times smaller"
