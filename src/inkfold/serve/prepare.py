"""From a finished run to the model that is served: exported once, in its own process, so that the server loads no PyTorch."""

import logging
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from inkfold.errors import ExportError
from inkfold.export.metadata import FORMAT, SET
from inkfold.pipeline.manifest import MANIFEST, load_manifest
from inkfold.runtime.progress import Progress, silent
from inkfold.serve.export_process import run_export
from inkfold.serve.nearest import index_path
from inkfold.storage.cache import home
from inkfold.storage.files import write_json
from inkfold.storage.hashing import digest_file, key_digest
from inkfold.storage.locks import FileLock
from inkfold.storage.sealed import read_sealed, write_sealed

log = logging.getLogger("inkfold.serve")

MODEL, FILES = "model.onnx", "files.json"
EXPORTED = "exported.json"  # where the user had it exported to
LAST_LINES = 5

Export = Callable[[Sequence[str]], subprocess.CompletedProcess[str]]


def find_model(path: Path, say: Callable[[str], None], export: Export | None = None, progress: Progress = silent) -> Path:
    """Find the model to serve, exporting a run that was neither served nor exported before.

    Args:
        path: A finished run, an ONNX file, or the directory of a set of models.
        say: Called with a line for the user when an export begins or lacks something.
        export: Runs `inkfold export` with these arguments; None starts a process.
        progress: Called as each stage of that process goes on.

    Returns:
        An ONNX file or a set's directory.

    Raises:
        PredictionError: If it is a run that isn't finished.
        ExportError: If there is nothing to serve, or the export fails.
    """
    if path.is_file() or (path / SET).is_file():
        return path
    if not path.exists():
        raise ExportError(f"{path}: no such file or directory, expected a finished run or an ONNX file. Check the path.")
    load_manifest(path)
    place = _place(path)
    with FileLock(place / "lock"):  # two servers of one run wait for one export
        if _is_whole(place):
            log.info("%s: reusing its exported model %s", path, place / MODEL)
            return place / MODEL
        if (exported := _find_exported(place)) is not None:
            lacking = "" if index_path(exported).is_file() else ", without the nearest training drawings (export --nearest)"
            say(f"serving {exported}, which was exported of {path} before{lacking}")
            return exported
        _refuse_without_export(path)
        say(f"exporting {path}, once: it may take a minute")
        _export(path, place, export or partial(run_export, progress=progress), say)
        return place / MODEL


def _refuse_without_export(run: Path) -> None:
    """Say what a run needs that an exported model doesn't, before a process is started that can't do it."""
    if missing := [name for name in ("torch", "timm", "onnx", "onnxscript") if find_spec(name) is None]:
        raise ExportError(
            f"{run}: is exported before it is served, which needs {', '.join(missing)}: pip install 'inkfold[export]'. "
            "A model that was exported elsewhere (inkfold export RUN --out model.onnx) is served without."
        )


def note_exported(run: Path, model: Path, *, fitted: bool) -> None:
    """Remember that a run was exported into a file that answers as the run does, so that serving the run needs no other.

    Args:
        run: Directory of the finished run.
        model: The ONNX file of all of it, in float32.
        fitted: Whether the file takes only squares that inkfold has made of drawings.
    """
    if _fitted_flag(run) and not fitted:
        return
    if not model.resolve().is_relative_to((home() / "served").resolve()):
        write_sealed(_place(run) / EXPORTED, {"path": str(model.resolve()), "file": digest_file(model)})


def _place(run: Path) -> Path:
    """Return the directory of INKFOLD_HOME for the exported model of a run as it is now."""
    key = {"served": run.resolve().name, "run": digest_file(run / MANIFEST), "format": FORMAT, "inkfold": version("inkfold")}
    place = home() / "served" / key_digest(key)
    write_json(place / "key.json", key)
    return place


def _find_exported(place: Path) -> Path | None:
    """Find the file that the user had the run exported to; None where it is gone or has changed."""
    try:
        note = read_sealed(place / EXPORTED, must_be_sealed=True)
        model = Path(note["path"])
        return model if digest_file(model) == note["file"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _export(run: Path, place: Path, export: Export, say: Callable[[str], None]) -> None:
    """Export into a fresh directory and move the files, the model last: an export that was killed leaves no model behind."""
    fresh = place / "fresh" / MODEL
    shutil.rmtree(fresh.parent, ignore_errors=True)  # left over from an export that was killed
    done = export([str(run), "--out", str(fresh), "--nearest", *_fitted_flag(run)])
    if done.returncode or not fresh.is_file():
        words = "\n".join(done.stderr.strip().splitlines()[-LAST_LINES:])
        raise ExportError(f"{run}: `inkfold export` failed with exit code {done.returncode}:\n{words}")
    index = index_path(fresh)
    if index.is_file():
        index.replace(place / index.name)
    else:
        index_path(place / MODEL).unlink(missing_ok=True)  # of an export that is replaced
        say(f"without the nearest training drawings: {(done.stderr.strip().splitlines() or ['no reason was reported'])[-1]}")
    fresh.replace(place / MODEL)
    files = [file for file in (place / MODEL, index_path(place / MODEL)) if file.is_file()]
    write_sealed(place / FILES, {"files": {file.name: digest_file(file) for file in files}})
    shutil.rmtree(fresh.parent, ignore_errors=True)


def _is_whole(place: Path) -> bool:
    """Return whether a model was exported into this directory before, and its files are as they were written."""
    if not (place / MODEL).is_file():
        return False
    try:
        files = dict(read_sealed(place / FILES, must_be_sealed=True)["files"])
        odd = [name for name, expected in files.items() if digest_file(place / name) != expected]
        odd += [] if MODEL in files else [MODEL]
    except (OSError, ValueError, KeyError, TypeError):
        odd = [FILES]
    if odd:
        log.warning("%s: not as it was written, so the run is exported again", place / odd[0])
    return not odd


def _fitted_flag(run: Path) -> list[str]:
    """Request a file that takes squares where ONNX can't read pages as the run does; the server preprocesses drawings."""
    image = load_manifest(run).get("image", {})  # an ensemble has none of its own
    return ["--fitted"] if image.get("paper", "keep") != "keep" or image.get("resize") == "crop_to_ink" else []
