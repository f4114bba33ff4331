import os

from inkfold.cli.main import main
from toy import CLASSES
from toy_cli import words


def test_serving_what_is_not_there_is_refused(tmp_path, capsys):
    assert main(words("serve", tmp_path / "none")) == 2
    assert "no such file or directory, expected a finished run or an ONNX file" in capsys.readouterr().err


def test_all_that_is_wrong_with_who_may_use_a_server_is_said_before_a_run_is_exported(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("INKFOLD_TOKEN", "two words")
    command = words("serve", tmp_path / "none", "--allow-host", "http://x.y", "--behind-proxy", "proxy", "--root-path", "draw")
    assert main(command) == 2
    error = capsys.readouterr().err
    assert [word for word in ("--token", "--allow-host", "--behind-proxy", "--root-path") if f"{word}: got" not in error] == []
    assert "no such file" not in error
    monkeypatch.delenv("INKFOLD_TOKEN")
    assert main(words("serve", tmp_path / "none", "--host", "[::1]:1", "--port", "2")) == 2
    assert "beside --port 2, expected one port" in capsys.readouterr().err


def test_an_exported_run_is_served_with_its_index(tmp_path, data, recipe, capsys):
    from inkfold.serve.predict import load_model
    from inkfold.serve.prepare import find_model

    assert main(words("train", recipe, f"data={data}", f"out={tmp_path / 'run'}")) == 0
    assert main(words("export", tmp_path / "run", "--out", tmp_path / "m.onnx", "--nearest")) == 0
    assert f"nearest drawings: {tmp_path / 'm.nearest.safetensors'}" in capsys.readouterr().out
    assert find_model(tmp_path / "run", print) == tmp_path / "m.onnx"  # not exported again
    model, index = load_model(tmp_path / "m.onnx")
    drawing = next((data / "train").rglob("*.png"))
    squares, _ = model.read(drawing.read_bytes(), model.check(drawing.read_bytes()))
    output = model.predict([squares])
    rows, similar = index.find(output.features, 1)
    assert similar[0, 0] > 0.99
    assert CLASSES[index.targets[rows[0, 0]]] == drawing.parent.name


def test_an_index_is_not_written_beside_a_pipe(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert main(words("export", tmp_path / "run", "--out", tmp_path / "pipe", "--nearest")) == 2
    assert "--nearest writes an index beside the ONNX file" in capsys.readouterr().err
