"""The form of a submission: its columns, the drawing of each row, and how the CSV is written.

A form is decided before anything is trained, kept beside the run as JSON, and filled with probabilities at the end.
"""

import codecs
import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int64

from inkfold.errors import ExportError, PredictionError, Problem
from inkfold.runtime.foreign import parse_json, read_whole
from inkfold.storage.outputs import output_file

FORMAT = 1
CHUNK_ROWS = 4096


@final
@dataclass(frozen=True)
class CsvStyle:
    """How a CSV file is written, apart from what is in it.

    Attributes:
        delimiter: The character between two cells.
        newline: What ends each line, LF or CRLF.
        encoding: Python's name of the encoding; `utf-8-sig` has a byte order mark.
        header_line: The first line to the letter, without its end; None writes the headings anew.
        quoted: Which columns have all their cells in quotation marks; the other cells have them only where they need them.
    """

    delimiter: str = ","
    newline: str = "\n"
    encoding: str = "utf-8"
    header_line: str | None = None
    quoted: tuple[bool, ...] = ()

    def lines(self, rows: Iterable[Sequence[str]], quoted: Sequence[bool]) -> str:
        """Write rows of cells as lines, with their ends; `quoted` says which columns are in quotation marks throughout."""
        text = io.StringIO()
        if any(quoted):
            text.writelines(self.delimiter.join(map(self._cell, row, quoted)) + self.newline for row in rows)
        else:
            csv.writer(text, delimiter=self.delimiter, lineterminator=self.newline).writerows(rows)
        return text.getvalue()

    def _cell(self, text: str, quoted: bool) -> str:
        if quoted or any(mark in text for mark in (self.delimiter, '"', "\n", "\r")):
            return '"' + text.replace('"', '""') + '"'
        return text


@final
@dataclass(frozen=True)
class FormColumn:
    """What one column of a submission holds: fixed texts, the most probable classes, or one class's probability.

    Attributes:
        heading: The column's name in the first line.
        cells: The fixed text of each row, such as ids; None where the column holds a prediction.
        ranks: Which of the drawing's classes it names, from 0 for the most probable; empty where it names none.
        class_name: The class whose probability it holds; None where it holds none.
        id_setting: The value of `submission.id` by which fixed texts were made; None for a sample's.
    """

    heading: str
    cells: tuple[str, ...] | None = None
    ranks: tuple[int, ...] = ()
    class_name: str | None = None
    id_setting: str | None = None


@final
@dataclass(frozen=True)
class SubmissionForm:
    """How a submission is written: what each column holds, in which order the drawings come, and how classes are called.

    Attributes:
        columns: The columns in the order of the file.
        image_paths: Image path of each row's test drawing, as the data have it.
        class_texts: What stands for each class in columns that name classes, by class name.
        separator: What stands between two classes of one cell.
        style: How the CSV file is written.
        summary: What was decided, in words.
        from_sample: Whether rows and ids are a sample submission's; otherwise they were made from the drawings' names.
    """

    columns: tuple[FormColumn, ...]
    image_paths: tuple[str, ...]
    class_texts: dict[str, str]
    separator: str = " "
    style: CsvStyle = CsvStyle()
    summary: str = ""
    from_sample: bool = False

    def write(
        self,
        path: Path,
        rows: Int64[np.ndarray, " rows"],
        probs: Float[np.ndarray, "n classes"],
        class_names: Sequence[str],
        preds: Int64[np.ndarray, " n"] | None = None,
    ) -> None:
        """Fill the form in and write it.

        Args:
            path: The file; replaced when it exists.
            rows: For each row of the form, the drawing's place in `probs`.
            probs: Class probabilities of drawings; each row sums to 1.
            class_names: The classes in the order of the columns of `probs`; the same classes as the form's, in any order.
            preds: The class that each drawing is given, where the form names one class; None takes the most probable one.

        Raises:
            ExportError: If the counts or classes aren't the form's, or a probability isn't a number from 0 to 1.
        """
        if problems := self._misfits(path, rows, probs, class_names):
            raise ExportError(problems)
        headings, style = [column.heading for column in self.columns], self.style
        encoder = codecs.getincrementalencoder(style.encoding)()  # one byte order mark for all chunks
        with output_file(path) as file:
            first = style.lines([headings], ()) if style.header_line is None else style.header_line + style.newline
            file.write(encoder.encode(first))
            for start in range(0, len(rows), CHUNK_ROWS):
                chunk = slice(start, start + CHUNK_ROWS)
                answers = None if preds is None else preds[rows[chunk]]
                cells = self._chunk(chunk, probs[rows[chunk]].astype(np.float32), class_names, answers)
                file.write(encoder.encode(style.lines(zip(*cells, strict=True), style.quoted)))

    def _chunk(
        self, chunk: slice, probs: np.ndarray, class_names: Sequence[str], answers: np.ndarray | None
    ) -> list[Sequence[str]]:
        """The cells of some rows, column by column."""
        depth = max((rank + 1 for column in self.columns for rank in column.ranks), default=0)
        order = np.argsort(-probs, axis=1, kind="stable")[:, :depth]
        order = order if answers is None or depth != 1 else answers[:, None]
        texts = np.array([self.class_texts[name] for name in class_names], np.dtypes.StringDType())
        return [self._cells(column, chunk, probs, texts[order], class_names) for column in self.columns]

    def _cells(
        self, column: FormColumn, chunk: slice, probs: np.ndarray, ranked: np.ndarray, class_names: Sequence[str]
    ) -> Sequence[str]:
        if column.cells is not None:
            return column.cells[chunk]
        if column.class_name is None:
            ranks = [rank for rank in column.ranks if rank < ranked.shape[1]]
            return [self.separator.join(row) for row in ranked[:, ranks].tolist()]
        # the shortest text that is read as the same number in single precision
        shares: list[str] = probs[:, class_names.index(column.class_name)].astype(str).tolist()
        return shares

    def _misfits(self, path: Path, rows: np.ndarray, probs: np.ndarray, class_names: Sequence[str]) -> list[Problem]:
        problems = []
        if len(rows) != len(self.image_paths) or any(
            column.cells is not None and len(column.cells) != len(rows) for column in self.columns
        ):
            text = f"got {len(rows)} drawings for the {len(self.image_paths)} rows of the submission's form."
            problems.append(Problem("count", str(path), text))
        if {*class_names} != {*self.class_texts} or probs.shape[1] != len(class_names):
            odd = sorted({*class_names} ^ {*self.class_texts})[:5]
            problems.append(Problem("classes", str(path), f"got other classes than the submission's form has: {odd}."))
        if not np.isfinite(probs).all() or (probs < 0).any() or (probs > 1).any():
            problems.append(Problem("range", str(path), "got predictions that are no probabilities from 0 to 1."))
        return problems

    def as_json(self) -> dict[str, Any]:
        """Return the form as JSON values."""
        style = {**vars(self.style), "quoted": list(self.style.quoted)}
        columns = [
            {
                "heading": column.heading,
                "cells": None if column.cells is None else list(column.cells),
                "ranks": list(column.ranks),
                "class_name": column.class_name,
                "id_setting": column.id_setting,
            }
            for column in self.columns
        ]
        own = {name: getattr(self, name) for name in ("class_texts", "separator", "summary", "from_sample")}
        return {"format": FORMAT, **own, "style": style, "columns": columns, "image_paths": list(self.image_paths)}

    @classmethod
    def from_json(cls, content: Any, where: str) -> "SubmissionForm":
        """Read what `as_json` returned.

        Args:
            content: The values that `as_json` returned.
            where: Name of the file, for the message.

        Raises:
            PredictionError: If it isn't a submission's form, or one of another version.
        """
        try:
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']}")
            style = CsvStyle(**{**content["style"], "quoted": tuple(map(bool, content["style"]["quoted"]))})
            columns = tuple(
                FormColumn(
                    str(column["heading"]),
                    None if column["cells"] is None else tuple(map(str, column["cells"])),
                    tuple(map(int, column["ranks"])),
                    column["class_name"],
                    column["id_setting"],
                )
                for column in content["columns"]
            )
            texts = {str(name): str(text) for name, text in content["class_texts"].items()}
            paths = tuple(map(str, content["image_paths"]))
            end = str(content["separator"]), style, str(content["summary"]), bool(content["from_sample"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PredictionError(f"{where}: not a submission's form: {error}. Train again.") from None
        return cls(columns, paths, texts, *end)

    def with_drawings(self, image_paths: Sequence[str], cells: Sequence[Sequence[str] | None]) -> "SubmissionForm":
        """Return the form for other drawings.

        Args:
            image_paths: Their image paths, one for each row.
            cells: The fixed texts of each column; None for columns that hold predictions.
        """
        columns = tuple(
            replace(column, cells=None if own is None else tuple(own)) for column, own in zip(self.columns, cells, strict=True)
        )
        return replace(self, columns=columns, image_paths=tuple(image_paths))


def read_form(path: Path) -> SubmissionForm | None:
    """Read the form that a run or an ensemble has kept.

    Args:
        path: Its `submission_form.json`, which need not exist.

    Returns:
        The form; None if the file doesn't exist, which means the usual columns.

    Raises:
        PredictionError: If the file isn't readable as a form.
    """
    if not path.is_file():
        return None
    try:
        content = parse_json(read_whole(path))
    except (OSError, ValueError) as error:
        raise PredictionError(f"{path}: not a submission's form: {error}. Train again.") from None
    return SubmissionForm.from_json(content, str(path))
