"""Safe reading of NPY and NPZ files from elsewhere: no pickle, and nothing is read before its size and shape are known."""

import lzma
import math
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, final

import numpy as np
from jaxtyping import Float32, Shaped

from inkfold.data.tables import STRING, quoted
from inkfold.errors import PredictionError, Problem

ENTRIES = {
    "probs": 1 << 31,
    "image_paths": 1 << 28,
    "class_names": 1 << 28,
}  # greatest size in bytes: a megabyte of zip can hold a gigabyte
FORMS = {
    "probs": ("fiub", (2, 3), "numbers (n, classes) or (folds, n, classes)"),
    "image_paths": ("US", (1,), "texts (n,)"),
    "class_names": ("USiu", (1,), "texts (classes,)"),
}
CHUNK_BYTES = 1 << 24


def read_npz(path: Path, num_classes: int | None) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Read an archive of predictions.

    Args:
        path: An archive as `numpy.savez` writes it, of arrays without Python objects.
        num_classes: Number of classes; needed if the archive has no `class_names`.

    Returns:
        `probs` (folds, n, classes), `image_paths` (n) and, where it is there, `class_names` (classes).

    Raises:
        PredictionError: If the file is broken, holds objects, announces more than it has, or its shapes don't fit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if missing := [name for name in ("probs", "image_paths") if name not in entries]:
                raise refusal(path, f"has {quoted([*entries])}, expected {' and '.join(missing)} too. Add what is missing.")
            wanted = [name for name in ENTRIES if name in entries]
            headers: dict[str, _Header] = {name: _entry_header(path, archive, entries[name]) for name in wanted}
            named = headers["class_names"].shape[:1] if "class_names" in headers else _known(num_classes)
            _check_shapes(path, headers, (*headers["image_paths"].shape[:1], *named))
            arrays = {}
            for name, header in headers.items():
                with archive.open(entries[name]) as file:
                    _read_header(header.where, file, entries[name].file_size)
                    arrays[name] = _read_body(header, file)
    except (OSError, EOFError, RuntimeError, UnicodeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise refusal(path, f"not a whole NPZ file: {reason(error)}. Write it anew with np.savez.") from None
    texts = {name: _texts(f"{path}: {name}", array) for name, array in arrays.items() if name != "probs"}
    return {"probs": _as_folds(arrays["probs"]), **texts}


def read_npy(path: Path, num_rows: int, num_classes: int | None) -> Float32[np.ndarray, "folds n classes"]:
    """Read an array of predictions.

    Args:
        path: An array as `numpy.save` writes it, (n, classes) or (folds, n, classes), without Python objects.
        num_rows: Number of drawings that the array must have.
        num_classes: Number of classes; None is an error, reported together with others.

    Returns:
        The probabilities; one fold if the file has two dimensions.

    Raises:
        PredictionError: If the file is broken, holds objects, announces more than it has, or its shape doesn't fit.
    """
    try:
        with path.open("rb") as file:
            header = _read_header(str(path), file, path.stat().st_size)
            _check_shapes(path, {"probs": header}, (num_rows, *_known(num_classes)))
            return _as_folds(_read_body(header, file))
    except OSError as error:
        raise refusal(path, f"can't be read: {reason(error)}. Make it a readable file.") from None


@final
@dataclass(frozen=True, slots=True)
class _Header:
    """The shape and type that an NPY stream announces."""

    where: str
    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _entry_header(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> _Header:
    if entry.compress_size > path.stat().st_size:
        raise refusal(path, f"announces {entry.compress_size} bytes of {entry.filename}. It is cut short: write it anew.")
    most_bytes = entry.compress_size
    if entry.compress_type != zipfile.ZIP_STORED:
        most_bytes = min(entry.file_size, ENTRIES[entry.filename.removesuffix(".npy")])
    with archive.open(entry) as file:
        return _read_header(f"{path}: {entry.filename}", file, most_bytes)


def _read_header(where: str, file: IO[bytes], most_bytes: int) -> _Header:
    """Read an NPY header that doesn't announce more than there can be: 80 bytes can ask for 32 GiB."""
    try:
        version = np.lib.format.read_magic(file)[0]
        read: Any = {1: np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arrays that Python 2 saved
            shape, is_fortran, dtype = read(file)
    except Exception as error:  # numpy evaluates the header, and a hostile one makes it raise nearly anything
        raise refusal(where, f"not an NPY array: {reason(error)}. Write it anew with np.save.") from None
    if dtype.hasobject:
        text = (
            "holds Python objects, which are never loaded, expected numbers or text. Save array.astype(float) or astype(str)."
        )
        raise refusal(where, text)
    header = _Header(where, shape, is_fortran, dtype)
    if min(shape, default=0) < 0 or header.size_bytes > most_bytes:
        text = f"announces {shape} {dtype}, {header.size_bytes:,} bytes, where there can be {most_bytes:,}. Write it anew"
        raise refusal(where, f"{text}, without compression if it is so large.")
    return header


def _read_body(header: _Header, file: IO[bytes]) -> Shaped[np.ndarray, "..."]:
    data = np.empty(header.size_bytes, np.uint8)
    got = 0
    while got < len(data):
        chunk = file.read(min(CHUNK_BYTES, len(data) - got))
        if not chunk:
            raise refusal(header.where, f"breaks off after {got:,} of {len(data):,} bytes. Write it anew.")
        data[got : got + len(chunk)] = np.frombuffer(chunk, np.uint8)
        got += len(chunk)
    return data.view(header.dtype).reshape(header.shape, order="F" if header.is_fortran else "C")


def _check_shapes(path: Path, headers: Mapping[str, _Header], expected: tuple[int, ...]) -> None:
    """Check the announced shapes before any of the data are read."""
    problems = []
    for name, header in headers.items():
        kinds, dims, words = FORMS[name]
        if header.dtype.kind not in kinds or len(header.shape) not in dims or not header.size_bytes:
            got = f"got {header.dtype} {header.shape}, expected {words}, at least one. Correct what is saved."
            problems.append(Problem("shape", header.where, got))
    if not problems and len(expected) < 2:
        text = (
            f"nothing names its {headers['probs'].shape[-1]} classes. Name the data (--data DIR), or add a run to the members."
        )
        problems.append(Problem("shape", str(path), text))
    elif not problems and headers["probs"].shape[-2:] != expected:
        rows, columns = headers["probs"].shape[-2:]
        text = f"got {rows} rows of {columns} classes, expected {expected[0]} rows, one per path, of {expected[1]} classes."
        problems.append(Problem("shape", headers["probs"].where, f"{text} Write them together."))
    if problems:
        raise PredictionError(problems)


def _known(num_classes: int | None) -> tuple[int, ...]:
    return () if num_classes is None else (num_classes,)


def _texts(where: str, array: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    try:  # by way of Python: numpy 2.4 forgets the byte order of big-endian integers
        texts = [text.decode() if isinstance(text, bytes) else str(text) for text in array.tolist()]
        return np.array(texts, STRING)
    except (UnicodeError, TypeError, ValueError, SystemError) as error:  # the last for letters beyond Unicode
        raise refusal(where, f"not Unicode text: {reason(error)}. Write it anew as text or UTF-8.") from None


def _as_folds(probs: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, "folds n classes"]:
    with np.errstate(over="ignore"):
        return (probs[None] if probs.ndim == 2 else probs).astype(np.float32, order="C", copy=False)


def reason(error: Exception) -> str:
    """Give an error's first line."""
    return (str(error).partition("\n")[0] or type(error).__name__)[:200]


def refusal(where: Path | str, text: str) -> PredictionError:
    """Make the error that refuses a file."""
    return PredictionError([Problem("predictions", str(where), text)])
