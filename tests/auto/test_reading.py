"""The choice of reading within a time; what is compared, and how, is tested with `pipeline.reading`."""

from types import SimpleNamespace

import numpy as np
import pytest

from inkfold.auto import reading
from inkfold.auto.reading import choose_reading_once
from inkfold.config.load import validate_recipe
from inkfold.images.preprocess import ImageOptions
from toy_prepared import prepared

PAD = ImageOptions(size_px=64, resize="pad", paper="auto")


@pytest.fixture
def clock(monkeypatch):
    """Give a clock that stands still, a backbone of 1,000 drawings per second, and note what is compared."""
    clock = SimpleNamespace(now=0.0, compared=[])

    def compare(plan, drawings, cost, progress, usable):
        progress("features", 0, 1)
        clock.compared.append(int(usable.sum()))
        about = {"reason": "reading: image.resize=pad", "compared": {"image.resize=pad": {}}, "pages": {}}
        return SimpleNamespace(image=PAD, about=about)

    monkeypatch.setattr(reading.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(reading, "measure_images_per_s", lambda *_: 1000.0)
    monkeypatch.setattr(reading, "choose_reading", compare)
    return clock


def plan_of(**image):
    recipe = validate_recipe({"data": {"root": "nowhere"}, "image": image})
    crop = ImageOptions(size_px=64, resize=image.get("resize", "crop_to_ink"), paper=image.get("paper", "auto"))
    return SimpleNamespace(recipe=recipe, extractor=SimpleNamespace(image=crop, job=lambda: None))


def drawings(n=6000):
    return prepared(np.arange(n) % 10)


def test_the_comparison_decides_and_its_reason_is_written_down(clock):
    chosen = choose_reading_once(plan_of(), drawings(), 60.0)
    assert chosen.keys == {"resize": "pad", "paper": "auto"}
    assert (chosen.step.kind, chosen.step.state, chosen.step.why) == ("reading", "done", "reading: image.resize=pad")
    assert chosen.step.recipe == {"image": chosen.keys}
    assert chosen.step.figures == {"compared": {"image.resize=pad": {}}, "pages": {}}


@pytest.mark.parametrize(("seconds", "count"), [(60.0, 4000), (4.0, 450), (1.0, 112)])
def test_a_shorter_time_compares_fewer_drawings(clock, seconds, count):
    # of the time 45 % are for features and decoding: 2 / 1000 s and 2 ms for each drawing
    assert choose_reading_once(plan_of(), drawings(), seconds).step.n == count
    assert clock.compared == [count]


def test_a_time_for_fewer_than_forty_drawings_compares_nothing(clock):
    chosen = choose_reading_once(plan_of(), drawings(), 0.3)
    assert (chosen.keys, chosen.step.state) == ({"resize": "crop_to_ink", "paper": "auto"}, "stopped")
    assert "the time allowed no comparison" in chosen.step.why
    assert clock.compared == []


def test_the_time_ends_the_comparison_and_pages_are_cropped(clock):
    def progress(stage, done, total):
        clock.now = 61.0

    def compare(plan, own, cost, report, usable):
        report("features", 0, 2)
        report("features", 1, 2)

    reading.choose_reading = compare  # undone with the fixture's
    chosen = choose_reading_once(plan_of(), drawings(), 60.0, progress)
    assert (chosen.keys["resize"], chosen.step.state, chosen.step.seconds) == ("crop_to_ink", "stopped", 61.0)


def test_what_the_caller_raises_is_raised(clock):
    def over(*_):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        choose_reading_once(plan_of(), drawings(), 60.0, over)


def test_what_the_recipe_says_is_kept_and_costs_nothing(clock):
    chosen = choose_reading_once(plan_of(resize="squash", paper="keep"), drawings(), 60.0)
    assert chosen.keys == {"resize": "squash", "paper": "keep"}
    assert (chosen.step.state, clock.compared) == ("skipped", [])


def test_few_drawings_are_all_compared(clock):
    assert choose_reading_once(plan_of(), drawings(30), 60.0).step.n == 30
    assert clock.compared == [30]
