"""The choice of how pages are read, on drawings whose right choice is known by how they are made."""

import json
import shutil
import zlib

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from inkfold.config.load import validate_recipe
from inkfold.data.dataset import read_dataset
from inkfold.pipeline import reading
from inkfold.pipeline.build import build_plan, data_options
from inkfold.pipeline.comparison import Comparison
from inkfold.pipeline.prepare import Needed, decode, read_files
from inkfold.pipeline.run import Run
from inkfold.pipeline.train import train
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import silent
from inkfold.storage.sealed import read_sealed, write_sealed
from toy import RECIPE, toy_recipe

SIDE = 96
AUTO = RECIPE.replace("{size: 32, resize: pad, paper: keep}", "{}").replace(
    "name: test_resnet, weights: untrained", "name: ink-small"
)


def shape_of(class_name, rng, radius, side=SIDE, ink=0):
    """A circle or a square of some radius anywhere on the page."""
    page = np.full((side, side), 255, np.uint8)
    low, high = radius + 4, side - radius - 4
    x, y = (int(rng.integers(low, max(low + 1, high))) for _ in range(2))
    if class_name == "square":
        cv2.rectangle(page, (x - radius, y - radius), (x + radius, y + radius), ink, 2)
    else:
        cv2.circle(page, (x, y), radius, ink, 2, cv2.LINE_AA)
    return page


def write_classes(root, draw, classes, per_class=24):
    for class_name in classes:
        (root / class_name).mkdir(parents=True)
        rng = np.random.default_rng(zlib.crc32(class_name.encode()))
        for i in range(per_class):
            Image.fromarray(draw(class_name, rng)).save(root / class_name / f"{i}.png")
    return root


def chosen(root, **image):
    """Choose the reading of a folder of drawings, with a seeded network of random weights."""
    values = yaml.safe_load(AUTO)
    recipe = validate_recipe({**values, "image": {**values["image"], **image}, "data": {"root": str(root)}})
    plan = build_plan(recipe)
    read = read_files(read_dataset(str(root), data_options(recipe)), Cost())
    prepared = decode(read, plan.extractor, recipe.data, Cost(), silent, Needed())
    return reading.choose_reading(plan, prepared, Cost(), silent)


def of_any_size(class_name, rng):
    """The class is the shape: circle or square, of the same sizes."""
    return shape_of(class_name, rng, int(rng.integers(10, 18)))


def of_its_size(class_name, rng):
    """The class is the size alone: large circles are small ones enlarged, so that none is left once they are cropped."""
    small, side = cv2.circle(np.full((80, 80), 255, np.uint8), (40, 40), 28, 0, 6, cv2.LINE_AA), 240
    drawn = cv2.resize(small, (200, 200), interpolation=cv2.INTER_CUBIC) if class_name == "large" else small
    page, (y, x) = np.full((side, side), 255, np.uint8), rng.integers(0, side - len(drawn), 2)
    page[y : y + len(drawn), x : x + len(drawn)] = drawn
    return page


def filling(class_name, rng):
    return shape_of(class_name, rng, 43)


def photographed(page, rng, light=(0.5, 1.0)):
    """Uneven light and some grain."""
    across = np.linspace(*light, page.shape[1])
    return np.clip(page * 0.95 * across + rng.normal(0, 2, page.shape), 0, 255).astype(np.uint8)


def of_its_paper(class_name, rng):
    """The class is the light alone."""
    return photographed(shape_of("circle", rng, 20), rng, (0.25, 0.5) if class_name == "dark" else (0.6, 1.0))


def in_any_light(class_name, rng):
    return photographed(shape_of(class_name, rng, 43), rng, rng.uniform(0.3, 1.0, 2))


@pytest.fixture
def compared(monkeypatch):
    """Count the ways of reading that are compared."""
    options, usual = [], Comparison.predict_right
    monkeypatch.setattr(
        Comparison,
        "predict_right",
        lambda self, extractor, *more: options.append(extractor.image) or usual(self, extractor, *more),
    )
    return options


def test_drawings_that_fill_their_pages_are_cropped_without_comparing(tmp_path, compared):
    found = chosen(write_classes(tmp_path / "data", filling, ("circle", "square")))
    assert (found.image.resize, found.image.paper) == ("crop_to_ink", "auto")
    assert found.about["pages"] == {"filled": 1.0, "photographed": 0.0}
    assert found.about["compared"] == {}
    assert not compared
    assert "100% of the drawings fill their pages" in found.about["reason"]


def test_small_drawings_are_compared_and_cropped_where_padding_is_not_better(tmp_path, compared):
    found = chosen(write_classes(tmp_path / "data", of_any_size, ("circle", "square")))
    assert [options.resize for options in compared] == ["crop_to_ink", "pad"]
    row = found.about["compared"]["image.resize=pad"]
    assert row["n"] == 48
    assert found.image.resize == "crop_to_ink"
    assert row["difference"] == pytest.approx(row["accuracy"] - row["usual_accuracy"], abs=1e-5)
    assert not (row["distinguishable"] and row["difference"] > 0)


def test_pages_are_padded_where_the_size_is_the_class(tmp_path):
    found = chosen(write_classes(tmp_path / "data", of_its_size, ("large", "small")))
    assert found.image.resize == found.about["resize"] == "pad"
    row = found.about["compared"]["image.resize=pad"]
    assert row["accuracy"] > 0.9
    assert row["distinguishable"]
    assert "image.resize=pad" in found.about["reason"]


def test_paper_is_kept_where_it_is_the_class(tmp_path):
    found = chosen(write_classes(tmp_path / "data", of_its_paper, ("dark", "light")), resize="pad")
    assert found.about["pages"]["photographed"] == 1.0
    assert list(found.about["compared"]) == ["image.paper=keep"]
    assert (found.image.resize, found.image.paper) == ("pad", "keep")


def test_photographed_drawings_are_compared_and_flattened_where_keeping_is_not_better(tmp_path):
    found = chosen(write_classes(tmp_path / "data", in_any_light, ("circle", "square")))
    assert set(found.about["compared"]) == {"image.resize=pad", "image.paper=keep"}
    assert found.image.paper == "auto"


@pytest.mark.parametrize("per_class", [1, 3, 19])
def test_too_few_drawings_compare_nothing(tmp_path, compared, per_class):
    found = chosen(write_classes(tmp_path / "data", of_its_size, ("large", "small"), per_class))
    assert found.image.resize == "crop_to_ink"
    assert found.about["compared"] == {}
    assert not compared


@pytest.mark.parametrize(("resize", "paper"), [("pad", "keep"), ("squash", "flatten"), ("crop_to_ink", "keep")])
def test_what_the_recipe_says_is_not_compared(tmp_path, compared, resize, paper):
    found = chosen(write_classes(tmp_path / "data", of_its_size, ("large", "small")), resize=resize, paper=paper)
    assert (found.image.resize, found.image.paper) == (resize, paper)
    assert not compared


@pytest.fixture(scope="module")
def padded_run(shared_directories):
    """A run whose recipe leaves the reading open, on drawings whose class is their size."""

    def make(directory):
        write_classes(directory / "data", of_its_size, ("large", "small"))
        apart = "folds.group_duplicates=false"  # circles that differ in size and place are copies of each other
        train(toy_recipe(directory, AUTO), apart, data=directory / "data", out=directory / "run")

    return shared_directories.get("run that chose to pad", make)


def test_the_choice_and_its_reason_are_recorded(padded_run):
    metrics = json.loads((padded_run / "run" / "metrics.json").read_text())
    manifest = json.loads((padded_run / "run" / "manifest.json").read_text())
    assert metrics["reading"]["resize"] == "pad"
    assert metrics["reading"]["compared"]["image.resize=pad"]["n"] == 48
    assert metrics["reading"]["reason"].startswith("reading: image.resize=pad, image.paper=auto")
    assert manifest["image"] == {"resize": "pad", "paper": "auto"}


def test_a_loaded_run_reads_pages_as_it_was_trained_to(padded_run, tmp_path):
    run = Run.load(padded_run / "run")
    [(extractor, _)] = run.extractors()
    assert (extractor.image.resize, extractor.image.paper) == ("pad", "auto")
    rng = np.random.default_rng(5)
    pages = [of_its_size(name, rng) for name in ("large", "small", "large", "small")]
    for i, page in enumerate(pages):
        Image.fromarray(page).save(tmp_path / f"{i}.png")
    assert run.predict([tmp_path / f"{i}.png" for i in range(4)]) == ["large", "small", "large", "small"]


def test_runs_from_before_there_was_a_choice_keep_their_pages(padded_run, tmp_path):
    old = shutil.copytree(padded_run / "run", tmp_path / "old")
    manifest = read_sealed(old / "manifest.json", must_be_sealed=True)
    del manifest["image"]
    write_sealed(old / "manifest.json", manifest)
    [(extractor, _)] = Run.load(old).extractors()
    assert extractor.image.paper == "keep"
