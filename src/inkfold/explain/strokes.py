"""Splits the ink of a square into strokes: connected parts, and pieces of those that are long.

Pieces are cut along the ink: each pixel belongs to the seed that is nearest by the way through the ink, so that a drawing
of one line falls into stretches of that line, and a filled shape into patches.
"""

import math

import cv2
import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra

from inkfold.images.decode import Pixels
from inkfold.images.ink_box import LEAST_CONTRAST, MOST_CONTRAST
from inkfold.images.preprocess import paper_colour, paper_distance

MOST_STROKES = 24
SHORTEST_FRACTION = 0.06  # of the square's side: no piece is cut whose farthest ink is nearer to its seed
MOST_COMPONENTS_FRACTION = 0.75  # of all strokes: smaller components join their neighbours, so that long ones can be cut
FRINGE_FRACTION = 0.012  # of the square's side: how far a stroke's grey edge reaches beyond its ink
MOST_GRAPH_PIXELS = 12_000  # filled shapes of more pixels are split at half their size
STEPS = ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 2**0.5), (1, -1, 2**0.5))  # to half of a pixel's neighbours, with the way's length

Labels = Int32[np.ndarray, "size size"]


def split_ink(square: Pixels, most: int = MOST_STROKES) -> Labels:
    """Split a drawing's ink into strokes.

    Args:
        square: A drawing on its paper, (s, s) if grey, else (s, s, 3).
        most: The most strokes, at least 1.

    Returns:
        0 on paper, and on ink and its grey edges the number of the stroke, from 1; all 0 on a blank page.
    """
    ink = ink_mask(square)
    if not ink.any():
        return np.zeros(ink.shape, np.int32)
    large, factor = _largest_components(ink, math.ceil(most * MOST_COMPONENTS_FRACTION)), 1
    while np.count_nonzero(large[::factor, ::factor]) > MOST_GRAPH_PIXELS:
        factor *= 2
    small = large if factor == 1 else _halved(large, factor)
    pieces = _split(small, most, SHORTEST_FRACTION * len(small))
    grown = pieces[_nearest(pieces > 0)]  # all else belongs to the nearest piece: edges, and components that are too many
    grown = np.repeat(np.repeat(grown, factor, 0), factor, 1)[: len(ink), : len(ink)]
    reach = max(1.0, FRINGE_FRACTION * len(ink))
    return _renumbered(np.where(distance_transform_edt(~ink) <= reach, grown, 0), ink)


def ink_mask(square: Pixels) -> Bool[np.ndarray, "size size"]:
    """Mark the pixels that differ from the paper by half as much as the deepest one, within the limits of `images.ink_box`."""
    depth = paper_distance(square, paper_colour(square))
    limit = min(MOST_CONTRAST, max(LEAST_CONTRAST, int(depth.max(initial=0)) // 2))
    return np.asarray(depth >= limit)


def _largest_components(ink: Bool[np.ndarray, "h w"], most: int) -> Bool[np.ndarray, "h w"]:
    """Mark the components that become strokes of their own; dots and hatching can be hundreds."""
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    areas = boxes[1:, cv2.CC_STAT_AREA]
    kept = np.zeros(count, bool)
    kept[1 + np.argsort(-areas, kind="stable")[:most]] = True
    mask: np.ndarray = kept[labels]
    return mask


def _halved(ink: Bool[np.ndarray, "h w"], factor: int) -> Bool[np.ndarray, "rows columns"]:
    height, width = (-(-side // factor) * factor for side in ink.shape)
    padded = np.pad(ink, ((0, height - ink.shape[0]), (0, width - ink.shape[1])))
    return np.asarray(padded.reshape(height // factor, factor, width // factor, factor).any((1, 3)))


def _split(ink: Bool[np.ndarray, "h w"], most: int, shortest: float) -> Int32[np.ndarray, "h w"]:
    """Number the pieces of the ink from 1, by seeds that are as far from each other as can be (Gonzalez, 1985)."""
    graph, ys, xs = _graph(ink)
    _, component = np.unique(cv2.connectedComponents(ink.astype(np.uint8), connectivity=8)[1][ys, xs], return_inverse=True)
    seeds = [int(np.flatnonzero(component == number)[0]) for number in range(component.max() + 1)]
    away = dijkstra(graph, directed=False, indices=seeds, min_only=True)
    while len(seeds) < most and away.max() > shortest:
        seeds.append(int(away.argmax()))
        away = np.minimum(away, dijkstra(graph, directed=False, indices=seeds[-1]))
    pieces = _by_nearest_seed(graph, seeds)
    centred = [_middle(np.flatnonzero(pieces == number), ys, xs) for number in np.unique(pieces)]
    labels = np.zeros(ink.shape, np.int32)
    labels[ys, xs] = _by_nearest_seed(graph, centred) + 1
    return labels


def _graph(ink: Bool[np.ndarray, "h w"]) -> tuple[csr_array, Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Connect the ink's pixels with their neighbours; with the row and the column of each."""
    ys, xs = np.nonzero(ink)
    numbers = np.full((ink.shape[0] + 2, ink.shape[1] + 2), -1, np.int64)
    numbers[ys + 1, xs + 1] = np.arange(len(ys))
    starts, ends, lengths = list[np.ndarray](), list[np.ndarray](), list[Float64[np.ndarray, " n"]]()
    for down, right, length in STEPS:
        ahead = numbers[ys + 1 + down, xs + 1 + right]
        there = np.flatnonzero(ahead >= 0)
        starts.append(there)
        ends.append(ahead[there])
        lengths.append(np.full(len(there), length))
    shape = (len(ys), len(ys))
    joined = coo_array((np.concatenate(lengths), (np.concatenate(starts), np.concatenate(ends))), shape=shape)
    return joined.tocsr(), ys, xs


def _by_nearest_seed(graph: csr_array, seeds: list[int]) -> Int64[np.ndarray, " n"]:
    _, _, sources = dijkstra(graph, directed=False, indices=seeds, min_only=True, return_predecessors=True)
    places: np.ndarray = np.unique(sources, return_inverse=True)[1]
    return places


def _middle(members: Int64[np.ndarray, " m"], ys: np.ndarray, xs: np.ndarray) -> int:
    """Choose the pixel of a piece that is nearest to its centre of mass."""
    y, x = ys[members], xs[members]
    return int(members[((y - y.mean()) ** 2 + (x - x.mean()) ** 2).argmin()])


def _nearest(mask: Bool[np.ndarray, "h w"]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return rows, columns


def _renumbered(labels: Int32[np.ndarray, "h w"], ink: Bool[np.ndarray, "h w"]) -> Labels:
    """Number the strokes that have ink from 1 without gaps, in reading order of their first pixels."""
    numbers, first = np.unique(labels[ink & (labels > 0)], return_index=True)
    table = np.zeros(int(labels.max()) + 1, np.int32)
    table[numbers[np.argsort(first)]] = np.arange(1, len(numbers) + 1)
    renumbered: np.ndarray = table[labels]
    return renumbered
