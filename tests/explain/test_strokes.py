import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkfold.explain.strokes import ink_mask, split_ink

SIDE = 64


def page(*lines, width=3, side=SIDE, ink=0, paper=255):
    made = np.full((side, side), paper, np.uint8)
    for line in lines:
        cv2.polylines(made, [np.array(line, np.int32)], False, ink, width, cv2.LINE_AA)
    return made


def test_strokes_that_do_not_touch_are_told_apart_in_reading_order():
    labels = split_ink(page([(8, 8), (12, 8)], [(50, 30), (54, 30)], [(8, 56), (12, 56)]), 3)
    assert labels.max() == 3
    assert [labels[8, 10], labels[30, 52], labels[56, 10]] == [1, 2, 3]


def test_a_long_line_is_cut_along_itself_so_that_each_piece_is_connected():
    turns = [(8, 8), (56, 8), (56, 20), (8, 20), (8, 32), (56, 32)]
    labels = split_ink(page(turns), 8)
    assert labels.max() == 8
    for number in range(1, 9):
        assert cv2.connectedComponents((labels == number).astype(np.uint8), connectivity=8)[0] == 2
    lengths = np.bincount(labels[labels > 0])[1:]
    assert lengths.max() < 3 * lengths.min()


def test_all_ink_and_its_grey_edges_belong_to_a_stroke_and_paper_to_none():
    square = page([(10, 10), (50, 40)], [(40, 8), (20, 55)])
    labels = split_ink(square)
    assert (labels[ink_mask(square)] > 0).all()
    assert square[labels == 0].min() > 200
    assert not labels[:4].any()


def test_a_blank_page_has_no_strokes():
    assert not split_ink(np.full((SIDE, SIDE), 255, np.uint8)).any()


def test_hundreds_of_dots_join_their_neighbours():
    dots = page(*([(x, y), (x, y)] for x in range(4, 60, 6) for y in range(4, 60, 6)), width=2)
    labels = split_ink(dots, 12)
    assert labels.max() <= 12
    assert (labels[ink_mask(dots)] > 0).all()


def test_a_filled_shape_larger_than_the_graph_falls_into_patches():
    filled = np.full((224, 224), 255, np.uint8)
    filled[20:200, 20:200] = 0
    labels = split_ink(filled, 6)
    assert labels.max() == 6
    shares = np.bincount(labels[ink_mask(filled)])[1:] / (180 * 180)
    assert shares.sum() == pytest.approx(1)
    assert shares.max() < 0.5


def test_coloured_drawings_are_split_as_grey_ones():
    grey = page([(10, 10), (50, 10)], [(10, 40), (50, 40)])
    assert np.array_equal(split_ink(np.repeat(grey[..., None], 3, 2)), split_ink(grey))


@given(st.lists(st.tuples(st.integers(0, 31), st.integers(0, 31)), min_size=1, max_size=12), st.integers(1, 9))
def test_never_more_strokes_than_were_wanted_and_no_number_is_left_out(points, most):
    square = page(points, width=1, side=32)
    labels = split_ink(square, most)
    assert labels.max() <= most
    assert set(np.unique(labels[ink_mask(square)])) == set(range(1, labels.max() + 1))
