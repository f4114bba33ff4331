"""Predictions of drawings: class probabilities by image path, kept as Parquet files, and the submission CSV.

The class names and their order are part of the file, so that no reader has to guess them.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, Shaped

from inkfold.errors import ExportError, PredictionError, Problem
from inkfold.runtime.foreign import parse_json
from inkfold.storage.files import atomic_file
from inkfold.storage.outputs import write_output
from inkfold.storage.parquet import check_expansion
from inkfold.storage.scratch import scratch_array

if TYPE_CHECKING:
    import pyarrow.parquet as pq

SubmissionPart = Literal["id", "path", "target"]
SEEN_COLUMN = "learnt_by_backbone"
NESTED_COLUMN = "nested_right"
# Of the evaluated drawings: a smaller share that a backbone has seen changes the accuracy by less than chance does, and may be
# false matches.
SEEN_SHARE = 0.02
MATRICES = ("probs", "fold_probs")  # columns of lists
ROWS_AT_ONCE = 8192  # that Parquet's lists are taken apart and put together: 11 MB of 345 classes' probabilities
SUBMISSION_COLUMNS: Mapping[str, SubmissionPart] = {"ID": "id", "image_path": "path", "target": "target"}


@dataclass(frozen=True, slots=True, repr=False)
class Predictions:
    """Class probabilities of a set of drawings.

    Attributes:
        image_paths: Names of the drawings, as the data set has them.
        probs: Class probabilities; rows sum to 1.
        class_names: Class names, in the order of the columns of `probs`.
        targets: True class ids; None where they are not known.
        folds: The fold in which each drawing was held out; None for test drawings.
        fold_probs: Class probabilities by each fold's model, for test drawings; None for out-of-fold predictions.
        seen: Which drawings the backbone's weights were pretrained on; None where it is not known.
        groups: Number of each drawing's group, equal where drawings belong together: of one origin, or copies of each other.
            Intervals and tests resample whole groups. None where nothing is known of groups.
        digests: Digest of each drawing's file, by which the drawings of two runs are matched; empty for a file that can't be
            read. None where only the paths are known.
        nested_right: Share of the fold's heads that predict the drawing rightly, 0 to 1, where what was chosen by held-out
            drawings, such as the epochs that are kept, is chosen by other drawings than this one; its mean is the accuracy to
            expect on new drawings. None where nothing was chosen so.
        decided: The class that each drawing is given, where a rule other than the most probable class decides; None where it
            is that. The file's column `pred` holds it.
    """

    image_paths: Shaped[np.ndarray, " n"]
    probs: Float[np.ndarray, "n classes"]
    class_names: tuple[str, ...]
    targets: Int64[np.ndarray, " n"] | None = None
    folds: Int64[np.ndarray, " n"] | None = None
    fold_probs: Float[np.ndarray, "folds n classes"] | None = None
    seen: Bool[np.ndarray, " n"] | None = None
    groups: Int64[np.ndarray, " n"] | None = None
    digests: Shaped[np.ndarray, " n"] | None = None
    nested_right: Float[np.ndarray, " n"] | None = None
    decided: Int64[np.ndarray, " n"] | None = None

    def __repr__(self) -> str:
        known = "" if self.targets is None else f", {np.mean(self.preds == self.targets):.3f} right"
        return f"<Predictions: {len(self.image_paths):,} drawings, {len(self.class_names):,} classes{known}>"

    @property
    def preds(self) -> Int64[np.ndarray, " n"]:
        """The class that each drawing is given: the most probable one, the lowest id of equal ones, unless a rule decided."""
        preds: np.ndarray = self.probs.argmax(1) if self.decided is None else self.decided
        return preds

    @property
    def right(self) -> Bool[np.ndarray, " n"]:
        """Which drawings are predicted rightly; true classes must be known.

        Where what was chosen by held-out drawings, and one head per fold answers, it is whether the head is right that other
        drawings chose: the accuracy of the chosen head itself is optimistic.
        """
        assert self.targets is not None
        if self.answers_nested and self.nested_right is not None and self.decided is None:
            return self.nested_right > 0
        right: np.ndarray = self.preds == self.targets
        return right

    @property
    def answers_nested(self) -> bool:
        """Whether `right` is of heads that other drawings chose, so that it isn't optimistic."""
        return self.nested_right is not None and bool(np.isin(self.nested_right, (0, 1)).all())

    def select(self, rows: Bool[np.ndarray, " n"] | Int64[np.ndarray, " rows"]) -> "Predictions":
        """Select drawings.

        Args:
            rows: Row numbers, or a mask over all rows.

        Returns:
            Their predictions, in the order of `rows`.
        """
        names = [field.name for field in fields(self) if field.name not in ("class_names", "fold_probs")]
        own: dict[str, Any] = {name: getattr(self, name) for name in names}
        selected: dict[str, Any] = {name: None if values is None else values[rows] for name, values in own.items()}
        fold_probs = None if self.fold_probs is None else self.fold_probs[:, rows]
        return replace(self, **selected, fold_probs=fold_probs)

    @property
    def most_probable(self) -> "Predictions":
        """The same predictions, answered by the most probable class."""
        return replace(self, decided=None)

    def save(self, path: Path) -> None:
        """Write a Parquet file.

        Its columns are image_path, target, pred, fold, group, digest, learnt_by_backbone, nested_right, probs, and fold_probs
        (folds x classes, flat); those of which nothing is known are left out.

        Args:
            path: The file; replaced when it exists.
        """
        import pyarrow as pa  # noqa: PLC0415 - 130 ms
        import pyarrow.parquet as pq  # noqa: PLC0415

        columns = {"image_path": pa.array(self.image_paths.tolist(), pa.string())}
        numbers = {"target": self.targets, "pred": self.preds, "fold": self.folds, "group": self.groups}
        for name, values in numbers.items():
            if values is not None:
                columns[name] = pa.array(values, pa.int32())
        if self.digests is not None:
            columns["digest"] = pa.array(self.digests.astype(str).tolist(), pa.string())
        if self.seen is not None:
            columns[SEEN_COLUMN] = pa.array(self.seen, pa.bool_())
        if self.nested_right is not None:
            columns[NESTED_COLUMN] = pa.array(self.nested_right, pa.float32())
        columns["probs"] = _fixed_lists(self.probs)
        if self.fold_probs is not None:
            columns["fold_probs"] = _fixed_lists(np.concatenate(list(self.fold_probs), axis=1))
        metadata = {"class_names": json.dumps(self.class_names, ensure_ascii=False)}
        with atomic_file(path) as file:
            table = pa.table(columns).replace_schema_metadata(metadata)
            pq.write_table(table, file, compression="zstd", row_group_size=ROWS_AT_ONCE)

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read predictions that `save` wrote.

        Args:
            path: The Parquet file, whose metadata hold the class names in the order of the probabilities.

        Raises:
            PredictionError: If the file is missing, broken or has other columns.
        """
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.parquet as pq  # noqa: PLC0415

        try:
            with path.open("rb") as opened, pq.ParquetFile(opened) as file:
                check_expansion(file, path)
                columns = file.schema_arrow.names
                table = file.read([name for name in columns if name not in MATRICES])
                class_names = tuple(parse_json(table.schema.metadata[b"class_names"]))
                if not all(isinstance(name, str) for name in class_names) or len({*class_names}) != len(class_names):
                    raise ValueError("class_names aren't texts, or not all different")
                probs = _read_matrix(file, "probs").reshape(len(table), len(class_names))
                fold_probs = _read_matrix(file, "fold_probs") if "fold_probs" in columns else None
            image_paths = np.array(table["image_path"].to_pylist(), np.dtypes.StringDType())
            known = [name for name in ("target", "pred", "fold", "group") if name in table.column_names]
            extra = {name: table[name].to_numpy().astype(np.int64) for name in known}
            digests = np.array(table["digest"].to_pylist(), "S") if "digest" in table.column_names else None
            seen = np.array(table[SEEN_COLUMN].to_pylist(), bool) if SEEN_COLUMN in table.column_names else None
            nested = table[NESTED_COLUMN].to_numpy().astype(np.float64) if NESTED_COLUMN in table.column_names else None
            if fold_probs is not None:
                folds = fold_probs.shape[1] // max(len(class_names), 1)
                fold_probs = fold_probs.reshape(len(table), folds, len(class_names)).transpose(1, 0, 2)
        except (OSError, pa.ArrowException, AttributeError, KeyError, TypeError, ValueError) as error:
            raise PredictionError(f"{path}: not predictions of inkfold: {error}. Run the training again.") from None
        decided = extra.get("pred")
        if decided is not None and (len(decided) == 0 or np.array_equal(decided, probs.argmax(1))):
            decided = None
        if decided is not None and (decided.min() < 0 or decided.max() >= len(class_names)):
            raise PredictionError(f"{path}: column pred has classes that are not there. Run the training again.")
        if problem := _column_problem(class_names, extra, probs, fold_probs):
            raise PredictionError(f"{path}: {problem}. Run the training again.")
        numbers = (extra.get("target"), extra.get("fold"))
        others = (seen, extra.get("group"), digests, nested, decided)
        return cls(image_paths, probs, class_names, *numbers, fold_probs, *others)


def _column_problem(
    class_names: Sequence[str], numbers: Mapping[str, np.ndarray], probs: np.ndarray, fold_probs: np.ndarray | None
) -> str | None:
    """Say what no table of inkfold has; None where nothing is wrong."""
    target, fold = numbers.get("target"), numbers.get("fold")
    if target is not None and len(target) and not (target.min() >= 0 and target.max() < len(class_names)):
        return "column target has classes that are not there"
    if fold is not None and len(fold) and fold.min() < 0:
        return "column fold has numbers below 0"
    for name, values in (("probs", probs), ("fold_probs", fold_probs)):
        if values is not None and values.size and not (values.min() >= 0 and values.max() <= 1.001):  # NaN is neither
            return f"column {name} has values that are no probabilities from 0 to 1"
    return None


def is_worth_reporting(seen: int, total: int) -> bool:
    """Return whether a backbone was pretrained on so many of the evaluated drawings, 2 %, that it changes an accuracy."""
    return seen >= SEEN_SHARE * total


def evaluation_mask(seen: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Choose the drawings to evaluate on where a backbone was pretrained on some: on those it would win by memory.

    Args:
        seen: Which drawings were seen in pretraining.

    Returns:
        True for the drawings that were not seen; for all where too few were seen to matter, or all were.
    """
    exclude = is_worth_reporting(int(seen.sum()), len(seen)) and not seen.all()
    return ~seen if exclude else np.ones_like(seen)


def submission_columns(header: Sequence[str], path_column: str, target_column: str) -> Mapping[str, SubmissionPart]:
    """Find out what each column of a sample submission contains; one with neither paths nor targets is the id."""
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
    """Write the submission CSV, after checking that it has one row per test drawing, in order, with valid class numbers.

    Args:
        path: The file; replaced when it exists.
        image_paths: Image paths in the order of the test table.
        values: Predicted class numbers in the same order.
        allowed: All class numbers of the data; another one is refused.
        ids: Ids of the drawings; None counts from 0.
        columns: Content by name of the column, in the order of the sample submission; the id may be left out.

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
    write_output(path, text.getvalue())


def softmax(scores: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Turn scores (logits) into class probabilities, in the scores' precision; rows sum to 1."""
    powers = np.exp(scores - scores.max(1, keepdims=True))
    probs: np.ndarray = powers / powers.sum(1, keepdims=True)
    return probs


def softmax_in_parts(
    scores: Callable[[slice], Float[np.ndarray, "rows classes"]], shape: tuple[int, int]
) -> Float32[np.ndarray, "n classes"]:
    """Turn scores into class probabilities, some rows at a time: large ones needn't stay in memory (`scratch_array`).

    Args:
        scores: Returns the scores of some rows.
        shape: Number of rows and of classes.

    Returns:
        Class probabilities in single precision; rows sum to 1.
    """
    probs = scratch_array(shape, np.float32)
    for start in range(0, shape[0], ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        probs[part] = softmax(scores(part))
    return probs


def _fixed_lists(matrix: np.ndarray) -> object:
    import pyarrow as pa  # noqa: PLC0415

    flat = np.ascontiguousarray(matrix, np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), matrix.shape[1])


def _read_matrix(file: "pq.ParquetFile", column: str) -> Float[np.ndarray, "n numbers"]:
    """Read a column of equally long lists, some rows at a time: at once they would take several times their own size."""
    field = file.schema_arrow.field(column)
    values = scratch_array((file.metadata.num_rows, field.type.list_size), field.type.value_type.to_pandas_dtype())
    start = 0
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=[column]):
        rows = batch.column(0)
        if rows.null_count or rows.flatten().null_count:
            raise ValueError(f"column {column} has gaps")
        values[start : start + len(rows)] = rows.flatten().to_numpy().reshape(len(rows), -1)
        start += len(rows)
    if start != len(values):
        raise ValueError(f"column {column} has {start} rows of the {len(values)} that it announces")
    return values
