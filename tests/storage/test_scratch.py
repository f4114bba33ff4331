import errno
import os
from pathlib import Path

import numpy as np
import pytest

from inkfold.storage import scratch
from inkfold.storage.scratch import scratch_array, take_rows

STATUS = Path("/proc/self/status")
SHAPE = (1 << 14, 1 << 10)  # 64 MiB of float32


def own_bytes():
    """Memory of this process that is no file's pages."""
    [line] = [line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) << 10


@pytest.mark.skipif(not STATUS.exists(), reason="asks Linux how much memory is the process's own")
def test_a_large_array_lies_in_a_file_that_nobody_sees(own_home):
    before = own_bytes()
    array = scratch_array(SHAPE, np.float32)
    assert type(array) is np.ndarray
    assert not array[-1].any()
    array[:] = 3
    assert own_bytes() - before < 16 << 20, "of 64 MiB"
    assert array.sum(dtype=np.float64) == 3 * array.size
    assert not list((own_home / "scratch").iterdir())


def test_a_small_one_stays_in_memory(own_home):
    array = scratch_array((3, 2))
    assert array.dtype == np.float64
    assert not array.any()
    assert not (own_home / "scratch").exists()


@pytest.mark.parametrize("refusal", [errno.ENOSPC, errno.EOPNOTSUPP, errno.EROFS])
def test_where_the_disk_refuses_the_array_is_made_in_memory(own_home, monkeypatch, refusal):
    def refuse(*arguments):
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(scratch, "LEAST_BYTES", 1)
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    array = scratch_array((3, 2))
    array[:] = 1
    assert array.sum() == 6


def test_rows_are_taken_in_the_order_given(monkeypatch, own_home):
    monkeypatch.setattr(scratch, "LEAST_BYTES", 1)
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    rows = np.array([2, 0, 2])
    np.testing.assert_array_equal(take_rows(matrix, rows), matrix[rows])
    assert take_rows(matrix, rows[:0]).shape == (0, 3)
