"""What all commands share: registration, `-v`, `--debug`, errors as lines, exit codes, and the options that several take."""

import contextlib
import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TextIO, TypeVar

import typer

from inkfold.cli.interrupts import EXIT_INTERRUPTED, interrupts_raised
from inkfold.errors import PARTS, InkfoldError, how_to_install, missing_part, problem_lines
from inkfold.runtime.memory import lack_of_memory, spare_address_space, what_is_needed

EXIT_USER_ERROR = 2
EXIT_PIPE_CLOSED = 141  # 128 + SIGPIPE, which Windows hasn't

APP = typer.Typer(
    name="inkfold",
    help="Turns a folder of labelled drawings into the best classifier that your machine can afford, and proves it.",
    rich_markup_mode=None,  # Rich's help costs 100 ms
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
)
Function = TypeVar("Function", bound=Callable[..., int])


def complete_recipe(incomplete: str) -> list[str]:
    """List the shipped recipes whose names begin with what was typed so far."""
    from inkfold.config.load import shipped_recipes

    return [name for name in shipped_recipes() if name.startswith(incomplete)]


def is_setting(text: str) -> bool:
    """Say whether a word of the command line is a setting, `key=value`."""
    return "=" in text


def _require_settings(words: list[str]) -> list[str]:
    for word in words:
        if not is_setting(word):
            raise typer.BadParameter(f"got {word!r}, expected key=value.")
    return words


def settings_argument(about: str) -> Any:
    """Describe the argument that collects settings, which may stand before and after options."""
    return typer.Argument(callback=_require_settings, help=about, **any_number("key=value"))


def any_number(metavar: str) -> dict[str, Any]:
    """Give what Typer must know of an argument or option that may be absent or repeated."""
    return {"metavar": metavar, "default_factory": list, "show_default": False}


RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        autocompletion=complete_recipe,
        help="A YAML file, or the name of a shipped recipe (`inkfold recipes`).",
    ),
]
RunDirectory = Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a finished run or ensemble.")]
MovedData = Annotated[Path | None, typer.Option(help="The directory of the drawings, if they have moved since the run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Executor = Annotated[
    str,
    typer.Option(
        metavar="WHERE",
        help="Where features are computed, with the same results: inline, pool[:N] (processes) or ray[:ADDRESS][:N] "
        "(a cluster, on which N processes fine-tune together).",
    ),
]
_Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        help="Log what is chosen and why, what is reused, what it costs; -vv logs details, too.",
    ),
]
_Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def command(examples: str = "", *, reads: Sequence[str] = (), part: str | None = None) -> Callable[[Function], Function]:
    """Register a function as the command of its name; its docstring and annotations are the command's help.

    Args:
        examples: Command lines and notes, shown as they are below the help.
        reads: Its arguments that name runs or models, which strangers may have made.
        part: The part of inkfold without which it can do nothing; what is missing is said before any work.

    Returns:
        A decorator that leaves the function as it is, so that other commands can call it.
    """

    def register(function: Function) -> Function:
        @functools.wraps(function)
        def run(ctx: typer.Context, verbose: int, debug: bool, **values: Any) -> None:
            if takes_context:
                values["ctx"] = ctx
            if spare_address_space():  # before the command imports NumPy; a library may end the process without a word
                print(f"note: {what_is_needed()}", file=sys.stderr)
            with interrupts_raised(), log_to_stderr(ctx.obj + verbose):
                read = [str(place) for name in reads for place in _as_list(values[name])]
                work = functools.partial(function, **values)
                raise typer.Exit(run_reporting_errors(work, debug, read) if _has_part(part) else EXIT_USER_ERROR)

        own = dict(inspect.signature(function, eval_str=True).parameters)
        takes_context = own.pop("ctx", None) is not None
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, default, annotation in (("verbose", 0, _Verbose), ("debug", False, _Debug))
        ]
        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        run.__signature__ = inspect.Signature([*own.values(), *shared, context])  # type: ignore[attr-defined]
        APP.command(epilog=f"\b\n{examples}" if examples else None)(run)
        return function

    return register


def _has_part(part: str | None) -> bool:
    """Return whether the packages of a part are installed; if not, print what to install."""
    missing = [name for name, its_part in PARTS.items() if part == its_part and find_spec(name) is None]
    if missing:
        print(
            f"error: {', '.join(missing)}: not installed, which this command needs. {how_to_install(str(part))}",
            file=sys.stderr,
        )
    return not missing


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"inkfold {version('inkfold')}")
        raise typer.Exit


@APP.callback()
def _root(
    ctx: typer.Context,
    verbose: _Verbose = 0,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    ctx.obj = verbose


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def run_reporting_errors(work: Callable[[], int], debug: bool, read: Sequence[str] = ()) -> int:
    """Run a command, turn what the user can mend into lines on standard error, and return the exit code.

    It is the command's own, 2 for what the user can mend, 130 after Ctrl-C, 141 where nobody reads the output.

    Args:
        work: The command with its arguments.
        debug: Whether errors are raised, so that their traceback is seen.
        read: The runs or models that it reads. What is unexpected then may be in their files, and is said in a line.
    """
    try:
        code = work()
        _flush_output()
        return code
    except InkfoldError as error:
        if debug:
            raise
        print("\n".join(problem_lines(error.problems)) if error.problems else f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except ModuleNotFoundError as error:
        if debug or (line := missing_part(error)) is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted; what was done is kept: the same command continues.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # `inkfold ... | head` is no error
        return EXIT_PIPE_CLOSED
    except Exception as error:
        line = None if debug else _line_of(error) or (_line_of_unexpected(error, read) if read else None)
        if line is None:
            raise
        print(line, file=sys.stderr)
        return EXIT_USER_ERROR


def _line_of_unexpected(error: Exception, read: Sequence[str]) -> str:
    """Say what no reader has expected of files that anybody may have made; it may also be a fault of ours."""
    words = " ".join(str(error).split())[:200]
    return (
        f"error: {', '.join(read)}: something in its files isn't as inkfold writes it ({type(error).__name__}: {words}). "
        "Make it again. If inkfold wrote it so, this is a fault of inkfold's: --debug shows where, please report it."
    )


def _flush_output() -> None:
    """Print what is still to be printed, as long as an error can be reported: at the interpreter's end it couldn't."""
    try:
        if sys.stdout is not None:  # closed before the start
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_output()
        raise OSError(error.errno, error.strerror, "standard output") from None


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def notes_beside(out: Path) -> TextIO:
    """Return where a command's own words go that writes a file: standard output, unless that is the file."""
    from inkfold.storage.outputs import is_standard_output

    return sys.stderr if is_standard_output(out) else sys.stdout


def _line_of(error: Exception) -> str | None:
    """Say in a line what the machine refused; None for a bug of ours, which needs its traceback."""
    refused = lack_of_memory(error)
    if refused is not None:
        return f"error: not enough memory for {refused}. {what_is_needed()} What is done is kept."
    if not isinstance(error, OSError):
        return None
    from inkfold.storage.outputs import what_to_do

    text = f"{error.filename}: {error.strerror}" if error.filename else str(error) or type(error).__name__
    return f"error: {text}. {what_to_do(error)}"


class _LinesOnStderr(logging.Handler):
    """Writes to the standard error of the moment, which progress bars replace while they are shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


@contextlib.contextmanager
def log_to_stderr(verbosity: int) -> Iterator[None]:
    """Print inkfold's log while the block runs: at 1 what was chosen, reused and spent, from 2 on details too, at 0 nothing."""
    if not verbosity:
        yield
        return
    logger, handler = logging.getLogger("inkfold"), _LinesOnStderr()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def take_out(settings: Sequence[str], what: str) -> tuple[str, list[str]]:
    """Take `out=PLACE`, of which the last one counts, out of the settings, and return the place and the other settings."""
    values = [text.partition("=")[2] for text in settings if text.partition("=")[0] == "out"]
    if not values:
        raise InkfoldError(f"out: is missing. Say where the {what} goes: out={what.upper()}.")
    return values[-1], [text for text in settings if text.partition("=")[0] != "out"]
