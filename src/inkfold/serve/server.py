"""The server's life: it listens, loads the model, answers, and on SIGTERM or Ctrl-C stops once answers in flight are sent."""

import asyncio
import contextlib
import signal
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from inkfold.errors import InkfoldError
from inkfold.serve.batching import QueueLimits
from inkfold.serve.http import HttpLimits, HttpServer
from inkfold.serve.metrics import ServerMetrics
from inkfold.serve.predict import Predictor
from inkfold.serve.routes import Service
from inkfold.serve.security import is_loopback
from inkfold.serve.static import SITE, StaticFiles

OPEN_FILES = 2048
HOST, PORT = "127.0.0.1", 8000


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How a model is served.

    Attributes:
        host: Address to listen on, such as `127.0.0.1`, which this machine alone reaches.
        port: The port to listen on; 0 takes a free one.
        threads: Threads of each forward pass; None takes two at most.
        open_page: Whether the page is opened in the user's browser.
        site: The directory of the page's files.
        limits: How much clients can hold, and how long.
        queue: How many drawings may wait, and how long.
    """

    host: str = HOST
    port: int = PORT
    threads: int | None = None
    open_page: bool = False
    site: Path = SITE
    limits: HttpLimits = field(default_factory=HttpLimits)
    queue: QueueLimits = field(default_factory=QueueLimits)


def serve(model: Path, options: ServeOptions, say: Callable[[str], None]) -> None:
    """Serve a model until SIGTERM or Ctrl-C.

    Args:
        model: The exported ONNX file, or the directory of an exported set.
        options: Where the server listens, and its limits.
        say: Called with each line for the user: where the page is, and that the server stops.

    Raises:
        InkfoldError: If the model can't be loaded or the address can't be listened on.
    """
    asyncio.run(serve_until(model, options, say))


async def serve_until(
    model: Path, options: ServeOptions, say: Callable[[str], None], stopped: asyncio.Event | None = None
) -> None:
    """Serve a model until an event is set; see `serve`."""
    stopped = stopped or asyncio.Event()
    _allow_files()
    metrics = ServerMetrics()
    service = Service(StaticFiles(options.site), metrics, options.limits)
    answer = partial(service.answer, check_host=is_loopback(options.host))
    server = HttpServer(answer, options.limits, service.refuse)
    metrics.add_gauge("inkfold_connections", "Open connections.", lambda: server.connections)
    metrics.add_gauge("inkfold_evictions", "Connections closed to make room.", lambda: server.evictions)
    port = await _listen(server, options)
    with _stop_on_signals(stopped):
        try:
            predictor = await service.load(model, options.threads, options.queue)
            _announce(options, port, predictor, say)
            await stopped.wait()
            say("stopping: answers in flight go out first")
        finally:
            service.is_stopping = True
            await server.close()
            await service.close()


def _allow_files() -> None:
    """Let the process open as many files as it has connections, where the usual limit is lower, as macOS's 256 is."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _listen(server: HttpServer, options: ServeOptions) -> int:
    try:
        return await server.open(options.host, options.port)
    except (OSError, OverflowError) as error:
        what = f"{options.host}:{options.port}"
        raise InkfoldError(
            f"{what}: can't listen there ({getattr(error, 'strerror', None) or error}). Choose another with --host or --port."
        ) from None


def _announce(options: ServeOptions, port: int, predictor: Predictor, say: Callable[[str], None]) -> None:
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{port}/"
    about = predictor.about
    say(f"serving {about.name}: {len(about.class_names)} classes, {', '.join(about.backbones)}")
    say(f"page: {address}   interface: {address}docs   stop: Ctrl-C")
    if not is_loopback(options.host):
        say(f"WARNING: {options.host} can be reached from other machines, by anybody, without password or encryption.")
    if options.open_page:
        webbrowser.open(address)


@contextlib.contextmanager
def _stop_on_signals(stopped: asyncio.Event) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C set the event."""
    loop = asyncio.get_running_loop()
    signals: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in signals:
            loop.add_signal_handler(number, stopped.set)
    except (NotImplementedError, RuntimeError):  # Windows, or another thread than the main one
        signals = ()
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
