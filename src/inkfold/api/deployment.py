"""The functions that put a run to use elsewhere: export, serve."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from inkfold.api.inputs import RunLike, path_of
from inkfold.api.parts import names_missing_parts
from inkfold.errors import ExportError
from inkfold.runtime.progress import ProgressOption, open_progress

if TYPE_CHECKING:
    from inkfold.export.export import Exported
    from inkfold.serve.background import BackgroundServer


@names_missing_parts
def export(
    run: "RunLike",
    out: str | Path,
    *,
    quantise: str | None = None,
    as_set: bool = False,
    nearest: bool = False,
    progress: ProgressOption = None,
    **options: Any,
) -> "list[Exported]":
    """Write a run as one ONNX file with its preprocessing inside, checked against the run.

    The same as `inkfold export RUN --out OUT`; a name that ends in .safetensors writes the network for PyTorch instead.

    Args:
        run: A finished run or ensemble, or its directory.
        out: The ONNX or safetensors file, replaced when it exists; with `as_set`, a directory.
        quantise: `int8` writes 8-bit numbers: smaller, faster, and measured; None writes float32.
        as_set: Whether an ensemble becomes one file per member, with `set.json` for their weights.
        nearest: Whether the index of training drawings that `serve` shows is written beside the file.
        progress: Receives each stage's name, what is done and the total.
        options: Fields of `inkfold.export.ExportOptions`: `views=False` leaves test-time views out, `fitted=True` takes only
            squares, `data` is the drawings' present folder, `drawings` the number that file and run are compared on.

    Returns:
        What was written, one for each ONNX file: its path, size, description, and how it was checked. A safetensors file has
        none.

    Raises:
        ExportError: If it can't be written, or doesn't answer as the run does; nothing is written then.
        PredictionError: If the run isn't finished.
        DataError: If its drawings can't be read to check the file.
    """
    from inkfold.export.export import ExportOptions, export_onnx, export_safetensors, export_set  # noqa: PLC0415
    from inkfold.serve.index import write_index  # noqa: PLC0415

    place, path = Path(out), path_of(run)
    if quantise not in (None, "int8"):
        raise ExportError(f"export: got quantise={quantise!r}, expected 'int8' or None.")
    try:
        chosen = ExportOptions(**{"int8": quantise == "int8", **options})
    except TypeError as error:
        raise ExportError(f"export: {str(error).partition(') ')[2]}, expected fields of ExportOptions.") from None
    if place.suffix == ".safetensors" and not as_set:
        export_safetensors(path, place)
        return []
    with open_progress(progress) as report:
        files = export_set(path, place, chosen, report) if as_set else [export_onnx(path, place, chosen, report)]
        if nearest:
            write_index(path, place, chosen.data, report)
    return files


@names_missing_parts
def serve(
    model: "RunLike", *, host: str = "127.0.0.1", port: int = 0, progress: ProgressOption = None, **options: Any
) -> "BackgroundServer":
    """Serve a page to draw on, and an HTTP interface, from a thread of this process.

    The same as `inkfold serve MODEL`. It answers until it is closed, or Python ends:

        with inkfold.serve(run) as server:
            print(server.url)

    Args:
        model: A finished run or ensemble, its directory, or an exported model's file. A run is exported once.
        host: The address to listen on; the default is reached from this machine alone.
        port: The port to listen on; 0 takes a free one.
        progress: Receives each stage's name, what is done and the total, while a run is exported.
        options: Fields of `inkfold.serve.ServeOptions`, such as `threads`, and of `inkfold.serve.AccessOptions`, such as
            `token`. Where other machines reach the server and there is neither a token nor `no_token=True`, one is made, which
            is part of `url`.

    Returns:
        The server, which listens: its `url`, and `close()`.

    Raises:
        InkfoldError: If the model can't be loaded, or the address can't be listened on.
    """
    from inkfold.serve.background import BackgroundServer  # noqa: PLC0415

    with open_progress(progress) as report:
        return BackgroundServer(path_of(model), host, port, options, report)
