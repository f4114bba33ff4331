"""The server's life: it listens, loads the model, answers, and on SIGTERM or Ctrl-C stops once answers in flight are sent."""

import asyncio
import contextlib
import signal
import socket
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from inkfold.errors import InkfoldError
from inkfold.serve.access import Access, AccessOptions, with_token
from inkfold.serve.announce import page_lines, page_link, url_host
from inkfold.serve.batching import QueueLimits
from inkfold.serve.http import HttpLimits, HttpServer
from inkfold.serve.metrics import ServerMetrics
from inkfold.serve.predict import Predictor
from inkfold.serve.routes import METRICS, Service
from inkfold.serve.security import is_loopback, resolve, split_listen
from inkfold.serve.static import SITE, StaticFiles
from inkfold.serve.tokens import make_token

OPEN_FILES = 2048
HOST, PORT = "127.0.0.1", 8000


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How a model is served.

    Attributes:
        host: Address to listen on, such as `127.0.0.1`, which this machine alone reaches; empty for all addresses.
        port: The port to listen on; 0 takes a free one.
        threads: Threads of each forward pass; None takes two at most.
        open_page: Whether the page is opened in the user's browser.
        site: The directory of the page's files.
        limits: How much clients can hold, and how long.
        queue: How many drawings may wait, and how long.
        access: Who may use the server.
    """

    host: str = HOST
    port: int = PORT
    threads: int | None = None
    open_page: bool = False
    site: Path = SITE
    limits: HttpLimits = field(default_factory=HttpLimits)
    queue: QueueLimits = field(default_factory=QueueLimits)
    access: AccessOptions = field(default_factory=AccessOptions)


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
    model: Path,
    options: ServeOptions,
    say: Callable[[str], None],
    stopped: asyncio.Event | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a model until an event is set; see `serve`.

    Args:
        model: The exported ONNX file, or the directory of an exported set.
        options: Where the server listens, and its limits.
        say: Called with each line for the user.
        stopped: Ends the server when it is set; None leaves that to signals.
        ready: Called with the page's address once the model is loaded; None calls nothing.
    """
    stopped = stopped or asyncio.Event()
    settled = _settle(options)
    access, metrics = Access(settled.access), ServerMetrics()
    _allow_files()
    service = Service(StaticFiles(options.site), metrics, options.limits, access)
    server = HttpServer(partial(service.answer, check_host=True), options.limits, service.refuse, service.screen)
    monitor = HttpServer(service.answer_monitor, options.limits, service.refuse)
    metrics.add_gauge("inkfold_connections", "Open connections.", lambda: server.connections)
    metrics.add_gauge("inkfold_evictions", "Connections closed to make room.", lambda: server.evictions)
    with _stop_on_signals(stopped):
        try:
            if settled.access.metrics_port is not None:
                service.move_metrics()
                monitor_port = await _listen(monitor, settled.host, settled.access.metrics_port, "--metrics-port")
                say(f"metrics: http://{url_host(settled.host)}:{monitor_port}{METRICS}, without a token")
            port = await _listen(server, settled.host, settled.port, "--port")
            predictor = await service.load(model, options.threads, options.queue)
            say(f"serving {_describe(predictor)}")
            for line in page_lines(settled.host, port, access, options.access):
                say(line)
            if ready is not None:
                ready(page_link(settled.host, port, access))
            if options.open_page:
                webbrowser.open(page_link(settled.host, port, access))
            await stopped.wait()
            say("stopping: answers in flight go out first")
        finally:
            service.is_stopping = True
            await server.close()
            await monitor.close()
            await service.close()


def _settle(options: ServeOptions) -> ServeOptions:
    """Split the host from a port in it, and make the token that a server which others can reach must have."""
    host, port = split_listen(options.host)
    access = options.access
    if access.token is None and not access.no_token and not is_loopback(host):
        access = with_token(access, make_token())
    return replace(options, host=host, port=options.port if port is None else port, access=access)


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


async def _listen(server: HttpServer, host: str, port: int, option: str) -> int:
    addresses = resolve(host) or [host]
    try:
        return await server.open(addresses, port or _free_port(addresses))
    except (OSError, OverflowError) as error:
        what = f"{url_host(host)}:{port}"
        raise InkfoldError(
            f"{what}: can't listen there ({getattr(error, 'strerror', None) or error}). Choose another with --host or {option}."
        ) from None


def _free_port(addresses: Sequence[str]) -> int:
    """Find a port that several addresses can have together, by the first of them; 0, which is any, for a single one."""
    if len(addresses) == 1:
        return 0
    family = socket.AF_INET6 if ":" in addresses[0] else socket.AF_INET
    with socket.create_server((addresses[0], 0), family=family) as probe:
        return int(probe.getsockname()[1])


def _describe(predictor: Predictor) -> str:
    about = predictor.about
    return f"{about.name}: {len(about.class_names)} classes, {', '.join(about.backbones)}"


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
