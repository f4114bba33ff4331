import pytest

from inkfold.config.load import validate_recipe
from inkfold.config.metric import METRIC_NAMES, k_of, metric_name
from inkfold.config.recipe import EnsembleRecipe, Recipe
from inkfold.errors import RecipeError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("accuracy", "accuracy"),
        (" Macro-F1 ", "macro_f1"),
        ("balanced accuracy", "balanced_accuracy"),
        ("top_k", "top_5"),
        ("top_3", "top_3"),
        ("top3", "top_3"),
        ("top_k(3)", "top_3"),
        ("map_at_k", "map_at_5"),
        ("MAP@3", "map_at_3"),
        ("map_at_k(10)", "map_at_10"),
        ("quadratic_kappa", "quadratic_kappa"),
    ],
)
def test_a_name_has_one_form(text, name):
    assert metric_name(text) == name
    assert metric_name(name) == name


@pytest.mark.parametrize("text", ["", "f1", "top", "top_", "top_k()", "top_k(-1)", "map@", "accuracy_3", "top_3x", "kappa"])
def test_another_name_is_refused_with_all_that_there_are(text):
    with pytest.raises(ValueError, match="expected one of: " + ", ".join(METRIC_NAMES)):
        metric_name(text)


@pytest.mark.parametrize("text", ["top_0", "map_at_1001", "top_k(999999999)"])
def test_a_k_out_of_range_is_refused(text):
    with pytest.raises(ValueError, match="expected a K of 1 to 1000"):
        metric_name(text)


def test_only_metrics_of_ranks_have_a_k():
    assert (k_of("top_3"), k_of("map_at_10")) == (3, 10)
    assert [k_of(name) for name in ("accuracy", "macro_f1", "log_loss")] == [None] * 3


def test_a_recipe_has_accuracy_unless_it_names_another():
    assert Recipe().metric == "accuracy"
    assert Recipe.model_validate({"metric": "map@3"}).metric == "map_at_3"
    assert EnsembleRecipe.model_validate({"metric": "top_k", "members": [{"recipe": "a"}, {"recipe": "b"}]}).metric == "top_5"


@pytest.mark.parametrize("value", ["f1", 3, ["accuracy"], None])
def test_a_recipe_with_another_value_is_refused_with_its_key(value):
    with pytest.raises(RecipeError, match="recipe: metric: got"):
        validate_recipe({"metric": value})
