"""Makes a dataset of what Python programs hold: drawings in any form that `from_memory` reads, with their labels and groups.

What is in memory is written once into inkfold's directory, as files named by `storage.kept_drawings`, with a `train.csv` beside
them: from there on it is a dataset like any other, which resuming, reports and audits find again. Files that the user has stay
where they are, and only the table is written. A set is named by its content: the same drawings and labels are the same set.
"""

import csv
import io
import logging
import math
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image

from inkfold.data.dataset import read_dataset
from inkfold.data.from_memory import (
    Drawing,
    DrawingSource,
    column_values,
    describe,
    draw,
    read_drawings,
    table_columns,
)
from inkfold.data.paths import IMAGE_SUFFIXES
from inkfold.data.tables import TABLE_SUFFIXES
from inkfold.data.types import DataOptions, Dataset
from inkfold.errors import DataError, Problem
from inkfold.images.colour import Pixels
from inkfold.images.formats import BrokenImage, format_of
from inkfold.runtime.parallel import ahead, available_cores
from inkfold.storage.hashing import digest, key_digest
from inkfold.storage.kept_drawings import KeptSet, new_set

log = logging.getLogger("inkfold.data")

TRAIN, TEST, GROUP = "train.csv", "test.csv", "group"
VERSION = 1  # part of each set's digest
LABEL_COLUMNS = ("class_name", "label", "labels", "class", "category", "target", "y")
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WebP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "GIF": ".gif"}
READ_AHEAD = 64
MISSING_TYPES = ("NAType", "NaTType")  # pandas' own kinds of nothing
TEST_ROW = "or None for a drawing to predict"


def read_any_dataset(
    data: Any,
    labels: Any = None,
    *,
    groups: Any = None,
    names: Any = None,
    column: str | None = None,
    options: DataOptions | None = None,
    strict: bool = True,
) -> Dataset:
    """Read a dataset of drawings from a directory, a table, or drawings and labels in memory.

    Drawings in memory are written once into inkfold's directory (see docs/storage.md), where training, resuming, reports and
    audits find them. Their content decides folds and features, exactly as that of files does.

    Args:
        data: Path of a directory or a table, without `labels`; otherwise drawings in any form that
            `from_memory.read_drawings` takes: paths, bytes, Pillow images, arrays, tables, strokes. Or the pair
            `(drawings, labels)`, or a Dataset.
        labels: The class of each drawing: texts, numbers, or a column's name if `data` is a table or a table's path. None, NaN
            or a missing value makes a drawing one to predict. `options` are accepted here too.
        groups: Who drew each drawing, or after which photo: drawings of one group stay in one fold. A column's name if `data`
            is a table; None for no groups.
        names: The name of each drawing in results and reports, each another one; a column's name if `data` is a table. None
            takes the files' paths, or numbers in the drawings' order.
        column: The column with the drawings, if `data` is a table; None looks for it.
        options: How a directory or a table file is read; None takes the defaults.
        strict: Whether errors are raised; otherwise those of a directory or table file are collected in `Dataset.problems`.

    Returns:
        The dataset, which `inkfold.train(data=...)` takes.

    Raises:
        DataError: With everything that is wrong with the drawings or labels.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(labels, DataOptions):
        labels, options = None, labels
    if isinstance(data, tuple) and labels is None and 2 <= len(data) <= 3 and not _is_path(data[0]):
        data, labels, groups = (*data, groups)[:3]
    elif isinstance(data, str | Path) and labels is None:
        return read_dataset(data, options, strict=strict)
    elif isinstance(data, str | Path) and isinstance(labels, str) and Path(data).suffix.lower() in TABLE_SUFFIXES:
        named = {"label_column": labels, "group_column": groups, "path_column": column}
        changed = {key: value for key, value in named.items() if value is not None}
        return read_dataset(data, (options or DataOptions()).model_copy(update=changed), strict=strict)
    given = _given(data, labels, groups, names, column)
    return read_dataset(*_keep(given))


def settings_of(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Return the recipe's keys that read a dataset again, as nested mappings: sections `data`, `folds` and `submission`."""
    options = dataset.options or DataOptions()
    changed = options.model_dump(mode="json", exclude_defaults=True, exclude={"num_folds", "root"})
    folds = {key: changed.pop(key) for key in ("group_column", "group_pattern") if key in changed}
    submission = changed.pop("submission", {})
    sections = {"data": {**changed, "root": str(dataset.source or dataset.root)}, "folds": folds, "submission": submission}
    return {section: keys for section, keys in sections.items() if keys}


@final
@dataclass(frozen=True, slots=True)
class _Given:
    """Drawings with what is known of each; None where nothing is."""

    drawings: DrawingSource
    labels: Sequence[str | None]
    groups: Sequence[str | None] | None
    names: Sequence[str] | None


def _given(data: Any, labels: Any, groups: Any, names: Any, column: str | None) -> _Given:
    """Read labels, groups and names, from columns where these are named, and compare their numbers."""
    if labels is None and table_columns(data):
        labels = _label_column(table_columns(data))
    columns = [_column(data, values, what) for values, what in ((labels, "labels"), (groups, "groups"), (names, "names"))]
    if columns[0] is None:
        raise DataError(f"labels: got None, expected the class of each drawing, {TEST_ROW}.")
    drawings = read_drawings(data, column)
    problems: list[Problem] = []
    texts = [None if values is None else _texts(values, what, problems) for values, what in zip(columns, _WHAT, strict=True)]
    if problems:
        raise DataError(problems)
    given = _Given(drawings, texts[0] or [], texts[1], None if texts[2] is None else _file_names(texts[2]))
    if drawings.count is not None:
        _check_lengths(given, drawings.count)
    return given


_WHAT = ("labels", "groups", "names")


def _check_lengths(given: _Given, count: int) -> None:
    lengths = {what: len(values) for what in _WHAT if (values := getattr(given, what)) is not None}
    wrong = ", ".join(f"{length} {what}" for what, length in lengths.items() if length != count)
    if wrong:
        raise DataError(f"got {count} drawing(s) and {wrong}, expected one for each drawing.")
    if not count:
        raise DataError("got no drawings, expected two classes at least.")


def _column(data: Any, values: Any, what: str) -> Any:
    """Return the values that were given, or those of the table's column that was named."""
    names = table_columns(data)
    if not isinstance(values, str):
        return values
    if values not in names:
        shown = ", ".join(map(repr, names)) or "no table"
        raise DataError(f"{what}: got {values!r}, expected a value for each drawing, or a column of a table; there is {shown}.")
    found = [*column_values(data, values)[1]]
    class_names = getattr(getattr(data, "features", {}).get(values), "names", None) if hasattr(data, "features") else None
    if class_names is None or what != "labels":
        return found
    return [None if value is None or value < 0 else class_names[value] for value in found]  # datasets has -1 for no label


def _label_column(columns: Sequence[str]) -> str | None:
    lowered = {name.lower(): name for name in reversed(columns)}
    return next((lowered[name] for name in LABEL_COLUMNS if name in lowered), None)


def _texts(values: Any, what: str, problems: list[Problem]) -> list[str | None]:
    """Turn labels, groups or names into texts, None for those that are missing."""
    try:
        listed = values.tolist() if hasattr(values, "tolist") else [*values]
    except TypeError:
        raise DataError(f"{what}: got {describe(values)}, expected one for each drawing.") from None
    if isinstance(values, str | bytes) or not isinstance(listed, list):
        raise DataError(f"{what}: got {describe(values)}, expected one for each drawing.")
    return [_text(value, f"{what}[{place}]", what, problems) for place, value in enumerate(listed)]


def _text(value: Any, where: str, what: str, problems: list[Problem]) -> str | None:
    value = value.item() if isinstance(value, np.generic) or (hasattr(value, "detach") and value.ndim == 0) else value
    if value is None or type(value).__name__ in MISSING_TYPES or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float) and value.is_integer():  # what a column of whole numbers becomes once one is missing
        return str(int(value))
    expected = f"a text or a whole number, {TEST_ROW}" if what == "labels" else "a text or a whole number"
    problems.append(Problem(f"wrong_{what}", where, f"got {describe(value)}, expected {expected}."))
    return None


def _file_names(names: Sequence[str | None]) -> list[str]:
    """Check that names can be those of files inside a folder, each another one; suffixes of pictures are left off."""
    problems, seen = [], dict[str, int]()
    for place, name in enumerate(names):
        parts = (name or "").replace("\\", "/").split("/")
        if name is None or any(part.strip() in ("", ".", "..") for part in parts) or "\0" in name or ":" in name:
            text = f"got {name!r}, expected a name such as 'cat 1' or 'cats/1.png', inside no other folder."
            problems.append(Problem("wrong_names", f"names[{place}]", text))
            continue
        folded = unicodedata.normalize("NFC", _without_suffix("/".join(parts))).casefold()
        if folded in seen:
            text = f"got {name!r} as for names[{seen[folded]}], expected a name of its own for each drawing."
            problems.append(Problem("wrong_names", f"names[{place}]", text))
        seen.setdefault(folded, place)
    if problems:
        raise DataError(problems)
    return [_without_suffix((name or "").replace("\\", "/")) for name in names]


def _without_suffix(name: str) -> str:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - many times as fast
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def _is_path(value: Any) -> bool:
    return isinstance(value, str | Path) and Path(value).is_file()


def _keep(given: _Given) -> tuple[Path, DataOptions]:
    """Write a set's tables, and its drawings where they aren't files already; return where it lies and how it is read."""
    drawings = iter(given.drawings)
    if given.names is None and given.drawings.count is not None:
        read = [*drawings] if all(isinstance(item, str | os.PathLike) for item in given.drawings.items) else None
        paths = None if read is None else [one.content for one in read if isinstance(one.content, str)]
        base = None if paths is None or len(paths) != len(given.labels) else _common_folder(paths)
        if base is not None and paths is not None:
            return _keep_table(given, base, [os.path.realpath(path) for path in paths])
        drawings = iter(given.drawings) if read is None else iter(read)
    return _keep_files(given, drawings)


def _common_folder(paths: Sequence[str]) -> str | None:
    """Return the folder that holds all files, wherever links lead; None where they are on several drives."""
    try:
        return os.path.commonpath([os.path.dirname(os.path.realpath(path)) for path in paths])  # noqa: PTH120
    except ValueError:
        return None


def _keep_table(given: _Given, base: str, files: Sequence[str]) -> tuple[Path, DataOptions]:
    names = [Path(file).relative_to(base).as_posix() for file in files]
    key = {"version": VERSION, "base": base, "names": names, "labels": given.labels, "groups": given.groups}
    with new_set() as kept:
        _write_tables(kept, given, names)
        root = kept.finish(key_digest(key), _about(given))
    return root, _options(given, image_root=base)


def _keep_files(given: _Given, drawings: Iterable[Drawing]) -> tuple[Path, DataOptions]:
    """Write drawings as files, in threads and a bounded number at a time."""
    names: list[str] = []
    contents: list[str] = []
    problems: list[Problem] = []
    width = max(4, len(str(len(given.labels))))
    with new_set() as kept:
        tasks = _bounded(drawings, len(given.labels))
        for place, made in enumerate(ahead(_as_file, tasks, available_cores(), READ_AHEAD)):
            if isinstance(made, Problem):
                problems.append(made)
                continue
            name = (f"{place:0{width}d}" if given.names is None else given.names[place]) + made.suffix
            kept.write(name, made.data)
            names.append(name)
            contents.append(made.digest)
        if problems:
            raise DataError(problems)
        _check_lengths(given, len(names))
        _write_tables(kept, given, names)
        key = {"version": VERSION, "contents": contents, "names": names, "labels": given.labels, "groups": given.groups}
        root = kept.finish(key_digest(key), _about(given))
    return root, _options(given, own_names=given.names is None)


def _bounded(drawings: Iterable[Drawing], most: int) -> Iterator[Drawing]:
    """Give drawings until there are more than labels, which is an error whatever comes then."""
    for count, drawing in enumerate(drawings):
        if count > most:
            raise DataError(f"got more drawings than the {most} labels, expected one for each drawing.")
        yield drawing


@final
@dataclass(frozen=True, slots=True)
class _File:
    """A drawing as a file: its bytes, its suffix, and the digest of what it shows."""

    data: bytes
    suffix: str
    digest: str


def _as_file(drawing: Drawing) -> _File | Problem:
    """Make a drawing's file; a picture in memory becomes a PNG, whose bytes its pixels decide."""
    content = drawing.content
    if isinstance(content, BrokenImage):
        return Problem(content.kind, drawing.name, str(content))
    if isinstance(content, str):
        try:
            content = Path(content).read_bytes()
        except OSError as error:
            return Problem("missing_file", drawing.name, f"can't be read ({error.strerror or error}). Correct its path.")
    if isinstance(content, bytes):
        return _File(content, SUFFIXES.get(format_of(content) or "", ".png"), digest(content))
    pixels = content if isinstance(content, np.ndarray) else draw(content)
    return _File(encode_png(pixels), ".png", digest(f"{pixels.shape}".encode() + pixels.tobytes()))


def encode_png(pixels: Pixels) -> bytes:
    """Write pixels as a PNG: the same bytes for the same pixels, as long as Pillow isn't replaced by another version.

    Args:
        pixels: (h, w), or (h, w, 3) in RGB order.
    """
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=4)  # three times as fast as 6, 5 % larger
    return file.getvalue()


def _write_tables(kept: KeptSet, given: _Given, names: Sequence[str]) -> None:
    train, test = io.StringIO(), io.StringIO()
    writers = {False: csv.writer(train, quoting=csv.QUOTE_ALL), True: csv.writer(test, quoting=csv.QUOTE_ALL)}
    has_groups = given.groups is not None
    writers[False].writerow(["image_path", "class_name", *([GROUP] if has_groups else [])])
    writers[True].writerow(["image_path"])
    for place, (name, label) in enumerate(zip(names, given.labels, strict=True)):
        group = [] if given.groups is None else [given.groups[place] or f"without a group: {name}"]
        writers[label is None].writerow([name] if label is None else [name, label, *group])
    kept.write(TRAIN, train.getvalue().encode())
    if None in given.labels:
        kept.write(TEST, test.getvalue().encode())


def _about(given: _Given) -> dict[str, Any]:
    labelled = [label for label in given.labels if label is not None]
    return {"drawings": len(given.labels), "classes": len(set(labelled)), "to_predict": len(given.labels) - len(labelled)}


def _options(given: _Given, *, image_root: str | None = None, own_names: bool = False) -> DataOptions:
    settings: dict[str, Any] = {"layout": "competition"}
    if image_root is not None:
        settings["image_root"] = image_root
    if given.groups is not None:
        settings["group_column"] = GROUP
    elif own_names:
        settings["group_pattern"] = "none"  # numbers in the drawings' order say nothing of groups
    return DataOptions(**settings)
