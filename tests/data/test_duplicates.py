import errno
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from copies import COPIES, as_jpeg, drawing, scaled, turned
from inkfold.data import duplicates
from inkfold.data.duplicate_groups import in_words
from inkfold.data.duplicates import find_copies, find_copies_between, group_matches
from inkfold.data.fingerprints import sign
from inkfold.data.ink_matching import ALIKE
from inkfold.data.lines import CopyStores, find_lines, pack
from inkfold.data.synthetic import CLASS_NAMES
from inkfold.errors import CacheError
from inkfold.images.preprocess import ink_depth, paper_colour
from inkfold.storage.hashing import digest

WORDS = {
    "half": "the same picture",
    "larger": "the same picture",
    "margins": "the same picture",
    "inverted": "the same picture",
}


def matches_of(*pictures):
    """Matches among pictures, whose signatures are stored for the time of the search."""
    with tempfile.TemporaryDirectory() as directory:
        stores, digests = signed(Path(directory), pictures)
        return find_copies(digests, stores).matches


def signed(directory, pictures):
    """Stores with the signatures and lines of pictures, and the pictures' digests."""
    by_digest = {digest(pixels.tobytes()).encode(): pixels for pixels in map(np.ascontiguousarray, pictures)}
    stores = CopyStores.open(directory)
    for store, make in ((stores.ink, sign), (stores.lines, lines_of)):
        store.create()
        if by_digest:
            store.append(np.array([*by_digest]), [make(pixels) for pixels in by_digest.values()])
            store.shards.look()
    return stores, np.array([digest(np.ascontiguousarray(pixels).tobytes()).encode() for pixels in pictures], "S32")


def lines_of(pixels):
    return pack(find_lines(ink_depth(pixels, paper_colour(pixels))))


@pytest.mark.parametrize("change", COPIES)
def test_a_copy_is_found_and_what_was_done_to_it(change):
    others = [drawing(name, index=3) for name in CLASS_NAMES[:8]]
    original = drawing()
    [match] = matches_of(original, *others, COPIES[change](original))
    assert (match.first, match.second) == (0, 9)
    assert match.similarity >= ALIKE
    assert not match.identical
    if change != "all":
        assert in_words(match) in {WORDS.get(change, change), change.replace("180", "-180")}


def test_drawings_of_one_class_are_no_copies():
    assert matches_of(*[drawing("house", index=index) for index in range(40)]) == []


def test_more_than_small_turns_from_a_quarter_are_no_copies():
    assert matches_of(drawing(), turned(drawing(), 30)) == []


def test_drawings_with_next_to_no_ink_match_nothing():
    blank = np.full((60, 60), 255, np.uint8)
    dot, line = blank.copy(), blank.copy()
    dot[30:32, 30:32] = 0
    line[30, 3:57] = 0
    other_line = np.pad(line, 3, constant_values=255)
    assert matches_of(blank, np.full((50, 50), 255, np.uint8), dot, np.pad(dot, 3, constant_values=255), line, other_line) == []


def test_equal_files_match_whatever_is_on_them():
    blank = np.full((60, 60), 255, np.uint8)
    [match] = matches_of(blank, drawing(), blank)
    assert (match.first, match.second, match.identical, in_words(match)) == (0, 2, True, "the same file")


def test_nothing_and_one_drawing_have_no_copies():
    assert matches_of() == []
    assert matches_of(drawing()) == []


@pytest.fixture
def kept(tmp_path):
    """Signatures and lines on disk of three drawings, a turned copy and two equal files."""
    pictures = [drawing(), drawing("fish", 2), drawing("house", 1)]
    pictures += [turned(pictures[0], 90), pictures[1]]
    files = []
    for i, pixels in enumerate(pictures):
        files.append(str(tmp_path / f"{i}.png"))
        cv2.imwrite(files[-1], pixels)
    digests = np.array([digest(Path(file).read_bytes()).encode() for file in files])
    stores = CopyStores.open(tmp_path)
    assert stores.build(files, digests) == []
    return stores, digests


def watched(stores, monkeypatch):
    """Count how often signatures are read."""
    reads, read = [], stores.ink.read
    monkeypatch.setattr(stores.ink, "read", lambda names: reads.append(len(names)) or read(names))
    return reads


def test_drawings_that_were_compared_are_not_compared_again(kept, monkeypatch):
    store, digests = kept
    first = find_copies(digests, store).matches
    assert {(match.first, match.second, match.identical) for match in first} == {(0, 3, False), (1, 4, True)}
    reads = watched(store, monkeypatch)
    assert find_copies(digests, store).matches == first
    order = np.array([3, 4, 0, 2, 1])
    in_order = find_copies(digests[order], store).matches
    assert reads == []
    [path] = store.ink.shards.directory.glob("copies-*.json")
    path.unlink()
    assert find_copies(digests[order], store).matches == in_order
    assert reads


def test_other_drawings_are_compared_anew(kept, monkeypatch):
    store, digests = kept
    find_copies(digests, store)
    reads = watched(store, monkeypatch)
    assert [(match.first, match.second) for match in find_copies(digests[[0, 2, 3]], store).matches] == [(0, 2)]
    assert reads


@pytest.mark.parametrize(
    "content", ["", "[[0", "{}", "null", "[[0, 99, 1.0, false, 0.0, null]]", "[[1]]", '[["a", 1, 1, 1, 1, null]]']
)
def test_what_is_remembered_but_broken_is_found_again(kept, content, caplog):
    store, digests = kept
    first = find_copies(digests, store).matches
    [path] = store.ink.shards.directory.glob("copies-*.json")
    whole = path.read_text()
    path.write_text(content)
    assert find_copies(digests, store).matches == first
    assert path.read_text() == whole
    assert f"{path}: " in caplog.text
    assert "compared again" in caplog.text
    path.write_text(whole.replace("1.0, false", "1.0, true"))
    assert path.read_text() != whole
    assert find_copies(digests, store).matches == first
    assert path.read_text() == whole


def test_a_limit_compares_the_most_similar_drawings_and_says_how_many_were_left(tmp_path):
    pictures = [drawing("fish", index) for index in range(6)]
    copies = [np.fliplr(pictures[4]), as_jpeg(pictures[5], 90)]
    stores, digests = signed(tmp_path, [*pictures, *copies])
    everything = find_copies(digests, stores)
    limited = find_copies(digests, stores, most_pairs=4)  # a copy is proposed twice: by its ink, and by its lines
    assert everything.compared == everything.likely > 4
    assert (limited.likely, limited.compared) == (everything.likely, 4)
    assert {(match.first, match.second) for match in limited.matches} == {(4, 6), (5, 7)}
    assert limited.matches == everything.matches
    assert find_copies(digests, stores, most_pairs=4) == limited, "remembered"
    one = find_copies(digests, stores, most_pairs=1)
    assert one.compared == 1
    assert len(one.matches) == 1
    plenty = find_copies(digests, stores, most_pairs=10**6)
    assert plenty == everything


def test_a_full_disk_is_told_as_such(kept, monkeypatch):
    def full(path, content, *, indent):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(duplicates, "write_sealed", full)
    with pytest.raises(CacheError, match=r"copies-\w+\.json: No space left"):
        find_copies(kept[1], kept[0])


def test_matches_depend_on_content_and_not_on_order():
    pictures = [drawing("fish", index) for index in range(4)]
    pictures += [np.rot90(pictures[2]), pictures[0][:, ::-1]]
    forwards = {frozenset((one.first, one.second)) for one in matches_of(*pictures)}
    backwards = {frozenset((5 - one.first, 5 - one.second)) for one in matches_of(*pictures[::-1])}
    assert forwards == backwards == {frozenset((2, 4)), frozenset((0, 5))}


def test_the_transform_brings_the_second_onto_the_first_in_either_order():
    original = drawing()
    copy = np.ascontiguousarray(np.rot90(original[:, ::-1]))
    for first, second in ((original, copy), (copy, original)):
        [match] = matches_of(first, second)
        moved = second[:, ::-1] if match.flip else second
        assert match.turn_deg % 90 == pytest.approx(0, abs=0.5) or match.turn_deg % 90 == pytest.approx(90, abs=0.5)
        moved = np.rot90(moved, round(match.turn_deg / 90) % 4)
        assert np.array_equal(moved, first)


def test_groups_join_whatever_is_linked():
    class Link:
        def __init__(self, first, second):
            self.first, self.second = first, second

    assert group_matches(6, [Link(1, 3), Link(3, 5), Link(0, 2)]).tolist() == [0, 1, 0, 1, 4, 1]
    assert group_matches(2, []).tolist() == [0, 1]


def test_more_copies_than_neighbours_are_looked_at_are_still_one_group():
    pictures = [drawing(), *(change(as_jpeg(drawing(), 40 + 5 * i)) for i in range(10) for change in (np.fliplr, np.rot90))]
    assert set(group_matches(len(pictures), matches_of(*pictures)).tolist()) == {0}


STROKES = {
    "thicker": lambda pixels: cv2.erode(np.pad(pixels, 4, constant_values=255), np.ones((4, 4), np.uint8)),
    "thinner": lambda pixels: cv2.dilate(scaled(pixels, 2), np.ones((3, 3), np.uint8)),
}


@pytest.mark.parametrize("change", STROKES)
@pytest.mark.parametrize("move", [lambda pixels: pixels, np.fliplr, np.rot90])
def test_a_copy_in_other_strokes_is_found_by_its_lines(change, move):
    others = [drawing(name, index=3) for name in CLASS_NAMES[:8]]
    original = drawing("bicycle")
    [match] = matches_of(original, *others, STROKES[change](move(original)))
    assert (match.first, match.second) == (0, 9)
    assert in_words(match).endswith(f"with {change} strokes")
    assert (match.width_ratio > 1) == (change == "thicker")


def test_drawings_of_one_class_in_strokes_of_two_widths_are_no_copies():
    pages = [drawing("house", index=index) for index in range(20)]
    assert matches_of(*pages[:10], *map(STROKES["thicker"], pages[10:])) == []


def test_the_test_part_changes_nothing_for_the_others_and_is_matched_with_the_first_part_alone(tmp_path):
    train = [drawing("fish", 0), drawing("house", 1), drawing("bicycle", 2)]
    test = [turned(train[0], 90), drawing("fish", 9), train[1], np.fliplr(drawing("fish", 9)), turned(train[0], 90)]
    stores, digests = signed(tmp_path, [*train, *test])
    matches = find_copies_between(digests[:3], digests[3:], stores).matches
    assert {(match.first, match.second, match.identical) for match in matches} == {
        (0, 0, False),
        (1, 2, True),
        (0, 4, False),  # the same bytes as test drawing 0
    }
    assert find_copies_between(digests[:3], digests[3:], stores).matches == matches
    assert find_copies_between(digests[:3], digests[4:5], stores).matches == []
    assert find_copies_between(digests[:0], digests[3:], stores).matches == []
    assert find_copies_between(digests[:3], digests[:0], stores).matches == []
