"""The file of a study: one record of Optuna per line, appended under a lock, whole or absent for every reader.

A writer that dies or finds the disk full leaves half a line. Nobody has counted it as a record, so the next writer cuts it off
under the lock before it appends: Optuna's own backend would append to it, and nobody could read what comes after.

Each record carries the digest of its content, which Optuna doesn't look at; it is checked when a study is opened. Records of
versions before there were digests have none, and are taken as they are.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inkfold.errors import PredictionError
from inkfold.storage.hashing import digest
from inkfold.storage.locks import FileLock
from inkfold.storage.sealed import SEAL

if TYPE_CHECKING:
    from optuna.storages.journal import JournalFileBackend

log = logging.getLogger("inkfold.search")

TAIL_BYTES = 1 << 16
SHOWN_CHARACTERS = 40


@dataclass(slots=True)
class JournalFile:
    """A backend of Optuna's journal storage, whose records survive a full disk and writers that die.

    Attributes:
        path: The journal, which is created if it is missing.
        lock: Path of the file whose lock keeps appends apart; it dies with its process, for which Optuna's own waits half a
            minute.

    Raises:
        PredictionError: If a record that isn't the last one is damaged.
    """

    path: Path
    lock: Path
    _reader: "JournalFileBackend" = field(init=False)

    def __post_init__(self) -> None:
        from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415 - a second that only studies need to pay

        with FileLock(self.lock):
            if self.path.is_file():
                _check_records(self.path)
                _cut_torn_tail(self.path)
            self._reader = JournalFileBackend(str(self.path))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Read whole records.

        Args:
            log_number_from: Number of the first record that is read, from 0.

        Yields:
            The records that were whole when reading began.

        Raises:
            PredictionError: If a record that isn't the last one is damaged.
        """
        try:
            yield from self._reader.read_logs(log_number_from)
        except ValueError:
            _check_records(self.path)
            raise

    def append_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        """Append records behind the last whole one, and wait until they are on the disk.

        Args:
            logs: The records; values of JSON.

        Raises:
            PredictionError: If the file can't be written, as on a full disk; the records before stay.
        """
        data = b"".join(map(_line, logs))
        with FileLock(self.lock):
            try:
                _cut_torn_tail(self.path)
                _append(self.path, data)
            except OSError as error:
                raise PredictionError(
                    f"{self.path}: {error.strerror or error}. Make room for it and run the same command again: "
                    "the trials that have ended are kept, and the study goes on."
                ) from error


def _append(path: Path, data: bytes) -> None:
    """Write bytes at the end of a file; what was written by halves is cut off again if it can't be ended."""
    try:
        with path.open("ab", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            _cut_torn_tail(path)
        raise


def _cut_torn_tail(path: Path) -> None:
    """Cut off what a killed or failed writer left behind the last whole record; the caller holds the lock."""
    if not path.is_file():
        return
    size = path.stat().st_size
    whole = _end_of_whole_records(path, size)
    if whole < size:
        log.warning("%s: its last %d bytes are no whole record and are cut off", path, size - whole)
        os.truncate(path, whole)


def _end_of_whole_records(path: Path, size: int) -> int:
    """Return the place behind the last whole record, reading from the end only as far as it takes."""
    length = min(TAIL_BYTES, size)
    with path.open("rb") as file:
        while True:
            file.seek(size - length)
            tail = file.read(length)
            begin = 0 if length == size else tail.find(b"\n") + 1
            end = tail.rfind(b"\n") + 1
            while end > begin:
                start = tail.rfind(b"\n", 0, end - 1) + 1
                if _is_record(tail[start:end]):
                    return size - length + end
                end = start
            if length == size:
                return 0
            length = min(2 * length, size)


def _check_records(path: Path) -> None:
    """Refuse a file with a damaged record before whole ones: cutting there would lose what was measured after it."""
    damaged, shown, later = 0, b"", 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            is_record = _is_record(line)
            if damaged:
                later += is_record
            elif not is_record:
                damaged, shown = number, line
    if later:
        start = shown[:SHOWN_CHARACTERS].decode(errors="replace")
        raise PredictionError(
            f"{path} line {damaged}: is no record as a study wrote it, but begins with {start!r}, and {later} records follow. "
            f"Restore the file from a copy. Or remove this line and all after it, as by sed -i '{damaged},$d' '{path}': the "
            "study then goes on with the trials before it, and runs the later ones again."
        )


def _line(record: Mapping[str, Any]) -> bytes:
    """Write a record as a line, with the digest of its content as the last key."""
    content = json.loads(json.dumps(record))  # keys that are numbers become text
    return json.dumps({**content, SEAL: _digest(content)}, separators=(",", ":")).encode() + b"\n"


def _digest(content: Mapping[str, Any]) -> str:
    return digest(json.dumps(content, sort_keys=True).encode())  # unlike `sealed`'s, of infinite scores too


def _is_record(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        content = dict(json.loads(line))
        written = content.pop(SEAL, None)
        return "op_code" in content and written in (None, _digest(content))
    except (ValueError, TypeError, RecursionError):
        return False
