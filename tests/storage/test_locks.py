import errno
import fcntl
import os

import pytest

from inkfold.errors import InkfoldError
from inkfold.storage.locks import FileLock, Timeout
from inkfold.storage.shards import ShardSet


def refusing(code):
    def refuse(descriptor, operation):
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_that_refuses_locks_is_named_with_a_way_on(tmp_path, monkeypatch, code):
    monkeypatch.setattr(fcntl, "flock", refusing(code))
    with pytest.raises(InkfoldError, match=rf"{tmp_path}/a.lock: .*refuses locks \({os.strerror(code)}\).*INKFOLD_HOME"):
        FileLock(tmp_path / "a.lock").acquire()
    shards = ShardSet(tmp_path, "rows", {})
    shards.create()
    with pytest.raises(InkfoldError, match="refuses locks"), shards.lock():
        pass


def test_other_errors_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refusing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        FileLock(tmp_path / "a.lock").acquire()


def test_a_lock_keeps_others_out_until_it_is_released(tmp_path):
    with FileLock(tmp_path / "a.lock"), pytest.raises(Timeout):
        FileLock(tmp_path / "a.lock", timeout=0).acquire()
    FileLock(tmp_path / "a.lock", timeout=0).acquire()
