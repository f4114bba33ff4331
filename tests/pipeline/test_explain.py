import numpy as np
import pytest
from PIL import Image

from inkfold.errors import PredictionError
from inkfold.explain.occlusion import effects, erased
from inkfold.pipeline.predict import options_of, predict_squares, read_squares
from inkfold.pipeline.run import Run


@pytest.fixture(scope="module")
def run(frozen_run):
    return Run.load(frozen_run / "run")


@pytest.fixture(scope="module")
def drawing(frozen_run):
    return frozen_run / "data/test/0.png"


@pytest.fixture(scope="module")
def explained(run, drawing):
    return run.explain(drawing, strokes=6)


def test_squares_are_predicted_as_their_files_are(run, frozen_run):
    files = [frozen_run / f"data/test/{i}.png" for i in range(3)]
    [option] = options_of([run])
    squares = [read_squares(file, [option], run)[0][0] for file in files]
    assert np.array_equal(run.pool_folds(predict_squares([run], {option: squares})), run.predict_proba(files))


def test_each_effect_is_what_predicting_without_the_stroke_gives(run, drawing, explained):
    probs = run.predict_proba([drawing])
    assert explained.class_name == run.classes_[probs[0].argmax()]
    assert explained.probability == pytest.approx(float(probs.max()))
    assert 2 <= len(explained.strokes) <= 6
    [option] = options_of([run])
    for one in explained.strokes:
        without = predict_squares([run], {option: [erased(explained.square, one.mask)]})[0].mean(0)
        expected = effects(np.concatenate([probs, without]), int(probs.argmax()))
        assert one.effect == pytest.approx(float(expected[0]), abs=1e-5)


def test_against_explains_the_ratio_of_two_classes(run, drawing, explained):
    first, *others = sorted(run.classes_, key=lambda name: name != explained.class_name)
    ratio = run.explain(drawing, against=others[0], strokes=6)
    own = run.explain(drawing, class_name=others[0], strokes=6)
    assert (ratio.class_name, ratio.against, own.class_name) == (first, others[0], others[0])
    for one in ratio.strokes:
        parts = [next(each.effect for each in found.strokes if each.number == one.number) for found in (explained, own)]
        assert one.effect == pytest.approx(parts[0] - parts[1], abs=1e-5)


def test_bytes_arrays_and_pictures_are_explained_as_their_file(run, drawing, explained):
    for form in (drawing.read_bytes(), Image.open(drawing).convert("L"), np.asarray(Image.open(drawing).convert("L"))):
        assert run.explain(form, strokes=6) == explained


def test_a_blank_page_rests_on_nothing(run):
    found = run.explain(np.full((40, 40), 255, np.uint8))
    assert found.strokes == ()


def test_gradients_add_up_to_the_difference_from_blank_paper(run, drawing):
    found = run.explain(drawing, method="gradients", strokes=6)
    [option] = options_of([run])
    blank = np.full_like(found.square, np.median(found.square))
    probs = predict_squares([run], {option: [found.square, blank]})[0].mean(0)
    whole = effects(probs, run.classes_.index(found.class_name))[0]
    assert found.method == "gradients"
    assert sum(one.effect for one in found.strokes) == pytest.approx(float(whole), abs=0.05 + 0.1 * abs(float(whole)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"against": "appel"}, "no class 'appel'. Did you mean 'apple'"),
        ({"class_name": "zzz"}, "The classes are apple, fish, house"),
        ({"strokes": 0}, "got 0, expected 1 to 256"),
        ({"method": "magic"}, "expected 'occlusion' or 'gradients'"),
    ],
)
def test_wrong_settings_are_refused_in_a_line(run, drawing, settings, words):
    with pytest.raises(PredictionError, match=words):
        run.explain(drawing, **settings)


def test_a_class_is_not_explained_against_itself(run, drawing, explained):
    with pytest.raises(PredictionError, match="is the class that is explained"):
        run.explain(drawing, against=explained.class_name)
