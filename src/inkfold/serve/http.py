"""HTTP/1.1 on asyncio with a limit on everything that a client can hold: time, bytes and connections.

A slow or silent client is disconnected when its time is over, or sooner: past the limit of connections or of held bytes, the
client that has kept the server waiting longest makes room. So stalled clients never keep others out.
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, unquote

import h11

from inkfold.serve.messages import Refusal, Request, Response

READ_BYTES = 65536
ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)
MAJOR_VERSION = re.compile(r" HTTP/(\d+)(?:\.\d+)?'\)?$")  # at the end of h11's words for a request line that it doesn't know
LINGER_S = 2.0  # a client that is still sending loses an answer that comes with a reset

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How much clients can hold, and how long.

    Attributes:
        body_bytes: The most bytes of one request's body.
        held_bytes: The most bytes of all bodies together that are being read or answered.
        connections: How many connections may be open at once.
        head_s: The most seconds until a request's head has arrived.
        body_s: The most seconds until its body has arrived.
        idle_s: The most seconds between two requests on a connection.
        send_s: The most seconds until the client has taken an answer.
        grace_s: The most seconds for answers in flight when the server stops.
    """

    body_bytes: int = 8 << 20
    held_bytes: int = 256 << 20
    connections: int = 512
    head_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 60.0
    send_s: float = 20.0
    grace_s: float = 10.0


class _Connection:
    """One client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.http = h11.Connection(h11.SERVER)
        self.client = str((writer.get_extra_info("peername") or ("",))[0])
        self.since = asyncio.get_running_loop().time()
        self.timer: asyncio.Timeout | None = None  # set while the server waits for the client
        self.is_idle = True  # between requests
        self.is_new = True  # no request has been answered yet
        self.is_head = False  # the request that is answered wants no body
        self.must_close = False  # after the answer, since where the request ended isn't certain
        self.is_evicted = False
        self.held_bytes = 0

    def evict(self) -> None:
        """End the client's time now."""
        self.is_evicted = True
        if self.timer is not None and not self.timer.expired():
            self.timer.reschedule(asyncio.get_running_loop().time())


class HttpServer:
    """Listens, reads requests and sends answers.

    Args:
        answer: Returns the answer to a whole request; must not raise.
        limits: How much clients can hold, and how long.
        refuse: Returns the answer to bytes that never became a request.
        screen: Called with each request's head before its body is read; raises a refusal for those whose body isn't wanted.
    """

    def __init__(
        self,
        answer: Handler,
        limits: HttpLimits,
        refuse: Callable[[Refusal], Response],
        screen: Callable[[Request], object] = lambda head: None,
    ) -> None:
        self._answer, self.limits, self._refuse, self._screen = answer, limits, refuse, screen
        self._tasks: dict[_Connection, asyncio.Task[Any]] = {}
        self._held_bytes = 0
        self._server: asyncio.Server | None = None
        self._is_stopping = False
        self.evictions = 0

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._tasks)

    async def open(self, host: str | Sequence[str], port: int) -> int:
        """Start to listen at one or several addresses, on a free port where it is 0, and return the port."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=READ_BYTES, backlog=1024)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, let answers in flight go out, and close what is left when the grace period is over."""
        self._is_stopping = True
        if self._server is not None:
            self._server.close()
        for connection in self._tasks:
            if connection.is_idle:
                connection.evict()
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self.limits.grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection, task = _Connection(reader, writer), asyncio.current_task()
        assert task is not None
        writer.transport.set_write_buffer_limits(0)  # drain waits until the client has taken everything
        refusal = None if self._makes_room() else out_of("connections", f"{self.connections} connections are open")
        self._tasks[connection] = task
        try:
            if refusal is not None:
                await self._send(connection, self._refuse(refusal), None)
                await self._linger(connection)
            else:
                while await self._exchange(connection):
                    pass
        except (OSError, TimeoutError, h11.ProtocolError):
            pass  # the client has gone, or takes no answer
        finally:
            del self._tasks[connection]
            self._release(connection)
            writer.transport.abort()

    def _makes_room(self) -> bool:
        """Evict the client that has stalled longest if there are too many; False where all are being answered."""
        return self.connections < self.limits.connections or self._evict_oldest(lambda connection: True)

    def _evict_oldest(self, condition: Callable[[_Connection], bool]) -> bool:
        slow = [
            connection
            for connection in self._tasks
            if connection.timer is not None and not connection.is_evicted and condition(connection)
        ]
        if not slow:
            return False
        self.evictions += 1
        min(slow, key=lambda connection: connection.since).evict()
        return True

    async def _exchange(self, connection: _Connection) -> bool:
        """Read a request and send its answer; False when the connection is to be closed."""
        request = None
        try:
            request = await self._read(connection)
            if request is None:
                return False
            response = await self._answer(request)
        except Refusal as refusal:
            response = self._refuse(refusal)
        self._release(connection)
        await self._send(connection, response, request)
        if connection.http.our_state is not h11.DONE or connection.http.their_state is not h11.DONE:
            await self._linger(connection)
            return False
        connection.http.start_next_cycle()
        connection.since, connection.is_idle, connection.is_new = asyncio.get_running_loop().time(), True, False
        return True

    async def _read(self, connection: _Connection) -> Request | None:
        """Read a whole request; None when the client has closed or never began."""
        try:
            head = await self._read_head(connection)
            if head is None:
                return None
            connection.is_head = head.method == b"HEAD"
            _check_version(head.http_version.decode("ascii").partition(".")[0])
            names = {name for name, _ in head.headers}
            # A client and a proxy may take different ones for the length: RFC 9112, 6.1.
            connection.must_close = b"transfer-encoding" in names and (
                b"content-length" in names or head.http_version == b"1.0"
            )
            self._screen(_request(head, b"", connection.client))
            body = await self._read_body(connection, head)
        except h11.RemoteProtocolError as error:
            version = MAJOR_VERSION.search(str(error))
            _check_version(version[1] if version else "1")
            text = f"invalid HTTP: {error}"
            raise Refusal(
                error.error_status_hint, "malformed_request", text, "HTTP/1.1", "Send a request as RFC 9112 defines it."
            ) from None
        return _request(head, body, connection.client)

    async def _read_head(self, connection: _Connection) -> h11.Request | None:
        limits, loop = self.limits, asyncio.get_running_loop()
        deadline = loop.time() + (limits.head_s if connection.is_new else limits.idle_s)
        while True:
            event = connection.http.next_event()
            if isinstance(event, h11.Request):
                connection.is_idle = False
                return event
            if event is not h11.NEED_DATA:
                return None
            has_begun = connection.http.trailing_data[0] != b""
            if has_begun and connection.is_idle:
                connection.is_idle, deadline = False, loop.time() + limits.head_s
            if not await self._receive(connection, deadline):
                if has_begun:
                    raise too_slow("head", limits.head_s)
                return None

    async def _read_body(self, connection: _Connection, head: h11.Request) -> bytes:
        limit = self.limits.body_bytes
        headers = dict(head.headers)
        announced = b"0" if b"transfer-encoding" in headers else headers.get(b"content-length", b"0")
        if int(announced) > limit:
            raise body_too_large(f"announces {int(announced)} bytes", limit)
        if connection.http.they_are_waiting_for_100_continue:
            connection.writer.write(connection.http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        body, deadline = bytearray(), asyncio.get_running_loop().time() + self.limits.body_s
        while True:
            event = connection.http.next_event()
            if isinstance(event, h11.EndOfMessage):
                return bytes(body)
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > limit:
                    raise body_too_large("is longer", limit)
                self._hold(connection, len(event.data))
            elif event is not h11.NEED_DATA or not await self._receive(connection, deadline):
                raise too_slow("body", self.limits.body_s)

    async def _receive(self, connection: _Connection, deadline: float) -> bool:
        """Pass more bytes to the parser; False when the time is over."""
        try:
            async with asyncio.timeout_at(deadline) as connection.timer:
                if connection.is_evicted or (self._is_stopping and connection.is_idle):
                    return False
                connection.http.receive_data(await connection.reader.read(READ_BYTES))
                return True
        except TimeoutError:
            return False
        finally:
            connection.timer = None

    def _hold(self, connection: _Connection, count: int) -> None:
        connection.held_bytes += count
        self._held_bytes += count
        over = self._held_bytes > self.limits.held_bytes
        if over and not self._evict_oldest(lambda other: other.held_bytes > 0):
            raise out_of("memory", f"{self._held_bytes} bytes of requests are held")

    def _release(self, connection: _Connection) -> None:
        self._held_bytes -= connection.held_bytes
        connection.held_bytes = 0

    async def _send(self, connection: _Connection, response: Response, request: Request | None) -> None:
        closing = self._is_stopping or request is None or connection.must_close
        date = ("date", formatdate(usegmt=True))
        headers = [date, *response.all_headers(), *([("connection", "close")] if closing else [])]
        if connection.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        data = connection.http.send(h11.Response(status_code=response.status, headers=headers)) or b""
        if not connection.is_head:
            data += connection.http.send(h11.Data(response.body)) or b""
        data += connection.http.send(h11.EndOfMessage()) or b""
        connection.since = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.limits.send_s) as connection.timer:
                connection.writer.write(data)
                await connection.writer.drain()
        finally:
            connection.timer = None

    async def _linger(self, connection: _Connection) -> None:
        """Read on for a moment and discard it, so that the client sees the answer before the connection ends."""
        if connection.is_evicted or self.connections > 2 * self.limits.connections:
            return
        with contextlib.suppress(OSError, TimeoutError):
            connection.writer.write_eof()
            async with asyncio.timeout(LINGER_S) as connection.timer:
                while await connection.reader.read(READ_BYTES):
                    pass
        connection.timer = None


def _request(head: h11.Request, body: bytes, client: str) -> Request:
    target = head.target.decode("ascii", "replace")
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
    if absolute := ABSOLUTE.fullmatch(target):  # its host overrides the header: RFC 9112, 3.2.2
        headers["host"], target = absolute[1], absolute[2] if absolute[2].startswith("/") else "/" + absolute[2]
    path, _, query = target.partition("?")
    return Request(head.method.decode("ascii").upper(), unquote(path), dict(parse_qsl(query)), headers, body, client=client)


def _check_version(major: str) -> None:
    if major != "1":
        got = f"a request of HTTP/{major[:9]}"
        raise Refusal(505, "wrong_version", got, "HTTP/1.1", "Send the request as HTTP/1.1, or through a proxy that does.")


def body_too_large(got: str, limit_bytes: int) -> Refusal:
    """Build the refusal of a body that is longer than the limit."""
    return Refusal(413, "body_too_large", f"the body {got}", f"at most {limit_bytes} bytes", "Send a smaller picture.")


def too_slow(part: str, limit_s: float) -> Refusal:
    """Build the refusal of a request whose head or body did not arrive in time."""
    expected = f"all of it within {limit_s:g} s, or sooner where others wait"
    return Refusal(408, "too_slow", f"the request's {part} did not arrive", expected, "Send it again, faster.")


def out_of(resource: str, got: str) -> Refusal:
    """Build the refusal of a request when all connections or all memory for bodies are in use."""
    return Refusal(503, f"out_of_{resource}", got, "fewer at once", "Wait a second and try again.")
