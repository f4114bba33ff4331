import struct

import pytest

from inkfold.errors import CacheError
from inkfold.evaluation.tensorboard import append_events, write_events
from toy_runs import curve


def records(data):
    """Split a record file as TensorFlow describes the format."""
    while data:
        [length] = struct.unpack("<Q", data[:8])
        yield data[12 : 12 + length]
        data = data[16 + length :]


def test_an_event_file_holds_the_curve(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    write_events(tmp_path / "events.out.tfevents.0", curve(3))
    first, *rest = [Event.FromString(record) for record in records((tmp_path / "events.out.tfevents.0").read_bytes())]
    assert first.file_version == "brain.Event:2"
    assert [event.step for event in rest] == [1, 2, 3]
    figures = {value.tag: value.simple_value for value in rest[1].summary.value}
    assert figures["loss/learnt_from"] == pytest.approx(2.6)
    assert figures["accuracy/held_out"] == pytest.approx(0.25)
    assert set(figures) == {"loss/learnt_from", "loss/held_out", "accuracy/held_out", "schedule/lr", "schedule/stage"}


def test_equal_curves_give_equal_bytes_whatever_the_time(tmp_path):
    write_events(tmp_path / "a", curve())
    write_events(tmp_path / "b", curve())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_new_epochs_are_appended_to_the_same_file(tmp_path):
    path = tmp_path / "fold0/events"
    append_events(path, curve(1))
    first, file = path.read_bytes(), path.stat().st_ino
    append_events(path, curve(3))
    assert path.stat().st_ino == file, "TensorBoard keeps the file open"
    assert path.read_bytes().startswith(first)
    write_events(tmp_path / "whole", curve(3))
    assert path.read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_file_that_was_cut_off_anywhere_is_completed_without_a_step_twice(tmp_path):
    path = tmp_path / "events"
    append_events(path, curve(3))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        append_events(path, curve(3))
        assert path.read_bytes() == whole


def test_a_file_with_another_curve_is_replaced(tmp_path):
    path = tmp_path / "events"
    append_events(path, curve(3))
    append_events(path, curve(2))
    write_events(tmp_path / "two", curve(2))
    assert path.read_bytes() == (tmp_path / "two").read_bytes()


def test_a_file_that_cannot_be_written_is_named_in_the_error(tmp_path):
    (tmp_path / "fold0").write_text("no directory")
    with pytest.raises(CacheError, match=r"fold0/events: .*run again: the run goes on from its last checkpoint"):
        append_events(tmp_path / "fold0/events", curve(2))
