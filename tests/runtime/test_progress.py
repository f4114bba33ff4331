import sys

from inkfold.runtime import progress
from inkfold.runtime.progress import console_progress, line_progress, silent


def test_silence_says_nothing(capsys):
    silent("decoding", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_each_stage_s_end_is_one_line(capsys):
    with console_progress() as report:
        for done in range(1, 4):
            report("decoding", done, 3)
        report("features", 1, 2)
    assert capsys.readouterr() == ("", "decoding: 3/3\n")


def test_without_a_terminal_long_work_tells_of_itself_every_ten_seconds(capsys, monkeypatch):
    clock = iter([0.0, 4.0, 10.5, 15.0, 20.5, 21.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with console_progress() as report:
        for done in range(1, 7):
            report("features", done, 100)
    assert capsys.readouterr().err == "features: 3/100\nfeatures: 5/100\n"


def test_a_terminal_shows_bars_with_the_stage_and_its_count(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with console_progress() as report:
        report("decoding", 1, 3)
        report("features", 1, 2)
        report("decoding", 3, 3)
    out, err = capsys.readouterr()
    assert out == ""
    assert "decoding" in err
    assert "3/3" in err
    assert "1/2" in err


def test_lines_of_short_stages_can_be_left_out(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 20.0, 21.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    report = line_progress(ends=False)
    report("decoding", 1, 2)
    report("decoding", 2, 2)
    report("features", 1, 3)
    report("features", 2, 3)
    report("features", 3, 3)
    assert capsys.readouterr().err == "features: 2/3\nfeatures: 3/3\n"
