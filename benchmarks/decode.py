"""Drawings read a second, on one core: `read_drawing` against Pillow with torchvision's transforms, in turns.

The alternative is what `ImageFolder` does: `default_loader` (open, convert to RGB), `Resize`, `PILToTensor`. Both sides
read the same files from disk into 224 x 224 with antialiased bilinear interpolation. The files are 800 x 800 JPEGs of
line drawings, drawn here from a seed. Both sides keep all of the drawing (`pad` of a square picture adds nothing).

    python benchmarks/decode.py [--quick]
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from PIL import Image, ImageDraw

from inkfold.images.preprocess import ImageOptions, read_drawing

with contextlib.suppress(ImportError):
    from inkfold.models.torchvision_compat import declare_missing_operators

    declare_missing_operators()

from torchvision.datasets.folder import default_loader
from torchvision.transforms import Compose, InterpolationMode, PILToTensor, Resize, v2

SIDE_PX = 800
SIZE_PX = 224
Reader = Callable[[Path], object]


def main() -> None:
    """Draw the files, time the readers in turns, print the table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer files and rounds; under a minute")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sets = write_drawings(Path(folder), count=30 if quick else 150)
        print(f"{'JPEG':<6} {'reader':<44} {'images/s':>9} {'times slower':>13}")
        ratios = {name: compare(name, paths, rounds=7 if quick else 15) for name, paths in sets.items()}
    print(f"RESULT ratio={ratios['rgb']:.2f} ratio_grey_jpeg={ratios['grey']:.2f} ratio_rgb_jpeg={ratios['rgb']:.2f}")


def write_drawings(folder: Path, count: int) -> dict[str, list[Path]]:
    """Write each drawing as a greyscale JPEG and as a YCbCr 4:2:0 JPEG."""
    rng = np.random.default_rng(0)
    sets: dict[str, list[Path]] = {"grey": [], "rgb": []}
    for number in range(count):
        drawing = draw_lines(rng)
        quality = int(rng.integers(90, 96))
        for name, mode in (("grey", "L"), ("rgb", "RGB")):
            path = folder / f"{name}_{number}.jpg"
            drawing.convert(mode).save(path, quality=quality, subsampling=-1 if mode == "L" else 2)
            sets[name].append(path)
    for name, paths in sets.items():
        print(f"{count} {name} JPEGs of {statistics.mean(p.stat().st_size for p in paths) / 1000:.0f} kB on average")
    return sets


def draw_lines(rng: np.random.Generator) -> Image.Image:
    """Draw wandering pen strokes, of varying width and darkness, and a few ellipses."""
    picture = Image.new("L", (SIDE_PX, SIDE_PX), 255)
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(10, 40))):
        steps = rng.normal(0, 1, (40, 2)).cumsum(axis=0) * 6
        points = steps.cumsum(axis=0) * 0.3 + rng.uniform(100, SIDE_PX - 100, 2)
        pen.line([tuple(point) for point in points], fill=int(rng.integers(0, 100)), width=int(rng.integers(1, 7)))
    for _ in range(int(rng.integers(0, 6))):
        left, top, width, height = rng.uniform(50, 300, 4)
        pen.ellipse((left, top, left + width, top + height), outline=int(rng.integers(0, 100)), width=3)
    return picture


def readers() -> dict[str, Reader]:
    """Name the readers; the first is this project's, the second the one that the ratio is against."""
    bilinear, bicubic = ImageOptions(size_px=SIZE_PX, interpolation="bilinear"), ImageOptions(size_px=SIZE_PX)
    size = (SIZE_PX, SIZE_PX)
    as_image_folder = Compose([Resize(size), PILToTensor()])
    as_bicubic = Compose([Resize(size, interpolation=InterpolationMode.BICUBIC), PILToTensor()])
    on_tensors = Compose([PILToTensor(), v2.Resize(size, antialias=True)])
    return {
        "inkfold read_drawing, bilinear": lambda path: read_drawing(path.read_bytes(), bilinear),
        "ImageFolder: Resize, PILToTensor": lambda path: as_image_folder(default_loader(path)),
        "ImageFolder: PILToTensor, v2.Resize(antialias)": lambda path: on_tensors(default_loader(path)),
        "inkfold read_drawing, bicubic": lambda path: read_drawing(path.read_bytes(), bicubic),
        "ImageFolder: Resize(bicubic), PILToTensor": lambda path: as_bicubic(default_loader(path)),
    }


def compare(name: str, paths: list[Path], rounds: int) -> float:
    """Time every reader once a round and return the median of the rounds' ratios."""
    seconds: dict[str, list[float]] = {reader: [] for reader in readers()}
    for _ in range(rounds):
        for reader, read in readers().items():
            seconds[reader].append(seconds_for(read, paths))
    ours, theirs, *_ = seconds.values()
    for reader, times in seconds.items():
        slower = statistics.median(time_ / own for time_, own in zip(times, ours, strict=True))
        print(f"{name:<6} {reader:<44} {len(paths) / statistics.median(times):>9.0f} {slower:>13.2f}")
    return statistics.median(their / own for their, own in zip(theirs, ours, strict=True))


def seconds_for(read: Reader, paths: list[Path]) -> float:
    """Read all files once."""
    start = time.perf_counter()
    for path in paths:
        read(path)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
