"""What a client can hold, tried with bare sockets against a server that answers with the request that it got."""

import asyncio
import contextlib
import socket
from email.utils import parsedate_to_datetime

import pytest

from inkfold.serve.http import HttpLimits, HttpServer
from inkfold.serve.messages import Refusal, Response

QUICK = HttpLimits(
    body_bytes=1000, held_bytes=100_000, connections=8, head_s=0.3, body_s=0.3, idle_s=0.3, send_s=0.5, grace_s=2
)
GET = b"GET /a?x=1&x=2&y= HTTP/1.1\r\nhost: h\r\n\r\n"


def refuse(refusal: Refusal):
    return refusal.response()


async def echo(request):
    if request.path == "/slow":
        await asyncio.sleep(0.2)
    if request.path == "/large":
        return Response(200, b"x" * 20_000_000)
    return Response(200, f"{request.method} {request.path} {dict(request.query)} {request.body.decode()}".encode())


def with_server(scenario, limits=QUICK, answer=echo):
    """Run a scenario against a server."""

    async def run():
        server = HttpServer(answer, limits, refuse)
        port = await server.open("127.0.0.1", 0)
        try:
            return await asyncio.wait_for(scenario(port, server), 20)
        finally:
            await server.close()
            assert server.connections == 0
            assert server._held_bytes == 0

    return asyncio.run(run())


async def send(port, *parts, pause_s=0.0, until_end=True):
    """Send parts, and give what comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
    data = b""
    with contextlib.suppress(ConnectionError):
        data = await (reader.read() if until_end else reader.read(65536))
    writer.close()
    return data


def test_a_request_is_read_and_answered():
    data = with_server(lambda port, server: send(port, GET))
    assert data.startswith(b"HTTP/1.1 200 ")
    assert data.endswith(b"\r\n\r\nGET /a {'x': '2'} ")


def test_a_connection_serves_many_requests_also_when_they_come_at_once():
    body = b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc"
    data = with_server(lambda port, server: send(port, GET + body + GET))
    assert data.count(b"HTTP/1.1 200 ") == 3
    assert b"POST /b {} abc" in data


def test_a_chunked_body_and_one_cut_in_bits_are_read_whole():
    head = b"POST /c HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
    data = with_server(lambda port, server: send(port, head, b"2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n", pause_s=0.02))
    assert data.endswith(b"POST /c {} abc")


def test_a_client_that_expects_100_continue_gets_it():
    head = b"POST /d HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    data = with_server(lambda port, server: send(port, head, b"ok", pause_s=0.05))
    assert data.startswith(b"HTTP/1.1 100 ")
    assert data.endswith(b"POST /d {} ok")


def test_no_connection_is_upgraded_to_another_protocol():
    head = b"GET /a HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    assert with_server(lambda port, server: send(port, head + GET)).count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_client_that_wants_one_answer_is_disconnected(version):
    text = b"GET /a HTTP/" + version + b"\r\nhost: h\r\nconnection: close\r\n\r\n"
    assert with_server(lambda port, server: send(port, text), HttpLimits()).startswith(b"HTTP/1.1 200 ")


def test_head_is_answered_without_a_body():
    data = with_server(lambda port, server: send(port, GET.replace(b"GET", b"HEAD")))
    assert b"content-length: 19" in data or b"content-length: 20" in data
    assert data.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "head",
    [b"content-length: 1001\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n" + b"ffff\r\n" + b"x" * 0xFFFF],
    ids=["announced", "chunked"],
)
def test_a_body_that_is_too_large_is_refused(head):
    data = with_server(lambda port, server: send(port, b"POST / HTTP/1.1\r\nhost: h\r\n" + head))
    assert data.startswith(b"HTTP/1.1 413 ")
    assert b"at most 1000 bytes" in data


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00",
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\n" + b"a: " + b"b" * 100_000,
        b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["tls", "no-http", "no-host", "negative", "two-lengths", "long-head", "bad-chunk"],
)
def test_bytes_that_are_no_request_are_refused(text):
    status = int(with_server(lambda port, server: send(port, text)).split()[1])
    assert status in (400, 408, 431)


def test_a_slow_head_and_a_slow_body_get_408():
    head = with_server(lambda port, server: send(port, GET[:10]))
    body = with_server(lambda port, server: send(port, b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc"))
    assert head.startswith(b"HTTP/1.1 408 ")
    assert body.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_dribbles_has_no_more_time_than_one_that_stalls():
    parts = [b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 999\r\n\r\n", *([b"x"] * 20)]
    data = with_server(lambda port, server: send(port, *parts, pause_s=0.05))
    assert data.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_two_ways_to_tell_a_bodys_length_close_the_connection(version):
    head = b"POST /b HTTP/" + version + b"\r\nhost: h\r\nconnection: keep-alive\r\ntransfer-encoding: Chunked\r\n"
    head += b"content-length: 999999\r\n" if version == b"1.1" else b""
    data = with_server(lambda port, server: send(port, head + b"\r\n3\r\nabc\r\n0\r\n\r\n" + GET))
    assert data.count(b"HTTP/1.1 ") == 1
    assert b"POST /b {} abc" in data
    assert b"connection: close" in data.lower()


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://example.org:80/a?x=2", "/a {'x': '2'}"),
        (b"HTTPS://example.org", "/ {}"),
        (b"http://example.org?x=2", "/ {'x': '2'}"),
        (b"/http://example.org/", "/http://example.org/ {}"),
    ],
)
def test_absolute_targets_are_accepted_and_override_the_host(target, path):
    hosts = []

    async def answer(request):
        hosts.append(request.headers["host"])
        return await echo(request)

    head = GET.replace(b"/a?x=1&x=2&y=", target)
    data = with_server(lambda port, server: send(port, head), answer=answer)
    assert data.endswith(f"\r\n\r\nGET {path} ".encode())
    assert hosts == ["h" if target.startswith(b"/") else "example.org:80" if b":80" in target else "example.org"]


@pytest.mark.parametrize("version", [b"2.0", b"2", b"3", b"0.9", b"11.1"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PRI"])
def test_other_major_versions_are_refused(version, method):
    data = with_server(lambda port, server: send(port, method + b" / HTTP/" + version + b"\r\nhost: h\r\n\r\n" + GET))
    assert data.startswith(b"HTTP/1.1 505 ")
    assert data.count(b"HTTP/1.1 505 ") == 1


def test_a_refusal_of_a_head_request_has_no_body():
    text = b"HEAD / HTTP/1.1\r\nhost: h\r\ncontent-length: 1001\r\n\r\n"
    data = with_server(lambda port, server: send(port, text))
    assert data.startswith(b"HTTP/1.1 413 ")
    assert data.endswith(b"\r\n\r\n")


def test_every_answer_has_its_date():
    for text in (GET, b"nonsense\r\n\r\n"):
        data = with_server(lambda port, server, text=text: send(port, text))
        (date,) = [line for line in data.split(b"\r\n") if line.startswith(b"date: ")]
        assert parsedate_to_datetime(date[6:].decode()).tzinfo is not None


def test_a_silent_connection_is_closed_without_a_word():
    assert with_server(lambda port, server: send(port)) == b""


def test_stalled_clients_never_keep_others_out():
    async def scenario(port, server):
        stalled = []
        for text in (b"", GET[:10], b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc"):
            for _ in range(8):
                stalled.append(await asyncio.open_connection("127.0.0.1", port))
                stalled[-1][1].write(text)
        await asyncio.sleep(0.05)
        answers = [await send(port, GET, until_end=False) for _ in range(20)]
        for _, writer in stalled:
            writer.close()
        return answers, server.evictions

    patient = HttpLimits(connections=8)  # of 10 and 30 s: nobody is closed for being late within this test
    answers, evictions = with_server(scenario, patient)
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert evictions >= 16


def test_when_all_connections_are_being_answered_the_next_one_gets_503():
    async def scenario(port, server):
        slow = [asyncio.create_task(send(port, GET.replace(b"/a", b"/slow"))) for _ in range(8)]
        await asyncio.sleep(0.1)
        return await send(port, GET), await asyncio.gather(*slow)

    late, slow = with_server(scenario)
    assert late.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in late
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in slow)


def test_bodies_together_hold_no_more_than_their_limit():
    async def scenario(port, server):
        head = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 60000\r\n\r\n"
        first = asyncio.create_task(send(port, head + b"x" * 50_000))
        await asyncio.sleep(0.1)
        second = await send(port, head + b"y" * 60_000, until_end=False)
        return await first, second

    first, second = with_server(scenario, HttpLimits(body_bytes=60_000, held_bytes=100_000, head_s=5, body_s=5))
    assert first.startswith(b"HTTP/1.1 408 ")
    assert second.startswith(b"HTTP/1.1 200 ")


def test_a_client_that_takes_no_answer_is_disconnected():
    async def scenario(port, server):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(GET.replace(b"/a", b"/large"))
            await asyncio.sleep(0.1)
            assert server.connections == 1
            await asyncio.sleep(0.8)
            return server.connections

    assert with_server(scenario) == 0


def test_a_stop_lets_answers_in_flight_go_out_and_closes_idle_connections():
    async def scenario(port, server):
        idle = asyncio.create_task(send(port))
        busy = asyncio.create_task(send(port, GET.replace(b"/a", b"/slow")))
        await asyncio.sleep(0.1)
        await server.close()
        return await idle, await busy

    idle, busy = with_server(scenario, HttpLimits())
    assert idle == b""
    assert busy.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in busy


def test_a_stop_waits_no_longer_than_its_grace():
    async def forever(request):
        await asyncio.sleep(60)

    async def scenario(port, server):
        stuck = asyncio.create_task(send(port, GET))
        await asyncio.sleep(0.05)
        await server.close()
        return await stuck

    assert with_server(scenario, HttpLimits(grace_s=0.1), forever) == b""
