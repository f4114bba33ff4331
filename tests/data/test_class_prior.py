import numpy as np
import pytest

from inkfold.data.class_prior import ClassPrior, find_prior
from inkfold.errors import DataError, PredictionError

NAMES, TARGETS = ("cat", "dog", "owl"), np.array([0, 0, 1, 2])


def from_text(tmp_path, text):
    (tmp_path / "prior.csv").write_text(text, encoding="utf-8")
    return find_prior(str(tmp_path / "prior.csv"), NAMES, TARGETS)


def test_the_prior_of_training_corrects_nothing():
    assert find_prior("train", NAMES, TARGETS) is None


def test_probabilities_are_multiplied_by_shares_over_those_in_training():
    prior = find_prior("uniform", NAMES, TARGETS)
    assert prior.shares == (1 / 3, 1 / 3, 1 / 3)
    assert prior.trained == (0.5, 0.25, 0.25)
    # 0.6 / 0.5, 0.2 / 0.25 and 0.2 / 0.25 are 1.2, 0.8 and 0.8, of 2.8
    np.testing.assert_allclose(prior.correct(np.array([[0.6, 0.2, 0.2]], np.float32)), [[3 / 7, 2 / 7, 2 / 7]], atol=1e-6)


def test_a_file_names_shares_in_any_order_and_counts_will_do(tmp_path):
    prior = from_text(tmp_path, "share,class_name,note\n0,dog,\n30, owl ,x\n10,cat,\n")
    assert prior.shares == (0.25, 0.0, 0.75)
    corrected = prior.correct(np.array([[[0.5, 0.4, 0.1]]], np.float32))  # 0.25, 0 and 0.3, of 0.55
    np.testing.assert_allclose(corrected, [[[5 / 11, 0, 6 / 11]]], atol=1e-6)


def test_where_only_impossible_classes_had_a_probability_the_shares_are_the_answer(tmp_path):
    prior = from_text(tmp_path, "class_name,share\ncat,1\ndog,0\nowl,3\n")
    np.testing.assert_allclose(prior.correct(np.array([[0, 1, 0]], np.float32)), [[0.25, 0, 0.75]])
    assert np.isnan(prior.correct(np.full((1, 3), np.nan, np.float32))).all()


def test_all_problems_of_a_file_are_said_at_once_with_their_rows(tmp_path):
    with pytest.raises(DataError) as error:
        from_text(tmp_path, "class_name,share\ncat,-1\ncat,2\nyak,1\nowl,many\nowl,nan\n")
    text = str(error.value)
    assert "prior.csv row 1: got the share '-1', expected a number of at least 0" in text
    assert "prior.csv: has the class 'cat' in rows 1, 2" in text
    assert "prior.csv row 3: got the class 'yak', which no training drawing has" in text
    assert "prior.csv row 4: got the share 'many'" in text
    assert "prior.csv row 5: got the share 'nan'" in text
    assert "prior.csv: has no row for 1 of 3 classes: 'dog'" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("class_name,share\ncat,0\ndog,0\nowl,0\n", "its shares sum to 0"),
        ("class_name,count\ncat,1\n", "no column 'share'"),
        ("class_name,share\n", "no usable row"),
    ],
)
def test_a_file_that_says_nothing_is_refused(tmp_path, text, expected):
    with pytest.raises(DataError, match=expected):
        from_text(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv"):
        find_prior(str(tmp_path / "gone.csv"), NAMES, TARGETS)


def test_json_gives_the_same_prior_and_a_changed_one_is_refused(tmp_path):
    prior = find_prior("uniform", NAMES, TARGETS)
    raw = prior.as_json()
    assert ClassPrior.from_json(raw, 3, "manifest.json") == prior
    wrong = [None, {}, {**raw, "shares": [0, 0, 0]}, {**raw, "trained": [1, 0, 0]}, {**raw, "shares": [1, "2", 3]}]
    for changed in [*wrong, {**raw, "shares": [1.0, float("nan"), 1.0]}]:
        with pytest.raises(PredictionError, match=r"manifest\.json: prior is not one of 3 classes"):
            ClassPrior.from_json(changed, 3, "manifest.json")
    with pytest.raises(PredictionError):
        ClassPrior.from_json(raw, 4, "manifest.json")
