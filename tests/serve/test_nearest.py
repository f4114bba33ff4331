import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from inkfold.errors import ExportError
from inkfold.serve.nearest import build_index, index_path, load_index, save_index

EMPTY = (("features", np.int8), ("scale", np.float32), ("targets", np.int64), ("thumbnails", np.uint8), ("offsets", np.int64))


@pytest.fixture
def features():
    return np.maximum(np.random.default_rng(3).normal(size=(500, 40)) + 0.3, 0).astype(np.float32)


def index_of(features):
    return build_index(features, np.arange(len(features)) % 7, [f"png {i}".encode() * (i % 3) for i in range(len(features))])


def test_neighbours_are_those_of_the_full_features(features):
    queries = features[:20] + np.random.default_rng(4).normal(scale=0.05, size=(20, 40))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ unit.T
    rows, similar = index_of(features).find(queries, 5)
    np.testing.assert_allclose(similar, np.sort(cosines, 1)[:, ::-1][:, :5], atol=0.005)
    np.testing.assert_array_equal(rows[:, 0], np.arange(20))
    np.testing.assert_allclose(np.take_along_axis(cosines, rows, 1), similar, atol=0.005)


def test_a_drawing_is_its_own_neighbour_however_long_its_vector_is(features):
    rows, similar = index_of(features).find(features[7:8] * 1000, 1)
    assert rows.tolist() == [[7]]
    assert similar[0, 0] == pytest.approx(1, abs=1e-3)


def test_equal_drawings_come_in_their_order():
    rows, _ = index_of(np.ones((5, 3), np.float32)).find(np.ones((1, 3)), 5)
    assert rows.tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(("count", "found"), [(0, 0), (3, 3), (9, 4)])
def test_no_more_are_found_than_there_are(count, found):
    rows, similar = index_of(np.eye(4, dtype=np.float32)).find(np.eye(4)[:2], count)
    assert rows.shape == similar.shape == (2, found)


def test_features_that_are_all_zero_are_like_nothing(features):
    _, similar = index_of(features).find(np.zeros((1, 40)), 1)
    assert similar.tolist() == [[0]]


def test_what_is_saved_is_what_is_loaded(tmp_path, features):
    path = index_path(tmp_path / "m.onnx")
    assert path.name == "m.nearest.safetensors"
    save_index(path, index_of(features))
    loaded = load_index(path, 7, 40)
    np.testing.assert_array_equal(loaded.features, index_of(features).features)
    assert loaded.thumbnail(4) == b"png 4"
    assert loaded.thumbnail(3) == b""
    assert path.stat().st_size < 500 * (40 + 4 + 8 + 8 + 12) + 2000


@pytest.mark.parametrize(
    "change",
    [
        {"features": np.zeros((500, 41), np.int8)},
        {"features": np.zeros((500, 40), np.float32)},
        {"scale": np.zeros(499, np.float32)},
        {"targets": np.full(500, 7)},
        {"targets": np.full(500, -1)},
        {"offsets": np.arange(501)[::-1].copy()},
        {"thumbnails": np.zeros(3, np.uint8)},
        {"scale": None},
        {name: np.zeros({"features": (0, 40), "offsets": 1}.get(name, 0), kind) for name, kind in EMPTY},
    ],
)
def test_an_index_that_contradicts_itself_or_its_model_is_refused(tmp_path, features, change):
    path = tmp_path / "x.nearest.safetensors"
    save_index(path, index_of(features))
    held = {name: value for name, value in (load_file(path) | change).items() if value is not None}
    save_file(held, path)
    with pytest.raises(ExportError, match="Export the run again"):
        load_index(path, 7, 40)


def test_a_damaged_index_is_refused(tmp_path, features):
    path = tmp_path / "x.nearest.safetensors"
    save_index(path, index_of(features))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ExportError, match="not an index"):
        load_index(path, 7, 40)
