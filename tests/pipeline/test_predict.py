import logging
import shutil
import sys
import threading
import weakref

import numpy as np
import pytest
from PIL import Image, ImageOps

from inkfold.augment.views import IDENTITY, View
from inkfold.config.operations import parse_operations
from inkfold.data.synthetic import draw_sketch
from inkfold.errors import DataError, PredictionError, WeightsError
from inkfold.features.in_memory import InMemoryExtractor
from inkfold.heads import head as head_module
from inkfold.models.backbone import Backbone
from inkfold.pipeline import predict as predict_module
from inkfold.pipeline.train import train
from toy import CLASSES, RECIPE, break_image, toy_data, toy_recipe

TEST_DRAWINGS = 6


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One run, never changed; its data beside it."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INKFOLD_HOME", str(root / "home"))
        return train(toy_recipe(root), data=toy_data(root / "data"), out=root / "run")


@pytest.fixture
def drawings(trained, tmp_path):
    """More drawings than training saw: grey, in colour, light on dark, JPEGs, copies; 40 files in a fixed order."""
    root = tmp_path / "drawings"
    root.mkdir()
    for i in range(32):
        page = Image.fromarray(draw_sketch(CLASSES[i % 3], 11, i, 48))
        kind = i % 4
        if kind == 1:
            page = ImageOps.colorize(page.convert("L"), "navy", "white")
        if kind == 2:
            page = ImageOps.invert(page.convert("L"))
        page.save(root / (f"{i:02d}.jpg" if kind == 3 else f"{i:02d}.png"))
    for i in range(8):
        shutil.copy(root / f"{i:02d}.{'jpg' if i % 4 == 3 else 'png'}", root / f"copy-{i}")
    return sorted(root.iterdir())


def pages_of(files):
    pages = []
    for file in files:
        with Image.open(file) as page:
            pages.append(page.copy())
    return pages


@pytest.fixture(scope="module")
def runs(trained):
    """Runs of every kind that predicts in its own way, never changed."""
    root = trained.path.parent
    settings = {
        "views": ("tta=[identity, hflip@0.5, 'rotate(20)']", "image.stored_size=40", "head={kind: mlp, hidden: [5]}"),
        "knn": ("head={kind: knn}", "image.resize=crop_to_ink"),
        "finetuned": ("finetune.part=last_blocks", "finetune.epochs=1"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INKFOLD_HOME", str(root / "home"))
        others = {name: train(trained.recipe, *changes, out=root / name) for name, changes in settings.items()}
    return {"linear": trained, **others}


KINDS = ("linear", "views", "knn", "finetuned")


def snapshot(directory):
    """What lies below a directory, and since when."""
    return {(path, path.stat().st_mtime_ns, path.stat().st_size) for path in directory.rglob("*")}


def test_files_directory_arrays_and_pillow_images_agree_to_the_last_bit(trained):
    directory = trained.path.parent / "data/test"
    files = sorted(directory.iterdir())
    pages = pages_of(files)
    by_file = trained.predict_proba(files)
    assert by_file.shape == (TEST_DRAWINGS, 3)
    np.testing.assert_allclose(by_file.sum(1), 1, atol=1e-6)
    for images in (
        directory,
        str(directory),
        [str(file) for file in files],
        [file.read_bytes() for file in files],
        [np.array(page) for page in pages],
        np.stack([np.array(page) for page in pages]),
        pages,
        [page.convert("RGB") for page in pages],
        [str(files[0]), np.array(pages[1]), pages[2].convert("RGB"), files[3].read_bytes(), *files[4:]],
    ):
        np.testing.assert_array_equal(trained.predict_proba(images), by_file)
    for image in (files[3], files[3].read_bytes(), [files[3]]):
        np.testing.assert_allclose(trained.predict_proba(image), by_file[3:4], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_files_bytes_the_cache_and_batches_of_any_size_give_the_same_bits(runs, drawings, own_home, monkeypatch, kind):
    run = runs[kind]
    probs = run.predict_fold_proba(drawings)
    assert np.isfinite(probs).all()
    assert len(np.unique(probs, axis=1)[0]) > len(drawings) // 2, "different drawings have different probabilities"
    monkeypatch.setattr(head_module, "CHUNK_ROWS", 24)  # heads take rows in steps that don't fit into batches
    monkeypatch.setattr(head_module, "KNN_COSINES", 300)
    probs = run.predict_fold_proba(drawings)
    for rows in (1, 16, 32):
        monkeypatch.setattr(predict_module, "BATCH_ROWS", rows)
        np.testing.assert_array_equal(run.predict_fold_proba(drawings), probs)
        np.testing.assert_array_equal(run.predict_fold_proba(drawings, cache=True), probs)
        shutil.rmtree(own_home / "features")
    np.testing.assert_array_equal(run.predict_fold_proba([file.read_bytes() for file in drawings]), probs)


@pytest.mark.parametrize("kind", KINDS)
def test_predicting_leaves_nothing_behind(runs, drawings, own_home, kind):
    shutil.copytree(runs["linear"].path.parent / "home", own_home, dirs_exist_ok=True)
    before = snapshot(own_home)
    for images in (drawings, [file.read_bytes() for file in drawings], [np.array(page) for page in pages_of(drawings)]):
        runs[kind].predict_proba(images)
    assert before
    assert snapshot(own_home) == before


OPENED: list[str] = []
WATCHED: list[str] = []


def _note_opened(event, arguments):
    if WATCHED and event == "open" and str(arguments[0]).startswith(WATCHED[0]):
        OPENED.append(str(arguments[0]))


sys.addaudithook(_note_opened)  # hooks stay for ever: this one does nothing while nothing is watched


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_file_is_opened_once(runs, drawings, monkeypatch, kind, cache):
    monkeypatch.setattr(predict_module, "BATCH_ROWS", 16)
    OPENED.clear()
    WATCHED[:] = [str(drawings[0].parent)]
    try:
        runs[kind].predict_proba(drawings, cache=cache)
    finally:
        WATCHED.clear()
    assert sorted(OPENED) == sorted(map(str, drawings))


def count_alive(monkeypatch):
    """Count the squares in memory at once; the most is in the list."""
    real, lock, alive, most = predict_module.square_of, threading.RLock(), [0], [0]

    def gone():
        with lock:
            alive[0] -= 1

    def watched(data, options):
        square = real(data, options)
        with lock:
            alive[0] += 1
            most[0] = max(most[0], alive[0])
        weakref.finalize(square, gone)
        return square

    monkeypatch.setattr(predict_module, "square_of", watched)
    return most


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_than_two_batches_are_in_memory(runs, drawings, monkeypatch, kind):
    most, images = count_alive(monkeypatch), [file.read_bytes() for file in drawings] * 5
    monkeypatch.setattr(predict_module, "BATCH_ROWS", 16)
    runs[kind].predict_proba(images)
    assert 16 <= most[0] <= 2 * 16 + 1 < len(images)


def count_forwards(monkeypatch):
    """Count the drawings that go through a backbone, and the backbones that are built."""
    forwards, builds, real = [0], [0], Backbone.extract

    def watched(self, pixels):
        forwards[0] += len(pixels)
        return real(self, pixels)

    start = Backbone.__init__

    def built(self, *arguments):
        builds[0] += 1
        start(self, *arguments)

    monkeypatch.setattr(Backbone, "extract", watched)
    monkeypatch.setattr(Backbone, "__init__", built)
    return forwards, builds


@pytest.mark.parametrize(("kind", "per_drawing"), [("linear", 1), ("finetuned", 3)])
def test_the_cache_keeps_features_if_that_is_wanted(runs, drawings, own_home, monkeypatch, kind, per_drawing):
    forwards, _ = count_forwards(monkeypatch)
    different = len({file.read_bytes() for file in drawings})
    assert different == len(drawings) - 8
    for cache, expected in ((True, different), (True, 0), (False, different)):
        forwards[0] = 0
        runs[kind].predict_proba(drawings, cache=cache)
        assert forwards[0] == per_drawing * expected
    forwards[0] = 0
    new = draw_sketch("fish", 77, 0, 48)
    runs[kind].predict_proba([*(file.read_bytes() for file in drawings[:9]), new], cache=True)
    assert forwards[0] == per_drawing
    assert sorted(path.name for path in own_home.iterdir() if path.name != "backbones") == ["features"]


def test_features_from_training_are_used_if_the_cache_is_wanted(trained, own_home, monkeypatch):
    shutil.copytree(trained.path.parent / "home", own_home)
    forwards, builds = count_forwards(monkeypatch)
    trained.predict_proba(trained.path.parent / "data/test", cache=True)
    assert (forwards, builds) == ([0], [0])


def test_a_backbone_is_built_once_unless_all_would_not_fit_into_memory(runs, drawings, monkeypatch):
    monkeypatch.setattr(predict_module, "BATCH_ROWS", 16)  # three batches
    _, builds = count_forwards(monkeypatch)
    for kind, limit, expected in (("linear", 1 << 30, 1), ("finetuned", 1 << 30, 3), ("linear", -1, 3), ("finetuned", -1, 9)):
        builds[0] = 0
        monkeypatch.setattr(predict_module, "KEPT_WEIGHTS_BYTES", limit)
        runs[kind].predict_proba(drawings)
        assert builds[0] == expected


def test_a_batch_is_whole_forwards_of_a_bounded_number_of_bytes(runs, drawings, monkeypatch, caplog):
    with caplog.at_level(logging.INFO, "inkfold.pipeline"):
        runs["linear"].predict_proba(drawings)
        monkeypatch.setattr(predict_module, "BATCH_BYTES", 41 * 3 * 32**2)
        runs["linear"].predict_proba(drawings, cache=True)
        monkeypatch.setattr(predict_module, "BATCH_BYTES", 1)
        runs["linear"].predict_proba(drawings)
    assert [record.getMessage() for record in caplog.records] == [
        "predicting 40 drawings, 4096 at a time, without the cache",
        "predicting 40 drawings, 32 at a time, with the cache",
        "predicting 40 drawings, 16 at a time, without the cache",
    ]


def test_progress_counts_forward_passes_over_all_batches_and_backbones(runs, drawings, monkeypatch):
    monkeypatch.setattr(predict_module, "BATCH_ROWS", 16)
    for kind, per_drawing in (("linear", 1), ("views", 3), ("finetuned", 3)):
        reports, total = [], per_drawing * len(drawings)
        runs[kind].predict_proba(drawings, lambda *report, reports=reports: reports.append(report))
        assert {(stage, of) for stage, _, of in reports} == {("predicting", total)}
        done = [done for _, done, _ in reports]
        assert done == sorted(set(done))
        assert done[-1] == total
    reports = []
    runs["linear"].predict_proba([b""] * 40, lambda *report: reports.append(report), "skip")
    assert reports[-1] == ("predicting", 40, 40)


@pytest.mark.parametrize("stored", ["null", "40"])
def test_files_arrays_and_pillow_images_agree_under_test_time_views_that_draw_nothing(trained, tmp_path, stored):
    settings = ("tta=[identity, hflip, 'hflip + rotate(5,5)']", f"image.stored_size={stored}")
    run = train(trained.recipe, *settings, out=tmp_path / "run")
    files = sorted((trained.path.parent / "data/test").iterdir())
    by_file, pages = run.predict_proba(files), pages_of(files)
    for images in (pages, [np.array(page) for page in pages], [pages[0].convert("RGB"), *files[1:3], *pages[3:]]):
        np.testing.assert_array_equal(run.predict_proba(images), by_file)
    assert not np.allclose(trained.predict_proba(files), by_file, atol=1e-4)


def test_a_drawings_prediction_under_drawn_views_depends_on_no_other_drawing(trained, tmp_path):
    run = train(trained.recipe, "tta=['rotate(20)', 'rotate(20) + noise(9)@0.5']", out=tmp_path / "run")
    files = sorted((trained.path.parent / "data/test").iterdir())
    for images in (files, pages_of(files)):
        together = run.predict_proba(images)
        np.testing.assert_allclose(run.predict_proba(images[::-1]), together[::-1], atol=1e-6)
        np.testing.assert_allclose(run.predict_proba(images[2:3]), together[2:3], atol=1e-6)


def test_predicting_needs_the_test_time_views_alone(trained, tmp_path, monkeypatch):
    settings = ("tta=[identity, hflip]", "curriculum=[{augment: ['rotate(9)']}]")
    run = train(trained.recipe, *settings, out=tmp_path / "run")
    real, extracted = InMemoryExtractor.extract, []

    def watched(extractor, squares, digests, views, progress):
        extracted.append(views)
        return real(extractor, squares, digests, views, progress)

    monkeypatch.setattr(InMemoryExtractor, "extract", watched)
    run.predict_proba(trained.path.parent / "data/test")
    assert extracted == [(IDENTITY, View(parse_operations("hflip")))]


def test_new_drawings_get_class_names(trained):
    pages = [draw_sketch(name, 9, 9, 64) for name in CLASSES]
    probs = trained.predict_proba(pages)
    assert trained.predict(pages) == [CLASSES[i] for i in probs.argmax(1)]


def test_no_drawings_get_no_rows(trained):
    assert trained.predict_proba([]).shape == (0, 3)


def test_the_same_drawing_twice_gets_two_equal_rows(trained):
    file = trained.path.parent / "data/test/0.png"
    probs = trained.predict_proba([file, file])
    assert np.array_equal(probs[0], probs[1])


def broken_beside(good, directory):
    """Two broken files, one of them twice, and one that is not there, with a good one among them."""
    for name in ("a.png", "b.png", "copy-of-b.png"):
        break_image(shutil.copy(good, directory / name) and directory / name)
    (directory / "a.png").write_bytes(b"")
    return [directory / "a.png", good, directory / "b.png", directory / "gone.png", directory / "copy-of-b.png"]


@pytest.mark.parametrize("rows", [1, 4096])
def test_all_broken_drawings_are_reported(trained, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(predict_module, "BATCH_ROWS", rows)
    images = broken_beside(trained.path.parent / "data/test/0.png", tmp_path) * 5
    with pytest.raises(DataError) as caught:
        trained.predict_proba(images)
    *problems, advice = caught.value.problems
    assert advice.where == "on_broken"
    assert [problem.where for problem in problems] == [f"drawing {file}" for i, file in enumerate(images) if i % 5 != 1]
    assert [problem.kind.removeprefix("broken_") for problem in problems[:3]] == ["empty", "truncated", "missing_file"]
    with pytest.raises(DataError, match=r"drawing .*a\.png: has 0 bytes"):
        trained.predict_proba([np.zeros((40, 40), np.uint8), tmp_path / "a.png"])
    with pytest.raises(DataError, match=r"drawing images\[1\]: has 0 bytes"):
        trained.predict_proba([np.zeros((40, 40), np.uint8), b""])


@pytest.mark.parametrize("rows", [1, 4096])
@pytest.mark.parametrize("kind", KINDS)
def test_broken_drawings_that_are_skipped_get_rows_of_nan(runs, tmp_path, monkeypatch, kind, rows):
    good = runs["linear"].path.parent / "data/test/0.png"
    images = [*broken_beside(good, tmp_path), b"no picture", np.array(pages_of([good])[0])]
    monkeypatch.setattr(predict_module, "BATCH_ROWS", rows)
    probs = runs[kind].predict_proba(images * 5, on_broken="skip")
    assert np.isnan(probs).all(1).tolist() == np.isnan(probs).any(1).tolist() == [i % 7 not in (1, 6) for i in range(35)]
    np.testing.assert_allclose(probs[1::7], np.repeat(runs[kind].predict_proba(good), 5, axis=0), atol=1e-6)
    assert np.isnan(runs[kind].predict_proba(images[0], on_broken="skip")).all()


def test_nothing_goes_through_the_backbone_once_a_drawing_is_broken(trained, tmp_path, monkeypatch):
    forwards, builds = count_forwards(monkeypatch)
    with pytest.raises(DataError):
        trained.predict_proba(broken_beside(trained.path.parent / "data/test/0.png", tmp_path))
    assert (forwards, builds) == ([0], [0])


@pytest.mark.parametrize(
    "image",
    [
        np.full((8, 8), 2.0),
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((0, 8), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((8, 8), complex),
    ],
)
def test_an_image_of_another_form_is_refused_by_its_place(trained, image):
    with pytest.raises(DataError, match=r"images\[1\]: got .*, expected (uint8|floats)"):
        trained.predict_proba([np.zeros((8, 8), np.uint8), image])


def test_changed_weights_are_refused(tmp_path, write_weights, monkeypatch):
    weights = write_weights(tmp_path / "w.safetensors", "test_resnet")
    recipe = toy_recipe(tmp_path, RECIPE.replace("untrained", str(weights)))
    data = toy_data(tmp_path / "data")
    run = train(recipe, data=data, out=tmp_path / "run")
    monkeypatch.setenv("INKFOLD_HOME", str(tmp_path / "fresh"))
    before = run.predict_proba(data / "test")
    assert not (tmp_path / "fresh").exists(), "not even the backbone's description is left"
    write_weights(weights, "test_resnet", seed=1)
    with pytest.raises(PredictionError, match="changed: weights_digest"):
        run.predict_proba(data / "test")
    weights.unlink()
    with pytest.raises(WeightsError):
        run.predict_proba(data / "test")
    write_weights(weights, "test_resnet")
    assert np.array_equal(run.predict_proba(data / "test"), before)


@pytest.mark.parametrize("rows", [1, 4096])
@pytest.mark.parametrize("kind", KINDS)
def test_blank_drawings_are_named_and_predicted_like_the_others(runs, tmp_path, monkeypatch, caplog, kind, rows):
    good = runs["linear"].path.parent / "data/test/0.png"
    Image.new("RGB", (48, 48), (9, 9, 9)).save(tmp_path / "dark.png")
    white = np.full((60, 60), 255, np.uint8)
    images = [good, tmp_path / "dark.png", b"no picture", white, np.array(pages_of([good])[0])]
    monkeypatch.setattr(predict_module, "BATCH_ROWS", rows)
    blank = []
    probs = runs[kind].predict_proba(images, on_broken="skip", blank=blank)
    assert blank == [1, 3]
    assert np.isnan(probs).all(1).tolist() == [False, False, True, False, False]
    assert not caplog.records or "blank" not in caplog.text
    again = runs[kind].predict_proba(images, on_broken="skip")
    np.testing.assert_array_equal(again, probs)
    assert f"2 blank drawing(s), whose answers mean nothing: {tmp_path / 'dark.png'}, images[3]" in caplog.text
