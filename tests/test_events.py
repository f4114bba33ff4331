import struct

import pytest

from inkfold.events import write_events
from toy_runs import curve


def records(data):
    """Take a record file apart by TensorFlow's description of it."""
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


def test_the_checksum_is_that_of_the_format(tmp_path):
    """CRC-32C of nine digits is 0xe3069283 (RFC 3720, B.4), masked as TensorFlow's record format says."""
    from tensorboardX.record_writer import masked_crc32c

    crc = 0xE3069283
    assert masked_crc32c(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_equal_curves_give_equal_bytes_whatever_the_time(tmp_path):
    write_events(tmp_path / "a", curve())
    write_events(tmp_path / "b", curve())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
