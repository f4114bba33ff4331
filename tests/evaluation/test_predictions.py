import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inkfold.errors import ExportError, PredictionError
from inkfold.evaluation.predictions import Predictions, softmax, write_submission

NAMES = ("바다거북", "tench, Tinca", 'say "hi"')


def texts(*values):
    return np.array(values, np.dtypes.StringDType())


def some(**changes):
    probs = np.array([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]], np.float32)
    given = {"image_paths": texts("가/나.png", "b,c.JPEG"), "probs": probs, "class_names": NAMES}
    return Predictions(**{**given, **changes})


def test_the_best_class_is_the_lowest_of_equals():
    assert some(probs=np.array([[0.4, 0.4, 0.2], [0, 0.5, 0.5]])).preds.tolist() == [0, 1]


def test_out_of_fold_predictions_come_back_as_they_were(tmp_path):
    saved = some(targets=np.array([0, 2]), folds=np.array([1, 0]))
    saved.save(tmp_path / "deep" / "p.parquet")
    loaded = Predictions.load(tmp_path / "deep" / "p.parquet")
    assert loaded.class_names == NAMES
    assert loaded.image_paths.tolist() == ["가/나.png", "b,c.JPEG"]
    assert np.array_equal(loaded.probs, saved.probs)
    assert loaded.probs.dtype == np.float32
    assert loaded.targets.tolist() == [0, 2]
    assert loaded.folds.tolist() == [1, 0]
    assert loaded.fold_probs is None
    assert loaded.seen is None


def test_what_a_backbone_knew_comes_back(tmp_path):
    some(seen=np.array([False, True])).save(tmp_path / "p.parquet")
    assert Predictions.load(tmp_path / "p.parquet").seen.tolist() == [False, True]
    assert pq.read_table(tmp_path / "p.parquet")["learnt_by_backbone"].to_pylist() == [False, True]


def test_what_other_drawings_chose_decides_what_is_right_where_one_head_answers(tmp_path):
    known = some(targets=np.array([0, 1]))
    assert known.right.tolist() == [True, True]
    chosen = some(targets=np.array([0, 1]), nested_right=np.array([1.0, 0.0]))
    chosen.save(tmp_path / "p.parquet")
    loaded = Predictions.load(tmp_path / "p.parquet")
    assert loaded.nested_right.tolist() == [1, 0]
    assert loaded.right.tolist() == [True, False]
    of_two_heads = some(targets=np.array([0, 1]), nested_right=np.array([1.0, 0.5]))
    assert of_two_heads.right.tolist() == [True, True]
    assert not of_two_heads.answers_nested


def test_test_predictions_keep_every_folds_answer(tmp_path):
    fold_probs = np.random.default_rng(0).random((4, 2, 3), np.float32)
    some(fold_probs=fold_probs).save(tmp_path / "p.parquet")
    loaded = Predictions.load(tmp_path / "p.parquet")
    assert np.array_equal(loaded.fold_probs, fold_probs)
    assert loaded.targets is None
    assert loaded.folds is None


def test_no_drawings_are_predictions_too(tmp_path):
    empty = some(image_paths=texts(), probs=np.empty((0, 3)), fold_probs=np.empty((2, 0, 3)))
    empty.save(tmp_path / "p.parquet")
    loaded = Predictions.load(tmp_path / "p.parquet")
    assert (loaded.probs.shape, loaded.fold_probs.shape) == ((0, 3), (2, 0, 3))


def test_groups_and_digests_of_files_are_kept(tmp_path):
    some(groups=np.array([4, 1]), digests=np.array([b"aa", b""])).save(tmp_path / "p.parquet")
    loaded = Predictions.load(tmp_path / "p.parquet")
    assert loaded.groups.tolist() == [4, 1]
    assert loaded.digests.tolist() == [b"aa", b""]
    some().save(tmp_path / "p.parquet")
    assert Predictions.load(tmp_path / "p.parquet").groups is None


def test_other_programs_can_read_the_columns(tmp_path):
    some(targets=np.array([0, 2])).save(tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == ["image_path", "target", "pred", "probs"]
    assert table["pred"].to_pylist() == [0, 1]
    assert table["probs"].to_pylist()[1] == [0.25, 0.5, 0.25]
    assert json.loads(table.schema.metadata[b"class_names"]) == list(NAMES)


def foreign(path, columns, class_names='["a", "b"]'):
    metadata = {} if class_names is None else {"class_names": class_names}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)


PAIRS = pa.FixedSizeListArray.from_arrays(pa.array([0.5, 0.5, 0.1, 0.9], pa.float32()), 2)


@pytest.mark.parametrize(
    ("columns", "class_names"),
    [
        ({"x": [1]}, None),
        ({"x": [1]}, '["a", "b"]'),
        ({"probs": PAIRS}, '["a", "b"]'),
        ({"image_path": ["a", "b"], "probs": PAIRS}, '["a", "b", "c"]'),
        ({"image_path": ["a", "b"], "probs": PAIRS}, "no json"),
        ({"image_path": ["a", "b"], "probs": PAIRS}, "3"),
        ({"image_path": ["a", "b"], "probs": ["x", "y"]}, '["a", "b"]'),
        (
            {"image_path": ["a", "b"], "probs": PAIRS, "fold_probs": pa.FixedSizeListArray.from_arrays(range(6), 3)},
            '["a", "b"]',
        ),
    ],
)
def test_a_foreign_table_is_refused_by_name(tmp_path, columns, class_names):
    foreign(tmp_path / "foreign.parquet", columns, class_names)
    with pytest.raises(PredictionError, match=r"foreign\.parquet: not predictions"):
        Predictions.load(tmp_path / "foreign.parquet")


def test_a_missing_or_broken_file_is_refused_by_name(tmp_path):
    with pytest.raises(PredictionError, match=r"gone\.parquet"):
        Predictions.load(tmp_path / "gone.parquet")
    some().save(tmp_path / "cut.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "cut.parquet").read_bytes()[:-30])
    with pytest.raises(PredictionError, match=r"cut\.parquet"):
        Predictions.load(tmp_path / "cut.parquet")


ALLOWED = np.array([0, 3, 7])


def test_a_submission_is_exactly_these_bytes(tmp_path):
    write_submission(tmp_path / "s.csv", texts("가.png", "b,c.png"), np.array([7, 0]), ALLOWED)
    expected = 'ID,image_path,target\n0,가.png,7\n1,"b,c.png",0\n'
    assert (tmp_path / "s.csv").read_bytes() == expected.encode()


def test_a_submission_takes_the_samples_ids_names_and_column_order(tmp_path):
    columns = {"file": "path", "class": "target", "Id": "id"}
    write_submission(tmp_path / "s.csv", texts("b.png", "a.png"), np.array([3, 3]), ALLOWED, ["007", "x"], columns)
    assert (tmp_path / "s.csv").read_text() == "file,class,Id\nb.png,3,007\na.png,3,x\n"


def test_a_submission_may_have_no_id_column(tmp_path):
    columns = {"image_path": "path", "target": "target"}
    write_submission(tmp_path / "s.csv", texts("b.png"), np.array([3]), ALLOWED, [""], columns)
    assert (tmp_path / "s.csv").read_text() == "image_path,target\nb.png,3\n"


def test_all_that_is_wrong_with_a_submission_is_told_and_nothing_is_written(tmp_path):
    with pytest.raises(ExportError) as caught:
        write_submission(tmp_path / "s.csv", texts("a"), np.array([1, 3]), ALLOWED, ["0"], {"image_path": "path"})
    assert [problem.kind for problem in caught.value.problems] == ["count", "range", "columns"]
    assert not (tmp_path / "s.csv").exists()


def test_a_submission_needs_an_id_for_each_drawing(tmp_path):
    with pytest.raises(ExportError, match="2 test drawings, 2 predictions, 1 IDs"):
        write_submission(tmp_path / "s.csv", texts("a", "b"), np.array([3, 3]), ALLOWED, ["0"])


def test_softmax_by_hand_and_of_huge_scores():
    np.testing.assert_allclose(softmax(np.log([[1.0, 3.0], [2.0, 2.0]])), [[0.25, 0.75], [0.5, 0.5]])
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0], [-1e4, -1e4]])), [[1, 0], [0.5, 0.5]])


def test_answers_by_a_rule_come_back_and_the_most_probable_are_no_rule(tmp_path):
    some(decided=np.array([2, 1])).save(tmp_path / "p.parquet")
    loaded = Predictions.load(tmp_path / "p.parquet")
    assert loaded.preds.tolist() == [2, 1]
    assert loaded.most_probable.preds.tolist() == [0, 1]
    some(decided=np.array([0, 1])).save(tmp_path / "q.parquet")
    assert Predictions.load(tmp_path / "q.parquet").decided is None


def test_answers_that_are_no_class_are_refused(tmp_path):
    some(decided=np.array([2, 3])).save(tmp_path / "p.parquet")
    with pytest.raises(PredictionError, match="column pred has classes that are not there"):
        Predictions.load(tmp_path / "p.parquet")


def test_drawings_are_selected_with_all_that_is_known_of_them():
    whole = some(
        targets=np.array([0, 2]),
        folds=np.array([1, 0]),
        fold_probs=np.arange(12, dtype=np.float32).reshape(2, 2, 3),
        seen=np.array([False, True]),
        groups=np.array([4, 5]),
        digests=np.array([b"a", b"b"]),
        decided=np.array([2, 1]),
    )
    one = whole.select(np.array([False, True]))
    assert (one.image_paths.tolist(), one.targets.tolist(), one.folds.tolist()) == (["b,c.JPEG"], [2], [0])
    assert (one.seen.tolist(), one.groups.tolist(), one.digests.tolist(), one.preds.tolist()) == ([True], [5], [b"b"], [1])
    assert one.fold_probs.tolist() == [[[3, 4, 5]], [[9, 10, 11]]]
    assert whole.select(np.array([1, 0])).image_paths.tolist() == ["b,c.JPEG", "가/나.png"]
