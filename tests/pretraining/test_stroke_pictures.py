"""Strokes become pictures: dark ink on white, cropped, the same for a seed, another hand for another view."""

import csv
from pathlib import Path

import numpy as np
import pytest
import stroke_pictures as strokes

SQUARE = [np.array([[0.0, 0.0], [1, 0], [1, 1], [0, 1], [0, 0]])]


def rng(seed: int = 0) -> np.random.Generator:
    """Start a source of randomness."""
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(12))
def test_a_picture_is_dark_ink_on_white_that_fills_its_square(seed: int) -> None:
    picture = strokes.render(SQUARE, rng(seed))
    assert picture.shape == (128, 128)
    assert picture.dtype == np.uint8
    assert picture[0].min() > 200, "a margin is left"
    dark = picture < 230
    extent = max(np.ptp(np.flatnonzero(dark.any(axis))) for axis in (0, 1))
    assert 100 < extent < 128


def test_a_seed_gives_the_same_picture_and_another_seed_another_hand() -> None:
    first, again, other = (strokes.render(SQUARE, rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("dot", [[[0.0, 0.0]], [[5.0, 5.0], [5.0, 5.0]]])
def test_a_dot_is_seen(dot: list[list[float]]) -> None:
    assert (strokes.render([np.array(dot)], rng()) < 200).any()


def test_a_stroke_is_walked_in_even_steps_from_end_to_end() -> None:
    walked = strokes.resampled(np.array([[0.0, 0.0], [0.1, 0.0], [1.0, 0.0]]))
    steps = np.hypot(*np.diff(walked, axis=0).T)
    assert np.allclose(steps, steps[0])
    assert np.allclose(walked[[0, -1]], [[0, 0], [1, 0]])


def test_rounding_corners_leaves_the_ends() -> None:
    points = strokes.resampled(np.array([[0.0, 0.0], [0.5, 0.0], [0.5, 0.5]]))
    rounded = strokes.smoothed(points, 3.0)
    assert np.allclose(rounded[[0, -1]], points[[0, -1]])
    assert np.abs(rounded - [0.5, 0.0]).max(1).min() > 0.002, "the corner is rounded"


def test_regions_that_lines_enclose_are_found_and_open_ones_are_not() -> None:
    closed = strokes.placed([strokes.resampled(SQUARE[0])])
    assert len(strokes.enclosed(closed)) == 1
    assert strokes.enclosed([closed[0][: len(closed[0]) // 2]]) == []


def test_what_lies_behind_an_outline_is_left_out() -> None:
    front = [strokes.resampled(SQUARE[0] * 0.4 - 0.2)]
    behind = [strokes.resampled(np.array([[-0.45, 0.0], [0.45, 0.0]]))]
    left = strokes.hidden(behind, front)
    assert len(left) == 2
    assert all(np.abs(piece[:, 0]).min() >= 0.19 for piece in left)


def test_omniglot_is_read_as_strokes_of_absolute_points(tmp_path: Path) -> None:
    # Two characters; a third column of 1 lifts the pen after the point; points are steps from the one before.
    points = np.array([[1, 1, 0], [2, 0, 1], [0, 3, 0], [1, 0, 1], [4, 4, 0], [1, 1, 1]], np.int16)
    np.savez(tmp_path / "strokes.npz", points=points, offsets=np.array([0, 4, 6]))
    first, second = strokes.read_omniglot(tmp_path / "strokes.npz")
    assert [stroke.tolist() for stroke in first] == [[[1, 1], [3, 1]], [[3, 4], [4, 4]]]
    assert [stroke.tolist() for stroke in second] == [[[4, 4], [5, 5]]]


def test_a_picture_depends_on_no_other_and_the_table_says_what_each_is(tmp_path: Path) -> None:
    names, characters = ["cat", "house"], [[*SQUARE]] * 2
    for out, per_class in ((tmp_path / "few", 1), (tmp_path / "more", 2)):
        strokes.write(out, strokes.planned(names, per_class, 2, 1), names, characters, seed=5)
    few, more = (np.load(tmp_path / name / "strokes.npy", allow_pickle=False) for name in ("few", "more"))
    assert few.shape == (2 + 4 + 2, 128, 128)
    assert np.array_equal(few[0], more[0])
    assert np.array_equal(few[2:], more[4:])
    with (tmp_path / "few" / "strokes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["cat", "house", *[""] * 6]
    assert [row["instance"] for row in rows] == ["0", "1", "2", "2", "3", "3", "4", "4"]
    assert [row["source"] for row in rows[2:]] == ["omniglot"] * 4 + ["scene"] * 2
