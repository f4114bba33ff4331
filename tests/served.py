"""A server in a thread of the tests' process, and a client."""

import asyncio
import contextlib
import http.client
import io
import json
import re
import socket
import threading
from dataclasses import dataclass

import numpy as np
from PIL import Image

from inkfold.serve.server import ServeOptions, serve_until


@dataclass
class Server:
    """Where a server listens, and what it said."""

    port: int
    said: list

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, method, path, body=None, headers=None):
        """Give status, headers by lower-case name and body."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            client.request(method, path, body, headers or {})
            answer = client.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            client.close()

    def ask_json(self, method, path, body=None, kind="application/octet-stream"):
        """Give status and the body's values."""
        if not isinstance(body, bytes | None):
            body, kind = json.dumps(body).encode(), "application/json"
        status, _, data = self.ask(method, path, body, {"content-type": kind} if body is not None else {})
        return status, json.loads(data)

    def connect(self):
        """Open a bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


def answered(connection):
    """Read what a bare connection gets until the server closes it."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            data += chunk
    return data


@contextlib.contextmanager
def served(model, **options):
    """Serve a model on a free port."""
    said, ready, stopped, loops, errors = [], threading.Event(), asyncio.Event(), [], []

    def say(text):
        said.append(text)
        if text.startswith("page:"):
            ready.set()

    async def run():
        loops.append(asyncio.get_running_loop())
        await serve_until(model, ServeOptions(port=0, **options), say, stopped)

    def work():
        try:
            asyncio.run(run())
        except BaseException as error:
            errors.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(120)
        if errors:
            raise errors[0]
        page = next(line for line in said if line.startswith("page:"))
        yield Server(int(re.search(r":(\d+)/", page)[1]), said)
    finally:
        if not errors:
            loops[0].call_soon_threadsafe(stopped.set)
        thread.join(60)
        assert not thread.is_alive()


def png(pixels):
    """A picture's file."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def bar(side, size_px=64):
    """A page with a bar of ink at one of its sides: left, right, top or bottom."""
    page = np.full((size_px, size_px), 255, np.uint8)
    place = {"left": np.s_[:, 4:12], "right": np.s_[:, -12:-4], "top": np.s_[4:12], "bottom": np.s_[-12:-4]}[side]
    page[place] = 0
    page[:2], page[-2:], page[:, :2], page[:, -2:] = 255, 255, 255, 255
    return page
