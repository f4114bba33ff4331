"""Fine-tuning by processes that Ray Train starts on the machines of a cluster; they run the same loop as under `torchrun`.

Ray Train sets the environment variables that `distributed` reads, and ends all processes when one is lost. They are started
again then, on as many devices as are left, and resume from the last checkpoint in the run's directory.
"""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from inkfold.errors import CacheError, InkfoldError, RecipeError
from inkfold.finetune.distributed import joined_processes
from inkfold.finetune.train_fold import CHECKPOINTS
from inkfold.finetune.train_folds import FinetunedFolds, FinetuneJob, train_folds
from inkfold.runtime.progress import Progress, silent
from inkfold.runtime.ray import ATTEMPTS, worker_losses
from inkfold.storage.files import write_json

POLL_S = 0.5
PROGRESS = "progress.json"
log = logging.getLogger("inkfold.finetune")


def train_folds_on_ray(ray: Any, job: FinetuneJob, workers: int | None, progress: Progress = silent) -> FinetunedFolds:
    """Train every fold in processes on Ray, from the last checkpoint where an earlier call was killed.

    Args:
        ray: The module `ray`, connected to a cluster.
        job: What is trained, and where its files lie.
        workers: Number of processes; None takes one per GPU, or a single one on CPUs.
        progress: Called about twice a second.

    Returns:
        The trained heads, the files with the changes to the backbone, and what was chosen.

    Raises:
        RecipeError: If the cluster hasn't room for so many processes, or what `train_folds` raises.
        CacheError: If processes were lost each of three times; the last checkpoint is kept.
    """
    for attempt in range(ATTEMPTS):
        count, cores = share_out(ray.nodes(), workers, job.device)
        log.info("fine-tuning on Ray: %d processes with %d cores each, attempt %d of %d", count, cores, attempt + 1, ATTEMPTS)
        task = ray.remote(num_cpus=0, max_retries=0)(_fit).remote(job, count, cores)
        try:
            while not ray.wait([task], timeout=POLL_S)[0]:
                _report_progress(job.out / CHECKPOINTS / PROGRESS, progress)
            result: FinetunedFolds | InkfoldError | str = ray.get(task)
        except worker_losses(ray) as error:
            result = str(error)
        except BaseException:  # Ctrl-C ends the task's processes too. A finished task must not be cancelled: Ray 2.60 aborts
            if not ray.wait([task], timeout=0)[0]:
                ray.cancel(task, force=True)
            raise
        if isinstance(result, FinetunedFolds):
            return result
        if isinstance(result, InkfoldError):
            raise result
    raise CacheError(
        f"{job.out}: processes that trained together ended {ATTEMPTS} times before they were done. Run again: it resumes "
        f"from the last checkpoint. The last error was: {result}"
    )


def share_out(nodes: Sequence[Mapping[str, Any]], wanted: int | None, device: str) -> tuple[int, int]:
    """Choose the number of processes, and of cores for each, so that all of them run at once; else they would wait for ever.

    Args:
        nodes: The cluster's machines, as `ray.nodes()` returns them.
        wanted: Number of processes; None takes one per GPU, or a single one on CPUs.
        device: What each process computes on: `cpu`, or `cuda` for one GPU each.

    Returns:
        The number of processes, and of cores for each of them.

    Raises:
        RecipeError: If the cluster doesn't have room for that many processes.
    """
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    cores, gpus = ([int(node.get(kind, 0)) for node in machines] for kind in ("CPU", "GPU"))
    on_cpu = device == "cpu"
    count = wanted or (1 if on_cpu else max(1, sum(gpus)))
    for each in range(max(cores, default=0), 0, -1):
        room = [core // each if on_cpu else min(core // each, gpu) for core, gpu in zip(cores, gpus, strict=True)]
        if sum(room) >= count:
            return count, each
    raise RecipeError(
        f"on: Ray has {sum(cores)} cores and {sum(gpus)} GPUs on {len(machines)} machines, which is no room for {count} "
        f"processes that train on {device} together. Take fewer of them, as in on=ray:1 or on=ray:HOST:PORT:1, or start more "
        "nodes."
    )


def _fit(job: FinetuneJob, workers: int, cores: int) -> FinetunedFolds | InkfoldError | str:
    """Let Ray Train start the processes; errors that the user can mend, and the loss of processes, are returned as values."""
    from ray.train import RunConfig, ScalingConfig, WorkerGroupError  # noqa: PLC0415 - only where Ray is
    from ray.train.torch import TorchTrainer  # noqa: PLC0415

    gpu = {} if job.device == "cpu" else {"GPU": 1}
    trainer = TorchTrainer(
        _train,
        train_loop_config={"job": job, "cores": cores},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=bool(gpu), resources_per_worker={"CPU": cores, **gpu}),
        run_config=RunConfig(storage_path=str(job.out / CHECKPOINTS / "ray")),
    )
    try:
        finetuned: FinetunedFolds = trainer.fit().return_value
    except WorkerGroupError as error:
        known = [failure for failure in error.worker_failures.values() if isinstance(failure, InkfoldError)]
        return type(known[0])(str(known[0])) if known else str(error)
    return finetuned


def _train(config: Mapping[str, Any]) -> FinetunedFolds:
    """Run in each of the processes."""
    job: FinetuneJob = config["job"]
    torch.set_num_threads(config["cores"])
    with joined_processes(torch.device(job.device)) as process_group:
        progress = _progress_writer(job.out / CHECKPOINTS / PROGRESS) if process_group.is_first else silent
        return train_folds(job, process_group, progress)


def _progress_writer(path: Path) -> Progress:
    """Write progress to a file, which the process that started the others reads."""
    written = -math.inf

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal written
        now = time.monotonic()
        if done == total or now - written >= POLL_S:
            written = now
            write_json(path, [stage, done, total])

    return progress


def _report_progress(path: Path, progress: Progress) -> None:
    try:
        stage, done, total = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    progress(stage, done, total)
