import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from forks import Process
from inkfold.augment.views import IDENTITY, View, parse_view, render
from inkfold.config.operations import parse_operations
from inkfold.data.splits import Folds
from inkfold.errors import CacheError, DataError
from inkfold.features.bank import FeatureBank
from inkfold.features.executors import InlineExecutor
from inkfold.features.extractor import DrawingFiles, Extractor, extract, read_drawing_files, refuse_broken, whole_drawings
from inkfold.features.tasks import FeatureJob
from inkfold.images.preprocess import ImageOptions
from inkfold.models.weights import BackboneSpec, resolve_backbone
from inkfold.runtime.cost import Cost
from inkfold.storage.pixels import BrokenFile, ImageStore
from toy import job_of
from toy_bank import Stub, expected, fill, fill_bank, info, named, pictures, toy_job, use
from toy_heads import head_spec, settings_of


def draw(path: Path, seed: int, *, colour: bool = False) -> str:
    pixels = np.full((40, 40, 3), 255, np.uint8)
    rows, columns = np.random.default_rng(seed).integers(40, size=(2, 80))
    pixels[rows, columns] = (210, 20, 20) if colour else (0, 0, 0)
    Image.fromarray(pixels).save(path)
    return str(path)


def sample(directory: Path, count: int = 6) -> list[str]:
    return [draw(directory / f"{i}.png", i, colour=i % 3 == 2) for i in range(count)]


@pytest.fixture
def extractor(own_home):
    info = resolve_backbone(BackboneSpec(name="test_resnet", weights="untrained", image_size=32))
    return Extractor(own_home, info, ImageOptions(size_px=32), device="cpu", batch_size=4)


def read(files, names=None) -> DrawingFiles:
    return read_drawing_files([Path(file).name for file in files] if names is None else names, files)[0]


def test_a_source_keeps_names_and_places_and_reports_what_can_not_be_read(tmp_path):
    files = [draw(tmp_path / "a.png", 1), "", str(tmp_path / "gone.png"), draw(tmp_path / "copy.png", 1)]
    source, broken = read_drawing_files(["a", "b", "c", "d"], files)
    assert source.names.tolist() == ["a", "b", "c", "d"]
    assert source.files.tolist() == files
    assert [name != b"" for name in source.digests] == [True, False, False, True]
    assert source.digests[0] == source.digests[3]
    assert [(file.index, file.kind) for file in broken] == [(2, "missing_file")]


def test_an_empty_source_is_empty():
    source, broken = read_drawing_files([], [])
    assert (len(source.digests), broken) == (0, [])
    assert whole_drawings(source, broken).tolist() == []


def test_decoding_and_extracting_give_a_row_a_drawing_and_the_cost(tmp_path, extractor):
    source, cost = read(sample(tmp_path)), Cost()
    assert extractor.decode(source, cost) == []
    features = extractor.extract(source.digests, cost).read()
    assert features.shape == (6, 96)
    assert features.dtype == np.float16
    assert (cost.decoded, cost.forwards, cost.forwards_cached) == (6, 6, 0)
    assert len({row.tobytes() for row in features}) == 6
    turned = extractor.extract(source.digests[::-1], cost).read()
    np.testing.assert_array_equal(turned, features[::-1])
    assert (cost.decoded, cost.forwards, cost.forwards_cached) == (6, 6, 6)


def test_a_later_run_does_only_what_is_new(tmp_path, extractor):
    files, first, second = sample(tmp_path), Cost(), Cost()
    source = read(files[:4])
    extractor.decode(source, first)
    extractor.extract(source.digests, first)
    source = read(files)
    extractor.decode(source, second)
    extractor.extract(source.digests, second)
    assert (second.decoded, second.forwards, second.forwards_cached) == (2, 2, 4)


def test_features_that_are_there_need_no_pixels(tmp_path, extractor, own_home):
    source = read(sample(tmp_path))
    extractor.decode(source, Cost())
    features = extractor.extract(source.digests, Cost()).read()
    for path in (own_home / "pixels").rglob("*.safetensors"):
        path.unlink()
    cost = Cost()
    assert extractor.decode(source, cost) == []
    np.testing.assert_array_equal(extractor.extract(source.digests, cost).read(), features)
    assert (cost.decoded, cost.forwards) == (0, 0)


def test_features_do_not_depend_on_the_batch_in_which_the_store_gives_a_drawing(tmp_path, extractor, own_home):
    source = read(sample(tmp_path))
    extractor.decode(source, Cost())
    together = extractor.extract(source.digests, Cost()).read()
    alone = Extractor(own_home / "other", extractor.backbone, extractor.image, "cpu", 4)
    alone.decode(source, Cost())
    rows = [alone.extract(source.digests[i : i + 1], Cost()).read()[0] for i in range(6)]
    np.testing.assert_array_equal(np.stack(rows), together)


@pytest.fixture
def joined(extractor):
    other = resolve_backbone(BackboneSpec(name="test_efficientnet", weights="untrained", image_size=48, features="layers"))
    grey = resolve_backbone(BackboneSpec(name="ink-small", weights="untrained", image_size=32))
    images = [ImageOptions(size_px=48), ImageOptions(size_px=32, colour="grey")]
    beside = [replace(extractor, backbone=info, image=image) for info, image in zip((other, grey), images, strict=True)]
    return replace(extractor, others=tuple(beside))


def test_features_of_several_backbones_stand_side_by_side_each_from_its_own_bank(tmp_path, joined):
    source, cost, views = read(sample(tmp_path)), Cost(), (IDENTITY, parse_view("hflip"))
    assert joined.decode(source, cost, views=views) == []
    features = joined.extract(source.digests, cost, views=views)
    assert (cost.forwards, cost.forwards_cached) == (6 * 2 * 3, 0)
    for view in views:
        alone = [part.extract(source.digests, cost, views=[view]).read(view) for part in joined.parts]
        np.testing.assert_array_equal(features.read(view), np.concatenate(alone, axis=1))
    assert features.blocks == (96, 256, 16, 24, 32, 48, 64, 512)
    assert cost.forwards == 6 * 2 * 3, "each backbone's features are there for a run of its own"


def test_backbones_beside_one_whose_features_are_there_cost_their_own_forwards_only(tmp_path, extractor, joined):
    source, cost = read(sample(tmp_path)), Cost()
    extractor.decode(source, Cost())
    extractor.extract(source.digests, Cost())
    assert joined.lacking(source.digests).all()
    joined.decode(source, cost)
    joined.extract(source.digests, cost)
    assert (cost.forwards, cost.forwards_cached) == (12, 6)
    assert not joined.lacking(source.digests).any()


def test_all_backbones_read_pages_alike(joined):
    kept = joined.read_as(ImageOptions(size_px=32, resize="squash", paper="flatten"))
    assert [(part.image.resize, part.image.paper) for part in kept.parts] == [("squash", "flatten")] * 3
    assert [part.image.size_px for part in kept.parts] == [32, 48, 32]
    assert kept.parts[2].image.colour == "grey"


def own_rows(extractor, home, source, view):
    """The features of one view, extracted by itself in a home of its own."""
    alone = Extractor(home, extractor.backbone, extractor.image, "cpu", 4)
    assert alone.decode(source, Cost(), views=[view]) == []
    return alone.extract(source.digests, Cost(), views=[view]).read(view)


def settled_views(view, source):
    return [view.settled(drawing) for drawing in source.digests.tolist()]


FLIP_OR_NOT = [View(parse_operations("hflip@0.5"), seed=1, index=index) for index in range(24)]


def test_flipping_half_of_the_drawings_costs_at_most_two_forwards_a_drawing_however_often_it_is_drawn(tmp_path, extractor):
    source, cost, reports = read(sample(tmp_path, 8)), Cost(), []
    different = sum(len(set(views)) for views in zip(*(settled_views(view, source) for view in FLIP_OR_NOT), strict=True))
    extractor.decode(source, cost, views=FLIP_OR_NOT)
    extractor.extract(source.digests, cost, lambda *report: reports.append(report), FLIP_OR_NOT)
    assert cost.forwards == different == 2 * 8, "of 24 draws, each drawing was flipped in some and not in others"
    assert cost.decoded == 8
    assert [done for _, done, _ in reports] == sorted(done for _, done, _ in reports)
    assert {total for *_, total in reports} == {16}
    assert reports[-1] == ("features", 16, 16)
    again = Cost()
    extractor.extract(source.digests, again, views=[*FLIP_OR_NOT, IDENTITY, parse_view("hflip")])
    assert (again.forwards, again.forwards_cached) == (0, 16)


def test_every_drawing_has_the_row_of_its_own_settled_view(tmp_path, extractor, own_home):
    source = read(sample(tmp_path, 9))
    fixed = [parse_view(text) for text in ("identity", "hflip", "vflip", "hflip + vflip")]
    draws = (View(parse_operations("hflip@0.5 + vflip@0.5"), seed=2, index=index) for index in range(99))
    view = next(view for view in draws if set(settled_views(view, source)) == set(fixed))
    extractor.decode(source, Cost(), views=[view])
    found = extractor.extract(source.digests, Cost(), views=[IDENTITY, view]).read(view)
    alone = {one: own_rows(extractor, own_home / str(one), source, one) for one in fixed}
    expected = [alone[settled][row] for row, settled in enumerate(settled_views(view, source))]
    np.testing.assert_array_equal(found, np.stack(expected))


def test_views_are_read_in_any_order_and_the_last_one_is_kept(tmp_path, extractor, own_home):
    source = read(sample(tmp_path))
    views = [IDENTITY, FLIP_OR_NOT[0], parse_view("rotate(30)", 1, 0), parse_view("rotate(30)", 1, 1)]
    extractor.decode(source, Cost(), views=views)
    features = extractor.extract(source.digests, Cost(), views=views)
    for view in (*views, *views[::-1]):
        np.testing.assert_array_equal(features.read(view), own_rows(extractor, own_home / str(view), source, view))
        assert features.read(view) is features.read(view)


def extracted(extractor, source, views):
    assert extractor.decode(source, Cost(), views=views) == []
    return extractor.extract(source.digests, Cost(), views=views)


SEVERAL = [IDENTITY, parse_view("hflip"), parse_view("vflip"), FLIP_OR_NOT[0]]
VIEW_BYTES = 6 * 96 * 2


@pytest.mark.parametrize("held", [1, 2, 3])
def test_the_views_that_were_read_last_are_kept_as_far_as_they_fit(tmp_path, extractor, monkeypatch, held):
    monkeypatch.setattr("inkfold.features.extractor.KEPT_BYTES", held * VIEW_BYTES)
    features = extracted(extractor, read(sample(tmp_path)), SEVERAL)
    first = [features.read(view) for view in SEVERAL[:held]]
    assert all(features.read(view) is rows for view, rows in zip(SEVERAL, first, strict=False))
    features.read(SEVERAL[0])
    features.read(SEVERAL[held])  # the one that was read longest ago goes
    gone = 1 if held > 1 else 0
    for i in [i for i in range(held) if i != gone]:
        assert features.read(SEVERAL[i]) is first[i]
    again = features.read(SEVERAL[gone])
    assert again is not first[gone]
    np.testing.assert_array_equal(again, first[gone])


def test_a_view_that_is_larger_than_what_is_kept_is_kept_alone(tmp_path, extractor, monkeypatch):
    monkeypatch.setattr("inkfold.features.extractor.KEPT_BYTES", 1)
    features = extracted(extractor, read(sample(tmp_path)), SEVERAL)
    assert features.read(SEVERAL[1]) is features.read(SEVERAL[1])


def test_of_views_that_lie_on_disk_only_some_are_kept(tmp_path, extractor, monkeypatch):
    monkeypatch.setattr("inkfold.features.bank.MAPPED_FROM_BYTES", 0)
    monkeypatch.setattr("inkfold.features.extractor.KEPT_FILES", 2)
    features = extracted(extractor, read(sample(tmp_path)), SEVERAL)
    first, second = features.read(SEVERAL[0]), features.read(SEVERAL[1])
    assert isinstance(first, np.memmap)
    assert features.read(SEVERAL[0]) is first
    third = features.read(SEVERAL[2])
    assert features.read(SEVERAL[0]) is first
    assert features.read(SEVERAL[2]) is third
    assert features.read(SEVERAL[1]) is not second
    np.testing.assert_array_equal(features.read(SEVERAL[1]), second)


@pytest.mark.parametrize("kept_bytes", [1, 2 * VIEW_BYTES])
def test_threads_that_ask_at_once_get_the_views_rows_while_others_go(tmp_path, extractor, monkeypatch, kept_bytes):
    monkeypatch.setattr("inkfold.features.extractor.KEPT_BYTES", kept_bytes)
    features, together = extracted(extractor, read(sample(tmp_path)), SEVERAL), threading.Barrier(4)
    expected = {view: features.read(view).copy() for view in SEVERAL}

    def ask(seed):
        together.wait(120)
        order = np.random.default_rng(seed).integers(0, len(SEVERAL), 40)
        return all(np.array_equal(features.read(SEVERAL[i]), expected[SEVERAL[i]]) for i in order)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(4)))


def test_a_view_that_threads_ask_for_at_once_is_gathered_once(tmp_path, extractor, monkeypatch):
    features = extracted(extractor, read(sample(tmp_path)), SEVERAL)
    gathered, together, gather = [], threading.Barrier(4), FeatureBank.read

    def slowly(bank, digests):
        gathered.append(bank.view)
        time.sleep(0.05)  # in which the other threads come
        return gather(bank, digests)

    def ask(_):
        together.wait(120)
        return features.read(SEVERAL[1])

    monkeypatch.setattr(FeatureBank, "read", slowly)
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(ask, range(4))
    assert all(rows is first for rows in others)
    assert gathered == [SEVERAL[1]]


def test_features_that_stay_on_disk_are_the_same(tmp_path, extractor, own_home, monkeypatch):
    source = read(sample(tmp_path))
    features = extracted(extractor, source, SEVERAL)
    in_memory = [features.read(view) for view in SEVERAL]
    files = sorted(own_home.rglob("*"))
    monkeypatch.setattr("inkfold.features.bank.MAPPED_FROM_BYTES", 0)
    on_disk = extracted(extractor, source, SEVERAL)
    for view, before in zip(SEVERAL, in_memory, strict=True):
        rows = on_disk.read(view)
        assert isinstance(rows, np.memmap), "also where it is put together from several settled views"
        assert not isinstance(before, np.memmap)
        np.testing.assert_array_equal(rows, before)
    assert sorted(own_home.rglob("*")) == files


def test_heads_are_fitted_alike_on_features_that_stay_on_disk(tmp_path, extractor, monkeypatch):
    from inkfold.heads.fit import Trial, fit_trials
    from inkfold.heads.training_set import AugmentedFeatures, TrainingSet

    source, targets = read(sample(tmp_path)), np.array([0, 1, 2, 0, 1, 2])
    kinds = [head_spec(scaling="standardise"), head_spec("knn"), head_spec("class_mean")]

    def heads():
        features = extracted(extractor, source, SEVERAL)
        schooling = AugmentedFeatures(lambda epoch: features.read(SEVERAL[epoch]), [1.0] * 4)
        lessons = TrainingSet(features.read(), targets, Folds.of(np.arange(6) // 3 != np.arange(2)[:, None]), 3, 0, schooling)
        return [fitted.heads for fitted in fit_trials(lessons, [Trial(spec, settings_of(4, batch_size=2)) for spec in kinds])]

    expected = heads()
    monkeypatch.setattr("inkfold.features.bank.MAPPED_FROM_BYTES", 0)
    for one, other in zip(heads(), expected, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_another_view_has_other_features(tmp_path, extractor):
    source = read(sample(tmp_path))
    fixed = [IDENTITY, *(parse_view(text) for text in ("hflip", "rotate(20,20)", "rotate(-20,-20)", "scale(1.3,1.3)"))]
    drawn = [parse_view("rotate(20)", 0, index) for index in range(2)]
    extractor.decode(source, Cost(), views=[*fixed, *drawn])
    features = extractor.extract(source.digests, Cost(), views=[*fixed, *drawn])
    for row in range(6):
        assert len({features.read(view)[row].tobytes() for view in fixed}) == len(fixed)
    assert not np.array_equal(features.read(drawn[0]), features.read(drawn[1]))


def test_only_what_some_view_still_needs_is_decoded(tmp_path, extractor, own_home):
    source = read(sample(tmp_path))
    flipped = parse_view("hflip")
    some = next(view for view in FLIP_OR_NOT if 0 < settled_views(view, source).count(flipped) < 6)
    views = [IDENTITY, some]
    extractor.decode(source, Cost(), views=views)
    extractor.extract(source.digests, Cost(), views=views)
    for path in (own_home / "pixels").rglob("*.safetensors"):
        path.unlink()
    cost = Cost()
    assert extractor.decode(source, cost, views=views) == []
    assert extractor.extract(source.digests, cost, views=views).read(some).shape == (6, 96)
    assert (cost.decoded, cost.forwards) == (0, 0)
    there = settled_views(some, source).count(flipped)
    extractor.decode(source, cost, views=[*views, flipped])
    extractor.extract(source.digests, cost, views=[*views, flipped])
    assert (cost.decoded, cost.forwards) == (6 - there, 6 - there)


def test_copies_cost_one_forward_a_view(tmp_path, extractor):
    files, cost = sample(tmp_path, 3), Cost()
    source = read([*files, files[1], files[1]])
    views = [IDENTITY, parse_view("hflip"), parse_view("rotate(9)", 0, 4)]
    extractor.decode(source, cost, views=views)
    features = extractor.extract(source.digests, cost, views=views)
    assert (cost.decoded, cost.forwards) == (3, 9)
    for view in views:
        rows = features.read(view)
        assert rows.shape == (5, 96)
        assert rows[1].tobytes() == rows[3].tobytes() == rows[4].tobytes()


def test_larger_pixels_serve_every_view_and_make_other_features(tmp_path, extractor):
    larger = Extractor(extractor.home, extractor.backbone, ImageOptions(size_px=48), "cpu", 4)
    source, cost = read(sample(tmp_path)), Cost()
    views = [IDENTITY, parse_view("scale(1.5,1.5)")]
    larger.decode(source, cost, views=views)
    features = larger.extract(source.digests, cost, views=views)
    assert (cost.decoded, cost.forwards) == (6, 12)
    extractor.decode(source, cost)
    usual = extractor.extract(source.digests, cost).read()
    assert cost.forwards == 18, "pixels of another size are other features"
    assert not any(np.array_equal(one, other) for one, other in zip(features.read(), features.read(views[1]), strict=True))
    assert not np.array_equal(features.read(), usual)


def test_the_rate_is_that_of_drawings_as_they_are(tmp_path, extractor):
    source = read(sample(tmp_path, 64))
    extracted(extractor, source, [parse_view("hflip")])
    assert extractor.rate() is None
    extracted(extractor, source, [IDENTITY])
    assert extractor.rate() > 0


def test_broken_drawings_are_reported_by_their_place_and_not_counted_as_decoded(tmp_path, extractor):
    files = sample(tmp_path, 3)
    for name in ("broken.png", "copy.png", "third.png"):
        (tmp_path / name).write_bytes(b"no image")
    files = [str(tmp_path / "broken.png"), "", *files, str(tmp_path / "copy.png"), str(tmp_path / "third.png")]
    source, cost = read(files, list("abcdefg")), Cost()
    broken = extractor.decode(source, cost)
    assert [(file.index, file.kind) for file in broken] == [(0, "not_an_image"), (5, "not_an_image"), (6, "not_an_image")]
    assert whole_drawings(source, broken).tolist() == [False, False, True, True, True, False, False]
    assert cost.decoded == 3


def test_drawings_without_files_cost_nothing(extractor):
    source, cost = read(["", ""], ["a", "b"]), Cost()
    assert extractor.decode(source, cost) == []
    assert (cost.decoded, whole_drawings(source, []).tolist()) == (0, [False, False])


def test_all_broken_drawings_of_all_tables_are_refused_together():
    names = ["a", "b"]
    tables = [("train.csv", names, [BrokenFile(1, "truncated", "cut.")]), ("test.csv", names, [BrokenFile(0, "empty", "0.")])]
    with pytest.raises(DataError) as caught:
        refuse_broken(tables, "error")
    lines = str(caught.value).splitlines()
    assert lines[:2] == ["error: train.csv b: cut.", "error: test.csv a: 0."]
    assert lines[2].startswith("warning: data.on_broken: set it to skip")
    assert [problem.kind for problem in caught.value.problems] == ["broken_truncated", "broken_empty", "advice"]
    refuse_broken(tables, "skip")
    refuse_broken([("train.csv", names, [])], "error")


def test_the_cost_adds_up_seconds_by_stage_even_when_a_stage_fails(monkeypatch):
    clock = iter([0.0, 10.0, 12.0, 20.0, 20.5, 30.0, 31.0, 42.25])
    monkeypatch.setattr("inkfold.runtime.cost.time.perf_counter", lambda: next(clock))
    cost = Cost(started=next(clock))
    with cost.timed("decode"):
        pass
    with cost.timed("features"):
        pass
    with pytest.raises(ValueError, match="mine"), cost.timed("decode"):
        raise ValueError("mine")
    cost.forwards = 7
    assert cost.as_json() == {
        "forwards": 7,
        "forwards_cached": 0,
        "decoded": 0,
        "seconds": {"decode": 3.0, "features": 0.5, "total": 42.25},
    }


EXTRACTOR = """
import sys, time
from pathlib import Path
import numpy as np
import torch
from inkfold.features import tasks
from inkfold.augment.views import IDENTITY
from inkfold.features.extractor import extract
from inkfold.images.preprocess import ImageOptions
from inkfold.features.executors import InlineExecutor
from inkfold.models.weights import BackboneSpec, resolve_backbone

home, digests, side, gate = Path(sys.argv[1]), np.load(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
tasks.CPU_CHUNK_ROWS = 8
torch.set_num_threads(1)
info = resolve_backbone(BackboneSpec(name="test_resnet", weights="untrained", image_size=side))
job = tasks.FeatureJob(home, info, ImageOptions(size_px=side), "cpu", 4)
build = tasks.build_backbone

def report(stage, done, total):
    print(done, flush=True)
    time.sleep(0.02)  # else the reader hears of the first batch after the last one is done

def build_aloud(job):
    print("build", flush=True)
    return build(job)

tasks.build_backbone = build_aloud
print("ready", flush=True)
while not gate.exists():
    time.sleep(0.01)
extraction = extract(job, {IDENTITY: digests}, InlineExecutor(), report)
print("extraction", extraction.forwards, extraction.cached, flush=True)
"""


@pytest.fixture(autouse=True)
def one_chunk_at_once(monkeypatch):
    monkeypatch.setattr("inkfold.features.executors.count_concurrent", lambda job: 1)


def test_100_added_drawings_cost_exactly_100_forwards(tmp_path, monkeypatch):
    reports = []
    fill(tmp_path, range(230))
    first = use(monkeypatch, Stub())
    fill_bank(toy_job(tmp_path), named(range(130)))
    second = use(monkeypatch, Stub())
    extraction, bank = fill_bank(toy_job(tmp_path), named(range(230)), progress=lambda *report: reports.append(report))
    assert first.forwards == 130
    assert (second.forwards, extraction.forwards, extraction.cached) == (100, 100, 130)
    assert reports[0] == ("features", 16, 100)
    assert reports[-1] == ("features", 100, 100)
    np.testing.assert_array_equal(bank.read(named(range(230))), expected(range(230)))


def test_a_second_call_costs_nothing_and_builds_no_backbone(tmp_path, monkeypatch):
    digests, stub = fill(tmp_path, range(20)), use(monkeypatch, Stub())
    fill_bank(toy_job(tmp_path), digests)
    extraction, bank = fill_bank(toy_job(tmp_path), digests[::-1])
    assert (extraction.forwards, extraction.cached, stub.builds, stub.forwards) == (0, 20, 1, 20)
    np.testing.assert_array_equal(bank.read(digests[::-1]), expected(range(20))[::-1])


def test_copies_of_one_drawing_cost_one_forward(tmp_path, monkeypatch):
    digests, stub = fill(tmp_path, [1, 2]), use(monkeypatch, Stub())
    repeated = digests[[0, 1, 0, 0]]
    _, bank = fill_bank(toy_job(tmp_path), repeated)
    assert stub.forwards == 2
    np.testing.assert_array_equal(bank.read(repeated), expected([1, 2, 1, 1]))


def test_no_drawings_cost_nothing(tmp_path, monkeypatch):
    stub = use(monkeypatch, Stub())
    assert fill_bank(toy_job(tmp_path), named([]))[0].forwards == 0
    assert extract(toy_job(tmp_path), {}, InlineExecutor()).forwards == 0
    assert stub.builds == 0


def add_colour(home: Path, ids) -> None:
    colour = ImageStore(home / "pixels", ImageOptions(size_px=8)).colour
    colour.create()
    colour.append(named(ids), np.repeat(pictures(ids)[..., None], 3, axis=-1))


def test_coloured_and_grey_drawings_keep_their_places(tmp_path, monkeypatch):
    fill(tmp_path, range(10))
    add_colour(tmp_path, range(10, 20))
    use(monkeypatch, Stub(3))
    ids = np.random.default_rng(0).permutation(20)
    _, bank = fill_bank(toy_job(tmp_path, 3), named(ids))
    np.testing.assert_array_equal(bank.read(named(ids)), expected(ids))


@pytest.mark.parametrize("chunk_rows", [1, 7, 16, 1000])
def test_chunks_of_every_size_hold_each_row_once(tmp_path, monkeypatch, chunk_rows):
    monkeypatch.setattr("inkfold.features.tasks.CPU_CHUNK_ROWS", chunk_rows)
    use(monkeypatch, Stub(6))
    _, bank = fill_bank(toy_job(tmp_path, 6), fill(tmp_path, range(50)))
    # the nearest number of whole batches of 6: 1, 1, 3 and 167 of them, of 9 in all
    assert len(list(bank.shards.directory.glob("*.safetensors"))) == {1: 9, 7: 9, 16: 3, 1000: 1}[chunk_rows]
    np.testing.assert_array_equal(bank.read(named(range(50))), expected(range(50)))


def test_a_backbone_that_fails_loses_only_the_chunk_in_hand(tmp_path, monkeypatch):
    monkeypatch.setattr("inkfold.features.tasks.CPU_CHUNK_ROWS", 8)

    class Failing(Stub):
        def extract(self, pixels: np.ndarray) -> np.ndarray:
            if self.forwards == 20:
                raise RuntimeError("out of power")
            return super().extract(pixels)

    digests = fill(tmp_path, range(40))
    use(monkeypatch, Failing(4))
    with pytest.raises(RuntimeError, match="out of power"):
        fill_bank(toy_job(tmp_path, 4), digests)
    stub = use(monkeypatch, Stub(4))
    _, bank = fill_bank(toy_job(tmp_path, 4), digests)
    assert stub.forwards == 40 - 16
    np.testing.assert_array_equal(bank.read(digests), expected(range(40)))


def test_a_damaged_shard_costs_its_own_forwards_again(tmp_path, monkeypatch):
    monkeypatch.setattr("inkfold.features.tasks.CPU_CHUNK_ROWS", 8)
    digests = fill(tmp_path, range(32))
    use(monkeypatch, Stub(8))
    _, bank = fill_bank(toy_job(tmp_path, 8), digests)
    path = next(bank.shards.directory.glob("*.safetensors"))
    whole = path.read_bytes()
    data = bytearray(whole)
    data[8 + int.from_bytes(data[:8], "little")] ^= 1  # the first byte after the header belongs to the rows
    path.write_bytes(data)
    stub = use(monkeypatch, Stub(8))
    _, fresh = fill_bank(toy_job(tmp_path, 8), digests)
    assert stub.forwards == 8
    assert path.read_bytes() == whole
    np.testing.assert_array_equal(fresh.read(digests), expected(range(32)))


def test_features_that_never_appear_end_in_an_error_that_names_their_directory(tmp_path, monkeypatch):
    digests, runs = fill(tmp_path, range(5)), []

    class Idle:
        def run(self, chunks, tracker) -> None:
            runs.append(len(chunks))

        def close(self) -> None:
            pass

    with pytest.raises(CacheError, match=r"features/test_resnet[^:]+: 5 features are still missing after 3 plans") as caught:
        extract(toy_job(tmp_path), {IDENTITY: digests}, Idle())
    assert "all must share one INKFOLD_HOME" in str(caught.value)
    assert runs == [1, 1, 1]


def test_what_one_executor_left_undone_is_planned_again(tmp_path, monkeypatch):
    monkeypatch.setattr("inkfold.features.tasks.CPU_CHUNK_ROWS", 8)
    digests, stub, plans = fill(tmp_path, range(20)), use(monkeypatch, Stub(4)), []

    class Half(InlineExecutor):
        def run(self, chunks, tracker) -> None:
            plans.append(chunks)
            super().run(chunks[:1] if len(plans) == 1 else chunks, tracker)

    extract(toy_job(tmp_path, 4), {IDENTITY: digests}, Half())
    assert plans[1] == plans[0][1:], "the same chunks, but for the one that is done"
    assert stub.forwards == 20


def test_the_backbone_sees_drawings_as_the_view_has_them(tmp_path, monkeypatch):
    ids, view = np.random.default_rng(1).permutation(20), parse_view("hflip")
    fill(tmp_path, range(10))
    add_colour(tmp_path, range(10, 20))
    use(monkeypatch, Stub(3))
    banks = extract(toy_job(tmp_path, 3), {view: named(ids), IDENTITY: named(ids)}, InlineExecutor()).banks
    np.testing.assert_array_equal(banks[view].read(named(ids)), Stub(20).extract(pictures(ids)[:, :, ::-1]))
    np.testing.assert_array_equal(banks[IDENTITY].read(named(ids)), expected(ids))


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_every_drawing_has_its_own_draws_whatever_its_batch(tmp_path, monkeypatch, batch_size):
    view, digests = parse_view("rotate(40) + noise(20)", seed=5, index=2), fill(tmp_path, range(7))
    use(monkeypatch, Stub(batch_size))
    _, bank = fill_bank(toy_job(tmp_path, batch_size), digests[::-1], view)
    alone = [render(picture, view, name, 8) for picture, name in zip(pictures(range(7)), digests.tolist(), strict=True)]
    np.testing.assert_array_equal(bank.read(digests), Stub().extract(np.stack(alone)))


def halves(side: int) -> np.ndarray:
    """Dark on the left, light on the right, in several greys."""
    return np.stack([np.repeat([[dark, 255 - dark]], side // 2, 1).repeat(side, 0) for dark in (0, 20, 90)]).astype(np.uint8)


@pytest.mark.parametrize(("stored", "text"), [(16, "identity"), (16, "hflip"), (12, "identity"), (8, "identity")])
def test_larger_pixels_are_shown_at_the_backbones_size(tmp_path, monkeypatch, stored, text):
    store = ImageStore(tmp_path / "pixels", ImageOptions(size_px=stored))
    store.grey.create()
    store.grey.append(named(range(3)), halves(stored))
    seen = []

    class Watching(Stub):
        def extract(self, pixels: np.ndarray) -> np.ndarray:
            seen.append(pixels)
            return super().extract(pixels)

    use(monkeypatch, Watching(3))
    _, bank = fill_bank(toy_job(tmp_path, 3, stored=stored), named(range(3)), parse_view(text))
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
            fill_bank(toy_job(tmp_path, 2), digests, view)
        assert (cv2.getNumThreads(), torch.get_num_threads()) == (3, 2)
        use(monkeypatch, Stub(2))
        fill_bank(toy_job(tmp_path, 2), digests, view)
        assert (cv2.getNumThreads(), torch.get_num_threads()) == (3, 2)
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def started(home: Path, gate: Path, side: int) -> Process:
    return Process(job_of(EXTRACTOR, home, home / "digests.npy", side, gate))


def wait_for(process: Process, line: str) -> list[str]:
    heard = []
    while not heard or heard[-1] != line:
        heard.append(process.stdout.readline().strip())
        assert heard[-1], f"the process ended after {heard}: {process.stderr.read()}"
    return heard


def read_bank(home: Path, side: int) -> FeatureBank:
    return FeatureJob(home, info(side), ImageOptions(size_px=side), "cpu", 4).bank(IDENTITY)


def test_a_killed_run_loses_at_most_a_chunk_and_ends_equal_though_two_runs_finish_it(tmp_path):
    side, gate = 32, tmp_path / "gate"
    killed_home, whole_home = tmp_path / "killed", tmp_path / "whole"
    for home in (killed_home, whole_home):
        home.mkdir()
        digests = fill(home, range(60), ImageOptions(size_px=side))
        np.save(home / "digests.npy", digests)
    bank = read_bank(killed_home, side)
    with contextlib.ExitStack() as stack:
        killed, *others = (stack.enter_context(started(killed_home, gate, side)) for _ in range(3))
        for process in others:
            wait_for(process, "ready")
            os.kill(process.pid, signal.SIGSTOP)
        wait_for(killed, "ready")
        gate.touch()
        wait_for(killed, "36")
        killed.kill()
        reports = [36, *(int(line) for line in killed.stdout.read().split())]
        left = int(bank.shards.missing(digests).sum())
        assert 0 < left <= 60 - reports[-1] + 8

        for process in others:
            os.kill(process.pid, signal.SIGCONT)
        heard = [process.stdout.read().split() for process in others]
        # another process too: this one may use other numbers of threads, which round differently
        uninterrupted = stack.enter_context(started(whole_home, gate, side))
        assert "extraction 60 0" in uninterrupted.stdout.read()
    forwards = sorted(int(words[words.index("extraction") + 1]) for words in heard)
    assert forwards == [0, left], "the lock lets one of them work, and the other finds all of it"
    assert sum(words.count("build") for words in heard) == 1
    assert not bank.shards.missing(digests).any()
    whole = read_bank(whole_home, side)
    assert not whole.shards.missing(digests).any()
    np.testing.assert_array_equal(bank.read(digests), whole.read(digests))
