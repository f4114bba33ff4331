import pytest

from inkfold.data.submission_sample import MANY, find_sample, read_sample_file
from toy_tables import kinds, put


@pytest.mark.parametrize(
    "name",
    [
        "sample_submission.csv",
        "SampleSubmission.csv",
        "Sample_Submission.CSV",
        "sample_submission_v2.csv",
        "sampleSubmission.csv",
        "submission_format.csv",
        "submission_sample.csv",
        "SubmissionFormat.csv",
        "sample-submission.tsv",
        "sample_sub.csv",
        "example_submission.csv",
    ],
)
def test_the_usual_names_are_found(tmp_path, name):
    put(tmp_path, name)
    problems = []
    assert find_sample([tmp_path], None, problems) == tmp_path / name
    assert not problems


@pytest.mark.parametrize(
    "name", ["submission.csv", "train.csv", "sample.csv", "sample_submission.txt", "samples_submitted.csv"]
)
def test_other_files_are_no_sample(tmp_path, name):
    put(tmp_path, name)
    assert find_sample([tmp_path, tmp_path / "gone"], None, []) is None


def test_the_usual_name_wins_and_others_need_the_setting(tmp_path):
    put(tmp_path, "sample_submission_a.csv", "sample_submission_b.csv")
    problems = []
    assert find_sample([tmp_path], None, problems) is None
    assert kinds(problems) == ["several_samples"]
    assert find_sample([tmp_path], "sample_submission_b.csv", []) == tmp_path / "sample_submission_b.csv"
    put(tmp_path, "sample_submission.csv")
    assert find_sample([tmp_path], None, []) == tmp_path / "sample_submission.csv"
    assert find_sample([tmp_path], "none", []) is None
    assert find_sample([tmp_path], "other.csv", problems) is None
    assert kinds(problems) == ["several_samples", "missing_sample"]


def test_a_packed_sample_is_warned_of(tmp_path):
    put(tmp_path, "sample_submission.csv.zip")
    problems = []
    assert find_sample([tmp_path], None, problems) is None
    assert [(problem.kind, problem.severity) for problem in problems] == [("packed_sample", "warning")]


def test_cells_are_read_by_the_headers_delimiter(tmp_path):
    path = tmp_path / "s.csv"
    path.write_bytes(b'\xef\xbb\xbf"id";"a, b"\r\n"1";2,5\r\n\r\n"x;y"; 3\r\n')
    sample = read_sample_file(path)
    assert sample.headings == ("id", "a, b")
    assert sample.columns == (("1", "x;y"), ("2,5", "3"))
    assert (sample.rows, sample.style.delimiter, sample.style.newline, sample.style.encoding) == (2, ";", "\r\n", "utf-8-sig")
    assert sample.style.header_line == '"id";"a, b"'
    assert sample.style.quoted == (True, False)


def test_blanks_before_cells_in_quotation_marks_are_no_part_of_them(tmp_path):
    (tmp_path / "s.csv").write_text('id, "label"\n"a.png", "cat, big"\n')
    assert read_sample_file(tmp_path / "s.csv").columns == (("a.png",), ("cat, big",))


def test_of_many_columns_of_classes_only_the_first_cells_are_kept(tmp_path):
    names = [f"class {i}" for i in range(MANY + 1)]
    (tmp_path / "s.csv").write_text(",".join(["id", *names]) + "\n" + "".join(f"{i}{',0.5' * len(names)}\n" for i in range(3)))
    sample = read_sample_file(tmp_path / "s.csv", names)
    assert sample.columns == (("0", "1", "2"), *[("0.5",)] * len(names))
    assert sample.rows == 3
    assert read_sample_file(tmp_path / "s.csv").columns[1] == ("0.5",) * 3


def test_a_header_of_several_lines_is_written_anew(tmp_path):
    (tmp_path / "s.csv").write_bytes(b'id,"the\nlabel"\na,cat\n')
    sample = read_sample_file(tmp_path / "s.csv")
    assert (sample.headings, sample.style.header_line) == (("id", "the\nlabel"), None)
    (tmp_path / "s.csv").write_bytes(b"id,label\na,cat\r\nb,dog\n")
    sample = read_sample_file(tmp_path / "s.csv")
    assert (sample.headings, sample.columns, sample.style.header_line) == (("id", "label"), (("a", "b"), ("cat", "dog")), None)
