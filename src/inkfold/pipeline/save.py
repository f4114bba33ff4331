"""Copies a finished run to where it is kept: the whole directory, or nothing."""

import os
import shutil
import uuid
from pathlib import Path

from inkfold.errors import PredictionError
from inkfold.pipeline.manifest import MANIFEST, STAGED, SWAP
from inkfold.pipeline.run_files import RunFiles
from inkfold.storage.files import make_directory
from inkfold.storage.kept_drawings import note_run
from inkfold.storage.temporary import is_temporary

LEFT_OUT = (".lock", SWAP, STAGED)


def save_run(files: RunFiles, path: Path) -> None:
    """Copy a finished run or ensemble.

    Args:
        files: The run's files.
        path: The directory that it is copied to, which may be missing or empty; missing ones above it are created.

    Raises:
        PredictionError: If there is something else. The same run is left as it is.
        OSError: If it can't be written; nothing is left behind then.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        if (path / MANIFEST).is_file() and (path / MANIFEST).read_bytes() == (files.path / MANIFEST).read_bytes():
            return
        what = "another run" if (path / MANIFEST).is_file() else "something else"
        raise PredictionError(f"{path}: holds {what}, expected a new or empty directory. Choose another path.")
    make_directory(path.absolute().parent)
    copied = path.absolute().with_name(f".{path.name}.saving-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        shutil.copytree(files.path, copied, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        copied.replace(path.absolute())  # an empty directory gives way
    finally:
        shutil.rmtree(copied, ignore_errors=True)
    for recipe in files.model_recipes:
        root = recipe.get("data", {}).get("root")
        if root is not None and not is_temporary(path):
            note_run(root, path)
