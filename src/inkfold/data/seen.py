"""Which drawings a backbone's weights learnt from, where a file beside the weights says so.

To a backbone that was trained on them drawings look easy, and accuracy out of fold says little of new ones. A file
`NAME.learnt.npy` beside `NAME.safetensors` holds 128 bits of each drawing that the weights learnt from, by which it is
recognised when it comes back in another size, on another page or in another file format. `ink-small` has one; for weights
of your own: `python -m inkfold.data.seen DATA WEIGHTS`.
"""

import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8, UInt64

from inkfold.data.dataset import read_dataset
from inkfold.data.fingerprints import SIDE, SignatureStore
from inkfold.errors import InkfoldError, WeightsError
from inkfold.storage.files import write_bytes
from inkfold.storage.pixels import digest_files

SUFFIX = ".learnt.npy"
BITS = 128
# 99 % of copies in other sizes and formats differ by that at the most, 99.5 % of other drawings by more: benchmarks/learnt.py.
NEAR_BITS = 8
CHUNK = 256


def seen_list_file(weights: Path) -> Path:
    """Say where the list of a weights file would lie.

    Args:
        weights: Of the backbone.

    Returns:
        `NAME.learnt.npy` beside it.
    """
    return weights.with_suffix(SUFFIX)


def read_seen_list(weights: Path) -> UInt64[np.ndarray, "n 2"] | None:
    """Read what weights learnt from.

    Args:
        weights: Their file.

    Returns:
        Codes; None where nobody wrote any down.

    Raises:
        WeightsError: If the file isn't a list of codes.
    """
    path = seen_list_file(weights)
    if not path.is_file():
        return None
    try:
        codes = np.load(path, mmap_mode="r", allow_pickle=False)  # a header that promises more than there is maps nothing
    except (OSError, ValueError, EOFError):  # NumPy's words recommend to unpickle it
        raise WeightsError(f"{path}: not a list of drawings, or not a whole one. {_again(weights)}") from None
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint64 or codes.ndim != 2 or codes.shape[1] != BITS // 64:
        got = f"{codes.dtype} {codes.shape}" if isinstance(codes, np.ndarray) else "an archive"
        raise WeightsError(f"{path}: got {got}, expected uint64 (n, {BITS // 64}). {_again(weights)}")
    return np.array(codes)


def write_seen_list(data: str | Path, weights: Path) -> int:
    """Write down which drawings weights learnt from, beside them.

    Args:
        data: All training drawings of a folder.
        weights: The weights' file.

    Returns:
        How many drawings are listed: those with too little ink to be told apart are not.

    Raises:
        DataError: With every problem of the data, broken drawings among them.
    """
    train = read_dataset(data).train
    files = train.files.tolist()
    digests, _ = digest_files(files)  # what can't be read can't be signed either, and is told then
    with tempfile.TemporaryDirectory() as scratch:
        store = SignatureStore(Path(scratch))
        store.build_all(files, train.image_paths.tolist(), digests)
        found = store.read(digests)
    codes = np.unique(code(found[found.any(axis=(1, 2))]), axis=0)
    buffer = io.BytesIO()
    np.save(buffer, codes, allow_pickle=False)
    write_bytes(seen_list_file(weights), buffer.getvalue())
    return len(codes)


def code(signatures: UInt8[np.ndarray, "n 64 64"]) -> UInt64[np.ndarray, "n 2"]:
    """Shorten signatures to 128 bits: the signs of their lowest frequencies.

    Args:
        signatures: As `signatures.sign` makes them.

    Returns:
        Codes that differ in few bits where drawings are copies of each other, and in half of them where they aren't.

    Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), on centred and scaled ink.
    """
    rows, columns = _lowest_frequencies()
    waves = _cosines(int(max(rows.max(), columns.max())) + 1)
    found = np.einsum("fy,nyx,gx->nfg", waves, signatures.astype(np.float64), waves, optimize=True)[:, rows, columns]
    packed = np.packbits(np.ascontiguousarray(found > 0), axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64)


def mark_seen(signatures: UInt8[np.ndarray, "n 64 64"], learnt: UInt64[np.ndarray, "m 2"]) -> Bool[np.ndarray, " n"]:
    """Say which drawings are among those that were learnt from.

    Args:
        signatures: Of the drawings; the upright ones are compared, not mirrored or turned copies.
        learnt: Codes of what was learnt from.

    Returns:
        True where one of them is the drawing; never where there is too little ink to tell.
    """
    known = np.zeros(len(signatures), bool)
    for start in range(0, len(signatures) if len(learnt) else 0, CHUNK):
        part = slice(start, start + CHUNK)
        different = np.bitwise_count(code(signatures[part])[:, None] ^ learnt[None]).sum(axis=2, dtype=np.int64)
        known[part] = (different.min(axis=1) <= NEAR_BITS) & signatures[part].any(axis=(1, 2))
    return known


def _lowest_frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Give the frequencies of the cosine transform in order, the mean left out."""
    places = sorted((row + column, row, column) for row in range(BITS) for column in range(BITS) if 0 < row + column < 16)
    _, rows, columns = np.array(places[:BITS]).T
    return rows, columns


def _cosines(count: int) -> np.ndarray:
    return np.cos(np.pi * np.arange(count)[:, None] * (2 * np.arange(SIDE) + 1) / (2 * SIDE))


def _again(weights: Path) -> str:
    return f"Write it again: python -m inkfold.data.seen DATA {weights}; or remove it."


def main(arguments: Sequence[str]) -> None:
    """Write a list, as `python -m inkfold.data.seen DATA WEIGHTS` does.

    Args:
        arguments: The folder of drawings and the weights file.

    Raises:
        SystemExit: With what is wrong.
    """
    try:
        folder, file = arguments[0], Path(arguments[1])
    except IndexError:
        sys.exit("usage: python -m inkfold.data.seen DATA WEIGHTS")
    if not file.is_file():
        sys.exit(f"{file}: not a file. Name the weights that learnt from these drawings.")
    try:
        sys.stdout.write(f"{write_seen_list(folder, file):,} drawings: {seen_list_file(file)}\n")
    except (InkfoldError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
