"""An exported file and its run asked the same: how far their answers are apart, on drawings of the run's own data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Float32

from inkfold.ensemble.model import Ensemble
from inkfold.errors import ExportError
from inkfold.evaluation.metrics import paired_difference
from inkfold.export.graph import onnxruntime
from inkfold.export.model_graph import FOLD_PROBS
from inkfold.export.samples import Samples
from inkfold.images.decode import Pixels
from inkfold.pipeline.run import Run
from inkfold.runtime.progress import Progress, silent

GREATEST = 0.05  # of accuracy

BATCH_SIZE = 16
PIXELS_AT_ONCE = 1 << 24  # of a batch: the graph makes several floats of each
LARGEST_DIFFERENCE = 0.01  # of a probability; sums in another order gave 0.0002 at the most
LARGEST_DIFFERENCE_KNN = 0.06  # which of two nearly equal drawings is the last neighbour is a matter of the last bit
LEAST_AGREEMENT = 0.99


@dataclass(frozen=True, slots=True)
class Parity:
    """How a file's answers compare with its run's.

    Attributes:
        drawings: How many both were asked.
        agreement: Share of drawings that both give the same class.
        largest_difference: Of any class's probability.
    """

    drawings: int
    agreement: float
    largest_difference: float


def open_session(model: bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    """Load a model into ONNX Runtime on the CPU, silently.

    Args:
        model: The file's bytes.
        threads: 0 leaves the number to ONNX Runtime.

    Returns:
        The session.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def predict_in_batches(
    session: onnxruntime.InferenceSession, drawings: Sequence[Pixels], output: str = "probs", progress: Progress = silent
) -> Float32[np.ndarray, "*leading n classes"]:
    """Let a file answer for drawings of any sizes, those of one shape that follow each other together.

    Args:
        session: Of the file.
        drawings: (h, w) or (h, w, 3).
        output: Which; its last axis but one is the batch.
        progress: Told of each batch.

    Returns:
        The answers, in the drawings' order.
    """
    parts, done = [], 0
    for _, group in groupby(drawings, key=lambda one: one.shape):
        alike = list(group)
        count = max(1, min(BATCH_SIZE, PIXELS_AT_ONCE // (alike[0].shape[0] * alike[0].shape[1])))
        for start in range(0, len(alike), count):
            batch = np.stack(alike[start : start + count])
            parts.append(session.run([output], {"images": batch if batch.ndim == 4 else batch[..., None]})[0])
            done += len(batch)
            progress("ask the file", done, len(drawings))
    return np.concatenate(parts, axis=-2)


def in_float32(predictor: Run | Ensemble, *, views: bool = True) -> Run | Ensemble:
    """Give the same run as it answers in float32 on the CPU.

    Args:
        predictor: A run or an ensemble of runs.
        views: Whether test-time views are looked at.

    Returns:
        A copy.
    """
    if isinstance(predictor, Ensemble):
        members = [None if run is None else _run_in_float32(run, views=views) for run in predictor.members]
        return replace(predictor, members=tuple(members))
    return _run_in_float32(predictor, views=views)


def compare(given: Float32[np.ndarray, "n classes"], expected: Float32[np.ndarray, "n classes"]) -> Parity:
    """Compare answers to the same drawings."""
    agreement = float((given.argmax(1) == expected.argmax(1)).mean())
    return Parity(len(given), agreement, float(np.abs(given - expected).max()))


def check_parity(parity: Parity, predictor: Run | Ensemble) -> None:
    """Refuse a file that doesn't answer as its run does.

    Args:
        parity: What was found.
        predictor: The run.

    Raises:
        ExportError: If it is too far off.
    """
    runs = [predictor] if isinstance(predictor, Run) else [run for run in predictor.members if run is not None]
    loose = any(run.recipe.head.kind == "knn" for run in runs)
    limit = LARGEST_DIFFERENCE_KNN if loose else LARGEST_DIFFERENCE
    if isinstance(predictor, Ensemble) and (
        predictor.fitted.method.kind in ("hard", "rank") or predictor.vote.within == "hard"
    ):
        limit = 1.0  # counts and ranks are not continuous: one vote that flips moves a share by a whole step
    if parity.agreement >= LEAST_AGREEMENT and parity.largest_difference <= limit:
        return
    raise ExportError(
        f"{predictor.path}: the file answers differently: {parity.agreement:.1%} of {parity.drawings} drawings get the same "
        f"class (expected {LEAST_AGREEMENT:.0%}), probabilities differ by up to "
        f"{parity.largest_difference:.4f} (expected {limit}). Nothing was written. "
        "Report the backbone's name as a fault of inkfold's export."
    )


def _run_in_float32(run: Run, *, views: bool) -> Run:
    manifest = {**run.manifest, "backbone": {**run.manifest["backbone"], "precision": "float32"}}
    recipe = run.recipe.model_copy(update={"backbone": run.recipe.backbone.model_copy(update={"device": "cpu"})})
    return replace(run, manifest=manifest, recipe=recipe if views else recipe.model_copy(update={"tta": ()}))


@dataclass(frozen=True, slots=True)
class QuantisationCheck:
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


def measure_quantisation(
    before: bytes, after: bytes, specimens: Samples, pixels: Sequence[Pixels], progress: Progress = silent
) -> QuantisationCheck:
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
        return QuantisationCheck(len(pixels), agreement)
    right = [one.argmax(1) == specimens.targets for one in answers]
    of = "test" if specimens.folds is None else "out_of_fold"
    return QuantisationCheck(len(pixels), agreement, of, float(right[0].mean()), paired_difference(right[0], right[1]))


def check_quantisation(toll: QuantisationCheck, where: str) -> None:
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
    model: bytes, specimens: Samples, pixels: Sequence[Pixels], progress: Progress
) -> Float32[np.ndarray, "n classes"]:
    session = open_session(model)
    if specimens.folds is None:
        return predict_in_batches(session, pixels, progress=progress)
    by_fold = predict_in_batches(session, pixels, FOLD_PROBS, progress)
    own: np.ndarray = by_fold[specimens.folds, np.arange(len(pixels))]
    return own
