"""`inkfold augment`: a contact sheet of drawings as a recipe augments them, rendered by the same code as in training."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from inkfold.augment.views import IDENTITY, View, render
from inkfold.config.operations import Operation
from inkfold.config.recipe import Recipe
from inkfold.data.dataset import Drawings, read_dataset
from inkfold.errors import DataError, ExportError
from inkfold.evaluation.error_analysis import turns_by_class
from inkfold.images.decode import BrokenImage, Pixels
from inkfold.images.preprocess import ImageOptions, read_drawing
from inkfold.models.weights import UNTRAINED, find_weights_file, resolve_backbone
from inkfold.pipeline.build import build_curriculum, data_options
from inkfold.pipeline.run import backbone_spec, image_options, prediction_views
from inkfold.storage.hashing import digest
from inkfold.storage.outputs import write_output

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
DRAWS_PER_STAGE = 3
CELL_PX = 160  # larger views are reduced for the sheet
GAP_PX, FONT_PX, LINE_PX = 6, 12, 15
PAGE, AS_READ = "the page as the file has it", "as it is read"
AS_IT_IS = {"resize": "pad", "paper": "keep", "invert": "never"}
SHEET, INK = (236, 236, 232), (24, 24, 24)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the sheet.

    Attributes:
        title: Text above the column: the operations, the stage or the test-time view that it shows.
        view: View under which the column shows each drawing.
    """

    title: str
    view: View


def write_preview(recipe: Recipe, out: Path, rows: int = 8) -> tuple[Column, ...]:
    """Write the picture that `draw_preview` draws, and return its columns.

    Args:
        recipe: A recipe with its data.
        out: A .png, .jpg or .webp file; replaced when it exists.
        rows: Number of drawings.

    Raises:
        ExportError: If the suffix is none of these.
        DataError: If no drawing can be read.
        RecipeError: If timm has no such backbone.
    """
    check_sheet_file(out)
    sheet, columns = draw_preview(recipe, rows)
    write_sheet(sheet, out)
    return columns


def check_sheet_file(out: Path) -> None:
    """Refuse a file's name whose suffix is of no picture that is written here."""
    if out.suffix.lower() not in FORMATS:
        raise ExportError(f"{out}: got suffix '{out.suffix}', expected one of {', '.join(FORMATS)}. Choose another --out.")


def write_sheet(sheet: Image.Image, out: Path) -> None:
    """Write a contact sheet in the format that its name says."""
    data = io.BytesIO()
    sheet.save(data, FORMATS[out.suffix.lower()])
    write_output(out, data.getvalue())


def draw_preview(recipe: Recipe, rows: int = 8) -> tuple[Image.Image, tuple[Column, ...]]:
    """Draw a picture of some drawings under each operation and each stage of a recipe, and return its columns, too.

    Where reading changes a page (a crop, flattened paper, inverted strokes), the sheet begins with the pages as their files
    have them.

    Args:
        recipe: A recipe with its data; the backbone determines the size, its weights aren't needed.
        rows: Number of drawings, of as many classes as possible; the recipe's seed chooses them.

    Raises:
        DataError: If no drawing can be read.
        RecipeError: If timm has no such backbone.
    """
    spec = backbone_spec(recipe, "float32")
    if find_weights_file(spec) is None:
        spec = spec.model_copy(update={"weights": UNTRAINED})
    backbone = resolve_backbone(spec)
    dataset = read_dataset(str(recipe.data.root), data_options(recipe), strict=False)
    options = image_options(recipe, backbone)
    chosen = _choose(dataset.train, options, rows, recipe.seed)
    if not chosen:
        raise DataError(f"{dataset.root}: no training drawing can be read. `inkfold check` says why.")
    columns = preview_columns(recipe)
    titles = [column.title for column in columns]
    shown = [[render(one.square, column.view, one.digest, backbone.image_size) for column in columns] for one in chosen]
    pages = [read_drawing(one.data, options.model_copy(update=AS_IT_IS)) for one in chosen]
    if not all(np.array_equal(page, one.square) for page, one in zip(pages, chosen, strict=True)):
        titles = [PAGE, AS_READ, *titles[1:]]
        shown = [[page, *views] for page, views in zip(pages, shown, strict=True)]
    labels = [dataset.class_names[one.target] for one in chosen]
    return _lay_out(titles, labels, shown), columns


def preview_columns(recipe: Recipe) -> tuple[Column, ...]:
    """List the views of a recipe, none twice: unchanged drawings, each operation, each stage's first views, test-time views.

    Args:
        recipe: A recipe with its curriculum and test-time views.
    """
    curriculum = build_curriculum(recipe)
    columns = [Column("unchanged", IDENTITY)]
    operations = dict.fromkeys(one for stage in curriculum.stages for one in stage.operations)
    for operation in dict.fromkeys(Operation(one.name, one.args) for one in operations):
        columns.append(Column(str(operation), View((operation,), recipe.seed)))
    for number in range(len(curriculum.stages)):
        epochs = [epoch for epoch in range(curriculum.epochs) if curriculum.stage(epoch) == number]
        views = tuple(dict.fromkeys(curriculum.view(epoch) for epoch in epochs))
        title = f"stage {number + 1}, epochs {epochs[0]}-{epochs[-1] + 1}"
        columns += [Column(f"{title}, view {i + 1} of {len(views)}", view) for i, view in enumerate(views[:DRAWS_PER_STAGE])]
    columns += [Column(f"test-time: {view}", view) for view in prediction_views(recipe)]
    first = {column.view: column for column in reversed(columns)}
    return tuple(first[view] for view in dict.fromkeys(column.view for column in columns))


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A drawing of the sheet: its class, its file's bytes and their digest, and the square that is read from it."""

    target: int
    data: bytes
    digest: bytes
    square: Pixels


def _choose(train: Drawings, options: ImageOptions, rows: int, seed: int) -> list[_Chosen]:
    """Read drawings of different classes, then second ones of each, in an order that seed and image paths determine."""
    assert train.targets is not None
    keys = [digest(f"{seed}|{name}".encode()) for name in train.image_paths.tolist()]
    shuffled = sorted(range(len(keys)), key=keys.__getitem__)
    turns = turns_by_class(train.targets[shuffled].tolist())
    chosen: list[_Chosen] = []
    for _, row in sorted(zip(turns, shuffled, strict=True), key=lambda pair: pair[0]):
        if len(chosen) == rows:
            break
        try:
            data = Path(train.files[row]).read_bytes()
            chosen.append(_Chosen(int(train.targets[row]), data, digest(data).encode(), read_drawing(data, options)))
        except (BrokenImage, OSError):
            continue
    return chosen


def _lay_out(titles: Sequence[str], labels: Sequence[str], shown: Sequence[Sequence[Pixels]]) -> Image.Image:
    font = ImageFont.load_default(FONT_PX)
    cell = min(CELL_PX, max(len(one) for row in shown for one in row))
    wrapped = [textwrap.wrap(title, max(8, int(cell / (0.52 * FONT_PX)))) for title in titles]
    head = LINE_PX * max(map(len, wrapped)) + GAP_PX
    margin = max(int(font.getlength(label)) for label in labels) + 2 * GAP_PX
    width = margin + len(titles) * (cell + GAP_PX)
    sheet = Image.new("RGB", (width, head + len(shown) * (cell + GAP_PX)), SHEET)
    pen = ImageDraw.Draw(sheet)
    for column, lines in enumerate(wrapped):
        for i, line in enumerate(lines):
            pen.text((margin + column * (cell + GAP_PX), GAP_PX // 2 + i * LINE_PX), line, INK, font)
    for row, (label, pictures) in enumerate(zip(labels, shown, strict=True)):
        top = head + row * (cell + GAP_PX)
        pen.text((GAP_PX, top + cell // 2 - LINE_PX // 2), label, INK, font)
        for column, pixels in enumerate(pictures):
            sheet.paste(_reduced(pixels, cell), (margin + column * (cell + GAP_PX), top))
    return sheet


def _reduced(pixels: UInt8[np.ndarray, "s s *channels"], side_px: int) -> Image.Image:
    picture = Image.fromarray(pixels)
    return picture if picture.width == side_px else picture.resize((side_px, side_px), Image.Resampling.BOX)
