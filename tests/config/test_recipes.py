import pytest

from inkfold.config.load import (
    dump_recipe,
    load_raw,
    load_recipe,
    shipped_recipes,
    validate_auto,
    validate_ensemble,
    validate_recipe,
    with_values,
)

ENSEMBLES = [name for name in sorted(shipped_recipes()) if "members" in load_raw(name)]
SEARCHES = [name for name in sorted(shipped_recipes()) if "auto" in load_raw(name)]
SINGLES = [name for name in sorted(shipped_recipes()) if name not in ENSEMBLES + SEARCHES]


def test_there_are_ensembles_for_a_gpu_and_for_a_processor():
    assert {*ENSEMBLES} == {"winner", "cpu-ensemble"}


@pytest.mark.parametrize("name", ENSEMBLES)
def test_a_shipped_ensembles_members_parse(name):
    ensemble = validate_ensemble(load_raw(name))
    assert ensemble.data.root is None
    for member in ensemble.members:
        assert validate_recipe(with_values(load_raw(member.recipe), member.set)).backbone.name


def test_the_winners_ensemble_is_the_winners():
    ensemble = validate_ensemble(load_raw("winner"))
    assert [member.recipe for member in ensemble.members] == ["eva02-large-mlp", "eva-giant-mlp", "eva02-large-curriculum-mlp"]
    assert (ensemble.folds.k, ensemble.vote.within, ensemble.vote.ties) == (5, "soft", "lowest_id")


@pytest.mark.parametrize("name", SEARCHES)
def test_a_shipped_search_parses_and_survives_being_written_out_in_full(name, tmp_path):
    path = tmp_path / "dumped.yaml"
    path.write_text(dump_recipe(validate_auto(load_raw(name))), encoding="utf-8")
    assert validate_auto(load_raw(path)) == validate_auto(load_raw(name))


@pytest.mark.parametrize("name", SINGLES)
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


@pytest.mark.parametrize("name", SINGLES)
def test_a_shipped_recipe_survives_being_written_out_in_full(name, tmp_path):
    path = tmp_path / "dumped.yaml"
    path.write_text(dump_recipe(load_recipe(name)), encoding="utf-8")
    assert load_recipe(path) == load_recipe(name)
