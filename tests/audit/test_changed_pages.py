import numpy as np

from inkfold.audit.changed_pages import MOST, find_changed_pages, pages_in_words
from inkfold.data.types import Drawings
from inkfold.images.statistics import STATISTICS
from inkfold.storage.hashing import DIGEST_DTYPE


def table(names):
    paths = np.array(names, np.dtypes.StringDType())
    return Drawings(paths, np.array([f"/data/{name}" for name in names], np.dtypes.StringDType()), None)


def record(photographed=False, side=1.0, height=100, width=200):
    """A page whose ink is a box of so much of its width, and as high as a tenth of that."""
    box = {"left": 0, "right": side, "top": 0, "bottom": side / 10}
    row = np.zeros((), STATISTICS)
    for name, value in {**box, "height": height, "width": width, "photographed": photographed}.items():
        row[name] = value
    return row


def test_photographed_and_small_pages_take_turns_and_broken_drawings_are_passed_over():
    names = ["whole.png", "broken.png", "photo.jpg", "small.png", "small2.png"]
    digests = np.array([b"e", b"", b"d", b"c", b"b"], DIGEST_DTYPE)
    records = np.array([record(), record(True, 0.9), record(side=0.3), record(side=0.49)])
    pages = find_changed_pages({"train": table(names)}, {"train": digests}, {"train": records})
    assert (pages.drawings, pages.counts) == (4, {"photographed": 1, "small": 2})
    assert [page.image_path for page in pages.examples] == ["photo.jpg", "small2.png", "small.png"]
    assert [page.photographed for page in pages.examples] == [True, False, False]
    assert pages.examples[2].fill == np.float32(0.3)
    assert pages.examples[0].file == "/data/photo.jpg"
    assert pages_in_words(pages.counts) == "1 photographed or scanned, 2 small on their page"


def test_few_pages_of_many_are_named_each_content_once():
    count = 5 * MOST
    digests = np.array([b"%03d" % (i // 2) for i in range(count)], DIGEST_DTYPE)
    records = np.array([record(side=0.2)] * count)
    names = [f"{i}.png" for i in range(count)]
    pages = find_changed_pages({"train": table(names)}, {"train": digests}, {"train": records})
    assert pages.small == count
    assert [page.image_path for page in pages.examples] == [f"{2 * i}.png" for i in range(MOST)]


def test_test_drawings_count_too():
    parts = {"train": table(["a.png"]), "test": table(["b.png"])}
    digests = {"train": np.array([b"a"], DIGEST_DTYPE), "test": np.array([b"b"], DIGEST_DTYPE)}
    pages = find_changed_pages(parts, digests, {"train": np.array([record()]), "test": np.array([record(side=0.1)])})
    assert [(page.part, page.image_path) for page in pages.examples] == [("test", "b.png")]
