import pytest
import yaml

from inkfold.config.load import dump_recipe, load_raw, validate_ensemble
from inkfold.ensemble.recipe import read_values, settle_members
from inkfold.errors import RecipeError
from toy import RECIPE


def settled(raw, *overrides, base=None, data="drawings"):
    return settle_members(validate_ensemble(raw), read_values(overrides), base, data)


def two(*changes, **more):
    members = [{"recipe": "cpu-best", "name": name, "set": change} for name, change in zip("ab", changes, strict=True)]
    return {"members": members, **more}


def problem_lines_of(raw, *overrides, **options):
    with pytest.raises(RecipeError) as caught:
        settled(raw, *overrides, **options)
    return [str(problem) for problem in caught.value.problems] or [str(caught.value)]


def test_overrides_are_read_as_values_the_last_one_winning():
    for overrides, expected in (
        (["train_head.lr=0.5", "train_head.epochs=2"], {"train_head.lr": 0.5, "train_head.epochs": 2}),
        (["train_head.lr=1", "train_head.lr=2"], {"train_head.lr": 2}),
        (["train_head.lr=1", "train_head={epochs: 2}"], {"train_head": {"epochs": 2}}),
        (["train_head={epochs: 2}", "train_head.lr=1"], {"train_head": {"epochs": 2}, "train_head.lr": 1}),
        (["head={kind: mlp, hidden: [3]}", "tta=null"], {"head": {"kind": "mlp", "hidden": [3]}, "tta": None}),
        (["fit.lrx=1", "train_head.lr=2"], {"train_head.lrx": 1, "train_head.lr": 2}),
        ([], {}),
    ):
        assert read_values(overrides) == expected


def test_all_overrides_that_are_none_are_reported():
    with pytest.raises(RecipeError) as caught:
        read_values(["train_head.lr", "train_head.epochs=[", "fit.x=1"])
    assert len(caught.value.problems) == 2


def test_overrides_go_before_what_members_say_of_themselves():
    raw = two({"train_head.epochs": 9, "train_head.lr": 0.5}, {"train_head": {"epochs": 8, "lr": 0.25}})
    ensemble, recipes = settled(raw, "train_head.epochs=2")
    assert [(recipe.train_head.epochs, recipe.train_head.lr) for recipe in recipes] == [(2, 0.5), (2, 0.25)]
    assert [member.name for member in ensemble.members] == ["a", "b"]


def test_an_override_of_one_key_keeps_the_rest_of_its_section():
    """`backbone.name` once threw away the backbone's other keys."""
    raw = two({"backbone.batch_size": 3}, {})
    _, recipes = settled(raw, "backbone.name=resnet18", "image.size=64")
    plain = settled(raw)[1]
    assert [recipe.backbone.batch_size for recipe in recipes] == [3, plain[1].backbone.batch_size]
    assert {recipe.backbone.name for recipe in recipes} == {"resnet18"}
    assert {recipe.image.size for recipe in recipes} == {64}


def test_an_override_of_a_section_goes_before_members_keys_in_it():
    _, recipes = settled(
        two({"head": {"kind": "mlp", "hidden": [7]}, "train_head.lr": 0.5}, {}), "head={kind: cosine}", "train_head={epochs: 3}"
    )
    assert {recipe.head.kind for recipe in recipes} == {"cosine"}
    assert {(recipe.train_head.epochs, recipe.train_head.lr) for recipe in recipes} == {(3, 1e-3)}


def test_data_folds_and_seed_are_the_ensembles():
    ensemble, recipes = settled(two({}, {}, folds={"k": 3}, seed=7, data={"label_column": "word"}), data="/here")
    for recipe in recipes:
        assert (recipe.folds.k, recipe.seed, recipe.data.label_column, recipe.data.root) == (3, 7, "word", "/here")
    assert ensemble.data.root == "/here"


def test_the_datas_folder_becomes_absolute_and_must_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert settled(two({}, {}, data="here"), data=None)[0].data.root == str(tmp_path / "here")
    assert settled(two({}, {}, data="here"), data="there")[0].data.root == str(tmp_path / "there")
    assert problem_lines_of(two({}, {}), data=None) == ["data: is missing. Say where the drawings are: data=DIR."]


def test_what_all_members_share_can_not_be_set_for_one():
    for key in ("seed", "folds.k", "folds", "data.label_column", "data"):
        [line] = problem_lines_of(two({key: 3 if key in ("seed", "folds.k") else {}}, {}))
        assert line == f"members: a: {key}: is the same for all members. Set it beside `members`, not below."


def test_recipes_are_found_beside_the_ensembles_file_and_named_absolutely(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/toy.yaml").write_text(RECIPE)
    (tmp_path / "toy.yaml").write_text(RECIPE.replace("epochs: 5", "epochs: 50"))
    monkeypatch.chdir(tmp_path)
    raw = {"members": [{"recipe": "toy.yaml"}, {"recipe": "cpu-best"}]}
    ensemble, recipes = settled(raw, base=tmp_path / "sub")
    assert recipes[0].train_head.epochs == 5
    assert [member.recipe for member in ensemble.members] == [str(tmp_path / "sub/toy.yaml"), "cpu-best"]
    assert ensemble.names == ("toy", "cpu-best")
    assert settled(raw)[1][0].train_head.epochs == 50, "keys without a file start from where one is"
    up = {"members": [{"recipe": "../toy.yaml"}, {"recipe": "sub/toy.yaml", "name": "other"}]}
    assert [recipe.train_head.epochs for recipe in settled(up, base=tmp_path / "sub")[1]] == [50, 5]


def test_what_was_settled_settles_to_the_same_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "toy.yaml").write_text(RECIPE)
    raw = {
        "members": [{"recipe": "toy.yaml", "set": {"train_head.lr": 0.5}}, {"recipe": "cpu-small"}],
        "vote": {"method": "hard"},
    }
    first, recipes = settled(raw, "train_head.epochs=2", "train_head={epochs: 4}", base=tmp_path)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    again, same = settled(yaml.safe_load(dump_recipe(first)), base=tmp_path / "out", data=None)
    assert again == first
    assert same == recipes


def test_all_problems_of_all_members_are_reported_together():
    raw = two({"train_head.epoch": 3, "head": {"kind": "mpl"}}, {"seed": 1})
    raw["members"].append({"recipe": "nowhere"})
    lines = problem_lines_of(raw, "bakbone.name=x", "nonsense=1")
    assert lines[0] == "override 'bakbone.name': no such key. Did you mean 'backbone'?"
    assert lines[1].startswith(
        "override 'nonsense': no such key. Expected one of: data, folds, submission, members, vote, metric, seed, image"
    )
    assert any(line.startswith("members: a: train_head.epoch: no such key. Did you mean 'epochs'?") for line in lines)
    assert any(line.startswith("members: a: head") for line in lines)
    assert any(line.startswith("members: b: seed: is the same") for line in lines)
    assert any(line.startswith("members: nowhere: recipe 'nowhere' is neither a file nor shipped") for line in lines)
    assert len(lines) == 6


def test_a_member_must_be_of_one_model():
    [line] = problem_lines_of({"members": [{"recipe": "cpu-best"}, {"recipe": "cpu-ensemble"}]})
    assert line == "members: cpu-ensemble: is an ensemble's recipe, expected one model's. Name its members instead."


def test_names_that_make_no_directory_are_reported():
    for name in ("a/b", "../a", "..", ".", "", "a ", "a.", ".a", "a\\b", "a:b", "a\n"):
        lines = problem_lines_of(
            {"members": [{"recipe": "cpu-best", "name": name or "?"}, {"recipe": "cpu-best", "name": "b"}]}
        )
        assert lines == [f"members: {name or '?'!r}: is no name for a directory. Give it one: `name: other`."]


def test_other_names_are_taken():
    for name in ("a", "사과", "eva02-large.v1", "a b+c", "resnet50_mlp", "é"):
        assert (
            settled({"members": [{"recipe": "cpu-best", "name": name}, {"recipe": "cpu-best", "name": "b"}]})[0].names[0]
            == name
        )


def test_names_differ_in_more_than_their_case():
    lines = problem_lines_of({"members": [{"recipe": "cpu-best", "name": "A"}, {"recipe": "cpu-best", "name": "a"}]})
    assert lines == ["members: 'a': differs from another only by its case. Give it another name."]
    with pytest.raises(RecipeError, match="got the names cpu-best, cpu-best, expected different ones"):
        settled({"members": [{"recipe": "cpu-best"}, {"recipe": "cpu-best"}]})


@pytest.mark.parametrize("name", ["cpu-ensemble", "winner"])
def test_shipped_ensembles_settle(name):
    ensemble, recipes = settled(load_raw(name))
    assert len(recipes) == len(ensemble.members)
    assert len({recipe.model_dump_json() for recipe in recipes}) == len(recipes)


def test_the_submissions_form_is_the_ensembles_and_every_members():
    raw = two({}, {}, submission={"columns": "id,word", "labels": "top3"})
    ensemble, recipes = settled(raw)
    assert {recipe.submission for recipe in recipes} == {ensemble.submission}
    assert ensemble.submission.columns == ("id", "word")
    [problem] = problem_lines_of(two({"submission.labels": "name"}, {}))
    assert "is the same for all members" in problem
