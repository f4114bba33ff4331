import numpy as np
import pytest
from PIL import Image

from inkfold.augment.views import IDENTITY, render
from inkfold.errors import DataError, ExportError
from inkfold.images.preprocess import ImageOptions, read_drawing
from inkfold.pipeline.build import settle_recipe
from inkfold.report.contact_sheet import CELL_PX, GAP_PX, preview_columns, write_preview
from inkfold.storage.hashing import digest
from toy import RECIPE, break_image, inkfold, toy_data, toy_recipe

CURRICULUM = "curriculum=[{until_epoch: 2}, {augment: [hflip@0.5, 'rotate(15)@0.5'], views: 2}]"


def settled(tmp_path, *overrides):
    return settle_recipe(toy_recipe(tmp_path), overrides, toy_data(tmp_path / "data"))


def opened(path, mode=None):
    with Image.open(path) as picture:
        return picture.convert(mode or picture.mode), picture.format


def test_the_columns_are_the_drawing_each_operation_the_stages_first_views_and_the_test_time_views(tmp_path):
    columns = preview_columns(settled(tmp_path, CURRICULUM, "tta=[identity, vflip]"))
    assert [column.title for column in columns] == [
        "unchanged",
        "hflip",
        "rotate(15)",
        "stage 2, epochs 2-5, view 1 of 2",
        "stage 2, epochs 2-5, view 2 of 2",
        "test-time: vflip",
    ]
    assert columns[0].view == IDENTITY
    assert len({column.view for column in columns}) == len(columns)


def test_the_sheet_shows_the_very_pixels_that_training_sees(tmp_path):
    recipe = settled(tmp_path, CURRICULUM, "image.size=64", "backbone.interpolation=bicubic")
    columns = write_preview(recipe, tmp_path / "sheet.png", rows=3)
    sheet = np.asarray(opened(tmp_path / "sheet.png", "L")[0])
    seen = 0
    for path in sorted((tmp_path / "data/train").rglob("*.png")):
        data = path.read_bytes()
        pixels = read_drawing(data, ImageOptions(size_px=64))
        rows = [render(pixels, column.view, digest(data).encode(), 64) for column in columns]
        strip = np.hstack([np.hstack([one, np.full((64, GAP_PX), 235, np.uint8)]) for one in rows])[:, :-GAP_PX]
        for top in range(len(sheet) - 64 + 1):
            left = sheet.shape[1] - strip.shape[1] - GAP_PX
            seen += bool(np.abs(sheet[top : top + 64, left : left + strip.shape[1]].astype(int) - strip).max() <= 1)
    assert seen == 3


def test_large_views_are_reduced_on_the_sheet_alone(tmp_path):
    write_preview(settled(tmp_path, "image.size=400"), tmp_path / "sheet.png", rows=2)
    sheet, _ = opened(tmp_path / "sheet.png")
    assert CELL_PX < sheet.width < 400


def test_pages_that_reading_changes_stand_before_what_is_read_of_them(tmp_path):
    recipe = settled(tmp_path, "image.size=64", "backbone.interpolation=bicubic", "image.resize=auto", "image.paper=auto")
    files = sorted((tmp_path / "data/train").rglob("*.png"))
    for path in files:
        with Image.open(path) as drawing:
            page = Image.new("L", (200, 200), 255)
            page.paste(drawing.convert("L"), (10, 120))
        page.save(path)
    [column] = write_preview(recipe, tmp_path / "sheet.png", rows=3)
    sheet = np.asarray(opened(tmp_path / "sheet.png", "L")[0])
    top = len(sheet) - 3 * (64 + GAP_PX)
    right = sheet[top : top + 64, -64 - GAP_PX : -GAP_PX]
    left = sheet[top : top + 64, -2 * (64 + GAP_PX) : -64 - 2 * GAP_PX]
    for square, options in ((left, ImageOptions(size_px=64)), (right, ImageOptions(size_px=64, resize="crop_to_ink"))):
        read = [read_drawing(path.read_bytes(), options).astype(int) for path in files]
        assert min(np.abs(square - one).max() for one in read) <= 1
    assert column.view == IDENTITY


def test_broken_drawings_are_passed_over_and_none_at_all_is_an_error(tmp_path):
    recipe = settled(tmp_path)
    files = sorted((tmp_path / "data/train").rglob("*.png"))
    for path in files[1:]:
        break_image(path)
    write_preview(recipe, tmp_path / "sheet.webp", rows=4)
    assert opened(tmp_path / "sheet.webp")[1] == "WEBP"
    break_image(files[0])
    with pytest.raises(DataError, match="no training drawing can be read"):
        write_preview(recipe, tmp_path / "sheet.png")


def test_another_suffix_is_refused_before_any_work(tmp_path):
    with pytest.raises(ExportError, match=r"got suffix '.pdf', expected one of .png"):
        write_preview(settled(tmp_path), tmp_path / "sheet.pdf")


def test_the_command_needs_no_weights_and_says_what_to_try_when_there_is_nothing_to_see(tmp_path):
    data = toy_data(tmp_path / "data")
    recipe = toy_recipe(tmp_path, RECIPE.replace("weights: untrained, ", ""))
    done = inkfold("augment", recipe, f"data={data}", "--out", tmp_path / "sheet.jpg", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert "try curriculum=winner" in done.stdout
    assert (tmp_path / "sheet.jpg").read_bytes()[:2] == b"\xff\xd8"
