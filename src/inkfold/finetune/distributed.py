"""The processes that train one network together: one alone, or those that `torchrun` started."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from inkfold.runtime.parallel import end_with_parent

TORCHRUN = "TORCHELASTIC_RUN_ID"  # set for the processes that torchrun starts


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """Which of how many processes this is.

    Attributes:
        rank: From 0; the first one alone writes files.
        size: How many.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Give this process's part of a batch; the parts of all are the batch, in its order."""
        return np.array_split(rows, self.size)[self.rank]

    def wait(self) -> None:
        """Wait for all."""
        if self.size > 1:
            dist.barrier()

    def total(self, values: np.ndarray) -> np.ndarray:
        """Add up all processes' arrays of one shape."""
        if self.size == 1:
            return values
        tensor = torch.from_numpy(np.array(values, np.float64)).to(self.device)
        dist.all_reduce(tensor)
        summed: np.ndarray = tensor.cpu().numpy()
        return summed


def processes_here() -> int:
    """Say how many processes of this training share this machine, as their launcher told them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextlib.contextmanager
def joined_processes(device: torch.device) -> Iterator[ProcessGroup]:
    """Meet the other processes, if there are any, and part when the block ends.

    Args:
        device: The kind that is computed on; of several GPUs each process takes the one of its local rank.

    Yields:
        This process's place.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))  # as the launcher told them
    if size == 1:
        yield ProcessGroup(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    started = not dist.is_initialized()
    if TORCHRUN in os.environ:  # killed itself, it leaves its processes behind: they hold the run and its devices
        end_with_parent(os.getppid())
    if started:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(rank, size, device)
    finally:
        if started:
            dist.destroy_process_group()
