"""Predictions from elsewhere, in CSV, NPY, NPZ or Parquet files. No pickle; rows and columns are matched by name only.

.parquet  what inkfold writes, or columns image_path and one for each class
.csv      image_path and target (a submission), or image_path and one column for each class
.npz      probs (n, classes) or (folds, n, classes), image_paths (n), and maybe class_names
.npy      probs (n, classes) or (folds, n, classes); NAME.csv beside NAME.npy holds the image_path of each row
test-0.csv, test-1.csv, ... in a directory, of any of these kinds, are the folds of one model

Classes are named, or numbered as the data's tables number them; an array without class_names has the data's class order.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from inkfold.data.tables import quoted, read_header, read_table
from inkfold.ensemble.member_predictions import MemberPredictions, path_keys
from inkfold.ensemble.npy import read_npy, read_npz, reason, refusal
from inkfold.errors import DataError, InkfoldError, PredictionError, Problem
from inkfold.evaluation.predictions import Predictions

SUFFIXES = (".parquet", ".csv", ".npz", ".npy")
PATH_COLUMN, TARGET_COLUMN = "image_path", "target"
OUT_OF_FOLD = "out_of_fold"
PARTS = (OUT_OF_FOLD, "test")
NO_CLASSES = re.compile(r"ID|id|Unnamed: 0|__index_level_[0-9]+__|")  # row numbers, as Kaggle and pandas call them
FOLD = re.compile(r"test-[0-9]+")
TARGET = re.compile(r"[0-9]{1,19}(\.0*)?")  # 3.0 is how a column with gaps is often saved


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes' names and numbers, for files that only number their classes.

    Attributes:
        names: Class names, by class id.
        targets: The number that stands for each class in tables, by class id.
        path_column: The data's name for the column of image paths; files may also call it image_path.
        target_column: The data's name for the column of class numbers; files may also call it target.
    """

    names: tuple[str, ...]
    targets: Int64[np.ndarray, " classes"]
    path_column: str = PATH_COLUMN
    target_column: str = TARGET_COLUMN


def read_member(path: Path, classes: Classes | None) -> MemberPredictions:
    """Read the predictions of a member that is no run but files in other formats.

    Args:
        path: A file of test predictions, or a directory with out_of_fold.* or test.* or both; test-0.* and so on are the
            folds of one model. A file holds out-of-fold predictions if it is called out_of_fold or says in which fold each
            drawing was held out.
        classes: Names of the classes that files only number; None if they aren't known.

    Returns:
        The member's predictions, named after the file or directory.

    Raises:
        PredictionError: With everything that is wrong with its files.
    """
    parts, problems = dict[str, Predictions](), list[Problem]()
    if not path.exists():
        problems.append(Problem("missing", str(path), "no such file or directory. Correct the path."))
    for part in PARTS:
        files = _files(path, part)
        if len(files) > 1 and not all(FOLD.fullmatch(file.stem) for file in files):
            text = f"has {' and '.join(file.name for file in files)}, expected one of them. Remove the others."
            problems.append(Problem("several", str(path), text))
        read = []
        for file in files:
            try:
                read.append(read_predictions(file, classes))
            except InkfoldError as error:
                text = str(error).removeprefix(f"{file}: ")
                problems += error.problems or [Problem("predictions", str(file), text)]
        if read and not problems:
            predictions, differences = _join_folds(files, read)
            problems += differences
            parts[OUT_OF_FOLD if path.is_file() and predictions.folds is not None else part] = predictions
    if problems:
        raise PredictionError(problems)
    if not parts:
        text = f"neither a finished run, nor a file ending in {', '.join(SUFFIXES)}, nor a directory with out_of_fold.* or "
        raise refusal(path, f"{text}test.* or test-0.*, test-1.* ... of such a kind. Correct the path.")
    return MemberPredictions(path.stem if path.is_file() else path.resolve().name, parts.get("out_of_fold"), parts.get("test"))


def _join_folds(files: Sequence[Path], read: Sequence[Predictions]) -> tuple[Predictions, list[Problem]]:
    """Join files of one model's folds, with rows and columns as in the first file; also give what doesn't fit."""
    first, problems = read[0], list[Problem]()
    if len(read) == 1:
        return first, problems
    keys = path_keys(first.image_paths.tolist())
    stack = np.empty((len(read), *first.probs.shape), np.float32)
    for fold, file, own in zip(stack, files, read, strict=True):
        row_of = {key: row for row, key in enumerate(path_keys(own.image_paths.tolist()))}
        if own.fold_probs is not None:
            text = f"holds {len(own.fold_probs)} folds itself, expected one. Give it as test{file.suffix}."
        elif {*own.class_names} != {*first.class_names}:
            text = f"has other classes than {files[0].name}, expected the same. Write them anew."
        elif len(row_of) != len(own.image_paths) or {*row_of} != {*keys}:
            text = f"has other drawings than {files[0].name}, or some twice; expected the same, once each. Write them anew."
        elif [*row_of] == keys and own.class_names == first.class_names:
            fold[:] = own.probs
            continue
        else:
            columns = [own.class_names.index(name) for name in first.class_names]
            fold[:] = own.probs[np.ix_([row_of[key] for key in keys], columns)]
            continue
        problems.append(Problem("folds", str(file), text))
    probs = first.probs if problems else stack.mean(0)
    return Predictions(first.image_paths, probs, first.class_names, first.targets, fold_probs=stack), problems


def read_predictions(path: Path, classes: Classes | None) -> Predictions:
    """Read one file of predictions.

    Args:
        path: A .parquet, .csv, .npz or .npy file.
        classes: Names of the classes that the file only numbers; None if they aren't known.

    Returns:
        The predictions, with classes in the order of `classes` if they are the same. A submission's rows have probability 1 in
        one class. Whether rows are probabilities is checked when members are aligned.

    Raises:
        PredictionError: If the file is broken, or rows or classes have no names.
    """
    match path.suffix.lower():
        case ".parquet":
            return _read_parquet(path, classes)
        case ".csv":
            return _from_table(path, _columns(path), classes)
        case ".npz":
            return _read_npz(path, classes)
        case ".npy":
            return _read_npy(path, classes)
    raise refusal(path, f"got '{path.suffix}', expected one of {', '.join(SUFFIXES)}. Convert it.")


def _files(path: Path, part: str) -> list[Path]:
    if path.is_file():
        return [path] if (part == OUT_OF_FOLD) == (path.stem == OUT_OF_FOLD) else []
    there = sorted(path.iterdir()) if path.is_dir() else []
    files = [
        file
        for file in there
        if (file.stem == part or (part == "test" and FOLD.fullmatch(file.stem)))
        and file.suffix.lower() in SUFFIXES
        and file.is_file()
    ]
    arrays = {file.stem for file in files if file.suffix.lower() == ".npy"}  # a CSV beside one names its rows
    return [file for file in files if file.suffix.lower() != ".csv" or file.stem not in arrays]


def _read_parquet(path: Path, classes: Classes | None) -> Predictions:
    import pyarrow as pa  # noqa: PLC0415 - 130 ms
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        schema = pq.read_schema(path)
        is_ours = bool(schema.names) and b"class_names" in (schema.metadata or {})  # names are decoded when they are used
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise refusal(path, f"not a Parquet file: {reason(error)}. Write it anew.") from None
    return Predictions.load(path) if is_ours else _from_table(path, _columns(path), classes)


def _columns(path: Path) -> dict[str, np.ndarray]:
    """Read a table as text; several members may have files of one name, so problems give the whole path."""
    try:
        header = read_header(path)
        if not header:
            raise refusal(path, f"got no column, expected '{PATH_COLUMN}' and others. Write it anew.")
        table = read_table(path, {}, header)
        problems = table.problems
    except DataError as error:
        problems = error.problems
    if problems:
        raise PredictionError(
            [
                replace(problem, where=f"{path}{problem.where.removeprefix(str(path)).removeprefix(path.name)}")
                for problem in problems
            ]
        )
    return table.columns


def _from_table(path: Path, columns: Mapping[str, np.ndarray], classes: Classes | None) -> Predictions:
    image_paths = columns[_path_column(path, columns, classes)]
    target_column = _column(columns, TARGET_COLUMN if classes is None else classes.target_column, TARGET_COLUMN)
    others = {name: column for name, column in columns.items() if column is not image_paths}
    names = _class_columns(others, classes, target_column is not None)
    if len(names) > 1:
        return _predictions(path, image_paths, _numbers(path, others, names)[None], names, classes)
    besides = [name for name in others if name != target_column and not NO_CLASSES.fullmatch(name)]
    if target_column is None or len(besides) > 1:  # one may be an id; more may be probabilities, and the targets then the truth
        text = f"got columns {quoted([*columns])}, expected one for each class, by name, or '{TARGET_COLUMN}' and maybe an id"
        raise refusal(path, f"{text}. Correct their names, or leave some out.")
    if classes is None:
        raise refusal(
            path, "only numbers its classes, expected names. Name the data (--data DIR), or add a run to the members."
        )
    return _predictions(path, image_paths, _one_hot(path, columns[target_column], classes)[None], classes.names, classes)


def _path_column(path: Path, columns: Mapping[str, np.ndarray], classes: Classes | None) -> str:
    column = _column(columns, PATH_COLUMN if classes is None else classes.path_column, PATH_COLUMN)
    if column is None:
        text = f"got columns {quoted([*columns])}, expected '{PATH_COLUMN}' too, by which rows are matched. Add it."
        raise refusal(path, text)
    return column


def _column(columns: Mapping[str, np.ndarray], *names: str) -> str | None:
    return next((name for name in names if name in columns), None)


def _class_columns(columns: Mapping[str, np.ndarray], classes: Classes | None, has_targets: bool) -> list[str]:
    """Choose the columns of probabilities: those called after known classes or their numbers; else all but in a submission."""
    if classes is not None:
        called = {_clean(name): name for name in columns}
        for names in (classes.names, [*map(str, classes.targets.tolist())]):
            if all(name in called for name in names):
                return [called[name] for name in names]
    return [] if has_targets else [name for name in columns if not NO_CLASSES.fullmatch(name)]


def _numbers(path: Path, columns: Mapping[str, np.ndarray], names: Sequence[str]) -> Float32[np.ndarray, "n classes"]:
    numbers = np.empty((len(columns[names[0]]), len(names)), np.float32)
    problems = []
    with np.errstate(over="ignore"):
        for k, name in enumerate(names):
            try:
                numbers[:, k] = columns[name].astype(np.float64)
            except ValueError:
                for row, text in enumerate(columns[name].tolist()):
                    try:
                        numbers[row, k] = float(text)
                    except ValueError:
                        got = f"got '{text}' in column '{name}', expected a number. Correct it."
                        problems.append(Problem("not_a_number", f"{path} row {row + 1}", got))
    if problems:
        raise PredictionError(problems)
    return numbers


def _one_hot(path: Path, values: Shaped[np.ndarray, " n"], classes: Classes) -> Float32[np.ndarray, "n classes"]:
    place = {target: i for i, target in enumerate(classes.targets.tolist())}
    columns, problems = np.zeros(len(values), np.int64), []
    for row, text in enumerate(values.tolist()):
        number = text.strip()
        column = place.get(int(number.partition(".")[0])) if TARGET.fullmatch(number) else None
        if column is None:
            known = f"{len(place)} numbers, {min(place)} to {max(place)}, that the data give classes"
            got = f"got target '{text}', expected one of the {known}. Correct it."
            problems.append(Problem("unknown_class", f"{path} row {row + 1}", got))
        else:
            columns[row] = column
    if problems:
        raise PredictionError(problems)
    probs = np.zeros((len(values), len(place)), np.float32)
    probs[np.arange(len(values)), columns] = 1
    return probs


def _read_npz(path: Path, classes: Classes | None) -> Predictions:
    arrays = read_npz(path, None if classes is None else len(classes.names))
    names = arrays["class_names"].tolist() if "class_names" in arrays else None
    return _predictions(path, arrays["image_paths"], arrays["probs"], names, classes)


def _read_npy(path: Path, classes: Classes | None) -> Predictions:
    beside = path.with_suffix(".csv")
    if not beside.is_file():
        text = "nothing says which drawing each row is of, and rows are never matched by their place. Put the drawings' paths "
        raise refusal(path, f"{text}into {beside.name} beside it, in a column '{PATH_COLUMN}'.")
    columns = _columns(beside)
    image_paths = columns[_path_column(beside, columns, classes)]
    probs = read_npy(path, len(image_paths), None if classes is None else len(classes.names))
    return _predictions(path, image_paths, probs, None, classes)


def _predictions(
    path: Path,
    image_paths: Shaped[np.ndarray, " n"],
    folds: Float32[np.ndarray, "folds n classes"],
    names: Sequence[str] | None,
    classes: Classes | None,
) -> Predictions:
    """Name the rows and columns; numbered classes get their names, and known classes their order."""
    if empty := [row for row, text in enumerate(image_paths.tolist()) if not text.strip()]:
        text = "the image path is empty, expected one, by which the row is matched. Fill it in or remove the row."
        raise PredictionError([Problem("empty_path", f"{path} row {row + 1}", text) for row in empty])
    names = classes.names if names is None and classes is not None else [_clean(name) for name in names or ()]
    if classes is not None:
        name_of = dict(zip(map(str, classes.targets.tolist()), classes.names, strict=True))
        if {*names} == {*name_of} and {*names} != {*classes.names}:
            names = [name_of[name] for name in names]
        if sorted(names) == sorted(classes.names) and [*names] != [*classes.names]:
            folds, names = folds[:, :, [names.index(name) for name in classes.names]], classes.names
    with np.errstate(invalid="ignore", over="ignore"):
        probs = folds[0] if len(folds) == 1 else folds.mean(0)
    return Predictions(image_paths, probs, tuple(names), fold_probs=None if len(folds) == 1 else folds)


def _clean(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip())
