import io

import numpy as np
import pytest
from PIL import Image

from inkfold.errors import PredictionError
from inkfold.pipeline.train import train
from inkfold.serve import index as index_module
from inkfold.serve.index import write_index
from inkfold.serve.nearest import load_index
from toy import CLASSES, PER_CLASS, toy_data, toy_recipe

NUM_FEATURES = 96  # of timm's test_resnet


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Holds the home, the data and the run that all tests here share."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def trained(directory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INKFOLD_HOME", str(directory / "home"))
        return train(toy_recipe(directory), f"data={toy_data(directory / 'data')}", out=directory / "run")


@pytest.fixture
def run(trained, directory, monkeypatch):
    monkeypatch.setenv("INKFOLD_HOME", str(directory / "home"))
    return trained


def loaded(path):
    return load_index(path, len(CLASSES), NUM_FEATURES)


def test_the_index_holds_the_runs_drawings_with_their_features(run, tmp_path):
    path = write_index(run.path, tmp_path / "model.onnx")
    assert path == tmp_path / "model.nearest.safetensors"
    index = loaded(path)
    assert np.bincount(index.targets).tolist() == [PER_CLASS] * len(CLASSES)
    with Image.open(io.BytesIO(index.thumbnail(0))) as picture:
        assert (picture.format, picture.size) == ("PNG", (64, 64))
    unit = index.features * index.scale[:, None]
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-5)


def test_every_drawing_finds_itself_with_its_class(run, directory, tmp_path):
    from inkfold.images.preprocess import read_drawing
    from inkfold.models.backbone import Backbone, choose_device

    index, extractor = loaded(write_index(run.path, tmp_path / "m.onnx")), run.extractors()[0][0]
    files = sorted((directory / "data/train").rglob("*.png"))
    pixels = np.stack([read_drawing(file.read_bytes(), extractor.image) for file in files])
    features = Backbone(extractor.backbone, choose_device("cpu"), 16).extract(pixels)
    rows, similar = index.find(features, 1)
    assert [CLASSES[index.targets[row]] for row in rows[:, 0]] == [file.parent.name for file in files]
    np.testing.assert_allclose(similar, 1, atol=2e-3)


def test_large_data_are_thinned_class_by_class(run, tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "MAX_DRAWINGS", 7)
    index = loaded(write_index(run.path, tmp_path / "m.onnx"))
    assert sorted(np.bincount(index.targets).tolist()) == [2, 2, 3]


def test_other_drawings_than_the_runs_are_refused(run, directory, tmp_path):
    drawing = next((directory / "data/train").rglob("*.png"))
    before = drawing.read_bytes()
    drawing.write_bytes(before + b"changed")
    with pytest.raises(PredictionError, match="not the drawings"):
        write_index(run.path, tmp_path / "m.onnx")
    drawing.write_bytes(before)


def test_drawings_that_moved_are_found_where_they_are_said_to_be(run, directory, tmp_path):
    (directory / "data").rename(tmp_path / "moved")
    path = write_index(run.path, tmp_path / "m.onnx", tmp_path / "moved")
    (tmp_path / "moved").rename(directory / "data")
    assert len(loaded(path).targets) == PER_CLASS * len(CLASSES)
