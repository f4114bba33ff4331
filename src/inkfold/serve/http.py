"""HTTP/1.1 on asyncio with a limit on everything that a client can hold: time, bytes and connections.

A client that is slow or silent is closed when its time is over, or sooner: past the limit of connections or of bytes
that are held, whoever has been waited for the longest makes room. So stalled clients never keep others out.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

import h11

from inkfold.serve.messages import Refusal, Request, Response

READ_BYTES = 65536
NOT_MODIFIED = 304  # whose length would be that of the body that it leaves out
LINGER_S = 2.0  # a client that is still sending loses an answer that comes with a reset

Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What clients can hold.

    Attributes:
        body_bytes: Of one request.
        held_bytes: Of all bodies together that are being read or answered.
        connections: Open at once.
        head_s: Until a request's head is there.
        body_s: Until its body is there.
        idle_s: Between requests.
        send_s: Until an answer is taken.
        grace_s: For answers in flight when the server stops.
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
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.http = h11.Connection(h11.SERVER)
        self.since = asyncio.get_running_loop().time()
        self.timer: asyncio.Timeout | None = None  # there while the client is waited for
        self.is_idle = True  # between requests
        self.is_new = True  # no request was answered yet
        self.is_evicted = False
        self.held_bytes = 0

    def evict(self) -> None:
        """Let the time that the client has be over now."""
        self.is_evicted = True
        if self.timer is not None and not self.timer.expired():
            self.timer.reschedule(asyncio.get_running_loop().time())


class HttpServer:
    """Listens, reads requests, sends answers.

    Args:
        answer: Gives the answer to a whole request; raises nothing.
        limits: What clients can hold.
        refuse: Gives the answer to what never became a request.
    """

    def __init__(self, answer: Answer, limits: HttpLimits, refuse: Callable[[Refusal], Response]) -> None:
        self._answer, self.limits, self._refuse = answer, limits, refuse
        self._talks: dict[_Connection, asyncio.Task[Any]] = {}
        self._held_bytes = 0
        self._server: asyncio.Server | None = None
        self._is_stopping = False
        self.evictions = 0

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._talks)

    async def open(self, host: str, port: int) -> int:
        """Start to listen.

        Args:
            host: The address to listen on.
            port: 0 takes a free one.

        Returns:
            The port.
        """
        self._server = await asyncio.start_server(self._serve, host, port, limit=READ_BYTES, backlog=1024)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop to listen, let answers in flight go out, and close what is left when the grace is over."""
        self._is_stopping = True
        if self._server is not None:
            self._server.close()
        for talk in self._talks:
            if talk.is_idle:
                talk.evict()
        tasks = list(self._talks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self.limits.grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk, task = _Connection(reader, writer), asyncio.current_task()
        assert task is not None
        writer.transport.set_write_buffer_limits(0)  # drain waits until the client has taken everything
        refusal = None if self._makes_room() else _busy("connections", f"{self.connections} connections are open")
        self._talks[talk] = task
        try:
            if refusal is not None:
                await self._send(talk, self._refuse(refusal), None)
                await self._linger(talk)
            else:
                while await self._exchange(talk):
                    pass
        except (OSError, TimeoutError, h11.ProtocolError):
            pass  # the client has gone, or takes no answer
        finally:
            del self._talks[talk]
            self._release(talk)
            writer.transport.abort()

    def _makes_room(self) -> bool:
        """Close the connection that has waited longest, if there are too many; False where all are being answered."""
        return self.connections < self.limits.connections or self._evict_oldest(lambda talk: True)

    def _evict_oldest(self, wanted: Callable[[_Connection], bool]) -> bool:
        slow = [talk for talk in self._talks if talk.timer is not None and not talk.is_evicted and wanted(talk)]
        if not slow:
            return False
        self.evictions += 1
        min(slow, key=lambda talk: talk.since).evict()
        return True

    async def _exchange(self, talk: _Connection) -> bool:
        """Read a request and send its answer; False when the connection is to be closed."""
        request = None
        try:
            request = await self._read(talk)
            if request is None:
                return False
            response = await self._answer(request)
        except Refusal as refusal:
            response = self._refuse(refusal)
        self._release(talk)
        await self._send(talk, response, request)
        if talk.http.our_state is not h11.DONE or talk.http.their_state is not h11.DONE:
            await self._linger(talk)
            return False
        talk.http.start_next_cycle()
        talk.since, talk.is_idle, talk.is_new = asyncio.get_running_loop().time(), True, False
        return True

    async def _read(self, talk: _Connection) -> Request | None:
        """Read a whole request; None when the client has closed or never began."""
        try:
            head = await self._read_head(talk)
            if head is None:
                return None
            body = await self._read_body(talk, head)
        except h11.RemoteProtocolError as error:
            text = f"isn't HTTP: {error}"
            raise Refusal(
                error.error_status_hint, "malformed_request", text, "HTTP/1.1", "Send a request as RFC 9112."
            ) from None
        return _request(head, body)

    async def _read_head(self, talk: _Connection) -> h11.Request | None:
        limits, loop = self.limits, asyncio.get_running_loop()
        deadline = loop.time() + (limits.head_s if talk.is_new else limits.idle_s)
        while True:
            event = talk.http.next_event()
            if isinstance(event, h11.Request):
                talk.is_idle = False
                return event
            if event is not h11.NEED_DATA:
                return None
            begun = talk.http.trailing_data[0] != b""
            if begun and talk.is_idle:
                talk.is_idle, deadline = False, loop.time() + limits.head_s
            if not await self._receive(talk, deadline):
                if begun:
                    raise _slow("head", limits.head_s)
                return None

    async def _read_body(self, talk: _Connection, head: h11.Request) -> bytes:
        limit = self.limits.body_bytes
        announced = next((value for name, value in head.headers if name == b"content-length"), b"0")
        if int(announced) > limit:
            raise _too_large(f"announces {int(announced)} bytes", limit)
        if talk.http.they_are_waiting_for_100_continue:
            talk.writer.write(talk.http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        body, deadline = bytearray(), asyncio.get_running_loop().time() + self.limits.body_s
        while True:
            event = talk.http.next_event()
            if isinstance(event, h11.EndOfMessage):
                return bytes(body)
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > limit:
                    raise _too_large("is longer", limit)
                self._hold(talk, len(event.data))
            elif event is not h11.NEED_DATA or not await self._receive(talk, deadline):
                raise _slow("body", self.limits.body_s)

    async def _receive(self, talk: _Connection, deadline: float) -> bool:
        """Hand more bytes to the parser; False when the time is over."""
        try:
            async with asyncio.timeout_at(deadline) as talk.timer:
                if talk.is_evicted or (self._is_stopping and talk.is_idle):
                    return False
                talk.http.receive_data(await talk.reader.read(READ_BYTES))
                return True
        except TimeoutError:
            return False
        finally:
            talk.timer = None

    def _hold(self, talk: _Connection, count: int) -> None:
        talk.held_bytes += count
        self._held_bytes += count
        over = self._held_bytes > self.limits.held_bytes
        if over and not self._evict_oldest(lambda other: other.held_bytes > 0):
            raise _busy("memory", f"{self._held_bytes} bytes of requests are held")

    def _release(self, talk: _Connection) -> None:
        self._held_bytes -= talk.held_bytes
        talk.held_bytes = 0

    async def _send(self, talk: _Connection, response: Response, request: Request | None) -> None:
        closing = self._is_stopping or request is None
        headers = [
            ("content-type", response.content_type),
            *([("content-length", str(len(response.body)))] if response.status != NOT_MODIFIED else []),
            *response.headers,
            *([("connection", "close")] if closing else []),
        ]
        if talk.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        data = talk.http.send(h11.Response(status_code=response.status, headers=headers)) or b""
        if request is None or request.method != "HEAD":
            data += talk.http.send(h11.Data(response.body)) or b""
        data += talk.http.send(h11.EndOfMessage()) or b""
        talk.since = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.limits.send_s) as talk.timer:
                talk.writer.write(data)
                await talk.writer.drain()
        finally:
            talk.timer = None

    async def _linger(self, talk: _Connection) -> None:
        """Read on for a moment and forget it, so that the client finds the answer before the end."""
        if talk.is_evicted or self.connections > 2 * self.limits.connections:
            return
        with contextlib.suppress(OSError, TimeoutError):
            talk.writer.write_eof()
            async with asyncio.timeout(LINGER_S) as talk.timer:
                while await talk.reader.read(READ_BYTES):
                    pass
        talk.timer = None


def _request(head: h11.Request, body: bytes) -> Request:
    path, _, query = head.target.decode("ascii", "replace").partition("?")
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
    return Request(head.method.decode("ascii").upper(), unquote(path), dict(parse_qsl(query)), headers, body)


def _too_large(got: str, limit: int) -> Refusal:
    return Refusal(413, "body_too_large", f"the body {got}", f"at most {limit} bytes", "Send a smaller picture.")


def _slow(part: str, limit_s: float) -> Refusal:
    expected = f"all of it within {limit_s:g} s, or sooner where others wait"
    return Refusal(408, "too_slow", f"the request's {part} did not arrive", expected, "Send it again, faster.")


def _busy(what: str, got: str) -> Refusal:
    return Refusal(503, f"out_of_{what}", got, "fewer at once", "Wait a second and try again.")
