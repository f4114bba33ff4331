"""Predictions: rows named by image path, class probabilities, class names; Parquet files and the submission.

The class order travels with the file, so that no reader ever has to guess it.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from inkfold.errors import ExportError, PredictionError, Problem
from inkfold.storage.files import atomic_file, write_text

SubmissionPart = Literal["id", "path", "target"]
LEARNT = "learnt_by_backbone"
# Of drawings that judge: fewer that a backbone knows change an accuracy by less than chance does, and may be mistaken ones.
LEARNT_SHARE = 0.02
SUBMISSION_COLUMNS: Mapping[str, SubmissionPart] = {"ID": "id", "image_path": "path", "target": "target"}


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was predicted of some drawings.

    Attributes:
        image_paths: As the source names the drawings.
        probs: Class probabilities; rows sum to 1.
        class_names: In the order of the columns of `probs`.
        targets: True class ids, where they are known.
        folds: The part in which each drawing was held out; None for test drawings.
        fold_probs: Each fold's own answer on test drawings; None for out-of-fold predictions.
        learnt: Which drawings the backbone's own weights learnt from before; None where nobody says.
    """

    image_paths: Shaped[np.ndarray, " n"]
    probs: Float[np.ndarray, "n classes"]
    class_names: tuple[str, ...]
    targets: Int64[np.ndarray, " n"] | None = None
    folds: Int64[np.ndarray, " n"] | None = None
    fold_probs: Float[np.ndarray, "folds n classes"] | None = None
    learnt: Bool[np.ndarray, " n"] | None = None

    @property
    def preds(self) -> Int64[np.ndarray, " n"]:
        """The most probable class's id; the lowest of equals."""
        preds: np.ndarray = self.probs.argmax(1)
        return preds

    def save(self, path: Path) -> None:
        """Write Parquet: image_path, target, pred, fold, learnt_by_backbone, probs, and fold_probs (folds x classes, flat).

        Args:
            path: Replaced when it exists.
        """
        import pyarrow as pa  # noqa: PLC0415 - 130 ms
        import pyarrow.parquet as pq  # noqa: PLC0415

        columns = {"image_path": pa.array(self.image_paths.tolist(), pa.string())}
        for name, values in (("target", self.targets), ("pred", self.preds), ("fold", self.folds)):
            if values is not None:
                columns[name] = pa.array(values, pa.int32())
        if self.learnt is not None:
            columns[LEARNT] = pa.array(self.learnt, pa.bool_())
        columns["probs"] = _fixed_lists(self.probs)
        if self.fold_probs is not None:
            columns["fold_probs"] = _fixed_lists(np.concatenate(list(self.fold_probs), axis=1))
        metadata = {"class_names": json.dumps(self.class_names, ensure_ascii=False)}
        with atomic_file(path) as file:
            pq.write_table(pa.table(columns).replace_schema_metadata(metadata), file, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read what `save` wrote.

        Args:
            path: A Parquet file.

        Returns:
            The predictions.

        Raises:
            PredictionError: If the file is missing, broken or not of this form.
        """
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.parquet as pq  # noqa: PLC0415

        try:
            table = pq.read_table(path)
            class_names = tuple(json.loads(table.schema.metadata[b"class_names"]))
            image_paths = np.array(table["image_path"].to_pylist(), np.dtypes.StringDType())
            probs = _matrix(table["probs"]).reshape(len(table), len(class_names))
            known = [name for name in ("target", "fold") if name in table.column_names]
            extra = {name: table[name].to_numpy().astype(np.int64) for name in known}
            learnt = np.array(table[LEARNT].to_pylist(), bool) if LEARNT in table.column_names else None
            fold_probs = _matrix(table["fold_probs"]) if "fold_probs" in table.column_names else None
            if fold_probs is not None:
                folds = fold_probs.shape[1] // max(len(class_names), 1)
                fold_probs = fold_probs.reshape(len(table), folds, len(class_names)).transpose(1, 0, 2)
        except (OSError, pa.ArrowException, AttributeError, KeyError, TypeError, ValueError) as error:
            raise PredictionError(f"{path}: not predictions of inkfold: {error}. Run the training again.") from None
        return cls(image_paths, probs, class_names, extra.get("target"), extra.get("fold"), fold_probs, learnt)


def is_worth_reporting(known: int, among: int) -> bool:
    """Say whether a backbone knows so many drawings that it changes an accuracy by more than chance does.

    Args:
        known: Drawings that its weights learnt from before, some of them mistaken for such.
        among: Drawings that judge.

    Returns:
        Whether they are known in earnest.
    """
    return known >= LEARNT_SHARE * among


def evaluation_mask(learnt: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Say which drawings judge, where some backbone learnt from some of them before: on those it would win by memory.

    Args:
        learnt: Which it learnt from.

    Returns:
        The others; all where the known ones are too few to matter, or there are no others.
    """
    apart = is_worth_reporting(int(learnt.sum()), len(learnt)) and not learnt.all()
    return ~learnt if apart else np.ones_like(learnt)


def submission_columns(header: Sequence[str], path_column: str, target_column: str) -> Mapping[str, SubmissionPart]:
    """Say what each column of a sample submission holds.

    Args:
        header: Its columns.
        path_column: What the data call the image paths.
        target_column: What they call the numbers of classes.

    Returns:
        By column; whatever is neither is the id.
    """
    known: dict[str, SubmissionPart] = {path_column: "path", target_column: "target"}
    return {name: known.get(name, "id") for name in header}


def write_submission(
    path: Path,
    image_paths: Shaped[np.ndarray, " n"],
    values: Int64[np.ndarray, " n"],
    allowed: Int64[np.ndarray, " classes"],
    ids: Sequence[str] | None = None,
    columns: Mapping[str, SubmissionPart] = SUBMISSION_COLUMNS,
) -> None:
    """Write the competition's CSV after checking that it has a row for each test drawing, in order and in range.

    Args:
        path: Replaced when it exists.
        image_paths: In the order of the test table.
        values: The class numbers to write.
        allowed: All class numbers.
        ids: Of the drawings; None counts from 0.
        columns: Name and content of each column, in the sample's order; the id may be left out.

    Raises:
        ExportError: With everything that would make the file invalid.
    """
    problems = []
    if len(values) != len(image_paths) or (ids is not None and len(ids) != len(image_paths)):
        counts = f"{len(image_paths)} test drawings, {len(values)} predictions"
        problems.append(Problem("count", str(path), f"got {counts}, {'no' if ids is None else len(ids)} IDs."))
    outside = np.setdiff1d(values, allowed)
    if len(outside):
        problems.append(Problem("range", str(path), f"got targets {outside[:5].tolist()}, which are no class's number."))
    if sorted({*columns.values(), "id"}) != ["id", "path", "target"] or len({*columns.values()}) != len(columns):
        expected = ",".join(SUBMISSION_COLUMNS)
        problems.append(Problem("columns", str(path), f"got columns {','.join(columns)}, expected some like {expected}."))
    if problems:
        raise ExportError(problems)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    parts = {"id": range(len(values)) if ids is None else ids, "path": image_paths.tolist(), "target": values.tolist()}
    writer.writerows(zip(*(parts[part] for part in columns.values()), strict=True))
    write_text(path, text.getvalue())


def softmax(scores: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Turn scores (logits) into class probabilities, in the scores' precision; rows sum to 1."""
    powers = np.exp(scores - scores.max(1, keepdims=True))
    probs: np.ndarray = powers / powers.sum(1, keepdims=True)
    return probs


def _fixed_lists(matrix: np.ndarray) -> object:
    import pyarrow as pa  # noqa: PLC0415

    flat = np.ascontiguousarray(matrix, np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), matrix.shape[1])


def _matrix(column: object) -> np.ndarray:
    combined = column.combine_chunks()  # type: ignore[attr-defined]
    flat: np.ndarray = combined.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(combined), combined.type.list_size)
