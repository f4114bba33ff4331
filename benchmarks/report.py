"""How large `inkfold report` gets, how long it takes to write, and how long a browser takes to open it.

    python benchmarks/report.py            # 500 classes, 15,000 training and 10,000 test drawings
    python benchmarks/report.py --quick

The limits are the project's own: 5 MB and 2 s. Drawings come from inkfold's generator, the run from an untrained toy backbone;
with --colour they are colour noise, which hardly compresses. Opening is measured in Chromium, from the call to the load event
and the first frame after it; without one it is left out.
"""

import argparse
import itertools
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from inkfold.data.synthetic import draw_sketch
from inkfold.data.synthetic_shapes import CLASS_NAMES
from inkfold.pipeline.train import train
from inkfold.report.write import write_report

CHROMIUM = "chromium"
DISTINCT = 1200
RECIPE = {
    "backbone": {"name": "test_resnet", "weights": "untrained"},
    "image": {"size": 32},
    "train_head": {"epochs": 3, "lr": 0.01, "scaling": "standardise"},
    "data": {"test_targets": "test_labels.csv"},
}


def make_data(root: Path, classes: int, train_each: int, tests: int, *, colour: bool) -> None:
    """Write a competition whose drawings repeat, under as many names as are asked for."""
    (root / "pool").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(DISTINCT):
        name = CLASS_NAMES[i % len(CLASS_NAMES)]
        page = rng.integers(0, 256, (128, 128, 3), np.uint8) if colour else draw_sketch(name, 0, i, 256)
        Image.fromarray(page).save(root / "pool" / f"{i}.png")
    turn = itertools.count()

    def put(place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        data = (root / "pool" / f"{next(turn) % DISTINCT}.png").read_bytes()
        place.write_bytes(data + f"{place.name}{place.parent.name}".encode())  # distinct bytes: copies would share a fold

    rows, labels = ["class_name,image_path,target"], ["image_path,target"]
    for k in range(classes):
        name = f"{CLASS_NAMES[k % len(CLASS_NAMES)]} {k // len(CLASS_NAMES)}"
        for i in range(train_each):
            put(root / "train" / name / f"{i}.png")
            rows.append(f"{name},{name}/{i}.png,{k}")
    for i in range(tests):
        put(root / "test" / f"{i}.png")
        labels.append(f"{i}.png,{i % classes}")
    (root / "train.csv").write_text("\n".join(rows) + "\n")
    (root / "test_labels.csv").write_text("\n".join(labels) + "\n")
    (root / "test.csv").write_text("\n".join(["image_path", *(f"{i}.png" for i in range(tests))]) + "\n")


def open_seconds(page: Path, repeats: int = 5) -> float | None:
    """Open a page in a fresh tab and give the median time to its first whole frame; None without a browser."""
    browser_file = shutil.which(CHROMIUM)
    if browser_file is None:
        return None
    from playwright.sync_api import sync_playwright

    took = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_file, args=["--no-sandbox"])
        for _ in range(repeats):
            tab = browser.new_page(viewport={"width": 1400, "height": 900})
            start = time.perf_counter()
            tab.goto(page.as_uri(), wait_until="load")
            tab.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            took.append(time.perf_counter() - start)
            tab.close()
        browser.close()
    return float(np.median(took))


def main() -> None:
    """Make the data and the run, write the report, open it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50 classes and 1,000 test drawings")
    parser.add_argument("--colour", action="store_true", help="colour noise instead of drawings")
    given = parser.parse_args()
    classes, train_each, tests = (50, 10, 1000) if given.quick else (500, 30, 10_000)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_data(root / "data", classes, train_each, tests, colour=given.colour)
        train(RECIPE, data=root / "data", out=root / "run")
        start = time.perf_counter()
        pictures = write_report([root / "run"], root / "report.html")
        write_s = time.perf_counter() - start
        size_mb = (root / "report.html").stat().st_size / 1e6
        open_s = open_seconds(root / "report.html")
    print(
        f"{classes} classes, {classes * train_each} training and {tests} test drawings: {pictures} pictures, {size_mb:.2f} MB"
    )
    print(f"written in {write_s:.1f} s, opened in {'no browser' if open_s is None else f'{open_s:.2f} s'}")
    opened = "" if open_s is None else f" open_s={open_s:.3f}"
    print(f"RESULT classes={classes} pictures={pictures} size_mb={size_mb:.3f} write_s={write_s:.2f}{opened}")


if __name__ == "__main__":
    main()
