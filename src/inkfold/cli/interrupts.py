"""Ctrl-C while nothing has been done yet: imports, and the command line's own parsing, end at once and without a traceback."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

EXIT_INTERRUPTED = 130


@contextlib.contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """End the process quietly at Ctrl-C while the block runs, unless its signals are handled by others or ignored."""
    with _handled_by(_exit, instead_of=signal.default_int_handler):
        yield


@contextlib.contextmanager
def interrupts_raised() -> Iterator[None]:
    """Raise `KeyboardInterrupt` at Ctrl-C again while a command runs, which says then what was kept."""
    with _handled_by(signal.default_int_handler, instead_of=_exit):
        yield


def _exit(number: int, frame: FrameType | None) -> None:
    os._exit(EXIT_INTERRUPTED)


@contextlib.contextmanager
def _handled_by(handler: Any, *, instead_of: Any) -> Iterator[None]:
    is_ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is instead_of
    if is_ours:
        signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, instead_of)
