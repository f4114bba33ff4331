"""What 8-bit numbers cost: the file against the same file in float32, on drawings that neither has learnt its numbers from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from inkfold.errors import ExportError
from inkfold.evaluation.metrics import paired_difference
from inkfold.export.model_graph import FOLD_PROBS
from inkfold.export.samples import Specimens
from inkfold.export.verify import ask, open_session
from inkfold.images.decode import Pixels
from inkfold.runtime.progress import Progress, silent

GREATEST = 0.05  # of accuracy


@dataclass(frozen=True, slots=True)
class Toll:
    """What 8-bit numbers cost.

    Attributes:
        drawings: How many were asked, none of which ranges were measured on.
        agreement: Share of them that get the same class.
        of: `test`: drawings of the test table; `out_of_fold`: training drawings, each answered by the fold that has not seen
            it; None where there were none of either, and classes weren't compared with the truth.
        accuracy_float32: Before.
        difference: After less before, with its 95 % interval, as `metrics.paired_difference` gives it.
    """

    drawings: int
    agreement: float
    of: str | None = None
    accuracy_float32: float | None = None
    difference: dict[str, Any] | None = None


def measure_toll(
    before: bytes, after: bytes, specimens: Specimens, pixels: Sequence[Pixels], progress: Progress = silent
) -> Toll:
    """Ask both files.

    Args:
        before: The file in float32; with `fold_probs` where drawings have folds.
        after: The file in 8 bits, likewise.
        specimens: The drawings.
        pixels: Theirs.
        progress: Told of each batch.

    Returns:
        What was found.
    """
    answers = [_answers(model, specimens, pixels, progress) for model in (before, after)]
    agreement = float((answers[0].argmax(1) == answers[1].argmax(1)).mean())
    if specimens.targets is None:
        return Toll(len(pixels), agreement)
    right = [one.argmax(1) == specimens.targets for one in answers]
    of = "test" if specimens.folds is None else "out_of_fold"
    return Toll(len(pixels), agreement, of, float(right[0].mean()), paired_difference(right[0], right[1]))


def check_toll(toll: Toll, where: str) -> None:
    """Refuse a file that has lost too much.

    Args:
        toll: What was found.
        where: The run, for the error.

    Raises:
        ExportError: If the loss is surely above 5 points.
    """
    if toll.difference is not None and toll.difference["difference_ci95"][1] < -GREATEST:
        raise ExportError(
            f"{where}: 8-bit numbers lose {-toll.difference['difference']:.3f} of accuracy on {toll.drawings} drawings, "
            f"expected at most {GREATEST}. Nothing was written. Leave --quantise out."
        )


def _answers(
    model: bytes, specimens: Specimens, pixels: Sequence[Pixels], progress: Progress
) -> Float32[np.ndarray, "n classes"]:
    session = open_session(model)
    if specimens.folds is None:
        return ask(session, pixels, progress=progress)
    by_fold = ask(session, pixels, FOLD_PROBS, progress)
    own: np.ndarray = by_fold[specimens.folds, np.arange(len(pixels))]
    return own
