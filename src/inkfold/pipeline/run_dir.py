"""A run's directory while it is written: claimed by one recipe, locked by one process, finished by its manifest."""

import contextlib
import json
import logging
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ValidationError
from safetensors.numpy import save as to_safetensors

from inkfold.config.load import dump_recipe
from inkfold.config.parsing import parse_yaml
from inkfold.config.renamed import renamed_recipe
from inkfold.data.submission_form import read_form
from inkfold.data.types import Dataset
from inkfold.errors import InkfoldError, PredictionError, Problem
from inkfold.heads.settings import WORK_DIVISION
from inkfold.pipeline.manifest import FORMAT, MANIFEST
from inkfold.pipeline.run import HEADS, Run, class_digest
from inkfold.pipeline.run_files import RECIPE, SUBMISSION_FORM
from inkfold.runtime.foreign import read_whole
from inkfold.storage.files import TEMP_MARK, make_directory, sweep_temp_files, write_bytes, write_json, write_text
from inkfold.storage.hashing import digest_file
from inkfold.storage.locks import FileLock, Timeout
from inkfold.storage.outputs import what_to_do
from inkfold.storage.sealed import write_sealed

log = logging.getLogger("inkfold.pipeline")

LOCK = ".lock"
# Of an unfinished run: what only divides its work, or ends it earlier or later, may change.
FREE_UNFINISHED = (*(f"finetune.{name}" for name in WORK_DIVISION), "folds.parts", "finetune.stop_epoch")
PACKAGES = ("inkfold", "torch", "timm", "numpy", "pillow", "simplejpeg")


@contextlib.contextmanager
def claimed(
    out: Path, recipe: BaseModel, *, first: bool = True, file: str = RECIPE, free: Sequence[str] = ()
) -> Iterator[None]:
    """Hold a run's directory for one recipe and one process while the block runs.

    Args:
        out: The directory; created if it doesn't exist.
        recipe: The run's recipe. It is written at once, so that a later call finds which run is unfinished.
        first: Whether this process is the one that writes, of the processes that work together; the others hold nothing.
        file: Name of the file that the recipe is written to, by which the directory is recognised.
        free: Dotted keys in which a later call's recipe may differ.

    Raises:
        PredictionError: If the directory holds another run or other files, or another process is writing it.
    """
    if not first:
        yield
        return
    lock = _locked(out, file)
    try:
        events = out / "events"
        for directory in (out, out / "predictions", out / "weights", out / "checkpoints", events, *events.glob("fold*")):
            sweep_temp_files(directory, older_than_s=0)
        is_new = not (out / file).is_file()
        is_finished = (out / MANIFEST).is_file()
        if not is_new and not is_finished:
            log.info("%s: holds an unfinished run, which is continued", out)
        check_recipe(out / file, recipe, [*free, *(() if is_finished else FREE_UNFINISHED)])
        try:
            yield
        except InkfoldError:
            if is_new and _foreign_names(out) == [file]:  # nothing else was written: another recipe may be tried here
                (out / file).unlink()
            raise
    finally:
        (out / LOCK).unlink(missing_ok=True)  # while it is held: later, it could be another process's
        lock.release()


def finished_run(out: Path, fingerprint: str) -> Run | None:
    """Load a run if it is finished.

    Args:
        out: Directory of the run, which need not exist.
        fingerprint: Fingerprint of the data as they are now; see `ReadData`.

    Returns:
        The run; None if it isn't finished.

    Raises:
        PredictionError: If it was trained on other data.
    """
    if not (out / MANIFEST).is_file():
        return None
    run = Run.load(out)
    if run.manifest["data_fingerprint"] != fingerprint:
        raise PredictionError(f"{out}: is finished, but the data have changed since. Choose another out= for the new data.")
    return run


def warn_of_other_form(out: Path, dataset: Dataset) -> None:
    """Log a warning where a finished run's submission hasn't the form that the data ask for now, as after a sample was added.

    Args:
        out: Directory of the finished run.
        dataset: The data, as they are now.
    """
    if dataset.test is not None and read_form(out / SUBMISSION_FORM) != dataset.submission:
        log.warning(
            "%s: is finished, and its submission has another form than the data ask for now. Write it anew: "
            "inkfold predict %s TEST_DRAWINGS --submission --set submission.sample=FILE --out FILE.csv",
            *(out, out),
        )


def write_heads(out: Path, heads: Mapping[str, np.ndarray], class_names: Sequence[str]) -> None:
    """Write the fitted heads with the digest of the class order that they were fitted for.

    Args:
        out: The run's directory, which gets `heads.safetensors`.
        heads: Fitted tensors by name; their first axis is the number of heads over all folds.
        class_names: Class names in the order of the heads' outputs.
    """
    tensors = {name: np.ascontiguousarray(values) for name, values in heads.items()}
    write_bytes(out / HEADS, to_safetensors(tensors, metadata={"classes": class_digest(class_names)}))


def write_cost(out: Path, cost: Mapping[str, Any]) -> None:
    """Write `cost.json`, with the peak memory of this process and of its largest worker.

    Args:
        out: The run's directory, which gets `cost.json`.
        cost: JSON values; a peak in them is kept if it is larger.
    """
    known = {name: [peak for peak in (own, cost.get(name)) if peak is not None] for name, own in _peak_memory().items()}
    write_json(out / "cost.json", {**cost, **{name: max(peaks, default=None) for name, peaks in known.items()}})


def write_manifest(out: Path, content: Mapping[str, Any], files: Sequence[str]) -> None:
    """Finish a run: write its manifest with the versions of packages and each file's digest.

    Args:
        out: The run's directory, which gets `manifest.json`.
        content: Further keys and JSON values: classes, members, backbone, data fingerprint.
        files: Names of the run's files, relative to the directory; all of them exist.
    """
    versions = _installed(PACKAGES)
    write_sealed(
        out / MANIFEST,
        {
            "format": FORMAT,
            **content,
            "versions": {**versions, "python": platform.python_version()},
            "files": {name: digest_file(out / name) for name in files},
        },
    )


def _installed(packages: Sequence[str]) -> dict[str, str]:
    """Give the versions of packages; a vote is also made where PyTorch and timm aren't installed."""
    versions = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _locked(out: Path, file: str) -> FileLock:
    """Create the directory, unless it is there and holds a run, and lock it for this process."""
    if out.exists() and not out.is_dir():
        raise PredictionError(f"{out}: is a file. Choose another out=.")
    lock = FileLock(out / LOCK, timeout=0)
    try:
        foreign = [] if (out / file).is_file() or not out.is_dir() else _foreign_names(out)
        if foreign:
            raise PredictionError(f"{out}: holds other files ({', '.join(foreign[:5])}). Choose another out=, or empty it.")
        make_directory(out)
        lock.acquire()
    except Timeout:
        raise PredictionError(f"{out}: another process is writing this run. Wait for it or choose another out=.") from None
    except OSError as error:
        raise PredictionError(f"{out}: {error.strerror or error}. {what_to_do(error)}") from None
    return lock


def _foreign_names(out: Path) -> list[str]:
    """List files but the lock and temporary ones, which a run that was killed at its start leaves."""
    return sorted(path.name for path in out.iterdir() if path.name != LOCK and TEMP_MARK not in path.name)


def _peak_memory() -> dict[str, int | None]:
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return {"peak_memory_bytes": None, "peak_worker_memory_bytes": None}
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_memory_bytes": own * unit, "peak_worker_memory_bytes": children * unit}


def check_recipe(path: Path, recipe: BaseModel, free: Sequence[str] = ()) -> None:
    """Write a recipe if the file doesn't exist, else compare it with the file.

    Args:
        path: The `recipe.yaml` of a run's or a study's directory, which need not exist.
        recipe: The recipe that this call was given, validated.
        free: Dotted keys that may differ; the file is then rewritten.

    Raises:
        PredictionError: With every other key that differs.
    """
    if not path.is_file():
        write_text(path, dump_recipe(recipe))
        return
    try:
        raw = parse_yaml(read_whole(path).decode("utf-8"))
        written = _flat(_with_new_keys(renamed_recipe(raw), type(recipe)))
    except (yaml.YAMLError, ValueError, AttributeError) as error:
        raise PredictionError(f"{path}: not a run's recipe: {error}. Choose another out=.") from None
    wanted = _flat(recipe.model_dump(mode="json"))
    other = [key for key in dict.fromkeys([*written, *wanted]) if written.get(key) != wanted.get(key)]
    problems = [
        Problem(
            "other_recipe", f"{path}: {key}", f"is {written.get(key)!r} there, {wanted.get(key)!r} now. Choose another out=."
        )
        for key in other
        if key not in free
    ]
    if problems:
        raise PredictionError(problems)
    if other:
        write_text(path, dump_recipe(recipe))


def rewrite_recipe(out: Path, recipe: BaseModel) -> None:
    """Write a run's recipe anew, with what its directory was claimed without: the caller holds it by `claimed`."""
    write_text(out / RECIPE, dump_recipe(recipe))


def _with_new_keys(written: dict[str, Any], schema: type[BaseModel]) -> dict[str, Any]:
    """Fill in the defaults of keys that are newer than a recipe; one that doesn't validate stays as it is."""
    try:
        return schema.model_validate(written).model_dump(mode="json")
    except ValidationError:
        return written


def _flat(raw: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(raw, dict):
        return {prefix: json.loads(json.dumps(raw))}
    return {key: value for name, part in raw.items() for key, value in _flat(part, f"{prefix}.{name}".lstrip(".")).items()}
