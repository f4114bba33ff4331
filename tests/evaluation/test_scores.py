import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from inkfold.errors import PredictionError, RecipeError
from inkfold.evaluation.scores import ACCURACY, Metric, build_metric, true_ranks, warn_of_order

CLASSES = 6
LABELS = list(range(CLASSES))
KAPPA = Metric("quadratic_kappa", tuple(LABELS))


def random_case(seed, n=80, dtype=np.float32, occurring=CLASSES):
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, occurring, n)
    probs = generator.dirichlet(np.full(CLASSES, 0.5), n) + 0.3 * np.eye(CLASSES)[targets]
    return (probs / probs.sum(1, keepdims=True)).astype(dtype), targets


def balanced_accuracy(probs, targets, preds):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are predicted but don't occur
        return sk.balanced_accuracy_score(targets, preds)


BY_SKLEARN = {
    "accuracy": lambda probs, targets, preds: sk.accuracy_score(targets, preds),
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": lambda probs, targets, preds: sk.f1_score(targets, preds, average="macro"),
    "top_3": lambda probs, targets, preds: sk.top_k_accuracy_score(targets, probs, k=3, labels=LABELS),
    # of one true class at full depth: the mean reciprocal rank
    "map_at_6": lambda probs, targets, preds: sk.label_ranking_average_precision_score(np.eye(CLASSES)[targets], probs),
    "log_loss": lambda probs, targets, preds: sk.log_loss(targets, probs, labels=LABELS),
    "quadratic_kappa": lambda probs, targets, preds: sk.cohen_kappa_score(targets, preds, weights="quadratic", labels=LABELS),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("occurring", [CLASSES, 3, 1])
@pytest.mark.parametrize("name", BY_SKLEARN)
def test_values_are_those_of_scikit_learn_also_where_classes_do_not_occur(name, occurring, seed):
    probs, targets = random_case(seed, occurring=occurring)
    metric = KAPPA if name == "quadratic_kappa" else Metric(name)
    preds = np.random.default_rng(seed).integers(0, CLASSES, len(targets))
    for answers in (probs.argmax(1), preds):
        given_preds = answers if name not in ("top_3", "map_at_6", "log_loss") else None
        assert metric.score(probs, targets, given_preds) == pytest.approx(BY_SKLEARN[name](probs, targets, answers), abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_of_0_and_1_are_clipped_as_by_scikit_learn(dtype):
    probs, targets = np.array([[1, 0], [1, 0], [0.5, 0.5]], dtype), np.array([0, 1, 1])
    assert Metric("log_loss").score(probs, targets) == pytest.approx(sk.log_loss(targets, probs, labels=[0, 1]), rel=1e-6)


def test_ties_prefer_the_lower_id_as_the_most_probable_class_does_and_scikit_learn_the_higher():
    probs, targets = np.full((3, 3), 1 / 3), np.array([0, 1, 2])
    assert true_ranks(probs, targets).tolist() == [0, 1, 2]
    assert Metric("top_1").score(probs, targets) == Metric("accuracy").score(probs, targets) == 1 / 3
    assert Metric("top_1").score(probs[:1], targets[:1]) == 1
    assert sk.top_k_accuracy_score([0], probs[:1], k=1, labels=[0, 1, 2]) == 0


def test_map_counts_a_rank_within_k_by_its_reciprocal():
    probs, targets = np.array([[0.5, 0.3, 0.2]] * 3), np.array([0, 1, 2])
    assert Metric("map_at_2").score(probs, targets) == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert Metric("map_at_3").score(probs, targets) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_kappa_is_of_the_order_and_not_of_the_ids():
    targets, preds = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 1, 0, 0, 2, 2])
    eye = np.eye(3)[preds]
    reordered = Metric("quadratic_kappa", (2, 0, 1))
    places = np.array([2, 0, 1])
    expected = sk.cohen_kappa_score(places[targets], places[preds], weights="quadratic")
    assert reordered.score(eye, targets) == pytest.approx(expected)
    assert reordered.score(eye, targets) != pytest.approx(Metric("quadratic_kappa", (0, 1, 2)).score(eye, targets))


def test_kappa_is_0_where_one_class_is_all_that_there_is():
    assert KAPPA.score(np.eye(CLASSES)[[2, 2]], np.array([2, 2])) == 0


@given(st.integers(0, 1000), st.sampled_from(["macro_f1", "balanced_accuracy", "log_loss", "map_at_3", "quadratic_kappa"]))
def test_a_value_follows_from_sums_over_drawings_in_any_order(seed, name):
    probs, targets = random_case(seed, n=20)
    metric = KAPPA if name == "quadratic_kappa" else Metric(name)
    order = np.random.default_rng(seed).permutation(20)
    statistics = metric.statistics(probs, targets)
    doubled = np.stack([statistics.sum(0), 2 * statistics.sum(0)])
    assert metric.score(probs[order], targets[order]) == pytest.approx(metric.score(probs, targets))
    assert metric.value(doubled) == pytest.approx([metric.score(probs, targets)] * 2)


def test_direction_is_turned_in_one_place():
    assert Metric("log_loss").signed(0.5) == -0.5
    assert ACCURACY.signed(0.5) == 0.5
    assert not Metric("log_loss").greater_is_better
    assert Metric("log_loss").worst < Metric("log_loss").signed(10)
    assert KAPPA.worst == -1


@pytest.mark.parametrize(
    ("name", "title"), [("macro_f1", "macro F1"), ("map_at_3", "MAP@3"), ("top_3", "top-3"), ("log_loss", "log loss")]
)
def test_titles(name, title):
    assert Metric(name).title == title


@pytest.mark.parametrize(
    ("names", "ranks"),
    [
        (("0", "1", "2"), (0, 1, 2)),
        (("1", "10", "2"), (0, 2, 1)),
        (("grade 2", "grade 10", "grade 1"), (1, 2, 0)),
        (("0_none", "2_bad", "1_mild"), (0, 2, 1)),
        (("1.5", "0.5", "11"), (1, 0, 2)),
        (("0-9 years", "10-19 years", "20+ years"), (0, 1, 2)),
    ],
)
def test_classes_are_ordered_by_the_number_in_their_names(names, ranks):
    assert build_metric("quadratic_kappa", names).ranks == ranks


def test_classes_without_numbers_are_ordered_by_the_datas_own_or_refused():
    names, targets = ("low", "middle", "high"), np.array([0, 1, 2])
    assert build_metric("quadratic_kappa", names, targets, numbered=True).ranks == (0, 1, 2)
    for unordered in (names, ("cat", "dog 1", "dog 2"), ("a1", "b1")):
        with pytest.raises(RecipeError, match="quadratic_kappa is for classes in an order"):
            build_metric("quadratic_kappa", unordered, targets[: len(unordered)])


def test_an_order_that_only_numbers_say_is_warned_of():
    names, targets = ("b", "c", "a"), np.array([0, 1, 2])
    [warning] = warn_of_order(build_metric("quadratic_kappa", names, targets, numbered=True), names)
    assert "in the order of their numbers in the data: b, c, a. If" in warning
    assert warn_of_order(build_metric("quadratic_kappa", ("1", "2")), ("1", "2")) == []
    assert warn_of_order(Metric("macro_f1"), names) == []


def test_a_top_k_that_every_answer_reaches_is_refused():
    with pytest.raises(RecipeError, match=r"top_5 is 1 whatever is answered, as there are 3 classes.*metric=top_2"):
        build_metric("top_5", tuple("abc"))
    assert build_metric("top_2", tuple("abc")).k == 2
    assert build_metric("map_at_5", tuple("abc")).k == 5, "ranks count within K"


def test_a_runs_metric_is_rebuilt_and_runs_without_one_have_accuracy():
    for metric in (Metric("macro_f1"), KAPPA, Metric("map_at_3"), ACCURACY):
        assert Metric.of_run(metric.as_json()) == metric
    assert ACCURACY.as_json() == {}
    for broken in ("macro", {"name": "nothing"}, {"name": 3}, {"name": "quadratic_kappa", "ranks": ["x"]}):
        with pytest.raises(PredictionError, match=r"metrics.json: metric is not one that is known"):
            Metric.of_run({"metric": broken})
