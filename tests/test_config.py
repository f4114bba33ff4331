import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inkfold.config import (
    CosineSchedule,
    MlpHeadRecipe,
    dump_recipe,
    find_recipe,
    load_recipe,
    merge_overrides,
    shipped_recipes,
    validate_recipe,
)
from inkfold.errors import RecipeError

MINIMAL = {"backbone": {"name": "resnet18"}}


def merged(*overrides, raw=None):
    raw = {} if raw is None else raw
    merge_overrides(raw, overrides)
    return raw


def recipe(*overrides, raw=MINIMAL):
    return validate_recipe(merged(*overrides, raw=dict(raw)))


def problems(*overrides, raw=MINIMAL):
    with pytest.raises(RecipeError) as caught:
        recipe(*overrides, raw=raw)
    return [str(problem) for problem in caught.value.problems]


def test_scientific_notation_is_a_float():
    assert recipe("fit.lr=3e-4").fit.lr == 0.0003
    assert recipe("fit.lr=1E-2").fit.lr == 0.01


def test_null_takes_a_value_back():
    given_size = {**MINIMAL, "image": {"size": 64}}
    assert recipe(raw=given_size).image.size == 64
    assert recipe("image.size=null", raw=given_size).image.size is None


def test_lists_and_mappings_are_yaml():
    built = recipe("head={kind: mlp, hidden: [512, 64]}", "backbone.mean=[0.1, 0.2, 0.3]")
    assert isinstance(built.head, MlpHeadRecipe)
    assert built.head.hidden == (512, 64)
    assert built.backbone.mean == (0.1, 0.2, 0.3)
    assert recipe("head.hidden=[8]", "head.kind=mlp").head.hidden == (8,)


@pytest.mark.parametrize("turn", [1, -1])
def test_the_shorthand_for_data_keeps_its_neighbours_in_either_order(turn):
    data = recipe(*["data=some/dir", "data.on_broken=skip"][::turn]).data
    assert (data.root, data.on_broken) == ("some/dir", "skip")


@pytest.mark.parametrize("name", ["2024", "007", "on", "2024-01-01", "1_000", "a: b", "[x]", "~/x", "C:\\x", "null"])
def test_the_shorthand_takes_a_folders_name_to_the_letter(name):
    assert recipe(f"data={name}").data.root == name


def test_the_shorthand_also_works_inside_a_recipe():
    assert recipe(raw={**MINIMAL, "data": "drawings"}).data.root == "drawings"
    built = recipe("data.on_broken=skip", raw={**MINIMAL, "data": "drawings"}).data
    assert (built.root, built.on_broken) == ("drawings", "skip")


def test_the_last_override_wins():
    assert recipe("seed=1", "seed=2").seed == 2
    assert recipe("data=a", "data.root=b", "data=c").data.root == "c"
    assert recipe("fit.epochs=3", "fit={lr: 0.5}").fit.epochs == 20  # a whole section replaces what was there


def test_a_value_may_hold_an_equals_sign():
    assert recipe("data=a=b").data.root == "a=b"


def test_overrides_leave_the_mappings_that_they_were_given_alone():
    section = {"lr": 0.5}
    merged("fit.lr=0.1", raw={**MINIMAL, "fit": section})
    assert section == {"lr": 0.5}


def test_texts_that_are_no_override_are_told_together():
    with pytest.raises(RecipeError) as caught:
        merged("seed", "=3", "fit..lr=3", "head=[1", "seed=7")
    assert [problem.where for problem in caught.value.problems] == [
        "override 'seed'",
        "override '=3'",
        "override 'fit..lr=3'",
        "override 'head=[1'",
    ]
    assert all("\n" not in problem.message for problem in caught.value.problems)


def test_a_key_below_a_plain_value_is_refused():
    with pytest.raises(RecipeError, match="'seed' is 3, which has no keys below it"):
        merged("seed=3", "seed.x=4")


def test_an_unknown_key_names_the_near_one():
    assert problems("fit.epoch=3") == ["recipe: fit.epoch: no such key. Did you mean 'epochs'?"]


def test_an_unknown_key_with_nothing_near_names_all():
    [line] = problems("folds.zzz=3")
    assert line == "recipe: folds.zzz: no such key. Expected one of: split, k, group_column."


def test_unions_show_no_tag_in_paths():
    assert problems("fit.schedule={kind: step, evry: 5}", "head={kind: mlp, hiden: [5]}") == [
        "recipe: head.hiden: no such key. Did you mean 'hidden'?",
        "recipe: fit.schedule.evry: no such key. Did you mean 'every'?",
    ]
    line, *_ = problems("head={kind: mlp, hidden: [0]}")
    assert line.startswith("recipe: head.hidden.0: got 0. Input should be greater than or equal to 1")


def test_a_union_without_or_with_a_wrong_kind_says_which_there_are():
    [line] = problems("head.hidden=[512]")
    assert line == "recipe: head: got {'hidden': [512]} without a kind. Add head.kind: one of linear, mlp."
    [line] = problems("fit.schedule={kind: stepp}")
    assert line.startswith("recipe: fit.schedule: ")
    assert all(kind in line for kind in ("'step'", "'cosine'", "'constant'"))


def test_all_problems_are_told_at_once_with_dotted_paths():
    lines = problems("fit.lr=0", "folds.k=1", "image.fit=stretch", "backbone.std=[1, 0, 1]", "nonsense=1", raw={})
    places = {line.split(": ")[1] for line in lines}
    assert places == {"fit.lr", "folds.k", "image.fit", "backbone.std", "backbone.name", "nonsense"}


def test_a_missing_backbone_is_named():
    assert problems(raw={}) == ["recipe: backbone: is missing. Add it to the recipe or as key=value."]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("fit.lr=fast", "fit.lr: got 'fast'"),
        ("fit.lr=.inf", "fit.lr: got inf"),
        ("fit.lr=.nan", "fit.lr: got nan"),
        ("fit.epochs=2.5", "fit.epochs: got 2.5"),
        ("fit=3", "fit: got 3"),
        ("seed=-1", "seed: got -1"),
        ("backbone.mean=[1, 2]", "backbone.mean"),
        ("head.hidden=[]", "head"),
        ("data.on_broken=maybe", "data.on_broken: got 'maybe'"),
    ],
)
def test_a_wrong_value_is_told_with_its_place(override, told):
    assert any(told in line for line in problems(override))


SETTINGS = {
    "fit.lr": st.floats(1e-6, 1.0),
    "fit.epochs": st.integers(1, 999),
    "seed": st.integers(0, 2**32 - 1),
    "image.size": st.none() | st.integers(16, 2048),
    "data": st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).map(lambda text: f"d/{text}"),
    "head": st.just({"kind": "linear"}) | st.fixed_dictionaries({"kind": st.just("mlp"), "hidden": st.just([3, 4])}),
    "fit.schedule": st.sampled_from([{"kind": "step", "every": 3}, {"kind": "cosine"}, {"kind": "constant"}]),
    "backbone.model_args": st.dictionaries(st.text("abc", min_size=1), st.booleans() | st.integers() | st.text()),
    "backbone.mean": st.none() | st.lists(st.floats(0, 1), min_size=3, max_size=3),
    "folds.group_column": st.none() | st.sampled_from(["who", "yes", "1e3", "누구"]),
}


def as_override(key, value):
    if key == "data":
        return f"data={value}"
    return f"{key}={yaml.safe_dump(value, default_flow_style=True, allow_unicode=True).removesuffix('...' + chr(10)).strip()}"


@given(st.fixed_dictionaries({}, optional=SETTINGS))
def test_overriding_then_dumping_is_idempotent(settings):
    overrides = [as_override(key, value) for key, value in settings.items()]
    once = recipe(*overrides)
    dumped = yaml.safe_load(dump_recipe(once))
    assert recipe(*overrides, raw=dumped) == once == validate_recipe(dumped)
    for key, value in settings.items():
        if key not in ("data", "head", "fit.schedule"):
            section = once.model_dump(mode="json")
            for part in key.split("."):
                section = section[part]
            assert section == value


def test_a_dumped_recipe_loads_as_itself(tmp_path):
    built = recipe("data=그림/바다", "backbone.model_args={pad_type: same}", "fit.schedule={kind: step}", "fit.lr=1e-5")
    path = tmp_path / "dumped.yaml"
    path.write_text(dump_recipe(built), encoding="utf-8")
    assert load_recipe(path) == built
    assert "그림/바다" in path.read_text(encoding="utf-8")


def test_a_dump_holds_every_key():
    dumped = yaml.safe_load(dump_recipe(recipe()))
    assert dumped["fit"]["schedule"] == {"kind": "cosine"}
    assert dumped["image"]["size"] is None
    assert isinstance(recipe().fit.schedule, CosineSchedule)


def test_a_recipe_can_not_run_code(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text(f"seed: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'pwned'}]\n")
    with pytest.raises(RecipeError, match="not YAML"):
        load_recipe(path)
    path.write_text("backbone: !!python/object:pathlib.Path {}\n")
    with pytest.raises(RecipeError, match="not YAML"):
        load_recipe(path)
    with pytest.raises(RecipeError, match="override"):
        merged("seed=!!python/object/apply:os.getcwd []")
    assert not (tmp_path / "pwned").exists()


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "windows.yaml"
    path.write_text("backbone: {name: resnet18}\r\nseed: 3\r\n", encoding="utf-8-sig")
    assert load_recipe(path).seed == 3


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe", b"- 1\n", b"", b"seed: 2024-13-45\n"])
def test_a_file_that_is_no_recipe_is_refused_by_name(tmp_path, content):
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"odd\.yaml"):
        load_recipe(path)


def test_problems_name_the_recipe_that_they_are_in(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("backbone: {name: resnet18}\nsede: 3\n")
    with pytest.raises(RecipeError, match=r"mine\.yaml: sede: no such key. Did you mean 'seed'"):
        load_recipe(path)


def test_shipped_recipes_are_found_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("demo") == find_recipe("recipes/demo.yaml") == shipped_recipes()["demo"]


def test_a_recipe_that_is_nowhere_names_the_shipped_ones():
    with pytest.raises(RecipeError, match=r"'nowhere' is neither a file nor shipped\. .*demo"):
        find_recipe("nowhere")
    with pytest.raises(RecipeError):
        find_recipe("elsewhere/demo.yaml")
