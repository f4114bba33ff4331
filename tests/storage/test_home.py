from pathlib import Path

import platformdirs

from inkfold.storage.home import home


def test_the_environment_names_the_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("INKFOLD_HOME", str(tmp_path / "here"))
    assert home() == tmp_path / "here"
    assert not home().exists()


def test_a_tilde_is_the_user_s_home(monkeypatch):
    monkeypatch.setenv("INKFOLD_HOME", "~/ink")
    assert home() == Path.home() / "ink"


def test_without_it_the_platform_s_cache_directory_is_taken(monkeypatch):
    for unset in (lambda: monkeypatch.setenv("INKFOLD_HOME", ""), lambda: monkeypatch.delenv("INKFOLD_HOME")):
        unset()
        assert home() == Path(platformdirs.user_cache_dir("inkfold", False))
