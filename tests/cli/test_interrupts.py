import os
import signal
import subprocess
import sys

import pytest

from inkfold.cli.interrupts import exit_on_interrupt, interrupts_raised

# An import that takes long: Ctrl-C comes while it runs.
SLOW = """
import os, signal, sys, types

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)
            while True:
                pass

sys.meta_path.insert(0, Slow())
import inkfold.cli.main
"""


@pytest.fixture(autouse=True)
def interrupts_arrive():
    """Let SIGINT be Python's own, which shells that run commands in the background let it ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_while_commands_are_imported_is_quiet():
    done = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_command_gets_interrupts_as_exceptions_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    with exit_on_interrupt():
        assert signal.getsignal(signal.SIGINT) is not before
        with pytest.raises(KeyboardInterrupt), interrupts_raised():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_signals_that_are_ignored_or_handled_by_others_stay_so(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with exit_on_interrupt(), interrupts_raised():
            assert signal.getsignal(signal.SIGINT) is handler
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
