import datetime

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from inkfold.config import parsing
from inkfold.config.parsing import parse_yaml

PIECES = (*"ab:{}[],-#?*&!|>%@'\"\\\t\n ~é", ": ", "- ", "\n  ", "1.0e-3", "0x1f", "1:30", "null", "yes", "2020-01-01", "<<: ")
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.text(max_size=20))


def read(parse, text):
    try:
        return parse(text), None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        return None, (type(error), str(error))


@given(TEXTS)
@example("a: 'b")
@example("a:\tb")
@example("{a: [1, 2.5, 1e-3], b: !!python/name:os.system x}")
@example("a: 2020-13-41")
def test_any_text_is_read_or_refused_in_the_words_of_pyyamls_own_parser(text):
    got = read(parse_yaml, text)
    assume("stands for more than" not in str(got[1]))  # a list in itself, which PyYAML reads
    assert repr(got) == repr(read(yaml.safe_load, text))


def test_a_recipes_values_have_their_types():
    text = "a: {b: [1, 2.0e-3, x y, 'no'], c: null}\nd: 2020-01-02\ne: [yes, 1e-3]\n"
    assert parse_yaml(text) == {
        "a": {"b": [1, 0.002, "x y", "no"], "c": None},
        "d": datetime.date(2020, 1, 2),
        "e": [True, "1e-3"],
    }


def test_text_is_read_without_libyaml_too(monkeypatch):
    monkeypatch.setattr(parsing, "FAST", yaml.SafeLoader)
    assert parse_yaml("a: [1]") == {"a": [1]}


@pytest.mark.parametrize("text", ["[" * 200_000, "- " * 90_000 + "a", "a: " + "{b: " * 90_000, "? " * 90_000 + "a"])
def test_deep_nesting_is_refused_and_ends_no_process(text):
    with pytest.raises((ValueError, yaml.YAMLError), match=r"nested too deeply|while "):
        parse_yaml(text)


@pytest.mark.parametrize("text", [BOMB, "a: &a [*a]\n", BOMB + "# \t\n"])
def test_names_that_stand_for_billions_of_values_are_refused(text):
    with pytest.raises(ValueError, match="stands for more than 1,000,000 values"):
        parse_yaml(text)


def test_names_are_read_and_objects_are_not():
    assert parse_yaml("a: &a [1, 2]\nb: *a\n") == {"a": [1, 2], "b": [1, 2]}
    assert parse_yaml("") is None
    with pytest.raises(yaml.YAMLError):
        parse_yaml("!!python/object/apply:os.system [ls]")
