"""Pretraining ends in the same weights whether it was stopped or not, and learns from each of its sources."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from pictures import SOURCES, build, load
from safetensors.torch import load_file
from train import Settings, Trainer, read_settings, train

NAMES = ["cat", "house", "zebra"]  # the third of any names is one that ink-small must not see


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Put 2 drawings, 3 icons and 4 views of 2 characters into a store, with a teacher of 8 values for the first five."""
    root, rng = tmp_path_factory.mktemp("pretraining"), np.random.default_rng(0)
    (root / "data" / "train").mkdir(parents=True)
    with (root / "data" / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image_path", "class_name"])
        for name in NAMES:
            page = np.full((40, 40), 255, np.uint8)
            page[5:30, 5:20] = 0
            cv2.imwrite(str(root / "data" / "train" / f"{name}.png"), page)
            writer.writerow([f"{name}.png", name])
    (root / "icons").mkdir()
    np.save(root / "icons" / "icons.npy", rng.integers(0, 256, (3, 128, 128), np.uint8))
    (root / "icons" / "icons.csv").write_text("row,name\n0,cat\n1,homes\n2,rare\n")
    (root / "icons" / "names.csv").write_text("name,quickdraw,sets\ncat,cat,9\nhomes,house,2\nrare,,1\n")
    (root / "strokes").mkdir()
    np.save(root / "strokes" / "strokes.npy", rng.integers(0, 256, (4, 128, 128), np.uint8))
    (root / "strokes" / "strokes.csv").write_text(
        "row,source,class,instance\n0,omniglot,,0\n1,omniglot,,0\n2,omniglot,,1\n3,omniglot,,1\n"
    )
    build(root / "data", root / "icons", root / "strokes", root / "store")
    teacher = np.zeros((9, 8), np.float16)
    teacher[:5] = rng.normal(size=(5, 8))
    teacher[:5] /= np.linalg.norm(teacher[:5].astype(float), axis=1, keepdims=True)
    np.save(root / "store" / "teacher-large.npy", teacher)
    return root / "store"


def settings(**changes: object) -> Settings:
    """Say a short training."""
    shares = {"quickdraw": 0.4, "icons": 0.4, "omniglot": 0.2}
    short = {"steps": 4, "cool_steps": 2, "warm_steps": 2, "batch_size": 6, "save_every": 2, "teachers": {"large": 1.0}}
    return Settings(**{"shares": shares, **short, **changes})  # type: ignore[arg-type]


def test_a_store_joins_names_across_sources_and_counts_single_drawings(store: Path) -> None:
    pictures = load(store)
    seen = NAMES[:2]
    assert pictures.names == seen
    rows = [SOURCES[source] for source in pictures.source]
    assert rows == ["quickdraw"] * len(seen) + ["icons"] * 3 + ["omniglot"] * 4
    cat, house, rare = pictures.label[len(seen) : len(seen) + 3]
    assert pictures.names[cat] == "cat"
    assert pictures.names[house] == "house"
    assert rare == -1
    assert pictures.instance[-4:].tolist() == [len(rows) - 4] * 2 + [len(rows) - 3] * 2
    assert pictures.pixels.shape == (len(rows), 128, 128)


def test_a_stopped_training_ends_in_the_same_weights(store: Path, tmp_path: Path) -> None:
    train(settings(), store, tmp_path / "whole")
    train(settings(), store, tmp_path / "parts")
    (tmp_path / "parts" / "state.safetensors").unlink()  # as it is after a kill behind the second step
    (tmp_path / "parts" / "ink-small.safetensors").unlink()
    train(settings(), store, tmp_path / "parts")
    whole, parts = (load_file(tmp_path / name / "ink-small.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_each_loss_is_there_and_leaving_one_out_leaves_it_out(store: Path, tmp_path: Path) -> None:
    parts = Trainer(settings(batch_size=12), store, tmp_path).learn().parts
    assert set(parts) == {"names", "accuracy", "instances", "large"}
    fewer = Trainer(settings(batch_size=12, names=0.0, teachers={}), store, tmp_path).learn().parts
    assert set(fewer) == {"instances"}


def test_a_mistyped_recipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"stpes": 3}))
    with pytest.raises(SystemExit, match="stpes"):
        read_settings(path, [])
    path.write_text(yaml.safe_dump({"shares": {"icons": 0.5}}))
    with pytest.raises(SystemExit, match=r"got a sum of 0\.5"):
        read_settings(path, [])
