import re

import numpy as np
import pytest

from inkfold.data.name_patterns import propose_patterns
from inkfold.data.tables import STRING

WORDS = ("circle", "cross", "square")
PEOPLE = ("anna", "ben", "carl", "dora")


def propose(*names, **options):
    return propose_patterns(np.array(sorted(names), dtype=STRING), **options)


@pytest.mark.parametrize(
    "form",
    ["{}_{}.png", "{}-{}.PNG", "{} ({}).jpg", "{}.{}.jpg", "{}{}.png", "{} {}.png"],
)
@pytest.mark.parametrize("words", [WORDS, ("hot_dog", "ice-cream", "cat"), ("사과", "고양이")])
def test_a_label_before_a_number_is_proposed(form, words):
    names = {form.format(word, i): word for word in words for i in range(8)}
    proposals = propose(*names)
    assert proposals[0].classes == tuple(sorted(words))
    assert {name: re.search(proposals[0].pattern, f"flat/{name}")["label"] for name in names} == names


@pytest.mark.parametrize("form", ["{:03d}_{}.png", "{:03d}-{}.png", "{} {}.png", "{:03d}{}.png"])
def test_a_label_after_a_number_is_proposed(form):
    names = {form.format(8 * k + i, word): word for k, word in enumerate(WORDS) for i in range(8)}
    if form == "{:03d}{}.png":
        assert propose(*names) == []  # no separator: 3D, 2nd and the like are words
        return
    [proposal] = propose(*names)
    assert {name: re.search(proposal.pattern, name)["label"] for name in names} == names


def test_who_drew_is_proposed_beside_the_label_and_the_other_way_round():
    names = [f"{word}-{who}-{1705918912686 + i}.png" for word in WORDS for who in PEOPLE for i in range(3)]
    first, second = propose(*names)
    assert (first.classes, first.groups) == (WORDS, PEOPLE)
    assert (second.classes, second.groups) == (PEOPLE, WORDS)
    assert str(first).endswith("for 3 classes ('circle', 'cross', 'square'), drawn by 4 ('anna', 'ben', 'carl', ...)")


def test_people_that_are_numbers_are_groups_and_counters_are_not():
    [proposal] = propose(*[f"{word}_{who}_{i}.png" for word in WORDS for who in (12, 13, 14) for i in range(4)])
    assert proposal.groups == ("12", "13", "14")
    [proposal] = propose(*[f"{word}_{i}.png" for word in WORDS for i in range(4)])
    assert proposal.groups == ()


def test_a_label_with_separators_is_found_beside_who_drew():
    names = [f"{word}-{who}-{i}.png" for word in ("hot-dog", *WORDS) for who in PEOPLE for i in range(3)]
    assert propose(*names)[0].classes == ("circle", "cross", "hot-dog", "square")


def test_labels_that_are_numbers_are_proposed_where_no_word_is():
    [proposal] = propose(*[f"{label}_{i:05d}.png" for label in range(10) for i in range(20)])
    assert proposal.classes == tuple("0123456789")


@pytest.mark.parametrize(
    "names",
    [
        [f"IMG_{i:04d}.png" for i in range(30)],
        [f"{i}.png" for i in range(30)],
        [f"{word}.png" for word in WORDS],
        [],
        ["a.png"],
    ],
)
def test_names_without_labels_propose_nothing(names):
    assert propose(*names) == []


def test_names_that_are_the_label_alone_are_proposed_below_folders_of_people():
    [proposal] = propose(*[f"user{u}/{word}.png" for u in range(4) for word in WORDS], in_folders=True)
    assert (proposal.classes, proposal.groups) == (WORDS, ("user0", "user1", "user2", "user3"))


def test_folders_of_people_are_the_group():
    paths = {f"user{u}/{word}_{i}.png": (word, f"user{u}") for u in range(4) for word in WORDS for i in range(3)}
    [proposal] = propose(*paths, in_folders=True)
    assert proposal.groups == ("user0", "user1", "user2", "user3")
    assert {path: re.search(proposal.pattern, path).group("label", "group") for path in paths} == paths
