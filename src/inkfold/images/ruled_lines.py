"""Removes the lines that paper comes with: ruled and squared paper."""

import cv2
import numpy as np
from jaxtyping import UInt8

from inkfold.images.colour import Pixels, lowest_channel

PIECES = 16  # a page's width: strokes are seldom straight, level and dark over so long a piece
LEAST_PIECE_PX = 8
STEEPEST = 0.08  # of the page's width: how much a rule may rise across it
RULE_FRACTION = 0.55  # of the page: the least length of a rule
FEWEST_RULES = 4  # in one direction
REACHING_SHARE = 0.5  # of the rules reach the page's side, as paper's do; a drawn fence or grid mostly has a margin
DEEPEST_RULES = 160  # levels, the median: what is nearly as black as ink is drawn
FAINTEST = 12  # levels
DEPTH_FACTOR, DEPTH_MARGIN = 1.5, 12  # a rule's own unevenness
DEEPEST_WASHED_OUT = 150  # levels: up to this depth all that is as faint as the rules goes with them


def without_ruled_lines(page: Pixels) -> Pixels:
    """Remove ruled lines from a flattened page.

    Args:
        page: (h, w), or (h, w, 3): ink on white paper.

    Returns:
        The page without lines that cross most of it, where it has at least four of them in one direction, weaker than its
        ink, which reach the page's sides; otherwise the page itself, as where nothing but the lines is drawn. Strokes that are
        darker than the lines stay whole where they cross them.
    """
    depth = 255 - lowest_channel(page)
    level, upright = _rules(depth), _rules(np.ascontiguousarray(depth.T))
    rules = [found for found in (level, None if upright is None else upright.T) if found is not None]
    if not rules:
        return page
    mask = np.any(rules, axis=0)
    usual = float(np.median(depth[mask & (depth >= FAINTEST)]))
    if usual > DEEPEST_RULES:
        return page
    limit = DEPTH_FACTOR * len(rules) * usual + DEPTH_MARGIN  # where two lines cross, they are deeper
    if limit <= DEEPEST_WASHED_OUT:
        levels = 255 - np.clip((255 - np.arange(256.0) - limit) * (255 / (255 - limit)), 0, 255)
        cleaned = cv2.LUT(page, np.rint(levels).astype(np.uint8))
    else:
        cleaned = page.copy()
    cleaned[mask & (depth <= limit)] = 255
    return page if cleaned.min() == 255 else cleaned


def _rules(depth: UInt8[np.ndarray, "h w"]) -> np.ndarray | None:
    """Mark the pixels of nearly level lines across most of the page; None if there are too few, or if they leave a margin."""
    width = depth.shape[1]
    piece = width // PIECES
    if piece < LEAST_PIECE_PX:
        return None
    thick = cv2.dilate(depth, np.ones((3, 1), np.uint8))
    pieces = np.minimum.reduceat(thick[:, : PIECES * piece], np.arange(0, PIECES * piece, piece), axis=1) >= FAINTEST
    joined = cv2.dilate(pieces.view(np.uint8), np.ones((3, 3), np.uint8))
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    wide, high = boxes[:, cv2.CC_STAT_WIDTH], boxes[:, cv2.CC_STAT_HEIGHT]
    rules = (wide >= RULE_FRACTION * PIECES) & (high <= STEEPEST * width + 5)
    rules[0] = False
    left = boxes[:, cv2.CC_STAT_LEFT]
    reaching = rules & ((left == 0) | (left + wide == PIECES))
    if int(rules.sum()) < FEWEST_RULES or int(reaching.sum()) < REACHING_SHARE * int(rules.sum()):
        return None
    marked = np.repeat(rules[labels], piece, axis=1)
    return np.pad(marked, ((0, 0), (0, width - marked.shape[1])), mode="edge")
