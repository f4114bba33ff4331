import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from inkfold import features as features_module
from inkfold.augment import IDENTITY, parse_view, render
from inkfold.features import FeatureBank
from inkfold.fit import ImageOptions
from inkfold.shards import digest
from inkfold.store import ImageStore
from inkfold.weights import BackboneSpec, resolve_backbone

KEY = {"name": "toy", "image_size": 8, "precision": "float32"}
OPTIONS = ImageOptions(8)
EXTRACTOR = """
import sys, time
from pathlib import Path
import numpy as np
import torch
from inkfold import features
from inkfold.backbone import Backbone
from inkfold.fit import ImageOptions
from inkfold.store import ImageStore
from inkfold.weights import BackboneSpec, resolve_backbone

home, digests, side, gate = Path(sys.argv[1]), np.load(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
features.SHARD_ROWS = 8
info = resolve_backbone(BackboneSpec("test_resnet", weights="untrained", image_size=side))
bank = features.FeatureBank(home / "features", info.key(), ImageStore(home / "pixels", ImageOptions(side)))

def tell(stage, done, total):
    print(done, flush=True)
    time.sleep(0.02)  # else the reader hears of the first batch after the last one is done

def build():
    print("build", flush=True)
    return Backbone(info, torch.device("cpu"), 4)

print("ready", flush=True)
while not gate.exists():
    time.sleep(0.01)
took = bank.extract(digests, build, tell)
print("took", took.forwards, took.cached, flush=True)
"""


class Stub:
    """Counts what goes through it; a drawing's features are its mean, its first pixel and its last."""

    def __init__(self, batch_size: int = 16) -> None:
        self.batch_size = batch_size
        self.device = torch.device("cpu")
        self.builds = self.forwards = 0

    def build(self) -> "Stub":
        self.builds += 1
        return self

    def extract(self, pixels: np.ndarray) -> np.ndarray:
        assert 0 < len(pixels) <= self.batch_size
        self.forwards += len(pixels)
        grey = pixels if pixels.ndim == 3 else pixels[..., 1]
        return np.stack([grey.mean(axis=(1, 2)), grey[:, 0, 0], grey[:, -1, -1]], axis=1).astype(np.float16)


def pictures(ids, side: int = 8) -> np.ndarray:
    return np.stack([np.random.default_rng(i).integers(0, 256, (side, side), np.uint8) for i in ids])


def named(ids) -> np.ndarray:
    return np.array([digest(b"%d" % i) for i in ids], "S32")


def fill(home: Path, ids, options: ImageOptions = OPTIONS) -> np.ndarray:
    store = ImageStore(home / "pixels", options)
    store.grey.create()
    store.grey.append(named(ids), pictures(ids, options.size_px))
    return named(ids)


def new_bank(home: Path, key=KEY, options: ImageOptions = OPTIONS, view=IDENTITY) -> FeatureBank:
    return FeatureBank(home / "features", key, ImageStore(home / "pixels", options), view)


def expected(ids) -> np.ndarray:
    return Stub(10**6).extract(pictures(ids))


def test_100_added_drawings_cost_exactly_100_forwards(tmp_path):
    first, second, told = Stub(), Stub(), []
    fill(tmp_path, range(230))
    new_bank(tmp_path).extract(named(range(130)), first.build)
    bank = new_bank(tmp_path)
    took = bank.extract(named(range(230)), second.build, lambda stage, done, total: told.append((stage, done, total)))
    assert first.forwards == 130
    assert (second.forwards, took.forwards, took.cached) == (100, 100, 130)
    assert told[0] == ("features", 16, 100)
    assert told[-1] == ("features", 100, 100)
    np.testing.assert_array_equal(bank.read(named(range(230))), expected(range(230)))


def test_a_second_call_costs_nothing_and_builds_no_backbone(tmp_path):
    digests, stub = fill(tmp_path, range(20)), Stub()
    new_bank(tmp_path).extract(digests, stub.build)
    bank = new_bank(tmp_path)
    took = bank.extract(digests[::-1], stub.build)
    assert (took.forwards, took.cached, stub.builds, stub.forwards) == (0, 20, 1, 20)
    np.testing.assert_array_equal(bank.read(digests[::-1]), expected(range(20))[::-1])


def test_copies_of_one_drawing_cost_one_forward(tmp_path):
    digests, stub = fill(tmp_path, [1, 2]), Stub()
    bank = new_bank(tmp_path)
    asked = digests[[0, 1, 0, 0]]
    bank.extract(asked, stub.build)
    assert stub.forwards == 2
    np.testing.assert_array_equal(bank.read(asked), expected([1, 2, 1, 1]))


def test_nothing_asked_costs_nothing(tmp_path):
    stub = Stub()
    assert new_bank(tmp_path).extract(named([]), stub.build).forwards == 0
    assert stub.builds == 0


def test_coloured_and_grey_drawings_keep_their_places(tmp_path):
    fill(tmp_path, range(10))
    colour = ImageStore(tmp_path / "pixels", OPTIONS).colour
    colour.create()
    colour.append(named(range(10, 20)), np.repeat(pictures(range(10, 20))[..., None], 3, axis=-1))
    bank, ids = new_bank(tmp_path), np.random.default_rng(0).permutation(20)
    bank.extract(named(ids), Stub(3).build)
    np.testing.assert_array_equal(bank.read(named(ids)), expected(ids))


@pytest.mark.parametrize("shard_rows", [1, 7, 16, 1000])
def test_shards_of_every_size_hold_each_row_once(tmp_path, monkeypatch, shard_rows):
    monkeypatch.setattr(features_module, "SHARD_ROWS", shard_rows)
    bank, ids = new_bank(tmp_path), range(50)
    bank.extract(fill(tmp_path, ids), Stub(6).build)
    # batches of 6 fill a shard once it has at least so many rows: ceil(rows / 6) batches each, 9 batches in all
    batches = -(-shard_rows // 6)
    assert len(list(bank.shards.directory.glob("*.safetensors"))) == -(-9 // batches)
    np.testing.assert_array_equal(bank.read(named(ids)), expected(ids))


def test_a_slow_backbone_writes_smaller_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(features_module, "SHARD_SECONDS", 0.0)
    bank = new_bank(tmp_path)
    bank.extract(fill(tmp_path, range(12)), Stub(4).build)
    assert len(list(bank.shards.directory.glob("*.safetensors"))) == 3


def test_a_backbone_that_fails_loses_only_the_shard_in_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(features_module, "SHARD_ROWS", 8)

    class Failing(Stub):
        def extract(self, pixels: np.ndarray) -> np.ndarray:
            if self.forwards == 20:
                raise RuntimeError("out of power")
            return super().extract(pixels)

    digests, stub, bank = fill(tmp_path, range(40)), Stub(4), new_bank(tmp_path)
    with pytest.raises(RuntimeError, match="out of power"):
        bank.extract(digests, Failing(4).build)
    bank.extract(digests, stub.build)
    assert stub.forwards == 40 - 16
    np.testing.assert_array_equal(bank.read(digests), expected(range(40)))


def test_a_damaged_shard_costs_its_own_forwards_again(tmp_path, monkeypatch):
    monkeypatch.setattr(features_module, "SHARD_ROWS", 8)
    digests, stub = fill(tmp_path, range(32)), Stub(8)
    bank = new_bank(tmp_path)
    bank.extract(digests, Stub(8).build)
    path = next(bank.shards.directory.glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[8 + int.from_bytes(data[:8], "little")] ^= 1  # the first byte after the header belongs to the rows
    path.write_bytes(data)
    fresh = new_bank(tmp_path)
    fresh.extract(digests, stub.build)
    assert stub.forwards == 8
    np.testing.assert_array_equal(fresh.read(digests), expected(range(32)))


def test_more_features_than_fit_well_into_memory_stay_on_disk_and_leave_no_file(tmp_path, monkeypatch):
    digests, bank, ids = fill(tmp_path, range(40)), new_bank(tmp_path), np.random.default_rng(0).permutation(40)
    bank.extract(digests, Stub().build)
    before = sorted(bank.shards.directory.iterdir())
    monkeypatch.setattr(features_module, "MAPPED_FROM_BYTES", 40 * 3 * 2)
    in_memory = bank.read(named(ids))
    monkeypatch.setattr(features_module, "MAPPED_FROM_BYTES", 40 * 3 * 2 - 1)
    on_disk, others = bank.read(named(ids)), bank.read(digests)
    assert [isinstance(rows, np.memmap) for rows in (in_memory, on_disk, others)] == [False, True, True]
    assert sorted(bank.shards.directory.iterdir()) == before
    for rows, expected_rows in ((in_memory, expected(ids)), (on_disk, expected(ids)), (others, expected(range(40)))):
        assert rows.dtype == np.float16
        np.testing.assert_array_equal(rows, expected_rows)
    on_disk[:] = 0
    np.testing.assert_array_equal(bank.read(named(ids)), expected(ids))


def test_features_on_disk_outlive_their_bank(tmp_path, monkeypatch):
    monkeypatch.setattr(features_module, "MAPPED_FROM_BYTES", 0)
    digests, bank = fill(tmp_path, range(5)), new_bank(tmp_path)
    bank.extract(digests, Stub().build)
    rows = bank.read(digests)
    for path in bank.shards.directory.iterdir():
        path.unlink()
    np.testing.assert_array_equal(rows, expected(range(5)))


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_room_of_every_shape_can_be_filled(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(features_module, "MAPPED_FROM_BYTES", limit)
    bank = new_bank(tmp_path)
    bank.shards.create()
    for shape, dtype in (((3, 4), np.float16), ((7,), np.uint8), ((0, 4), np.float16)):
        room = bank.empty(shape, np.dtype(dtype))
        assert (room.shape, room.dtype) == (shape, dtype)
        room[:] = 1
        assert (room == 1).all()


def test_the_rate_is_that_of_the_last_extraction_of_many_drawings(tmp_path, monkeypatch):
    bank, digests = new_bank(tmp_path), fill(tmp_path, range(300))
    assert bank.rate() is None
    bank.extract(digests[:63], Stub().build)
    assert bank.rate() is None, "fewer than 64 say little"
    clock = iter([0.0, 1.0, 3.0, 9.0])
    with monkeypatch.context() as patch:
        patch.setattr(features_module, "time", SimpleNamespace(perf_counter=lambda: next(clock), monotonic=time.monotonic))
        took = bank.extract(digests[:163], Stub().build)
    assert (took.forwards, took.seconds) == (100, 9)
    assert bank.rate() == 50, "100 drawings from second 1 to second 3"
    bank.extract(digests[:170], Stub().build)
    assert new_bank(tmp_path).rate() == 50
    for text in ("", "[]", "{}", '{"images_per_s": null}'):
        (bank.shards.directory / "rate.json").write_text(text, encoding="utf-8")
        assert bank.rate() is None


def spec_with_weights(directory: Path, data: bytes = b"weights", **options: object) -> BackboneSpec:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "a.safetensors").write_bytes(data)
    return BackboneSpec("test_resnet", weights=str(directory / "a.safetensors"), **options)


@pytest.mark.parametrize(
    ("backbone", "image"),
    [
        ({"data": b"Weights"}, {}),
        ({"mean": (0.1, 0.2, 0.3)}, {}),
        ({"std": (0.1, 0.2, 0.3)}, {}),
        ({"precision": "bfloat16"}, {}),
        ({"model_args": {"drop_rate": 0.1}}, {}),
        ({"image_size": 64}, {}),
        ({}, {"size_px": 64}),
        ({}, {"fit": "squash"}),
        ({}, {"colour": "rgb"}),
        ({}, {"invert": "never"}),
        ({}, {"interpolation": "lanczos"}),
    ],
)
def test_whatever_changes_a_vector_changes_the_key(tmp_path, backbone, image):
    def directory(backbone, image):
        info = resolve_backbone(spec_with_weights(tmp_path / "w", **backbone), tmp_path / "descriptions")
        return new_bank(tmp_path, info.key(), ImageOptions(**{"size_px": 8} | image)).shards.directory

    assert directory(backbone, image) != directory({}, {})
    assert directory({}, {}) == directory({}, {})


def test_every_view_has_a_key_of_its_own(tmp_path):
    texts = ["identity", "hflip", "vflip", "hflip + vflip", "vflip + hflip", "hflip@0.5", "rotate(5)", "rotate(5)@0.5"]
    views = [parse_view(text) for text in texts] + [parse_view("rotate(5)", seed, index) for seed, index in ((0, 1), (1, 0))]
    assert len({new_bank(tmp_path, view=view).shards.directory for view in views}) == len(views)
    assert new_bank(tmp_path, view=views[-1]).shards.directory == new_bank(tmp_path, view=views[-1]).shards.directory
    assert (
        new_bank(tmp_path, view=parse_view("hflip", 3, 7)).shards.directory
        == new_bank(tmp_path, view=views[1]).shards.directory
    )
    assert new_bank(tmp_path).shards.directory == new_bank(tmp_path, view=views[0]).shards.directory


def test_another_resampling_is_another_key_where_pixels_are_resampled(tmp_path, monkeypatch):
    def directories():
        cases = [(OPTIONS, "identity"), (ImageOptions(16), "identity"), (OPTIONS, "rotate(5)"), (ImageOptions(16), "rotate(5)")]
        return [new_bank(tmp_path, options=options, view=parse_view(text)).shards.directory for options, text in cases]

    before = directories()
    monkeypatch.setattr("inkfold.augment.AUGMENT_VERSION", -1)
    changed = [one != other for one, other in zip(before, directories(), strict=True)]
    assert changed == [False, True, True, True]


def test_the_backbone_sees_drawings_as_the_view_has_them(tmp_path):
    ids, view = np.random.default_rng(1).permutation(20), parse_view("hflip")
    fill(tmp_path, range(10))
    colour = ImageStore(tmp_path / "pixels", OPTIONS).colour
    colour.create()
    colour.append(named(range(10, 20)), np.repeat(pictures(range(10, 20))[..., None], 3, axis=-1))
    bank, plain = new_bank(tmp_path, view=view), new_bank(tmp_path)
    for one in (bank, plain):
        one.extract(named(ids), Stub(3).build)
    np.testing.assert_array_equal(bank.read(named(ids)), Stub(20).extract(pictures(ids)[:, :, ::-1]))
    np.testing.assert_array_equal(plain.read(named(ids)), expected(ids))


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_every_drawing_has_its_own_draws_whatever_its_batch(tmp_path, batch_size):
    view, digests = parse_view("rotate(40) + noise(20)", seed=5, index=2), fill(tmp_path, range(7))
    bank = new_bank(tmp_path, view=view)
    bank.extract(digests[::-1], Stub(batch_size).build)
    alone = [render(picture, view, name, 8) for picture, name in zip(pictures(range(7)), digests.tolist(), strict=True)]
    np.testing.assert_array_equal(bank.read(digests), Stub().extract(np.stack(alone)))


def halves(side: int) -> np.ndarray:
    """Dark on the left, light on the right, in several greys."""
    return np.stack([np.repeat([[dark, 255 - dark]], side // 2, 1).repeat(side, 0) for dark in (0, 20, 90)]).astype(np.uint8)


@pytest.mark.parametrize(("stored", "text"), [(16, "identity"), (16, "hflip"), (12, "identity"), (8, "identity")])
def test_larger_pixels_are_shown_at_the_backbones_size(tmp_path, stored, text):
    store = ImageStore(tmp_path / "pixels", ImageOptions(stored))
    store.grey.create()
    store.grey.append(named(range(3)), halves(stored))
    seen = []

    class Watching(Stub):
        def extract(self, pixels: np.ndarray) -> np.ndarray:
            seen.append(pixels)
            return super().extract(pixels)

    bank = new_bank(tmp_path, options=ImageOptions(stored), view=parse_view(text))
    bank.extract(named(range(3)), Watching(3).build)
    assert [pixels.shape for pixels in seen] == [(3, 8, 8)]
    mean, first, last = bank.read(named(range(3))).astype(float).T
    sides = [[0, 20, 90], [255, 235, 165]]
    assert [first.tolist(), last.tolist()] == (sides[::-1] if text == "hflip" else sides)
    np.testing.assert_allclose(mean, 127.5, atol=0.5)


def test_rendering_leaves_opencvs_threads_as_they_were(tmp_path):
    import cv2

    class Failing(Stub):
        def extract(self, pixels: np.ndarray) -> np.ndarray:
            raise RuntimeError("out of power")

    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        bank = new_bank(tmp_path, view=parse_view("rotate(5)"))
        with pytest.raises(RuntimeError, match="out of power"):
            bank.extract(fill(tmp_path, range(9)), Failing(2).build)
        assert cv2.getNumThreads() == 3
        bank.extract(named(range(9)), Stub(2).build)
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_a_moved_weights_file_keeps_the_features(tmp_path):
    infos = [resolve_backbone(spec_with_weights(tmp_path / name)) for name in "ab"]
    first, second = (new_bank(tmp_path, info.key()).shards.directory for info in infos)
    assert first == second


def test_a_model_s_name_with_a_slash_is_one_directory(tmp_path):
    bank = new_bank(tmp_path, {**KEY, "name": "hf-hub:ink/model" + "x" * 300})
    bank.shards.create()
    assert bank.shards.directory.parent == tmp_path / "features"


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
    info = resolve_backbone(BackboneSpec("test_resnet", weights="untrained", image_size=side))
    return new_bank(home, info.key(), ImageOptions(side))


def test_a_killed_run_loses_at_most_a_shard_and_ends_equal_though_two_runs_finish_it(tmp_path):
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


def test_extraction_tells_the_time_it_took(tmp_path):
    class Slow(Stub):
        def extract(self, pixels: np.ndarray) -> np.ndarray:
            time.sleep(0.05)
            return super().extract(pixels)

    assert new_bank(tmp_path).extract(fill(tmp_path, range(3)), Slow().build).seconds >= 0.05
