"""Computes chunks with Ray: on this machine, or on all machines of a running cluster."""

import contextlib
import os
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from inkfold.errors import CacheError, InkfoldError
from inkfold.features.tasks import Chunk, ChunkTracker, FeatureJob, run_chunk
from inkfold.runtime.ray import ATTEMPTS, RayConnection, loss_reason, worker_losses
from inkfold.storage.files import TEMP_MARK, sweep_temp_files

AHEAD = 2  # chunks that Ray has for each one that it can run at once, so that no worker waits for this process
FEWEST_AHEAD = 8  # so that a cluster that grows by demand sees a demand
WAIT_S = 1.0
STALE_AFTER_S = 7 * 24 * 3600.0


class RayExecutor:
    """Computes chunks in Ray's workers. Ray is started or joined when the first chunks come.

    Args:
        address: None starts Ray on this machine; `auto` or HOST:PORT joins a running cluster.
        workers: Number of processes that fine-tune together, at least 1; None takes one per GPU, or one on the CPU. Features
            are computed by all workers that there are.

    Raises:
        RecipeError: If Ray isn't installed.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self.connection, self.workers = RayConnection(address), workers

    def run(self, chunks: Sequence[Chunk], tracker: ChunkTracker) -> None:
        """Compute chunks.

        Args:
            chunks: Chunks of one job, at least one.
            tracker: Each chunk is counted in it when it is done.

        Raises:
            CacheError: If the cluster has no suitable device, a machine doesn't see inkfold's directory, or a chunk's worker
                was lost three times; finished chunks are kept.
        """
        with self.connection.connected() as ray:
            job = chunks[0].job
            needs = {"num_cpus": job.threads, "num_gpus": 0 if job.on_cpu else 1}
            task = ray.remote(max_retries=ATTEMPTS - 1, **needs)(_run_on_machine)
            running: dict[Any, Chunk] = {}
            with _shared_marker(job.home) as marker:
                try:
                    waiting = deque(chunks)
                    while waiting or running:
                        for _ in range(max(FEWEST_AHEAD, AHEAD * _capacity(ray, job)) - len(running)):
                            if waiting:
                                chunk = waiting.popleft()
                                running[task.remote(chunk, marker)] = chunk
                        for done in ray.wait([*running], num_returns=1, timeout=WAIT_S)[0]:
                            chunk = running.pop(done)
                            seconds = _result(ray, done, chunk)
                            tracker.advance(len(chunk))
                            tracker.finish(chunk, seconds)
                finally:
                    for task_id in running:
                        ray.cancel(task_id, force=True)

    def close(self) -> None:
        """End what was started here, or leave the cluster."""
        self.connection.close()


def _capacity(ray: Any, job: FeatureJob) -> int:
    """Count the chunks that the cluster can run at once."""
    resources = ray.cluster_resources()
    capacity = int(resources.get("CPU", 0) // job.threads if job.on_cpu else resources.get("GPU", 0))
    if not capacity:
        raise CacheError(
            f"on: the Ray cluster has no {'core' if job.on_cpu else 'GPU'} to work on, but {dict(resources)}. Start its nodes "
            "with --num-cpus or --num-gpus, or set backbone.device."
        )
    return capacity


def _run_on_machine(chunk: Chunk, marker: str) -> float | InkfoldError:
    """Compute a chunk in Ray's worker; the user's errors are returned, so that Ray wraps no traceback around them."""
    backbone = chunk.job.backbone
    files = [Path(file) for file in (backbone.weights_file, backbone.changes_file) if file is not None]
    for path in (chunk.job.home / marker, *files):
        if not path.is_file():
            return CacheError(
                f"machine '{os.uname().nodename}': doesn't see {path}, which the machine that started the run has. With Ray on "
                "several machines, INKFOLD_HOME and the weights must lie in a directory that all see under one path."
            )
    try:
        return run_chunk(chunk)
    except InkfoldError as error:
        return type(error)(str(error))


def _result(ray: Any, done: Any, chunk: Chunk) -> float:
    try:
        result: float | InkfoldError = ray.get(done)
    except (ray.exceptions.RaySystemError, *worker_losses(ray)) as error:
        raise CacheError(f"{chunk}: {loss_reason(ray, error)}; finished chunks are kept.") from None
    if isinstance(result, InkfoldError):
        raise result
    return result


@contextlib.contextmanager
def _shared_marker(home: Path) -> Iterator[str]:
    """Leave a file in the directory that all machines must share while the block runs, to detect one that doesn't see it."""
    sweep_temp_files(home, STALE_AFTER_S)
    name = f"marker{TEMP_MARK}{uuid.uuid4().hex}"
    try:
        (home / name).touch()
        yield name
    finally:
        (home / name).unlink(missing_ok=True)
