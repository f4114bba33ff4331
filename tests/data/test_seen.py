"""A backbone that knows the drawings it is judged by: recognised, measured apart, told."""

import json
import shutil

import cv2
import numpy as np
import pytest

from inkfold.data.fingerprints import sign
from inkfold.data.seen import code, main, mark_seen, read_seen_list, seen_list_file, write_seen_list
from inkfold.data.synthetic import draw_sketch
from inkfold.data.synthetic_shapes import CLASS_NAMES
from inkfold.ensemble.build import vote
from inkfold.errors import DataError, WeightsError
from inkfold.evaluation.predictions import Predictions
from inkfold.models import ink_small as inksmall
from inkfold.pipeline.train import train
from inkfold.report.write import write_report
from inkfold.search.backbones import explore
from inkfold.search.study import tune
from toy import BACKBONE, break_image, inkfold, toy_data, toy_recipe

COUNT = 40
CHANGES = {
    "half": lambda page: cv2.resize(page, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "double": lambda page: cv2.resize(page, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),
    "JPEG": lambda page: cv2.imdecode(cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE),
    "inverted": lambda page: 255 - page,
    "on a larger page": lambda page: np.pad(page, ((50, 9), (0, 70)), constant_values=int(np.median(page))),
}


@pytest.fixture(scope="module")
def pages():
    return [draw_sketch(CLASS_NAMES[i % len(CLASS_NAMES)], 5, i) for i in range(COUNT)]


@pytest.fixture(scope="module")
def signatures(pages):
    return np.stack([sign(page) for page in pages])


@pytest.mark.parametrize("change", CHANGES)
def test_a_drawing_is_recognised_when_it_comes_back_changed(pages, signatures, change):
    changed = np.stack([sign(CHANGES[change](page)) for page in pages])
    assert mark_seen(changed, code(signatures)).mean() >= 0.95


def test_other_drawings_are_not(signatures):
    others = np.stack([sign(draw_sketch(CLASS_NAMES[i % len(CLASS_NAMES)], 6, i)) for i in range(400)])
    assert mark_seen(others, code(signatures)).mean() <= 0.01


def test_each_row_is_judged_by_itself_however_many_there_are(signatures):
    many = np.concatenate([signatures] * 20)
    known = np.arange(COUNT) % 3 == 0
    assert (mark_seen(many, code(signatures[known])) == np.tile(known, 20)).all()


def test_drawings_without_enough_ink_are_never_recognised(signatures):
    blank = np.zeros((2, 64, 64), np.uint8)
    assert not mark_seen(blank, code(blank)).any()
    assert not mark_seen(signatures, np.empty((0, 2), np.uint64)).any()


def test_codes_say_the_same_on_every_machine():
    ramp = np.add.outer(np.arange(64) * 2, np.arange(64)).astype(np.uint8)[None]
    ramp[0, 10:20, 30:50] = 255
    found = code(ramp)
    assert found.dtype == np.uint64
    assert found.shape == (1, 2)
    bits = np.unpackbits(found.astype("<u8").view(np.uint8), axis=1, bitorder="little")[0]
    lowest = [(0, 1), (1, 0), (0, 2), (1, 1), (2, 0)]  # of the two-dimensional cosine transform, the mean left out
    transformed = cv2.dct(ramp[0].astype(np.float32))
    assert bits[:5].tolist() == [transformed[place] > 0 for place in lowest]


def test_weights_without_a_list_say_nothing(tmp_path):
    assert read_seen_list(tmp_path / "weights.safetensors") is None


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not an array", id="text"),
        pytest.param(np.zeros((3, 2)), id="numbers of another kind"),
        pytest.param(np.zeros((3, 4), np.uint64), id="rows of another length"),
        pytest.param(np.zeros(3, np.uint64), id="no rows"),
        pytest.param(np.array([[None, 1]]), id="objects"),
    ],
)
def test_a_list_that_is_none_is_refused_with_what_to_do(tmp_path, content):
    weights = tmp_path / "own.safetensors"
    if isinstance(content, bytes):
        seen_list_file(weights).write_bytes(content)
    else:
        np.save(seen_list_file(weights), content)
    with pytest.raises(WeightsError, match=r"own\.learnt\.npy: .*Write it again: python -m inkfold\.data\.seen DATA"):
        read_seen_list(weights)


def test_a_list_that_promises_more_than_it_has_is_refused(tmp_path):
    weights = tmp_path / "own.safetensors"
    np.save(seen_list_file(weights), np.zeros((1000, 2), np.uint64))
    whole = seen_list_file(weights).read_bytes()
    seen_list_file(weights).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="not a list of drawings"):
        read_seen_list(weights)


def test_an_archive_is_no_list(tmp_path):
    weights = tmp_path / "own.safetensors"
    with seen_list_file(weights).open("wb") as file:
        np.savez(file, np.zeros((3, 2), np.uint64))
    with pytest.raises(WeightsError, match="got an archive, expected uint64"):
        read_seen_list(weights)


def test_a_list_is_written_of_a_folder_of_drawings(tmp_path, capsys):
    data, weights = toy_data(tmp_path / "data"), tmp_path / "own.safetensors"
    weights.touch()
    main([str(data), str(weights)])
    assert capsys.readouterr().out == f"18 drawings: {tmp_path / 'own.learnt.npy'}\n"
    listed = read_seen_list(weights)
    files = sorted((data / "train").rglob("*.png"))
    assert mark_seen(np.stack([sign(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)) for file in files]), listed).all()


def test_every_broken_drawing_is_told_and_nothing_is_written(tmp_path):
    data, weights = toy_data(tmp_path / "data"), tmp_path / "own.safetensors"
    broken = sorted((data / "train").rglob("*.png"))[:2]
    for path in broken:
        break_image(path)
    with pytest.raises(DataError) as told:
        write_seen_list(data, weights)
    assert all(path.name in str(told.value) for path in broken)
    assert not seen_list_file(weights).exists()


def test_the_command_says_what_it_needs(tmp_path):
    with pytest.raises(SystemExit, match="usage"):
        main([str(tmp_path)])
    with pytest.raises(SystemExit, match="not a file"):
        main([str(tmp_path), str(tmp_path / "nothing.safetensors")])
    (tmp_path / "own.safetensors").touch()
    with pytest.raises(SystemExit, match="empty"):
        main([str(tmp_path / "empty"), str(tmp_path / "own.safetensors")])


def test_ink_small_knows_what_it_was_trained_on_and_nothing_else():
    learnt = read_seen_list(inksmall.WEIGHTS)
    assert learnt is not None
    assert len(learnt) == 6374
    same, other = (
        np.stack([sign(draw_sketch(name, seed, i)) for name in ("cat", "fish", "tree") for i in range(30)])
        for seed in (2026, 1)
    )
    assert mark_seen(same, learnt).all()
    assert mark_seen(other, learnt).mean() < 0.02


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("data") / "data", train_per_class=24)


@pytest.fixture
def weights(tmp_path, monkeypatch, write_weights, data):
    """Two backbones, one of which was trained on two of the three classes."""
    folder = tmp_path / "weights"
    for name in ("test_resnet", "test_efficientnet"):
        write_weights(folder / f"{name}.safetensors", name)
    part = tmp_path / "part"
    for name in ("apple", "fish"):
        shutil.copytree(data / "train" / name, part / name)
    write_seen_list(part, folder / "test_resnet.safetensors")
    monkeypatch.setenv("INKFOLD_WEIGHTS", str(folder))
    return folder


TRAINED_BACKBONE = BACKBONE.replace("weights: untrained, ", "")
RECIPE = f"backbone: {TRAINED_BACKBONE}\nimage: {{size: 32}}\nfolds: {{k: 3}}\ntrain_head: {{epochs: 3}}\n"


def test_a_run_measures_drawings_that_are_new_to_its_backbone_apart(tmp_path, data, weights):
    recipe = toy_recipe(tmp_path, RECIPE)
    done = inkfold("train", recipe, f"data={data}", f"out={tmp_path / 'run'}", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "run/metrics.json").read_text())["learnt_by_backbone"]
    assert (told["drawings"], told["of"], told["learnt"]["n"], told["new"]["n"]) == (48, 72, 48, 24)
    rows = json.loads((tmp_path / "run/metrics.json").read_text())["out_of_fold"]["per_class"]
    house = next(row for row in rows if row["class_name"] == "house")
    assert told["new"]["accuracy"] == pytest.approx(house["recall"], abs=1e-4)
    assert "trained on 48 of these 72 held-out drawings" in done.stderr
    assert "On the 24 others it is" in done.stderr
    write_report([tmp_path / "run"], tmp_path / "report.html")
    assert "pretrained on 48 of them, so this is optimistic" in (tmp_path / "report.html").read_text()


def test_a_run_says_so_too_where_nothing_is_new(tmp_path, data, weights):
    write_seen_list(data, weights / "test_resnet.safetensors")
    recipe = toy_recipe(tmp_path, RECIPE.replace("{k: 3}", "{k: 3, group_duplicates: false}"))
    done = inkfold("train", recipe, f"data={data}", f"out={tmp_path / 'run'}", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert "trained on 72 of these 72 held-out drawings" in done.stderr
    assert "Evaluate it on a test set that its weights were not trained on" in done.stderr


def test_a_backbone_without_a_list_says_nothing(tmp_path, data, weights):
    recipe = toy_recipe(tmp_path, RECIPE.replace("test_resnet", "test_efficientnet"))
    done = inkfold("train", recipe, f"data={data}", f"out={tmp_path / 'run'}", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert "learnt_by_backbone" not in json.loads((tmp_path / "run/metrics.json").read_text())
    assert "flatters" not in done.stderr


def test_backbones_are_compared_on_drawings_that_none_of_them_knows(data, weights):
    settings = ["image.size=32", "folds.k=3", "train_head.epochs=3", "backbone.device=cpu", "backbone.precision=float32"]
    rows, problems = explore(data, ["test_resnet", "test_efficientnet"], settings)
    assert problems == {}
    assert {row.name.partition(".")[0]: (row.n, row.learnt) for row in rows} == {
        "test_resnet": (24, 48),
        "test_efficientnet": (24, 0),
    }
    assert rows[0].accuracy >= rows[1].accuracy
    [alone], _ = explore(data, ["test_efficientnet"], settings)
    assert (alone.n, alone.learnt) == (72, 0)


def test_a_study_says_that_its_figures_flatter(tmp_path, data, weights):
    study = RECIPE + "tune: {trials: 2, batch: 2, space: {train_head.lr: {low: 1.0e-3, high: 1.0e-1, log: true}}}\n"
    told = tune(toy_recipe(tmp_path, study), data=data, out=tmp_path / "study")
    assert told["learnt_by_backbone"] == {"drawings": 48, "of": 72}


def test_a_vote_says_that_a_members_backbone_knows_the_drawings_and_is_judged_by_all(tmp_path, data, weights):
    """Those that are new may be of few classes, and what is fitted on them would forget the others."""
    for name in ("test_resnet", "test_efficientnet"):
        train(toy_recipe(tmp_path, RECIPE.replace("test_resnet", name)), data=data, out=tmp_path / name)
    known = Predictions.load(tmp_path / "test_resnet/predictions/out_of_fold.parquet").seen
    assert known.sum() == 48
    voted = vote([tmp_path / "test_resnet", tmp_path / "test_efficientnet"], {"method": "weighted"}, out=tmp_path / "vote")
    assert voted.metrics["out_of_fold"]["n"] == 72
    assert any("trained on 48 of these 72" in text for text in voted.manifest["warnings"])
    write_report([tmp_path / "vote"], tmp_path / "vote.html")
