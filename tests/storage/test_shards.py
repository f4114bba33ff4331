import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from inkfold.errors import CacheError
from inkfold.storage import shards
from inkfold.storage.hashing import digest, key_digest
from inkfold.storage.shards import ShardSet

KEY = {"size_px": 4, "fit": "pad"}
WRITER = """
import sys
import numpy as np
from pathlib import Path
from inkfold.storage.shards import ShardSet, digest
start = int(sys.argv[2])
shard_set = ShardSet(Path(sys.argv[1]), "toy", {"size_px": 4, "fit": "pad"})
print("ready", flush=True)
sys.stdin.readline()
shard_set.create()
for i in range(30):
    ids = range(start + 3 * i, start + 3 * i + 3)
    shard_set.append(np.array([digest(b"%d" % j) for j in ids], "S32"), np.array([[j % 256, j // 256] for j in ids], np.uint8))
"""


def named(ids) -> np.ndarray:
    return np.array([digest(b"%d" % i) for i in ids], "S32")


def rows_of(ids, dtype=np.uint8) -> np.ndarray:
    return np.array([[i % 256, i // 256] for i in ids], dtype).reshape(-1, 2)


def new_set(parent: Path, key=KEY) -> ShardSet:
    shard_set = ShardSet(parent, "toy", key)
    shard_set.create()
    return shard_set


def filled(parent: Path, *groups) -> ShardSet:
    shard_set = new_set(parent)
    for ids in groups:
        shard_set.append(named(ids), rows_of(ids))
    return shard_set


def shard_files(shard_set: ShardSet) -> list[Path]:
    return sorted(shard_set.directory.glob("*.safetensors"))


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
@pytest.mark.parametrize("shape", [(), (5,), (4, 4), (4, 4, 3)])
def test_rows_of_every_shape_come_back_in_any_order_and_as_often_as_asked(tmp_path, dtype, shape):
    rows = np.random.default_rng(0).integers(0, 256, (7, *shape)).astype(dtype)
    shard_set = new_set(tmp_path)
    shard_set.append(named(range(4)), rows[:4])
    shard_set.append(named(range(4, 7)), rows[4:])
    asked = [6, 0, 0, 3, 5, 6, 1]
    assert not shard_set.missing(named(asked)).any()
    got = shard_set.read(named(asked))
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, rows[asked])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=6, unique=True), max_size=6), st.randoms())
def test_after_any_appends_exactly_the_appended_rows_are_there(appends, random):
    with tempfile.TemporaryDirectory() as parent:
        writer, reader, written = new_set(Path(parent)), ShardSet(Path(parent), "toy", KEY), set()
        for ids in appends:
            writer.append(named(ids), rows_of(ids))
            written.update(ids)
            asked = [random.randrange(45) for _ in range(20)]
            for shard_set in (writer, reader, ShardSet(Path(parent), "toy", KEY)):
                assert shard_set.missing(named(asked)).tolist() == [i not in written for i in asked]
                there = [i for i in asked if i in written]
                np.testing.assert_array_equal(shard_set.read(named(there)), rows_of(there))


def test_rows_of_another_key_are_never_found(tmp_path):
    filled(tmp_path, [1])
    for other in ({**KEY, "size_px": 5}, {**KEY, "more": None}, {"size_px": 4}, {**KEY, "size_px": "4"}):
        assert new_set(tmp_path, other).missing(named([1])).all()
    assert len(list(tmp_path.iterdir())) == 5


def test_the_order_of_the_key_s_items_is_irrelevant(tmp_path):
    turned = dict(reversed(KEY.items()))
    assert key_digest(turned) == key_digest(KEY)
    filled(tmp_path, [1])
    assert not ShardSet(tmp_path, "toy", turned).missing(named([1])).any()


def test_a_key_with_nan_is_refused_since_it_is_not_equal_to_itself():
    with pytest.raises(ValueError, match="JSON compliant"):
        key_digest({"mean": float("nan")})


def test_the_directory_describes_what_made_its_rows(tmp_path):
    shard_set = filled(tmp_path, [1])
    assert json.loads((shard_set.directory / "key.json").read_text(encoding="utf-8")) == KEY


def test_before_anything_is_written_everything_is_missing_and_reading_says_so(tmp_path):
    shard_set = ShardSet(tmp_path / "not made yet", "toy", KEY)
    assert shard_set.missing(named([1, 2])).all()
    assert shard_set.missing(named([])).shape == (0,)
    for ids in ([1], []):
        with pytest.raises(CacheError, match="Run again"):
            shard_set.read(named(ids))


def test_no_rows_asked_gives_no_rows_of_the_right_shape(tmp_path):
    shard_set = filled(tmp_path, [1])
    shard_set.missing(named([]))
    assert shard_set.read(named([])).shape == (0, 2)


def test_reading_an_absent_row_counts_the_lost_ones(tmp_path):
    shard_set = filled(tmp_path, [1])
    shard_set.missing(named([1, 2, 3]))
    with pytest.raises(CacheError, match="2 of 3 rows are gone"):
        shard_set.read(named([1, 2, 3]))


def test_a_shard_that_goes_between_asking_and_reading_is_a_cache_error(tmp_path):
    shard_set = filled(tmp_path, [1])
    assert not shard_set.missing(named([1])).any()
    shard_files(shard_set)[0].unlink()
    with pytest.raises(CacheError, match="run again"):
        shard_set.read(named([1]))
    assert shard_set.missing(named([1])).all()


def test_the_same_rows_written_twice_are_one_file(tmp_path):
    assert len(shard_files(filled(tmp_path, [1, 2], [1, 2]))) == 1


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def cut_to_the_header(path: Path) -> None:
    os.truncate(path, 40)


def flip_a_bit_in_the_rows(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 4
    path.write_bytes(data)


def fill_with_garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(500))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def put_foreign_weights(path: Path) -> None:
    save_file({"fc.weight": np.zeros((2, 2), np.float32)}, path)


def put_foreign_file_with_a_checksum(path: Path) -> None:
    save_file({"digests": np.zeros((2, 32), np.uint8)}, path, {"crc32": "1"})


def put_rows_without_a_shape(path: Path) -> None:
    save_file({"digests": np.zeros((2, 32), np.uint8), "rows": np.array(1, np.uint8)}, path, {"crc32": "1"})


def put_rows_of_another_type(path: Path) -> None:
    save_file({"digests": np.zeros((2, 32), np.uint8), "rows": np.zeros((2, 2))}, path, {"crc32": "1"})


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        cut_to_the_header,
        flip_a_bit_in_the_rows,
        fill_with_garbage,
        empty,
        put_foreign_weights,
        put_foreign_file_with_a_checksum,
        put_rows_without_a_shape,
        put_rows_of_another_type,
    ],
)
def test_a_damaged_or_foreign_file_is_removed_and_its_rows_are_computed_again(tmp_path, damage):
    path = shard_files(filled(tmp_path, [1, 2]))[0]
    filled(tmp_path, [3])
    damage(path)
    shard_set = ShardSet(tmp_path, "toy", KEY)
    assert shard_set.missing(named([1, 2, 3])).tolist() == [True, True, False]
    assert not path.exists()
    shard_set.append(named([1, 2]), rows_of([1, 2]))
    assert not shard_set.missing(named([1, 2, 3])).any()
    np.testing.assert_array_equal(shard_set.read(named([3, 1, 2])), rows_of([3, 1, 2]))


def test_whichever_bit_of_a_shard_flips_no_wrong_row_is_read(tmp_path):
    ids = [1, 2, 300]
    path = shard_files(filled(tmp_path, ids))[0]
    whole = path.read_bytes()
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        path.write_bytes(data)
        shard_set = ShardSet(tmp_path, "toy", KEY)
        there = [i for i, absent in zip(ids, shard_set.missing(named(ids)), strict=True) if not absent]
        assert len(there) < 3 or shard_set.read(named(ids)).tolist() == rows_of(ids).tolist(), position
        if there:
            assert shard_set.read(named(there)).tolist() == rows_of(there).tolist(), position


def test_two_processes_that_append_to_one_set_at_once_leave_all_rows_right(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, start], **pipes) for start in ("0", "45", "45")]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=30)
        assert writer.returncode == 0
    ids = np.random.default_rng(0).permutation(135)
    shard_set = ShardSet(tmp_path, "toy", KEY)
    assert not shard_set.missing(named(ids)).any()
    np.testing.assert_array_equal(shard_set.read(named(ids)), rows_of(ids))


def test_more_shards_than_may_be_open_are_read_and_few_stay_mapped(tmp_path):
    count = shards.OPEN_SHARDS + 20
    shard_set = filled(tmp_path, *[[i] for i in range(count)])
    ids = np.random.default_rng(0).permutation(count).repeat(2)
    assert not shard_set.missing(named(ids)).any()
    for _ in range(2):
        np.testing.assert_array_equal(shard_set.read(named(ids)), rows_of(ids))
    if sys.platform == "linux":
        mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line}
        assert 0 < len(mapped) <= shards.OPEN_SHARDS


def test_what_was_read_from_is_let_go_of_and_read_again(tmp_path):
    shard_set = filled(tmp_path, *[[i] for i in range(5)])
    shard_set.missing(named(range(5)))
    for _ in range(2):
        np.testing.assert_array_equal(shard_set.read(named(range(5))), rows_of(range(5)))
        shard_set.close()
        if sys.platform == "linux":
            assert str(tmp_path) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("during", ["open", "memmap"])
def test_a_shard_that_can_not_be_read_now_is_kept(tmp_path, monkeypatch, during):
    filled(tmp_path, [1])
    [path] = tmp_path.rglob("*.safetensors")

    def fail(*given, **named):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(Path if during == "open" else np, during, fail)
        with pytest.raises(CacheError, match=r"can't be read: Too many open files\. It is kept; correct that and run again"):
            ShardSet(tmp_path, "toy", KEY).missing(named([1]))
    assert path.is_file()
    assert not ShardSet(tmp_path, "toy", KEY).missing(named([1])).any()


def test_reading_one_row_does_not_load_the_whole_shard(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (64, 1 << 19), np.uint8)  # 32 MiB
    new_set(tmp_path).append(named(range(64)), rows)
    shard_set = ShardSet(tmp_path, "toy", KEY)
    tracemalloc.start()
    assert not shard_set.missing(named([17])).any()
    np.testing.assert_array_equal(shard_set.read(named([17])), rows[17:18])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_what_is_read_is_the_caller_s_own_copy(tmp_path):
    shard_set = filled(tmp_path, [1])
    shard_set.missing(named([1]))
    shard_set.read(named([1]))[:] = 99
    np.testing.assert_array_equal(shard_set.read(named([1])), rows_of([1]))


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_rows_are_gathered_in_the_place_that_is_given(tmp_path, dtype):
    shard_set, asked = new_set(tmp_path), []
    for ids in ([1, 2], [3]):
        shard_set.append(named(ids), rows_of(ids, dtype))
    shard_set.missing(named([]))

    def empty(shape, kind):
        asked.append((shape, kind, np.full(shape, 99, kind)))
        return asked[-1][2]

    for ids in ([3, 1, 2, 3], [2], []):
        rows = shard_set.read(named(ids), empty)
        shape, kind, place = asked.pop()
        assert rows is place
        assert (shape, kind) == ((len(ids), 2), np.dtype(dtype))
        np.testing.assert_array_equal(rows, rows_of(ids))


def test_a_place_is_asked_for_only_once_the_rows_are_there(tmp_path):
    shard_set = filled(tmp_path, [1])
    shard_set.missing(named([1, 2]))
    with pytest.raises(CacheError, match="1 of 2 rows are gone"):
        shard_set.read(named([1, 2]), lambda *_: pytest.fail("there is nothing to hold"))


def test_a_full_disk_is_a_cache_error_with_advice_and_finished_shards_stay(tmp_path, monkeypatch):
    shard_set = filled(tmp_path, [1])

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CacheError, match=r"No space left on device.*Free some space or set INKFOLD_HOME"):
            shard_set.append(named([2]), rows_of([2]))
    assert shard_set.missing(named([1, 2])).tolist() == [False, True]
    assert not list(shard_set.directory.glob("*.inkfold-tmp-*"))


def test_a_home_that_can_not_be_made_is_a_cache_error_with_advice(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CacheError, match=r"Not a directory.*Set INKFOLD_HOME"):
        new_set(tmp_path / "file" / "pixels")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_can_not_be_written_is_a_cache_error_with_advice(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CacheError, match=r"Permission denied.*Set INKFOLD_HOME"):
        new_set(tmp_path)


@pytest.mark.parametrize("damage", [flip_a_bit_in_the_rows, fill_with_garbage])
def test_a_damaged_shard_that_can_not_be_removed_is_a_cache_error(tmp_path, monkeypatch, damage):
    shard_set = filled(tmp_path, [1])
    damage(shard_files(shard_set)[0])

    def refused(path, missing_ok):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(CacheError, match=r"is damaged and can't be removed: Permission denied.*INKFOLD_HOME"):
        shard_set.missing(named([1]))


def test_a_lock_that_can_not_be_taken_is_a_cache_error_with_advice(tmp_path):
    shard_set = new_set(tmp_path)
    (shard_set.directory / "lock").mkdir()
    with pytest.raises(CacheError, match="Set INKFOLD_HOME"), shard_set.lock():
        pass


def test_a_lock_is_held_by_one_and_given_back_when_its_block_fails(tmp_path):
    shard_set = new_set(tmp_path)
    other = FileLock(shard_set.directory / "lock")

    def fail_inside():
        with shard_set.lock():
            with pytest.raises(Timeout):
                other.acquire(timeout=0)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail_inside()
    with other.acquire(timeout=0):
        assert other.is_locked


def test_the_log_says_when_another_run_is_waited_for(tmp_path, caplog):
    caplog.set_level("INFO", logger="inkfold")
    shard_set = new_set(tmp_path)

    def lock_too():
        with shard_set.lock():
            pass

    waiting = threading.Thread(target=lock_too)
    with shard_set.lock():
        assert not caplog.messages
        waiting.start()
        while not caplog.messages:
            time.sleep(0.01)
    waiting.join()
    assert caplog.messages == [f"{shard_set.directory}: waiting for another run that computes the same"]


def test_creating_sweeps_what_killed_writers_left(tmp_path):
    shard_set = new_set(tmp_path)
    stale = shard_set.directory / "x.safetensors.inkfold-tmp-1-a"
    stale.write_bytes(b"")
    os.utime(stale, (0, 0))
    shard_set.create()
    assert not stale.exists()


def test_a_digest_is_blake2b_of_128_bits():
    assert digest(b"abc") == "cf4ab791c62b8d2b2109c90275287816"  # printf abc | b2sum -l 128


def test_a_shard_whose_digests_were_changed_is_removed_and_said_so(tmp_path, caplog):
    """The checksum is of the rows alone: the file's name is the digest of the digests."""
    shard_set = filled(tmp_path, [1, 2])
    [path] = shard_files(shard_set)
    old, new = (named([i])[0] for i in (1, 3))
    path.write_bytes(path.read_bytes().replace(old, new))
    assert shard_set.missing(named([1, 2, 3])).all()
    assert not path.exists()
    assert f"{path}: was damaged and is removed; what it held is computed again" in caplog.text


def test_a_damaged_description_is_written_again_and_said_so(tmp_path, caplog):
    shard_set = filled(tmp_path, [1])
    path = shard_set.directory / "key.json"
    whole = path.read_text()
    path.write_text(whole.replace('": ', '" : ', 1))
    shard_set.create()
    assert caplog.text == "", "another way to write the same is no damage"
    path.write_text(whole.replace("pad", "pae"))
    shard_set.create()
    assert path.read_text() == whole
    assert f"{path}: isn't what was written" in caplog.text


def no_memory(*_, **__):
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def test_a_lack_of_memory_is_neither_a_lost_file_nor_a_damaged_one(tmp_path, monkeypatch):
    store = filled(tmp_path, range(3))
    files = shard_files(store)
    fresh = new_set(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shards, "safe_open", no_memory)
        with pytest.raises(OSError, match="Cannot allocate memory"):
            fresh.missing(named(range(3)))
    store.missing(named(range(3)))
    monkeypatch.setattr(np, "memmap", no_memory)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        store.read(named(range(3)))
    with pytest.raises(OSError, match="Cannot allocate memory"):
        new_set(tmp_path).missing(named(range(3)))
    assert shard_files(store) == files, "kept"


def test_where_address_space_is_short_one_shard_is_mapped_at_a_time(tmp_path, monkeypatch):
    store = filled(tmp_path, range(3), range(3, 6), range(6, 9))
    store.missing(named(range(9)))
    own = np.memmap

    def one_at_a_time(*args, **kwargs):
        if store._open:
            no_memory()
        return own(*args, **kwargs)

    monkeypatch.setattr(np, "memmap", one_at_a_time)
    np.testing.assert_array_equal(store.read(named(range(9))), rows_of(range(9)))
    assert len(store._open) == 1
