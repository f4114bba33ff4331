import pytest

from inkfold.data.dataset import DataOptions, read_dataset
from inkfold.errors import DataError
from toy_submissions import contest, decided, filled, tables
from toy_tables import kinds


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        # Drawing a is a cat, then a dog; b a dog, then a hot dog; c a hot dog, then a cat.
        ("id,label\nb.png,cat\na.png,cat\nc.png,dog\n", "id,label\nb.png,dog\na.png,cat\nc.png,hot dog\n"),
        (
            "key_id,word\na,cat dog hot_dog\nb,cat dog hot_dog\nc,cat dog hot_dog\n",
            "key_id,word\na,cat dog hot_dog\nb,dog hot_dog cat\nc,hot_dog cat dog\n",
        ),
        (
            "Image,Id\nc.png,dog cat\na.png,dog cat\nb.png,dog cat\n",
            "Image,Id\nc.png,hot_dog cat\na.png,cat dog\nb.png,dog hot_dog\n",
        ),
        ("id,word\na,hot_dog\nb,hot_dog\nc,hot_dog\n", "id,word\na,cat\nb,dog\nc,hot_dog\n"),
        ("id,words\na,cat;dog\nb,cat;dog\nc,cat;hot dog\n", "id,words\na,cat;dog\nb,dog;hot dog\nc,hot dog;cat\n"),
        ('id,y\na,"cat, dog"\nb,"cat, dog"\nc,"cat, dog"\n', 'id,y\na,"cat, dog"\nb,"dog, hot dog"\nc,"hot dog, cat"\n'),
        (
            "path,y\ntest/a.png,cat\ntest/c.png,cat\ntest/b.png,cat\n",
            "path,y\ntest/a.png,cat\ntest/c.png,hot dog\ntest/b.png,dog\n",
        ),
        ("id,label1,label2\na,cat,dog\nb,cat,dog\nc,cat,dog\n", "id,label1,label2\na,cat,dog\nb,dog,hot dog\nc,hot dog,cat\n"),
        (",image,label\n0,a.png,dog\n1,b.png,dog\n2,c.png,dog\n", ",image,label\n0,a.png,cat\n1,b.png,dog\n2,c.png,hot dog\n"),
        ("label,id\ndog,b\ndog,a\ndog,c\n", "label,id\ndog,b\ncat,a\nhot dog,c\n"),
    ],
)
def test_a_samples_rows_are_filled_in_its_own_form(tmp_path, sample, expected):
    assert filled(contest(tmp_path / "data", sample), tmp_path / "s.csv") == expected


@pytest.mark.parametrize(
    "header",
    [
        "id,hot dog,cat,dog",
        "id,hot_dog,cat,dog",
        "id,Hot-Dog,Cat,Dog",
        "id,class_2,class_0,class_1",
        "id,2,0,1",
        "id,p(hot dog),p(cat),p(dog)",
    ],
)
def test_a_column_for_each_class_gets_its_probability(tmp_path, header):
    sample = f"{header}\n" + "".join(f"{name},0,0,0\n" for name in "cab")
    # 0.25 / 3 = 0.083333336 in single precision, 0.5 and 0.25 more for the two likeliest classes
    high, middle, low = "0.5833333", "0.33333334", "0.083333336"
    rows = [f"c,{high},{middle},{low}", f"a,{low},{high},{middle}", f"b,{middle},{low},{high}"]
    assert filled(contest(tmp_path / "data", sample), tmp_path / "s.csv") == "\n".join([header, *rows]) + "\n"
    numbered = header.startswith(("id,class", "id,2"))
    _, problems = decided(tmp_path / "data")
    assert kinds(problems) == (["numbered_by_order"] if numbered else [])


def test_numbers_are_the_datas_own(tmp_path):
    data = tables(tmp_path / "data", "id,label\na.png,3\nb.png,3\nc.png,3\n")
    assert filled(data, tmp_path / "s.csv") == "id,label\na.png,4\nb.png,3\nc.png,7\n", "the test table begins with b"
    data = tables(tmp_path / "other", "id,c7,c3,c4\na,0,0,0\nb,0,0,0\nc,0,0,0\n")
    assert filled(data, tmp_path / "s.csv").startswith("id,c7,c3,c4\na,0.33333334,0.083333336,0.5833333\n")


def test_row_numbers_count_the_test_tables_rows(tmp_path):
    for first in (0, 1):
        sample = "ImageId,Label\n" + "".join(f"{i + first},3\n" for i in (2, 0, 1))
        data = tables(tmp_path / str(first), sample)
        assert filled(data, tmp_path / "s.csv") == f"ImageId,Label\n{2 + first},7\n{first},3\n{1 + first},4\n"


def test_a_column_of_the_test_table_names_the_drawings(tmp_path):
    test = "key_id,image_path\n900,b.png\n17,a.png\n45,c.png\n"
    data = tables(tmp_path / "data", "key_id,word\n17,cat\n45,cat\n900,cat\n", test)
    assert filled(data, tmp_path / "s.csv") == "key_id,word\n17,dog\n45,hot dog\n900,cat\n"


def test_the_numbers_in_file_names_are_ids(tmp_path):
    data = contest(tmp_path / "data", "id,label\n12,cat\n7,cat\n", tests=("Test_007.png", "Test_012.png"))
    assert filled(data, tmp_path / "s.csv") == "id,label\n12,dog\n7,cat\n"


@pytest.mark.parametrize(
    ("sample", "encoding"),
    [
        ("\ufeffid,label\r\na.png,cat\r\nb.png,dog\r\nc.png,hot dog\r\n", "utf-8"),
        ('"id";"label"\n"a.png";"cat"\n"b.png";"dog"\n"c.png";"hot dog"\n', "utf-8"),
        ('"id","label"\n1,"cat"\n2,"dog"\n3,"hot dog"\n', "utf-8"),
        ("id\tlabel\na.png\tcat\nb.png\tdog\nc.png\thot dog\n", "utf-16"),
        ("id , label\na.png,cat\nb.png,dog\nc.png,hot dog\n", "utf-8"),
        ("id,label\ra.png,cat\rb.png,dog\rc.png,hot dog\r", "utf-8"),
    ],
)
def test_a_filled_sample_is_written_as_the_sample_is(tmp_path, sample, encoding):
    """These samples hold the very answers, so that the submission has all their bytes."""
    tests = ("1.png", "2.png", "3.png") if '"id",' in sample else ("a.png", "b.png", "c.png")
    data = contest(tmp_path / "data", sample.encode(encoding), tests=tests)
    filled(data, tmp_path / "s.csv", encoding)
    assert (tmp_path / "s.csv").read_bytes() == sample.encode(encoding)


@pytest.mark.parametrize(
    ("sample", "kind", "words"),
    [
        ("id,label\na.png,0\nb.png,0\nc.png,0\n", "unclear_labels", "submission.labels=number"),
        ("id,label\na.png,0.5\nb.png,0.5\nc.png,0.5\n", "unclear_labels", "submission.labels=name"),
        ("id,label\na.png,zebra\nb.png,cat\nc.png,cow\n", "unclear_labels", "'zebra', 'cow'"),
        ("id,label\n0,cat\n1,cat\n2,cat\n", "unclear_ids", "submission.id=row"),
        ("id,label\nx,cat\ny,cat\nz,cat\n", "sample_ids", "'a.png', 'a', 'test/a.png'"),
        ("id,cat,dog\na,0,0\nb,0,0\nc,0,0\n", "sample_classes", "no column for 1 of 3 classes: 'hot dog'"),
        ("id,cat,dog,hot dog,cow\na,0,0,0,0\nb,0,0,0,0\nc,0,0,0,0\n", "sample_classes", "'cow'"),
        ("id,class_1,class_2,class_3\na,0,0,0\nb,0,0,0\nc,0,0,0\n", "sample_classes", "numbered 0 to 2"),
        ("id,x,y\na,u,p\nb,v,q\nc,w,r\n", "sample_columns", "'x', 'y'"),
        ("id\na\nb\nc\n", "sample_columns", "no column for the answer"),
        ("id,label\n", "empty_table", "submission.columns=id,label"),
        ("", "empty_table", "header"),
        ("id,label\na.png\nb.png,cat,dog\nc.png,cat\n", "ragged_row", "got 1 cells, expected 2"),
        ('id,label\n"a.png,cat\n', "broken_csv", "quotation mark"),
        (b"id,label\na.png,\xff\n", "not_utf8", "0xff"),
    ],
)
def test_what_a_sample_leaves_open_or_gets_wrong_is_an_error_with_the_setting_that_decides(tmp_path, sample, kind, words):
    form, problems = decided(contest(tmp_path, sample))
    assert form is None
    assert {*kinds(problems)} == {kind}
    assert words in str(problems[0])
    with pytest.raises(DataError):
        read_dataset(tmp_path)
    assert decided(tmp_path, sample="none") == (None, [])


def test_rows_and_drawings_that_lack_each_other_are_named_together(tmp_path):
    form, problems = decided(contest(tmp_path, "id,label\nb.png,cat\nghost.png,0\na.png,cat\n"))
    assert form is None
    texts = [str(problem) for problem in problems if problem.kind == "test_rows_differ"]
    assert "no row for 1 of the test drawings: 'c.png'" in texts[0]
    assert "1 row(s) without a test drawing: 'ghost.png'" in texts[1]


def test_ids_that_fit_in_two_ways_need_the_setting(tmp_path):
    put_numbers = "image_path\n2.png\n0.png\n1.png\n"
    data = tables(tmp_path / "data", "id,label\n0,cat\n1,cat\n2,cat\n", put_numbers)
    contest(data, tests=("0.png", "1.png", "2.png"))
    form, problems = decided(data)
    assert form is None
    assert "submission.id=stem" in str(problems[0])
    assert "submission.id=row" in str(problems[0])
    assert filled(data, tmp_path / "s.csv", id="row") == "id,label\n0,cat\n1,dog\n2,hot dog\n"
    assert filled(data, tmp_path / "s.csv", id="stem") == "id,label\n0,dog\n1,hot dog\n2,cat\n"


def test_settings_decide_what_a_sample_leaves_open(tmp_path):
    data = contest(tmp_path / "data", "id,label\na.png,0\nb.png,0\nc.png,0\n")
    assert filled(data, tmp_path / "s.csv", labels="number") == "id,label\na.png,0\nb.png,1\nc.png,2\n"
    assert filled(data, tmp_path / "s.csv", labels="name") == "id,label\na.png,cat\nb.png,dog\nc.png,hot dog\n"
    assert filled(data, tmp_path / "s.csv", labels="top2") == "id,label\na.png,cat dog\nb.png,dog hot_dog\nc.png,hot_dog cat\n"


def test_a_placeholder_is_said_where_the_heading_or_the_data_decide(tmp_path):
    data = tables(tmp_path / "data", "id,class_name\na.png,0\nb.png,0\nc.png,0\n")
    form, problems = decided(data)
    assert kinds(problems) == ["sample_placeholder"]
    assert filled(data, tmp_path / "s.csv") == "id,class_name\na.png,dog\nb.png,cat\nc.png,hot dog\n"
    assert "class name" in form.summary
    data = contest(tmp_path / "folders", "ID,image_path,label\nT9,a.png,\nT8,b.png,\nT7,c.png,\n")
    _, problems = decided(data)
    assert kinds(problems) == ["sample_columns", "sample_placeholder"]
    assert filled(data, tmp_path / "s.csv") == "ID,image_path,label\nT9,a.png,cat\nT8,b.png,dog\nT7,c.png,hot dog\n"


def test_the_usual_columns_keep_the_test_tables_order_in_every_style(tmp_path):
    rows = "9,a.png,3\r\n8,b.png,3\r\n7,c.png,3\r\n"
    data = tables(tmp_path / "data", "ID,image_path,target\r\n" + rows)
    assert filled(data, tmp_path / "s.csv") == "ID,image_path,target\r\n8,b.png,3\r\n9,a.png,4\r\n7,c.png,7\r\n"
    plain = tables(tmp_path / "plain", ("ID,image_path,target\r\n" + rows).replace("\r", ""))
    dataset = read_dataset(plain)
    assert dataset.submission is None
    assert dataset.sample_submission.ids.tolist() == ["8", "9", "7"]


def test_a_drawing_that_is_there_twice_has_two_rows(tmp_path):
    data = tables(tmp_path / "data", "id,label\n1,cat\n0,cat\n3,cat\n2,cat\n", "image_path\nb.png\na.png\nb.png\nc.png\n")
    form, _ = decided(data)
    assert form.image_paths == ("a.png", "b.png", "c.png", "b.png")


def test_a_sample_without_test_drawings_is_said(tmp_path):
    data = contest(tmp_path, "id,label\na,cat\n")
    (data / "labels.csv").write_text("image_path,class_name\ntrain/cat/0.png,cat\ntrain/dog/0.png,dog\n")
    dataset = read_dataset(data, DataOptions(table="labels.csv"))
    assert kinds(dataset.problems) == ["no_test_drawings"]
    assert "data.layout=competition" in str(dataset.problems[0])


def test_a_sample_beside_the_table_is_used_and_one_beside_columns_is_not(tmp_path):
    contest(tmp_path)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/train.csv").write_text("image_path,class_name\ntrain/cat/0.png,cat\ntrain/dog/0.png,dog\n")
    (tmp_path / "tables/test.csv").write_text("image_path\ntest/b.png\ntest/a.png\n")
    (tmp_path / "tables/Submission_Format.csv").write_text("id,label\na,cat\nb,dog\n")
    options = DataOptions(table="tables/train.csv", test_table="tables/test.csv")
    dataset = read_dataset(tmp_path, options)
    assert dataset.submission.image_paths == ("test/a.png", "test/b.png")
    chosen = options.model_copy(update={"submission": options.submission.model_copy(update={"columns": ("id", "label")})})
    dataset = read_dataset(tmp_path, chosen)
    assert kinds(dataset.problems) == ["unused_sample"]
    assert dataset.submission.image_paths == ("test/b.png", "test/a.png")


def test_labels_without_a_header_are_refused(tmp_path):
    _, problems = decided(contest(tmp_path), labels="top3")
    assert kinds(problems) == ["missing_columns"]
