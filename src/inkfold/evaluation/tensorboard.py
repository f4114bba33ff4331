"""Training curves as TensorBoard event files: `tensorboard --logdir RUNS` shows them, and needn't be installed here."""

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
    """Iterate over the epochs of `curve.json`, counted from 1, with values by the tags that TensorBoard and trackers show."""
    for point in curve["epochs"]:
        yield point["epoch"] + 1, {tag: float(point[name]) for name, tag in TAGS.items() if point.get(name) is not None}


def write_events(path: Path, curve: Mapping[str, Any]) -> None:
    """Write a training curve as an event file.

    Its wall time is the epoch in seconds, not the time of day, so that equal seeds give equal bytes.

    Args:
        path: The event file; replaced when it exists.
        curve: Content of `curve.json`: stages, and a point per epoch.

    Source: TensorFlow's `event.proto`, `summary.proto` and its record format, as tensorboardX 2.6.5 has them.
    """
    write_bytes(path, _encode(curve))


def append_events(path: Path, curve: Mapping[str, Any]) -> None:
    """Append the new epochs of a growing training curve to its event file, for those who watch it.

    If the file holds the beginning of the curve, even one that a kill cut off within a record, the rest is appended in place:
    TensorBoard keeps the file open and would not notice a replaced one. A file with other content is replaced.

    Args:
        path: The event file, which need not exist.
        curve: The whole curve so far, as in `curve.json`.

    Raises:
        CacheError: If the disk is full or the file can't be written.
    """
    data = _encode(curve)
    try:
        existing = path.read_bytes() if path.is_file() else b""
        if not existing or not data.startswith(existing):
            write_bytes(path, data)
            return
        with path.open("ab") as file:
            file.write(data[len(existing) :])
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CacheError(
            f"{path}: {error.strerror}. Free some space and run again: the run goes on from its last checkpoint."
        ) from None


def _encode(curve: Mapping[str, Any]) -> bytes:
    from tensorboardX.proto.event_pb2 import Event  # noqa: PLC0415 - the package imports torch where that is installed
    from tensorboardX.proto.summary_pb2 import Summary  # noqa: PLC0415

    events = [Event(wall_time=0.0, file_version="brain.Event:2")]
    for epoch, figures in scalars(curve):
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in figures.items()]
        events.append(Event(wall_time=float(epoch), step=epoch, summary=Summary(value=values)))
    return b"".join(_record(event.SerializeToString()) for event in events)


def _record(data: bytes) -> bytes:
    """Frame an event with its length and checksums, as tensorboardX's own writer does, which wants a file."""
    from tensorboardX.record_writer import masked_crc32c  # noqa: PLC0415

    length = struct.pack("<Q", len(data))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return b"".join((length, checksums[0], data, checksums[1]))
