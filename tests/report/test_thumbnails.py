import base64
import io

import numpy as np
from PIL import Image

from inkfold.augment.photographs import photograph
from inkfold.augment.rng import Draws
from inkfold.data.dataset import DataOptions
from inkfold.images.preprocess import ImageOptions, read_drawing
from inkfold.report import thumbnails
from inkfold.report.thumbnails import SIDE_PX, encode, open_album
from toy import break_image, toy_data


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def album(tmp_path):
    data = toy_data(tmp_path / "data")
    return data, open_album(DataOptions(), data, "pad", "auto")


def test_a_picture_is_the_drawing_as_the_run_reads_it_in_sixteen_greys(tmp_path):
    data, shown = album(tmp_path)
    path = sorted((data / "train").rglob("*.png"))[0]
    picture = shown.show(path.relative_to(data / "train").as_posix())
    expected = read_drawing(path.read_bytes(), ImageOptions(size_px=SIDE_PX))
    assert picture.grey
    assert np.abs(decoded(picture.uri)[..., 0].astype(int) - expected).max() <= 9  # half of 255 / 15


def test_photographed_paper_is_flattened_where_the_run_flattens_it(tmp_path):
    data = toy_data(tmp_path / "data")
    path = data / "train/fish/sketch_0.png"
    drawing = np.asarray(Image.open(path).convert("L"))
    Image.fromarray(photograph(drawing, "photographed", Draws(b"1"), 320)).save(path)
    levels = {}
    for paper in ("keep", "auto"):
        shown = open_album(DataOptions(), data, "pad", "auto", paper).show("fish/sketch_0.png")
        levels[paper] = np.median(decoded(shown.uri))
    assert levels["keep"] < 240 < levels["auto"]


def test_colour_is_kept():
    page = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    page[..., 0] = 200
    uri, grey = encode(page)
    assert not grey
    assert uri.startswith("data:image/webp;base64,")
    assert np.abs(decoded(uri).astype(int) - page).max() < 12


def test_a_drawing_is_embedded_once_wherever_it_is_shown(tmp_path):
    _, shown = album(tmp_path)
    samples = shown.samples("fish", 3)
    assert shown.samples("fish", 3) == samples
    assert len(shown.pictures) == 3
    path = next(path for (_, path), one in shown.pictures.items() if one is samples[0])
    assert samples[0] not in shown.samples("fish", 3, avoid=path)
    assert shown.show(path) is samples[0]


def test_what_is_gone_or_broken_is_left_out_and_counted(tmp_path):
    data, shown = album(tmp_path)
    path = sorted((data / "train").rglob("*.png"))[0]
    break_image(path)
    assert shown.show(path.relative_to(data / "train").as_posix()) is None
    assert shown.show("nowhere.png") is None
    assert shown.missing == 2


def test_a_full_page_takes_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(thumbnails, "MOST_BYTES", 1)
    _, shown = album(tmp_path)
    assert len(shown.samples("fish", 3)) == 1


def test_drawings_that_have_moved_leave_an_album_that_says_so(tmp_path):
    shown = open_album(DataOptions(), tmp_path / "gone", "pad", "auto")
    assert shown.why is not None
    assert str(tmp_path / "gone") in shown.why
    assert shown.show("a.png") is None
    assert shown.missing == 0
    assert open_album(DataOptions(), None, "pad", "auto").why == "The run doesn't say where its drawings are."
