import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inkfold.config.load import dump_recipe, find_recipe, load_recipe, merge_overrides, shipped_recipes, validate_recipe
from inkfold.config.recipe import NAMED_CURRICULA, Recipe
from inkfold.config.sections import BackboneSettings, CosineSchedule, MlpHeadSettings, TrainHeadSettings
from inkfold.errors import RecipeError
from toy_operations import operations

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
    assert recipe("train_head.lr=3e-4").train_head.lr == 0.0003
    assert recipe("train_head.lr=1E-2").train_head.lr == 0.01


def test_null_takes_a_value_back():
    given_size = {**MINIMAL, "image": {"size": 64}}
    assert recipe(raw=given_size).image.size == 64
    assert recipe("image.size=null", raw=given_size).image.size is None


def test_lists_and_mappings_are_yaml():
    built = recipe("head={kind: mlp, hidden: [512, 64]}", "backbone.mean=[0.1, 0.2, 0.3]")
    assert isinstance(built.head, MlpHeadSettings)
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
    # a whole section replaces what was there
    assert recipe("train_head.epochs=3", "train_head={lr: 0.5}").train_head.epochs == 20


def test_a_value_may_hold_an_equals_sign():
    assert recipe("data=a=b").data.root == "a=b"


def test_a_regular_expression_is_no_yaml_unless_it_is_quoted():
    for text in (r"[a-z]: (?P<label>\d+)#", r"^(?P<label>[^/]+)/"):
        assert recipe(f"data.label_pattern={text}").data.label_pattern == text
        assert recipe(f"data.label_pattern='{text}'").data.label_pattern == text
        assert recipe(f"folds.group_pattern={text}").folds.group_pattern == text
    assert recipe("data.label_pattern=null").data.label_pattern is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.label_pattern=(a", "data.label_pattern: got '(a'. it is no regular expression (missing ), unterminated"),
        ("folds.group_pattern=(a", "folds.group_pattern: got '(a'. it is no regular expression (missing ), unterminated"),
        ("data.label_pattern=(a)", "it has no group named `label`"),
        ("data.label_pattern=(?P<label>a)(?P<who>b)", "it has a group named 'who'"),
        ("data.class_level=0", "data.class_level: got 0. expected 1 for the first folder"),
    ],
)
def test_a_wrong_place_of_the_label_says_what_is_wrong_with_it(override, message):
    [line] = problems(override)
    assert message in line
    assert "expected" in line


def test_the_label_has_one_place():
    [line] = problems("data.class_level=1", "data.label_pattern=(?P<label>a)")
    assert "class_level or label_pattern, not both" in line


def test_overrides_leave_the_mappings_alone():
    section = {"lr": 0.5}
    merged("train_head.lr=0.1", raw={**MINIMAL, "train_head": section})
    assert section == {"lr": 0.5}


def test_texts_that_are_no_override_are_reported_together():
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
    assert problems("train_head.epoch=3") == ["recipe: train_head.epoch: no such key. Did you mean 'epochs'?"]


def test_an_unknown_key_with_nothing_near_names_all():
    [line] = problems("folds.zzz=3")
    keys = "split, k, parts, group_column, group_pattern, group_duplicates, copy_pairs"
    assert line == f"recipe: folds.zzz: no such key. Expected one of: {keys}."


def test_unions_show_no_tag_in_paths():
    assert problems("train_head.schedule={kind: step, evry: 5}", "head={kind: mlp, hiden: [5]}") == [
        "recipe: head.hiden: no such key. Did you mean 'hidden'?",
        "recipe: train_head.schedule.evry: no such key. Did you mean 'every'?",
    ]
    line, *_ = problems("head={kind: mlp, hidden: [0]}")
    assert line.startswith("recipe: head.hidden.0: got 0. Input should be greater than or equal to 1")


def test_a_union_without_or_with_a_wrong_kind_says_which_there_are():
    [line] = problems("head.hidden=[512]")
    assert line.startswith("recipe: head: got {'hidden': [512]} without a kind.")
    assert "Add head.kind: one of linear, mlp, cosine" in line
    [line] = problems("train_head.schedule={kind: stepp}")
    assert line == "recipe: train_head.schedule.kind: got 'stepp'. Did you mean 'step'?"
    [line] = problems("head.kind=svm")
    assert line.startswith("recipe: head.kind: got 'svm'. Expected one of: linear, mlp, cosine")


def test_a_text_in_place_of_a_stage_says_which_keys_a_stage_has():
    [line] = problems("curriculum=[rotate(15)]")
    assert line == ("recipe: curriculum.0: got 'rotate(15)', expected keys. They are: until_epoch, augment, views, lr_factor.")


def test_all_problems_are_reported_at_once_with_dotted_paths():
    lines = problems("train_head.lr=0", "folds.k=1", "image.resize=stretch", "backbone.std=[1, 0, 1]", "nonsense=1", raw={})
    places = {line.split(": ")[1] for line in lines}
    assert places == {"train_head.lr", "folds.k", "image.resize", "backbone.std", "nonsense"}


def test_a_backbone_is_chosen_where_none_is_named():
    assert validate_recipe({}).backbone.name == "auto"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train_head.lr=fast", "train_head.lr: got 'fast'"),
        ("train_head.lr=.inf", "train_head.lr: got inf"),
        ("train_head.lr=.nan", "train_head.lr: got nan"),
        ("train_head.epochs=2.5", "train_head.epochs: got 2.5"),
        ("train_head=3", "train_head: got 3"),
        ("seed=-1", "seed: got -1"),
        ("backbone.mean=[1, 2]", "backbone.mean"),
        ("head.hidden=[]", "head"),
        ("data.on_broken=maybe", "data.on_broken: got 'maybe'"),
    ],
)
def test_a_wrong_value_is_reported_with_its_place(override, message):
    assert any(message in line for line in problems(override))


UNICODE_BREAKS = "\x85\u2028\u2029"  # PyYAML writes them as they are with allow_unicode, and reads them as ends of lines
texts = st.text(st.characters(codec="utf-8", exclude_characters=UNICODE_BREAKS))
SETTINGS = {
    "train_head.lr": st.floats(1e-6, 1.0),
    "train_head.epochs": st.integers(1, 999),
    "seed": st.integers(0, 2**32 - 1),
    "image.size": st.none() | st.integers(16, 2048),
    "data": st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).map(lambda text: f"d/{text}"),
    "head": st.just({"kind": "linear"}) | st.fixed_dictionaries({"kind": st.just("mlp"), "hidden": st.just([3, 4])}),
    "train_head.schedule": st.sampled_from([{"kind": "step", "every": 3}, {"kind": "cosine"}, {"kind": "constant"}]),
    "backbone.model_args": st.dictionaries(st.text("abc", min_size=1), st.booleans() | st.integers() | texts),
    "backbone.mean": st.none() | st.lists(st.floats(0, 1), min_size=3, max_size=3),
    "image.stored_size": st.none() | st.integers(16, 2048),
    "tta": st.lists(st.sampled_from(["identity", "hflip", "hflip + rotate(5,5)", "rotate(3)@0.5"]), max_size=3),
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
        if key not in ("data", "head", "train_head.schedule"):
            section = once.model_dump(mode="json")
            for part in key.split("."):
                section = section[part]
            assert section == value


FLIPS = ("hflip@0.5", "vflip@0.5", "rotate(10)@0.5")
WARPS = ("hflip@0.5", "vflip@0.5", "rotate(15)@0.5", "elastic(30,4)@0.5", "grid(4,0.2)@0.5")


def stages(*overrides, raw=MINIMAL):
    return [(stage.until_epoch, stage.augment, stage.views) for stage in recipe(*overrides, raw=raw).curriculum]


def test_without_a_curriculum_there_are_no_stages():
    assert stages() == stages("curriculum=null") == stages("curriculum=[]") == []
    assert recipe().tta == ()


def test_the_winners_curriculum_is_known_by_name():
    winner = [(5, (), "per_epoch"), (10, FLIPS, "per_epoch"), (20, WARPS, "per_epoch")]
    assert stages("curriculum=winner") == stages("curriculum={name: winner}") == winner
    assert stages(raw={**MINIMAL, "curriculum": "winner"}) == winner


def test_a_named_curriculums_settings_are_those_of_its_augmented_stages():
    built = recipe("curriculum={name: winner, views: 4, lr_factor: 0.5}").curriculum
    assert [(stage.views, stage.lr_factor) for stage in built] == [("per_epoch", 1.0), (4, 0.5), (4, 0.5)]
    assert stages("curriculum={name: winner, views: 4}") == [(5, (), "per_epoch"), (10, FLIPS, 4), (20, WARPS, 4)]


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (40, [(10, ()), (20, FLIPS), (40, WARPS)]),
        (8, [(2, ()), (4, FLIPS), (8, WARPS)]),
        (4, [(1, ()), (2, FLIPS), (4, WARPS)]),
        (3, [(1, ()), (2, FLIPS), (3, WARPS)]),
        (2, [(1, FLIPS), (2, WARPS)]),
        (1, [(1, WARPS)]),
    ],
)
def test_a_named_curriculum_is_stretched_to_the_epochs(epochs, expected):
    assert [stage[:2] for stage in stages("curriculum=winner", f"train_head.epochs={epochs}")] == expected
    assert [stage[:2] for stage in stages(f"train_head.epochs={epochs}", raw={**MINIMAL, "curriculum": "winner"})] == expected


def test_a_named_curriculum_is_stretched_to_epochs_in_any_form_that_the_fit_takes():
    expected = [(5, (), "per_epoch"), (10, FLIPS, "per_epoch"), (20, WARPS, "per_epoch")]
    for epochs in (20, 20.0, "20"):
        assert stages(raw={**MINIMAL, "curriculum": "winner", "train_head": {"epochs": epochs}}) == expected
    built = Recipe(backbone=BackboneSettings(name="x"), train_head=TrainHeadSettings(epochs=4), curriculum="winner")
    assert len(built.curriculum) == 3


@given(st.sampled_from(sorted(NAMED_CURRICULA)), st.integers(1, 10_000))
def test_a_named_curriculum_fits_any_number_of_epochs(name, epochs):
    ends = [end for end, *_ in stages(f"curriculum={name}", f"train_head.epochs={epochs}")]
    assert ends == sorted(set(ends))
    assert ends[-1] == epochs


def test_a_curriculum_of_an_unknown_name_is_reported_with_the_known_ones():
    [line] = problems("curriculum=loser")
    assert line == "recipe: curriculum: got 'loser'. expected stages, or a name (winner), alone or with views and lr_factor."
    for text in ("{name: loser, views: 4}", "{name: [winner]}", "{name: winner, augment: [hflip]}"):
        [line] = problems(f"curriculum={text}")
        assert line.endswith("expected stages, or a name (winner), alone or with views and lr_factor.")
    assert len(problems("curriculum=loser", "train_head.lr=0")) == 2


def test_an_unknown_key_in_a_stage_names_the_near_one():
    assert problems("curriculum=[{augment: [hflip], veiws: 3}]") == [
        "recipe: curriculum.0.veiws: no such key. Did you mean 'views'?"
    ]
    [line] = problems("curriculum={name: winner, veiws: 3}")
    assert line.endswith("alone or with views and lr_factor.")


def test_what_is_no_list_of_stages_is_refused():
    for value in ("3", "{views: 4}", "[hflip]"):
        assert any(line.startswith("recipe: curriculum") for line in problems(f"curriculum={value}"))


@pytest.mark.parametrize("ends", [(5, 20), (5, 10, None), (None,), (20,), (1, 2, 3, 20)])
def test_stages_whose_ends_rise_to_the_last_epoch_are_taken(ends):
    given_stages = [{"until_epoch": end} for end in ends]
    assert [end for end, *_ in stages(raw={**MINIMAL, "curriculum": given_stages})] == list(ends)


@pytest.mark.parametrize("ends", [(5, 10), (30,), (5, 5, 20), (10, 5, 20), (None, None), (None, 20), (20, 20), (5, 30, 20)])
def test_stages_whose_ends_do_not_rise_to_the_last_epoch_are_refused(ends):
    [line] = problems(raw={**MINIMAL, "curriculum": [{"until_epoch": end} for end in ends]})
    assert f"its stages end at epochs {[20 if end is None else end for end in ends]}, expected rising ends" in line
    assert "the last one at train_head.epochs, 20" in line


def test_operations_are_written_in_one_form():
    assert stages("curriculum=[{augment: ['rotate(-15, 15)@.5', 'hflip()', 'scale(0.9,1.1)']}]") == [
        (None, ("rotate(15)@0.5", "hflip", "scale(0.1)"), "per_epoch")
    ]
    assert stages("curriculum=[{augment: [identity]}]") == [(None, (), "per_epoch")]
    assert recipe("tta=[identity, hflip@1, ' hflip+rotate( 5,5 )']").tta == ("identity", "hflip", "hflip + rotate(5,5)")


def test_operations_that_can_not_be_read_are_reported_together_in_stages_and_in_test_time_views():
    given_stages = [{"until_epoch": 5, "augment": ["rotat(5)", "hflip", "grid(2.5,0.1)"]}, {"augment": ["hflip@2"]}]
    lines = problems("train_head.lr=0", raw={**MINIMAL, "curriculum": given_stages, "tta": ["identity", "vflip + rotate(400)"]})
    messages = {line.split(": ")[1]: line for line in lines}
    assert len(messages) == len(lines) == 4
    assert set(messages) == {"train_head.lr", "curriculum.0.augment", "curriculum.1.augment", "tta"}
    assert "did you mean 'rotate'?" in messages["curriculum.0.augment"]
    assert "2.5 steps, expected a whole number" in messages["curriculum.0.augment"]
    assert "probability 2, expected above 0 and at most 1" in messages["curriculum.1.augment"]
    assert "400, expected 0 to 360" in messages["tta"]
    [line] = problems("tta=[hflp, 'rotate(400)']")
    assert "did you mean 'hflip'?" in line
    assert "400, expected 0 to 360" in line


def test_the_number_of_views_is_a_number_or_per_epoch():
    for text, views in (("4", 4), ("'4'", 4), ("per_epoch", "per_epoch")):
        assert stages(f"curriculum=[{{views: {text}}}]") == [(None, (), views)]
    for text in ("many", "'-1'", "'2.5'", "0", "-1", "2.5", "10001", "null", "[3]", "true"):
        [line] = problems(f"curriculum=[{{views: {text}}}]")
        assert line.startswith("recipe: curriculum.0.views: got ")
        assert line.endswith("expected per_epoch or the number of views, 1 to 10000.")


@pytest.mark.parametrize("factor", ["0", "-1", "101", ".nan", "fast"])
def test_a_factor_of_the_rate_out_of_range_is_refused(factor):
    [line] = problems(f"curriculum=[{{lr_factor: {factor}}}]")
    assert line.startswith("recipe: curriculum.0.lr_factor: got ")


@st.composite
def curricula(draw):
    """Stages with the epochs that they fill, and views for the test."""
    ends = sorted(draw(st.sets(st.integers(1, 50), min_size=1, max_size=3)))
    several = st.lists(operations().map(str), max_size=3)
    given_stages = [
        {"until_epoch": end, "augment": draw(several), "views": draw(st.just("per_epoch") | st.integers(1, 99))} for end in ends
    ]
    given_stages[-1]["until_epoch"] = draw(st.sampled_from([ends[-1], None]))
    tta = draw(st.lists(several.map(lambda forms: " + ".join(forms) or "identity"), max_size=2))
    return {**MINIMAL, "train_head": {"epochs": ends[-1]}, "curriculum": given_stages, "tta": tta}


@given(curricula())
def test_dumping_then_loading_changes_no_curriculum(raw):
    once = validate_recipe(raw)
    dumped = dump_recipe(once)
    again = validate_recipe(yaml.safe_load(dumped))
    assert again == once
    assert dump_recipe(again) == dumped
    assert [list(stage.augment) for stage in once.curriculum] == [stage["augment"] for stage in raw["curriculum"]]
    assert list(once.tta) == raw["tta"]


def test_overriding_a_dumped_recipe_with_a_name_or_without_stages_is_the_same_as_at_first():
    overrides = ["curriculum={name: winner, views: 3}", "train_head.epochs=7", "tta=[identity, 'hflip + rotate(5,5)']"]
    once = recipe(*overrides)
    dumped = yaml.safe_load(dump_recipe(once))
    assert recipe(raw=dumped) == recipe(*overrides, raw=dumped) == once
    assert recipe("curriculum=winner", "train_head.epochs=20", "tta=[]", raw=dumped) == recipe("curriculum=winner")
    [line] = problems("train_head.epochs=8", raw=dumped)
    assert "its stages end at epochs [2, 4, 7]" in line


def test_a_dumped_recipe_loads_as_itself(tmp_path):
    built = recipe(
        "data=그림/바다", "backbone.model_args={pad_type: same}", "train_head.schedule={kind: step}", "train_head.lr=1e-5"
    )
    path = tmp_path / "dumped.yaml"
    path.write_text(dump_recipe(built), encoding="utf-8")
    assert load_recipe(path) == built
    assert "그림/바다" in path.read_text(encoding="utf-8")


def test_a_dump_holds_every_key():
    dumped = yaml.safe_load(dump_recipe(recipe()))
    assert dumped["train_head"]["schedule"] == {"kind": "cosine"}
    assert dumped["image"]["size"] is None
    assert isinstance(recipe().train_head.schedule, CosineSchedule)


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


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
def test_a_class_prior_beside_answers_that_are_weighted_by_class_is_refused(metric):
    with pytest.raises(RecipeError, match=r"predict\.prior: got 'uniform' beside metric="):
        validate_recipe({"metric": metric, "predict": {"prior": "uniform"}})
    assert validate_recipe({"metric": metric}).predict.prior == "train"
    assert validate_recipe({"metric": "log_loss", "predict": {"prior": "uniform"}}).predict.prior == "uniform"


def test_features_of_several_layers_or_backbones_get_one_scale_unless_the_recipe_says_more():
    assert recipe("data=x").train_head.scaling == "none"
    assert recipe("data=x", "backbone.features=layers").train_head.scaling == "blocks"
    assert recipe("data=x", "backbone.beside=[ink-small]").train_head.scaling == "blocks"
    assert recipe("data=x", "backbone.features=layers", "train_head.scaling=none").train_head.scaling == "none"
    written = validate_recipe(recipe("data=x", "backbone.features=layers").model_dump(mode="json"))
    assert written.train_head.scaling == "blocks"


def test_backbones_beside_the_first_may_be_named_alone():
    beside = recipe("data=x", "backbone.beside=[ink-small, {name: resnet18, features: layers, image_size: 96}]").backbone.beside
    assert [(one.name, one.features, one.image_size) for one in beside] == [
        ("ink-small", "last", None),
        ("resnet18", "layers", 96),
    ]
    assert recipe("data=x", "backbone.beside=resnet50").backbone.beside[0].name == "resnet50"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("backbone.beside=[auto]",), "only the first backbone is chosen by itself"),
        (("backbone.beside=[ink-small, ink-small]",), "stands there twice with equal settings"),
        (("backbone.name=ink-small", "backbone.beside=[ink-small]"), "stands there twice with equal settings"),
        (("backbone.beside=[{name: resnet18, device: cpu}]",), "device"),
        (("backbone.beside=[ink-small]", "finetune.part=all"), "several backbones under one head can't be trained"),
    ],
)
def test_backbones_that_cant_stand_beside_each_other_are_refused(overrides, message):
    with pytest.raises(RecipeError, match=message):
        recipe("data=x", *overrides)


def test_a_backbone_may_stand_beside_itself_with_other_features():
    assert recipe("data=x", "backbone.name=ink-small", "backbone.beside=[{name: ink-small, features: layers}]").backbone.beside
