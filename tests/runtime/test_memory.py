import errno
import os
import resource
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch

from inkfold.runtime import memory
from inkfold.runtime.memory import GIB, lack_of_memory, spare_address_space, what_is_needed
from toy import run_code


def raised(function):
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("asked_for", "expected"),
    [
        (lambda: np.empty((1 << 47,), np.uint8), r"an array with shape (140737488355328,) and data type uint8 (128. TiB)"),
        (lambda: torch.empty(1 << 47, dtype=torch.uint8), "131072.0 GiB"),
        (lambda: pa.allocate_buffer(1 << 47), "131072.0 GiB"),
        (lambda: bytearray(1 << 47), "the next step"),
    ],
)
def test_what_libraries_could_not_allocate_is_said(asked_for, expected):
    assert lack_of_memory(raised(asked_for)) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("can't start new thread"), "another thread"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "the next step"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "the program's libraries"),
        (RuntimeError("std::bad_alloc"), "the next step"),
        (cv2.error("(-4:Insufficient memory) Failed to allocate 123456789 bytes in function 'OutOfMemoryError'"), "117.7 MiB"),
        (ValueError("array is too big"), None),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), None),
        (RuntimeError("could not create a primitive"), None),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), None),
    ],
)
def test_exceptions_that_report_a_lack_of_memory_are_told_from_others(error, expected):
    assert lack_of_memory(error) == expected


def test_the_cause_of_an_exception_counts_too_but_not_one_that_was_hidden():
    def fail(*, hide):
        try:
            raise MemoryError
        except MemoryError as error:
            raise ValueError("no rows") from (None if hide else error)

    assert lack_of_memory(raised(lambda: fail(hide=False))) == "the next step"
    assert lack_of_memory(raised(lambda: fail(hide=True))) is None


def test_a_process_with_little_address_space_says_what_it_has_and_needs(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    assert not spare_address_space()
    assert what_is_needed().startswith("Training and predicting need at least 2.0 GiB")
    monkeypatch.setattr(memory, "address_space_limit", lambda: 3 * GIB // 2)
    assert what_is_needed().startswith(
        "This process may use 1.5 GiB (ulimit -v). Training and predicting need at least 2.0 GiB"
    )
    assert spare_address_space()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert lack_of_memory(SystemError("error return without exception set")).startswith("the next step (SystemError: error")
    assert lack_of_memory(OSError(errno.ENOSPC, "full")) is None


def test_the_limit_is_the_systems(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (GIB, resource.RLIM_INFINITY))
    assert memory.address_space_limit() == GIB
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert memory.address_space_limit() is None


LIMITED = """
import resource, sys
from inkfold.cli.main import main

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20),) * 2)
print(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the address space is read from Linux's /proc")
def test_a_command_without_memory_ends_in_a_line(tmp_path, frozen_run):
    printed = run_code(
        LIMITED + "sys.stdout.flush(); import os; os._exit(0)",
        *("predict", frozen_run / "run", frozen_run / "data/test", "--out", tmp_path / "p.csv"),
    )
    assert printed.splitlines()[-1] == "2"
