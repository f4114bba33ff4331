"""Finds drawings whose pages look otherwise once they are read: photographed or scanned ones, and small ones on a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped

from inkfold.data.types import Drawings
from inkfold.images.statistics import ink_fill

SMALL = 0.5  # of the page's longer side
MOST = 12  # pages are named


@dataclass(frozen=True, slots=True)
class ChangedPage:
    """A page that reading changes.

    Attributes:
        part: The table or folder that the page is in: `train` or `test`.
        image_path: The drawing's path in the table.
        file: Path of the page's image file, from which it can be shown.
        photographed: Whether it has the levels of a camera or scanner, so that its paper is flattened.
        fill: Longer side of the ink as a share of the page's longer side, in 0..1; of photographed pages, before flattening.
    """

    part: str
    image_path: str
    file: str
    photographed: bool
    fill: float


@dataclass(frozen=True, slots=True)
class ChangedPages:
    """How many pages reading changes, and some of them.

    Attributes:
        drawings: Number of drawings that could be read.
        photographed: Number of photographed or scanned ones.
        small: Number of the others that fill less than half of their page.
        examples: At most 12 of both kinds, in the order of their digests, so that they are not hand-picked.
    """

    drawings: int
    photographed: int
    small: int
    examples: tuple[ChangedPage, ...]

    @property
    def counts(self) -> dict[str, int]:
        """The numbers by name."""
        return {"photographed": self.photographed, "small": self.small}


def pages_in_words(counts: Mapping[str, int]) -> str:
    """Write the numbers of changed pages as `3 photographed or scanned, 5 small on their page`."""
    return f"{counts['photographed']} photographed or scanned, {counts['small']} small on their page"


def find_changed_pages(
    parts: Mapping[str, Drawings],
    digests: Mapping[str, Shaped[np.ndarray, " n"]],
    records: Mapping[str, Shaped[np.ndarray, " m"]],
) -> ChangedPages:
    """Find the pages that reading changes, by their statistics.

    Args:
        parts: The drawings of `train` and, where there is one, `test`.
        digests: Digests of each part's files, empty for broken and missing ones.
        records: Statistics (`images.statistics`) of each part's readable drawings, in their order.

    Returns:
        The numbers, and some pages of each kind in turns.
    """
    found: dict[bool, list[tuple[bytes, ChangedPage]]] = {True: [], False: []}
    totals, drawings = {True: 0, False: 0}, 0
    for part, table in parts.items():
        rows, fill = np.flatnonzero(digests[part] != b""), ink_fill(records[part])
        taken = records[part]["photographed"] > 0
        drawings += len(rows)
        for photographed, kind in ((True, taken), (False, (fill < SMALL) & ~taken)):
            totals[photographed] += int(kind.sum())
            found[photographed] += _first(part, table, rows, digests[part][rows], fill, kind, photographed=photographed)
    ordered = {kind: [page for _, page in sorted(pages, key=lambda pair: pair[0])] for kind, pages in found.items()}
    return ChangedPages(drawings, totals[True], totals[False], _in_turns(ordered[True], ordered[False]))


def _first(
    part: str,
    table: Drawings,
    rows: Shaped[np.ndarray, " m"],
    digests: Shaped[np.ndarray, " m"],
    fill: Shaped[np.ndarray, " m"],
    kind: Bool[np.ndarray, " m"],
    *,
    photographed: bool,
) -> list[tuple[bytes, ChangedPage]]:
    """Describe the pages of a kind with the lowest digests, each digest once."""
    places = np.flatnonzero(kind)
    _, first = np.unique(digests[places], return_index=True)
    return [
        (
            digests[place],
            ChangedPage(
                part, str(table.image_paths[rows[place]]), str(table.files[rows[place]]), photographed, float(fill[place])
            ),
        )
        for place in places[first[:MOST]]
    ]


def _in_turns(first: Sequence[ChangedPage], second: Sequence[ChangedPage]) -> tuple[ChangedPage, ...]:
    """Take pages of both kinds in turns, and more of one where the other has too few."""
    pages = sorted([*enumerate(first), *enumerate(second)], key=lambda pair: pair[0])
    return tuple(page for _, page in pages)[:MOST]
