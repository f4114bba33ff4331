import pytest

from inkfold.config import dump_recipe, load_recipe, shipped_recipes


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_shipped_recipe_parses(name):
    recipe = load_recipe(name)
    assert recipe.backbone.name
    assert recipe.data.root is None, "the data are the user's to name"


@pytest.mark.parametrize(("name", "path"), sorted(shipped_recipes().items()))
def test_a_shipped_recipe_begins_with_what_it_is_and_the_command_that_runs_it(name, path):
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith("# ")
    assert first.endswith(".")
    command = second.removeprefix("# ").split()
    expected = {f"inkfold train {name}", f"inkfold train recipes/{name}.yaml"} if name != "demo" else {"inkfold demo"}
    assert " ".join(command[:3]) in expected


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_shipped_recipe_survives_being_written_out_in_full(name, tmp_path):
    path = tmp_path / "dumped.yaml"
    path.write_text(dump_recipe(load_recipe(name)), encoding="utf-8")
    assert load_recipe(path) == load_recipe(name)
