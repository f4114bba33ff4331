"""Every kind of broken input that we know of, made in a temporary folder and given to `inkfold check`.

What is printed is the whole of docs/broken-input.md: for each case what inkfold says, to the letter, and what it reads.

    python benchmarks/broken_input.py > docs/broken-input.md
"""

import io
import tempfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from inkfold.audit.check import check_data
from inkfold.data.dataset import DataOptions
from inkfold.errors import DataError, problem_lines
from inkfold.images.decode import decode_image
from inkfold.images.preprocess import ImageOptions, read_drawing

DOCUMENT = """\
# Broken input: what inkfold says

    .venv/bin/python benchmarks/broken_input.py > docs/broken-input.md

This page is that command's output: it makes every case in a temporary folder, runs `inkfold check` on it and prints
what is said, to the letter; only the folder's place is written as `DATA`. `inkfold train` says the same: errors stop
it before anything is computed, warnings don't. All problems are reported at once, the first {shown} of a kind and the count of
the others. With `data.on_broken=skip` missing and broken training drawings are left out instead, and counted.

## Folders and tables

Each case is a small competition (`train.csv`, `test.csv`, two classes of five drawings, two drawings to predict) or
the same drawings in class folders, with one thing changed. There are five folds.

{tables}

## Blank drawings

A page is blank if nothing stands out from its own light and grain but a few specks. The rule errs on one side: no
drawing, were it a single short thin stroke in hard pencil, is called blank. Training leaves blank drawings out
(`data.on_blank=skip`, the default), except those of a class most of whose drawings are blank, which then are what the
class looks like, such as an empty box of a form. `data.on_blank=keep` trains on all of them, `data.on_blank=error`
stops the run. Test drawings keep their rows whatever is set, and `inkfold predict` marks them in the column `blank`
(`--on-blank skip` leaves their cells empty).

{blank}

## Image files

The file stands in the place of the first training drawing. For files that are read, the last column compares the
{side} x {side} square that a backbone gets with the one from a plain grey PNG of the same drawing.

{images}
"""
CLASSES = ("cat", "dog")
HEADER = "class_name,image_path,target"
SIDE_PX = 224
KOREAN = "고양이"
Make = Callable[[Path], object]


def main() -> None:
    """Make and check all cases, print the document."""
    tables = [(title, *judge(make)) for title, make in table_cases().items()]
    images = [(title, *judge_image(name, data)) for title, (name, data) in image_cases().items()]
    blank = [(title, *judge(make)) for title, make in blank_cases().items()]
    text = DOCUMENT.format(
        shown=20,
        side=SIDE_PX,
        tables=markdown(("case", "what inkfold says", "what is read"), tables),
        blank=markdown(("case", "what inkfold says", "what is read"), blank),
        images=markdown(("file", "what inkfold says", "what comes out"), images),
    )
    print(text, end="")


def judge(make: Make, options: DataOptions | None = None) -> tuple[str, str]:
    """Make a case, and give what inkfold says of it and what it reads."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "DATA"
        root.mkdir()
        place = make(root)
        try:
            checkup = check_data(place if isinstance(place, Path) else root, options)
        except DataError as error:
            said, read = str(error).splitlines(), "nothing"
        else:
            count = checkup.counts
            said = problem_lines(checkup.problems)
            whole = count["n_train"] + count["n_test"] - count["broken"]
            read = f"drawings: {whole}, {count['n_test']} of them to predict; classes: {count['num_classes']}"
            read += "" if checkup.ok else "; not ready to train"
        return "<br>".join(code(line.replace(str(root), "DATA")) for line in said) or "nothing", read


def judge_image(name: str, data: bytes) -> tuple[str, str]:
    """Put an image file in the first drawing's place; give what inkfold says of it and what comes out."""
    said, read = judge(partial(competition_with_image, name=name, data=data))
    return said, "left out" if "not ready" in read else compare(data)


def compare(data: bytes) -> str:
    """Describe the decoded picture and the square that is made of it."""
    pixels = decode_image(data)
    options = ImageOptions(size_px=SIDE_PX)
    ours, plain = (read_drawing(one, options).astype(int) for one in (data, encoded(reference(), "PNG")))
    height, width = pixels.shape[:2]
    what = f"8-bit {'grey' if pixels.ndim == 2 else 'RGB'}, {width} x {height} px upright"
    difference = int(np.abs(ours - plain).max())
    return f"{what}; square {'equal' if not difference else f'within {difference} of 255 levels'}"


def markdown(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Lay out a table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(line: str) -> str:
    """Set a line as code, whatever backticks are in it."""
    return f"`` {line} ``" if "`" in line else f"`{line}`"


def table_cases() -> Mapping[str, Make]:
    """Give every case of files and tables."""
    return {**file_cases(), **folder_cases(), **label_cases(), **row_cases(), **whole_cases()}


def file_cases() -> dict[str, Make]:
    """Names, places and encodings."""
    return {
        "`._*`, `Thumbs.db`, `.DS_Store`, `__MACOSX` among class folders": with_junk,
        "other files among class folders": lambda root: folders(put(root / "cat/notes.txt", b"").parents[1]),
        "an image in no class folder": lambda root: folders(put(root / "loose.png", drawing(99)).parent),
        "upper-case suffixes": lambda root: folders(root, suffix=".PNG"),
        "Korean names: NFC in the table, NFD on disk": with_korean_names,
        "Windows slashes in the table": lambda root: competition(root, rows=[row.replace("/", "\\") for row in ROWS]),
        "a byte order mark before the header": lambda root: competition(root, encoding="utf-8-sig"),
        "a table in cp949": lambda root: competition(root, rows=[*ROWS[:-1], f"{KOREAN},dog/5.png,2"], encoding="cp949"),
        "a link that leads out of the root": with_link,
        "a `..` path that leads out of the root": lambda root: with_row(root, "cat,../../secret.png,0"),
        "an absolute path": lambda root: with_row(root, "cat,/etc/passwd,0"),
    }


def folder_cases() -> dict[str, Make]:
    """Which folders are classes, and which are parts."""
    return {
        "folders of people above the class folders": lambda root: in_folders(root, "user.{who}/{class_name}"),
        "two levels of folders, either of which may be the class": lambda root: in_folders(root, "{kind}/{class_name}"),
        "`test/` with drawings beside class folders": lambda root: folders(put(root / "test/1.png", drawing(99)).parents[1]),
        "one class in two spellings": lambda root: folders(put(root / "Cat/9.png", drawing(99)).parents[1]),
        "labels in the file names, no class folders": lambda root: in_folders(root, "", name="{class_name}_{number}"),
    }


def blank_cases() -> dict[str, Make]:
    """Drawings without ink."""
    return {
        "a blank training drawing": lambda root: with_blank(root, "train/cat/1.png"),
        "a blank test drawing": lambda root: with_blank(root, "test/1.png"),
        "a class most of whose drawings are blank": lambda root: with_blank(root, *(f"train/cat/{i}.png" for i in (1, 2, 3))),
    }


def label_cases() -> dict[str, Make]:
    """Class names and target values."""
    return {
        "a class with fewer drawings than folds": lambda root: competition(root, rows=ROWS[:-3]),
        "gaps in the targets": lambda root: competition(root, rows=[row.replace(",1", ",7") for row in ROWS]),
        "one class name with two targets": lambda root: competition(root, rows=[*ROWS[:-1], "dog,dog/5.png,2"]),
        "one target with two class names": lambda root: competition(root, rows=[*ROWS[:-1], "wolf,dog/5.png,1"]),
        "a target that is no whole number": lambda root: competition(root, rows=[*ROWS[:-1], "dog,dog/5.png,1.5"]),
        "a negative target": lambda root: competition(root, rows=[*ROWS[:-1], "dog,dog/5.png,-1"]),
        "one class only": lambda root: competition(root, rows=ROWS[:5]),
    }


def row_cases() -> dict[str, Make]:
    """Rows and cells."""
    return {
        "the same row twice": lambda root: with_row(root, ROWS[0]),
        "one drawing with two labels": lambda root: with_row(root, "dog,cat/1.png,1"),
        "a training row without a file": lambda root: with_row(root, "cat,cat/9.png,0"),
        "a test row without a file": lambda root: competition(root, test=["1.png", "2.png", "9.png"]),
        "no file for any row: a wrong `image_root`": lambda root: competition(root, rows=[f"cat,{i}.png,0" for i in range(25)]),
        "an empty cell": lambda root: competition(root, rows=[*ROWS[:-1], ",dog/5.png,1"]),
        "a comma too many": lambda root: competition(root, rows=[*ROWS[:-1], "dog,dog/5.png,1,"]),
        "a missing column": lambda root: competition(root, header="class_name,file,target"),
        "semicolons for commas": lambda root: competition(
            root, header=HEADER.replace(",", ";"), rows=[row.replace(",", ";") for row in ROWS]
        ),
        "a quotation mark that isn't closed": lambda root: with_row(root, '"cat,cat/1.png,0'),
        "an empty table": lambda root: competition(root, rows=[]),
        "a sample submission with other rows": lambda root: competition(root, sample=["1.png", "3.png"]),
        "a sample submission in another order": lambda root: competition(root, sample=["2.png", "1.png"]),
    }


def whole_cases() -> dict[str, Make]:
    """The folder as a whole."""
    return {
        "an empty folder": lambda _: None,
        "a path that doesn't exist": lambda root: root / "nowhere",
        "a file that is no table": lambda root: put(root / "drawings.zip", b"PK"),
    }


def image_cases() -> dict[str, tuple[str, bytes]]:
    """Give every image file: its name and its bytes."""
    return {**broken_images(), **odd_images()}


def broken_images() -> dict[str, tuple[str, bytes]]:
    """Files that can't be read."""
    cut = {
        f"{name} cut in half": (f"x.{name.lower()}", half(encoded(reference(), name)))
        for name in ("JPEG", "PNG", "GIF", "WebP")
    }
    page = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    return {
        "zero bytes": ("x.png", b""),
        **cut,
        "a web page named `.jpg`": ("x.jpg", page),
        "a text file named `.png`": ("x.png", b"see the other folder"),
        "a Git LFS pointer": ("x.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "an SVG named `.png`": ("x.png", b"<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0L9 9'/></svg>"),
        "a ZIP archive named `.png`": ("x.png", b"PK\x03\x04" + bytes(30)),
        "more pixels than the limit: PNG of 9000 x 9000": ("x.png", encoded(Image.new("1", (9000, 9000)), "PNG")),
        "a bomb: PNG of 20000 x 20000": ("x.png", encoded(Image.new("1", (20_000, 20_000)), "PNG")),
    }


def odd_images() -> dict[str, tuple[str, bytes]]:
    """Files that are read as well as any."""
    grey = reference()
    alpha, black, white = Image.fromarray(255 - np.asarray(grey)), Image.new("L", grey.size), Image.new("L", grey.size, 255)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    turned = encoded(grey.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=rotated, quality=95)
    return {
        "1-bit PNG": ("x.png", encoded(grey.convert("1", dither=Image.Dither.NONE), "PNG")),
        "palette with a transparent paper": ("x.gif", transparent_palette(grey)),
        "16-bit grey PNG": ("x.png", encoded(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG")),
        "16-bit grey PNG with the values of 12 bits": (
            "x.png",
            encoded(Image.fromarray(np.asarray(grey).astype(np.uint16) * 16), "PNG"),
        ),
        "CMYK JPEG": ("x.jpg", encoded(grey.convert("RGB").convert("CMYK"), "JPEG", quality=95)),
        "grey in three channels": ("x.png", encoded(grey.convert("RGB"), "PNG")),
        "black strokes on transparent": ("x.png", encoded(Image.merge("LA", (black, alpha)), "PNG")),
        "white strokes on transparent": ("x.png", encoded(Image.merge("LA", (white, alpha)), "PNG")),
        "JPEG turned by its EXIF orientation": ("x.jpg", turned),
        "light strokes on dark": ("x.png", encoded(alpha, "PNG")),
        "a PNG named `.jpg`": ("x.jpg", encoded(grey, "PNG")),
    }


def drawing(seed: int) -> bytes:
    """Draw a small PNG, another one for each seed."""
    return encoded(strokes(seed, (64, 64)), "PNG")


def reference() -> Image.Image:
    """Draw the picture that all image files show; no turn or flip leaves it as it is."""
    return strokes(7, (160, 120))


def strokes(seed: int, size: tuple[int, int]) -> Image.Image:
    """Draw five black lines on white."""
    rng = np.random.default_rng(seed)
    image = Image.new("L", size, 255)
    pen = ImageDraw.Draw(image)
    for ends in rng.uniform(0.1, 0.9, (5, 2, 2)):
        pen.line([tuple(end) for end in (ends * size).tolist()], fill=0, width=3)
    return image


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    """Write an image into bytes."""
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def half(data: bytes) -> bytes:
    """Cut off what a broken download would."""
    return data[: len(data) // 2]


def transparent_palette(grey: Image.Image) -> bytes:
    """Give black strokes (palette entry 1) on a paper (entry 0) that is black too, and transparent."""
    image = Image.fromarray((np.asarray(grey) < 128).astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, 0, 0, 0])
    return encoded(image, "GIF", transparency=0)


def put(file: Path, data: bytes) -> Path:
    """Write a file and the folders that it needs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


ROWS = [f"{name},{name}/{i}.png,{target}" for target, name in enumerate(CLASSES) for i in range(1, 6)]


def folders(root: Path, suffix: str = ".png") -> None:
    """Write the drawings in class folders."""
    for number in range(10):
        put(root / CLASSES[number // 5] / f"{number % 5 + 1}{suffix}", drawing(number))


def in_folders(root: Path, form: str, name: str = "{number}") -> None:
    """Write the drawings in folders whose names a form gives."""
    for number in range(20):
        words = {
            "who": number // 2 % 5,
            "class_name": CLASSES[number % 2],
            "kind": ("pen", "brush")[number // 10],
            "number": number,
        }
        put(root / form.format(**words) / f"{name.format(**words)}.png", drawing(number))


def with_blank(root: Path, *names: str) -> None:
    """Take the ink from some drawings of a competition."""
    competition(root)
    for place, name in enumerate(names):
        (root / name).write_bytes(encoded(Image.new("L", (64 + place, 64), 255), "PNG"))


def competition(
    root: Path,
    *,
    header: str = HEADER,
    rows: list[str] = ROWS,
    test: list[str] | None = None,
    sample: list[str] | None = None,
    encoding: str = "utf-8",
) -> None:
    """Write the drawings with tables."""
    folders(root / "train")
    for number in (1, 2):
        put(root / f"test/{number}.png", drawing(10 + number))
    put(root / "train.csv", "\n".join([header, *rows, ""]).encode(encoding))
    put(root / "test.csv", "\n".join(["image_path", *(test or ["1.png", "2.png"]), ""]).encode())
    if sample is not None:
        lines = [f"{i},{path},0" for i, path in enumerate(sample)]
        put(root / "sample_submission.csv", "\n".join(["ID,image_path,target", *lines, ""]).encode())


def with_row(root: Path, row: str) -> None:
    """Add a row to the training table."""
    put(root.parent / "secret.png", drawing(50))
    competition(root, rows=[*ROWS, row])


def with_junk(root: Path) -> None:
    """Leave behind what operating systems leave."""
    folders(root)
    for name in ("._cat/1.png", "cat/._1.png", "cat/Thumbs.db", "dog/.DS_Store", "__MACOSX/cat/1.png"):
        put(root / name, b"junk")


def with_korean_names(root: Path) -> None:
    """Name a class and its files in Korean: composed in the table, decomposed on disk."""
    paths = [f"{KOREAN}/스케치{i}.png" for i in range(5)]
    for number, path in enumerate(paths, start=20):
        put(root / "train" / unicodedata.normalize("NFD", path), drawing(number))
    competition(root, rows=[*ROWS[5:], *(f"{KOREAN},{path},0" for path in paths)])


def with_link(root: Path) -> None:
    """Link a class folder's file to a drawing elsewhere."""
    folders(root)
    (root / "cat/linked.png").symlink_to(put(root.parent / "secret.png", drawing(50)))


def competition_with_image(root: Path, name: str, data: bytes) -> None:
    """Put an image file in the first drawing's place."""
    put(root / "train/cat" / name, data)
    competition(root, rows=[f"cat,cat/{name},0", *ROWS[1:]])


if __name__ == "__main__":
    main()
