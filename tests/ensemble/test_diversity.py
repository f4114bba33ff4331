import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkfold.ensemble.diversity import RESCUES, measure_diversity


def answers(rows, classes):
    """Members that give these answers with probability 1."""
    return np.eye(classes, dtype=np.float32)[np.array(rows, np.int64)]


def measured(rows, targets, class_names):
    names = [f"m{i}" for i in range(len(rows))]
    found = measure_diversity(names, answers(rows, len(class_names)), np.array(targets), class_names)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


TARGETS = (0, 0, 0, 0, 1, 1, 1, 1)
FIRST = (0, 0, 0, 0, 1, 0, 0, 0)  # right on 5
SECOND = (0, 1, 1, 2, 1, 1, 1, 0)  # right on 4


def test_two_members_by_hand():
    found = measured([FIRST, SECOND], TARGETS, ["cat", "dog", "eel"])
    # right together on rows 0 and 4; only the first on 1, 2, 3; only the second on 5, 6; neither on 7
    [pair] = found["pairs"]
    phi = (2 * 1 - 3 * 2) / math.sqrt(5 * 3 * 4 * 4)  # of the table 2, 3 / 2, 1
    assert pair == {
        "first": "m0",
        "second": "m1",
        "disagreement": 5 / 8,
        "error_correlation": round(phi, 6),
        "second_right_where_first_wrong": round(2 / 3, 6),
        "first_right_where_second_wrong": 3 / 4,
    }
    assert (found["any_right"], found["all_right"]) == (7 / 8, 2 / 8)
    assert found["recall"] == {"cat": {"m0": 1.0, "m1": 0.25}, "dog": {"m0": 0.25, "m1": 0.75}}
    cat, dog = found["rescues"]
    assert cat == {
        "class_name": "cat",
        "member": "m0",
        "recall": 1.0,
        "next_best": "m1",
        "next_best_recall": 0.25,
        "n": 4,
        "p_value": pytest.approx(0.25),  # three coins all one way, two-sided
    }
    assert (dog["class_name"], dog["member"], dog["p_value"]) == ("dog", "m1", pytest.approx(0.5))


def by_loops(rows, targets, classes):
    """Independent: counts drawing by drawing."""
    pairs = []
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            counts = {(a, b): 0 for a in (True, False) for b in (True, False)}
            differ = 0
            for mine, yours, target in zip(rows[i], rows[j], targets, strict=True):
                counts[mine == target, yours == target] += 1
                differ += mine != yours
            both, mine_only, yours_only, neither = (
                counts[k] for k in ((True, True), (True, False), (False, True), (False, False))
            )
            margins = (both + mine_only) * (yours_only + neither) * (both + yours_only) * (mine_only + neither)
            pairs.append(
                {
                    "disagreement": differ / len(targets),
                    "error_correlation": (both * neither - mine_only * yours_only) / math.sqrt(margins) if margins else None,
                    "second_right_where_first_wrong": yours_only / (yours_only + neither) if yours_only + neither else None,
                    "first_right_where_second_wrong": mine_only / (mine_only + neither) if mine_only + neither else None,
                }
            )
    recall = {}
    for k in range(classes):
        inside = [row for row, target in enumerate(targets) if target == k]
        if inside:
            recall[k] = [sum(member[row] == k for row in inside) / len(inside) for member in rows]
    return pairs, recall


CASES = st.integers(1, 4).flatmap(
    lambda classes: st.tuples(st.integers(1, 4), st.integers(1, 12)).flatmap(
        lambda shape: st.tuples(
            st.just(classes),
            st.lists(
                st.lists(st.integers(0, classes - 1), min_size=shape[1], max_size=shape[1]),
                min_size=shape[0],
                max_size=shape[0],
            ),
            st.lists(st.integers(0, classes - 1), min_size=shape[1], max_size=shape[1]),
        )
    )
)


@settings(max_examples=200, deadline=None)
@given(CASES)
def test_all_figures_agree_with_counting_one_by_one(case):
    classes, rows, targets = case
    found = measured(rows, targets, [f"c{k}" for k in range(classes)])
    pairs, recall = by_loops(rows, targets, classes)
    assert len(found["pairs"]) == len(pairs)
    for ours, theirs in zip(found["pairs"], pairs, strict=True):
        for name, value in theirs.items():
            assert ours[name] == (None if value is None else pytest.approx(value, abs=1e-6))
    assert found["recall"] == {
        f"c{k}": {f"m{i}": pytest.approx(value, abs=1e-6) for i, value in enumerate(values)} for k, values in recall.items()
    }
    hits = [[mine == target for mine, target in zip(member, targets, strict=True)] for member in rows]
    assert found["any_right"] == pytest.approx(sum(map(any, zip(*hits, strict=True))) / len(targets), abs=1e-6)
    assert found["all_right"] == pytest.approx(sum(map(all, zip(*hits, strict=True))) / len(targets), abs=1e-6)
    unique = {f"c{k}" for k, values in recall.items() if len(rows) > 1 and sorted(values)[-1] > sorted(values)[-2]}
    assert {one["class_name"] for one in found["rescues"]} == unique
    for one in found["rescues"]:
        assert found["recall"][one["class_name"]][one["member"]] == one["recall"] > one["next_best_recall"]


@given(CASES)
def test_the_order_of_members_changes_no_pair(case):
    classes, rows, targets = case
    names = [f"c{k}" for k in range(classes)]
    forward, backward = measured(rows, targets, names), measured(rows[::-1], targets, names)
    swapped = {"second_right_where_first_wrong": "first_right_where_second_wrong"}
    swapped |= {theirs: ours for ours, theirs in swapped.items()}
    mirrored = [
        {swapped.get(name, name): value for name, value in pair.items() if not isinstance(value, str)}
        for pair in backward["pairs"]
    ]
    figures = [{name: value for name, value in pair.items() if not isinstance(value, str)} for pair in forward["pairs"]]
    assert sorted(map(str, map(sorted, map(dict.items, figures)))) == sorted(map(str, map(sorted, map(dict.items, mirrored))))


def test_a_member_that_is_never_wrong_has_no_errors_to_correlate():
    found = measured([TARGETS, FIRST], TARGETS, ["cat", "dog"])
    [pair] = found["pairs"]
    assert pair["error_correlation"] is None
    assert pair["second_right_where_first_wrong"] is None
    assert pair["first_right_where_second_wrong"] == 1.0
    assert [one["class_name"] for one in found["rescues"]] == ["dog"]


def test_members_that_are_always_wrong_rescue_nothing():
    wrong = [1 - target for target in TARGETS]
    found = measured([wrong, wrong], TARGETS, ["cat", "dog"])
    [pair] = found["pairs"]
    assert (pair["disagreement"], pair["error_correlation"], pair["second_right_where_first_wrong"]) == (0, None, 0)
    assert (found["any_right"], found["rescues"]) == (0, [])


def test_twins_err_together():
    [pair] = measured([FIRST, FIRST], TARGETS, ["cat", "dog"])["pairs"]
    assert (pair["disagreement"], pair["error_correlation"], pair["second_right_where_first_wrong"]) == (0, 1, 0)


def test_a_class_without_drawings_has_no_recall_and_is_not_rescued():
    found = measured([FIRST, SECOND], TARGETS, ["cat", "dog", "never drawn"])
    assert [*found["recall"]] == ["cat", "dog"]
    assert {one["class_name"] for one in found["rescues"]} == {"cat", "dog"}


def test_one_class_is_always_right():
    found = measured([[0, 0], [0, 0]], [0, 0], ["only"])
    assert found["pairs"][0]["error_correlation"] is None
    assert (found["all_right"], found["recall"], found["rescues"]) == (1, {"only": {"m0": 1, "m1": 1}}, [])


def test_one_member_has_nobody_to_differ_from():
    found = measured([FIRST], TARGETS, ["cat", "dog"])
    assert (found["pairs"], found["rescues"]) == ([], [])
    assert found["recall"]["dog"] == {"m0": 0.25}


def test_the_surest_rescues_come_first_and_only_ten_are_listed():
    classes = RESCUES + 3
    sizes = range(2, classes + 2)  # the more drawings, the less likely by chance
    targets = [k for k, size in enumerate(sizes) for _ in range(size)]
    hopeless = [(target + 1) % classes for target in targets]
    found = measured([hopeless, targets, hopeless], targets, [f"c{k:02}" for k in range(classes)])
    listed = found["rescues"]
    assert [one["class_name"] for one in listed] == [f"c{k:02}" for k in reversed(range(3, classes))]
    assert {one["member"] for one in listed} == {"m1"}
    for one in listed:
        assert one["p_value"] == pytest.approx(2 * 0.5 ** one["n"])


def test_equal_probabilities_count_as_the_lowest_class():
    members = np.full((2, 3, 3), 1 / 3)
    found = measure_diversity(["a", "b"], members, np.array([0, 1, 0]), ["x", "y", "z"])
    assert found["recall"] == {"x": {"a": 1, "b": 1}, "y": {"a": 0, "b": 0}}
