import json

import pytest

from inkfold.errors import PredictionError
from inkfold.pipeline.manifest import FORMAT, is_below, read_manifest
from inkfold.storage.hashing import digest_file


def finished(out, **changes):
    out.mkdir()
    for name in ("read.json", "large.bin"):
        (out / name).write_text(name)
    files = {name: digest_file(out / name) for name in ("read.json", "large.bin")}
    (out / "manifest.json").write_text(json.dumps({"format": FORMAT, "class_names": ["a"], "files": files, **changes}))
    return out


def test_every_file_is_checked_but_only_those_that_are_wanted_where_some_are(tmp_path):
    out = finished(tmp_path / "run")
    assert read_manifest(out)["class_names"] == ["a"]
    (out / "large.bin").write_text("other")
    assert read_manifest(out, {"read.json"})["class_names"] == ["a"]
    with pytest.raises(PredictionError, match=r"large\.bin"):
        read_manifest(out)
    (out / "read.json").unlink()
    with pytest.raises(PredictionError, match=r"read\.json"):
        read_manifest(out, {"read.json"})


def test_no_directory_at_all_is_no_unfinished_run(tmp_path):
    with pytest.raises(PredictionError, match=r"nowhere: no such directory, expected a finished run's"):
        read_manifest(tmp_path / "nowhere")


@pytest.mark.parametrize("place", ["../up", "/root", 3, None])
def test_a_place_outside_the_run_is_not_below_it(place):
    assert not is_below(place)
