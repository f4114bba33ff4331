import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inkfold.errors import CacheError
from inkfold.images import page as page_module
from inkfold.images.preprocess import ImageOptions, read_drawing
from inkfold.runtime.parallel import available_cores, map_in_processes
from inkfold.storage import pixels as store_module
from inkfold.storage.pixels import ImageStore, build_rows, count_missing, digest_files
from inkfold.storage.statistics import StatisticsStore

BUILDER = """
import sys
from pathlib import Path
from inkfold.storage import pixels as store
from inkfold.images.preprocess import ImageOptions
store.SHARD_ROWS = 8
files = sorted(str(path) for path in Path(sys.argv[1]).glob("*.png"))
digests, broken = store.digest_files(files)
tell = lambda stage, done, total: print(done, total, flush=True)
store.ImageStore(Path(sys.argv[2]), store.ImageOptions(size_px=32)).build(files, digests, tell, workers=2)
"""


def draw(directory: Path, count: int, *, colour: bool = False, seed: int = 0, side: int = 40) -> list[str]:
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    files = []
    for i in range(count):
        pixels = np.full((side, side + i % 3, 3), 255, np.uint8)
        pixels[rng.integers(side, size=60), rng.integers(side, size=60)] = (200, 20, 20) if colour else (0, 0, 0)
        files.append(str(directory / f"{'rgb' if colour else 'grey'}-{seed}-{i:03}.png"))
        Image.fromarray(pixels).save(files[-1])
    return files


def decoded_by_hand(files, options) -> list[np.ndarray]:
    return [read_drawing(Path(file).read_bytes(), options) for file in files]


class Count:
    def __init__(self) -> None:
        self.last: dict[str, tuple[int, int]] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.last[stage] = (done, total)


def test_drawings_lie_in_files_by_their_digests_so_that_a_cell_reads_from_few(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "SHARD_ROWS", 8)
    files = draw(tmp_path / "data", 40)
    digests, _ = digest_files(files)
    store = ImageStore(tmp_path / "store", ImageOptions(size_px=32))
    store.build(files, digests, workers=1)
    store.look()
    names, of_shard = store.grey._digests, store.grey._shard_of
    assert names.tolist() == sorted(digests.tolist())
    assert int((np.diff(of_shard) != 0).sum()) == 40 // 8 - 1


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_decode_what_one_call_a_file_decodes(tmp_path, workers):
    files = draw(tmp_path / "in", 110)
    options = ImageOptions(size_px=24)
    digests, broken = digest_files(files)
    store, count = ImageStore(tmp_path / "pixels", options), Count()
    assert (store.build(files, digests, count, workers=workers), broken) == ([], [])
    assert count.last["decoding"] == (110, 110)
    np.testing.assert_array_equal(store.read(digests), decoded_by_hand(files, options))


def test_grey_and_coloured_drawings_are_read_together_by_another_instance(tmp_path):
    grey, coloured = draw(tmp_path / "in", 5), draw(tmp_path / "in", 4, colour=True)
    options = ImageOptions(size_px=24)
    files = [file for pair in zip(grey, coloured, strict=False) for file in pair]
    digests, _ = digest_files(files)
    assert ImageStore(tmp_path / "pixels", options).build(files, digests) == []
    by_hand = decoded_by_hand(files, options)
    assert {pixels.ndim for pixels in by_hand} == {2, 3}
    mixed = np.stack([pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1) for pixels in by_hand])
    fresh = ImageStore(tmp_path / "pixels", options)
    np.testing.assert_array_equal(fresh.read(digests), mixed)
    np.testing.assert_array_equal(ImageStore(tmp_path / "pixels", options).read(digests[1::2]), mixed[1::2])
    np.testing.assert_array_equal(ImageStore(tmp_path / "pixels", options).read(digests[::2]), by_hand[::2])


def test_a_digest_names_bytes_whatever_the_file_is_called(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"abc")
    (tmp_path / "c").write_bytes(b"abd")
    count = Count()
    digests, broken = digest_files([str(tmp_path / name) for name in "abc"], count)
    assert digests[0] == digests[1] == b"cf4ab791c62b8d2b2109c90275287816"  # printf abc | b2sum -l 128
    assert digests[2] != digests[0]
    assert (broken, count.last) == ([], {"reading files": (3, 3)})


def test_files_that_can_not_be_read_are_told_and_have_no_digest(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    digests, broken = digest_files([str(tmp_path / "gone"), str(tmp_path / "a"), str(tmp_path)])
    assert [len(digest) for digest in digests] == [0, 32, 0]
    assert [(one.index, one.kind) for one in broken] == [(0, "missing_file"), (2, "missing_file")]
    assert broken[0].message == "No such file or directory. Restore the file or leave it out."
    assert digest_files([])[0].shape == (0,)


def test_a_second_build_decodes_only_what_changed(tmp_path):
    files = draw(tmp_path / "in", 100)
    options, first, second, third = ImageOptions(size_px=24), Count(), Count(), Count()
    ImageStore(tmp_path / "pixels", options).build(files, digest_files(files)[0], first)
    Path(files[3]).write_bytes(Path(draw(tmp_path / "new", 1, seed=9)[0]).read_bytes())
    os.utime(files[4])  # a new date is no change
    files += draw(tmp_path / "in", 2, seed=5, colour=True)
    digests, _ = digest_files(files)
    store = ImageStore(tmp_path / "pixels", options)
    assert np.flatnonzero(store.missing(digests)).tolist() == [3, 100, 101]
    store.build(files, digests, second)
    store.build(files, digests, third)
    assert (first.last["decoding"], second.last["decoding"], third.last) == ((100, 100), (3, 3), {})
    assert not store.missing(digests).any()


def test_copies_of_the_same_bytes_are_decoded_once(tmp_path):
    files, count = draw(tmp_path / "in", 3) * 4, Count()
    digests, _ = digest_files(files)
    store = ImageStore(tmp_path / "pixels", ImageOptions(size_px=24))
    store.build(files, digests, count)
    assert count.last["decoding"] == (3, 3)
    assert store.read(digests).shape == (12, 24, 24)


def test_a_broken_drawing_is_told_of_each_of_its_copies_and_the_others_are_kept(tmp_path):
    good = draw(tmp_path / "in", 2)
    for name in ("a.png", "copy of a.png"):
        (tmp_path / name).write_bytes(b"this is no image")
    (tmp_path / "empty.png").write_bytes(b"")
    cut = Path(good[0]).read_bytes()[:-40]
    (tmp_path / "cut.png").write_bytes(cut)
    files = [str(tmp_path / "a.png"), good[0], str(tmp_path / "empty.png"), str(tmp_path / "copy of a.png"), good[1]]
    files.append(str(tmp_path / "cut.png"))
    digests, _ = digest_files(files)
    store = ImageStore(tmp_path / "pixels", ImageOptions(size_px=24))
    broken = store.build(files, digests)
    kinds = {one.index: one.kind for one in broken}
    assert kinds == {0: "not_an_image", 2: "empty", 3: "not_an_image", 5: "truncated"}
    assert store.missing(digests).tolist() == [True, False, True, True, False, True]


@pytest.mark.parametrize("workers", [1, 2])
def test_broken_drawings_found_by_processes_keep_their_places(tmp_path, workers):
    files = draw(tmp_path / "in", 120)
    for i in (0, 61, 119):
        Path(files[i]).write_bytes(b"no image %d" % i)
    broken = ImageStore(tmp_path / "pixels", ImageOptions(size_px=24)).build(files, digest_files(files)[0], workers=workers)
    assert [one.index for one in broken] == [0, 61, 119]


@pytest.mark.parametrize(
    "other",
    [
        {"size_px": 25},
        {"resize": "squash"},
        {"resize": "crop_to_ink"},
        {"colour": "grey"},
        {"invert": "never"},
        {"interpolation": "bilinear"},
        {"pixel_limit": 10**6},  # a drawing that the old limit let in must not pass under a new one
    ],
)
def test_other_settings_have_other_directories(tmp_path, other):
    usual, changed = ({"size_px": 24} | extra for extra in ({}, other))
    stores = [ImageStore(tmp_path, ImageOptions(**options)) for options in (usual, changed)]
    directories = {directory for store in stores for directory in (store.grey.directory, store.colour.directory)}
    assert len(directories) == 4


def test_a_file_that_changes_between_reading_and_decoding_is_told_as_changed(tmp_path):
    files = draw(tmp_path / "in", 3)
    digests, _ = digest_files(files)
    Path(files[0]).write_bytes(Path(files[1]).read_bytes())
    Path(files[2]).unlink()
    store = ImageStore(tmp_path / "pixels", ImageOptions(size_px=24))
    assert [(one.index, one.kind) for one in store.build(files, digests)] == [(0, "changed"), (2, "missing_file")]
    assert store.missing(digests).tolist() == [True, False, True]


def stores_in(home: Path) -> list:
    squares = [ImageStore(home / "pixels", ImageOptions(size_px=24, resize=resize)) for resize in ("pad", "crop_to_ink")]
    return [*squares, StatisticsStore(home / "statistics")]


def test_each_file_is_decoded_once_for_all_stores(tmp_path, monkeypatch):
    files = draw(tmp_path / "in", 6, colour=True) + draw(tmp_path / "in", 6)
    digests, _ = digest_files(files)
    apart, together = stores_in(tmp_path / "apart"), stores_in(tmp_path / "together")
    for store in apart:
        assert store.build(files, digests) == []
    decoded, real = [], page_module.decode_image
    monkeypatch.setattr(page_module, "decode_image", lambda data, **more: decoded.append(data) or real(data, **more))
    wanted = {store: np.ones(12, bool) for store in together}
    assert count_missing(wanted, digests) == 12
    assert build_rows(wanted, files, digests) == []
    assert sorted(decoded) == sorted(Path(file).read_bytes() for file in files)
    for one, other in zip(apart, together, strict=True):
        assert one.read(digests).tobytes() == other.read(digests).tobytes()
    assert count_missing(wanted, digests) == 0


def test_each_store_gets_the_rows_that_it_lacks_and_no_others(tmp_path):
    files, count = draw(tmp_path / "in", 8), Count()
    digests, _ = digest_files(files)
    padded, cropped, statistics = stores_in(tmp_path)
    padded.build(files[:3], digests[:3])
    statistics.build(files[2:5], digests[2:5])
    first_six = np.arange(8) < 6
    wanted = {padded: first_six, cropped: np.zeros(8, bool), statistics: np.ones(8, bool)}
    assert count_missing(wanted, digests) == 7  # the third has both
    assert build_rows(wanted, files, digests, count) == []
    assert count.last["decoding"] == (7, 7)
    assert padded.missing(digests).tolist() == [False] * 6 + [True] * 2
    assert cropped.missing(digests).all()
    assert not statistics.missing(digests).any()


def test_a_pass_that_was_killed_between_two_stores_is_completed(tmp_path, monkeypatch):
    files = draw(tmp_path / "in", 5)
    digests, _ = digest_files(files)
    whole, killed = stores_in(tmp_path / "whole"), stores_in(tmp_path / "killed")
    wanted = [{store: np.ones(5, bool) for store in stores} for stores in (whole, killed)]
    build_rows(wanted[0], files, digests)
    with monkeypatch.context() as patch:
        patch.setattr(StatisticsStore, "append", None)
        with pytest.raises(TypeError):
            build_rows(wanted[1], files, digests)
    build_rows(wanted[1], files, digests)
    for one, other in zip(whole, killed, strict=True):
        names = sorted(path.name for path in one.directory.glob("*.safetensors"))
        assert names == sorted(path.name for path in other.directory.glob("*.safetensors"))
        assert all((one.directory / name).read_bytes() == (other.directory / name).read_bytes() for name in names)


def test_a_drawing_that_any_store_can_not_take_is_broken_for_all(tmp_path):
    files = draw(tmp_path / "in", 3)
    Path(files[1]).write_bytes(b"no image")
    digests, _ = digest_files(files)
    stores = stores_in(tmp_path)
    broken = build_rows({store: np.ones(3, bool) for store in stores}, files, digests)
    assert [(one.index, one.kind) for one in broken] == [(1, "not_an_image")]
    assert [store.missing(digests).tolist() for store in stores] == [[False, True, False]] * 3


def start(script: str, mark: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)]
    environment = os.environ | {"INKFOLD_TEST_MARK": str(mark)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def marked_processes(mark: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"INKFOLD_TEST_MARK={mark}\0".encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def left_after_a_while(mark: Path) -> list[int]:
    give_up = time.monotonic() + 10
    while (left := marked_processes(mark)) and time.monotonic() < give_up:
        time.sleep(0.1)
    return left


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_workers_that_wait_or_work_end_when_their_parent_is_killed(tmp_path):
    script = """
import time
from inkfold.storage.pixels import map_in_processes
tell = lambda stage, done, total: print(done, flush=True)
map_in_processes(time.sleep, [(0,), (0,), (60,)], [50, 50, 50], "sleeping", tell, workers=2)
"""
    with start(script, tmp_path) as parent:
        assert [parent.stdout.readline() for _ in range(2)] == ["50\n", "100\n"]
        assert len(marked_processes(tmp_path)) >= 3
        parent.send_signal(signal.SIGKILL)
    left = left_after_a_while(tmp_path)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert left == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_build_killed_at_random_moments_continues_and_leaves_no_process_behind(tmp_path):
    files, pixels = draw(tmp_path / "in", 200), tmp_path / "pixels"
    digests, _ = digest_files(files)
    rng = random.Random(0)
    remaining = [200]
    for progress_lines in (0, 1, 4, 2):
        with start(BUILDER, pixels, tmp_path / "in", pixels) as build:
            for _ in range(progress_lines):
                build.stdout.readline()
            time.sleep(rng.uniform(0, 0.6 if progress_lines == 0 else 0.02))
            build.send_signal(signal.SIGKILL)
        assert left_after_a_while(pixels) == []
        remaining.append(int(ImageStore(pixels, ImageOptions(size_px=32)).missing(digests).sum()))
    assert remaining == sorted(remaining, reverse=True)
    assert remaining[-1] < 200
    last = Count()
    store = ImageStore(pixels, ImageOptions(size_px=32))
    assert store.build(sorted(files), digests, last, workers=1) == []
    assert last.last.get("decoding", (0, 0)) == (remaining[-1],) * 2
    np.testing.assert_array_equal(store.read(digests), decoded_by_hand(files, ImageOptions(size_px=32)))


def test_workers_are_not_sent_what_the_parent_has_indexed_and_mapped(tmp_path, monkeypatch):
    import pickle

    files = draw(tmp_path / "in", 40)
    options = ImageOptions(size_px=64)
    digests, _ = digest_files(files)
    store = ImageStore(tmp_path / "pixels", options)
    store.build(files[:39], digests[:39])
    store.read(digests[:39])
    sizes = []

    def weigh(function, tasks, *rest):
        sizes.extend(len(pickle.dumps(task)) for task in tasks)
        return [[] for _ in tasks]

    monkeypatch.setattr(store_module, "map_in_processes", weigh)
    store.build(files, digests)
    assert max(sizes) < 4096


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_answers_come_in_the_order_of_the_tasks(workers):
    tasks = [(i, 3) for i in range(7)]
    assert map_in_processes(pow, tasks, [20] * 7, "stage", workers=workers) == [0, 1, 8, 27, 64, 125, 216]
    assert map_in_processes(pow, [], [], "stage", workers=workers) == []


def test_a_task_s_own_error_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        map_in_processes(divmod, [(1, 1), (1, 0)], [50, 50], "stage", workers=2)


def test_a_killed_worker_is_a_cache_error_that_says_what_to_do():
    with pytest.raises(CacheError, match=r"Lower image\.pixel_limit and run again"):
        map_in_processes(os._exit, [(9,), (9,)], [50, 50], "stage", workers=2)


def test_at_least_one_core_is_there():
    assert 1 <= available_cores() <= os.cpu_count()
