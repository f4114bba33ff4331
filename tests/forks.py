"""Processes of their own without the five seconds of computing that importing PyTorch and timm costs each time.

A server imports them once per test run and starts no thread; each job is a fork of it with its own arguments, environment,
working directory and output. Workers share the server, which ends when the last of them has.
"""

import contextlib
import functools
import json
import os
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from filelock import FileLock

INKFOLD = "import runpy; runpy.run_module('inkfold', run_name='__main__', alter_sys=True)"
LIMIT_S = 300
SERVER = """
import gc, json, os, selectors, signal, socket, sys
from inkfold.models.torchvision_compat import declare_missing_operators
declare_missing_operators()
import timm, timm.optim, torch._dynamo, torch.distributed.tensor
import charset_normalizer, pandas, PIL.Image, pyarrow.parquet, rich.table, scipy.special, tensorboardX
import inkfold.cli.main, inkfold.pipeline.train, inkfold.finetune.train_folds, inkfold.ensemble.build
PIL.Image.init()
gc.collect()
gc.freeze()  # else each fork's collections copy and search all that was imported

def run(job):
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    for descriptor, path in ((1, job["out"]), (2, job["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.alarm(job["limit_s"])
    sys.argv = job["argv"]
    exec(compile(job["code"], "<job>", "exec"), {"__name__": "__main__"})

def start(connection, jobs):
    group = groups[connection] = {}
    for job in jobs:
        child = os.fork()
        if not child:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for one in [listener, *wake, *buffers]:
                one.close()
            run(job)  # the interpreter then ends as it would after a script, or with SystemExit or a traceback
            sys.exit()
        group[child] = None

def reap():
    wake[0].recv(4096)
    for connection, group in list(groups.items()):
        for child in [child for child, code in group.items() if code is None]:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                group[child] = os.waitstatus_to_exitcode(status)
        if None not in group.values():
            connection.sendall(json.dumps([*group.values()]).encode() + b"\\n")
            del groups[connection]

listener, wake, buffers, groups = socket.socket(socket.AF_UNIX), socket.socketpair(), {}, {}
listener.bind(sys.argv[1])
listener.listen()
for one in wake:
    one.setblocking(False)
signal.signal(signal.SIGCHLD, lambda *_: None)
signal.set_wakeup_fd(wake[1].fileno())
selector = selectors.DefaultSelector()
for one in (listener, wake[0]):
    selector.register(one, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        if key.fileobj is wake[0]:
            reap()
        elif key.fileobj is listener:
            user = listener.accept()[0]
            buffers[user] = b""
            selector.register(user, selectors.EVENT_READ)
            user.sendall(b"ready\\n")
        elif data := key.fileobj.recv(1 << 20):
            buffers[key.fileobj] += data
            if data.endswith(b"\\n"):
                start(key.fileobj, json.loads(buffers[key.fileobj]))
                buffers[key.fileobj] = b""
        else:
            selector.unregister(key.fileobj)
            del buffers[key.fileobj]
            key.fileobj.close()
            if not buffers:
                sys.exit()
"""


@dataclass(frozen=True)
class Done:
    """How a process ended and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


_own: dict[str, Path] = {}  # the directory in which the server listens


def share_server(directory: Path) -> None:
    """Let all workers that name the same directory use one server."""
    directory.mkdir(parents=True, exist_ok=True)
    _own["directory"] = directory


@functools.cache
def _server() -> TextIO:
    directory = _own.get("directory") or Path(tempfile.mkdtemp())
    with FileLock(directory / "forks.lock"):
        connection = _connected(directory / "forks") or _started(directory)
    return connection.makefile("rw", encoding="utf-8")


def _connected(path: Path) -> socket.socket | None:
    """Connect unless nobody listens there, or one who is about to end."""
    connection = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError):
        connection.connect(str(path))
        if connection.recv(6) == b"ready\n":
            return connection
    connection.close()
    return None


def _started(directory: Path) -> socket.socket:
    (directory / "forks").unlink(missing_ok=True)
    errors = directory / "forks.errors"
    command = [sys.executable, "-W", "error", "-c", SERVER, str(directory / "forks")]
    one_thread = {"OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **one_thread}
    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    files.append((os.POSIX_SPAWN_OPEN, 2, str(errors), write, 0o600))
    server = os.posix_spawn(sys.executable, command, environment, file_actions=files)
    while (connection := _connected(directory / "forks")) is None:
        assert os.waitpid(server, os.WNOHANG) == (0, 0), errors.read_text(encoding="utf-8")
        time.sleep(0.02)
    return connection


def run_together(*jobs: dict[str, object]) -> list[Done]:
    """Run jobs at once, each a dictionary of `code`, its `argv`, `env` and `cwd`, and wait for all of them."""
    with tempfile.TemporaryDirectory() as place:
        outputs = [{name: str(Path(place, f"{name}{i}")) for name in ("out", "err")} for i in range(len(jobs))]
        lines = [{"limit_s": LIMIT_S, **job, **output} for job, output in zip(jobs, outputs, strict=True)]
        server = _server()
        server.write(json.dumps(lines) + "\n")
        server.flush()
        codes = json.loads(server.readline())
        return [
            Done(code, *(Path(path).read_text(encoding="utf-8") for path in output.values()))
            for code, output in zip(codes, outputs, strict=True)
        ]
