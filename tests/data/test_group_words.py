import pytest

from inkfold.data.group_words import Role, role_of_column, role_of_numbered


@pytest.mark.parametrize(
    "name", ["who", "user_id", "Photo ID", "sketchAuthor", "drawn_by", "writer", "session", "source_image"]
)
def test_columns_of_people_and_origins_are_known_by_name(name):
    assert role_of_column(name) is not None


@pytest.mark.parametrize(
    "name", ["word", "class_name", "image_path", "countrycode", "key_id", "recognized", "split", "n", "label"]
)
def test_other_columns_are_not(name):
    assert role_of_column(name) is None


def test_numbered_names_are_known_by_their_first_word():
    assert role_of_numbered({"user.17", "user.4"}) == Role.PERSON
    assert role_of_numbered({"page2", "page 31"}) == Role.ORIGIN
    assert role_of_numbered({"user", "page"}) is None  # a word alone says nothing
    assert role_of_numbered({"cat 1", "user 2"}) is None
    assert role_of_numbered(set()) is None
