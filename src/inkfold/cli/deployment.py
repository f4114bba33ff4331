"""The commands that put a run to use elsewhere: serve, export."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from inkfold.cli.app import MovedData, RunDirectory, command, notes_beside
from inkfold.cli.output import print_exported
from inkfold.errors import ExportError, InkfoldError
from inkfold.runtime.progress import console_progress

SERVE_EXAMPLES = """\
examples:
  inkfold serve runs/best --open
  inkfold serve model.onnx --port 9000
  inkfold serve model.onnx --host 0.0.0.0 --allow-host draw.lan
  inkfold serve model.onnx --behind-proxy 127.0.0.1 --allow-host draw.example.com

A run is exported once, into INKFOLD_HOME. The page is at /, the interface at /docs.
A run is exported first, which needs pip install 'inkfold[export]'; a model
that was exported elsewhere needs nothing more.
"""
EXPORT_EXAMPLES = """\
examples:
  inkfold export runs/best --out model.onnx
  inkfold export runs/best --out small.onnx --quantise int8
  inkfold export runs/best --safetensors model.safetensors
  inkfold export runs/ensemble --out members --set

The file takes uint8 drawings of any size, (batch, height, width, 1 or 3), and
returns class probabilities; docs/export.md.
"""


@command(SERVE_EXAMPLES, reads=("model",))
def serve(
    model: Annotated[Path, typer.Argument(metavar="RUN_OR_ONNX", help="A finished run, or an exported model.")],
    *,
    host: Annotated[
        str, typer.Option(help="The address to listen on; the default is reached from this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port to listen on, 8000 by default; 0 takes a free one.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each forward; by default two, or one where there is one core.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in your browser.")] = False,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="INKFOLD_TOKEN",
            help="What clients must send; by default one is made where --host lets other machines in. Every user of this "
            "machine can read an option, so set the variable instead.",
        ),
    ] = None,
    no_token: Annotated[bool, typer.Option("--no-token", help="Let everybody in who reaches it.")] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A name by which it is reached, besides localhost and IP addresses; may be repeated."
        ),
    ] = None,
    behind_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="The address or network (10.0.0.0/8) of a proxy whose X-Forwarded headers are trusted; may be repeated.",
        ),
    ] = None,
    root_path: Annotated[
        str, typer.Option(metavar="PATH", help="The path below which a proxy has it, such as /draw, unless the proxy says it.")
    ] = "",
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="A port of its own for /metrics, without a token; 0 takes a free one.")
    ] = None,
) -> int:
    """Serve a page to draw on, and an HTTP interface."""
    from inkfold.serve.access import Access, AccessOptions
    from inkfold.serve.prepare import find_model
    from inkfold.serve.security import split_listen
    from inkfold.serve.server import PORT, ServeOptions
    from inkfold.serve.server import serve as serve_model

    host, port = split_listen(host, port)
    access = AccessOptions(token, no_token, tuple(allow_host or ()), tuple(behind_proxy or ()), root_path, metrics_port)
    Access(access)  # what is wrong with it is said before a run is exported
    options = ServeOptions(host, PORT if port is None else port, threads, open_page, access=access)
    with console_progress() as progress:
        path = find_model(model, _print_now, progress=progress)
    serve_model(path, options, _print_now)
    return 0


def _print_now(text: str) -> None:
    print(text, flush=True)


@command(EXPORT_EXAMPLES, reads=("run",), part="export")
def export(
    run: RunDirectory,
    *,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The ONNX file; with --set, a directory.")] = None,
    quantise: Annotated[
        Literal["int8"] | None, typer.Option(help="Use 8-bit numbers: smaller and faster; prints what they cost.")
    ] = None,
    as_set: Annotated[
        bool, typer.Option("--set", help="Write one file per member of an ensemble, and set.json with their weights.")
    ] = False,
    safetensors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the network for PyTorch users, with or without --out.")
    ] = None,
    nearest: Annotated[
        bool, typer.Option("--nearest", help="Write the index of training drawings that `serve` shows, too.")
    ] = False,
    without_tta: Annotated[bool, typer.Option("--without-tta", help="Leave test-time views out.")] = False,
    fitted: Annotated[bool, typer.Option("--fitted", help="Take only squares made by inkfold.images.preprocess.")] = False,
    data: MovedData = None,
    drawings: Annotated[int, typer.Option(metavar="N", help="How many drawings the file and the run are compared on.")] = 500,
) -> int:
    """Write a run as one ONNX file, checked against the run. Its preprocessing is inside."""
    from inkfold.export.export import ExportOptions, export_onnx, export_safetensors, export_set
    from inkfold.storage.outputs import check_output, is_special

    if out is None and safetensors is None:
        raise ExportError("export: says nowhere to write. Give --out FILE, --safetensors FILE or both.")
    if out is None and (quantise or as_set or nearest):
        raise ExportError("export: --quantise, --set and --nearest are about the ONNX file. Give --out too.")
    for file in (None if as_set else out, safetensors):
        if file is not None:
            check_output(file)  # before the work, not after it
    if nearest and out is not None and not as_set and is_special(out):
        raise ExportError(f"export: --nearest writes an index beside the ONNX file, and {out} is no file. Leave it out.")
    if out is not None:
        options = ExportOptions(
            int8=quantise == "int8", views=not without_tta, fitted=fitted, data=data, drawings=max(1, drawings)
        )
        with console_progress() as progress:
            files = export_set(run, out, options, progress) if as_set else [export_onnx(run, out, options, progress)]
        with contextlib.redirect_stdout(notes_beside(out)):
            print_exported(files)
        if not (as_set or quantise or without_tta):
            _note_exported(run, out, fitted=fitted)
        if nearest:
            _write_index(run, out, data)
    if safetensors is not None:
        size_bytes = export_safetensors(run, safetensors)
        print(f"network: {safetensors} ({size_bytes / 1e6:.1f} MB)", file=notes_beside(safetensors))
    return 0


def _note_exported(run: Path, out: Path, *, fitted: bool) -> None:
    """Let `serve RUN` find the file again, which works without."""
    from inkfold.serve.prepare import note_exported

    with contextlib.suppress(OSError):
        note_exported(run, out, fitted=fitted)


def _write_index(run: Path, out: Path, data: Path | None) -> None:
    """Write the index of drawings beside a model, which is of use without it."""
    from inkfold.serve.index import write_index

    try:
        with console_progress() as progress:
            path = write_index(run, out, data, progress)
        print(f"nearest drawings: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    except InkfoldError as error:
        print(f"warning: no index of drawings: {error}".splitlines()[0], file=sys.stderr)
