"""Processes of their own without the five seconds of computing that importing PyTorch and timm costs each time.

A server imports them once per test run and starts no thread; each job is a fork of it with its own arguments, environment,
working directory and output. Workers share the server, which ends when the last of them has.
"""

import atexit
import contextlib
import functools
import json
import os
import signal
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
import contextlib, gc, json, os, selectors, signal, socket, sys
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
    answer(connection, [*group])

def answer(connection, values):
    with contextlib.suppress(OSError):  # a test may leave before its processes have ended, as after it killed them
        connection.sendall(json.dumps(values).encode() + b"\\n")

def received(connection):
    with contextlib.suppress(OSError):
        return connection.recv(1 << 20)

def reap():
    wake[0].recv(4096)
    for connection, group in list(groups.items()):
        for child in [child for child, code in group.items() if code is None]:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                group[child] = os.waitstatus_to_exitcode(status)
        if None not in group.values():
            answer(connection, [*group.values()])
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
            with contextlib.suppress(OSError):
                user.sendall(b"ready\\n")
        elif data := received(key.fileobj):
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


DIRECTORY = "INKFOLD_TESTS_FORKS"  # the environment variable that says where the server listens


@dataclass(frozen=True)
class Done:
    """How a process ended and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def share_server(directory: Path) -> None:
    """Let all processes that name the same directory use one server."""
    directory.mkdir(parents=True, exist_ok=True)
    os.environ[DIRECTORY] = str(directory)


@functools.cache
def _server() -> TextIO:
    """Give this process's own connection, which keeps the server alive."""
    if DIRECTORY not in os.environ:
        share_server(Path(tempfile.mkdtemp()))
    directory = Path(os.environ[DIRECTORY])
    with FileLock(directory / "forks.lock"):
        connection = _connected(directory) or _started(directory)
    file = _file(connection)
    atexit.register(file.close)
    return file


def _file(connection: socket.socket) -> TextIO:
    """Give a file that closes its connection."""
    file = connection.makefile("rw", encoding="utf-8")
    connection.close()
    return file


def _connected(directory: Path) -> socket.socket | None:
    """Connect unless nobody listens there, or one who is about to end."""
    connection = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError):
        connection.connect(str(directory / "forks"))
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
    while (connection := _connected(directory)) is None:
        assert os.waitpid(server, os.WNOHANG) == (0, 0), errors.read_text(encoding="utf-8")
        time.sleep(0.02)
    return connection


def run_together(*jobs: dict[str, object]) -> list[Done]:
    """Run jobs at once, each a dictionary of `code`, its `argv`, `env` and `cwd`, and wait for all of them."""
    with tempfile.TemporaryDirectory() as place:
        outputs = [{name: str(Path(place, f"{name}{i}")) for name in ("out", "err")} for i in range(len(jobs))]
        _ask(_server(), *({**job, **output} for job, output in zip(jobs, outputs, strict=True)))
        codes = json.loads(_server().readline())
        return [
            Done(code, *(Path(path).read_text(encoding="utf-8") for path in output.values()))
            for code, output in zip(codes, outputs, strict=True)
        ]


def _ask(server: TextIO, *jobs: dict[str, object]) -> list[int]:
    """Let the server start jobs; gives their processes."""
    server.write(json.dumps([{"limit_s": LIMIT_S, **job} for job in jobs]) + "\n")
    server.flush()
    return json.loads(server.readline())


class Process:
    """A job that runs beside the test, which may read its `stdout` and `stderr` and send signals to `pid`."""

    def __init__(self, job: dict[str, object]) -> None:
        _server()
        self._server = _file(_connected(Path(os.environ[DIRECTORY])))
        with tempfile.TemporaryDirectory() as place:
            pipes = {name: str(Path(place, name)) for name in ("out", "err")}
            for pipe in pipes.values():
                os.mkfifo(pipe)
            [self.pid] = _ask(self._server, {**job, **pipes})
            self.stdout, self.stderr = (Path(pipe).open(encoding="utf-8") for pipe in pipes.values())  # noqa: SIM115

    def wait(self) -> int:
        """Wait for the end; gives the exit status, or less than 0 for a signal."""
        return json.loads(self._server.readline())[0]

    def kill(self, ending: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal and wait for the end."""
        os.kill(self.pid, ending)
        return self.wait()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        for file in (self.stdout, self.stderr, self._server):
            file.close()


def main() -> None:
    """Run inkfold's command line with this process's arguments and environment in a fork, as a launcher's worker."""
    job = {"code": INKFOLD, "argv": ["inkfold", *sys.argv[1:]], "env": {**os.environ}, "cwd": str(Path.cwd())}
    [done] = run_together(job)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
