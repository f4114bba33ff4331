"""The entry point of `inkfold`: importing the modules of commands registers them, in the order in which help lists them."""

import os
import sys
from collections.abc import Sequence

from inkfold.cli.interrupts import exit_on_interrupt

# isort: off
with exit_on_interrupt():
    import typer.main

    from inkfold.cli import training, results, deployment, data  # noqa: F401 - this order is the commands' in help
    from inkfold.cli.app import APP
    from inkfold.runtime.memory import is_address_space_short
# isort: on


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The command line without the program's name; None takes the process's own.

    Returns:
        The exit code: 0, 1 for findings of `check`, 2 for wrong usage and what the user can mend, 130 after Ctrl-C, 141 where
        nobody reads the output.
    """
    code = 0
    try:
        with exit_on_interrupt():
            typer.main.get_command(APP).main(args=arguments, prog_name="inkfold")
    except SystemExit as done:  # Typer ends so: after help, wrong usage and each command
        code = int(done.code or 0)
    if code and arguments is None and is_address_space_short():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # libraries that were loaded by halves crash when the interpreter ends, which hides the code
    return code


if __name__ == "__main__":
    sys.exit(main())
