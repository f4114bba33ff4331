"""The processes that train one network together: a single one, or those that `torchrun` or Ray Train started."""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from inkfold.runtime.parallel import end_with_parent

TORCHRUN = "TORCHELASTIC_RUN_ID"  # set for the processes that torchrun starts
log = logging.getLogger("inkfold.finetune")


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes that train together, as one of them sees them.

    Attributes:
        rank: Number of this process, from 0; only the first one writes files.
        size: Number of processes, at least 1.
        device: What this process computes on: the CPU, or a GPU of its own.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Return this process's part of a batch; the parts of all processes are the batch, in its order."""
        return np.array_split(rows, self.size)[self.rank]

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.size > 1:
            dist.barrier()

    def total(self, values: np.ndarray) -> np.ndarray:
        """Add up the arrays of all processes, which have one shape."""
        if self.size == 1:
            return values
        tensor = torch.from_numpy(np.array(values, np.float64)).to(self.device)
        dist.all_reduce(tensor)
        summed: np.ndarray = tensor.cpu().numpy()
        return summed


def processes_here() -> int:
    """Return how many processes of this training run on this machine, by the launcher's environment variables."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextlib.contextmanager
def joined_processes(device: torch.device) -> Iterator[ProcessGroup]:
    """Connect to the other processes, if there are any, until the block ends.

    Args:
        device: Kind of device to compute on; of several GPUs each process takes the one of its local rank.

    Yields:
        The process group as this process sees it.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))  # set by the launcher
    if size == 1:
        log.info("fine-tuning on %s in one process", device)
        yield ProcessGroup(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    log.info("fine-tuning on %s in process %d of %d", device, rank + 1, size)
    started = not dist.is_initialized()
    if TORCHRUN in os.environ:  # a killed torchrun leaves its processes behind: they hold the run and its devices
        end_with_parent(os.getppid())
    if started:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(rank, size, device)
    finally:
        if started:
            dist.destroy_process_group()
