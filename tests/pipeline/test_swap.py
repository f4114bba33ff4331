import contextlib
import json
from pathlib import Path

import pytest

from inkfold.pipeline.manifest import MANIFEST, STAGED, SWAP, finish_swap, read_manifest
from inkfold.pipeline.swap import all_files, swap_in
from inkfold.storage.hashing import digest_file


def write_run(directory, files, **more):
    """A directory that has a run's manifest, and files with these texts."""
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    content = {"format": 1, "class_names": ["a"], "data_fingerprint": "d", **more}
    content["files"] = {name: digest_file(directory / name) for name in files}
    (directory / MANIFEST).write_text(json.dumps(content))


def write_two(out):
    write_run(out, {"metrics.json": "old", "curve.json": "old", "predictions/test.parquet": "old"})
    (out / "audit.json").write_text("of the old model")
    write_run(out / STAGED / "members/one", {"heads.safetensors": "heads"})
    write_run(out / STAGED, {"metrics.json": "new", "vote.json": "new", f"members/one/{MANIFEST}": "{}"})
    write_run(out / STAGED / "members/one", {"heads.safetensors": "heads"})  # whose manifest the line above replaced
    manifest_of_all = json.loads((out / STAGED / MANIFEST).read_text())
    manifest_of_all["files"][f"members/one/{MANIFEST}"] = digest_file(out / STAGED / "members/one" / MANIFEST)
    (out / STAGED / MANIFEST).write_text(json.dumps(manifest_of_all))
    return [*all_files(out / STAGED), MANIFEST]


def state(out):
    return {path.relative_to(out).as_posix(): path.read_text() for path in sorted(out.rglob("*")) if path.is_file()}


def test_the_other_run_takes_the_place_of_the_first_with_all_of_its_files(tmp_path):
    swap_in(tmp_path, write_two(tmp_path))
    assert {*state(tmp_path)} == {
        "metrics.json",
        "vote.json",
        MANIFEST,
        f"members/one/{MANIFEST}",
        "members/one/heads.safetensors",
    }
    assert read_manifest(tmp_path)["files"]["metrics.json"] == digest_file(tmp_path / "metrics.json")
    assert (tmp_path / "metrics.json").read_text() == "new"
    assert not (tmp_path / STAGED).exists()


@pytest.mark.parametrize("steps", range(9))
def test_what_a_kill_left_in_between_is_finished_by_whoever_reads_the_run(tmp_path, monkeypatch, steps):
    files, left = write_two(tmp_path), [steps]

    def until_killed(act):
        def step(*arguments, **options):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return act(*arguments, **options)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", until_killed(Path.replace))
        patch.setattr(Path, "unlink", until_killed(Path.unlink))
        with contextlib.suppress(KeyboardInterrupt):
            swap_in(tmp_path, files)
    not_begun = not (tmp_path / SWAP).is_file() and (tmp_path / STAGED).is_dir()
    assert ("vote.json" in read_manifest(tmp_path)["files"]) == (not not_begun)
    assert not (tmp_path / SWAP).exists()


def test_a_list_that_names_files_elsewhere_moves_and_removes_nothing_there(tmp_path):
    outside, run = tmp_path / "outside.txt", tmp_path / "run"
    outside.write_text("mine")
    write_run(run, {"metrics.json": "old"})
    (run / SWAP).write_text(json.dumps({"move": ["../outside.txt", 3], "remove": ["../outside.txt", str(outside)]}))
    finish_swap(run)
    assert outside.read_text() == "mine"
    assert read_manifest(run)["class_names"] == ["a"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"move": 3, "remove": []}'])
def test_a_broken_list_is_reported_and_the_run_stays_as_it_is(tmp_path, caplog, text):
    write_run(tmp_path, {"metrics.json": "old"})
    (tmp_path / SWAP).write_text(text)
    assert read_manifest(tmp_path)["class_names"] == ["a"]
    assert "can't be read" in caplog.text
    assert (tmp_path / SWAP).is_file()
