"""What a search says while it runs: the best figure so far, what is tried now, what is left of the budget.

A status is a `Progress` to which the main loop also reports where steps begin and end. It takes the one that it was called
with as progress, or wraps a plain function; the command line opens one on standard error.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, final, runtime_checkable

from inkfold.auto.record import AutoRecord, Step
from inkfold.auto.wording import best_in_words, outcome_in_words
from inkfold.evaluation.formatting import counted, duration
from inkfold.runtime.notebook import NotebookText, in_notebook
from inkfold.runtime.progress import Progress, line_progress

if TYPE_CHECKING:
    from rich.console import RenderableType

STAGES_SHOWN = 3
STEPS_SHOWN = 8
REFRESH_PER_S = 4
NARROW = 60  # columns


@runtime_checkable
class Status(Protocol):
    """What the main loop of a search reports to."""

    def start(self, record: AutoRecord, elapsed_s: float = 0.0) -> None:
        """Begin a call of a search, `elapsed_s` seconds ago, beside what its record says that earlier calls spent."""

    def begin(self, step: Step) -> None:
        """Say that a step begins; stages are its own until it ends."""

    def end(self, step: Step) -> None:
        """Say that a step ended, or that it isn't tried; its figures and the record's best are up to date."""

    def note(self, text: str) -> None:
        """Say something that belongs to no step: a sentence for the user."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report the progress of a stage of the present step."""


def as_status(progress: Progress) -> Status:
    """Return a progress function that is a status as it is, and give a status to any other, which hears of stages alone."""
    return progress if isinstance(progress, Status) else _StagesAlone(progress)


@contextlib.contextmanager
def console_status() -> Iterator[Status]:
    """Show a search: one live block on a terminal or below a notebook's cell, elsewhere a line where a step begins and ends.

    Yields:
        The status, to be passed to `train_any` as its progress. When the block ends by an error or Ctrl-C, the best figure so
        far stays on the screen.
    """
    on_terminal = sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    status = _LiveBlock() if on_terminal or in_notebook() else _Lines()
    with status:
        yield status


@final
class _StagesAlone:
    """Passes stages on to a progress function."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def start(self, record: AutoRecord, elapsed_s: float = 0.0) -> None: ...

    def begin(self, step: Step) -> None: ...

    def end(self, step: Step) -> None: ...

    def note(self, text: str) -> None: ...

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._progress(stage, done, total)


class _Clock:
    """A record, and the time of its search."""

    def __init__(self) -> None:
        self.record = AutoRecord()
        self._before_s = 0.0
        self._started = time.monotonic()

    def start(self, record: AutoRecord, elapsed_s: float) -> None:
        self.record, self._before_s, self._started = record, record.spent_s, time.monotonic() - elapsed_s

    @property
    def spent_s(self) -> float:
        return self._before_s + time.monotonic() - self._started

    @property
    def left_s(self) -> float:
        return max(self.record.budget_s - self.spent_s, 0.0)

    def budget_in_words(self) -> str:
        """Write what is left of the budget, or by how much it is over."""
        over_s = self.spent_s - self.record.budget_s
        state = f"{duration(self.left_s)} left" if over_s <= 0 else f"over by {duration(over_s)}"
        return f"{state} of {duration(self.record.budget_s)}"


@final
class _Lines:
    """Writes lines for logs: one where a step begins, one where it ends, and what long stages report between them."""

    def __init__(self) -> None:
        self._clock = _Clock()
        self._progress = line_progress(ends=False)
        self._note = ""

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None and self._clock.record.best:
            self._write(f"best so far: {best_in_words(self._clock.record)}")

    def start(self, record: AutoRecord, elapsed_s: float = 0.0) -> None:
        self._clock.start(record, elapsed_s)
        before = f", {duration(record.spent_s)} of it spent before" if record.spent_s else ""
        self._write(f"search: {duration(record.budget_s)}{before}")
        if record.best:
            self._write(f"best so far: {best_in_words(record)}")

    def begin(self, step: Step) -> None:
        self._progress = line_progress(ends=False)
        expected = "" if step.expected_s is None else f", about {duration(step.expected_s)}"
        why = f": {step.why}" if step.why else ""
        self._write(f"try {step.name}{expected}, {self._clock.budget_in_words()}{why}")

    def end(self, step: Step) -> None:
        self._write(f"{step.name}: {outcome_in_words(step)}")

    def note(self, text: str) -> None:
        if text != self._note:
            self._write(text)
        self._note = text

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._progress(f"  {stage}", done, total)

    def _write(self, text: str) -> None:
        sys.stderr.write(f"{' '.join(text.split())}\n")
        sys.stderr.flush()


@final
class _LiveBlock:
    """Shows one block on a terminal or in a notebook that is redrawn in place: best, now, budget and the last steps."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - 30 ms that `--help` needn't pay
        from rich.live import Live  # noqa: PLC0415

        self._clock = _Clock()
        self._step: Step | None = None
        self._stages: dict[str, tuple[int, int]] = {}
        self._note = ""
        self._console = Console(stderr=True, markup=False, emoji=False, highlight=False)
        self._text = NotebookText(self._block, after_s=0.0) if in_notebook() else None
        self._live = Live(
            get_renderable=self._block,
            console=self._console,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # what goes to a file stays there
        )

    def __enter__(self) -> "_LiveBlock":
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()
        if self._text is not None:
            self._text.stop()
            return
        if error[0] is not None and self._clock.record.best:
            self._console.print(f"best so far: {best_in_words(self._clock.record)}")

    def start(self, record: AutoRecord, elapsed_s: float = 0.0) -> None:
        self._clock.start(record, elapsed_s)
        if self._text is None:
            self._live.start()  # not before: a command that fails at once shows no empty block
        self._changed()

    def begin(self, step: Step) -> None:
        self._step, self._stages = step, {}
        self._changed()

    def end(self, step: Step) -> None:
        if self._step is not None and self._step.name == step.name:
            self._step, self._stages = None, {}
        self._changed()

    def note(self, text: str) -> None:
        self._note = text
        self._changed()

    def __call__(self, stage: str, done: int, total: int) -> None:
        stages = {name: counts for name, counts in self._stages.items() if name != stage}
        self._stages = {**stages, stage: (done, total)}  # replaced, not changed: another thread draws it
        self._changed()

    def _changed(self) -> None:
        if self._text is not None:
            self._text.refresh()

    def _block(self) -> "RenderableType":
        from rich.console import Group  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415

        block = Table.grid(padding=(0, 1, 0, 0))
        block.add_column(no_wrap=True)
        block.add_column(overflow="fold")
        block.add_row("best", best_in_words(self._clock.record) or "none yet")
        block.add_row("now", self._now())
        for name, (done, total) in list(self._stages.items())[-STAGES_SHOWN:]:
            block.add_row("", self._bar(name, done, total))
        block.add_row("budget", self._bar(self._clock.budget_in_words(), self._clock.spent_s, self._clock.record.budget_s))
        if self._note:
            block.add_row("note", self._note)
        return Group(block, *self._last_steps())

    def _now(self) -> str:
        if (step := self._step) is None:
            return "choosing what to try next"
        expected = "" if step.expected_s is None else f", about {duration(step.expected_s)}"
        why = f": {step.why}" if step.why and self._console.width >= NARROW else ""
        return f"{step.name}{expected}{why}"

    def _bar(self, text: str, done: float, total: float) -> "RenderableType":
        """Make a bar with its text beside it, or the text alone where there is no room for both."""
        from rich.progress_bar import ProgressBar  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415

        counts = f" {done}/{total}" if isinstance(total, int) else ""
        if self._console.width < NARROW:
            return f"{text}{counts}"
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_row(ProgressBar(total=max(total, 1e-9), completed=min(done, total), width=24), f"{text}{counts}")
        return row

    def _last_steps(self) -> Iterator["RenderableType"]:
        """List the last steps that ended, as many as the terminal has room for, with a count of those before."""
        from rich.table import Table  # noqa: PLC0415

        ended = [step for step in self._clock.record.steps if step.state not in ("running", "skipped")]
        room = min(STEPS_SHOWN, max(self._console.height - 12, 0))
        shown = ended[-room:] if room else []
        if not ended:
            return
        rows = Table.grid(padding=(0, 1, 0, 0))
        rows.add_column(no_wrap=True, overflow="ellipsis")
        rows.add_column(overflow="ellipsis", no_wrap=True)
        for step in shown:
            rows.add_row(f"  {step.name}", outcome_in_words(step))
        skipped = sum(step.state == "skipped" for step in self._clock.record.steps)
        yield f"done {counted(len(ended), 'step')}" + (f", {skipped} not begun" if skipped else "")
        yield rows
