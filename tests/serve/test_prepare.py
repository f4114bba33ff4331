import shutil
import subprocess
from pathlib import Path

import pytest

from inkfold.errors import ExportError, PredictionError
from inkfold.pipeline.train import train
from inkfold.serve.nearest import index_path
from inkfold.serve.prepare import find_model, note_exported
from inkfold.storage.cache import list_cache, prune_cache
from models import write_model
from toy import toy_data, toy_recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INKFOLD_HOME", str(directory / "home"))
        return train(toy_recipe(directory), f"data={toy_data(directory / 'data')}", out=directory / "run").path


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A test's own copy of the run, and its own home."""
    monkeypatch.setenv("INKFOLD_HOME", str(tmp_path / "home"))
    return shutil.copytree(trained, tmp_path / "run")


class Exporter:
    """Stands in for the process that exports, which loads PyTorch for seconds."""

    def __init__(self, returncode=0, words="", *, index=True):
        self.calls, self.done, self.index = [], (returncode, words), index

    def __call__(self, arguments):
        self.calls.append(arguments)
        model = Path(arguments[arguments.index("--out") + 1])
        model.parent.mkdir()
        write_model(model)
        if self.index:
            model.with_name("model.nearest.safetensors").write_bytes(b"")
        returncode, words = self.done
        return subprocess.CompletedProcess(arguments, returncode, "", words)


def test_a_run_is_exported_once(run, tmp_path):
    exporter, said = Exporter(), []
    model = find_model(run, said.append, exporter)
    assert model.is_file()
    assert model.is_relative_to(tmp_path / "home" / "served")
    assert find_model(run, said.append, exporter) == model
    ((run_argument, flag, out, nearest),) = exporter.calls
    assert (run_argument, flag, Path(out).name, nearest) == (str(run), "--out", model.name, "--nearest")
    assert sorted(file.name for file in model.parent.iterdir() if file.name != "lock") == [
        "files.json",
        "key.json",
        "model.nearest.safetensors",
        model.name,
    ]
    assert said == [f"exporting {run}, once: it may take a minute"]


def test_a_run_that_crops_to_the_ink_is_exported_for_squares_that_the_server_fits(tmp_path, monkeypatch):
    monkeypatch.setenv("INKFOLD_HOME", str(tmp_path / "home"))
    data, exporter = toy_data(tmp_path / "data"), Exporter()
    run = train(toy_recipe(tmp_path), "image.resize=crop_to_ink", data=data, out=tmp_path / "run").path
    find_model(run, print, exporter)
    assert exporter.calls[0][-1] == "--fitted"


def test_a_run_trained_anew_is_exported_anew(run):
    exporter = Exporter()
    old = find_model(run, print, exporter)
    (run / "manifest.json").write_text((run / "manifest.json").read_text() + "\n")
    assert find_model(run, print, exporter) != old


def test_an_export_that_fails_says_why_and_leaves_nothing(run):
    with pytest.raises(ExportError, match="exit code 2:\nno such weights"):
        find_model(run, print, Exporter(2, "no such weights\n"))
    exporter = Exporter()
    find_model(run, print, exporter)
    assert len(exporter.calls) == 1


def test_an_export_that_was_killed_before_its_index_is_made_anew(run):
    def killed(arguments):
        Exporter(index=False)(arguments)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_model(run, print, killed)
    exporter = Exporter()
    model = find_model(run, print, exporter)
    assert len(exporter.calls) == 1
    assert index_path(model).is_file()


def test_what_is_served_is_listed_and_pruned_with_the_cache(run, tmp_path):
    model = find_model(run, print, Exporter())
    (entry,) = [entry for entry in list_cache(tmp_path / "home") if entry.name.startswith("served/")]
    assert (entry.path, entry.description) == (model.parent, "the exported model of run")
    prune_cache(tmp_path / "home", [entry.name])
    assert not model.exists()


def test_an_index_that_is_missing_is_said(run):
    said = []
    find_model(run, said.append, Exporter(0, "warning: the drawings are gone\n", index=False))
    assert said[1:] == ["without the nearest training drawings: warning: the drawings are gone"]


def test_a_model_or_a_set_is_served_as_it_is(tmp_path):
    model = write_model(tmp_path / "m.onnx")
    (tmp_path / "set.json").write_text("{}")
    assert find_model(model, print) == model
    assert find_model(tmp_path, print) == tmp_path


def test_a_file_exported_before_is_reused_while_it_is_as_it_was(run, tmp_path):
    exporter, said = Exporter(), []
    model = write_model(tmp_path / "elsewhere.onnx")
    note_exported(run, model, fitted=False)
    assert find_model(run, said.append, exporter) == model.resolve()
    assert said == [
        f"serving {model}, which was exported of {run} before, without the nearest training drawings (export --nearest)"
    ]
    index_path(model).write_bytes(b"")
    find_model(run, said.append, exporter)
    assert said[1] == f"serving {model}, which was exported of {run} before"
    model.write_bytes(b"another")
    assert find_model(run, said.append, exporter).name == "model.onnx"
    assert len(exporter.calls) == 1
    assert find_model(run, said.append, exporter).is_relative_to(tmp_path / "home")


def test_a_file_of_another_state_of_the_run_is_not_reused(run, tmp_path):
    exporter = Exporter()
    note_exported(run, write_model(tmp_path / "elsewhere.onnx"), fitted=False)
    (run / "manifest.json").write_text((run / "manifest.json").read_text() + "\n")
    find_model(run, print, exporter)
    assert len(exporter.calls) == 1


def test_what_is_neither_is_refused(tmp_path):
    with pytest.raises(ExportError, match="no such file or directory"):
        find_model(tmp_path / "none", print)
    with pytest.raises(PredictionError, match="no finished run"):
        find_model(tmp_path, print)


@pytest.mark.parametrize("name", ["model.onnx", "model.nearest.safetensors", "files.json"])
def test_an_exported_model_that_was_damaged_is_exported_again(run, caplog, name):
    exporter = Exporter()
    model = find_model(run, print, exporter)
    whole = model.read_bytes()
    (model.parent / name).write_bytes(b"damaged")
    assert find_model(run, print, exporter) == model
    assert len(exporter.calls) == 2
    assert model.read_bytes() == whole
    assert f"{model.parent / name}: not as it was written, so the run is exported again" in caplog.text
    find_model(run, print, exporter)
    assert len(exporter.calls) == 2
