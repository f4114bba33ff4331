"""Fine-tuning by processes that Ray Train starts: the loop that `torchrun` starts too, on the machines of a cluster.

Ray Train tells each process its rank by the variables that `world` reads, and ends all of them when one is lost. They are begun
anew then, on as many devices as are left, and go on from the last checkpoint in the run's directory.
"""

import json
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

LOOK_S = 0.5
PROGRESS = "progress.json"


def train_folds_on_ray(ray: Any, job: FinetuneJob, workers: int | None, progress: Progress = silent) -> FinetunedFolds:
    """Let processes on Ray train every fold, or go on where a killed call was.

    Args:
        ray: The module, connected.
        job: What to do.
        workers: Processes; None: one a GPU, or one on the CPU.
        progress: Told about twice a second.

    Returns:
        What became of the folds.

    Raises:
        RecipeError: If the cluster hasn't room for so many processes, or what `train_folds` raises.
        CacheError: If processes were lost each of three times; the last checkpoint is kept.
    """
    for _ in range(ATTEMPTS):
        task = ray.remote(num_cpus=0, max_retries=0)(_fit).remote(job, *share_out(ray.nodes(), workers, job.device))
        try:
            while not ray.wait([task], timeout=LOOK_S)[0]:
                _pass_on(job.out / CHECKPOINTS / PROGRESS, progress)
            outcome: FinetunedFolds | InkfoldError | str = ray.get(task)
        except worker_losses(ray) as error:
            outcome = str(error)
        except BaseException:  # Ctrl-C: its processes end with it. One that is done must not be cancelled: Ray 2.60 aborts
            if not ray.wait([task], timeout=0)[0]:
                ray.cancel(task, force=True)
            raise
        if isinstance(outcome, FinetunedFolds):
            return outcome
        if isinstance(outcome, InkfoldError):
            raise outcome
    raise CacheError(
        f"{job.out}: processes that trained together ended {ATTEMPTS} times before they were done. Run again: it goes on "
        f"from the last checkpoint. The last of them said: {outcome}"
    )


def share_out(nodes: Sequence[Mapping[str, Any]], wanted: int | None, device: str) -> tuple[int, int]:
    """Say how many processes train, with how many cores each: all of them have room at once, or they would wait for ever.

    Args:
        nodes: As `ray.nodes()` gives them.
        wanted: Processes; None: one a GPU, or one on the CPU.
        device: `cpu` or `cuda`.

    Returns:
        Processes, and cores each.

    Raises:
        RecipeError: If there is no room for them.
    """
    there = [node["Resources"] for node in nodes if node["Alive"]]
    cores, gpus = ([int(node.get(kind, 0)) for node in there] for kind in ("CPU", "GPU"))
    on_cpu = device == "cpu"
    count = wanted or (1 if on_cpu else max(1, sum(gpus)))
    for each in range(max(cores, default=0), 0, -1):
        room = [of // each if on_cpu else min(of // each, gpu) for of, gpu in zip(cores, gpus, strict=True)]
        if sum(room) >= count:
            return count, each
    raise RecipeError(
        f"on: Ray has {sum(cores)} cores and {sum(gpus)} GPUs on {len(there)} machines, which is no room for {count} processes "
        f"that train on {device} together. Take fewer of them, as in on=ray:1 or on=ray:HOST:PORT:1, or start more nodes."
    )


def _fit(job: FinetuneJob, workers: int, cores: int) -> FinetunedFolds | InkfoldError | str:
    """Have Ray Train start the processes; what the user can mend, and how processes were lost, come back as values."""
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
        tuned: FinetunedFolds = trainer.fit().return_value
    except WorkerGroupError as error:
        known = [one for one in error.worker_failures.values() if isinstance(one, InkfoldError)]
        return type(known[0])(str(known[0])) if known else str(error)
    return tuned


def _train(config: Mapping[str, Any]) -> FinetunedFolds:
    """Be one of the processes."""
    job: FinetuneJob = config["job"]
    torch.set_num_threads(config["cores"])
    with joined_processes(torch.device(job.device)) as world:
        progress = _noting(job.out / CHECKPOINTS / PROGRESS) if world.is_first else silent
        return train_folds(job, world, progress)


def _noting(path: Path) -> Progress:
    """Leave how far it is where the one who started all looks."""
    said = -math.inf

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if done == total or now - said >= LOOK_S:
            said = now
            write_json(path, [stage, done, total])

    return progress


def _pass_on(path: Path, progress: Progress) -> None:
    try:
        stage, done, total = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    progress(stage, done, total)
