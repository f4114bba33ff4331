import numpy as np

from inkfold.data.fold_notes import describe_folds
from inkfold.data.splits import Folds

NAMES = ("cat", "dog")


def folds_of(parts, k=2):
    return Folds.of(np.stack([np.asarray(parts) != fold for fold in range(k)]))


def test_even_folds_with_all_classes_need_no_words():
    assert describe_folds(folds_of([0, 1] * 8), np.array([0, 0, 1, 1] * 4), NAMES) == []


def test_a_fold_of_more_than_half_again_its_share_is_said_with_the_group_that_causes_it():
    parts, groups = [0] * 14 + [1] * 4, np.array(["anna"] * 12 + ["ben"] * 2 + ["eva"] * 4)
    [line] = describe_folds(folds_of(parts), np.arange(18) % 2, NAMES, groups)
    assert line.startswith("fold 0 holds out 14 of 18 drawings, 78% instead of 50%: the group 'anna' alone has 12 of them.")


def test_a_class_without_training_drawings_is_said_with_the_group_that_has_them():
    targets, groups = np.array([0, 1, 0, 0, 0, 0, 1, 1]), np.array([*"abbaabbb"])
    folds = folds_of([0, 1, 1, 0, 0, 0, 1, 1])
    [line] = describe_folds(folds, targets, NAMES, groups)
    assert line.startswith("fold 1 trains on no drawing of 'dog': the group 'b' has 3 of the 3.")


def test_a_class_that_purging_leaves_without_training_drawings_is_said():
    held_out = np.array([[True, False, False, True, False], [False, True, True, False, True]])
    folds = Folds(np.array([[False, False, False, False, True], [True, False, False, True, False]]), held_out)
    lines = describe_folds(folds, np.array([0, 0, 0, 1, 1]), NAMES)
    assert lines[0].startswith("fold 0 trains on no drawing of 'cat': 2 are copies of held-out drawings.")
    assert lines[1].startswith("2 times (2, 0 by fold) a copy of a held-out drawing was left out of training")


def test_a_class_of_one_drawing_is_left_to_the_warning_of_few_drawings():
    assert describe_folds(folds_of([0, 1, 0, 1, 0, 1, 0]), np.array([0, 0, 0, 0, 0, 0, 1]), NAMES) == []


def test_classes_that_look_alike_are_named():
    folds = Folds(np.array([[False, True]]), np.array([[True, False]]), (1,))
    [line] = describe_folds(folds, np.array([1, 1]), NAMES)
    assert "'dog'" in line
    assert "only files of equal bytes" in line


def test_groups_in_training_and_in_a_given_validation_part_are_said():
    folds = Folds.of(np.array([[True, True, True, False, False]]))
    [line] = describe_folds(folds, np.array([0, 1, 0, 1, 0]), NAMES, np.array([*"abcca"]))
    assert line.startswith("2 groups have drawings both in training and among those held out ('a', 'c')")


def test_a_fold_among_a_few_of_many_parts_has_its_share_of_all_drawings():
    held_out = np.zeros((2, 40), bool)
    held_out[0, :4], held_out[1, 4:24] = True, True
    folds = Folds(~held_out, held_out, k=10)
    lines = describe_folds(folds, np.arange(40) % 2, ("a", "b"))
    assert any("fold 1 holds out 20 of 40 drawings, 50% instead of 10%" in line for line in lines)
    assert not any("fold 0 holds out" in line for line in lines)
