"""An ASGI application with the server's routes, limits on bodies and headers, for mounting under another HTTP server."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from inkfold.errors import InkfoldError
from inkfold.serve.access import Access, AccessOptions
from inkfold.serve.batching import QueueLimits
from inkfold.serve.http import HttpLimits, body_too_large, out_of, too_slow
from inkfold.serve.messages import Refusal, Request
from inkfold.serve.metrics import ServerMetrics
from inkfold.serve.prepare import find_model
from inkfold.serve.routes import Service
from inkfold.serve.security import is_loopback
from inkfold.serve.static import SITE, StaticFiles

log = logging.getLogger("inkfold.serve")

MAX_LENGTH_DIGITS = 18  # of a content-length

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Application:
    """An ASGI 3 application that serves a model, for uvicorn, hypercorn, Starlette or FastAPI; also called `asgi`.

    It has the routes, answers, security headers and limits on bodies of `inkfold serve`. How long a client may take to send a
    request's head or to take an answer, and how many may be connected, is up to the server that runs it. Lifespan events load
    the model and stop its threads; a mounted application gets none, so enter it in the outer application's lifespan
    (`async with application`), or the first request loads the model.

    Args:
        model: A finished run, which is exported once, an ONNX file, or the directory of a set of models.
        threads: Threads of each forward pass; None takes two at most.
        check_host: Whether requests of foreign hosts and origins are refused, as protection against DNS rebinding; None
            refuses them on connections to a loopback address. Behind a proxy that checks the host itself, pass False.
        site: The directory of the page's files.
        limits: How much clients can hold, of which `body_bytes`, `held_bytes` and `body_s` count; None takes the defaults.
        queue: How many drawings may wait, and how long; None takes the defaults.
        access: Who is served: a token, names of hosts, proxies; None serves everybody. Its `no_token` and `metrics_port` don't
            count here.

    Example:
        >>> application = inkfold.serve.asgi("runs/best")
        >>> uvicorn.run(application)

    Source: ASGI 3.0, https://asgi.readthedocs.io/en/latest/specs/www.html.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        threads: int | None = None,
        check_host: bool | None = None,
        site: Path = SITE,
        limits: HttpLimits | None = None,
        queue: QueueLimits | None = None,
        access: AccessOptions | None = None,
    ) -> None:
        self._model, self._threads, self._check_host, self._site = Path(model), threads, check_host, site
        self._limits, self._queue = limits or HttpLimits(), queue or QueueLimits()
        self._access, self._held_bytes = Access(access), 0
        self._loading: asyncio.Task[Service] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI 3 defines it."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._exchange(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise ValueError(f"got an ASGI connection of type {scope['type']!r}, expected http or lifespan")

    async def startup(self) -> Service:
        """Load the model and start its threads, unless that is done or under way.

        Returns:
            The service that answers requests.

        Raises:
            InkfoldError: If the model can't be loaded.
            RuntimeError: If the application runs in another event loop.
        """
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
        elif self._loading.get_loop() is not asyncio.get_running_loop():
            raise RuntimeError("the application runs in another event loop; shut it down there first, or build another one")
        return await asyncio.shield(self._loading)  # one client that leaves doesn't end it for the others

    async def shutdown(self) -> None:
        """Stop the model's threads; the application can be started again."""
        loading, self._loading = self._loading, None
        if loading is not None:
            (service,) = await asyncio.gather(loading, return_exceptions=True)
            if isinstance(service, Service):
                await service.close()

    async def __aenter__(self) -> "Application":
        """Start, for a lifespan of one's own."""
        await self.startup()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Stop."""
        await self.shutdown()

    async def _load(self) -> Service:
        service = Service(StaticFiles(self._site), ServerMetrics(), self._limits, self._access)
        path = await asyncio.to_thread(find_model, self._model, log.info)
        await service.load(path, self._threads, self._queue)
        return service

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] == "lifespan.startup":
            try:
                await self.startup()
            except InkfoldError as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
        await self.shutdown()
        await send({"type": "lifespan.shutdown.complete"})

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, body = await self.startup(), bytearray()
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            if not await self._read(headers, receive, body):
                return  # the client has gone
            request = _request(scope, headers, bytes(body))
            response = await service.answer(request, check_host=self._checks(scope))
        except Refusal as refusal:
            response = service.refuse(refusal)
        finally:
            self._held_bytes -= len(body)
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.all_headers()]
        await send({"type": "http.response.start", "status": response.status, "headers": encoded})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})

    async def _read(self, headers: Mapping[str, str], receive: Receive, body: bytearray) -> bool:
        """Read the whole body; False when the client has disconnected."""
        announced, limit = headers.get("content-length", "")[:MAX_LENGTH_DIGITS], self._limits.body_bytes
        if announced.isdecimal() and int(announced) > limit:
            raise body_too_large(f"announces {announced} bytes", limit)
        try:
            async with asyncio.timeout(self._limits.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return False
                    self._hold(body, message.get("body", b""))
                    if not message.get("more_body", False):
                        return True
        except TimeoutError:
            raise too_slow("body", self._limits.body_s) from None

    def _hold(self, body: bytearray, data: bytes) -> None:
        if len(body) + len(data) > self._limits.body_bytes:
            raise body_too_large("is longer", self._limits.body_bytes)
        if self._held_bytes + len(data) > self._limits.held_bytes:
            raise out_of("memory", f"{self._held_bytes} bytes of requests are held")
        body += data
        self._held_bytes += len(data)

    def _checks(self, scope: Scope) -> bool:
        if self._check_host is not None:
            return self._check_host
        server = scope.get("server")
        return server is None or is_loopback(server[0].removeprefix("::ffff:"))  # IPv4 on a socket of both versions


asgi = Application  # an application is made by calling it


def _request(scope: Scope, headers: Mapping[str, str], body: bytes) -> Request:
    """Take the mount's path off the request's; the path is empty where the mount's own slash is missing."""
    root, path = scope.get("root_path", "").rstrip("/"), scope["path"]
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    elif not root:
        path = path or "/"
    query = dict(parse_qsl(scope["query_string"].decode("ascii", "replace")))
    client = str((scope.get("client") or ("",))[0])
    return Request(scope["method"].upper(), path, query, headers, body, root, client, scope.get("scheme", "http"))
