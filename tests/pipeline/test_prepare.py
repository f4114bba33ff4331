import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from inkfold.config.load import load_recipe
from inkfold.config.sections import DataSettings
from inkfold.data.dataset import DataOptions, read_dataset
from inkfold.errors import DataError
from inkfold.images import page as page_module
from inkfold.pipeline.build import build_plan
from inkfold.pipeline.prepare import Needed, decode, group_duplicates, read_files
from inkfold.runtime.cost import Cost
from toy import RECIPE, break_image, read_rows, toy_recipe, write_rows


def read(data, on_broken="error", test_targets=None):
    dataset = read_dataset(data, DataOptions(on_broken=on_broken))
    return read_files(replace(dataset, test=replace(dataset.test, targets=test_targets)) if dataset.test else dataset, Cost())


def prepare(tmp_path, data, on_broken="error", on_blank="skip"):
    extractor = build_plan(load_recipe(toy_recipe(tmp_path, RECIPE))).extractor
    return decode(read(data, on_broken), extractor, DataSettings(on_broken=on_broken, on_blank=on_blank), Cost())


def shuffle(data, name):
    header, *rows = read_rows(data / name)
    write_rows(data / name, [header, *(rows[i] for i in np.random.default_rng(1).permutation(len(rows)))])


def test_drawings_come_in_an_order_that_their_bytes_decide(tmp_path, data):
    before = prepare(tmp_path, data)
    shuffle(data, "train.csv")
    after = prepare(tmp_path, data)
    assert sorted(before.rows) == list(range(18))
    assert before.digests.tolist() == sorted(before.digests.tolist()) == after.digests.tolist()
    assert before.targets.tolist() == after.targets.tolist()
    assert before.rows.tolist() != after.rows.tolist()


def test_the_fingerprint_is_of_the_drawings_and_not_of_row_order(data):
    before = read(data).fingerprint
    shuffle(data, "train.csv")
    assert read(data).fingerprint == before
    shuffle(data, "test.csv")
    assert read(data).fingerprint != before


def test_moving_the_data_keeps_the_fingerprint(tmp_path, data):
    before = read(data).fingerprint
    shutil.move(data, tmp_path / "elsewhere")
    assert read(tmp_path / "elsewhere").fingerprint == before


def other_name(data):
    (data / "train/apple/sketch_0.png").rename(data / "train/apple/renamed.png")
    text = (data / "train.csv").read_text()
    (data / "train.csv").write_text(text.replace("apple/sketch_0.png", "apple/renamed.png"))


def other_bytes(data):
    break_image(data / "train/apple/sketch_0.png")


def other_test_bytes(data):
    break_image(data / "test/0.png")


def other_label(data):
    text = (data / "train.csv").read_text()
    (data / "train.csv").write_text(text.replace("apple,apple/sketch_0.png,0", "fish,apple/sketch_0.png,1"))


def other_class_name(data):
    text = (data / "train.csv").read_text()
    (data / "train.csv").write_text(text.replace("apple,", "pear,"))


def other_numbers(data):
    text = (data / "train.csv").read_text()
    (data / "train.csv").write_text(text.replace(",2\n", ",5\n"))


@pytest.mark.parametrize("change", [other_name, other_bytes, other_test_bytes, other_label, other_class_name, other_numbers])
def test_any_other_change_changes_the_fingerprint(data, change):
    before = read(data).fingerprint
    change(data)
    assert read(data).fingerprint != before


def test_test_targets_are_part_of_the_fingerprint(data):
    assert read(data).fingerprint != read(data, test_targets=np.zeros(6, np.int64)).fingerprint


def test_what_is_skipped_is_counted_by_table(tmp_path, data):
    assert prepare(tmp_path, data).skipped == {"train": 0, "test": 0}
    (data / "train/apple/sketch_0.png").unlink()
    (data / "test/0.png").unlink()
    for name in ("train/apple/sketch_1.png", "train/fish/sketch_1.png", "test/1.png"):
        break_image(data / name)
    prepared = prepare(tmp_path, data, "skip")
    assert prepared.skipped == {"train": 3, "test": 2}
    assert len(prepared.rows) == 15
    assert prepared.test_whole.tolist() == [False, False, True, True, True, True]
    assert len(prepared.test_digests) == 4


def test_copies_of_a_broken_drawing_are_all_broken(tmp_path, data):
    break_image(data / "train/fish/sketch_1.png")
    shutil.copy(data / "train/fish/sketch_1.png", data / "test/3.png")
    shutil.copy(data / "train/fish/sketch_1.png", data / "train/fish/sketch_2.png")
    with pytest.raises(DataError) as caught:
        prepare(tmp_path, data)
    places = [problem.where for problem in caught.value.problems if problem.severity == "error"]
    assert sorted(places) == ["test 3.png", "train fish/sketch_1.png", "train fish/sketch_2.png"]
    assert prepare(tmp_path, data, "skip").skipped == {"train": 2, "test": 1}


def test_data_without_a_test_part_have_no_test_drawings(tmp_path, data):
    prepared = prepare(tmp_path, data / "train")
    assert prepared.test_whole is None
    assert prepared.test_digests is None


def blank_out(path):
    Image.new("L", (48, 48), 255).save(path)


def test_blank_drawings_are_left_out_or_kept_and_tests_keep_their_rows(tmp_path, data):
    for name in ("train/apple/sketch_0.png", "train/fish/sketch_1.png", "test/3.png"):
        blank_out(data / name)
    skipped, kept = (prepare(tmp_path, data, on_blank=choice) for choice in ("skip", "keep"))
    names = skipped.read.train.names
    assert sorted(names[skipped.blank.left_out]) == ["apple/sketch_0.png", "fish/sketch_1.png"]
    assert (len(skipped.rows), len(kept.rows)) == (16, 18)
    assert not set(skipped.rows) & set(skipped.blank.left_out)
    assert skipped.skipped == kept.skipped == {"train": 0, "test": 0}
    assert sorted(kept.blank.train) == sorted(skipped.blank.train) == sorted(skipped.blank.left_out)
    assert kept.blank.left_out.tolist() == []
    for prepared in (skipped, kept):
        assert prepared.read.test.names[prepared.blank.test].tolist() == ["3.png"]
        assert prepared.test_whole.all()
    assert len(skipped.blank_warnings) == len(kept.blank_warnings) == 2


def test_a_class_of_blank_drawings_is_kept(tmp_path, data):
    for index in range(4):
        blank_out(data / f"train/apple/sketch_{index}.png")
    prepared = prepare(tmp_path, data)
    assert len(prepared.rows) == 18
    assert len(prepared.blank.train) == 4


def test_blank_and_broken_drawings_are_errors_in_one_report(tmp_path, data):
    blank_out(data / "train/apple/sketch_0.png")
    blank_out(data / "test/3.png")
    break_image(data / "train/fish/sketch_1.png")
    with pytest.raises(DataError) as caught:
        prepare(tmp_path, data, on_blank="error")
    places = {problem.where: problem.kind for problem in caught.value.problems if problem.severity == "error"}
    assert places == {
        "train fish/sketch_1.png": "broken_truncated",
        "train apple/sketch_0.png": "blank_drawing",
        "test 3.png": "blank_drawing",
    }
    with pytest.raises(DataError, match="labelled 'apple'"):
        prepare(tmp_path, data, "skip", "error")


def test_each_file_is_decoded_once_for_pixels_signatures_and_statistics(tmp_path, data, monkeypatch, own_home):
    decoded, real = [], page_module.decode_image
    monkeypatch.setattr(page_module, "decode_image", lambda content, **more: decoded.append(content) or real(content, **more))
    extractor = build_plan(load_recipe(toy_recipe(tmp_path, RECIPE))).extractor
    drawings = read(data)
    prepared = decode(drawings, extractor, DataSettings(), Cost(), needed=Needed(copies=True))
    assert len(decoded) == len(set(decoded)) == 24
    group_duplicates(prepared, extractor.copy_stores(), Cost())
    records = extractor.statistics().read(prepared.digests)
    assert records["height"].tolist() == [48] * 18
    assert len(decoded) == 24
