"""`inkfold export` in a process that ends with this one: its progress is passed on, and its other lines are kept."""

import contextlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from inkfold.runtime.progress import Progress

PROGRESS = re.compile(r"(.+): (\d+)/(\d+)\n?")  # as `runtime.progress.line_progress` writes it
KEPT_LINES = 200
GRACE_S = 5.0
EXIT_TERMINATED = 128 + signal.SIGTERM


def run_export(arguments: Sequence[str], progress: Progress) -> subprocess.CompletedProcess[str]:
    """Run `inkfold export` and wait for it; whatever ends the wait, SIGTERM among it, ends the process too.

    Args:
        arguments: What follows `inkfold export` on the command line.
        progress: Called as each stage of the export goes on.

    Returns:
        The exit code, and what it wrote to standard error but for its progress, the last lines of it.
    """
    command = [sys.executable, "-m", "inkfold", "export", *arguments]
    with _terminated(), _child(command) as process:
        assert process.stderr is not None
        kept: list[str] = []
        for line in process.stderr:
            if (match := PROGRESS.fullmatch(line)) is not None:
                progress(match[1], int(match[2]), int(match[3]))
            else:
                kept = [*kept[1 - KEPT_LINES :], line]
        return subprocess.CompletedProcess(command, process.wait(), "", "".join(kept))


@contextlib.contextmanager
def _child(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a process, and end it if the block ends before it."""
    process = subprocess.Popen(  # noqa: S603 - this very program
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(GRACE_S)
                except subprocess.TimeoutExpired:
                    process.kill()


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """Let SIGTERM raise `SystemExit` while the block runs, unless somebody handles it already."""
    is_ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if is_ours:
        signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(EXIT_TERMINATED)
