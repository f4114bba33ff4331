import json

import pytest

from inkfold.auto.record import AUTO, LARGEST_BYTES, AutoRecord
from inkfold.errors import PredictionError
from inkfold.storage.sealed import read_sealed, write_sealed
from toy_search import search_record


@pytest.fixture
def path(tmp_path):
    search_record().save(tmp_path)
    return tmp_path / AUTO


def changed(path, **values):
    write_sealed(path, {**read_sealed(path, must_be_sealed=True), **values})
    return path


def test_a_record_is_read_as_it_was_written(path):
    assert AutoRecord.load(path) == search_record()
    assert search_record().step("vote").members == ["ink-small-linear", "lite0-layers"]


def test_a_record_of_a_later_version_with_more_keys_and_of_an_earlier_one_with_fewer_is_read(path):
    content = read_sealed(path, must_be_sealed=True)
    steps = [{**step, "colour": "blue"} for step in content["steps"]]
    del content["forecast"], content["metric"]
    path.write_text(json.dumps({**content, "steps": steps, "weather": {}}))
    assert AutoRecord.load(path) == search_record()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"format": 2}, "got format 2, expected 1"),
        ({"spent_s": "28"}, "spent_s: Input should be a valid number"),
        ({"steps": {}}, "steps: Input should be a valid array"),
        ({"steps": [{"name": "a", "kind": "magic"}]}, r"steps\.0\.kind: Input should be 'reading'"),
        ({"steps": [{"name": "a", "kind": "vote", "accuracy": "<b>"}]}, r"steps\.0\.accuracy: Input should be a valid number"),
        ({"steps": [{"name": "a", "kind": "vote", "accuracy_ci95": [0.1]}]}, r"steps\.0\.accuracy_ci95"),
        ({"best": [{"seconds": 1.0, "step": "a"}]}, r"best\.0\.accuracy: Field required"),
        ({"choice": "the first"}, "choice: Input should be"),
    ],
)
def test_a_file_that_is_no_record_is_an_error_that_says_where(path, values, problem):
    with pytest.raises(PredictionError, match=f"not a record of a search: {problem}"):
        AutoRecord.load(changed(path, **values))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "EOF"),
        (b"[]", "got list, expected an object"),
        (b'{"format": 1}', "it has no budget_s, spent_s, calls, machine, data, backbones, steps, best"),
        (b'{"format": 1, "spent_s": NaN}', "expected value"),
        (b"[" * 100_000, "recursion limit"),
        (b" " * (LARGEST_BYTES + 1), "more than 16 MiB"),
        (b'{"format": 1, "data": "\xff"}', "(?i)unicode|utf"),
    ],
)
def test_bytes_that_are_no_record_are_an_error(path, content, problem):
    path.write_bytes(content)
    with pytest.raises(PredictionError, match=problem):
        AutoRecord.load(path)


def test_a_record_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(PredictionError, match=r"auto\.json: not a record of a search: .*No such file"):
        AutoRecord.load(tmp_path / AUTO)


def test_a_changed_digit_in_a_record_is_an_error(path):
    path.write_text(path.read_text().replace('"budget_s": ', '"budget_s": 1', 1))
    with pytest.raises(PredictionError, match="its content isn't what was written"):
        AutoRecord.load(path)
