"""How long work reports its progress: it calls a function with (stage, done, total), and so needs no display of its own."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from inkfold.runtime.notebook import NotebookText, in_notebook

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, TaskID

Progress = Callable[[str, int, int], None]
ProgressOption: TypeAlias = Progress | bool | None  # what functions of `inkfold` take
LOG_EVERY_S = 10.0


def silent(stage: str, done: int, total: int) -> None:
    """Ignore progress: the default of functions that take a `Progress`."""


@contextlib.contextmanager
def open_progress(progress: ProgressOption) -> Iterator[Progress]:
    """Open what a function of `inkfold` was given as `progress`.

    Args:
        progress: A function of a stage's name, what is done and the total; False for none; True for `console_progress`; None
            for the same, but with few lines where there is neither a notebook nor a terminal.

    Yields:
        The function that stages call with their name, what is done and the total.
    """
    if callable(progress):
        yield progress
    elif progress is False:
        yield silent
    else:
        with console_progress(ends=progress is True) as report:
            yield report


@contextlib.contextmanager
def console_progress(*, ends: bool = True) -> Iterator[Progress]:
    """Show progress: bars below a notebook's cell or on a terminal, elsewhere lines on standard error.

    Args:
        ends: Whether a line is written at the end of each stage; otherwise only of stages that take longer than ten seconds.

    Yields:
        The function that stages call with their name, what is done and the total.
    """
    if in_notebook():
        with _notebook_bars() as report:
            yield report
    elif sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield line_progress(ends=ends)


@contextlib.contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console  # noqa: PLC0415 - 30 ms that `--help` needn't pay
    from rich.progress import Progress as Bars  # noqa: PLC0415

    with Bars(*_columns(), console=Console(stderr=True)) as bars:
        yield _reporting(bars)


@contextlib.contextmanager
def _notebook_bars() -> Iterator[Progress]:
    from rich.progress import Progress as Bars  # noqa: PLC0415

    bars = Bars(*_columns(), disable=True)  # rich's own display in notebooks needs widgets and a thread
    text = NotebookText(bars.get_renderable)
    update = _reporting(bars)

    def report(stage: str, done: int, total: int) -> None:
        update(stage, done, total)
        text.refresh()

    try:
        yield report
    finally:
        text.stop()


def _columns() -> "tuple[ProgressColumn, ...]":
    from rich import progress  # noqa: PLC0415

    return (
        progress.TextColumn("{task.description:<18}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )


def _reporting(bars: "Bars") -> Progress:
    """Make the function that gives each stage its bar."""
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    return report


def line_progress(*, ends: bool = True) -> Progress:
    """Write lines to standard error: one every ten seconds of a stage, and one at its end.

    Args:
        ends: Whether the end of a stage is written that took less than ten seconds.

    Returns:
        The function that stages call with their name, what is done and the total.
    """
    last: dict[str, float] = {}
    written: set[str] = set()

    def report(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        is_due = now - last.setdefault(stage, now) >= LOG_EVERY_S
        if is_due or (done >= total and (ends or stage in written)):
            last[stage] = now
            written.add(stage)
            sys.stderr.write(f"{stage}: {done}/{total}\n")

    return report
