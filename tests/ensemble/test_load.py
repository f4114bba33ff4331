import shutil
from dataclasses import replace

import numpy as np
import pytest

from inkfold.data.dataset import read_dataset
from inkfold.data.types import DataOptions
from inkfold.ensemble.answers import MemberPredictions
from inkfold.ensemble.build import vote
from inkfold.ensemble.load import (
    NamedData,
    digest_member,
    load_members,
    member_of_run,
    read_named_data,
    tell_apart,
    with_labels,
)
from inkfold.errors import DataError, PredictionError, RecipeError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.run import Run
from toy import read_rows, toy_data, write_rows
from toy_votes import NAMES, texts, trained


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(scope="module")
def dataset(data):
    return read_dataset(data, DataOptions(test_targets="test_labels.csv"))


def given(paths, class_names=NAMES, **known):
    return Predictions(texts(paths), np.full((len(paths), len(class_names)), 1 / len(class_names)), tuple(class_names), **known)


def told(error):
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "b", "a"], ["a 1", "a 2", "b", "a 3"]),
        (["a", "a", "a 1"], ["a 2", "a 3", "a 1"]),
        (["soft", "stack", "x"], ["soft 1", "stack 1", "x"]),
        (["hard (ties: mean probability)"], ["hard (ties: mean probability) 1"]),
        (["calibrated greedy", "calibrated greedy"], ["calibrated greedy 1", "calibrated greedy 2"]),
        ([], []),
    ],
)
def test_names_are_told_apart_from_each_other_and_from_votes(names, expected):
    assert tell_apart(names) == expected


def test_runs_and_files_are_read_and_called_after_their_files(toys, tmp_path):
    shutil.copy(toys["mlp"] / "submission.csv", tmp_path / "theirs.csv")
    voters = load_members([toys["linear"], tmp_path / "theirs.csv"])
    assert [voter.panelist.name for voter in voters] == ["linear", "theirs"]
    assert voters[0].run.path == toys["linear"]
    assert voters[1].run is None
    assert voters[1].panelist.test.class_names == NAMES, "the run names the classes"


def test_two_of_one_name_are_numbered(toys, tmp_path):
    for name in ("x", "y"):
        shutil.copytree(toys["linear"], tmp_path / name / "run")
    voters = load_members([tmp_path / "x/run", tmp_path / "y/run", toys["mlp"]])
    assert [voter.panelist.name for voter in voters] == ["run 1", "run 2", "mlp"]


def test_a_directory_named_by_a_dot_has_a_name(toys, monkeypatch):
    monkeypatch.chdir(toys["linear"])
    from pathlib import Path

    assert [voter.panelist.name for voter in load_members([Path(), toys["mlp"]])] == ["linear", "mlp"]


def test_all_problems_of_all_members_are_told_together(toys, tmp_path):
    shutil.copytree(toys["mlp"], tmp_path / "broken")
    (tmp_path / "broken/submission.csv").write_text("x")
    (tmp_path / "broken/heads.safetensors").unlink()
    vote([toys["linear"], toys["mlp"]], {"method": "soft"}, out=tmp_path / "ensemble")
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished/recipe.yaml").write_text("x: 1")
    (tmp_path / "bad.csv").write_text("image_path,target\n0.png,99\n")
    members = [toys["linear"], *(tmp_path / name for name in ("broken", "ensemble", "gone", "unfinished", "bad.csv"))]
    with pytest.raises(PredictionError) as caught:
        load_members(members)
    lines = "\n".join(told(caught))
    assert f"{tmp_path / 'broken/heads.safetensors'}: is missing" in lines
    assert f"{tmp_path / 'broken/submission.csv'}: is missing or not as it was written" in lines
    assert f"{tmp_path / 'ensemble'}: is an ensemble, expected a run of one model. Name its members instead." in lines
    assert f"{tmp_path / 'gone'}: no such file" in lines
    assert f"{tmp_path / 'unfinished'}: neither a finished run" in lines
    assert "got target '99'" in lines
    assert len(told(caught)) == 6


def test_columns_are_called_as_in_the_runs_data(tmp_path):
    toys = trained(tmp_path)
    for name in ("train.csv", "test.csv", "sample_submission.csv", "test_labels.csv"):
        header, *rows = read_rows(toys["data"] / name)
        write_rows(toys["data"] / name, [[{"image_path": "file", "target": "nr"}.get(one, one) for one in header], *rows])
    from inkfold.pipeline.train import train

    settings = ("data.path_column=file", "data.target_column=nr")
    run = train(tmp_path / "toy.yaml", *settings, data=toys["data"], out=tmp_path / "run")
    voters = load_members([run.path, run.path / "submission.csv"])
    np.testing.assert_array_equal(voters[1].panelist.test.preds, voters[0].panelist.test.preds)
    assert (run.path / "submission.csv").read_text().startswith("ID,file,nr\n")
    ensemble = vote([run.path, run.path / "submission.csv"], out=tmp_path / "out")
    assert (ensemble.path / "submission.csv").read_bytes() == (run.path / "submission.csv").read_bytes()
    named = read_named_data(toys["data"], settings)
    alone = load_members([run.path / "submission.csv"], named)
    np.testing.assert_array_equal(alone[0].panelist.test.preds, voters[0].panelist.test.preds)


def test_data_are_named_with_settings_long_or_short(data):
    named = read_named_data(data, ["test_targets=test_labels.csv", "data.on_broken=skip"])
    assert named.options == DataOptions(test_targets="test_labels.csv", on_broken="skip")
    assert named.classes.names == NAMES
    assert named.dataset.test.targets is not None
    assert read_named_data(None, []) is None


def test_settings_of_no_data_are_told(data):
    with pytest.raises(RecipeError, match=r"data: is missing, which on_broken=skip would say how to read. Add --data DIR"):
        read_named_data(None, ["on_broken=skip"])
    with pytest.raises(RecipeError, match="Did you mean 'on_broken'"):
        read_named_data(data, ["on_brokn=skip"])
    with pytest.raises(DataError):
        read_named_data(data / "gone", [])


def test_labels_are_added_by_path_whatever_the_order_and_spelling(dataset):
    rows = np.random.default_rng(0).permutation(18)
    paths = [f"./{path}" for path in dataset.train.image_paths[rows]]
    test = given([*dataset.test.image_paths[::-1]], ("house", "apple", "fish"))
    labelled = with_labels(MemberPredictions("a", given(paths), test), dataset)
    assert labelled.out_of_fold.targets.tolist() == dataset.train.targets[rows].tolist()
    names = [("house", "apple", "fish")[k] for k in labelled.test.targets]
    assert names == [NAMES[k] for k in dataset.test.targets[::-1]]


def test_labels_that_are_there_already_stay(dataset):
    paths = dataset.train.image_paths.tolist()
    labelled = with_labels(MemberPredictions("a", given(paths, targets=np.zeros(18, int)), None), dataset)
    assert set(labelled.out_of_fold.targets.tolist()) == {0}


def test_a_part_of_the_training_drawings_is_enough(dataset):
    assert with_labels(
        MemberPredictions("a", given(dataset.train.image_paths[:5].tolist()), None), dataset
    ).out_of_fold.targets.shape == (5,)


def test_drawings_and_classes_that_are_not_the_datas_are_told(dataset):
    tests = dataset.test.image_paths.tolist()
    for panelist, words in (
        (
            MemberPredictions("a", given(["x.png", *dataset.train.image_paths.tolist()]), None),
            "a, out of fold: has 1 drawings that are not in",
        ),
        (
            MemberPredictions("a", None, given([*tests, "x.png"])),
            "a, test: has 1 drawings that are not in the data, such as 'x.png'",
        ),
        (MemberPredictions("a", None, given(tests[1:])), f"a, test: has 1 drawings too few, such as '{tests[0]}'"),
        (
            MemberPredictions("a", None, given(tests, ("apple", "fish", "hut"))),
            "a, test: has 3 classes, the data 3, not both have 'house'",
        ),
        (
            MemberPredictions("a", None, given(tests, (*NAMES, "zoo"))),
            "a, test: has 4 classes, the data 3, not both have 'zoo'",
        ),
    ):
        with pytest.raises(PredictionError) as caught:
            with_labels(panelist, dataset)
        assert words in told(caught)[0]


def test_data_without_test_drawings_say_nothing_of_them(dataset):
    without = replace(dataset, test=None)
    assert with_labels(MemberPredictions("a", None, given(["x.png"])), without).test.targets is None


def test_the_fingerprint_changes_with_what_a_vote_takes_from_the_data(dataset):
    def fingerprint(**changes):
        return NamedData(replace(dataset, **changes), DataOptions()).fingerprint

    relabelled = replace(dataset.test, targets=(dataset.test.targets + 1) % 3)
    others = [
        fingerprint(class_names=("a", "b", "c")),
        fingerprint(class_targets=np.array([5, 6, 7])),
        fingerprint(test=relabelled),
        fingerprint(test=None),
        fingerprint(sample_submission=None),
    ]
    assert fingerprint() == fingerprint()
    assert len({fingerprint(), *others}) == 6


def test_a_members_digest_changes_with_all_that_its_answers_come_from(toys, tmp_path):
    array, names, table = tmp_path / "a.npy", tmp_path / "a.csv", tmp_path / "t.csv"
    np.save(array, np.eye(3))
    names.write_text("image_path\nx\n")
    table.write_text("1")
    (tmp_path / "folder").mkdir()
    inside = tmp_path / "folder/test.csv"
    inside.write_text("1")
    for member, file in ((array, array), (array, names), (table, table), (tmp_path / "folder", inside)):
        before = digest_member(member)
        assert digest_member(member) == before
        file.write_bytes(file.read_bytes() + b" ")
        assert digest_member(member) != before
    before = digest_member(tmp_path / "folder")
    inside.rename(tmp_path / "folder/out_of_fold.csv")
    assert digest_member(tmp_path / "folder") != before
    assert digest_member(toys["linear"]) != digest_member(toys["mlp"])


def test_a_run_says_what_its_files_say(toys):
    run = Run.load(toys["linear"])
    voter = member_of_run(run, "x")
    assert voter.panelist.name == "x"
    assert voter.panelist.out_of_fold.folds is not None
    assert voter.panelist.test.fold_probs.shape == (3, 15, 3)
    assert voter.panelist.run == toys["linear"]
