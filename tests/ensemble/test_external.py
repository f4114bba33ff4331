import csv
import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkfold.ensemble.external import Classes, read_member, read_predictions
from inkfold.ensemble.member_predictions import MemberPredictions
from inkfold.ensemble.members import align_members
from inkfold.errors import PredictionError
from inkfold.evaluation.predictions import Predictions, write_submission

NAMES = ("tench", "kite", "바다, 거북")
CLASSES = Classes(NAMES, np.array([2, 5, 30]))
PATHS = ["test/가.png", "test/b,c.png", "test/d.png", "test/e.png"]
PROBS = np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0, 0.25, 0.75], [1, 0, 0]], np.float32)
FOLDS = np.stack([PROBS, PROBS[:, ::-1]])


def write_csv(path, header, rows, encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_wide(path, paths=PATHS, probs=PROBS, names=NAMES, **options):
    rows = [[one, *row] for one, row in zip(paths, probs.tolist(), strict=True)]
    return write_csv(path, ["image_path", *names], rows, **options)


def write_submitted(path, targets, paths=PATHS):
    rows = [[i, *row] for i, row in enumerate(zip(paths, targets, strict=True))]
    return write_csv(path, ["ID", "image_path", "target"], rows)


def write_npz(path, probs=PROBS, image_paths=PATHS, class_names=NAMES, save=np.savez, **arrays):
    given_ = {"probs": probs, "image_paths": image_paths, "class_names": class_names, **arrays}
    save(path, **{name: np.asarray(array) for name, array in given_.items() if array is not None})
    return path


def write_npy(path, probs=PROBS, image_paths=PATHS):
    np.save(path, probs)
    write_csv(path.with_suffix(".csv"), ["image_path"], [[one] for one in image_paths])
    return path


def write_parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def refused(path, classes=CLASSES):
    """All reported problems, as lines; each must say where."""
    with pytest.raises(PredictionError) as caught:
        read_member(path, classes)
    problems = caught.value.problems
    assert problems
    assert all(problem.where.startswith(str(path)) for problem in problems)
    return [str(problem) for problem in problems]


def header_of(text, version=(1, 0)):
    width = "<H" if version[0] == 1 else "<I"
    return b"\x93NUMPY" + bytes(version) + struct.pack(width, len(text)) + text


def describe(shape, descr="<f4", order=False):
    return repr({"descr": descr, "fortran_order": order, "shape": shape}).encode() + b"\n"


def zipped(path, entries, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(f"{name}.npy", data)
    return path


def change_entries(path, offset, value):
    """Overwrite 16 bits of each entry in a zip's directory: 8 are flags, 10 is the compression."""
    data = bytearray(path.read_bytes())
    place = data.find(b"PK\x01\x02")
    while place >= 0:
        data[place + offset : place + offset + 2] = struct.pack("<H", value)
        place = data.find(b"PK\x01\x02", place + 1)
    path.write_bytes(data)


def saved(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def write_as(kind, path, one):
    """One member's test predictions in a form that somebody else may give them."""
    paths, names = one.image_paths.tolist(), one.class_names
    match kind:
        case "csv":
            return write_wide(path / "m.csv", paths, one.probs, names)
        case "npz":
            return write_npz(path / "m.npz", one.probs, paths, names)
        case "npz of folds":
            return write_npz(path / "m.npz", one.probs[None], paths, names, np.savez_compressed)
        case "npy":
            columns = [names.index(name) for name in NAMES]
            return write_npy(path / "m.npy", one.probs[:, columns], paths)
        case "parquet":
            columns = {name: one.probs[:, k] for k, name in enumerate(names)}
            return write_parquet(path / "m.parquet", **columns, image_path=paths, confidence=one.probs.max(1))
        case "ours":
            one.save(path / "m.parquet")
            return path / "m.parquet"
    raise AssertionError(kind)


@pytest.mark.parametrize("seed", range(4))
def test_the_same_answers_are_the_same_in_every_form_and_any_order(tmp_path, seed):
    run = MemberPredictions("run", None, Predictions(np.array(PATHS, np.dtypes.StringDType()), PROBS, NAMES), Path("run"))
    members = [run]
    rng = np.random.default_rng(seed)
    for kind in ("csv", "npz", "npz of folds", "npy", "parquet", "ours"):
        rows, columns = rng.permutation(4), rng.permutation(3)
        mixed = Predictions(run.test.image_paths[rows], PROBS[rows][:, columns], tuple(NAMES[k] for k in columns))
        (tmp_path / kind).mkdir()
        members.append(read_member(write_as(kind, tmp_path / kind, mixed), CLASSES))
    panel = align_members(members)
    assert panel.names == ("run", "m", "m", "m", "m", "m", "m")
    for folds in panel.test:
        assert np.array_equal(folds, PROBS[None])


def test_a_submission_has_all_probability_in_one_class_by_the_datas_numbers(tmp_path):
    path = write_submitted(tmp_path / "theirs.csv", [30, "5", "2.0", " 30 "], [f".\\{one}" for one in PATHS])
    one = read_member(path, CLASSES)
    assert (one.name, one.out_of_fold, one.run) == ("theirs", None, None)
    assert one.test.class_names == NAMES
    assert one.test.probs.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]]
    run = MemberPredictions("run", None, Predictions(np.array(PATHS, np.dtypes.StringDType()), PROBS, NAMES), Path("run"))
    assert align_members([one, run]).test_paths.tolist() == PATHS


def test_a_submission_that_inkfold_wrote_is_read_with_the_datas_column_names(tmp_path):
    columns = {"file": "path", "label": "target", "Id": "id"}
    paths = np.array(PATHS, np.dtypes.StringDType())
    write_submission(tmp_path / "s.csv", paths, np.array([2, 30, 5, 2]), CLASSES.targets, list("abcd"), columns)
    classes = Classes(NAMES, CLASSES.targets, "file", "label")
    assert read_predictions(tmp_path / "s.csv", classes).preds.tolist() == [0, 2, 1, 0]
    assert read_predictions(write_submitted(tmp_path / "t.csv", [2, 2, 5, 2]), classes).preds.tolist() == [0, 0, 1, 0]


def test_every_target_that_is_no_class_is_reported_by_row(tmp_path):
    lines = refused(write_submitted(tmp_path / "s.csv", [2, 3, "x", "3.5"]))
    assert [line.partition(" row ")[2][0] for line in lines] == ["2", "3", "4"]
    assert "got target '3', expected one of the 3 numbers, 2 to 30, that the data give classes. Correct it." in lines[0]


def test_targets_that_are_no_numbers_are_reported(tmp_path):
    for target in ("", "-2", "1e3", "2,0", "9" * 19, "9" * 400, "nan", "٢", "tench"):
        [line] = refused(write_submitted(tmp_path / "s.csv", [2, target, 5, 30]))
        assert f"row 2: got target '{target}'" in line


def test_a_submission_without_known_classes_needs_the_data(tmp_path):
    [line] = refused(write_submitted(tmp_path / "s.csv", [0, 1, 0, 1]), None)
    assert "only numbers its classes, expected names. Name the data (--data DIR)" in line


def test_true_targets_beside_unknown_columns_are_no_submission(tmp_path):
    header = ["image_path", "target", "p_tench", "p_kite"]
    [line] = refused(write_csv(tmp_path / "s.csv", header, [[one, 2, 0.5, 0.5] for one in PATHS]))
    assert "expected one for each class, by name, or 'target' and maybe an id" in line


def test_probabilities_go_before_targets_in_the_same_table(tmp_path):
    rows = [[one, 30, *row] for one, row in zip(PATHS, PROBS.tolist(), strict=True)]
    path = write_csv(tmp_path / "s.csv", ["image_path", "target", *NAMES], rows)
    assert np.array_equal(read_predictions(path, CLASSES).probs, PROBS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path, encoding):
    path = write_wide(tmp_path / "s.csv", encoding=encoding)
    for classes in (CLASSES, None):
        one = read_predictions(path, classes)
        assert (one.image_paths.tolist(), one.class_names) == (PATHS, NAMES)
        assert np.array_equal(one.probs, PROBS)


def test_columns_may_be_called_by_the_datas_numbers(tmp_path):
    names = ("30", "2", "5")
    for path in (
        write_wide(tmp_path / "a.csv", names=names),
        write_npz(tmp_path / "b.npz", class_names=np.array(names)),
        write_npz(tmp_path / "c.npz", class_names=np.array([30, 2, 5], ">i8")),
    ):
        one = read_predictions(path, CLASSES)
        assert one.class_names == NAMES
        assert np.array_equal(one.probs, PROBS[:, [1, 2, 0]])


def test_class_names_that_are_numbers_go_before_the_datas_numbers(tmp_path):
    classes = Classes(("1", "0"), np.array([0, 1]))
    path = write_wide(tmp_path / "a.csv", probs=PROBS[:, :2] * 0 + [[0.25, 0.75]], names=("0", "1"))
    one = read_predictions(path, classes)
    assert one.class_names == ("1", "0")
    assert one.probs[0].tolist() == [0.75, 0.25]


@pytest.mark.parametrize("names", [("ID", "target", "x"), ("id", "target", "image"), ("", "Unnamed: 0", "target")])
def test_a_class_may_be_called_like_a_column(tmp_path, names):
    one = read_predictions(write_wide(tmp_path / "a.csv", names=names), Classes(names, np.arange(3)))
    assert one.class_names == names
    assert np.array_equal(one.probs, PROBS)


def test_row_numbers_are_no_class(tmp_path):
    for index in ("ID", "id", "", "Unnamed: 0", "__index_level_0__"):
        rows = [[i, one, *row] for i, (one, row) in enumerate(zip(PATHS, PROBS.tolist(), strict=True))]
        path = write_csv(tmp_path / "a.csv", [index, "image_path", *NAMES], rows)
        for classes in (CLASSES, None):
            assert np.array_equal(read_predictions(path, classes).probs, PROBS)


def test_class_names_are_compared_composed_and_stripped(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    classes = Classes((composed, "b"), np.arange(2))
    two = PROBS[:, :2]
    for path in (
        write_wide(tmp_path / "a.csv", probs=two, names=("b ", decomposed)),
        write_npz(tmp_path / "b.npz", two, class_names=[" b", decomposed]),
    ):
        one = read_predictions(path, classes)
        assert one.class_names == (composed, "b")
        assert np.array_equal(one.probs, two[:, ::-1])


def test_every_cell_that_is_no_number_is_reported(tmp_path):
    path = write_wide(tmp_path / "a.csv")
    path.write_text(path.read_text("utf-8").replace("0.75", '"0,75"').replace("1.0", ""), "utf-8")
    lines = refused(path)
    assert len(lines) == 3
    assert any(line.startswith(f"{path} row 2: got '0,75' in column 'kite', expected a number") for line in lines)
    assert any("row 4: got '' in column 'tench'" in line for line in lines)


def test_numbers_that_are_none_are_read_and_refused_later(tmp_path):
    path = write_wide(tmp_path / "a.csv")
    path.write_text(path.read_text("utf-8").replace("0.75", "nan").replace("1.0", "1e300"), "utf-8")
    members = [read_member(path, CLASSES), read_member(write_wide(tmp_path / "b.csv"), CLASSES)]
    with pytest.raises(PredictionError, match="3 rows hold NaN or infinity"):
        align_members(members)


def test_rows_of_the_wrong_length_are_reported_with_the_whole_path(tmp_path):
    for member in "ab":
        (tmp_path / member).mkdir()
        (tmp_path / member / "test.csv").write_text("image_path,x,y\na.png,0.5\nb.png,0.5,0.5\nc,1,0,0\n")
    lines = refused(tmp_path / "b")
    assert [line.partition(":")[0] for line in lines] == [f"{tmp_path / 'b' / 'test.csv'} row {row}" for row in (1, 3)]


def test_broken_files_are_refused_by_name(tmp_path):
    for name, text, words in (
        ("a.csv", "", "is empty"),
        ("a.csv", "image_path,x,y\n", "got no usable row"),
        ("a.csv", "path,x,y\na,1,0\n", "expected 'image_path' too, by which rows are matched"),
        ("a.csv", "image_path,x\na,1\n", "expected one for each class, by name, or 'target'"),
        ("a.csv", "image_path,x,x\na,1,0\n", "column 'x' is there 2 times"),
        ("a.csv", 'image_path,x,y\n"a,1,0\n', "quotation mark"),
        ("a.csv", "image_path,target\n ,2\na,5\n", "row 1: the image path is empty"),
        ("a.parquet", "no parquet", "not a Parquet file"),
        ("a.npz", "no zip", "not a whole NPZ file"),
        ("a.txt", "x", "got '.txt', expected one of .parquet, .csv, .npz, .npy"),
        ("a", "x", "got '', expected one of"),
    ):
        (tmp_path / name).write_text(text)
        assert any(words in line for line in refused(tmp_path / name))


def test_what_is_not_there_is_refused(tmp_path):
    assert "no such file or directory" in refused(tmp_path / "gone.csv")[0]
    assert "neither a finished run, nor a file ending in" in refused(tmp_path)[0]


def test_a_directory_may_hold_both_parts_in_two_forms(tmp_path):
    root = tmp_path / "their.v2"
    root.mkdir()
    write_npy(root / "out_of_fold.npy")
    write_npz(root / "test.NPZ.npz", FOLDS)
    (root / "test.NPZ.npz").rename(root / "test.NPZ")
    (root / "notes.csv").write_text("no table")
    one = read_member(root, CLASSES)
    assert one.name == "their.v2"
    assert np.array_equal(one.out_of_fold.probs, PROBS)
    assert np.array_equal(one.test.fold_probs, FOLDS)
    np.testing.assert_allclose(one.test.probs, (PROBS + PROBS[:, ::-1]) / 2)


def test_all_files_of_a_directory_are_checked_at_once(tmp_path):
    write_submitted(tmp_path / "out_of_fold.csv", [2, 1, 1, 2])
    write_wide(tmp_path / "test.csv")
    write_npz(tmp_path / "test.npz", probs=PROBS[:3])
    lines = refused(tmp_path)
    assert len(lines) == 4
    assert any("has test.csv and test.npz, expected one of them" in line for line in lines)
    assert any("test.npz: probs.npy: got 3 rows of 3 classes, expected 4 rows" in line for line in lines)


def test_out_of_fold_predictions_are_known_by_their_name_or_their_folds(tmp_path):
    one = read_member(write_wide(tmp_path / "out_of_fold.csv"), CLASSES)
    assert one.test is None
    assert np.array_equal(one.out_of_fold.probs, PROBS)
    paths = np.array(PATHS, np.dtypes.StringDType())
    ours = Predictions(paths, PROBS, NAMES, np.array([0, 1, 2, 0]), np.array([0, 1, 0, 1]))
    ours.save(tmp_path / "model.parquet")
    one = read_member(tmp_path / "model.parquet", CLASSES)
    assert one.test is None
    assert one.out_of_fold.targets.tolist() == [0, 1, 2, 0]


def test_what_inkfold_wrote_needs_no_classes(tmp_path):
    paths = np.array(PATHS, np.dtypes.StringDType())
    Predictions(paths, FOLDS.mean(0), NAMES, fold_probs=FOLDS).save(tmp_path / "a.parquet")
    one = read_predictions(tmp_path / "a.parquet", None)
    assert one.class_names == NAMES
    assert np.array_equal(one.fold_probs, FOLDS)
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    assert "not a Parquet file" in refused(tmp_path / "cut.parquet")[0]
    write_parquet(tmp_path / "b.parquet", image_path=PATHS, probs=PROBS.tolist())
    assert refused(tmp_path / "b.parquet")
    pq.write_table(pa.table({"x": [1]}).replace_schema_metadata({"class_names": "[]"}), tmp_path / "c.parquet")
    [line] = refused(tmp_path / "c.parquet")
    assert line.startswith(f"{tmp_path / 'c.parquet'}: not predictions of inkfold")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "decimal"])
def test_parquet_may_hold_any_numbers(tmp_path, dtype):
    columns = {name: pa.array(PROBS[:, k], pa.float32()) for k, name in enumerate(NAMES)}
    kind = pa.decimal128(6, 3) if dtype == "decimal" else pa.from_numpy_dtype(np.dtype(dtype))
    columns = {name: pa.array(column.to_pylist(), pa.float64()).cast(kind) for name, column in columns.items()}
    path = write_parquet(tmp_path / "a.parquet", image_path=pa.array(PATHS).dictionary_encode(), **columns)
    for classes in (CLASSES, None):
        assert np.array_equal(read_predictions(path, classes).probs, PROBS)


@pytest.mark.parametrize("values", [[2, 5, 30, 2], [2.0, 5.0, 30.0, 2.0], ["2", "5", "30", "2"]])
def test_a_submission_may_be_parquet(tmp_path, values):
    path = write_parquet(tmp_path / "a.parquet", image_path=PATHS, target=values)
    assert read_predictions(path, CLASSES).preds.tolist() == [0, 1, 2, 0]


def test_parquet_of_wrong_types_is_refused(tmp_path):
    for columns, words in (
        ({"target": [2, None, 5, 2]}, "row 2: got target ''"),
        ({"a": ["x", "0", "0", "1"], "b": [1.0, 1, 1, 0]}, "row 1: got 'x' in column 'a'"),
        ({"a": [True, False, True, False], "b": [0.0, 1, 0, 1]}, "got 'true' in column 'a'"),
        ({"a": [None, 0.0, 0, 1], "b": [1.0, 1, 1, 0]}, "row 1: got '' in column 'a'"),
        ({"a": [[1], [2], [3], [4]], "b": [1.0, 1, 1, 0]}, "not a readable Parquet table of text and numbers"),
    ):
        assert any(words in line for line in refused(write_parquet(tmp_path / "a.parquet", image_path=PATHS, **columns)))


def test_parquet_without_columns_or_rows_is_refused(tmp_path):
    assert "got no column" in refused(write_parquet(tmp_path / "a.parquet"))[0]
    empty = {name: pa.array([], pa.float32()) for name in NAMES}
    lines = refused(write_parquet(tmp_path / "b.parquet", image_path=pa.array([], pa.string()), **empty))
    assert "got no usable row" in lines[0]


def test_arrays_of_any_byte_order_and_layout_are_read(tmp_path):
    for save in (np.savez, np.savez_compressed):
        for order in ("C", "F"):
            for dtype in ("f2", "f4", "f8", ">f4", ">f8", ">f2", "g"):
                folds = np.asarray(FOLDS, dtype, order=order)
                one = read_predictions(write_npz(tmp_path / "a.npz", folds, np.array(PATHS, ">U20"), save=save), None)
                assert one.fold_probs.dtype == np.float32
                assert np.array_equal(one.fold_probs, FOLDS)
                assert (one.image_paths.tolist(), one.class_names) == (PATHS, NAMES)
                one = read_predictions(write_npy(tmp_path / "b.npy", np.asarray(PROBS, dtype, order=order)), CLASSES)
                assert np.array_equal(one.probs, PROBS)


@pytest.mark.parametrize("dtype", [bool, "u1", "i8", ">i4"])
def test_whole_numbers_0_and_1_are_probabilities(tmp_path, dtype):
    hot = np.eye(3)[[0, 2, 1, 1]].astype(dtype)
    assert np.array_equal(read_predictions(write_npz(tmp_path / "a.npz", hot), None).probs, np.eye(3)[[0, 2, 1, 1]])


def test_paths_may_be_bytes_of_utf_8(tmp_path):
    encoded = np.array([one.encode() for one in PATHS])
    assert read_predictions(write_npz(tmp_path / "a.npz", image_paths=encoded), None).image_paths.tolist() == PATHS
    [line] = refused(write_npz(tmp_path / "b.npz", image_paths=np.array([b"\xff", b"a", b"b", b"c"])))
    assert "image_paths: not Unicode text" in line
    wild = np.frombuffer(b"\xff\xff\xff\x7f" * 4, "<U1")
    assert "image_paths: not Unicode text" in refused(write_npz(tmp_path / "c.npz", image_paths=wild))[0]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_three_npy_versions_are_read(tmp_path, version):
    file = io.BytesIO()
    np.lib.format.write_array(file, PROBS, version)
    write_npy(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(file.getvalue())
    assert np.array_equal(read_predictions(tmp_path / "a.npy", CLASSES).probs, PROBS)


def test_an_array_that_python_2_saved_is_read_without_a_warning(tmp_path):
    write_npy(tmp_path / "a.npy")
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4L, 3L), }\n"
    (tmp_path / "a.npy").write_bytes(header_of(header) + PROBS.tobytes())
    assert np.array_equal(read_predictions(tmp_path / "a.npy", CLASSES).probs, PROBS)


def test_an_npy_needs_the_paths_of_its_rows_and_the_names_of_its_classes(tmp_path):
    np.save(tmp_path / "a.npy", PROBS)
    [line] = refused(tmp_path / "a.npy")
    assert "Put the drawings' paths into a.csv beside it, in a column 'image_path'" in line
    (tmp_path / "a.csv").write_text("path\n1\n2\n3\n4\n")
    with pytest.raises(PredictionError, match=r"a\.csv: got columns 'path', expected 'image_path' too"):
        read_predictions(tmp_path / "a.npy", CLASSES)
    write_npy(tmp_path / "a.npy")
    assert "nothing names its 3 classes. Name the data (--data DIR)" in refused(tmp_path / "a.npy", None)[0]
    write_npy(tmp_path / "a.npy", image_paths=PATHS[:3])
    assert "got 4 rows of 3 classes, expected 3 rows, one per path, of 3 classes" in refused(tmp_path / "a.npy")[0]
    assert "nothing names its 3 classes" in refused(write_npz(tmp_path / "b.npz", class_names=None), None)[0]


def test_rows_of_an_npy_may_be_named_by_a_submission(tmp_path):
    np.save(tmp_path / "a.npy", PROBS)
    write_submitted(tmp_path / "a.csv", [2, 2, 2, 2])
    assert np.array_equal(read_predictions(tmp_path / "a.npy", CLASSES).probs, PROBS)


def test_arrays_of_another_form_are_refused(tmp_path):
    for arrays, words in (
        ({"probs": PROBS[0]}, "got float32 (3,), expected numbers (n, classes) or (folds, n, classes)"),
        ({"probs": FOLDS[None]}, "got float32 (1, 2, 4, 3)"),
        ({"probs": np.float32(1)}, "got float32 ()"),
        ({"probs": PROBS.astype(complex)}, "got complex128"),
        ({"probs": PROBS.astype(str)}, "expected numbers"),
        ({"probs": PROBS.astype("M8[s]")}, "expected numbers"),
        ({"probs": np.zeros(4, [("a", "f4"), ("b", "f4")])}, "expected numbers"),
        ({"probs": PROBS[:, :2]}, "got 4 rows of 2 classes, expected 4 rows, one per path, of 3 classes"),
        ({"probs": PROBS.T}, "got 3 rows of 4 classes"),
        ({"probs": np.empty((0, 4, 3))}, "at least one"),
        ({"probs": np.empty((0, 3)), "image_paths": np.empty(0, "U5")}, "at least one"),
        ({"image_paths": np.array(PATHS)[:, None]}, "got <U12 (4, 1), expected texts (n,)"),
        ({"image_paths": np.arange(4)}, "got int64 (4,), expected texts (n,)"),
        ({"class_names": np.array([0.5, 1, 2])}, "expected texts (classes,)"),
        ({"class_names": np.array("abc")}, "expected texts (classes,)"),
        ({"class_names": ["a", "b"]}, "of 2 classes"),
        ({"image_paths": None}, "has 'probs', 'class_names', expected image_paths too"),
        ({"probs": None, "image_paths": None, "preds": [1]}, "expected probs and image_paths too"),
        ({"image_paths": ["a", "", "b", " "]}, "row 4: the image path is empty"),
    ):
        assert any(words in line for line in refused(write_npz(tmp_path / "a.npz", **arrays)))


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickles_are_refused_without_being_loaded(tmp_path):
    trap = np.array([Trap(tmp_path / "sprung")] * 4, dtype=object)
    paths = np.array(PATHS, object)
    for name, path in {
        "probs.npy": write_npz(tmp_path / "a.npz", trap),
        "image_paths.npy": write_npz(tmp_path / "b.npz", image_paths=paths),
        "class_names.npy": write_npz(tmp_path / "c.npz", class_names=np.array(NAMES, object)),
        "": write_npy(tmp_path / "d.npy", trap),
    }.items():
        [line] = refused(path)
        assert name in line
        assert "holds Python objects, which are never loaded" in line
    write_npy(tmp_path / "e.npy")
    (tmp_path / "e.npy").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert "not an NPY array" in refused(tmp_path / "e.npy")[0]
    fields = np.zeros(4, [("a", "f4"), ("b", "O")])
    assert "holds Python objects" in refused(write_npz(tmp_path / "f.npz", fields))[0]
    assert not (tmp_path / "sprung").exists()


HUGE = [(1 << 33, 3), (1 << 62, 1 << 62), (4, 1 << 40), (1 << 20, 4, 3), (4, 3, 10**30)]


def test_a_header_that_announces_more_than_there_is_allocates_nothing(tmp_path):
    for shape in (*HUGE, (-1, 3), (-4, -3), (4, -3), (1 << 62, 0), (True, 12), (4.0, 3), "4", None):
        data = header_of(describe(shape)) + PROBS.tobytes()
        write_npy(tmp_path / "a.npy")
        (tmp_path / "a.npy").write_bytes(data)
        assert refused(tmp_path / "a.npy")
        for i, compression in enumerate((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)):
            entries = {"probs": data, "image_paths": saved(np.array(PATHS)), "class_names": saved(np.array(NAMES))}
            assert refused(zipped(tmp_path / f"{i}.npz", entries, compression))


def test_a_zip_bomb_is_refused_unread(tmp_path):
    rows = 1 << 28
    entries = {
        "probs": header_of(describe((rows, 3))),
        "image_paths": header_of(describe((rows,), "<U1")),
        "class_names": saved(np.array(NAMES)),
    }
    path = zipped(tmp_path / "bomb.npz", entries)
    claimed = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():  # both the sizes that say how much would come out
            claimed = claimed.replace(
                struct.pack("<II", info.compress_size, info.file_size), struct.pack("<II", info.compress_size, 4 * 10**9)
            )
    path.write_bytes(claimed)
    [line] = refused(path)
    assert "bytes, where there can be 2,147,483,648. Write it anew, without compression if it is so large." in line


def test_an_honest_bomb_of_paths_is_refused_by_its_announced_size(tmp_path):
    chunk = bytes(1 << 20)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("probs.npy", saved(PROBS))
        with archive.open("image_paths.npy", "w") as file:
            file.write(header_of(describe((257 << 20,), "|S1")))
            for _ in range(257):
                file.write(chunk)
    assert (tmp_path / "a.npz").stat().st_size < 1 << 22
    assert "image_paths.npy: announces (269484032,) |S1, 269,484,032 bytes, where" in refused(tmp_path / "a.npz")[0]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_that_is_cut_short_or_damaged_is_refused(tmp_path, save):
    whole = write_npz(tmp_path / "a.npz", save=save).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        body = archive.getinfo("probs.npy").header_offset + 150
    for cut in (0, 10, len(whole) // 2, len(whole) - 30):
        (tmp_path / "a.npz").write_bytes(whole[:cut])
        assert refused(tmp_path / "a.npz")
    for bit in range(8):
        damaged = bytearray(whole)
        damaged[body] ^= 1 << bit
        (tmp_path / "a.npz").write_bytes(damaged)
        assert refused(tmp_path / "a.npz")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_read_too_and_unknown_ones_refused(tmp_path, compression):
    entries = {"probs": saved(PROBS), "image_paths": saved(np.array(PATHS)), "class_names": saved(np.array(NAMES))}
    path = zipped(tmp_path / "a.npz", entries, compression)
    assert np.array_equal(read_predictions(path, None).probs, PROBS)
    change_entries(path, 10, 99)
    assert "not a whole NPZ file" in refused(path)[0]


def test_an_encrypted_npz_is_refused(tmp_path):
    path = write_npz(tmp_path / "a.npz")
    change_entries(path, 8, 1)
    [line] = refused(path)
    assert "password" in line


def test_an_npy_that_is_cut_short_is_refused(tmp_path):
    whole = write_npy(tmp_path / "a.npy").read_bytes()
    for cut in (0, 3, 7, 9, 60, 128, len(whole) - 1):
        (tmp_path / "a.npy").write_bytes(whole[:cut])
        [line] = refused(tmp_path / "a.npy")
        assert "a.npy: not an NPY array" in line or "a.npy: announces (4, 3) float32, 48 bytes" in line or "breaks off" in line


def test_hostile_headers_are_refused(tmp_path):
    for version in ((1, 0), (2, 0), (3, 0), (9, 9)):
        for header in (
            b"",
            b"\0\0",
            b"(" * 9000,
            b"'''",
            b"{[]: 1}",
            b"[" * 200 + b"]" * 200,
            b"__import__('os').system('true')",
            describe((4, 3), "|O"),
            describe((4, 3), "<U99999999999"),
            describe((4, 3), "|V0"),
            describe((4, 3), "<U0"),
            describe((4, 3), [("a",), 3]),
            describe((4, 3), ("<f4", (10**9,))),
            describe((1,) * 100),
            describe((4, 3), "<f4", 1),
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (1%s,)}" % (b"0" * 5000),
        ):
            write_npy(tmp_path / "a.npy")
            (tmp_path / "a.npy").write_bytes(header_of(header, version) + PROBS.tobytes())
            assert all(len(line) < 1000 for line in refused(tmp_path / "a.npy"))


@pytest.fixture(scope="module")
def torn(tmp_path_factory):
    directory = tmp_path_factory.mktemp("torn")
    paths, columns = np.array(PATHS, np.dtypes.StringDType()), {name: PROBS[:, k] for k, name in enumerate(NAMES)}
    Predictions(paths, FOLDS.mean(0), NAMES, fold_probs=FOLDS).save(directory / "d.parquet")
    return (
        write_npy(directory / "a.npy"),
        write_npz(directory / "b.npz"),
        write_npz(directory / "c.npz", save=np.savez_compressed),
        directory / "d.parquet",
        write_parquet(directory / "e.parquet", image_path=PATHS, **columns),
    )


def outcome(path, classes):
    try:
        return read_predictions(path, classes)
    except PredictionError as error:
        return error.problems


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 4), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damage_gives_numbers_or_a_clear_error(torn, which, changes):
    path = torn[which]
    whole = path.read_bytes()
    data = bytearray(whole)
    for place, value in changes:
        data[place % (128 if which == 0 else len(data))] = value
    path.write_bytes(data)
    result = outcome(path, CLASSES)
    path.write_bytes(whole)
    assert isinstance(result, Predictions) or all(problem.where.startswith(str(path)) for problem in result)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_numbers_or_a_clear_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"image_path,a,b\n" + data)
    result = outcome(path, None)
    assert result.class_names == ("a", "b") if isinstance(result, Predictions) else result


def test_all_problems_of_a_mixture_are_reported_together(tmp_path):
    run = MemberPredictions("run", None, Predictions(np.array(PATHS, np.dtypes.StringDType()), PROBS, NAMES), Path("run"))
    theirs = [
        read_member(path, CLASSES)
        for path in (
            write_submitted(tmp_path / "shorter.csv", [2, 5, 30], PATHS[:3]),
            write_npz(tmp_path / "logits.npz", PROBS * 10 - 5),
            write_npz(tmp_path / "other.npz", class_names=("tench", "kite", "fish")),
        )
    ]
    with pytest.raises(PredictionError) as caught:
        align_members([*theirs, run])
    places = {problem.where.partition(",")[0] for problem in caught.value.problems}
    assert places == {"shorter", "logits", "other"}


def submission(path, paths, targets):
    path.parent.mkdir(exist_ok=True)
    rows = [f"{i},{one},{target}" for i, (one, target) in enumerate(zip(paths, targets, strict=True))]
    path.write_text("\n".join(["ID,image_path,target", *rows]) + "\n", encoding="utf-8")
    return path


THREE = Classes(("a", "b", "c"), np.array([0, 1, 2]))


def test_numbered_files_in_a_directory_are_the_folds_of_one_model(tmp_path):
    submission(tmp_path / "model" / "test-0.csv", ["x", "y"], [0, 1])
    submission(tmp_path / "model" / "test-1.csv", ["./y", "x"], [2, 0])
    member = read_member(tmp_path / "model", THREE)
    assert member.name == "model"
    assert member.test.image_paths.tolist() == ["x", "y"]
    np.testing.assert_array_equal(member.test.fold_probs.argmax(2), [[0, 1], [0, 2]])
    np.testing.assert_allclose(member.test.probs, [[1, 0, 0], [0, 0.5, 0.5]])


def test_all_folds_that_do_not_fit_the_first_are_reported_together(tmp_path):
    submission(tmp_path / "model" / "test-0.csv", ["x", "y"], [0, 1])
    submission(tmp_path / "model" / "test-1.csv", ["x", "z"], [0, 1])
    submission(tmp_path / "model" / "test-2.csv", ["x", "x"], [0, 1])
    probs = np.full((2, 2, 3), 1 / 3)
    np.savez(tmp_path / "model" / "test-3.npz", probs=probs, image_paths=np.array(["x", "y"]))
    with pytest.raises(PredictionError) as caught:
        read_member(tmp_path / "model", THREE)
    assert [problem.where.rpartition("-")[2] for problem in caught.value.problems] == ["1.csv", "2.csv", "3.npz"]
    assert "other drawings than test-0.csv" in str(caught.value)
    assert "holds 2 folds itself" in str(caught.value)


def test_one_file_beside_numbered_ones_is_ambiguous(tmp_path):
    submission(tmp_path / "model" / "test-0.csv", ["x", "y"], [0, 1])
    submission(tmp_path / "model" / "test.csv", ["x", "y"], [0, 1])
    with pytest.raises(PredictionError, match=r"has test-0\.csv and test\.csv, expected one"):
        read_member(tmp_path / "model", THREE)


def test_a_csv_beside_another_array_is_a_fold_of_its_own(tmp_path):
    submission(tmp_path / "model" / "test-0.csv", ["x", "y"], [0, 1])
    np.save(tmp_path / "model" / "test-0.npy", np.array([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]]))
    submission(tmp_path / "model" / "test-1.csv", ["x", "y"], [2, 2])
    folds = read_member(tmp_path / "model", THREE).test.fold_probs
    np.testing.assert_allclose(folds, [[[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]], [[0, 0, 1], [0, 0, 1]]])
