import errno
import fcntl
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inkfold.storage.files import TEMP_MARK, atomic_file, make_directory, sweep_temp_files, write_bytes, write_json, write_text

WRITER = """
import sys, time
from pathlib import Path
from inkfold.storage.files import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    file.write(b"new" * 1000)
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_file())


def test_what_was_written_is_read_back_and_no_temporary_file_stays(tmp_path):
    path = tmp_path / "made" / "for it" / "a.bin"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["a.bin"]


def test_a_writer_killed_in_mid_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"half\n"
        sweep_temp_files(tmp_path)
        assert len(names(tmp_path)) == 2  # it is a living process's work in hand
        writer.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"old"
    [left] = [name for name in names(tmp_path) if TEMP_MARK in name]
    elsewhere = tmp_path / re.sub(f"{TEMP_MARK}[0-9a-f]{{8}}-", f"{TEMP_MARK}01234567-", left)
    elsewhere.write_bytes(b"half")
    sweep_temp_files(tmp_path)
    assert names(tmp_path) == ["a.bin", elsewhere.name]  # another machine's process may live
    sweep_temp_files(tmp_path, older_than_s=0)
    assert names(tmp_path) == ["a.bin"]


def test_the_first_write_to_a_directory_sweeps_it(tmp_path):
    with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "a.bin"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"half\n"
        writer.send_signal(signal.SIGKILL)
    assert len(names(tmp_path)) == 1
    write_bytes(tmp_path / "b.bin", b"new")
    assert names(tmp_path) == ["b.bin"]


def test_a_sweep_between_the_creation_of_a_file_and_its_lock_costs_nothing(tmp_path, monkeypatch):
    real, swept = fcntl.flock, []

    def late(descriptor, operation):
        if operation == fcntl.LOCK_EX and not swept:
            swept.append(1)
            sweep_temp_files(tmp_path)
            assert names(tmp_path) == []
        return real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    write_bytes(tmp_path / "a.bin", b"new")
    assert swept
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


def test_where_there_are_no_locks_only_age_counts(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with atomic_file(tmp_path / "a.bin") as file:
        file.write(b"new")
        sweep_temp_files(tmp_path)
        assert len(names(tmp_path)) == 1
    assert (tmp_path / "a.bin").read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_an_exception_in_the_block_leaves_the_old_file_and_no_temporary_one(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def interrupted():
        with atomic_file(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        interrupted()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_disk_that_is_full_at_the_sync_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.bin'$"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_disk_that_is_full_at_the_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "open", lambda self, mode: Full(self, mode.replace("b", "")))
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.bin'$"):
        write_bytes(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_the_sweep_removes_only_stale_temporary_files(tmp_path):
    kept, young, stale = tmp_path / "a.bin", tmp_path / f"b{TEMP_MARK}1-x", tmp_path / f"c{TEMP_MARK}2-y"
    deeper = tmp_path / "deeper" / f"d{TEMP_MARK}3-z"
    deeper.parent.mkdir()
    for path in (kept, young, stale, deeper):
        path.write_bytes(b"")
    for path in (kept, stale, deeper):
        os.utime(path, (time.time() - 25 * 3600,) * 2)
    sweep_temp_files(tmp_path)
    assert [path.exists() for path in (kept, young, stale, deeper)] == [True, True, False, True]


def test_text_has_the_same_line_ends_everywhere(tmp_path):
    write_text(tmp_path / "a.txt", "ink\nfölded\n")
    assert (tmp_path / "a.txt").read_bytes() == b"ink\nf\xc3\xb6lded\n"


def test_json_is_readable_by_people_and_ends_its_last_line(tmp_path):
    write_json(tmp_path / "a.json", {"name": "földed", "n": [1]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n  "name": "földed",\n  "n": [\n    1\n  ]\n}\n'
    assert json.loads(text) == {"name": "földed", "n": [1]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"deep": float("nan")}]])
def test_json_refuses_what_no_other_reader_takes_and_keeps_the_old_file(tmp_path, value):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, value)
    assert path.read_text(encoding="utf-8") == "1\n"
    assert names(tmp_path) == ["a.json"]


def test_a_link_among_inkfold_s_own_files_is_replaced_not_followed(tmp_path):
    outside, path = tmp_path / "outside", tmp_path / "metrics.json"
    outside.write_bytes(b"theirs")
    path.symlink_to(outside)
    write_bytes(path, b"ours")
    assert (outside.read_bytes(), path.read_bytes(), path.is_symlink()) == (b"theirs", b"ours", False)


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    def read_while_writing():
        with atomic_file(tmp_path / "a.bin"):
            (tmp_path / "absent").read_bytes()

    with pytest.raises(FileNotFoundError, match="absent"):
        read_while_writing()


def test_a_directory_whose_way_is_blocked_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError) as raised:
        make_directory(tmp_path / "file" / "deep" / "er")
    assert raised.value.filename == str(tmp_path / "file" / "deep" / "er")


@pytest.mark.parametrize("name", ["n" * 250 + ".json", "ü" * 125 + ".json", "筆" * 83 + ".json"])
def test_a_name_as_long_as_the_file_system_takes_can_be_written(tmp_path, name):
    path = tmp_path / name
    write_bytes(path, b"x")
    assert path.read_bytes() == b"x"
