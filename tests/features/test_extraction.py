import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from inkfold.augment.views import IDENTITY, parse_view, render
from inkfold.errors import CacheError
from inkfold.features.bank import FeatureBank
from inkfold.features.executors import Inline
from inkfold.features.extraction import extract
from inkfold.features.tasks import Making
from inkfold.images.preprocess import ImageOptions
from inkfold.storage.pixels import ImageStore
from toy_bank import Stub, expected, fill, fill_bank, info, making, named, pictures, use

EXTRACTOR = """
import sys, time
from pathlib import Path
import numpy as np
import torch
from inkfold.features import tasks as cells
from inkfold.augment.views import IDENTITY
from inkfold.features.extraction import extract
from inkfold.images.preprocess import ImageOptions
from inkfold.features.executors import Inline
from inkfold.models.weights import BackboneSpec, resolve_backbone

home, digests, side, gate = Path(sys.argv[1]), np.load(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
cells.CPU_CELL_ROWS = 8
torch.set_num_threads(1)
info = resolve_backbone(BackboneSpec("test_resnet", weights="untrained", image_size=side))
making = cells.Making(home, info, ImageOptions(side), "cpu", 4)
build = cells.build_backbone

def tell(stage, done, total):
    print(done, flush=True)
    time.sleep(0.02)  # else the reader hears of the first batch after the last one is done

def build_aloud(making):
    print("build", flush=True)
    return build(making)

cells.build_backbone = build_aloud
print("ready", flush=True)
while not gate.exists():
    time.sleep(0.01)
took = extract(making, {IDENTITY: digests}, Inline(), tell)
print("took", took.forwards, took.cached, flush=True)
"""


@pytest.fixture(autouse=True)
def one_lane(monkeypatch):
    monkeypatch.setattr("inkfold.features.executors.count_lanes", lambda making: 1)


def test_100_added_drawings_cost_exactly_100_forwards(tmp_path, monkeypatch):
    told = []
    fill(tmp_path, range(230))
    first = use(monkeypatch, Stub())
    fill_bank(making(tmp_path), named(range(130)))
    second = use(monkeypatch, Stub())
    took, bank = fill_bank(making(tmp_path), named(range(230)), progress=lambda *report: told.append(report))
    assert first.forwards == 130
    assert (second.forwards, took.forwards, took.cached) == (100, 100, 130)
    assert told[0] == ("features", 16, 100)
    assert told[-1] == ("features", 100, 100)
    np.testing.assert_array_equal(bank.read(named(range(230))), expected(range(230)))


def test_a_second_call_costs_nothing_and_builds_no_backbone(tmp_path, monkeypatch):
    digests, stub = fill(tmp_path, range(20)), use(monkeypatch, Stub())
    fill_bank(making(tmp_path), digests)
    took, bank = fill_bank(making(tmp_path), digests[::-1])
    assert (took.forwards, took.cached, stub.builds, stub.forwards) == (0, 20, 1, 20)
    np.testing.assert_array_equal(bank.read(digests[::-1]), expected(range(20))[::-1])


def test_copies_of_one_drawing_cost_one_forward(tmp_path, monkeypatch):
    digests, stub = fill(tmp_path, [1, 2]), use(monkeypatch, Stub())
    asked = digests[[0, 1, 0, 0]]
    _, bank = fill_bank(making(tmp_path), asked)
    assert stub.forwards == 2
    np.testing.assert_array_equal(bank.read(asked), expected([1, 2, 1, 1]))


def test_nothing_asked_costs_nothing(tmp_path, monkeypatch):
    stub = use(monkeypatch, Stub())
    assert fill_bank(making(tmp_path), named([]))[0].forwards == 0
    assert extract(making(tmp_path), {}, Inline()).forwards == 0
    assert stub.builds == 0


def add_colour(home: Path, ids) -> None:
    colour = ImageStore(home / "pixels", ImageOptions(8)).colour
    colour.create()
    colour.append(named(ids), np.repeat(pictures(ids)[..., None], 3, axis=-1))


def test_coloured_and_grey_drawings_keep_their_places(tmp_path, monkeypatch):
    fill(tmp_path, range(10))
    add_colour(tmp_path, range(10, 20))
    use(monkeypatch, Stub(3))
    ids = np.random.default_rng(0).permutation(20)
    _, bank = fill_bank(making(tmp_path, 3), named(ids))
    np.testing.assert_array_equal(bank.read(named(ids)), expected(ids))


@pytest.mark.parametrize("cell_rows", [1, 7, 16, 1000])
def test_cells_of_every_size_hold_each_row_once(tmp_path, monkeypatch, cell_rows):
    monkeypatch.setattr("inkfold.features.tasks.CPU_CELL_ROWS", cell_rows)
    use(monkeypatch, Stub(6))
    _, bank = fill_bank(making(tmp_path, 6), fill(tmp_path, range(50)))
    # the nearest number of whole batches of 6: 1, 1, 3 and 167 of them, of 9 in all
    assert len(list(bank.shards.directory.glob("*.safetensors"))) == {1: 9, 7: 9, 16: 3, 1000: 1}[cell_rows]
    np.testing.assert_array_equal(bank.read(named(range(50))), expected(range(50)))


def test_a_backbone_that_fails_loses_only_the_cell_in_hand(tmp_path, monkeypatch):
    monkeypatch.setattr("inkfold.features.tasks.CPU_CELL_ROWS", 8)

    class Failing(Stub):
        def extract(self, pixels: np.ndarray) -> np.ndarray:
            if self.forwards == 20:
                raise RuntimeError("out of power")
            return super().extract(pixels)

    digests = fill(tmp_path, range(40))
    use(monkeypatch, Failing(4))
    with pytest.raises(RuntimeError, match="out of power"):
        fill_bank(making(tmp_path, 4), digests)
    stub = use(monkeypatch, Stub(4))
    _, bank = fill_bank(making(tmp_path, 4), digests)
    assert stub.forwards == 40 - 16
    np.testing.assert_array_equal(bank.read(digests), expected(range(40)))


def test_a_damaged_shard_costs_its_own_forwards_again(tmp_path, monkeypatch):
    monkeypatch.setattr("inkfold.features.tasks.CPU_CELL_ROWS", 8)
    digests = fill(tmp_path, range(32))
    use(monkeypatch, Stub(8))
    _, bank = fill_bank(making(tmp_path, 8), digests)
    path = next(bank.shards.directory.glob("*.safetensors"))
    whole = path.read_bytes()
    data = bytearray(whole)
    data[8 + int.from_bytes(data[:8], "little")] ^= 1  # the first byte after the header belongs to the rows
    path.write_bytes(data)
    stub = use(monkeypatch, Stub(8))
    _, fresh = fill_bank(making(tmp_path, 8), digests)
    assert stub.forwards == 8
    assert path.read_bytes() == whole
    np.testing.assert_array_equal(fresh.read(digests), expected(range(32)))


def test_features_that_never_appear_end_in_an_error_that_names_their_directory(tmp_path, monkeypatch):
    digests, runs = fill(tmp_path, range(5)), []

    class Idle:
        def run(self, cells, account) -> None:
            runs.append(len(cells))

        def close(self) -> None:
            pass

    with pytest.raises(CacheError, match=r"features/test_resnet[^:]+: 5 features are still missing after 3 plans") as caught:
        extract(making(tmp_path), {IDENTITY: digests}, Idle())
    assert "all must share one INKFOLD_HOME" in str(caught.value)
    assert runs == [1, 1, 1]


def test_what_one_launcher_left_undone_is_planned_again(tmp_path, monkeypatch):
    monkeypatch.setattr("inkfold.features.tasks.CPU_CELL_ROWS", 8)
    digests, stub, plans = fill(tmp_path, range(20)), use(monkeypatch, Stub(4)), []

    class Half(Inline):
        def run(self, cells, account) -> None:
            plans.append(cells)
            super().run(cells[:1] if len(plans) == 1 else cells, account)

    extract(making(tmp_path, 4), {IDENTITY: digests}, Half())
    assert plans[1] == plans[0][1:], "the same cells, but for the one that is done"
    assert stub.forwards == 20


def test_the_backbone_sees_drawings_as_the_view_has_them(tmp_path, monkeypatch):
    ids, view = np.random.default_rng(1).permutation(20), parse_view("hflip")
    fill(tmp_path, range(10))
    add_colour(tmp_path, range(10, 20))
    use(monkeypatch, Stub(3))
    banks = extract(making(tmp_path, 3), {view: named(ids), IDENTITY: named(ids)}, Inline()).banks
    np.testing.assert_array_equal(banks[view].read(named(ids)), Stub(20).extract(pictures(ids)[:, :, ::-1]))
    np.testing.assert_array_equal(banks[IDENTITY].read(named(ids)), expected(ids))


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_every_drawing_has_its_own_draws_whatever_its_batch(tmp_path, monkeypatch, batch_size):
    view, digests = parse_view("rotate(40) + noise(20)", seed=5, index=2), fill(tmp_path, range(7))
    use(monkeypatch, Stub(batch_size))
    _, bank = fill_bank(making(tmp_path, batch_size), digests[::-1], view)
    alone = [render(picture, view, name, 8) for picture, name in zip(pictures(range(7)), digests.tolist(), strict=True)]
    np.testing.assert_array_equal(bank.read(digests), Stub().extract(np.stack(alone)))


def halves(side: int) -> np.ndarray:
    """Dark on the left, light on the right, in several greys."""
    return np.stack([np.repeat([[dark, 255 - dark]], side // 2, 1).repeat(side, 0) for dark in (0, 20, 90)]).astype(np.uint8)


@pytest.mark.parametrize(("stored", "text"), [(16, "identity"), (16, "hflip"), (12, "identity"), (8, "identity")])
def test_larger_pixels_are_shown_at_the_backbones_size(tmp_path, monkeypatch, stored, text):
    store = ImageStore(tmp_path / "pixels", ImageOptions(stored))
    store.grey.create()
    store.grey.append(named(range(3)), halves(stored))
    seen = []

    class Watching(Stub):
        def extract(self, pixels: np.ndarray) -> np.ndarray:
            seen.append(pixels)
            return super().extract(pixels)

    use(monkeypatch, Watching(3))
    _, bank = fill_bank(making(tmp_path, 3, stored=stored), named(range(3)), parse_view(text))
    assert [pixels.shape for pixels in seen] == [(3, 8, 8)]
    mean, first, last = bank.read(named(range(3))).astype(float).T
    sides = [[0, 20, 90], [255, 235, 165]]
    assert [first.tolist(), last.tolist()] == (sides[::-1] if text == "hflip" else sides)
    np.testing.assert_allclose(mean, 127.5, atol=0.5)


def test_extraction_leaves_opencvs_and_pytorchs_threads_as_they_were(tmp_path, monkeypatch):
    import cv2

    class Failing(Stub):
        def extract(self, pixels: np.ndarray) -> np.ndarray:
            assert torch.get_num_threads() == 1
            raise RuntimeError("out of power")

    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(3)
    torch.set_num_threads(2)
    digests, view = fill(tmp_path, range(9)), parse_view("rotate(5)")
    try:
        use(monkeypatch, Failing(2))
        with pytest.raises(RuntimeError, match="out of power"):
            fill_bank(making(tmp_path, 2), digests, view)
        assert (cv2.getNumThreads(), torch.get_num_threads()) == (3, 2)
        use(monkeypatch, Stub(2))
        fill_bank(making(tmp_path, 2), digests, view)
        assert (cv2.getNumThreads(), torch.get_num_threads()) == (3, 2)
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


@contextlib.contextmanager
def started(home: Path, digests: np.ndarray, gate: Path, side: int) -> Iterator[subprocess.Popen[str]]:
    np.save(home / "digests.npy", digests)
    command = [sys.executable, "-c", EXTRACTOR, str(home), str(home / "digests.npy"), str(side), str(gate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], line: str) -> list[str]:
    heard = []
    while not heard or heard[-1] != line:
        heard.append(process.stdout.readline().strip())
        assert heard[-1], f"the process ended after {heard}"
    return heard


def read_bank(home: Path, side: int) -> FeatureBank:
    return Making(home, info(side), ImageOptions(side), "cpu", 4).bank(IDENTITY)


def test_a_killed_run_loses_at_most_a_cell_and_ends_equal_though_two_runs_finish_it(tmp_path):
    side, gate = 32, tmp_path / "gate"
    killed_home, whole_home = tmp_path / "killed", tmp_path / "whole"
    for home in (killed_home, whole_home):
        home.mkdir()
        digests = fill(home, range(60), ImageOptions(side))
    bank = read_bank(killed_home, side)
    with contextlib.ExitStack() as stack:
        killed, *others = (stack.enter_context(started(killed_home, digests, gate, side)) for _ in range(3))
        for process in others:
            wait_for(process, "ready")
            process.send_signal(signal.SIGSTOP)
        wait_for(killed, "ready")
        gate.touch()
        wait_for(killed, "36")
        killed.send_signal(signal.SIGKILL)
        told = [36, *(int(line) for line in killed.stdout.read().split())]
        killed.wait()
        left = int(bank.shards.missing(digests).sum())
        assert 0 < left <= 60 - told[-1] + 8

        for process in others:
            process.send_signal(signal.SIGCONT)
        heard = [process.communicate(timeout=60)[0].split() for process in others]
        # another process too: this one may have been told to use other numbers of threads, which round differently
        uninterrupted = stack.enter_context(started(whole_home, digests, gate, side))
        assert "took 60 0" in uninterrupted.communicate(timeout=60)[0]
    forwards = sorted(int(words[words.index("took") + 1]) for words in heard)
    assert forwards == [0, left], "the lock lets one of them work, and the other finds all of it"
    assert sum(words.count("build") for words in heard) == 1
    assert not bank.shards.missing(digests).any()
    whole = read_bank(whole_home, side)
    assert not whole.shards.missing(digests).any()
    np.testing.assert_array_equal(bank.read(digests), whole.read(digests))
