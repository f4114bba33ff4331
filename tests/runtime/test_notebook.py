import sys
from types import SimpleNamespace
from typing import Any

import pytest

from inkfold.runtime.progress import open_progress, silent


class ZMQInteractiveShell:
    """A stand-in, whose name is how a notebook's kernel is known."""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def display(data: Any, **options: Any) -> None:
        calls.append({"data": data, **options})

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=ZMQInteractiveShell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    monkeypatch.setattr("inkfold.runtime.notebook.time.monotonic", iter(range(10_000)).__next__)
    return calls


def test_a_notebook_has_one_display_that_is_updated(shown: list[dict[str, Any]]) -> None:
    with open_progress(None) as report:
        for done in range(4):
            report("<b>", done, 4)
    assert [call["update"] for call in shown] == [False, *[True] * (len(shown) - 1)]
    assert len({call["display_id"] for call in shown}) == 1
    assert "&lt;b&gt;" in shown[-1]["data"]["text/html"]
    assert "3/4" in shown[-1]["data"]["text/plain"]


def test_an_interrupted_cell_shows_how_far_it_came(shown: list[dict[str, Any]]) -> None:
    def interrupted() -> None:
        with open_progress(None) as report:
            report("features", 2, 4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "2/4" in shown[-1]["data"]["text/plain"]


def test_false_is_quiet_and_a_function_is_taken_as_it_is(shown: list[dict[str, Any]]) -> None:
    with open_progress(False) as report:
        assert report is silent
    with open_progress(print) as report:
        assert report is print
    assert not shown


def test_a_file_gets_no_line_of_quick_stages(capsys: pytest.CaptureFixture[str]) -> None:
    with open_progress(None) as report:
        report("decoding", 4, 4)
    assert capsys.readouterr().err == ""
