"""The winner's third stage a picture, on one core: inkfold's single resampling against the usual libraries.

hflip, vflip, rotate(15), elastic(30,4) and grid(4,0.2), each with probability 0.5 as in the stage, and all five always;
from 800 and from 448 px to 448 px. Libraries that resample at every step can resize last, working on every pixel of the
source, or first, which is faster and loses detail: both are timed. torchvision and kornia have no grid distortion, so
they do one operation less. Drawings are grey to inkfold, which sees that by itself; the others get the three channels that
their users' loaders give, and albumentations one channel too. All sides take turns.

    .venv/bin/python benchmarks/augment.py [--quick]

Beside the times: how sharp lines stay when all five operations are applied, at once and one after another.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it asks the network for its latest version at import

import albumentations as A  # noqa: N812 - its users' name for it
import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from inkfold.augment.views import View, parse_view, render
from inkfold.data.synthetic import CLASS_NAMES, draw_strokes, render_strokes
from inkfold.models.torchvision_compat import declare_missing_operators
from inkfold.storage.hashing import digest

SIZE_PX = 448
FIVE = ("hflip", "vflip", "rotate(15)", "elastic(30,4)", "grid(4,0.2)")
Picture = UInt8[np.ndarray, "h w *channels"]
Side = Callable[[Picture, int], object]


def main() -> None:
    """Time all sides in turns, then compare lines, and print the tables and the RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pictures; under a minute")
    quick = parser.parse_args().quick
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    result: dict[str, float] = {}
    for p in (0.5, 1.0):
        for source_px in (800, SIZE_PX):
            result |= compare(source_px, p, count=24 if quick else 200)
    result |= sharpness(count=50 if quick else 200)
    print("RESULT " + " ".join(f"{name}={value:.2f}" for name, value in result.items()))


def compare(source_px: int, p: float, count: int) -> dict[str, float]:
    """Give the ratios for one size of source and one probability."""
    sides = build_sides(source_px, p)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(count):
        grey = drawing(i, source_px)
        colour = np.repeat(grey[..., None], 3, 2)
        for name, side in sides.items():
            picture = grey if name.startswith(("inkfold", "cv2")) or "grey" in name else colour
            started = time.perf_counter()
            side(picture, i)
            times[name].append(time.perf_counter() - started)
    means = {name: statistics.mean(took[count // 10 :]) * 1e3 for name, took in times.items()}  # the first ones warm up
    title = f"from {source_px} px, p = {p}, {count} drawings"
    print(f"{title:<62}{'mean ms':>9}{'times inkfold':>15}")
    for name, mean in means.items():
        print(f"  {name:<60}{mean:>9.2f}{mean / means['inkfold']:>15.2f}")
    suffix = f"_{source_px}" + ("" if p < 1 else "_all")
    ratios = {f"ratio{suffix}": means["albumentations"] / means["inkfold"]}
    if source_px == SIZE_PX:
        return {**ratios, f"ratio_remap{suffix}": means["inkfold"] / means["cv2.remap alone, 8-bit grey"]}
    return {**ratios, f"ratio{suffix}_resized_first": means["albumentations, resized first"] / means["inkfold"]}


def build_sides(source_px: int, p: float) -> dict[str, Side]:
    """Give each side as a function of a picture and its number."""
    declare_missing_operators()
    import kornia.augmentation as K  # noqa: N812
    from torchvision.transforms import v2

    names = [digest(b"%d" % i).encode() for i in range(1_000)]
    views = [parse_view(" + ".join(f"{one}@{p}" for one in FIVE), seed=1, index=i) for i in range(8)]
    resize = [] if source_px == SIZE_PX else [A.Resize(SIZE_PX, SIZE_PX)]
    last, first = A.Compose([*albumentations_stage(p), *resize]), A.Compose([*resize, *albumentations_stage(p)])
    toolbox = v2.Compose(
        [
            *([v2.Resize((SIZE_PX, SIZE_PX), antialias=True)] if resize else []),
            v2.RandomHorizontalFlip(p),
            v2.RandomVerticalFlip(p),
            v2.RandomApply([v2.RandomRotation(15, v2.InterpolationMode.BILINEAR, fill=255)], p),
            v2.RandomApply([v2.ElasticTransform(30.0, 4.0, fill=255)], p),
        ]
    )
    kornian = K.AugmentationSequential(
        *([K.Resize((SIZE_PX, SIZE_PX), antialias=True)] if resize else []),
        K.RandomHorizontalFlip(p=p),
        K.RandomVerticalFlip(p=p),
        K.RandomRotation(15.0, p=p),
        K.RandomElasticTransform(kernel_size=(25, 25), sigma=(4.0, 4.0), alpha=(30.0 / SIZE_PX, 30.0 / SIZE_PX), p=p),
    )
    x, y = bare_map(source_px)
    sides: dict[str, Side] = {
        "inkfold": lambda picture, i: render(picture, views[i % 8], names[i], SIZE_PX),
        "albumentations": lambda picture, i: last(image=picture)["image"],
        "albumentations, grey": lambda picture, i: last(image=picture)["image"],
    }
    if resize:
        sides["albumentations, resized first"] = lambda picture, i: first(image=picture)["image"]
        sides["albumentations, resized first, grey"] = lambda picture, i: first(image=picture)["image"]
    sides["torchvision v2, resized first, without the grid"] = lambda picture, i: toolbox(as_tensor(picture))
    sides["kornia, resized first, without the grid"] = lambda picture, i: kornian(as_tensor(picture)[None].float() / 255)
    sides["cv2.remap alone, 8-bit grey"] = lambda picture, i: cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderValue=255)
    return sides


def as_tensor(picture: Picture) -> torch.Tensor:
    """Give (3, h, w), as the tensor libraries want it."""
    return torch.from_numpy(picture).permute(2, 0, 1)


def bare_map(source_px: int) -> list[np.ndarray]:
    """Make a map that is there already: what any resampling takes at the least."""
    rng, places = np.random.default_rng(0), np.arange(SIZE_PX, dtype=np.float32) * (source_px / SIZE_PX)
    return [axis + rng.normal(0, 0.3, axis.shape).astype(np.float32) for axis in np.meshgrid(places, places)]


def albumentations_stage(p: float) -> list[A.BasicTransform]:
    """The stage as its users write it."""
    return [
        A.HorizontalFlip(p=p),
        A.VerticalFlip(p=p),
        A.Rotate(limit=15, fill=255, p=p),
        A.ElasticTransform(alpha=30, sigma=4, fill=255, p=p),
        A.GridDistortion(num_steps=4, distort_limit=0.2, fill=255, p=p),
    ]


def sharpness(count: int) -> dict[str, float]:
    """Compare how sharp lines stay when all five operations are applied at once and one after another."""
    at_once = parse_view(" + ".join(FIVE), seed=1)
    one_by_one = [View((operation,), seed=1) for operation in at_once.operations]
    chain = A.Compose([A.Resize(SIZE_PX, SIZE_PX), *albumentations_stage(1.0)], seed=1)
    figures: dict[str, list[float]] = {"as it is": [], "at once": [], "one after another": [], "albumentations": []}
    for i in range(count):
        picture, name = drawing(i, 800), digest(b"%d" % i).encode()
        figures["as it is"].append(gradient(render(picture, View(), name, SIZE_PX)))
        figures["at once"].append(gradient(render(picture, at_once, name, SIZE_PX)))
        step = render(picture, View(), name, SIZE_PX)
        for view in one_by_one:
            step = render(step, view, name, SIZE_PX)
        figures["one after another"].append(gradient(step))
        figures["albumentations"].append(gradient(chain(image=picture)["image"]))
    means = {name: statistics.mean(values) for name, values in figures.items()}
    print(f"sharpness of lines after all five operations, {count} drawings of 800 px{'':<6}{'grey levels a px':>17}")
    for label, mean in means.items():
        print(f"  {label:<60}{mean:>17.1f}")
    return {
        "sharpness_at_once": means["at once"] / means["as it is"],
        "sharpness_one_after_another": means["one after another"] / means["as it is"],
        "sharpness_albumentations": means["albumentations"] / means["as it is"],
    }


def gradient(picture: Picture) -> float:
    """Give the mean gradient along the lines' edges: its energy over its sum, so that blank paper has no say."""
    across = [cv2.Sobel(picture, cv2.CV_32F, *axis, ksize=3, scale=1 / 8) for axis in ((1, 0), (0, 1))]
    squares = across[0] ** 2 + across[1] ** 2
    return float(squares.sum() / np.sqrt(squares).sum())


def drawing(index: int, side_px: int) -> Picture:
    """Draw one of the generator's objects in grey."""
    rng = np.random.default_rng([7, index])
    strokes = draw_strokes(CLASS_NAMES[index % len(CLASS_NAMES)], rng)
    return render_strokes(strokes, side_px, pen_px=side_px / 100)


if __name__ == "__main__":
    main()
