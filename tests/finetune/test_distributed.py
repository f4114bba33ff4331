import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from forks import Process, run_together
from inkfold.finetune.distributed import ProcessGroup, joined_processes
from toy import free_port, job_of

CPU = torch.device("cpu")
PARTICIPANT = """
import numpy as np, torch, torch.distributed as dist
from inkfold.finetune.distributed import joined_processes
with joined_processes(torch.device("cpu")) as group:
    group.wait()
    values = np.arange(3) + 10 * group.rank
    total, share = group.total(values).tolist(), group.share(np.arange(5)).tolist()
    print(group.rank, group.size, group.is_first, share, total, values.tolist())
assert not dist.is_initialized()
"""

LASTING = """
import os, time, torch
from inkfold.finetune.distributed import joined_processes
with joined_processes(torch.device("cpu")) as group:
    os.write(1, b"%d\\n" % group.rank)  # at once: two processes' prints mix their line ends
    time.sleep(300)
"""
LAUNCHER = """
import os, sys
for rank in "01":
    if not os.fork():
        os.environ["RANK"] = rank
        exec(sys.argv[1])
        sys.exit()
for _ in range(2):
    os.wait()
"""


def meeting_place():
    """Where two processes on this machine meet, as their launcher would set it."""
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}


@given(st.integers(0, 40), st.integers(1, 9))
def test_the_parts_of_all_processes_are_the_batch_in_its_order(drawings, size):
    batch = np.arange(drawings) * 3
    parts = [ProcessGroup(rank, size, CPU).share(batch) for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate(parts), batch)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_alone_waits_for_nobody_and_starts_nothing(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_processes(CPU) as group:
        assert (group.rank, group.size, group.device, group.is_first) == (0, 1, CPU, True)
        group.wait()
        np.testing.assert_array_equal(group.total(np.array([1.5, 2.0])), [1.5, 2.0])
        assert not dist.is_initialized()


def test_the_first_process_alone_writes():
    assert [ProcessGroup(rank, 3, CPU).is_first for rank in range(3)] == [True, False, False]


@pytest.mark.skipif(not dist.is_available(), reason="PyTorch was built without torch.distributed")
def test_processes_that_a_launcher_started_meet_add_up_and_part():
    place = meeting_place()
    done = run_together(*(job_of(PARTICIPANT, **place, RANK=str(rank)) for rank in range(2)))
    assert [one.stdout.strip() for one in done] == [
        "0 2 True [0, 1, 2] [10.0, 12.0, 14.0] [0, 1, 2]",
        "1 2 False [3, 4] [10.0, 12.0, 14.0] [10, 11, 12]",
    ]
    assert [one.returncode for one in done] == [0, 0]


@pytest.mark.skipif(not dist.is_available(), reason="PyTorch was built without torch.distributed")
def test_processes_end_when_torchrun_was_killed():
    """The pipe that they write to ends when the last of them has."""
    with Process(job_of(LAUNCHER, LASTING, **meeting_place(), TORCHELASTIC_RUN_ID="none")) as launcher:
        assert sorted(launcher.stdout.readline() for _ in range(2)) == ["0\n", "1\n"]
        launcher.kill()
        assert launcher.stdout.read() == ""
