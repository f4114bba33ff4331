import pytest

from inkfold.auto.record import REQUEST
from inkfold.auto.train import settle_request, train_any
from inkfold.config.load import load_raw
from inkfold.errors import DataError, RecipeError


def test_keys_of_models_are_fixed_for_everything_that_is_tried_and_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = ("image.resize=pad", "budget=1h", "folds.k=3", "metric=macro_f1", "head={kind: mlp, hidden: [8]}")
    request = settle_request(load_raw("auto"), texts, "drawings")
    assert request.set == {"image.resize": "pad", "head": {"kind": "mlp", "hidden": [8]}}
    assert (request.auto.budget, request.folds.k, request.metric) == ("1h", 3, "macro_f1")
    assert request.data.root == str(tmp_path / "drawings")


@pytest.mark.parametrize(
    ("texts", "problems"),
    [
        (["image.resize=wide", "nose=3"], ["auto: image.resize: got 'wide'", "auto: nose: no such key"]),
        (["folds.k=1"], ["auto: folds.k: got 1"]),
        (["members=[]"], ["auto: members: no such key"]),
    ],
)
def test_what_is_wrong_with_a_fixed_key_is_said_before_anything_is_searched(texts, problems):
    with pytest.raises(RecipeError) as caught:
        settle_request(load_raw("auto"), tuple(texts), "drawings", "auto")
    assert all(problem in str(caught.value) for problem in problems)


def test_a_search_without_data_is_an_error_that_says_how_to_name_them():
    with pytest.raises(RecipeError, match="data: is missing"):
        settle_request(load_raw("auto"))


def test_a_mistaken_path_leaves_nothing_that_a_corrected_one_would_meet(tmp_path):
    with pytest.raises(DataError, match="no such file or directory"):
        train_any("auto", data=tmp_path / "missing", out=tmp_path / "out")
    assert not (tmp_path / "out" / REQUEST).exists()
