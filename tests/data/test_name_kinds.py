import pytest

from inkfold.data.name_kinds import NameKind, exact_role, first_names, kind_of, role_in_name


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("and", "or", "not"), "WORDS"),
        (("A", "B", "a"), "WORDS"),
        (("0", "1", "2", "A", "B", "C"), "WORDS"),
        (("사과", "고양이"), "WORDS"),
        (("n01440764", "n01443537"), "WORDS"),
        (("class_1", "class_2"), "WORDS"),
        (("circle1", "circle2", "square1", "square2"), "WORDS"),
        (("0", "1", "10"), "NUMBERS"),
        (("2021-03-01", "2021-03-02"), "NUMBERS"),
        (("tx_000000000000", "tx_000100000000"), "NUMBERS"),
        (("3f2504e0", "a81bc81b"), "NUMBERS"),
        (("Ab3dE9xQ", "x8Kd2Lm1", "Qz91Lm3w"), "NUMBERS"),
        (("user.17", "user.4"), "GROUPS"),
        (("Participant anna", "Participant ben"), "GROUPS"),
        (("monday", "tuesday"), "GROUPS"),
        (("anna@example.org", "ben@example.org"), "GROUPS"),
        (("photo", "sketch"), "GROUPS"),
        (("photo", "house"), "WORDS"),
    ],
)
def test_names_are_words_numbers_or_groups(names, kind):
    assert kind_of(names) == NameKind[kind]


def test_very_many_names_are_sampled():
    assert kind_of([f"{i:07d}" for i in range(50_000)]) == NameKind.NUMBERS
    assert kind_of([f"{a}{b}" for a in "abcdefgh" for b in map(chr, range(0x4E00, 0x5200))]) == NameKind.WORDS


def test_a_part_is_named_in_any_case_and_width_or_by_one_word():
    assert [exact_role(name) for name in ("train", "VALID", " Testing", "\uff54\uff45\uff53\uff54", "trains")] == [
        "train",
        "val",
        "test",
        "test",
        None,
    ]
    assert role_in_name("Logic Gate Training Data") == ("train", ("logic", "gate"))
    assert role_in_name("trainImages2") == ("train", ("2",))
    assert role_in_name("train_and_test") is None
    assert role_in_name("trained") is None


def test_first_names_say_that_there_are_more():
    assert first_names(["a", "b"]) == "'a', 'b'"
    assert first_names(["a", "b", "c", "d"]) == "'a', 'b', 'c', ..."
