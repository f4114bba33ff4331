"""What larger networks find in the pretraining pictures: targets for a small network to reproduce.

    INKFOLD_WEIGHTS=DIR python pretraining/teachers.py --store STORE --teacher NAME [--sources quickdraw icons] [--mirror]

Each picture goes through the teacher once, plain, and with `--mirror` its mirror image too where a picture may be mirrored.
The outputs of all layers are standardised, turned to their principal components, and kept with the square root of their
standard deviations, so that a few large components don't hide the others.
"""

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pictures import MIRRORED, SOURCES, Pictures, load

from inkfold.models.backbone import Backbone, keep_freed_memory
from inkfold.models.weights import BackboneSpec, resolve_backbone

COMPONENTS = 256
HALF = [0.5, 0.5, 0.5]
SETTINGS: dict[str, dict[str, Any]] = {  # of weights that were trained otherwise than timm's name says
    "tf_efficientnet_lite0": {"mean": HALF, "std": HALF},
    "mobilenetv2_100": {"mean": HALF, "std": HALF, "model_args": {"pad_type": "same"}},
}
CHUNK = 512


def taught_rows(pictures: Pictures, sources: list[str], named: bool) -> np.ndarray:
    """Choose the pictures of some sources, all of them or those with a class."""
    chosen = np.isin(pictures.source, [SOURCES.index(source) for source in sources])
    return np.flatnonzero(chosen & (pictures.label >= 0) if named else chosen)


def features(
    pictures: Pictures, rows: np.ndarray, spec: BackboneSpec, side: int | None = None, mirror: bool = False
) -> np.ndarray:
    """Compute a teacher's features of some pictures, (n, d) float32.

    Args:
        pictures: All pictures.
        rows: Those that are wanted, (n,).
        spec: The teacher.
        side: Side of the pictures that the teacher is given, in pixels; nothing for its own.
        mirror: Whether the mean with the mirror image's features is taken, where a picture may be mirrored.
    """
    info = resolve_backbone(spec)
    backbone = Backbone(info, torch.device("cpu"))
    mirrored = np.isin(pictures.source, [SOURCES.index(source) for source in MIRRORED])
    out = []
    for start in range(0, len(rows), CHUNK):
        chosen = rows[start : start + CHUNK]
        pages = pictures.pixels[chosen]
        size = side or info.image_size
        pages = np.stack(
            [cv2.resize(page, (size, size), interpolation=cv2.INTER_AREA if size < 128 else cv2.INTER_CUBIC) for page in pages]
        )
        pages = pages if len(info.mean) == 1 else np.repeat(pages[..., None], 3, 3)
        values = backbone.extract(pages).astype(np.float32)
        turned = mirrored[chosen] & mirror
        if turned.any():
            values[turned] = (values[turned] + backbone.extract(np.ascontiguousarray(pages[turned, :, ::-1]))) / 2
        out.append(values)
        print(f"{spec.name}: {start + len(chosen)} of {len(rows)}", end="\r", flush=True)
    return np.concatenate(out)


def components(values: np.ndarray) -> np.ndarray:
    """Standardise features and turn them to their largest principal components, each divided by the root of its deviation."""
    values = (values - values.mean(0)) / (values.std(0) + 1e-6)
    covariance = values.T @ values / len(values)
    variances, axes = np.linalg.eigh(covariance.astype(np.float64))
    axes = axes[:, ::-1][:, :COMPONENTS] / np.maximum(variances[::-1][:COMPONENTS], 1e-9) ** 0.25
    return values @ axes.astype(np.float32)


def main() -> None:
    """Write one teacher's targets beside the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--teacher", required=True, help="a backbone of inkfold")
    parser.add_argument("--weights", help="file of its weights, for those that aren't the backbone's usual ones")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=["quickdraw", "icons"])
    parser.add_argument("--named", action="store_true", help="pictures with a class only")
    parser.add_argument("--side", type=int, help="side of the pictures it is given, in pixels; its own by default")
    parser.add_argument("--mirror", action="store_true", help="the mean with the mirror image's features")
    parser.add_argument("--last", action="store_true", help="the last layer only")
    given = parser.parse_args()
    torch.set_num_threads(2)
    pictures = load(given.store)
    with keep_freed_memory():
        rows = taught_rows(pictures, given.sources, given.named)
        settings = {**SETTINGS.get(given.teacher, {}), **({"weights": given.weights} if given.weights else {})}
        spec = BackboneSpec(name=given.teacher, features="last" if given.last else "layers", **settings)
        values = features(pictures, rows, spec, given.side, given.mirror)
    targets = components(values)
    whole = np.zeros((len(pictures.source), targets.shape[1]), np.float16)
    whole[rows] = targets / np.linalg.norm(targets, axis=1, keepdims=True)
    np.save(given.store / f"teacher-{given.teacher}.npy", whole)
    print(f"{given.teacher}: {len(rows)} pictures, {values.shape[1]} features, {targets.shape[1]} components")


if __name__ == "__main__":
    main()
