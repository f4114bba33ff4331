"""Reads users' tables, CSV or Parquet, as columns of text.

Cells are text as the file has them. Rows count from 1 and the header isn't counted, so `train.csv row 812` is the
812th row of data; blank lines aren't rows. A table that can't be read at all raises an error; bad
rows are left out and reported in `Table.problems`.
"""

import csv
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeAlias, final

import numpy as np
from jaxtyping import Int64, Shaped

from inkfold.data.spreadsheets import NAME_COLUMNS, PREDICTION_COLUMNS, from_text
from inkfold.errors import DataError, Problem
from inkfold.storage.parquet import check_expansion

STRING = np.dtypes.StringDType()
CHUNK_ROWS = 16384  # Python strings alive at a time; they cost several times what StringDType takes
TABLE_SUFFIXES = frozenset({".csv", ".parquet", ".pq"})

Strings: TypeAlias = Shaped[np.ndarray, " rows"]
Where: TypeAlias = Callable[[int], str]
_Body: TypeAlias = tuple[dict[str, Strings], Int64[np.ndarray, " rows"], list[Problem]]


@final
@dataclass(frozen=True, eq=False)
class Table:
    """Some columns of a table, as text.

    Attributes:
        name: The file's name, as messages give it.
        columns: The requested columns that the table has.
        available: The names of all columns in the file.
        rows: Each row's number in the file, from 1.
        problems: Problems of the rows that were left out.
    """

    name: str
    columns: dict[str, Strings]
    available: tuple[str, ...]
    rows: Int64[np.ndarray, " rows"]
    problems: tuple[Problem, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, index: int) -> str:
        """Name the row at a position, such as `train.csv row 812`."""
        return f"{self.name} row {self.rows[index]}"


def read_header(path: Path) -> tuple[str, ...]:
    """Read only the column names of a table.

    Raises:
        DataError: If the file can't be read as a table.
    """
    _check_readable(path)
    return _parquet_header(path) if path.suffix.lower() != ".csv" else _csv_header(path)


def read_table(path: Path, required: Mapping[str, str], optional: Sequence[str] = ()) -> Table:
    """Read some columns of a CSV or Parquet file as text.

    Args:
        path: Path of the table; its suffix decides the format. CSV has commas and a header, and is UTF-8, or UTF-16 with a
            byte order mark.
        required: Column names, each with the option by which the user names it; "" if there is none.
        optional: Columns that are read if the table has them.

    Returns:
        The table; an empty cell or a Parquet null is "".

    Raises:
        DataError: If the file or a required column is missing, the file is broken or it has no rows.
    """
    available = read_header(path)
    wanted = [name for name in dict.fromkeys([*required, *optional]) if name in available or name in required]
    problems = _column_problems(path.name, available, wanted, required)
    if problems:
        raise DataError(problems)
    read = _read_csv if path.suffix.lower() == ".csv" else _read_parquet
    columns, rows, problems = read(path, available, wanted)
    if not len(rows):
        raise DataError(
            [
                *problems,
                Problem("empty_table", path.name, "got no usable row, expected one at least. Write the table anew."),
            ]
        )
    return Table(path.name, columns, available, rows, tuple(problems))


def first_rows(path: Path, count: int) -> dict[str, list[str]]:
    """Read the first rows of a table, all columns, as text.

    Args:
        path: Absolute path of a CSV or Parquet file.
        count: Number of rows, at most.

    Returns:
        The cells by column; columns whose cells are no text or numbers, and repeated names, are left out.

    Raises:
        DataError: If the file can't be read as a table.
    """
    available = read_header(path)
    names = [name for name in available if name and available.count(name) == 1]
    if path.suffix.lower() != ".csv":
        return _first_parquet_rows(path, names, count)
    rows = [row for row in itertools.islice(_csv_rows(path), 1, count + 1) if len(row) == len(available)]
    return {name: [row[available.index(name)] for row in rows] for name in names}


def try_table(path: Path, required: Mapping[str, str], optional: Sequence[str], problems: list[Problem]) -> Table | None:
    """Read a table as `read_table` does, but append its errors to `problems`; None if it can't be read at all."""
    try:
        table = read_table(path, required, optional)
    except DataError as error:
        problems += error.problems
        return None
    problems += table.problems
    return table


def quoted(names: Sequence[str], limit: int = 20) -> str:
    """List names in quotes, the first ones only when there are many."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


def missing_column(table_name: str, available: Sequence[str], wanted: str, remedy: str) -> Problem:
    """Report a missing column, the existing columns and what to do."""
    text = f"no column {wanted}; the columns are {quoted(available)}. {remedy}".strip()
    if has_other_separator(available):
        text += " The cells seem not to be separated by commas: save the table with commas."
    return Problem("missing_column", table_name, text)


def has_other_separator(available: Sequence[str]) -> bool:
    """Return whether a table has a single column because its cells are separated by something else than commas."""
    return len(available) == 1 and bool(re.search(r"[;\t|]", available[0]))


def empty_cell(where: str, what: str) -> Problem:
    """Report an empty cell."""
    return Problem("empty_cell", where, f"the {what} is empty. Fill it in or remove the row.")


def find_repeats(keys: Strings) -> list[tuple[int, int]]:
    """Find every row whose key an earlier row has: its index and that of the first row with its key, in row order."""
    # Hashes first: copying and sorting a million paths would double what reading a table takes.
    hashes = np.fromiter(map(hash, keys), np.int64, len(keys))
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(counts[inverse] > 1)
    if not len(rows):
        return []
    keys = keys[rows]
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    new = np.concatenate([[True], ranked[1:] != ranked[:-1]])
    first = order[np.flatnonzero(new)][np.cumsum(new) - 1]
    return sorted(zip(rows[order[~new]].tolist(), rows[first[~new]].tolist(), strict=True))


def _column_problems(name: str, available: Sequence[str], wanted: Sequence[str], required: Mapping[str, str]) -> list[Problem]:
    """Report columns that are missing or repeated."""
    problems = []
    for column in wanted:
        if column not in available:
            option = required[column]
            remedy = f"Name the right one: `{option}=NAME`." if option else "Rename or add it."
            problems.append(missing_column(name, available, repr(column), remedy))
        elif available.count(column) > 1:
            text = f"column {column!r} is there {available.count(column)} times, expected once. Rename or remove one."
            problems.append(Problem("repeated_column", name, text))
    return problems


def _check_readable(path: Path) -> None:
    if path.suffix.lower() not in TABLE_SUFFIXES:
        text = (
            f"got a {path.suffix or 'suffixless'} file, expected a .csv or .parquet table. Save it as one of them, or "
            "give the drawings' folder instead."
        )
        raise DataError([Problem("unknown_table_format", path.name, text)])
    try:
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise DataError([Problem("missing_table", str(path), "no such file. Correct its path.")]) from error
    except OSError as error:
        text = f"can't be opened ({error.strerror}). Make it a readable file."
        raise DataError([Problem("unreadable_table", str(path), text)]) from error


def _csv_rows(path: Path) -> Iterator[list[str]]:
    """The lines of a CSV file that aren't blank, header first; every way to break one becomes a DataError."""
    with path.open("rb") as raw:
        encoding = "utf-16" if raw.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    with path.open(encoding=encoding, newline="") as file:
        reader = csv.reader(_lines_without_nul(file, path.name), strict=True)
        try:
            yield from filter(None, reader)
        except csv.Error as error:
            text = f"not a readable CSV ({error}). Look for a quotation mark that isn't closed there or in a line before."
            raise DataError([Problem("broken_csv", f"{path.name} line {reader.line_num}", text)]) from error
        except UnicodeError as error:
            raise DataError([_undecodable(path, encoding)]) from error


def _lines_without_nul(file: TextIO, name: str) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        if "\0" in line:
            text = "holds a NUL byte, expected text. Damaged, or UTF-16 without its mark: save it as UTF-8."
            raise DataError([Problem("nul_byte", f"{name} line {number}", text)])
        yield line


def _undecodable(path: Path, encoding: str) -> Problem:
    """Name the first line that isn't text in the encoding, and the encoding that it may have."""
    if encoding == "utf-16":
        return Problem("not_utf8", path.name, "starts as UTF-16 but isn't throughout. Save it as UTF-8.")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                guess = _guess_encoding(line)
                hint = f" It looks like {guess}: `iconv -f {guess} -t utf-8 {path.name} > utf8.csv`." if guess else ""
                text = f"byte {line[error.start]:#04x} isn't UTF-8. Save the table as UTF-8.{hint}"
                return Problem("not_utf8", f"{path.name} line {number}", text)
    return Problem("not_utf8", path.name, "isn't UTF-8. Save it as UTF-8.")


def _guess_encoding(line: bytes) -> str | None:
    try:
        text = line.decode("cp949")
    except UnicodeDecodeError:
        return None
    return "cp949" if any("가" <= letter <= "힣" for letter in text) else None


def _csv_header(path: Path) -> tuple[str, ...]:
    header = next(_csv_rows(path), None)
    if header is None:
        raise DataError([Problem("empty_table", path.name, "is empty, expected a header line. Write the table anew.")])
    return tuple(cell.strip() for cell in header)


def _read_csv(path: Path, available: Sequence[str], wanted: Sequence[str]) -> _Body:
    positions = {name: available.index(name) for name in wanted}
    width = len(available)
    problems: list[Problem] = []
    numbers: list[np.ndarray] = [np.empty(0, np.int64)]
    parts: dict[str, list[np.ndarray]] = {name: [np.empty(0, STRING)] for name in wanted}
    lines = itertools.islice(_csv_rows(path), 1, None)
    first = 1
    while chunk := list(itertools.islice(lines, CHUNK_ROWS)):
        fits = np.fromiter((len(row) == width for row in chunk), bool, len(chunk))
        problems += [_ragged(f"{path.name} row {first + i}", len(chunk[i]), width) for i in np.flatnonzero(~fits)]
        numbers.append(np.flatnonzero(fits) + first)
        for name, position in positions.items():
            cells = [row[position] for row in chunk if len(row) == width]
            if available == PREDICTION_COLUMNS and name in NAME_COLUMNS:
                cells = [from_text(cell) for cell in cells]
            parts[name].append(np.array(cells, dtype=STRING))
        first += len(chunk)
    return {name: np.concatenate(parts.pop(name)) for name in wanted}, np.concatenate(numbers), problems


def _ragged(where: str, got: int, expected: int) -> Problem:
    text = f"got {got} cells, expected {expected} as in the header. Put a cell that holds a comma in quotation marks."
    return Problem("ragged_row", where, text)


def _parquet_header(path: Path) -> tuple[str, ...]:
    import pyarrow as pa  # noqa: PLC0415  CSV alone shouldn't pay for importing it
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        return tuple(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise DataError([_broken_parquet(path, error)]) from error


def _read_parquet(path: Path, available: Sequence[str], wanted: Sequence[str]) -> _Body:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    parts: dict[str, list[np.ndarray]] = {name: [np.empty(0, STRING)] for name in wanted}
    try:
        with pq.ParquetFile(path) as file:
            check_expansion(file, path, wanted)
            for batch in file.iter_batches(batch_size=CHUNK_ROWS, columns=list(wanted)):
                for name in wanted:
                    texts = batch.column(name).cast(pa.string()).to_pylist()
                    parts[name].append(np.array([text or "" for text in texts], dtype=STRING))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError([_broken_parquet(path, error)]) from error
    columns = {name: np.concatenate(parts.pop(name)) for name in wanted}
    return columns, np.arange(1, len(columns[wanted[0]]) + 1), []


def _first_parquet_rows(path: Path, names: Sequence[str], count: int) -> dict[str, list[str]]:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    columns: dict[str, list[str]] = {}
    try:
        with pq.ParquetFile(path) as file:
            batch = next(file.iter_batches(batch_size=count), None)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise DataError([_broken_parquet(path, error)]) from error
    if batch is None:
        return columns
    for name in names:
        try:
            columns[name] = [text or "" for text in batch.column(name).cast(pa.string()).to_pylist()]
        except (pa.ArrowException, UnicodeError):
            continue
    return columns


def _broken_parquet(path: Path, error: Exception) -> Problem:
    reason = str(error).partition("\n")[0]
    return Problem("broken_parquet", path.name, f"not a readable Parquet table of text and numbers ({reason}). Write it anew.")
