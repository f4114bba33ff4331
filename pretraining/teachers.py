"""What larger networks find in the pretraining pictures: targets for a small network to reproduce.

    INKFOLD_WEIGHTS=DIR python pretraining/teachers.py --store STORE --teacher NAME [--sources quickdraw icons]

Each picture goes through the teacher once, plain, and its mirror image too where a picture may be mirrored. The outputs of
all layers are standardised, turned to their principal components, and kept with the square root of their standard deviations,
so that a few large components don't hide the others.
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


def features(pictures: Pictures, name: str, sources: list[str], layers: bool) -> tuple[np.ndarray, np.ndarray]:
    """Compute a teacher's features of the pictures of some sources; returns their rows too."""
    rows = np.flatnonzero(np.isin(pictures.source, [SOURCES.index(source) for source in sources]))
    info = resolve_backbone(BackboneSpec(name=name, features="layers" if layers else "last", **SETTINGS.get(name, {})))
    backbone = Backbone(info, torch.device("cpu"))
    mirrored = np.isin(pictures.source, [SOURCES.index(source) for source in MIRRORED])
    out = []
    for start in range(0, len(rows), CHUNK):
        chosen = rows[start : start + CHUNK]
        pages = pictures.pixels[chosen]
        side = info.image_size
        pages = np.stack(
            [cv2.resize(page, (side, side), interpolation=cv2.INTER_AREA if side < 128 else cv2.INTER_CUBIC) for page in pages]
        )
        pages = pages if len(info.mean) == 1 else np.repeat(pages[..., None], 3, 3)
        values = backbone.extract(pages).astype(np.float32)
        turned = mirrored[chosen]
        if turned.any():
            values[turned] = (values[turned] + backbone.extract(np.ascontiguousarray(pages[turned, :, ::-1]))) / 2
        out.append(values)
        print(f"{name}: {start + len(chosen)} of {len(rows)}", end="\r", flush=True)
    return rows, np.concatenate(out)


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
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=["quickdraw", "icons"])
    parser.add_argument("--last", action="store_true", help="the last layer only")
    given = parser.parse_args()
    torch.set_num_threads(2)
    pictures = load(given.store)
    with keep_freed_memory():
        rows, values = features(pictures, given.teacher, given.sources, layers=not given.last)
    targets = components(values)
    whole = np.zeros((len(pictures.source), targets.shape[1]), np.float16)
    whole[rows] = targets / np.linalg.norm(targets, axis=1, keepdims=True)
    np.save(given.store / f"teacher-{given.teacher}.npy", whole)
    print(f"{given.teacher}: {len(rows)} pictures, {values.shape[1]} features, {targets.shape[1]} components")


if __name__ == "__main__":
    main()
