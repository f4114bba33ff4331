from pathlib import Path

import numpy as np
from PIL import Image

from inkfold.images.page import Page
from inkfold.images.statistics import STATISTICS, page_statistics
from inkfold.storage.pixels import digest_files
from inkfold.storage.statistics import StatisticsStore


def draw(directory: Path) -> list[str]:
    files = []
    for index, size in enumerate([(60, 40), (60, 60), (30, 90)]):
        pixels = np.full(size, 255, np.uint8)
        if index != 1:
            pixels[10:20, 10:25] = 40 * index
        files.append(str(directory / f"{index}.png"))
        Image.fromarray(pixels).save(files[-1])
    return files


def test_records_are_those_of_the_pages_and_are_kept_by_content(tmp_path):
    files = draw(tmp_path)
    digests, _ = digest_files(files)
    assert StatisticsStore(tmp_path / "kept").build(files, digests) == []
    again = StatisticsStore(tmp_path / "kept")
    assert again.build(["gone"] * 3, digests) == []
    records = again.read(digests[::-1])
    assert records.dtype == STATISTICS
    expected = np.stack([page_statistics(Page(Path(file).read_bytes())) for file in files[::-1]])
    for name in STATISTICS.names:
        np.testing.assert_array_equal(records[name], expected[name])
    assert records["height"].tolist() == [30, 60, 60]


def test_blank_pages_are_known_by_their_digests(tmp_path):
    files = draw(tmp_path)
    digests, _ = digest_files(files)
    store = StatisticsStore(tmp_path / "kept")
    store.build(files, digests)
    assert store.blank(digests).tolist() == [False, True, False]
    assert store.blank(digests[:0]).tolist() == []


def test_another_pixel_limit_has_records_of_its_own(tmp_path):
    files = draw(tmp_path)
    digests, _ = digest_files(files)
    StatisticsStore(tmp_path / "kept").build(files, digests)
    strict = StatisticsStore(tmp_path / "kept", pixel_limit=3000)
    assert [(one.index, one.kind) for one in strict.build(files, digests)] == [(1, "too_large")]
