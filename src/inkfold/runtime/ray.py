"""A connection to Ray, shared by the feature executor and fine-tuning.

What is started here listens on the loopback address only, which is checked, has no dashboard and reports no usage. A cluster
that is joined is as safe as whoever started it made it: Ray runs the code of anyone who reaches it.
"""

import contextlib
import importlib.util
import logging
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from inkfold.errors import CacheError, RecipeError
from inkfold.runtime.parallel import available_cores

log = logging.getLogger("inkfold.runtime")

ATTEMPTS = 3
ANSWER_S = 5.0
AUTO = "auto"
LOOPBACK = "127.0.0.1"
STORE_BYTES = 100 << 20  # only digests go through Ray, which would otherwise reserve a third of the memory
SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


class RayConnection:
    """A connection to Ray, which is started or joined when it is first used.

    Args:
        address: None starts Ray on this machine; `auto` or HOST:PORT joins a running cluster.

    Raises:
        RecipeError: If Ray isn't installed.
    """

    def __init__(self, address: str | None = None) -> None:
        if importlib.util.find_spec("ray") is None:
            raise RecipeError("on: Ray isn't installed. Install it: pip install 'inkfold[ray]'; or take on=pool.")
        self._address = address
        self._started = False

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """Connect to Ray, and hide its own warnings while the block runs.

        Yields:
            Ray's module.

        Raises:
            CacheError: If Ray can't be started, or nothing answers at the address.
        """
        with _without_warnings():
            yield self._connect()

    def close(self) -> None:
        """Stop the Ray that was started here, or leave the cluster."""
        if self._started:
            import ray  # noqa: PLC0415 - seconds, and only users of Ray need it

            with _without_warnings():
                ray.shutdown()
            self._started = False

    def _connect(self) -> Any:
        with _environment(LOCAL if self._address is None else QUIET):
            import ray  # noqa: PLC0415 - seconds, and only users of Ray need it

            joined = ray.get_runtime_context().gcs_address if ray.is_initialized() else None
            if joined is not None and self._address in (None, AUTO, joined):
                return ray
            if joined is not None:
                raise CacheError(f"on: this process has joined Ray at {joined} before, not at {self._address}. Take on=ray.")
            try:
                _start(ray) if self._address is None else _join(ray, self._address)
            except (OSError, RuntimeError, ValueError) as error:
                where = "on this machine" if self._address is None else f"at {self._address}"
                why = str(error).rstrip(".")
                raise CacheError(f"on: Ray {where}: {why}. Check `ray status` there, or take on=pool.") from None
            log.info("Ray %s: %s", "started" if self._address is None else "joined", dict(ray.cluster_resources()))
        self._started = True
        return ray


QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_oom_retries": str(ATTEMPTS - 1),  # without it a task too large for the memory is tried for ever
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default, which Ray announces by a warning
    "RAY_DISABLE_IMPORT_WARNING": "1",
}


# Without the switch, which is off on Windows and macOS anyway, Ray 2.60 takes the machine's address for 127.0.0.1 and listens
# on all interfaces.
LOCAL = {**QUIET, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def _start(ray: Any) -> None:
    """Start Ray on this machine, on the loopback address, for this process alone."""
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
    """Join a cluster, if something answers at its address within 5 s: Ray itself tries for minutes."""
    if address != AUTO:
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    ray.init(address=address, **SILENT)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep Ray's own warnings, of sockets and files that it leaves open, from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
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


def worker_losses(ray: Any) -> tuple[type[Exception], ...]:
    """List the exceptions that Ray raises when a worker or its machine is lost.

    Args:
        ray: The imported package `ray`, which this module doesn't import by itself.

    Returns:
        Exception classes, for an `except` clause.
    """
    kinds = ("WorkerCrashedError", "ObjectLostError", "NodeDiedError", "LocalRayletDiedError", "OutOfMemoryError")
    return tuple(getattr(ray.exceptions, kind) for kind in kinds)


def loss_reason(ray: Any, error: Exception) -> str:
    """Say what was lost and what to do: only where a worker died alone can its memory have been the cause.

    Args:
        ray: The imported package `ray`.
        error: One of `worker_losses`, or Ray's error of its own system.

    Returns:
        Sentences for a message, with the first line of Ray's own words.
    """
    words = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
    if isinstance(error, ray.exceptions.OutOfMemoryError | ray.exceptions.WorkerCrashedError):
        return (
            f"the worker that computed them was lost {ATTEMPTS} times: {words}. Give the workers more memory or take a smaller "
            "backbone.batch_size, and run again"
        )
    return (
        f"Ray itself ended on a machine, or that machine was lost: {words}. Its logs are in /tmp/ray/session_latest/logs. "
        "Start Ray there again if you joined a cluster, or take on=pool, and run again"
    )
