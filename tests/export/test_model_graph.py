import pytest

from inkfold.ensemble.build import vote
from inkfold.ensemble.model import load_run
from inkfold.errors import ExportError
from inkfold.export.model_graph import GraphOptions, build_graph, image_of, runs_of
from toy_votes import trained


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("toys"))


def test_a_member_that_is_a_mere_file_cant_be_exported(toys, tmp_path):
    (tmp_path / "theirs").mkdir()
    for part in ("out_of_fold", "test"):
        source = toys["linear"] / "predictions" / f"{part}.parquet"
        (tmp_path / "theirs" / source.name).write_bytes(source.read_bytes())
    ensemble = vote([toys["mlp"], tmp_path / "theirs"], {"method": "soft"}, out=tmp_path / "out")
    with pytest.raises(ExportError, match="theirs are files of predictions"):
        build_graph(load_run(ensemble.path), GraphOptions())


def test_a_run_is_its_only_member_and_says_how_drawings_are_fitted(toys):
    run = load_run(toys["linear"])
    assert runs_of(run) == [run]
    assert image_of([run]).size_px == 32
