import json
import shutil

import numpy as np
import pytest
from PIL import Image

from inkfold.augment.operations import parse_operations
from inkfold.augment.views import IDENTITY, View
from inkfold.config.load import validate_recipe
from inkfold.data.synthetic import draw_sketch
from inkfold.errors import DataError, PredictionError, WeightsError
from inkfold.evaluation.predictions import Predictions
from inkfold.features.extractor import Extractor
from inkfold.pipeline.manifest import MANIFEST
from inkfold.pipeline.run import HEADS, class_digest, files_of, load_run, prediction_views, write_predictions
from inkfold.pipeline.train import train
from inkfold.storage.hashing import digest_file
from toy import CLASSES, RECIPE, break_image, read_rows, toy_data, toy_recipe


@pytest.fixture(scope="module")
def trained(frozen_run):
    """One run, never changed; its data beside it."""
    return load_run(frozen_run / "run")


@pytest.fixture
def run(trained, tmp_path):
    """A copy that a test may spoil."""
    return load_run(shutil.copytree(trained.path, tmp_path / "run"))


def test_a_loaded_run_is_the_one_that_was_trained(frozen_run, tmp_path):
    trained = train(toy_recipe(tmp_path), data=frozen_run / "data", out=tmp_path / "run")
    loaded = load_run(trained.path)
    assert (loaded.manifest, loaded.metrics, loaded.recipe) == (trained.manifest, trained.metrics, trained.recipe)
    assert loaded.classes_ == CLASSES
    assert loaded.class_targets.tolist() == [0, 1, 2]
    assert all(np.array_equal(loaded.heads[name], trained.heads[name]) for name in trained.heads)


def test_predicting_the_test_drawings_gives_what_training_gave(trained):
    files = [trained.path.parent / "data/test" / f"{i}.png" for i in range(6)]
    given = Predictions.load(trained.path / "predictions/test.parquet")
    np.testing.assert_allclose(trained.predict_proba(files), given.probs, atol=1e-6)


def pages_of(files):
    pages = []
    for file in files:
        with Image.open(file) as page:
            pages.append(page.copy())
    return pages


def test_files_directory_arrays_and_pillow_images_agree(trained, own_home):
    directory = trained.path.parent / "data/test"
    files = sorted(directory.iterdir())
    pages = pages_of(files)
    by_file = trained.predict_proba(files)
    shutil.rmtree(own_home)
    assert by_file.shape == (6, 3)
    np.testing.assert_allclose(by_file.sum(1), 1, atol=1e-6)
    for images in (
        directory,
        str(directory),
        [str(file) for file in files],
        [np.array(page) for page in pages],
        np.stack([np.array(page) for page in pages]),
        pages,
        [page.convert("RGB") for page in pages],
        [str(files[0]), np.array(pages[1]), pages[2].convert("RGB"), *files[3:]],
    ):
        np.testing.assert_allclose(trained.predict_proba(images), by_file, atol=1e-6)
    np.testing.assert_allclose(trained.predict_proba(files[3]), by_file[3:4], atol=1e-6)


@pytest.mark.parametrize("stored", ["null", "40"])
def test_files_arrays_and_pillow_images_agree_under_test_time_views_that_draw_nothing(trained, tmp_path, stored):
    settings = ("tta=[identity, hflip, 'hflip + rotate(5,5)']", f"image.stored_size={stored}")
    run = train(trained.recipe, *settings, out=tmp_path / "run")
    files = sorted((trained.path.parent / "data/test").iterdir())
    by_file, pages = run.predict_proba(files), pages_of(files)
    for images in (pages, [np.array(page) for page in pages], [pages[0].convert("RGB"), *files[1:3], *pages[3:]]):
        np.testing.assert_allclose(run.predict_proba(images), by_file, atol=1e-6)
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
    real, shown = Extractor.extract, []

    def watched(extractor, digests, cost, progress, views):
        shown.append(views)
        return real(extractor, digests, cost, progress, views)

    monkeypatch.setattr(Extractor, "extract", watched)
    run.predict_proba(trained.path.parent / "data/test")
    assert shown == [(IDENTITY, View(parse_operations("hflip")))]


def views_of(*tta, seed=3):
    return prediction_views(validate_recipe({"backbone": {"name": "x"}, "tta": list(tta), "seed": seed}))


def test_without_test_time_views_drawings_are_predicted_as_they_are():
    assert views_of() == views_of("identity") == (IDENTITY,)


def test_each_test_time_view_that_draws_has_its_own_draws_and_the_others_count_once():
    flip, turn = parse_operations("hflip"), parse_operations("rotate(5)")
    assert views_of("hflip", "identity", "hflip") == (View(flip), IDENTITY)
    assert views_of("rotate(5)", "hflip", "rotate(5)") == (View(turn, 3, 0), View(flip), View(turn, 3, 2))
    assert views_of("rotate(5)", seed=4) == (View(turn, 4, 0),)


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


def test_all_broken_drawings_are_told(trained, tmp_path):
    good = shutil.copy(trained.path.parent / "data/test/0.png", tmp_path / "good.png")
    for name in ("a.png", "b.png"):
        break_image(shutil.copy(good, tmp_path / name) and tmp_path / name)
    with pytest.raises(DataError) as caught:
        trained.predict_proba([tmp_path / "a.png", good, tmp_path / "b.png", tmp_path / "gone.png"])
    places = [problem.where for problem in caught.value.problems if problem.severity == "error"]
    assert sorted(place.rsplit("/")[-1] for place in places) == ["a.png", "b.png", "gone.png"]
    with pytest.raises(DataError, match=r"images\[1\].*a\.png"):
        trained.predict_proba([np.zeros((40, 40), np.uint8), tmp_path / "a.png"])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8)),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8), np.uint8),
        np.zeros(8, np.uint8),
        Image.new("1", (8, 8)),
    ],
)
def test_an_image_of_another_form_is_refused_by_its_place(trained, image):
    with pytest.raises(DataError, match=r"images\[1\]: got .*, expected uint8"):
        trained.predict_proba([np.zeros((8, 8), np.uint8), image])


def test_files_of_a_directory_are_named_below_it(tmp_path):
    for name in ("b.png", "a/2.jpg", "a/10.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    names, files = files_of(tmp_path)
    assert sorted(names) == ["a/10.png", "a/2.jpg", "b.png"]
    assert files == [str(tmp_path / name) for name in names]
    assert files_of(tmp_path / "b.png") == (["b.png"], [str(tmp_path / "b.png")])


def test_a_place_without_drawings_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for place in ("empty", "gone"):
        with pytest.raises(DataError, match=place):
            files_of(tmp_path / place)


def test_predictions_are_written_as_a_table(trained, tmp_path):
    probs = np.array([[0.25, 0.5, 0.25], [1, 0, 0]], np.float32)
    write_predictions(tmp_path / "p.csv", ["a,b.png", "그림.png"], probs, trained)
    assert (tmp_path / "p.csv").read_bytes().decode() == (
        'image_path,class_name,target,probability\n"a,b.png",fish,1,0.500000\n그림.png,apple,0,1.000000\n'
    )
    assert len(read_rows(tmp_path / "p.csv")) == 3


def test_every_changed_or_missing_file_is_told(run):
    (run.path / "metrics.json").write_text("{}")
    (run.path / "submission.csv").unlink()
    heads = bytearray((run.path / HEADS).read_bytes())
    heads[-1] ^= 1
    (run.path / HEADS).write_bytes(heads)
    with pytest.raises(PredictionError) as caught:
        load_run(run.path)
    assert sorted(problem.where.rsplit("/")[-1] for problem in caught.value.problems) == [
        "heads.safetensors",
        "metrics.json",
        "submission.csv",
    ]


def test_training_again_into_a_changed_run_is_refused(trained, run, monkeypatch):
    (run.path / "metrics.json").write_text("{}")
    with pytest.raises(PredictionError, match=r"metrics\.json"):
        train(run.recipe, out=run.path)


def rewrite(run, **changes):
    manifest = {**json.loads((run.path / MANIFEST).read_text()), **changes}
    manifest["files"] = {name: digest_file(run.path / name) for name in manifest["files"]}
    (run.path / MANIFEST).write_text(json.dumps(manifest))


def test_heads_of_another_class_order_are_refused(run):
    rewrite(run, class_names=["fish", "apple", "house"])
    with pytest.raises(PredictionError, match="another class order"):
        load_run(run.path)


def test_class_names_that_join_to_the_same_text_are_told_apart():
    assert len({class_digest(names) for names in (["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"])}) == 4


def test_heads_that_are_none_are_refused(run):
    (run.path / HEADS).write_bytes(b"no heads")
    rewrite(run)
    with pytest.raises(PredictionError, match="not fitted heads"):
        load_run(run.path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}', '"text"'])
def test_a_manifest_that_is_none_is_refused(run, content):
    (run.path / MANIFEST).write_text(content)
    with pytest.raises(PredictionError, match="not a manifest"):
        load_run(run.path)


def test_a_run_of_another_format_is_refused(run):
    rewrite(run, format=99)
    with pytest.raises(PredictionError, match="got format 99, expected 1"):
        load_run(run.path)


def test_an_unfinished_run_is_refused(run, tmp_path):
    (run.path / MANIFEST).unlink()
    for path, told in ((run.path, "no finished run"), (tmp_path / "nowhere", "no such directory")):
        with pytest.raises(PredictionError, match=told):
            load_run(path)


def test_changed_weights_are_refused(tmp_path, write_weights):
    weights = write_weights(tmp_path / "w.safetensors", "test_resnet")
    recipe = toy_recipe(tmp_path, RECIPE.replace("untrained", str(weights)))
    data = toy_data(tmp_path / "data")
    run = train(recipe, data=data, out=tmp_path / "run")
    before = run.predict_proba(data / "test")
    write_weights(weights, "test_resnet", seed=1)
    with pytest.raises(PredictionError, match="changed: weights_digest"):
        run.predict_proba(data / "test")
    weights.unlink()
    with pytest.raises(WeightsError):
        run.predict_proba(data / "test")
    write_weights(weights, "test_resnet")
    assert np.array_equal(run.predict_proba(data / "test"), before)


@pytest.mark.parametrize("name", ["../elsewhere.json", "/etc/hostname", "predictions/../../elsewhere.json"])
def test_a_manifest_that_names_files_outside_of_its_run_is_refused(run, tmp_path, name):
    (run.path.parent / "elsewhere.json").write_text("{}")
    manifest = json.loads((run.path / MANIFEST).read_text())
    manifest["files"][name] = digest_file(run.path.parent / "elsewhere.json")
    (run.path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(PredictionError, match="not as it was written"):
        load_run(run.path)
