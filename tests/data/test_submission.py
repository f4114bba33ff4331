import numpy as np
import pytest

from inkfold.data.dataset import DataOptions, Drawings, read_dataset, read_test_targets
from inkfold.data.tables import STRING
from inkfold.errors import DataError
from toy_tables import competition, errors, kinds


@pytest.mark.parametrize(
    ("sample", "kind"),
    [
        ("ID,image_path,target\nT0,b.png,0\n", "test_rows_differ"),
        ("ID,image_path,target\nT0,b.png,0\nT1,a.png,0\nT2,c.png,0\n", "test_rows_differ"),
        ("ID,image_path,target\nT0,b.png,0\nT1,a.png,0\nT2,a.png,0\n", "test_rows_differ"),
        ("ID,image_path,target\n", "empty_table"),
    ],
)
def test_a_sample_submission_for_other_images_is_an_error(tmp_path, sample, kind):
    assert errors(competition(tmp_path, sample=sample)) == [kind]


def test_a_sample_submission_in_another_order_gives_ids_by_path(tmp_path):
    competition(tmp_path, sample="ID,image_path,target\nT0,a.png,0\nT1,b.png,0\n")
    data = read_dataset(tmp_path)
    assert kinds(data.problems) == ["sample_order"]
    assert data.sample_submission.ids.tolist() == ["T1", "T0"]


def test_a_sample_submission_without_ids_is_used_and_warned_of(tmp_path):
    competition(tmp_path, sample="image_path,target\nb.png,0\na.png,0\n")
    data = read_dataset(tmp_path)
    assert kinds(data.problems) == ["sample_columns"]
    assert data.sample_submission.columns == ("image_path", "target")
    assert data.sample_submission.ids.tolist() == ["", ""]


@pytest.mark.parametrize(
    "sample", ["ID,image_path,target,Usage\nT,a.png,0,x\n", "ID,target\nT,0\n", "x\n1\n", "ID,Usage,image_path\n"]
)
def test_a_sample_submission_that_can_not_be_filled_in_is_an_error(tmp_path, sample):
    assert errors(competition(tmp_path, sample=sample))
    assert read_dataset(tmp_path, strict=False).sample_submission is None


def test_test_targets_are_matched_by_path(tmp_path):
    competition(tmp_path, "image_path,target\ncat/1.png,3\ndog/1.png,9\n")
    (tmp_path / "truth.csv").write_text("target,image_path\n9,a.png\n3,b.png\n")
    data = read_dataset(tmp_path, DataOptions(test_targets="truth.csv"))
    assert data.test.targets.tolist() == [0, 1]


def test_every_problem_of_the_test_targets_is_reported(tmp_path):
    test = Drawings(np.array(["a", "b", "c"], dtype=STRING), np.array(["", "", ""], dtype=STRING))
    rows = ["image_path,target", "a,0", "a,1", "b,7", "z,0", "b,x", "b"]
    (tmp_path / "truth.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError) as caught:
        read_test_targets(tmp_path / "truth.csv", test, np.array([0, 1]))
    assert sorted(kinds(caught.value.problems)) == [
        "conflicting_targets",
        "non_integer_target",
        "ragged_row",
        "test_rows_differ",
        "test_rows_differ",
        "unknown_class",
    ]
