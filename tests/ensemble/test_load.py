import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inkfold.data.dataset import read_dataset
from inkfold.data.types import DataOptions
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
from inkfold.ensemble.member_predictions import MemberPredictions
from inkfold.errors import DataError, PredictionError, RecipeError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.run import Run
from inkfold.storage.hashing import digest
from toy import read_rows, toy_data, toy_recipe, write_rows
from toy_votes import NAMES, texts


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(scope="module")
def dataset(data):
    return read_dataset(data, DataOptions(test_targets="test_labels.csv"))


def predictions(paths, class_names=NAMES, **known):
    return Predictions(texts(paths), np.full((len(paths), len(class_names)), 1 / len(class_names)), tuple(class_names), **known)


def lines_of(error):
    return [str(problem) for problem in error.value.problems]


def test_names_differ_from_each_other_and_from_votes():
    for names, expected in (
        (["a", "b"], ["a", "b"]),
        (["a", "a", "b", "a"], ["a 1", "a 2", "b", "a 3"]),
        (["a", "a", "a 1"], ["a 2", "a 3", "a 1"]),
        (["soft", "stack", "x"], ["soft 1", "stack 1", "x"]),
        (["hard (ties: mean probability)"], ["hard (ties: mean probability) 1"]),
        (["calibrated greedy", "calibrated greedy"], ["calibrated greedy 1", "calibrated greedy 2"]),
        ([], []),
    ):
        assert tell_apart(names) == expected


def test_runs_and_files_are_read_and_called_after_their_files(toys, tmp_path):
    shutil.copy(toys["mlp"] / "submission.csv", tmp_path / "theirs.csv")
    members = load_members([toys["linear"], tmp_path / "theirs.csv"])
    assert [member.predictions.name for member in members] == ["linear", "theirs"]
    assert members[0].run.path == toys["linear"]
    assert members[1].run is None
    assert members[1].predictions.test.class_names == NAMES, "the run names the classes"


def test_two_of_one_name_are_numbered(toys, tmp_path):
    for name in ("x", "y"):
        shutil.copytree(toys["linear"], tmp_path / name / "run")
    members = load_members([tmp_path / "x/run", tmp_path / "y/run", toys["mlp"]])
    assert [member.predictions.name for member in members] == ["run 1", "run 2", "mlp"]


def test_a_directory_named_by_a_dot_has_a_name(toys, monkeypatch):
    monkeypatch.chdir(toys["linear"])
    from pathlib import Path

    assert [member.predictions.name for member in load_members([Path(), toys["mlp"]])] == ["linear", "mlp"]


def test_all_problems_of_all_members_are_reported_together(toys, voted, tmp_path):
    shutil.copytree(toys["mlp"], tmp_path / "broken")
    (tmp_path / "broken/submission.csv").write_text("x")
    (tmp_path / "broken/heads.safetensors").unlink()
    shutil.copytree(voted(method="soft").path, tmp_path / "ensemble")
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished/recipe.yaml").write_text("x: 1")
    (tmp_path / "bad.csv").write_text("image_path,target\n0.png,99\n")
    members = [toys["linear"], *(tmp_path / name for name in ("broken", "ensemble", "gone", "unfinished", "bad.csv"))]
    with pytest.raises(PredictionError) as caught:
        load_members(members)
    lines = "\n".join(lines_of(caught))
    assert f"{tmp_path / 'broken/heads.safetensors'}: is missing" in lines
    assert f"{tmp_path / 'broken/submission.csv'}: is missing or not as it was written" in lines
    assert f"{tmp_path / 'ensemble'}: is an ensemble, expected a run of one model. Name its members instead." in lines
    assert f"{tmp_path / 'gone'}: no such file" in lines
    assert f"{tmp_path / 'unfinished'}: neither a finished run" in lines
    assert "got target '99'" in lines
    assert len(lines_of(caught)) == 6


def test_columns_are_called_as_in_the_runs_data(tmp_path):
    data = toy_data(tmp_path / "data")
    for name in ("train.csv", "test.csv", "sample_submission.csv", "test_labels.csv"):
        header, *rows = read_rows(data / name)
        write_rows(data / name, [[{"image_path": "file", "target": "nr"}.get(one, one) for one in header], *rows])
    from inkfold.pipeline.train import train

    settings = ("data.path_column=file", "data.target_column=nr")
    run = train(toy_recipe(tmp_path), *settings, data=data, out=tmp_path / "run")
    members = load_members([run.path, run.path / "submission.csv"])
    np.testing.assert_array_equal(members[1].predictions.test.preds, members[0].predictions.test.preds)
    assert (run.path / "submission.csv").read_text().startswith("ID,file,nr\n")
    ensemble = vote([run.path, run.path / "submission.csv"], out=tmp_path / "out")
    assert (ensemble.path / "submission.csv").read_bytes() == (run.path / "submission.csv").read_bytes()
    named = read_named_data(data, settings)
    alone = load_members([run.path / "submission.csv"], named)
    np.testing.assert_array_equal(alone[0].predictions.test.preds, members[0].predictions.test.preds)


def test_data_are_named_with_settings_long_or_short(data):
    named = read_named_data(data, ["test_targets=test_labels.csv", "data.on_broken=skip"])
    assert named.options == DataOptions(root=str(data), test_targets="test_labels.csv", on_broken="skip")
    assert named.classes.names == NAMES
    assert named.dataset.test.targets is not None
    assert read_named_data(None, []) is None


def test_settings_of_no_data_are_reported(data):
    with pytest.raises(RecipeError, match=r"data: is missing, which on_broken=skip would say how to read. Add --data DIR"):
        read_named_data(None, ["on_broken=skip"])
    with pytest.raises(RecipeError, match="Did you mean 'on_broken'"):
        read_named_data(data, ["on_brokn=skip"])
    with pytest.raises(DataError):
        read_named_data(data / "gone", [])


def test_labels_are_added_by_path_whatever_the_order_and_spelling(dataset):
    rows = np.random.default_rng(0).permutation(18)
    paths = [f"./{path}" for path in dataset.train.image_paths[rows]]
    test = predictions([*dataset.test.image_paths[::-1]], ("house", "apple", "fish"))
    labelled = with_labels(MemberPredictions("a", predictions(paths), test), dataset)
    assert labelled.out_of_fold.targets.tolist() == dataset.train.targets[rows].tolist()
    names = [("house", "apple", "fish")[k] for k in labelled.test.targets]
    assert names == [NAMES[k] for k in dataset.test.targets[::-1]]


def test_labels_that_are_there_already_stay(dataset):
    paths = dataset.train.image_paths.tolist()
    labelled = with_labels(MemberPredictions("a", predictions(paths, targets=np.zeros(18, int)), None), dataset)
    assert set(labelled.out_of_fold.targets.tolist()) == {0}


def test_a_run_on_the_same_files_in_another_folder_fits_the_data(dataset):
    files = np.array([digest(Path(file).read_bytes()) for file in dataset.train.files.tolist()], "S")
    elsewhere = replace(predictions([f"elsewhere/{i}.png" for i in range(18)]), digests=files[::-1])
    labelled = with_labels(MemberPredictions("a", elsewhere, None), dataset)
    assert labelled.out_of_fold.targets.tolist() == dataset.train.targets[::-1].tolist()
    odd = replace(elsewhere, digests=np.array([b"other", *files[1:]]))
    with pytest.raises(PredictionError, match=r"has 1 drawings that are not in the data, such as 'elsewhere/0.png'"):
        with_labels(MemberPredictions("a", odd, None), dataset)


def test_a_part_of_the_training_drawings_is_enough(dataset):
    assert with_labels(
        MemberPredictions("a", predictions(dataset.train.image_paths[:5].tolist()), None), dataset
    ).out_of_fold.targets.shape == (5,)


def test_drawings_and_classes_that_are_not_the_datas_are_reported(dataset):
    tests = dataset.test.image_paths.tolist()
    for member, words in (
        (
            MemberPredictions("a", predictions(["x.png", *dataset.train.image_paths.tolist()]), None),
            "a, out of fold: has 1 drawings that are not in",
        ),
        (
            MemberPredictions("a", None, predictions([*tests, "x.png"])),
            "a, test: has 1 drawings that are not in the data, such as 'x.png'",
        ),
        (MemberPredictions("a", None, predictions(tests[1:])), f"a, test: has 1 drawings too few, such as '{tests[0]}'"),
        (
            MemberPredictions("a", None, predictions(tests, ("apple", "fish", "hut"))),
            "a, test: has 3 classes, the data 3, not both have 'house'",
        ),
        (
            MemberPredictions("a", None, predictions(tests, (*NAMES, "zoo"))),
            "a, test: has 4 classes, the data 3, not both have 'zoo'",
        ),
    ):
        with pytest.raises(PredictionError) as caught:
            with_labels(member, dataset)
        assert words in lines_of(caught)[0]


def test_data_without_test_drawings_say_nothing_of_them(dataset):
    without = replace(dataset, test=None)
    assert with_labels(MemberPredictions("a", None, predictions(["x.png"])), without).test.targets is None


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
    member = member_of_run(run, "x")
    assert member.predictions.name == "x"
    assert member.predictions.out_of_fold.folds is not None
    assert member.predictions.test.fold_probs.shape == (3, 15, 3)
    assert member.predictions.run == toys["linear"]
