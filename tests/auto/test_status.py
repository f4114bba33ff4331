import sys

import pytest

from inkfold.auto import status as module
from inkfold.auto.record import AutoRecord
from inkfold.auto.status import as_status, console_status
from toy_search import search_record


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def search(status, clock, budget_s=60.0, spent_s=0.0):
    """Report the toy search as the main loop does, each step taking the time that it says; return its record."""
    whole, record = search_record(), AutoRecord(budget_s=budget_s, spent_s=spent_s)
    status.start(record)
    for step in whole.steps:
        state, seconds = step.state, step.seconds
        record.steps.append(step)
        if state != "skipped":
            step.state, step.seconds = "running", 0.0
            status.begin(step)
            status("features", 1, 2)
            status("features", 2, 2)
            clock.now += seconds
            step.state, step.seconds = state, seconds
        record.best += [point for point in whole.best if point["step"] == step.name]
        status.end(step)
    return record


def test_a_log_has_one_line_where_a_step_begins_and_one_where_it_ends(capsys, clock):
    with console_status() as status:
        search(status, clock)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "search: 1 min 0 s",
        "try reading, 1 min 0 s left of 1 min 0 s: pages are cropped to the drawing",
        "reading: 1.5 s",
        "try ink-small-linear, about 4.0 s, 58.5 s left of 1 min 0 s: quick, and made for drawings",
        "ink-small-linear: 0.500 (0.460-0.540), taken, 5.0 s",
        "try race, 53.5 s left of 1 min 0 s: two backbones are at hand",
        "race: 4.0 s",
        "try lite0-layers, 49.5 s left of 1 min 0 s: the race's winner",
        "lite0-layers: 0.540 (0.500-0.580), +0.040 (p = 0.004), taken, 12.0 s",
        "lite0-finetuned: not begun: it would take 25 min of 31 s left",
        "try views, 37.5 s left of 1 min 0 s: mirrored drawings",
        "views: failed after 3.0 s: mirrored drawings",
        "try vote, 34.5 s left of 1 min 0 s: both are wrong on different drawings",
        "vote: 0.570 (0.530-0.610), +0.030 (p = 0.020), taken, 0.5 s",
    ]


def test_a_search_that_continues_says_what_is_spent_and_what_was_reached(capsys, clock):
    record = search_record()
    record.budget_s = 600.0
    with console_status() as status:
        status.start(record, elapsed_s=2.0)
        status.note("everything is at hand")
        status.note("everything is at hand")
        status.begin(record.steps[0])
    assert capsys.readouterr().err.splitlines() == [
        "search: 10 min 0 s, 28.0 s of it spent before",
        "best so far: accuracy 0.570 (0.530-0.610) by a vote of 2 models, after 26.0 s",
        "everything is at hand",
        "try reading, 9 min 30 s left of 10 min 0 s: pages are cropped to the drawing",
    ]


def test_a_deadline_that_has_passed_is_said_to_be(capsys, clock):
    with console_status() as status:
        status.start(AutoRecord(budget_s=60.0))
        clock.now += 63.0
        status.begin(search_record().steps[0])
    assert "try reading, over by 3.0 s of 1 min 0 s" in capsys.readouterr().err


@pytest.mark.parametrize("is_terminal", [False, True])
def test_where_a_search_is_interrupted_the_best_so_far_stays_on_the_screen(capsys, clock, monkeypatch, is_terminal):
    as_terminal(monkeypatch, is_terminal=is_terminal)
    context = console_status()
    search(context.__enter__(), clock)
    assert not context.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)  # it goes on
    last = capsys.readouterr().err.rstrip().splitlines()[-1]
    assert last.endswith("best so far: accuracy 0.570 (0.530-0.610) by vote, after 26.0 s")


def test_a_plain_function_hears_of_stages_alone(clock):
    heard = []
    status = as_status(lambda *stage: heard.append(stage))
    search(status, clock)
    status.note("nothing")
    assert heard == 6 * [("features", 1, 2), ("features", 2, 2)]
    assert as_status(status) is status


def as_terminal(monkeypatch, columns=100, lines=40, *, is_terminal=True):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(lines))


def block_of(status, columns, lines):
    """The text that a terminal of this size shows."""
    from rich.console import Console

    console = Console(width=columns, height=lines, color_system=None, markup=False, emoji=False)
    status._console = console
    with console.capture() as capture:
        console.print(status._block())
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize("columns", [100, 50, 24])
def test_a_terminal_shows_the_best_what_runs_what_is_left_and_the_steps(capsys, clock, monkeypatch, columns):
    as_terminal(monkeypatch)
    with console_status() as status:
        record = search(status, clock)
        status.begin(record.steps[3])
        status("decoding", 400, 400)
        status("features", 300, 400)
        status.note("eva02 is out of budget")
        lines = block_of(status, columns, 40)
    assert all(len(line) <= columns for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "best accuracy 0.570 (0.530-0.610)" in text
    assert "now lite0-layers" in text
    assert "features 300/400" in text
    assert "left of 1 min 0 s" in text
    assert "note eva02 is out of" in text
    assert "done 6 steps, 1 not" in text
    assert ("the race's winner" in text) == (columns == 100)
    assert ("0.540 (0.500-0.580), +0.040 (p = 0.004), taken, 12.0 s" in text) == (columns == 100)


def test_a_low_terminal_shows_the_last_steps_alone(capsys, clock, monkeypatch):
    as_terminal(monkeypatch)
    with console_status() as status:
        search(status, clock)
        assert len(block_of(status, 100, 14)) <= 14
        assert block_of(status, 100, 14)[-1].split()[0] == "vote"
        assert block_of(status, 100, 10)[-1] == "done 6 steps, 1 not begun"


def test_a_block_before_anything_is_known_says_so(capsys, clock, monkeypatch):
    as_terminal(monkeypatch)
    with console_status() as status:
        status.start(AutoRecord(budget_s=60.0))
        lines = block_of(status, 100, 40)
    assert lines[0].split() == ["best", "none", "yet"]
    assert lines[1].split(maxsplit=1) == ["now", "choosing what to try next"]
    assert lines[2].endswith("1 min 0 s left of 1 min 0 s")
    assert len(lines) == 3


def test_text_that_looks_like_markup_is_shown_as_it_is(capsys, clock, monkeypatch):
    as_terminal(monkeypatch)
    record = search_record()
    record.steps[0].why = "[bold]classes[/bold] :smile:"
    with console_status() as status:
        status.start(record)
        status.begin(record.steps[0])
        assert any("[bold]classes[/bold] :smile:" in line for line in block_of(status, 100, 40))


def test_a_terminal_that_can_not_move_its_cursor_gets_lines(capsys, clock, monkeypatch):
    as_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    with console_status() as status:
        status.start(AutoRecord(budget_s=60.0))
    assert capsys.readouterr().err == "search: 1 min 0 s\n"
