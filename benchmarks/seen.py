"""How surely a drawing that a backbone learnt from is recognised when it comes back, and how often another one is taken for it.

    .venv/bin/python benchmarks/seen.py --data DIR [--count 600]

DIR is in the competition's layout. Its training drawings are listed; some of them come back changed, and the test drawings are
the others.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from inkfold.data.fingerprints import sign
from inkfold.data.seen import code, mark_seen
from inkfold.images.decode import decode_image

SEED = 7


def scaled(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    """Resize by a factor."""
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return lambda page: cv2.resize(page, None, fx=factor, fy=factor, interpolation=how)


def as_jpeg(page: np.ndarray) -> np.ndarray:
    """Encode as JPEG of quality 30 and decode."""
    decoded = cv2.imdecode(cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    return decoded


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "half the size": scaled(0.5),
    "a quarter of the size": scaled(0.25),
    "twice the size": scaled(2),
    "JPEG of quality 30": as_jpeg,
    "inverted": lambda page: 255 - page,
    "on a larger page": lambda page: cv2.copyMakeBorder(page, 40, 10, 90, 20, cv2.BORDER_CONSTANT, value=255),
    "strokes 4 px thicker": lambda page: cv2.erode(page, np.ones((5, 5), np.uint8)),
    "strokes 1 px thinner": lambda page: cv2.dilate(page, np.ones((2, 2), np.uint8)),
    "mirrored": lambda page: page[:, ::-1],
}


def pages(data: Path, part: str) -> list[np.ndarray]:
    """Decode the drawings of a table, grey."""
    with (data / f"{part}.csv").open(newline="", encoding="utf-8") as file:
        names = [row["image_path"] for row in csv.DictReader(file)]
    return [decode_image((data / part / name).read_bytes(), colour="grey") for name in names]


def main() -> None:
    """Print shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=600)
    given = parser.parse_args()
    drawings = pages(given.data, "train")
    signatures = np.stack([sign(page) for page in drawings])
    told_apart = np.flatnonzero(signatures.any(axis=(1, 2)))
    learnt = code(signatures[told_apart])
    print(f"{len(learnt)} of {len(drawings)} drawings have enough ink to be told apart")
    some = np.random.default_rng(SEED).choice(told_apart, min(given.count, len(told_apart)), replace=False)
    for name, change in CHANGES.items():
        known = mark_seen(np.stack([sign(change(drawings[i])) for i in some]), learnt)
        print(f"recognised, {name:24s} {known.mean():.4f} of {len(known)}")
    others = mark_seen(np.stack([sign(page) for page in pages(given.data, "test")]), learnt)
    print(f"test drawings taken for training drawings {others.mean():.4f} of {len(others)}, true copies among them")


if __name__ == "__main__":
    main()
