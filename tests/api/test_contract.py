"""Every form in which people have drawings gives the same probabilities to the last bit where the pixels are the same."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

import inkfold
from inkfold.data.from_memory import draw
from inkfold.images.stroke_formats import read_strokes
from inkfold.pipeline import predict as predict_module

LINE = {"word": "fish", "drawing": [[[10, 200, 90], [20, 200, 30]], [[50], [60]]]}


class HuggingFace:
    """As much of `datasets.Dataset` as is used."""

    column_names = ("image", "label")

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        return iter([{"image": row, "label": 0} for row in self.rows])


HuggingFace.__module__ = "datasets.arrow_dataset"


@pytest.fixture(scope="module")
def run(frozen_run):
    return inkfold.load_run(frozen_run / "run")


@pytest.fixture(scope="module")
def ensemble(run, tmp_path_factory):
    return inkfold.vote([run, run.path], "soft", out=tmp_path_factory.mktemp("ensemble") / "vote")


@pytest.fixture(scope="module")
def files(tmp_path_factory, frozen_run):
    """Grey PNG files of the toy's test drawings."""
    place = tmp_path_factory.mktemp("grey")
    for file in sorted((frozen_run / "data/test").glob("*.png")):
        with Image.open(file) as image:
            image.convert("L").save(place / file.name)
    return sorted(place.glob("*.png"))


def pages(files):
    return [np.asarray(Image.open(io.BytesIO(file.read_bytes()))) for file in files]


def opened(files):
    return [Image.open(io.BytesIO(file.read_bytes())) for file in files]


def in_colour(page):
    return np.repeat(page[..., None], 3, axis=2)


FORMS = {
    "texts": lambda files: [*map(str, files)],
    "directory": lambda files: files[0].parent,
    "bytes": lambda files: [file.read_bytes() for file in files],
    "bytearrays": lambda files: [bytearray(file.read_bytes()) for file in files],
    "files": lambda files: [io.BytesIO(file.read_bytes()) for file in files],
    "Pillow": opened,
    "Pillow in colour": lambda files: [image.convert("RGB") for image in opened(files)],
    "Pillow with alpha": lambda files: [image.convert("RGBA") for image in opened(files)],
    "Pillow of 32 bits": lambda files: [Image.fromarray(page.astype(np.int32)) for page in pages(files)],
    "uint8": pages,
    "RGB": lambda files: [in_colour(page) for page in pages(files)],
    "RGBA": lambda files: [
        np.concatenate([in_colour(page), np.full((*page.shape, 1), 255, np.uint8)], 2) for page in pages(files)
    ],
    "one channel": lambda files: [page[..., None] for page in pages(files)],
    "float16": lambda files: [(page / 255).astype(np.float16) for page in pages(files)],
    "float32": lambda files: [(page / 255).astype(np.float32) for page in pages(files)],
    "float64": lambda files: [page / 255 for page in pages(files)],
    "integers": lambda files: [page.astype(np.int64) for page in pages(files)],
    "tensors": lambda files: [torch.from_numpy(in_colour(page)).permute(2, 0, 1) for page in pages(files)],
    "generator of arrays": lambda files: iter(pages(files)),
    "generator of paths": iter,
    "table of paths": lambda files: pd.DataFrame({"x": 1, "image_path": files}),
    "table of pictures": lambda files: pd.DataFrame({"x": 1, "image": pages(files)}),
    "column": lambda files: pd.Series(opened(files)),
    "arrow": lambda files: pa.table({"image": [{"bytes": file.read_bytes(), "path": file.name} for file in files]}),
    "datasets": lambda files: HuggingFace(opened(files)),
    "undecoded datasets": lambda files: HuggingFace([{"bytes": None, "path": str(file)} for file in files]),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_drawings_changes_no_bit(run, files, form):
    expected = run.predict_proba(files)
    assert np.array_equal(run.predict_proba(FORMS[form](files)), expected)


def test_pictures_of_two_levels_are_the_same_as_bool(run, files):
    masks = [page > 128 for page in pages(files)]
    expected = run.predict_proba([mask.astype(np.uint8) * 255 for mask in masks])
    assert np.array_equal(run.predict_proba(masks), expected)
    assert np.array_equal(run.predict_proba([Image.fromarray(mask) for mask in masks]), expected)


def test_one_drawing_is_the_same_alone_in_a_list_and_in_a_stack(run, files):
    page = pages(files)[0]
    expected = run.predict_proba([page])
    for one in (
        page,
        np.stack([page]),
        Image.fromarray(page),
        files[0],
        str(files[0]),
        files[0].read_bytes(),
        io.BytesIO(files[0].read_bytes()),
    ):
        assert np.array_equal(run.predict_proba(one), expected)
    assert np.array_equal(run.predict_proba(np.stack([page, page])), run.predict_proba([files[0], files[0]]))
    assert run.predict(page) == [run.classes_[expected[0].argmax()]] == inkfold.predict(run, page)


@pytest.mark.parametrize("rows", [1, 16])
def test_generators_are_predicted_in_batches_and_not_kept(run, ensemble, files, monkeypatch, rows):
    monkeypatch.setattr(predict_module, "BATCH_ROWS", rows)
    many = files * 9
    alive, most = [0], [0]

    class Counted(bytes):
        __slots__ = ()

        def __del__(self):
            alive[0] -= 1

    def drawings():
        for file in many:
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            yield Counted(file.read_bytes())

    seen = []
    probs = run.predict_proba(drawings(), lambda stage, done, total: seen.append((done, total)))
    assert np.array_equal(probs, run.predict_proba(many))
    assert seen[-1] == (len(many), len(many))
    assert most[0] < 3 * 16 * 2 + 40, "of drawings in memory, some batches at most"
    assert np.array_equal(ensemble.predict_proba(iter(many)), ensemble.predict_proba(many))
    for nothing in ([], iter([]), np.empty((0, 5, 5))):
        assert run.predict_proba(nothing).shape == (0, len(run.classes_))
        assert run.predict(nothing) == []


def test_strokes_are_drawn_as_the_server_draws_them(run, ensemble):
    page = draw(read_strokes(LINE), run.look)
    expected = run.predict_proba(page)
    forms = [LINE, json.dumps(LINE), json.dumps(LINE).encode(), read_strokes(LINE)]
    forms.append({"strokes": [[[10, 20], [200, 200], [90, 30]], [[50, 60]]], "width": 256, "height": 256})
    forms.append('<svg viewBox="0 0 256 256"><path d="M10 20L200 200 90 30"/><polyline points="50,60"/></svg>')
    for form in forms:
        assert np.array_equal(run.predict_proba(form), expected), form
    assert np.array_equal(run.predict_proba(forms), run.predict_proba([page] * len(forms)))
    assert np.array_equal(ensemble.predict_proba(LINE), ensemble.predict_proba(page))


def test_a_run_without_its_drawings_takes_the_usual_line_style(frozen_run, tmp_path, caplog, monkeypatch):
    from inkfold.images.line_style import UNKNOWN
    from inkfold.pipeline import look

    monkeypatch.setattr(look, "_measured", {})
    run = inkfold.load_run(frozen_run / "run")
    monkeypatch.setattr(look, "collect_samples", lambda run: (_ for _ in ()).throw(inkfold.InkfoldError("gone")))
    assert run.look == UNKNOWN
    assert "drawn in the usual line style" in caplog.text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (5, r"images: got int 5, expected a path"),
        ([np.zeros((8, 8), np.uint8), 5], r"images\[1\]: got int 5, expected a path"),
        ((page for page in [np.zeros((8, 8), np.uint8), "text"]), "no such file|text"),
        (np.full((8, 8), 7.0), "images: got float64 .8, 8. from 7 to 7, expected floats 0 to 1. Divide by 255"),
    ],
)
def test_what_is_no_drawing_is_named_with_its_place(run, given, words):
    with pytest.raises(inkfold.InkfoldError, match=words):
        run.predict_proba(given)


def test_predictions_are_written_with_the_drawings_names(run, files, tmp_path):
    given = [str(files[0]), pages(files)[1], b"no picture"]
    answers = inkfold.predict(run.path, given, out=tmp_path / "out.csv", on_broken="skip")
    assert answers == [*run.predict(given[:2]), None]
    lines = Path(tmp_path / "out.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines[1:]] == [str(files[0]), "drawings[1]", "drawings[2]"]
