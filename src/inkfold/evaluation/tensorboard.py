"""Training curves as TensorBoard's event files: `tensorboard --logdir RUNS` shows them, and needn't be installed here."""

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inkfold.errors import CacheError
from inkfold.storage.files import write_bytes

EVENTS = "events/events.out.tfevents.0.inkfold"  # TensorBoard looks for "tfevents" in the name
FOLD_EVENTS = "events/fold{}/events.out.tfevents.0.inkfold"
TAGS = {
    "loss": "loss/learnt_from",
    "held_out_loss": "loss/held_out",
    "held_out_accuracy": "accuracy/held_out",
    "lr": "schedule/lr",
    "stage": "schedule/stage",
}


def scalars(curve: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, float]]]:
    """Give a curve's figures by epoch, under the names that trackers show.

    Args:
        curve: What `curve.json` holds.

    Yields:
        The epoch, from 1, and its figures.
    """
    for point in curve["epochs"]:
        yield point["epoch"] + 1, {tag: float(point[name]) for name, tag in TAGS.items() if point.get(name) is not None}


def write_events(path: Path, curve: Mapping[str, Any]) -> None:
    """Write a curve as an event file.

    Its clock counts epochs in seconds: equal seeds leave equal bytes, so the time of day can't be in it.

    Args:
        path: Replaced when it exists.
        curve: What `curve.json` holds.

    Source: TensorFlow's `event.proto`, `summary.proto` and its record format, as tensorboardX 2.6.5 has them.
    """
    write_bytes(path, _encoded(curve))


def append_events(path: Path, curve: Mapping[str, Any]) -> None:
    """Bring an event file up to a curve that grows, for those who look on.

    What is there stays where it is the curve's beginning, also one that a kill cut off within a record, and the rest is put
    behind it: TensorBoard keeps the file open, and would see nothing of another in its place. Any other file is replaced.

    Args:
        path: The file, there or not.
        curve: All of it so far, as `curve.json` holds it.

    Raises:
        CacheError: If the disk is full.
    """
    data = _encoded(curve)
    try:
        there = path.read_bytes() if path.is_file() else b""
        if not there or not data.startswith(there):
            write_bytes(path, data)
            return
        with path.open("ab") as file:
            file.write(data[len(there) :])
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CacheError(
            f"{path}: {error.strerror}. Free some space and run again: the run goes on from its last checkpoint."
        ) from None


def _encoded(curve: Mapping[str, Any]) -> bytes:
    from tensorboardX.proto.event_pb2 import Event  # noqa: PLC0415 - the package imports torch where that is installed
    from tensorboardX.proto.summary_pb2 import Summary  # noqa: PLC0415

    events = [Event(wall_time=0.0, file_version="brain.Event:2")]
    for epoch, figures in scalars(curve):
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in figures.items()]
        events.append(Event(wall_time=float(epoch), step=epoch, summary=Summary(value=values)))
    return b"".join(_record(event.SerializeToString()) for event in events)


def _record(data: bytes) -> bytes:
    """Frame bytes: their length and its checksum, then they and theirs."""
    from tensorboardX.record_writer import masked_crc32c  # noqa: PLC0415

    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))
