"""How long work reports its progress: it calls a function with (stage, done, total), and so needs no display of its own."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

Progress = Callable[[str, int, int], None]
LOG_EVERY_S = 10.0


def silent(stage: str, done: int, total: int) -> None:
    """Ignore progress: the default of functions that take a `Progress`."""


@contextlib.contextmanager
def console_progress() -> Iterator[Progress]:
    """Show progress on standard error: bars on a terminal, elsewhere a line every ten seconds and at the end of each stage.

    Yields:
        The function that stages call with their name, what is done and the total.
    """
    if sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield line_progress()


@contextlib.contextmanager
def _bars() -> Iterator[Progress]:
    from rich import progress  # noqa: PLC0415 - 30 ms that `--help` needn't pay
    from rich.console import Console  # noqa: PLC0415

    columns = (
        progress.TextColumn("{task.description:<18}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, progress.TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


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
