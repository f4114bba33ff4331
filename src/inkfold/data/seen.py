"""Lists of the drawings that a backbone was pretrained on, and their recognition among a run's drawings.

Accuracy on drawings that the backbone was pretrained on is optimistic, also out of fold. A file `NAME.learnt.npy` beside
`NAME.safetensors` holds a 128-bit code of each pretraining drawing, by which it is recognised in another size, on another page
or in another file format. `ink-small` has such a list; for your own weights run `python -m inkfold.data.seen DATA WEIGHTS`.
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
# 99 % of copies in other sizes and formats differ by that at the most, 99.5 % of other drawings by more: benchmarks/seen.py.
NEAR_BITS = 8
CHUNK = 256


def seen_list_file(weights: Path) -> Path:
    """Return the path of a weights file's list of pretraining drawings, `NAME.learnt.npy` beside it, which need not exist."""
    return weights.with_suffix(SUFFIX)


def read_seen_list(weights: Path) -> UInt64[np.ndarray, "n 2"] | None:
    """Read the codes of the drawings that a backbone was pretrained on.

    Args:
        weights: Path of the backbone's weights file.

    Returns:
        A code per drawing; None if the weights have no list.

    Raises:
        WeightsError: If the file isn't a list of codes.
    """
    path = seen_list_file(weights)
    if not path.is_file():
        return None
    try:
        codes = np.load(path, mmap_mode="r", allow_pickle=False)  # a header that announces more than the file holds fails here
    except (OSError, ValueError, EOFError):  # NumPy's message recommends unpickling
        raise WeightsError(f"{path}: not a list of drawings, or not a whole one. {_again(weights)}") from None
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint64 or codes.ndim != 2 or codes.shape[1] != BITS // 64:
        got = f"{codes.dtype} {codes.shape}" if isinstance(codes, np.ndarray) else "an archive"
        raise WeightsError(f"{path}: got {got}, expected uint64 (n, {BITS // 64}). {_again(weights)}")
    return np.array(codes)


def write_seen_list(data: str | Path, weights: Path) -> int:
    """Write the list of the drawings that a backbone was pretrained on, beside its weights.

    Args:
        data: The dataset whose training drawings the weights were trained on.
        weights: The weights file beside which the list is written.

    Returns:
        Number of listed drawings; those with too little ink to be recognised are left out.

    Raises:
        DataError: If the data has problems, including drawings that can't be decoded; all are reported together.
    """
    train = read_dataset(data).train
    files = train.files.tolist()
    digests, _ = digest_files(files)  # unreadable files are reported by `build_all`
    with tempfile.TemporaryDirectory() as scratch:
        store = SignatureStore(Path(scratch))
        store.build_all(files, train.image_paths.tolist(), digests)
        signatures = store.read(digests)
    codes = np.unique(code(signatures[signatures.any(axis=(1, 2))]), axis=0)
    buffer = io.BytesIO()
    np.save(buffer, codes, allow_pickle=False)
    write_bytes(seen_list_file(weights), buffer.getvalue())
    return len(codes)


def code(signatures: UInt8[np.ndarray, "n 64 64"]) -> UInt64[np.ndarray, "n 2"]:
    """Reduce signatures to 128-bit codes: the signs of their lowest frequencies.

    Those of copies differ in few bits, those of different drawings in about half of them.

    Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), on centred and scaled ink.
    """
    rows, columns = _lowest_frequencies()
    frequencies = np.arange(int(max(rows.max(), columns.max())) + 1)[:, None]
    waves = np.cos(np.pi * frequencies * (2 * np.arange(SIDE) + 1) / (2 * SIDE))
    coefficients = np.einsum("fy,nyx,gx->nfg", waves, signatures.astype(np.float64), waves, optimize=True)[:, rows, columns]
    packed = np.packbits(np.ascontiguousarray(coefficients > 0), axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64)


def mark_seen(signatures: UInt8[np.ndarray, "n 64 64"], seen: UInt64[np.ndarray, "m 2"]) -> Bool[np.ndarray, " n"]:
    """Mark the drawings that the backbone was pretrained on.

    Args:
        signatures: Signatures of the drawings; mirrored or turned copies aren't recognised.
        seen: Codes of the pretraining drawings, from `read_seen_list`.

    Returns:
        True for drawings that the list has; False for those with too little ink to compare.
    """
    known = np.zeros(len(signatures), bool)
    for start in range(0, len(signatures) if len(seen) else 0, CHUNK):
        part = slice(start, start + CHUNK)
        different = np.bitwise_count(code(signatures[part])[:, None] ^ seen[None]).sum(axis=2, dtype=np.int64)
        known[part] = (different.min(axis=1) <= NEAR_BITS) & signatures[part].any(axis=(1, 2))
    return known


def _lowest_frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of the cosine transform's lowest frequencies, in ascending order and without the mean."""
    places = sorted((row + column, row, column) for row in range(BITS) for column in range(BITS) if 0 < row + column < 16)
    _, rows, columns = np.array(places[:BITS]).T
    return rows, columns


def _again(weights: Path) -> str:
    return f"Write it again: python -m inkfold.data.seen DATA {weights}; or remove it."


def main(arguments: Sequence[str]) -> None:
    """Run `python -m inkfold.data.seen DATA WEIGHTS`, which writes a list of pretraining drawings.

    Args:
        arguments: Path of the drawings, and path of the weights file.

    Raises:
        SystemExit: If the arguments or the data are wrong.
    """
    try:
        folder, file = arguments[0], Path(arguments[1])
    except IndexError:
        sys.exit("usage: python -m inkfold.data.seen DATA WEIGHTS")
    if not file.is_file():
        sys.exit(f"{file}: not a file. Name the weights that were trained on these drawings.")
    try:
        sys.stdout.write(f"{write_seen_list(folder, file):,} drawings: {seen_list_file(file)}\n")
    except (InkfoldError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
