"""The server in a thread of a Python program or a notebook: it listens when it is made, and closes by `with` or `close`."""

import asyncio
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from inkfold.errors import InkfoldError
from inkfold.runtime.progress import Progress, silent
from inkfold.serve.access import Access, AccessOptions
from inkfold.serve.prepare import find_model
from inkfold.serve.security import split_listen
from inkfold.serve.server import ServeOptions, serve_until

log = logging.getLogger("inkfold.serve")

CLOSE_S = 30.0  # answers in flight go out first


@final
class BackgroundServer:
    """A server that answers from a thread of its own. What the command prints goes to the log.

    Attributes:
        url: Where the page is, with the token if it needs one; the interface is described below it, at `docs`.

    Args:
        model: A finished run's directory, which is exported once, or an exported model.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        options: Fields of `ServeOptions` and `AccessOptions` by name.
        progress: Receives what is done while a run is exported.

    Raises:
        InkfoldError: If the model can't be loaded, the address can't be listened on, or an option isn't one.
    """

    def __init__(
        self, model: Path, host: str, port: int, options: Mapping[str, Any] | None = None, progress: Progress = silent
    ) -> None:
        settled = _options(host, port, options or {})
        found = find_model(model, log.info, progress=progress)
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._ready: Future[str] = Future()
        self._thread = threading.Thread(target=self._run, args=(found, settled), name="inkfold-server", daemon=True)
        self._thread.start()
        self.url = self._ready.result()

    @property
    def is_running(self) -> bool:
        """Whether it still answers."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop once answers in flight are sent; a server that is closed stays so."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(CLOSE_S)

    def __enter__(self) -> Self:
        """Return the server, which listens already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the server."""
        self.close()

    def __repr__(self) -> str:
        """Say where it answers."""
        return f"<inkfold server at {self.url}>" if self.is_running else f"<inkfold server, closed, was at {self.url}>"

    def _run(self, model: Path, options: ServeOptions) -> None:
        """Serve in this thread; what keeps the server from listening is raised where it was made."""
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(serve_until(model, options, _log, self._stopped, self._ready.set_result))
        except BaseException as error:
            if self._ready.done():
                log.exception("the server stopped")
            else:
                self._ready.set_exception(error)
        finally:
            self._loop.close()


def _log(text: str) -> None:
    """Keep what the command prints; what begins so is to be seen."""
    log.log(logging.WARNING if text.startswith("WARNING: ") else logging.INFO, "%s", text.removeprefix("WARNING: "))


def _options(host: str, port: int, given: Mapping[str, Any]) -> ServeOptions:
    """Sort options to those of the server and those of who may use it."""
    own = {field.name for field in fields(ServeOptions)} - {"host", "port", "access"}
    of_access = {field.name for field in fields(AccessOptions)}
    wrong = sorted(given.keys() - own - of_access)
    if wrong:
        known = ", ".join(sorted(own | of_access))
        raise InkfoldError(f"serve: got {', '.join(wrong)}, expected options among {known}.")
    access = AccessOptions(**{name: value for name, value in given.items() if name in of_access})
    Access(access)  # what is wrong with it is said before a run is exported
    place, other = split_listen(host, None)
    settings = {name: value for name, value in given.items() if name in own}
    return ServeOptions(place, port if other is None else other, access=access, **settings)
