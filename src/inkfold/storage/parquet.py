"""Parquet files that strangers may have made: few bytes can stand for billions of rows, which are counted before reading."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow.parquet as pq

FREE_BYTES = 256 << 20  # of memory, which every file may take
MOST_EXPANSION = 100  # times its size: probabilities take about theirs, the paths and classes of a table up to 80 times
CELL_BYTES = 48  # of a short text or a number, as Python and NumPy hold them together


def check_expansion(file: "pq.ParquetFile", path: Path, columns: Sequence[str] | None = None) -> None:
    """Refuse a file whose rows take far more memory than it has bytes.

    Args:
        file: The open file.
        path: Its path, for its size.
        columns: The names of the columns that are read; None reads all.

    Raises:
        ValueError: If it announces too many rows.
    """
    rows, fields = file.metadata.num_rows, [field for field in file.schema_arrow if columns is None or field.name in columns]
    needed = rows * sum(CELL_BYTES + 4 * max(getattr(field.type, "list_size", 0), 0) for field in fields)
    if needed > max(FREE_BYTES, MOST_EXPANSION * path.stat().st_size):
        raise ValueError(f"it announces {rows} rows in {path.stat().st_size} bytes")
