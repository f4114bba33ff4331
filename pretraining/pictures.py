"""The pictures that ink-small is pretrained on, put together from their sources into one store.

    python pretraining/pictures.py --data QUICKDRAW --icons ICONS --strokes STROKES --out STORE

QUICKDRAW is Quick, Draw! in the competition's layout, of which the training drawings of the classes that ink-small sees are
taken; ICONS and STROKES are what `icons.py` and `stroke_pictures.py` wrote. Classes of one name are one class, whatever the
source.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inkfold.images.preprocess import ImageOptions, read_drawing

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from ink_small import left_out, read

SIDE_PX = 128
LEAST_SETS = 4  # icon sets that must know a name before it is a class
SOURCES = ("quickdraw", "icons", "omniglot", "generator", "scene")
MIRRORED = ("quickdraw", "icons", "generator", "scene")  # a mirrored character is another one


@dataclass(frozen=True)
class Pictures:
    """All pictures and what is known of each.

    Attributes:
        pixels: (n, 128, 128) uint8, dark ink on white, cropped to the ink.
        source: Place of each picture's source in `SOURCES`, (n,).
        label: Class of each picture, -1 where it has none, (n,).
        instance: Number of the drawing that each is a picture of, (n,).
        names: The classes' names.
    """

    pixels: np.ndarray
    source: np.ndarray
    label: np.ndarray
    instance: np.ndarray
    names: list[str]


def load(store: Path) -> Pictures:
    """Read a store; its pixels stay on disk."""
    columns = np.load(store / "columns.npy", allow_pickle=False)
    names = (store / "names.txt").read_text(encoding="utf-8").splitlines()
    return Pictures(np.load(store / "pixels.npy", mmap_mode="r", allow_pickle=False), *columns, names)


def quickdraw(data: Path) -> tuple[np.ndarray, list[str]]:
    """Read the training drawings of the classes that ink-small sees, and their class names."""
    rows = read(data / "train.csv")
    hidden = set(left_out({row["class_name"] for row in rows}))
    rows = [row for row in rows if row["class_name"] not in hidden]
    options = ImageOptions(size_px=SIDE_PX, resize="crop_to_ink", colour="grey")
    pixels = [read_drawing((data / "train" / row["image_path"]).read_bytes(), options) for row in rows]
    return np.stack(pixels), [row["class_name"] for row in rows]


def build(data: Path, icons: Path, strokes: Path, out: Path) -> None:
    """Put the sources together."""
    drawn, drawn_names = quickdraw(data)
    icon_rows, stroke_rows = read(icons / "icons.csv"), read(strokes / "strokes.csv")
    joined = read(icons / "names.csv")
    word = {row["name"]: row["quickdraw"] or row["name"] for row in joined}  # an icon's name is singular, without hyphens
    made = {row["class"] for row in stroke_rows if row["class"]}
    shared = {word[row["name"]] for row in joined if int(row["sets"]) >= LEAST_SETS}
    names = sorted({*drawn_names, *made, *shared})
    number = {name: place for place, name in enumerate(names)}
    hidden = set(left_out({row["class_name"] for row in read(data / "train.csv")}))
    assert not hidden & set(names), f"classes that must stay unseen: {sorted(hidden & set(names))}"
    source = [SOURCES.index("quickdraw")] * len(drawn_names) + [SOURCES.index("icons")] * len(icon_rows)
    label = [number.get(name, -1) for name in (*drawn_names, *(word[row["name"]] for row in icon_rows))]
    instance = [*range(len(source))]
    first = len(instance)
    for row in stroke_rows:
        source.append(SOURCES.index(row["source"]))
        label.append(number.get(row["class"], -1))
        instance.append(first + int(row["instance"]))
    out.mkdir(parents=True, exist_ok=True)
    pixels = np.lib.format.open_memmap(out / "pixels.npy", "w+", np.uint8, (len(source), SIDE_PX, SIDE_PX))
    place = 0
    for part in (
        drawn,
        *(np.load(file, mmap_mode="r", allow_pickle=False) for file in (icons / "icons.npy", strokes / "strokes.npy")),
    ):
        pixels[place : place + len(part)] = part
        place += len(part)
    assert place == len(source), f"{place} pictures, {len(source)} rows"
    pixels.flush()
    np.save(out / "columns.npy", np.array([source, label, instance], np.int32))
    (out / "names.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    for place, name in enumerate(SOURCES):
        chosen = np.array(source) == place
        labels = np.array(label)[chosen]
        named = labels[labels >= 0]
        print(f"{name:10s} {len(labels):7d} pictures, {len(named):7d} with a class, {len(np.unique(named))} classes")
    print(f"{len(names)} classes")


def main() -> None:
    """Build a store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "icons", "strokes", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    build(given.data, given.icons, given.strokes, given.out)


if __name__ == "__main__":
    main()
