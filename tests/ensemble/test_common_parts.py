"""Members that held out different numbers of the same parts; numbers of drawings are made up."""

import numpy as np
import pytest

from inkfold.ensemble.common_parts import common_parts
from inkfold.ensemble.member_predictions import PartPredictions
from inkfold.evaluation.predictions import Predictions

FOLD_OF = {10: 0, 11: 1, 12: 2, 13: 0, 14: 1, 15: 2}  # by drawing


def member(name, drawings, folds=None):
    paths = [f"{drawing}.png" for drawing in drawings]
    probs = np.array([[drawing / 100, 1 - drawing / 100] for drawing in drawings])
    folds = [FOLD_OF[drawing] for drawing in drawings] if folds is None else folds
    texts = np.array(paths, np.dtypes.StringDType())
    predictions = Predictions(texts, probs, ("a", "b"), folds=None if folds == "unknown" else np.array(folds))
    return PartPredictions(name, name, predictions, paths, True, np.array(drawings))


def test_only_the_drawings_that_all_held_out_are_kept_in_each_members_order():
    members, [warning] = common_parts(
        [
            member("all", range(10, 16)),
            member("two", [14, 13, 11, 10]),
            member("one", [13, 10]),
            member("again", range(15, 9, -1)),
        ]
    )
    assert [one.drawings.tolist() for one in members] == [[10, 13], [13, 10], [13, 10], [13, 10]]
    for one in members:
        assert one.keys == one.predictions.image_paths.tolist() == [f"{drawing}.png" for drawing in one.drawings]
        assert one.predictions.probs[:, 0].tolist() == [drawing / 100 for drawing in one.drawings]
        assert one.predictions.folds.tolist() == [0, 0]
    assert warning.severity == "warning"
    assert "is chosen and measured on 2 of 6 drawings" in str(warning)
    assert "(all 6, two 4, one 2, again 6)" in str(warning)


@pytest.mark.parametrize(
    "other",
    [
        member("other", [10, 11, 12, 13]),  # of part 0 all, of the others some
        member("other", [10, 13], [1, 1]),
        member("other", [10, 13, 11, 14], [0, 0, 3, 3]),
        member("other", [10, 11, 13, 14], "unknown"),
        member("other", [10, 13, 16, 17], [0, 0, 1, 1]),
    ],
    ids=["parts of parts", "other numbers", "one part of two numbers", "no folds", "other drawings"],
)
def test_members_of_other_divisions_stay_as_they_are(other):
    whole = member("all", range(10, 16))
    members, warnings = common_parts([whole, other])
    assert members == [whole, other]
    assert warnings == ()


def test_members_with_the_same_drawings_need_no_warning_whatever_their_folds():
    members = [member("a", range(10, 16)), member("b", range(10, 16), [0, 0, 0, 1, 1, 1])]
    assert common_parts(members) == (members, ())
