import pytest
from pydantic import ValidationError

from inkfold.config.sections import SubmissionSettings
from inkfold.data.dataset import DataOptions
from inkfold.data.submission_settings import propose_settings
from toy_submissions import contest, decided, filled, tables
from toy_tables import kinds


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"columns": "id,label"}, "id,label\na.png,cat\nb.png,dog\nc.png,hot dog\n"),
        ({"columns": "id,label", "labels": "number", "id": "row1"}, "id,label\n1,0\n2,1\n3,2\n"),
        ({"columns": "id,target", "id": "stem"}, "id,target\na,0\nb,1\nc,2\n"),
        (
            {"columns": "ID,image_path,label", "labels": "name"},
            "ID,image_path,label\n0,a.png,cat\n1,b.png,dog\n2,c.png,hot dog\n",
        ),
        (
            {"columns": "image_path,word", "labels": "top2"},
            "image_path,word\na.png,cat dog\nb.png,dog hot_dog\nc.png,hot_dog cat\n",
        ),
        (
            {"columns": "id,p1,p2", "labels": "top2", "id": "root_path"},
            "id,p1,p2\ntest/a.png,cat,dog\ntest/b.png,dog,hot dog\ntest/c.png,hot dog,cat\n",
        ),
        ({"columns": "id,target", "labels": "top9", "id": "row"}, "id,target\n0,0 1 2\n1,1 2 0\n2,2 0 1\n"),
    ],
)
def test_settings_make_a_form_without_a_sample(tmp_path, settings, expected):
    text = filled(contest(tmp_path / "data"), tmp_path / "s.csv", **settings)
    assert text == expected


@pytest.mark.parametrize("columns", ["id", "id,cat,dog,hot dog"])
def test_probabilities_have_a_column_for_each_class(tmp_path, columns):
    text = filled(contest(tmp_path / "data"), tmp_path / "s.csv", columns=columns, labels="probabilities", id="stem")
    assert text.startswith("id,cat,dog,hot dog\na,0.5833333,0.33333334,0.083333336\nb,0.083333336,0.5833333,0.33333334\n")


def test_the_test_tables_own_column_is_the_id_of_its_name(tmp_path):
    data = tables(tmp_path / "data", test="image_path,key\nb.png,K1\na.png,K0\nc.png,K2\n")
    assert filled(data, tmp_path / "s.csv", columns="key,word") == "key,word\nK1,cat\nK0,dog\nK2,hot dog\n"
    assert filled(data, tmp_path / "s.csv", columns="id,word", id="key") == "id,word\nK1,cat\nK0,dog\nK2,hot dog\n"


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"columns": "label"}, "submission_columns", "no column that names the drawings"),
        ({"columns": "id,what,label"}, "submission_columns", "'what'"),
        ({"columns": "id,label", "id": "key"}, "unknown_id", "name, stem, path, root_path, row, row1"),
        ({"columns": "id,cat,dog", "labels": "probabilities"}, "sample_classes", "'hot dog'"),
    ],
)
def test_settings_that_can_not_be_followed_are_errors(tmp_path, settings, kind, words):
    form, problems = decided(contest(tmp_path), **settings)
    assert form is None
    assert kind in kinds(problems)
    assert words in " ".join(str(problem) for problem in problems if problem.kind == kind)


def test_names_that_would_become_one_can_not_be_listed(tmp_path):
    _, problems = decided(contest(tmp_path, classes=("hot dog", "hot_dog")), columns="id,label", labels="top2")
    assert sorted(kinds(problems)) == ["similar_classes", "submission_labels"]


def test_two_drawings_of_one_name_can_not_have_it_as_their_id(tmp_path):
    contest(tmp_path, tests=("x/a.png", "y/a.png"))
    _, problems = decided(tmp_path, columns="id,label")
    assert kinds(problems) == ["unknown_id"]
    assert decided(tmp_path, columns="id,label", id="path")[0].columns[0].cells == ("x/a.png", "y/a.png")


@pytest.mark.parametrize(
    "settings", [{"labels": "names"}, {"labels": "top0"}, {"columns": ""}, {"columns": "a,,b"}, {"columns": "a,a"}, {"id": ""}]
)
def test_settings_of_no_meaning_do_not_validate(settings):
    with pytest.raises(ValidationError):
        SubmissionSettings(**settings)


def test_check_proposes_the_training_tables_headings(tmp_path):
    (tmp_path / "train.csv").write_text("id,breed\na.png,pug\n")
    options = DataOptions(path_column="id", label_column="breed")
    assert "submission.columns=id,breed submission.labels=name" in propose_settings(options, tmp_path / "train.csv")
    assert "submission.columns=id,label" in propose_settings(DataOptions(), None)
