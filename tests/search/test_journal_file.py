import errno
import json
import os
import signal
import subprocess
import sys

import optuna
import pytest

from inkfold.errors import PredictionError
from inkfold.search.journal_file import TAIL_BYTES, JournalFile

LIMITED = """
import resource, signal, sys
from pathlib import Path
from inkfold.search.journal_file import JournalFile

path = Path(sys.argv[1])
journal = JournalFile(path, path.with_name("lock"))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20,) * 2)
journal.append_logs([{"op_code": 9, "text": "x" * 50}])
"""


def opened(directory):
    return JournalFile(directory / "study.journal", directory / "lock")


def record(number, length=0):
    return {"op_code": 2, "number": number, "text": "x" * length}


def numbers(journal):
    return [entry["number"] for entry in journal.read_logs(0)]


def line(number):
    return json.dumps(record(number)).encode() + b"\n"


@pytest.mark.parametrize(
    "torn",
    [
        b'{"op_code":4,"study_id":0,"user_attrs":{"ba',
        b"\0" * 4096,
        b"\0" * 100 + b"\n",
        b'\0\0\0"params":{}}\n',
        b'{"op_code":4,"wor{"op_code":5,"state":1}\n',
        b"[2]\n",
        b'{"op_code":4}',
        b"{" * 100_000 + b"\n",
        b"x" * (3 * TAIL_BYTES),
        b"\n\n",
        b"\xff\n",
    ],
)
def test_what_is_no_whole_record_at_the_end_is_cut_off_before_the_next_one_is_written(tmp_path, torn, caplog):
    early, path = opened(tmp_path), tmp_path / "study.journal"
    early.append_logs([record(0), record(1)])
    assert numbers(early) == [0, 1]
    path.write_bytes(path.read_bytes() + torn)
    early.append_logs([record(2)])  # by a process that opened the file before
    assert numbers(early) == numbers(opened(tmp_path)) == [0, 1, 2]
    assert f"its last {len(torn)} bytes are no whole record and are cut off" in caplog.text
    path.write_bytes(path.read_bytes() + torn)
    assert numbers(opened(tmp_path)) == [0, 1, 2]
    assert path.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("score", [0.5, float("-inf"), float("nan")])
def test_a_changed_digit_in_a_record_is_refused_or_at_the_end_cut_off(tmp_path, score, caplog):
    path = tmp_path / "study.journal"
    opened(tmp_path).append_logs([{"op_code": 6, "number": 17, "values": [score], "at": {0: 1}}, record(1)])
    whole = path.read_bytes()
    assert numbers(opened(tmp_path)) == [17, 1]
    path.write_bytes(whole.replace(b'"number":17', b'"number":71'))
    with pytest.raises(PredictionError, match=r"line 1: is no record as a study wrote it"):
        opened(tmp_path)
    path.write_bytes(whole.replace(b'"number":1,', b'"number":2,'))
    assert numbers(opened(tmp_path)) == [17]
    assert "are cut off" in caplog.text


def test_records_of_versions_without_digests_are_read(tmp_path):
    (tmp_path / "study.journal").write_bytes(line(0) + line(1))
    opened(tmp_path).append_logs([record(2)])
    assert numbers(opened(tmp_path)) == [0, 1, 2]


def test_a_file_with_no_whole_record_becomes_empty(tmp_path):
    (tmp_path / "study.journal").write_bytes(b'{"op_code"')
    assert numbers(opened(tmp_path)) == []
    assert (tmp_path / "study.journal").read_bytes() == b""


def test_records_longer_than_what_is_read_of_the_end_are_whole(tmp_path, caplog):
    journal = opened(tmp_path)
    for number, length in enumerate((10, TAIL_BYTES, 3 * TAIL_BYTES, 5)):
        journal.append_logs([record(number, length)])
    assert numbers(opened(tmp_path)) == [0, 1, 2, 3]
    assert not caplog.records


@pytest.mark.parametrize("damage", [b"\0" * 30 + b"\n", b'{"op_code":4,"wor{"op_code":5,"state":1}\n'])
def test_a_damaged_record_before_whole_ones_is_refused_with_its_line_and_nothing_is_cut(tmp_path, damage):
    path = tmp_path / "study.journal"
    journal = opened(tmp_path)
    content = line(0) + damage + line(1) + line(2) + b'{"half'
    path.write_bytes(content)
    with pytest.raises(PredictionError, match=r"study\.journal line 2: is no record.* 2 records follow.*sed -i '2,\$d'"):
        opened(tmp_path)
    with pytest.raises(PredictionError, match="line 2"):
        numbers(journal)
    assert path.read_bytes() == content


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_disk_that_is_full_keeps_the_records_before_and_is_named(tmp_path, monkeypatch, code):
    journal, path = opened(tmp_path), tmp_path / "study.journal"
    journal.append_logs([record(0)])
    before, error = path.read_bytes(), OSError(code, os.strerror(code))

    def refuse(descriptor):
        path.write_bytes(before + b'{"op_code":2,')  # what had reached the disk
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(PredictionError, match=rf"study\.journal: {error.strerror}. Make room for it"):
            journal.append_logs([record(1)])
    assert path.read_bytes() == before
    journal.append_logs([record(1)])
    assert numbers(journal) == [0, 1]


def test_a_limit_on_the_size_of_files_leaves_no_half_record(tmp_path):
    journal, path = opened(tmp_path), tmp_path / "study.journal"
    journal.append_logs([record(0)])
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=False)
    assert f"{path}: File too large" in done.stderr
    assert path.read_bytes() == before


WRITER = """
import sys
from pathlib import Path
from inkfold.search.journal_file import JournalFile

path = Path(sys.argv[1])
journal = JournalFile(path, path.with_name("lock"))
print("ready", flush=True)
for number in range(int(sys.argv[2])):
    journal.append_logs([{"op_code": 2, "number": number, "text": "x" * 5000}])
"""


def test_processes_that_write_at_once_cut_nothing_of_each_other_and_a_kill_costs_at_most_its_own_record(tmp_path, monkeypatch):
    commands = [[sys.executable, "-c", WRITER, tmp_path / "study.journal", count] for count in ("100", "100", "100000")]
    writers = [subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE) for command in commands]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
        writer.stdout.close()
    assert [writer.wait() for writer in writers[:2]] == [0, 0]
    writers[2].send_signal(signal.SIGKILL)
    writers[2].wait()
    written = numbers(opened(tmp_path))
    assert sorted(written) == sorted([*range(100)] * 2 + [*range(len(written) - 200)])


def test_optuna_reads_what_was_written_and_the_other_way_round(tmp_path):
    path = str(tmp_path / "study.journal")
    for backend in (opened(tmp_path), optuna.storages.journal.JournalFileBackend(path)):
        storage = optuna.storages.JournalStorage(backend)
        study = optuna.create_study(storage=storage, study_name="tune", load_if_exists=True)
        study.tell(study.ask(), 0.5)
    assert len(optuna.load_study(storage=optuna.storages.JournalStorage(opened(tmp_path)), study_name="tune").trials) == 2
