import json

from inkfold.cli.main import main
from inkfold.config.load import shipped_recipes
from toy import CLASSES, break_image, files_below
from toy_cli import words


def test_check_prints_a_report_and_tells_by_its_exit_code(data, capsys):
    assert main(words("check", data)) == 0
    printed = capsys.readouterr().out
    assert "ready to train" in printed
    assert "drawings_per_class: min 6, median 6, max 6\n" in printed
    no_groups = "0 in several of train, val and test, 0 with different labels, 0 with one label; 0 drawings"
    assert f"duplicates_found: groups {no_groups}\n" in printed
    break_image(data / "train/apple/sketch_0.png")
    assert main(words("check", data, "k=7")) == 1
    printed = capsys.readouterr().out
    assert "error: train apple/sketch_0.png" in printed
    assert "warning: class 'fish'" in printed
    assert printed.endswith("not ready: correct the errors, or train with data.on_broken=skip\n")
    assert main(words("check", data, "on_broken=skip")) == 0
    assert main(words("check", data / "gone")) == 2


def test_skipping_is_no_advice_where_it_would_not_help(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(words("check", tmp_path / "empty")) == 1
    assert capsys.readouterr().out.endswith("not ready: correct the errors\n")


def test_checks_json_is_json(data, capsys):
    break_image(data / "test/0.png")
    assert main(words("check", data, "--json")) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["broken"] == 1
    assert report["class_names"] == list(CLASSES)


def test_augment_draws_a_sheet_of_the_recipes_views(tmp_path, data, recipe, capsys):
    given = ("augment", recipe, f"data={data}", "--out", tmp_path / "sheet.png", "--rows", "2")
    assert main(words(*given)) == 0
    printed = capsys.readouterr().out
    assert "the recipe shows drawings as they are" in printed
    assert f"1 views: {tmp_path / 'sheet.png'}" in printed
    assert main(words(*given, "curriculum=winner")) == 0
    assert "as they are" not in capsys.readouterr().out
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert main(words("augment", recipe, f"data={data}", "--out", tmp_path / "sheet.gif")) == 2


def test_recipes_lists_all(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_recipes())
    assert not any("# " in line for line in lines)


def test_the_cache_is_listed_and_pruned_only_as_told(tmp_path, data, recipe, capsys, own_home):
    assert main(["cache"]) == 0
    assert main(words("train", recipe, f"data={data}", f"out={tmp_path / 'run'}")) == 0
    capsys.readouterr()
    assert main(["cache", "list"]) == 0
    listed = capsys.readouterr().out
    assert "features/test_resnet" in listed
    assert "pixels/grey-32" in listed
    before = files_below(own_home)
    assert main(["cache", "prune"]) == 2
    assert "say what" in capsys.readouterr().err
    assert main(["cache", "prune", "--older-than-days", "1"]) == 0
    assert files_below(own_home) == before
    [features] = (own_home / "features").iterdir()
    assert main(["cache", "prune", features.name]) == 0
    assert not features.exists()
    assert (own_home / "pixels").exists()
    assert main(["cache", "prune", "--all"]) == 0
    assert not any(name.startswith("pixels/") for name in files_below(own_home))
