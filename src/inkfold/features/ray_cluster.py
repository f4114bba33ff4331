"""Features computed by Ray: on this machine, or on all machines of a cluster that is there."""

import contextlib
import os
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from inkfold.errors import CacheError, InkfoldError
from inkfold.features.tasks import Account, Chunk, FeatureJob, run_chunk
from inkfold.runtime.ray import ATTEMPTS, RayConnection, worker_losses
from inkfold.storage.files import TEMP_MARK, sweep_temp_files

AHEAD = 2  # cells a place that are handed to Ray before one is done: none waits for this process
FEWEST_AHEAD = 8  # and a cluster that grows by demand sees some
LOOK_S = 1.0
STALE_AFTER_S = 7 * 24 * 3600.0


class RayExecutor:
    """Ray's workers. Ray is started or joined when there is something to do.

    Args:
        address: None starts Ray on this machine; `auto` or HOST:PORT joins a cluster.
        workers: Processes that fine-tune together; None: one per GPU, or one on the CPU. Features take all there are.

    Raises:
        RecipeError: If Ray isn't installed.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self.connection, self.workers = RayConnection(address), workers

    def run(self, cells: Sequence[Chunk], account: Account) -> None:
        """Carry out cells.

        Args:
            cells: Of one making.
            account: Told of each cell when it is done.

        Raises:
            CacheError: If no machine of the cluster suits, one doesn't see inkfold's directory, or the workers at one cell
                were killed each of three times; what is done is kept.
        """
        with self.connection.connected() as ray:
            making = cells[0].making
            needs = {"num_cpus": making.threads, "num_gpus": 0 if making.on_cpu else 1}
            task = ray.remote(max_retries=ATTEMPTS - 1, **needs)(_run_on_machine)
            running: dict[Any, Chunk] = {}
            with _witness(making.home) as witness:
                try:
                    waiting = deque(cells)
                    while waiting or running:
                        for _ in range(max(FEWEST_AHEAD, AHEAD * _places(ray, making)) - len(running)):
                            if waiting:
                                cell = waiting.popleft()
                                running[task.remote(cell, witness)] = cell
                        for done in ray.wait([*running], num_returns=1, timeout=LOOK_S)[0]:
                            cell = running.pop(done)
                            seconds = _outcome(ray, done, cell)
                            account.advance(len(cell))
                            account.finish(cell, seconds)
                finally:
                    for left in running:
                        ray.cancel(left, force=True)

    def close(self) -> None:
        """End what was started here, or leave the cluster."""
        self.connection.close()


def _places(ray: Any, making: FeatureJob) -> int:
    """Count the cells that the cluster has room for at once."""
    there = ray.cluster_resources()
    places = int(there.get("CPU", 0) // making.threads if making.on_cpu else there.get("GPU", 0))
    if not places:
        raise CacheError(
            f"on: the Ray cluster has no {'core' if making.on_cpu else 'GPU'} to work on, but {dict(there)}. Start its nodes "
            "with --num-cpus or --num-gpus, or set backbone.device."
        )
    return places


def _run_on_machine(cell: Chunk, witness: str) -> float | InkfoldError:
    """Run a cell in Ray's worker; what the user can mend comes back as a value, without Ray's traceback around it."""
    backbone = cell.making.backbone
    files = [Path(file) for file in (backbone.weights_file, backbone.changes_file) if file is not None]
    for path in (cell.making.home / witness, *files):
        if not path.is_file():
            return CacheError(
                f"machine '{os.uname().nodename}': doesn't see {path}, which the planning machine has. With Ray on several "
                "machines, INKFOLD_HOME and the weights must lie in a directory that all see under one path."
            )
    try:
        return run_chunk(cell)
    except InkfoldError as error:
        return type(error)(str(error))


def _outcome(ray: Any, done: Any, cell: Chunk) -> float:
    try:
        outcome: float | InkfoldError = ray.get(done)
    except (ray.exceptions.RaySystemError, *worker_losses(ray)) as error:
        raise CacheError(
            f"{cell}: the worker at it was lost {ATTEMPTS} times: {str(error).splitlines()[0]} Give the workers more memory or "
            "take a smaller backbone.batch_size, and run again; what is done is kept."
        ) from None
    if isinstance(outcome, InkfoldError):
        raise outcome
    return outcome


@contextlib.contextmanager
def _witness(home: Path) -> Iterator[str]:
    """Leave a file in the directory that all machines must share, so that one which doesn't is found out."""
    sweep_temp_files(home, STALE_AFTER_S)
    name = f"witness{TEMP_MARK}{uuid.uuid4().hex}"
    try:
        (home / name).touch()
        yield name
    finally:
        (home / name).unlink(missing_ok=True)
