"""Compares an exported file's predictions with its run's, on drawings of the run's own data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Float32

from inkfold.ensemble.model import Ensemble
from inkfold.errors import ExportError
from inkfold.evaluation.paired import paired_difference
from inkfold.export.graph import onnxruntime
from inkfold.export.model_graph import FOLD_PROBS
from inkfold.images.decode import Pixels
from inkfold.pipeline.run import Run
from inkfold.pipeline.samples import Samples
from inkfold.runtime.progress import Progress, silent

MAX_ACCURACY_LOSS = 0.05
BATCH_SIZE = 16
MAX_BATCH_PIXELS = 1 << 24  # the graph makes several floats of each
LARGEST_DIFFERENCE = 0.01  # of a probability; sums in another order gave 0.0002 at the most
LARGEST_DIFFERENCE_KNN = 0.06  # which of two nearly equal drawings is the last neighbour is a matter of the last bit
LEAST_AGREEMENT = 0.99


@dataclass(frozen=True, slots=True)
class Parity:
    """Agreement of a file's predictions with its run's.

    Attributes:
        drawings: Number of drawings that were predicted by both.
        agreement: Share of drawings that both give the same class, 0 to 1.
        largest_difference: Largest absolute difference of any class's probability.
    """

    drawings: int
    agreement: float
    largest_difference: float


def open_session(model: bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    """Load a model's bytes into ONNX Runtime on the CPU, silently; 0 leaves the number of threads to it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def predict_in_batches(
    session: onnxruntime.InferenceSession, drawings: Sequence[Pixels], output: str = "probs", progress: Progress = silent
) -> Float32[np.ndarray, "*leading n classes"]:
    """Run a file on drawings of any sizes; neighbours of the same shape go through it in one batch.

    Args:
        session: The exported file, opened in ONNX Runtime; its input is named `images`.
        drawings: Pixels, (h, w) or (h, w, 3) each.
        output: Name of the output; its last axis but one is the batch.
        progress: Called after each batch.

    Returns:
        The output, in the drawings' order.
    """
    parts, done = [], 0
    for _, group in groupby(drawings, key=lambda drawing: drawing.shape):
        alike = list(group)
        count = max(1, min(BATCH_SIZE, MAX_BATCH_PIXELS // (alike[0].shape[0] * alike[0].shape[1])))
        for start in range(0, len(alike), count):
            batch = np.stack(alike[start : start + count])
            parts.append(session.run([output], {"images": batch if batch.ndim == 4 else batch[..., None]})[0])
            done += len(batch)
            progress("predict by the file", done, len(drawings))
    return np.concatenate(parts, axis=-2)


def in_float32(predictor: Run | Ensemble, *, views: bool = True) -> Run | Ensemble:
    """Copy a run so that it predicts in float32 on the CPU, as an exported file does, with or without its test-time views."""
    if isinstance(predictor, Ensemble):
        members = [None if run is None else _run_in_float32(run, views=views) for run in predictor.members]
        return replace(predictor, members=tuple(members))
    return _run_in_float32(predictor, views=views)


def compare(probs: Float32[np.ndarray, "n classes"], expected: Float32[np.ndarray, "n classes"]) -> Parity:
    """Compare two predictions of the same drawings."""
    agreement = float((probs.argmax(1) == expected.argmax(1)).mean())
    return Parity(len(probs), agreement, float(np.abs(probs - expected).max()))


def check_parity(parity: Parity, predictor: Run | Ensemble) -> None:
    """Refuse a file whose predictions differ from its run's.

    Args:
        parity: How far the file's predictions agree with the run's.
        predictor: The run or ensemble, whose head and vote decide the tolerance.

    Raises:
        ExportError: If fewer drawings than 99 % get the same class, or a probability differs by more than the tolerance.
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
        f"{predictor.path}: the file predicts differently: {parity.agreement:.1%} of {parity.drawings} drawings get the same "
        f"class (expected {LEAST_AGREEMENT:.0%}), probabilities differ by up to "
        f"{parity.largest_difference:.4f} (expected {limit}). Nothing was written. "
        "Please report this, with the backbone's name, as a bug of inkfold's export."
    )


def _run_in_float32(run: Run, *, views: bool) -> Run:
    manifest = {**run.manifest, "backbone": {**run.manifest["backbone"], "precision": "float32"}}
    if "beside" in manifest:
        manifest["beside"] = [{**backbone, "precision": "float32"} for backbone in manifest["beside"]]
    recipe = run.recipe.model_copy(update={"backbone": run.recipe.backbone.model_copy(update={"device": "cpu"})})
    return replace(run, manifest=manifest, recipe=recipe if views else recipe.model_copy(update={"tta": ()}))


@dataclass(frozen=True, slots=True)
class QuantisationCheck:
    """Loss of a file through quantisation to 8 bits.

    Attributes:
        drawings: Number of drawings that both files predicted; no range was calibrated on any of them.
        agreement: Share of them that both files give the same class, 0 to 1.
        of: `test`: drawings of the test table; `out_of_fold`: training drawings, each predicted by the fold that held it
            out; None: neither was available, so the accuracy wasn't measured.
        accuracy_float32: Accuracy of the float32 file, 0 to 1.
        difference: Accuracy of the quantised file minus that of the float32 file, with its 95 % interval, as
            `paired.paired_difference` returns it.
    """

    drawings: int
    agreement: float
    of: str | None = None
    accuracy_float32: float | None = None
    difference: dict[str, Any] | None = None


def measure_quantisation(
    before: bytes, after: bytes, samples: Samples, pixels: Sequence[Pixels], progress: Progress = silent
) -> QuantisationCheck:
    """Compare the predictions of a float32 file and its quantised version.

    Args:
        before: Bytes of the float32 file; with the output `fold_probs` if the samples have folds.
        after: Bytes of the quantised file; likewise.
        samples: The drawings' classes and folds.
        pixels: The drawings' pixels, in the same order.
        progress: Called after each batch.

    Returns:
        Agreement and, where the classes are known, the difference of the accuracies.
    """
    preds = [_probs(model, samples, pixels, progress).argmax(1) for model in (before, after)]
    agreement = float((preds[0] == preds[1]).mean())
    if samples.targets is None:
        return QuantisationCheck(len(pixels), agreement)
    right = [file_preds == samples.targets for file_preds in preds]
    of = "test" if samples.folds is None else "out_of_fold"
    return QuantisationCheck(
        len(pixels), agreement, of, float(right[0].mean()), paired_difference(right[0], right[1], samples.groups)
    )


def check_quantisation(check: QuantisationCheck, run: str) -> None:
    """Refuse a quantised file that lost too much accuracy.

    Raises:
        ExportError: If the whole 95 % interval of the loss lies above 5 points of accuracy.
    """
    if check.difference is not None and check.difference["difference_ci95"][1] < -MAX_ACCURACY_LOSS:
        raise ExportError(
            f"{run}: quantisation to 8 bits loses {-check.difference['difference']:.3f} of accuracy on "
            f"{check.drawings} drawings, expected at most {MAX_ACCURACY_LOSS}. Nothing was written. Leave --quantise out."
        )


def _probs(model: bytes, samples: Samples, pixels: Sequence[Pixels], progress: Progress) -> Float32[np.ndarray, "n classes"]:
    """Predict by the mean of all folds, or by the fold that held each drawing out."""
    if samples.folds is None:
        return predict_in_batches(open_session(model), pixels, progress=progress)
    by_fold = predict_in_batches(open_session(model), pixels, FOLD_PROBS, progress)
    held_out: np.ndarray = by_fold[samples.folds, np.arange(len(pixels))]
    return held_out
