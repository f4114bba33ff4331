"""Cells carried out by Ray: on this machine, or on all machines of a cluster that is there.

What is started here listens on the loopback address only, which is looked at, has no dashboard and reports no usage. A cluster
that is joined is as safe as whoever started it made it: Ray runs the code of anyone who reaches it.
"""

import contextlib
import importlib.util
import os
import socket
import uuid
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inkfold.errors import CacheError, InkfoldError, RecipeError
from inkfold.features.tasks import Account, Cell, Making, run_cell
from inkfold.runtime.progress import Progress
from inkfold.storage.files import TEMP_MARK, sweep_temp_files
from inkfold.storage.pixels import available_cores

if TYPE_CHECKING:
    from inkfold.finetune.distributed import World
    from inkfold.finetune.train_folds import Job, Tuned

ATTEMPTS = 3
AHEAD = 2  # cells a place that are handed to Ray before one is done: none waits for this process
FEWEST_AHEAD = 8  # and a cluster that grows by demand sees some
LOOK_S = 1.0
ANSWER_S = 5.0
AUTO = "auto"
STALE_AFTER_S = 7 * 24 * 3600.0
LOOPBACK = "127.0.0.1"
STORE_BYTES = 100 << 20  # nothing but digests goes through Ray, which else takes a third of the memory
SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_oom_retries": str(ATTEMPTS - 1),  # without it a task too large for the memory is tried for ever
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default, which Ray announces by a warning
    "RAY_DISABLE_IMPORT_WARNING": "1",
}
# Without the switch, which is off on Windows and macOS anyway, Ray 2.60 takes the machine's address for 127.0.0.1 and listens
# on all interfaces.
SAFE = {**QUIET, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class Cluster:
    """Ray's workers. Ray is started or joined when there is something to do.

    Args:
        address: None starts Ray on this machine; `auto` or HOST:PORT joins a cluster.
        workers: Processes that fine-tune together; None: one a GPU, or one on the CPU.

    Raises:
        RecipeError: If Ray isn't installed.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        if importlib.util.find_spec("ray") is None:
            raise RecipeError("on: Ray isn't installed. Install it: pip install 'inkfold[ray]'; or take on=pool.")
        self._address, self._workers = address, workers
        self._started = False

    def run(self, cells: Sequence[Cell], account: Account) -> None:
        """Carry out cells.

        Args:
            cells: Of one making.
            account: Told of each cell when it is done.

        Raises:
            CacheError: If no machine of the cluster suits, one doesn't see inkfold's directory, or the workers at one cell
                were killed each of three times; what is done is kept.
        """
        with _contained():
            ray = self._connect()
            making = cells[0].making
            needs = {"num_cpus": making.threads, "num_gpus": 0 if making.on_cpu else 1}
            task = ray.remote(max_retries=ATTEMPTS - 1, **needs)(_run_on_machine)
            running: dict[Any, Cell] = {}
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

    def tune(self, job: "Job", world: "World", progress: Progress) -> "Tuned":
        """Fine-tune every fold; see `tune_by_ray`. Processes that somebody else started together do it themselves."""
        if world.size > 1:
            from inkfold.finetune.train_folds import tune_folds  # noqa: PLC0415 - torch takes a second

            return tune_folds(job, world, progress)
        from inkfold.finetune.ray_train import tune_by_ray  # noqa: PLC0415 - torch takes a second

        with _contained():
            return tune_by_ray(self._connect(), job, self._workers, progress)

    def close(self) -> None:
        """End what was started here, or leave the cluster."""
        if self._started:
            import ray  # noqa: PLC0415 - seconds, and only this launcher needs it

            with _contained():
                ray.shutdown()
            self._started = False

    def _connect(self) -> Any:
        with _surroundings(SAFE if self._address is None else QUIET):
            import ray  # noqa: PLC0415 - seconds, and only this launcher needs it

            there = ray.get_runtime_context().gcs_address if ray.is_initialized() else None
            if there is not None and self._address in (None, AUTO, there):
                return ray
            if there is not None:
                raise CacheError(f"on: this process has joined Ray at {there} before, not at {self._address}. Take on=ray.")
            try:
                _start(ray) if self._address is None else _join(ray, self._address)
            except (OSError, RuntimeError, ValueError) as error:
                where = "on this machine" if self._address is None else f"at {self._address}"
                why = str(error).rstrip(".")
                raise CacheError(f"on: Ray {where}: {why}. Check `ray status` there, or take on=pool.") from None
        self._started = True
        return ray


def _start(ray: Any) -> None:
    """Start Ray on this machine, for this process alone."""
    from ray._private import ray_constants  # noqa: PLC0415 - the switch that Ray has for it where firewalls ask questions

    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False  # in case Ray was imported before
    try:
        ray.init(
            address="local",
            num_cpus=available_cores(),
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            _node_ip_address=LOOPBACK,
            **SILENT,
        )
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
    addresses = {node["NodeManagerAddress"] for node in ray.nodes()}
    if addresses != {LOOPBACK}:
        ray.shutdown()
        raise RuntimeError(f"listens on {', '.join(sorted(addresses))}, expected {LOOPBACK} only, so it was ended")


def _join(ray: Any, address: str) -> None:
    """Join a cluster, if somebody answers at its address: Ray itself asks for minutes."""
    if address != AUTO:
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    ray.init(address=address, **SILENT)


def _places(ray: Any, making: Making) -> int:
    """Count the cells that the cluster has room for at once."""
    there = ray.cluster_resources()
    places = int(there.get("CPU", 0) // making.threads if making.on_cpu else there.get("GPU", 0))
    if not places:
        raise CacheError(
            f"on: the Ray cluster has no {'core' if making.on_cpu else 'GPU'} to work on, but {dict(there)}. Start its nodes "
            "with --num-cpus or --num-gpus, or set backbone.device."
        )
    return places


def _run_on_machine(cell: Cell, witness: str) -> float | InkfoldError:
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
        return run_cell(cell)
    except InkfoldError as error:
        return type(error)(str(error))


def _outcome(ray: Any, done: Any, cell: Cell) -> float:
    from inkfold.finetune.ray_train import losses  # noqa: PLC0415 - torch takes a second

    try:
        outcome: float | InkfoldError = ray.get(done)
    except (ray.exceptions.RaySystemError, *losses(ray)) as error:
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


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    """Keep Ray's own warnings, of sockets and files that it leaves open, from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _surroundings(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while; what Ray starts meanwhile keeps them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
