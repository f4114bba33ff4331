"""What folds say that split drawings of one photo, on data whose file names alone tell of the photos.

Each of `--photos` drawings a class stands for a photo, and is drawn `--sketches` times: bent, turned, scaled and shifted beyond
what the search for copies finds. The files are called CLASS/photo0012-3.png, and `inkfold train first data=DIR` gets no key.
Beside its two figures stands the truth: the accuracy of the same recipe on photos that were never trained on, drawn once each.

    .venv/bin/python benchmarks/groups.py [--data DIR] [--photos N] [--sketches N] [--quick]
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import inkfold
from inkfold.augment.views import View, parse_view, render
from inkfold.data.dataset import read_dataset
from inkfold.data.synthetic import write_sketches

JITTER = "elastic(60, 8) + rotate(8) + scale(0.1) + shear(6) + translate(0.03)"
SIDE = 128


def write_photos(data: Path, out: Path, photos: int, sketches: int) -> int:
    """Draw each photo several times below `train`, and as many other photos once below `test`; return the classes' number."""
    train = read_dataset(data).train
    assert train.targets is not None
    classes = [np.flatnonzero(train.targets == target) for target in np.unique(train.targets)]
    for target, rows in enumerate(classes):
        for number, row in enumerate(rows[: 2 * photos]):
            page = cv2.imread(str(train.files[row]), cv2.IMREAD_GRAYSCALE)
            tested = number >= photos
            for sketch in range(1 if tested else sketches):
                name = f"photo{number:04d}-{sketch + 1}.png"
                path = out / ("test" if tested else "train") / f"class {target:03d}" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                assert page is not None
                cv2.imwrite(str(path), render(page, _view(sketch), f"{target} {number}".encode(), SIDE))
    return len(classes)


def _view(sketch: int) -> View:
    return parse_view(JITTER, seed=7, index=sketch)


def measure(out: Path) -> dict[str, Any]:
    """Train without any key, and take what the run says of its groups, of copies and of the test."""
    run = inkfold.train("first", "backbone.name=ink-small", data=out, out=out / "run")
    metrics = run.metrics
    groups, copies = metrics["groups"], metrics.get("purged", 0)
    print(f"{'drawings':24} {metrics['data']['n_train']:,} of {groups['groups']:,} groups, by {groups['key']}")
    for name, figures in (("folds split groups", groups["parted"]), ("folds keep groups", groups["grouped"])):
        low, high = figures["accuracy_ci95"]
        print(f"{name:24} {figures['accuracy']:.3f} ({low:.3f}-{high:.3f})")
    low, high = metrics["test"]["accuracy_ci95"]
    print(f"{'photos never trained on':24} {metrics['test']['accuracy']:.3f} ({low:.3f}-{high:.3f})")
    return {
        "groups": groups["groups"],
        "split_apart": groups["parted"]["accuracy"],
        "grouped": groups["grouped"]["accuracy"],
        "test": metrics["test"]["accuracy"],
        "purged": copies,
    }


def main() -> None:
    """Write the data, train, and print both figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="drawings that stand for photos; made by the demo's generator if left out")
    parser.add_argument("--photos", type=int, default=10, help="photos of each class; as many again are tested on")
    parser.add_argument("--sketches", type=int, default=5, help="drawings after each photo")
    parser.add_argument("--quick", action="store_true", help="4 photos of each class, 3 sketches")
    options = parser.parse_args()
    photos, sketches = (4, 3) if options.quick else (options.photos, options.sketches)
    with tempfile.TemporaryDirectory() as temp:
        data = options.data or write_sketches(Path(temp) / "demo", train_per_class=2 * photos, test_per_class=1, size_px=SIDE)
        out = Path(temp) / "photos"
        classes = write_photos(data, out, photos, sketches)
        result = {"classes": classes, **measure(out)}
    print("RESULT " + " ".join(f"{name}={value:.4g}" for name, value in result.items()))


if __name__ == "__main__":
    main()
