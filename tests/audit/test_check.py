import json
import shutil

import numpy as np
import pytest
from PIL import Image

from inkfold.audit.check import check_data
from inkfold.cli import main as cli
from inkfold.data.dataset import DataOptions
from inkfold.errors import DataError
from toy import break_image, read_rows, write_rows


def kinds(checkup):
    return [problem.kind for problem in checkup.problems]


def test_whole_data_are_ready(data):
    checkup = check_data(data)
    assert checkup.ok
    assert checkup.problems == ()
    assert checkup.counts == {
        "root": str(data),
        "layout": "competition",
        "n_train": 18,
        "n_test": 6,
        "num_classes": 3,
        "drawings_per_class": {"min": 6, "median": 6.0, "max": 6},
        "broken": 0,
        "blank": 0,
        "identical_files_in_train": 0,
        "test_files_also_in_train": 0,
        "duplicates_found": {"within": 0, "across": 0, "leak": 0, "conflicts": 0, "drawings": 0},
        "pages": {"photographed": 0, "small": 1},
        "class_names": ["apple", "fish", "house"],
    }


def test_all_problems_are_in_one_report(data):
    break_image(data / "train/apple/sketch_0.png")
    break_image(data / "test/2.png")
    (data / "train/fish/sketch_3.png").unlink()
    header, *rows = read_rows(data / "train.csv")
    write_rows(data / "train.csv", [header, *rows[:-4], ["house", "", "2"]])
    checkup = check_data(data, k=5)
    assert not checkup.ok
    assert checkup.counts["broken"] == 2
    messages = "\n".join(str(problem) for problem in checkup.problems)
    for part in ("train apple/sketch_0.png", "test 2.png", "fish/sketch_3.png", "image path is empty", "class 'house'"):
        assert part in messages


def test_a_broken_drawing_that_may_be_skipped_is_a_warning(data):
    break_image(data / "train/apple/sketch_0.png")
    (data / "train/fish/sketch_3.png").unlink()
    assert not check_data(data).ok
    lenient = check_data(data, DataOptions(on_broken="skip"))
    assert lenient.ok
    assert lenient.counts["broken"] == 1
    assert len(lenient.problems) == 2


def test_identical_files_and_leaks_into_the_test_are_counted(data):
    shutil.copy(data / "train/apple/sketch_0.png", data / "train/apple/sketch_1.png")
    shutil.copy(data / "train/apple/sketch_0.png", data / "test/1.png")
    counts = check_data(data).counts
    assert (counts["identical_files_in_train"], counts["test_files_also_in_train"]) == (1, 1)


def test_warnings_alone_are_no_hindrance(data):
    checkup = check_data(data, k=7)
    assert kinds(checkup) == ["few_drawings"] * 3
    assert checkup.ok


def test_the_report_is_json(data):
    break_image(data / "train/apple/sketch_0.png")
    report = json.loads(json.dumps(check_data(data).as_json(), allow_nan=False))
    assert report["ok"] is False
    [problem] = report["problems"]
    assert set(problem) == {"kind", "severity", "where", "message"}
    assert problem["severity"] == "error"
    assert problem["where"] == "train apple/sketch_0.png"


def test_too_many_pixels_are_broken(data):
    assert check_data(data, pixel_limit=48 * 48 - 1).counts["broken"] == 24


def test_nothing_is_written_but_signatures_and_statistics_and_without_duplicates_nothing_at_all(data, own_home):
    before = sorted(data.rglob("*"))
    check_data(data, duplicates=False)
    assert not own_home.exists()
    check_data(data)
    assert sorted(path.name for path in own_home.iterdir()) == ["signatures", "statistics"]
    assert sorted(data.rglob("*")) == before


def test_both_ways_of_decoding_find_the_same(data):
    break_image(data / "train/apple/sketch_0.png")
    shutil.copy(data / "train/apple/sketch_0.png", data / "test/3.png")
    (data / "train/fish/sketch_3.png").unlink()
    with_signatures, without = check_data(data), check_data(data, duplicates=False)
    assert without.problems == with_signatures.problems
    assert without.groups is None
    counts = dict(with_signatures.counts)
    del counts["duplicates_found"], counts["pages"]
    assert without.counts == counts


@pytest.mark.parametrize("duplicates", [True, False])
def test_blank_drawings_are_named_with_their_class_and_what_becomes_of_them(data, duplicates):
    for name in ("train/apple/sketch_0.png", "test/3.png"):
        Image.new("LA", (48, 48), (0, 0)).save(data / name)
    checkup = check_data(data, duplicates=duplicates)
    train, test = (problem for problem in checkup.problems if problem.kind == "blank_drawing")
    assert (train.where, test.where) == ("train apple/sketch_0.png", "test 3.png")
    assert "labelled 'apple'. Training leaves it out" in train.message
    assert (checkup.ok, checkup.counts["blank"]) == (True, 2)
    strict = check_data(data, DataOptions(on_blank="error"), duplicates=duplicates)
    assert not strict.ok
    assert not strict.can_skip
    kept = check_data(data, DataOptions(on_blank="keep"), duplicates=duplicates)
    assert "Training keeps it" in str(kept.problems[0])


def test_duplicates_conflicts_and_leaks_are_warnings(data):
    pixels = np.asarray(Image.open(data / "train/apple/sketch_0.png"))
    for place in ("train/apple/sketch_1.png", "train/fish/sketch_1.png"):
        Image.fromarray(np.ascontiguousarray(pixels[::-1])).save(data / place)
    shutil.copy(data / "train/house/sketch_0.png", data / "test/1.png")
    checkup = check_data(data)
    assert checkup.ok
    assert sorted(kinds(checkup)) == ["conflicting_labels", "leak"]
    assert checkup.counts["duplicates_found"] == {"within": 0, "across": 1, "leak": 1, "conflicts": 1, "drawings": 5}
    assert [group["kind"] for group in json.loads(json.dumps(checkup.as_json()))["duplicates"]] == ["leak", "across"]


@pytest.mark.parametrize("duplicates", [True, False])
def test_groups_that_columns_suggest_are_counted_and_lopsided_folds_named(data, duplicates):
    header, *rows = read_rows(data / "train.csv")
    who = ["anna", "anna", "anna", "ben", "eva", "eva"]  # six drawings of each class
    write_rows(data / "train.csv", [[*header, "who"], *([*row, who[i % 6]] for i, row in enumerate(sorted(rows)))])
    checkup = check_data(data, DataOptions(num_folds=2), k=2, duplicates=duplicates)
    assert kinds(checkup) == ["groups_suggested"]
    assert checkup.lines["groups"] == "3 by folds.group_column=who"
    assert json.loads(json.dumps(checkup.as_json()))["groups"]["proposed"]
    lopsided = check_data(data, DataOptions(group_column="who", num_folds=4), k=4, duplicates=duplicates)
    [problem] = [problem for problem in lopsided.problems if problem.kind == "folds"]
    assert "the group 'anna' alone has 9 of them" in problem.message
    assert "folds" not in kinds(check_data(data, DataOptions(group_pattern="none"), k=2, duplicates=duplicates))


def test_the_command_writes_a_page_and_refuses_one_without_a_search(data, tmp_path, capsys):
    shutil.copy(data / "train/house/sketch_0.png", data / "test/1.png")
    assert cli.main(["check", str(data), "--html", str(tmp_path / "page.html")]) == 0
    assert "Trained on and evaluated on (1)" in (tmp_path / "page.html").read_text()
    assert "1 in several of train, val and test" in capsys.readouterr().out
    assert cli.main(["check", str(data), "--html", str(tmp_path / "page.html"), "--no-duplicates"]) == 2
    assert "--no-duplicates" in capsys.readouterr().err


def test_a_folder_without_a_data_set_is_an_error(tmp_path):
    with pytest.raises(DataError):
        check_data(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    checkup = check_data(tmp_path / "empty")
    assert not checkup.ok
    assert checkup.counts["n_train"] == 0
    json.dumps(checkup.as_json(), allow_nan=False)


def test_a_class_without_a_readable_drawing_is_named_and_keeps_its_number(data):
    for file in (data / "train/fish").iterdir():
        break_image(file)
    checkup = check_data(data, DataOptions(on_broken="skip"), duplicates=False)
    [problem] = [problem for problem in checkup.problems if problem.kind == "unreadable_class"]
    assert (problem.where, problem.severity) == ("class 'fish'", "warning")
    assert "none of its 6 drawing(s) can be read" in problem.message
    assert checkup.counts["class_names"] == ["apple", "fish", "house"]


def test_a_broken_table_is_no_broken_drawing(data):
    with (data / "train.csv").open("a") as file:
        file.write('apple,"x.png,0\n')
    checkup = check_data(data, duplicates=False)
    assert [problem.kind for problem in checkup.problems] == ["broken_csv"]
    assert checkup.counts["broken"] == 0
    assert not checkup.can_skip


def test_what_was_understood_of_the_folders_is_reported(tmp_path, data):
    for name in ("apple", "house"):
        for user in ("user.1", "user.2"):
            shutil.copytree(data / "train" / name, tmp_path / "drawn" / user / name)
    checkup = check_data(tmp_path / "drawn", duplicates=False)
    assert checkup.counts["class_names"] == ["apple", "house"]
    assert "class_level" in kinds(checkup)
    assert checkup.ok


def test_the_submissions_form_is_said_or_proposed(data):
    assert "submission" not in check_data(data, duplicates=False).counts, "a sample of the usual columns"
    rows = read_rows(data / "sample_submission.csv")[1:]
    write_rows(data / "sample_submission.csv", [["key", "word"], *([path[:-4], "apple fish"] for _, path, _ in rows)])
    words = check_data(data, duplicates=False).lines["submission"]
    assert words == (
        "as sample_submission.csv: key = the file's name without its ending, word = 2 most probable classes by name"
    )
    (data / "sample_submission.csv").unlink()
    words = check_data(data, duplicates=False).lines["submission"]
    assert words.startswith("ID,image_path,target; there is no sample submission")
    assert "submission.columns=image_path,class_name submission.labels=name" in words
    shutil.rmtree(data / "test")
    (data / "test.csv").unlink()
    assert "submission" not in check_data(data, duplicates=False).counts
