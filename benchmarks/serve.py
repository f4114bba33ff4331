"""What `inkfold serve` bears: 4, 32 and 256 clients at once, then 2,000 malformed requests while it goes on answering.

    python benchmarks/serve.py                 # the demo's run, a minute a load
    python benchmarks/serve.py RUN_OR_ONNX
    python benchmarks/serve.py --quick

Clients live in this process and share the machine with the server, which is a process of its own: the figures are lower bounds.
Every client asks, waits for the answer and asks again. Answers are compared with those that a single client got before.
"""

import argparse
import asyncio
import contextlib
import io
import json
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from inkfold.data.synthetic import draw_sketch
from inkfold.data.synthetic_shapes import CLASS_NAMES

CLIENTS = (4, 32, 256)
DISTINCT = 64
MALFORMED, AT_ONCE, STALLED = 2000, 64, 40
PROBE_EVERY_S = 0.1
PATIENCE_S = 60.0

Reply = tuple[int, bytes]


@dataclass
class Tally:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    in_time: int = 0


class Client:
    """One connection, opened again when it was closed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, data: bytes) -> Reply:
        """Send bytes and read one answer; 0 where the server closes without one."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        try:
            async with asyncio.timeout(PATIENCE_S):
                with contextlib.suppress(ConnectionError):
                    writer.write(data)
                    await writer.drain()
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            self.close()
            return 0, b""
        if b"connection: close" in head.lower():
            self.close()
        return int(head.split()[1]), body

    def close(self) -> None:
        """Let go of the connection."""
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


def post(body: bytes, kind: str = "image/png", path: str = "/predict?top=1&nearest=6", more: str = "") -> bytes:
    """Write a request."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def drawings() -> list[bytes]:
    """Write requests with drawings: two thirds files, one third strokes."""
    requests, rng = [], np.random.default_rng(0)
    for i in range(DISTINCT):
        if i % 3 == 2:
            strokes = [rng.uniform(0, 300, (20, 2)).round(1).tolist() for _ in range(6)]
            requests.append(post(json.dumps({"strokes": strokes, "width": 300, "height": 300}).encode(), "application/json"))
        else:
            requests.append(post(png(draw_sketch(CLASS_NAMES[i % len(CLASS_NAMES)], 0, i, 256))))
    return requests


def png(pixels: np.ndarray) -> bytes:
    """Write a picture's file."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def bomb(width: int, height: int) -> bytes:
    """Write a PNG of a few bytes that announces a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def malformed() -> list[bytes]:
    """Write what a server must refuse, each sort in turn, with what differs from request to request."""
    good, rng = png(draw_sketch(CLASS_NAMES[0], 0, 0, 256)), np.random.default_rng(1)
    sorts: list[Callable[[], bytes]] = [
        lambda: post(good[: rng.integers(8, len(good) - 20)]),
        lambda: post(rng.bytes(int(rng.integers(1, 5000)))),
        lambda: post(bomb(60_000, 60_000)),
        lambda: post(bomb(2**31 - 1, 2**31 - 1)),
        lambda: post(good, "text/html"),
        lambda: post(good, "multipart/form-data; boundary=abc"),
        lambda: post(b"--abc\r\n\r\n" + rng.bytes(500), "multipart/form-data; boundary=abc"),
        lambda: post(b"[" * int(rng.integers(1, 90_000)), "application/json"),
        lambda: post(json.dumps({"strokes": [[[0, 0]]] * 3000, "width": 1, "height": 1}).encode(), "application/json"),
        lambda: post(b'{"strokes": [[[1e999, NaN]]], "width": 1, "height": 1}', "application/json"),
        lambda: post(b"", "image/png"),
        lambda: post(good, more="content-encoding: gzip\r\n"),
        lambda: post(good, path="/predict?top=-1"),
        lambda: post(good, path="/predict/" + "x" * int(rng.integers(1, 3000))),
        lambda: post(good).replace(b"POST", b"DELETE", 1),
        lambda: post(good).replace(b"host: localhost", b"host: evil.example", 1),
        lambda: b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n",
        lambda: b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n",
        lambda: b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
        lambda: b"NONSENSE " + rng.bytes(60).replace(b"\n", b"") + b"\r\n\r\n",
    ]
    return [sorts[i % len(sorts)]() for i in range(MALFORMED)]


async def answers_of(port: int, requests: list[bytes]) -> list[str]:
    """Ask one after the other."""
    client = Client(port)
    answers = [class_of(await client.send(request)) for request in requests]
    client.close()
    return answers


def class_of(reply: Reply) -> str:
    """Read the best class of an answer."""
    status, body = reply
    if status != 200:
        raise SystemExit(f"expected an answer, got {status} {body[:300]!r}")
    return str(json.loads(body)["answers"][0]["top"][0]["class_name"])


async def load(port: int, clients: int, seconds: float, asked: list[tuple[bytes, str]]) -> Tally:
    """Let clients ask until the time is over."""
    tally, end = Tally(), time.perf_counter() + seconds

    async def work(turn: int) -> None:
        client = Client(port)
        while time.perf_counter() < end:
            request, expected = asked[turn % len(asked)]
            started = time.perf_counter()
            status, body = await client.send(request)
            tally.statuses[status] += 1
            if status == 200:
                tally.seconds.append(time.perf_counter() - started)
                tally.in_time += time.perf_counter() < end
                tally.wrong += class_of((status, body)) != expected
            else:
                await asyncio.sleep(0.1)
            turn += 1
        client.close()

    await asyncio.gather(*(work(7 * i) for i in range(clients)))
    return tally


async def attack(port: int, asked: list[tuple[bytes, str]]) -> tuple[Tally, Tally]:
    """Send what is malformed, also slowly, and ask for drawings all the while."""
    bad, good, queue, over = Tally(), Tally(), malformed(), asyncio.Event()

    async def work() -> None:
        while queue:
            client = Client(port)  # a new one each: most of these end their connection
            status, _ = await client.send(queue.pop())
            bad.statuses[status] += 1
            client.close()

    async def stall() -> None:
        client = Client(port)
        status, _ = await client.send(asked[0][0][:-20])
        bad.statuses[status] += 1
        client.close()

    async def probe() -> None:
        client, turn = Client(port), 0
        while not over.is_set():
            request, expected = asked[turn % len(asked)]
            started = time.perf_counter()
            good.wrong += class_of(await client.send(request)) != expected
            good.seconds.append(time.perf_counter() - started)
            turn += 1
            await asyncio.sleep(PROBE_EVERY_S)
        client.close()

    probing = asyncio.create_task(probe())
    await asyncio.gather(*(work() for _ in range(AT_ONCE)), *(stall() for _ in range(STALLED)))
    over.set()
    await probing
    return bad, good


async def memory_mb(port: int) -> float:
    """Ask the server for its memory."""
    client = Client(port)
    _, body = await client.send(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
    client.close()
    lines = (line.split() for line in body.decode().splitlines())
    return float(next(line[1] for line in lines if line[0] == "inkfold_resident_bytes")) / 2**20


@contextlib.contextmanager
def serving(model: Path) -> Iterator[int]:
    """Run the server in a process of its own; gives its port."""
    command = [sys.executable, "-m", "inkfold", "serve", str(model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        address = next((line.split()[1] for line in lines if line.startswith("page: ")), None)
        if address is None:
            raise SystemExit("the server didn't start")
        try:
            yield int(address.rstrip("/").rpartition(":")[2])
        finally:
            process.terminate()
            process.stdout.read()
    if process.returncode:
        raise SystemExit(f"the server ended with exit code {process.returncode}")


async def measure(port: int, seconds: float) -> dict[str, float]:
    """Run all loads and print what was seen."""
    requests, result = drawings(), dict[str, float]()
    asked = list(zip(requests, await answers_of(port, requests), strict=True))
    await load(port, 16, min(seconds, 5), asked)  # warm
    result["memory_start_mb"] = await memory_mb(port)
    print(f"{'clients':>8} {'answers/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'refused':>8} {'lost':>6} {'wrong':>6} {'MiB':>6}")
    for clients in CLIENTS:
        tally = await load(port, clients, seconds, asked)
        p50, p99 = (1000 * float(np.quantile(tally.seconds, q)) for q in (0.5, 0.99))
        refused = sum(count for status, count in tally.statuses.items() if status not in (0, 200))
        rate, lost = tally.in_time / seconds, tally.statuses[0]
        row = f"{clients:>8} {rate:>10.1f} {p50:>8.1f} {p99:>8.1f} {refused:>8} {lost:>6} {tally.wrong:>6}"
        print(f"{row} {await memory_mb(port):>6.0f}")
        result |= {f"per_s_{clients}": rate, f"p50_ms_{clients}": p50, f"p99_ms_{clients}": p99, f"refused_{clients}": refused}
        result[f"wrong_{clients}"] = tally.wrong + lost
    bad, good = await attack(port, asked)
    print(f"malformed: {dict(sorted(bad.statuses.items()))}; meanwhile {len(good.seconds)} drawings asked, {good.wrong} wrong,")
    print(f"  the slowest in {1000 * max(good.seconds):.0f} ms")
    result |= {"malformed": bad.statuses.total(), "unanswered": bad.statuses[0], "accepted": bad.statuses[200]}
    result |= {"failed": sum(count for status, count in bad.statuses.items() if status >= 500), "wrong_meanwhile": good.wrong}
    result["memory_end_mb"] = await memory_mb(port)
    return result


def main() -> None:
    """Measure, print a table and the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="a run or an exported model; none makes the demo's run")
    parser.add_argument("--quick", action="store_true", help="3 s a load")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        model = given.model or Path(directory) / "demo/run"
        if given.model is None:
            command = [sys.executable, "-m", "inkfold", "demo", "--out", str(model.parent)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with serving(model) as port:
            result = asyncio.run(measure(port, 3 if given.quick else 60))
    print("RESULT " + " ".join(f"{name}={value:.4g}" for name, value in result.items()))


if __name__ == "__main__":
    main()
