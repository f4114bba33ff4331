import csv
import json

import numpy as np
import pytest

from inkfold.data.submission_form import CHUNK_ROWS, CsvStyle, FormColumn, SubmissionForm, read_form
from inkfold.errors import ExportError, PredictionError

NAMES = ("cat", "dog", "ice, cream")
PROBS = np.array([[0.2, 0.7, 0.1], [0.4, 0.4, 0.2]], np.float32)


def form(*columns, texts=NAMES, rows=2, **more):
    paths = tuple(f"{i}.png" for i in range(rows))
    ids = FormColumn("id", tuple(f"n{i}" for i in range(rows)))
    return SubmissionForm((ids, *columns), paths, dict(zip(NAMES, texts, strict=True)), **more)


def written(tmp_path, own, rows=(0, 1), probs=PROBS, names=NAMES):
    own.write(tmp_path / "s.csv", np.array(rows), probs, names)
    return (tmp_path / "s.csv").read_bytes()


def test_lists_are_in_order_of_probability_and_ties_in_the_classes_order(tmp_path):
    own = form(FormColumn("words", ranks=(0, 1, 2)), texts=("cat", "dog", "ice_cream"))
    assert written(tmp_path, own) == b"id,words\nn0,dog cat ice_cream\nn1,cat dog ice_cream\n"


def test_rows_and_classes_may_come_in_another_order(tmp_path):
    own = form(FormColumn("first", ranks=(0,)), FormColumn("dog", class_name="dog"), FormColumn("second", ranks=(1,)))
    turned = PROBS[:, [2, 0, 1]]
    assert written(tmp_path, own, (1, 0), turned, ("ice, cream", "cat", "dog")) == (
        b"id,first,dog,second\nn0,cat,0.4,dog\nn1,dog,0.7,cat\n"
    )


def test_cells_are_quoted_where_they_must_be_or_where_the_sample_quotes_them(tmp_path):
    label = FormColumn("label", ranks=(2,))
    assert written(tmp_path, form(label)) == b'id,label\nn0,"ice, cream"\nn1,"ice, cream"\n'
    style = CsvStyle(";", "\r\n", "utf-8-sig", 'id;"the ""label"""', (False, True))
    expected = '\ufeffid;"the ""label"""\r\nn0;"ice, cream"\r\nn1;"ice, cream"\r\n'
    assert written(tmp_path, form(label, style=style)) == expected.encode()


def test_probabilities_are_read_back_as_they_were_and_sum_to_1(tmp_path):
    n = CHUNK_ROWS + 3
    probs = np.random.default_rng(0).dirichlet(np.full(3, 0.05), n).astype(np.float32)
    own = form(*(FormColumn(name, class_name=name) for name in NAMES), rows=n, style=CsvStyle(encoding="utf-8-sig"))
    written(tmp_path, own, range(n), probs)
    with (tmp_path / "s.csv").open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", *NAMES]
    assert np.array_equal(np.array([row[1:] for row in rows], np.float32), probs)
    assert np.abs(np.array([row[1:] for row in rows], np.float64).sum(1) - 1).max() < 1e-6


def test_what_does_not_fit_is_refused_all_at_once_and_nothing_is_written(tmp_path):
    with pytest.raises(ExportError) as caught:
        written(tmp_path, form(), (0,), np.array([[2.0, np.nan, -1.0]]), ("cat", "dog", "cow"))
    assert [problem.kind for problem in caught.value.problems] == ["count", "classes", "range"]
    assert not (tmp_path / "s.csv").exists()


def test_a_form_survives_its_file(tmp_path):
    style = CsvStyle("\t", "\r\n", "utf-16", None, (True, False))
    own = form(FormColumn("가", ranks=(0, 2)), FormColumn("p", class_name="cat"), style=style, summary="x", from_sample=True)
    (tmp_path / "form.json").write_text(json.dumps(own.as_json()))
    assert read_form(tmp_path / "form.json") == own
    assert read_form(tmp_path / "none.json") is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 99}', '{"format": 1, "style": {"quoted": 3}}'])
def test_a_file_that_is_no_form_is_refused_by_name(tmp_path, text):
    (tmp_path / "form.json").write_text(text)
    with pytest.raises(PredictionError, match=r"form\.json"):
        read_form(tmp_path / "form.json")


def test_one_class_is_the_answer_that_is_given_and_lists_stay_in_order_of_probability(tmp_path):
    rows, preds = np.array([1, 0]), np.array([0, 2])
    form(FormColumn("word", ranks=(0,)), FormColumn("dog", class_name="dog")).write(
        tmp_path / "s.csv", rows, PROBS, NAMES, preds
    )
    assert (tmp_path / "s.csv").read_bytes() == b'id,word,dog\nn0,"ice, cream",0.4\nn1,cat,0.7\n'
    own = form(FormColumn("words", ranks=(0, 1)), texts=("cat", "dog", "ice_cream"))
    own.write(tmp_path / "s.csv", rows, PROBS, NAMES, preds)
    assert (tmp_path / "s.csv").read_bytes() == b"id,words\nn0,cat dog\nn1,dog cat\n"
