import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import inkfold
from inkfold.estimators.classifier import DrawingClassifier
from inkfold.evaluation.predictions import Predictions
from toy import CLASSES
from toy_settings import SETTINGS

pytestmark = pytest.mark.usefixtures("warm_home")


def classifier(**changes):
    return DrawingClassifier(SETTINGS, **{"random_state": 1, **changes})


@pytest.fixture
def fitted(stack, warm_home):
    return classifier().fit(*stack)


def test_it_predicts_the_labels_own_values_in_the_order_of_classes(fitted, stack):
    images, labels = stack
    assert fitted.classes_.tolist() == [0, 7, 14]
    probs = fitted.predict_proba(images)
    assert probs.shape == (18, 3)
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)
    answers = fitted.predict(images)
    assert np.array_equal(answers, fitted.classes_[probs.argmax(1)])
    assert fitted.score(images, labels) == (answers == labels).mean() > 0.5
    assert inkfold.DrawingClassifier is DrawingClassifier


def test_out_of_fold_probabilities_are_those_of_the_run_in_the_order_of_x(fitted, stack):
    found = Predictions.load(fitted.run_.path / "predictions/out_of_fold.parquet")
    assert fitted.out_of_fold_.shape == (18, 3)
    accuracy = (fitted.classes_[fitted.out_of_fold_.argmax(1)] == stack[1]).mean()
    assert accuracy == pytest.approx(fitted.run_.metrics["out_of_fold"]["accuracy"], abs=1e-5)
    rows = [int(path.partition(".")[0]) for path in found.image_paths.tolist()]
    columns = [found.class_names.index(str(name)) for name in fitted.classes_]
    assert np.array_equal(fitted.out_of_fold_[rows], found.probs[:, columns])


def test_fitting_twice_on_the_same_drawings_trains_once(fitted, stack):
    marker = (fitted.run_.path / "manifest.json").stat().st_mtime_ns
    again = clone(fitted).fit(*stack)
    assert again.run_.path == fitted.run_.path
    assert (again.run_.path / "manifest.json").stat().st_mtime_ns == marker
    assert np.array_equal(again.out_of_fold_, fitted.out_of_fold_)
    assert classifier(random_state=2).fit(*stack).run_.path != fitted.run_.path


@pytest.mark.parametrize("form", ["pictures", "objects", "paths", "texts", "arrays", "coloured"])
def test_every_form_of_drawings_gives_the_same_model(form, drawings, stack, warm_home):
    pages, names, files = drawings
    objects = np.empty(len(pages), object)
    objects[:] = pages
    given = {
        "pictures": pages,
        "objects": objects,
        "paths": files,
        "texts": np.array([str(file) for file in files]),
        "arrays": [np.asarray(page) for page in pages],
        "coloured": np.stack([np.asarray(page.convert("RGB")) for page in pages]),
    }[form]
    fitted = classifier().fit(given, names)
    assert fitted.classes_.tolist() == [*CLASSES]
    expected = fitted.run_.predict_proba([np.asarray(page) for page in pages])
    columns = [fitted.run_.classes_.index(name) for name in CLASSES]
    np.testing.assert_allclose(fitted.predict_proba(given), expected[:, columns], atol=2e-3)


def test_a_fitted_classifier_is_pickled_and_cloned_without_what_it_has_learnt(fitted, stack):
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(stack[0]), fitted.predict_proba(stack[0]))
    fresh = clone(fitted)
    assert not hasattr(fresh, "run_")
    assert fresh.get_params() == fitted.get_params()


def test_settings_are_parameters():
    made = DrawingClassifier("first", budget="1m", train_head__epochs=3)
    assert made.get_params()["train_head__epochs"] == 3
    assert made.set_params(train_head__epochs=4, image__size=64, recipe="auto") is made
    assert made.settings == {"train_head__epochs": 4, "image__size": 64}
    assert made.recipe == "auto"
    assert clone(made).get_params() == made.get_params()
    assert "train_head__epochs=4" in repr(made)
    with pytest.raises(ValueError, match=r"no parameter 'trian_head__lr'\. Did you mean 'train_head__lr'"):
        made.set_params(trian_head__lr=1)


def test_it_works_in_pipelines_cross_validation_and_searches(stack, warm_home):
    images, labels = stack
    pipeline = Pipeline([("invert", FunctionTransformer(lambda x: 255 - x)), ("classify", classifier())])
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    assert len(cross_val_score(pipeline, images, labels, cv=folds, error_score="raise")) == 2
    search = GridSearchCV(classifier(), {"train_head__epochs": [1, 5], "folds__k": [2]}, cv=folds).fit(images, labels)
    assert search.best_params_["train_head__epochs"] in (1, 5)
    assert search.best_estimator_.run_.recipe.folds.k == 2
    groups = np.arange(18) // 2
    assert len(cross_val_score(classifier(), images, labels, groups=groups, cv=GroupKFold(2))) == 2


def test_drawings_of_a_group_are_held_out_together(stack, warm_home):
    images, labels = stack
    groups = [f"person {i}" for i in range(6)] * 3
    fitted = classifier().fit(images, labels, groups=groups)
    found = Predictions.load(fitted.run_.path / "predictions/out_of_fold.parquet")
    fold_of = dict(zip(found.image_paths.tolist(), found.folds.tolist(), strict=True))
    by_row = [fold_of[path] for path in sorted(fold_of)]
    assert all(by_row[i] == by_row[i + 6] == by_row[i + 12] for i in range(6))


def test_a_drawing_that_occurs_twice_counts_twice(drawings, warm_home):
    _, names, files = drawings
    fitted = classifier().fit([*files, *files[:3]], [*names, *names[:3]])
    assert fitted.out_of_fold_.shape == (21, 3)
    np.testing.assert_allclose(fitted.out_of_fold_[:3], fitted.out_of_fold_[18:])


def test_a_seed_may_come_from_a_generator(stack, warm_home):
    states = [np.random.RandomState(3), np.random.RandomState(3)]
    made = [classifier(random_state=state, folds__k=2).fit(*stack) for state in states]
    assert made[0].run_.recipe.seed == made[1].run_.recipe.seed != 42


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x.reshape(len(x), -1), y), "Reshape your data"),
        (lambda x, y: (x, y[:-1]), "17 labels for 18 drawings"),
        (lambda x, y: (x, np.zeros_like(y)), "got one class"),
        (lambda x, y: (x, None), "requires y to be passed"),
        (lambda x, y: (x, np.linspace(0, 1, len(y))), "Unknown label type"),
        (lambda x, y: (["nowhere.png"] * len(y), y), "nowhere.png"),
        (lambda x, y: (x[0], y), "Reshape your data"),
        (lambda x, y: ([object()] * len(y), y), r"X\[0\]: got object"),
    ],
)
def test_what_can_not_be_trained_on_is_refused_as_a_value_error(change, words, stack):
    with pytest.raises(ValueError, match=words):
        classifier().fit(*change(*stack))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budget": "1m"}, "recipe without a search"),
        ({"train_head": {"epochs": 0}}, "epochs"),
        ({"nothing": 1}, "no parameter"),
    ],
)
def test_settings_that_are_none_are_refused(settings, words, stack):
    with pytest.raises(ValueError, match=words):
        classifier(**settings).fit(*stack)
