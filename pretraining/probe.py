"""What frozen features are worth on other drawings: a logistic regression in five folds, plain and on spoilt drawings.

    python pretraining/probe.py --data QUICKDRAW [--folders DIR ...] WEIGHTS ... [tf_efficientnet_lite0 ...]

QUICKDRAW's classes that ink-small never sees are judged, plain and as drawings are spoilt: trained on plain drawings,
evaluated on the others' spoilt ones. DIR is a folder of class folders of other drawings; who drew them plays no part. It takes
seconds a set, so that objectives can be compared; the figures that count are `benchmarks/ink_small.py`'s.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone knows
from teachers import SETTINGS

from inkfold.images.preprocess import ImageOptions, read_drawing
from inkfold.models.backbone import Backbone, keep_freed_memory
from inkfold.models.weights import BackboneSpec, resolve_backbone

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from ink_small import left_out, read

FOLDS, MOST = 5, 60
L2 = 1.0


def unseen(data: Path) -> tuple[list[bytes], np.ndarray]:
    """Read the training drawings of the classes that ink-small never sees."""
    rows = read(data / "train.csv")
    hidden = left_out({row["class_name"] for row in rows})
    rows = [row for row in rows if row["class_name"] in hidden]
    labels = np.array([hidden.index(row["class_name"]) for row in rows])
    return [(data / "train" / row["image_path"]).read_bytes() for row in rows], labels


def folders(root: Path) -> tuple[list[bytes], np.ndarray]:
    """Read class folders, at most some dozens of drawings of each class."""
    files, labels = [], []
    for place, folder in enumerate(sorted(path for path in root.iterdir() if path.is_dir())):
        chosen = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg"})
        chosen = chosen[:: max(1, len(chosen) // MOST)][:MOST]
        files += [path.read_bytes() for path in chosen]
        labels += [place] * len(chosen)
    return files, np.array(labels)


def spoilt(page: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Spoil a square drawing: grained, photographed, thick, thin or turned by 15 degrees."""
    side = len(page)
    if kind == "grain":
        return np.clip(page + rng.normal(0, 32, page.shape), 0, 255).astype(np.uint8)
    if kind == "photographed":
        light = cv2.resize(rng.uniform(0.55, 0.95, (3, 3)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        weak = cv2.GaussianBlur(255 - 0.55 * (255 - page.astype(np.float32)), (0, 0), side / 90)
        return np.clip(weak * light + rng.normal(0, 6, page.shape), 0, 255).astype(np.uint8)
    if kind == "thick":
        return cv2.erode(page, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (round(side / 18) | 1,) * 2))
    if kind == "turned":
        matrix = cv2.getRotationMatrix2D((side / 2, side / 2), 15 * rng.choice([-1, 1]), 0.9)
        return cv2.warpAffine(page, matrix, (side, side), flags=cv2.INTER_AREA, borderValue=255)
    if kind == "small":
        matrix = np.array(
            [[0.5, 0, side * 0.4 * rng.random() + side * 0.05], [0, 0.5, side * 0.4 * rng.random() + side * 0.05]]
        )
        return cv2.warpAffine(
            cv2.GaussianBlur(page, (0, 0), 0.8), matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=255
        )
    return page


KINDS = ("plain", "grain", "photographed", "thick", "turned", "small")


def backbone_of(name: str) -> Backbone:
    """Open a weights file of ink-small, or another backbone by its name; `NAME+layers` gives all layers' outputs."""
    name, _, layers = name.partition("+")
    spec = {"name": "ink-small", "weights": name} if name.endswith(".safetensors") else {"name": name, **SETTINGS.get(name, {})}
    return Backbone(resolve_backbone(BackboneSpec(**spec, features=layers or "last")), torch.device("cpu"))


def features(backbone: Backbone, pages: list[np.ndarray]) -> np.ndarray:
    """Compute the features of square pages."""
    side = backbone.info.image_size
    small = [page if len(page) == side else cv2.resize(page, (side, side), interpolation=cv2.INTER_AREA) for page in pages]
    stacked = np.stack(small)
    return backbone.extract(stacked if len(backbone.info.mean) == 1 else np.repeat(stacked[..., None], 3, 3)).astype(np.float32)


def fitted(x: torch.Tensor, y: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit a logistic regression."""
    weight, bias = torch.zeros(classes, x.shape[1], requires_grad=True), torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=60, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(x @ weight.T + bias, y) + L2 / len(x) * (weight**2).sum()
        value.backward()
        return value

    optimiser.step(loss)
    return weight.detach(), bias.detach()


def accuracies(plain: np.ndarray, others: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """Fit on four folds' plain drawings and evaluate on the fifth's, in all kinds."""
    rng = np.random.default_rng(0)
    fold = np.empty(len(labels), int)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        fold[rng.permutation(rows)] = np.arange(len(rows)) % FOLDS
    right = dict.fromkeys(others, 0)
    y = torch.from_numpy(labels)
    for part in range(FOLDS):
        training = fold != part
        mean, scale = plain[training].mean(0), plain[training].std(0) + 1e-5
        x = torch.from_numpy((plain - mean) / scale / np.float32(np.sqrt(plain.shape[1])))
        weight, bias = fitted(x[training] * 4, y[training], int(labels.max()) + 1)
        for kind, values in others.items():
            held = torch.from_numpy((values - mean) / scale / np.float32(np.sqrt(plain.shape[1])))[~training] * 4
            right[kind] += int(((held @ weight.T + bias).argmax(1) == y[~training]).sum())
    return {kind: count / len(labels) for kind, count in right.items()}


def main() -> None:
    """Print a row a backbone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folders", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    options = ImageOptions(size_px=224, resize="crop_to_ink", colour="grey")
    sets = {"unseen": unseen(given.data), **{folder.name: folders(folder) for folder in given.folders}}
    with keep_freed_memory():
        for name in given.backbones:
            backbone = backbone_of(name)
            row = []
            for title, (files, labels) in sets.items():
                pages = [read_drawing(data, options) for data in files]
                rng = np.random.default_rng(1)
                kinds = KINDS if title == "unseen" else KINDS[:1]
                values = {kind: features(backbone, [spoilt(page, kind, rng) for page in pages]) for kind in kinds}
                found = accuracies(values["plain"], values, labels)
                row += [f"{title if kind == 'plain' else kind} {value:.3f}" for kind, value in found.items()]
            print(f"{name}: {', '.join(row)}", flush=True)


if __name__ == "__main__":
    main()
