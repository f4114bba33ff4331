"""The server's life: it listens, loads the model, answers, and stops when it is told to, with what is in flight answered."""

import asyncio
import contextlib
import signal
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inkfold.errors import InkfoldError
from inkfold.serve.batching import QueueLimits
from inkfold.serve.http import HttpLimits, HttpServer
from inkfold.serve.metrics import Counters
from inkfold.serve.model import OnnxModel
from inkfold.serve.nearest import Nearest, index_path, load_nearest
from inkfold.serve.predict import Predictor
from inkfold.serve.routes import Service
from inkfold.serve.security import is_loopback
from inkfold.serve.static import SITE, StaticFiles

FILES = 2048
HOST, PORT = "127.0.0.1", 8000


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How a model is served.

    Attributes:
        host: The address to listen on.
        port: 0 takes a free one.
        threads: Of each forward; None takes two at most.
        open_page: Open it in the user's browser.
        site: The page's files.
        wire: What clients can hold.
        queue: What may wait.
    """

    host: str = HOST
    port: int = PORT
    threads: int | None = None
    open_page: bool = False
    site: Path = SITE
    wire: HttpLimits = field(default_factory=HttpLimits)
    queue: QueueLimits = field(default_factory=QueueLimits)


def serve(model: Path, options: ServeOptions, say: Callable[[str], None]) -> None:
    """Serve a model until SIGTERM or Ctrl-C.

    Args:
        model: An ONNX file or a set's directory.
        options: How.
        say: Told where the page is, and when it stops.

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
    counters = Counters()
    service = Service(StaticFiles(options.site), counters, options.wire, guarded=is_loopback(options.host))
    wire = HttpServer(service.answer, options.wire, service.refuse)
    counters.add_gauge("inkfold_connections", "Open connections.", lambda: wire.connections)
    counters.add_gauge("inkfold_evictions", "Connections closed to make room.", lambda: wire.evictions)
    port = await _listen(wire, options)
    with _until_told(stopped):
        try:
            answerer, index = await asyncio.to_thread(load_model, model, options.threads)
            service.desk = Predictor(answerer, index, counters, options.queue)
            _announce(options, port, answerer, say)
            await stopped.wait()
            say("stopping: answers in flight go out first")
        finally:
            service.is_stopping = True
            await wire.close()
            if service.desk is not None:
                await service.desk.close()


def load_model(model: Path, threads: int | None = None) -> tuple[OnnxModel, Nearest | None]:
    """Load a model, with the index beside it if there is one.

    Args:
        model: An ONNX file or a set's directory.
        threads: Of each forward; None takes two at most.

    Returns:
        The model and its index.

    Raises:
        ExportError: If either is damaged or they don't belong together.
    """
    answerer, index = OnnxModel(model, threads), index_path(model)
    about = answerer.about
    return answerer, load_nearest(index, len(about.class_names), about.num_features) if index.is_file() else None


def _allow_files() -> None:
    """Let the process open as many files as it has connections, where the usual limit is lower, as macOS's 256 is."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _listen(wire: HttpServer, options: ServeOptions) -> int:
    try:
        return await wire.open(options.host, options.port)
    except (OSError, OverflowError) as error:
        what = f"{options.host}:{options.port}"
        raise InkfoldError(
            f"{what}: can't listen there ({getattr(error, 'strerror', None) or error}). Choose another with --host or --port."
        ) from None


def _announce(options: ServeOptions, port: int, answerer: OnnxModel, say: Callable[[str], None]) -> None:
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{port}/"
    about = answerer.about
    say(f"serving {about.name}: {len(about.class_names)} classes, {', '.join(about.backbones)}")
    say(f"page: {address}   interface: {address}docs   stop: Ctrl-C")
    if not is_loopback(options.host):
        say(f"WARNING: {options.host} can be reached from other machines, by anybody, without password or encryption.")
    if options.open_page:
        webbrowser.open(address)


@contextlib.contextmanager
def _until_told(stopped: asyncio.Event) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C set the event."""
    loop = asyncio.get_running_loop()
    signals: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
    try:
        for one in signals:
            loop.add_signal_handler(one, stopped.set)
    except (NotImplementedError, RuntimeError):  # Windows, or another thread than the main one
        signals = ()
    try:
        yield
    finally:
        for one in signals:
            loop.remove_signal_handler(one)
