import os
import time
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from inkfold.features.bank import FeatureBank
from inkfold.images.preprocess import ImageOptions
from inkfold.storage.cache import home, list_cache, prune_cache
from inkfold.storage.hashing import digest
from inkfold.storage.pixels import ImageStore

BACKBONE = {"name": "toy/net.v1", "image_size": 32, "precision": "float32"}
NAMES = np.array([digest(bytes([i])) for i in range(3)], "S32")


@pytest.fixture
def filled(own_home):
    store = ImageStore(own_home / "pixels", ImageOptions(size_px=32, resize="squash"))
    bank = FeatureBank(own_home / "features", BACKBONE, store)
    for shard_set, rows in ((store.grey, np.zeros((3, 32, 32), np.uint8)), (bank.shards, np.zeros((3, 5), np.float16))):
        shard_set.create()
        shard_set.append(NAMES[:2], rows[:2])
        shard_set.append(NAMES[2:], rows[2:])
    return own_home


def age(home, sort, days):
    for path in (home / sort).rglob("*"):
        os.utime(path, (time.time() - days * 24 * 3600,) * 2)


def test_an_absent_cache_is_an_empty_list(tmp_path):
    assert list_cache(tmp_path / "nowhere") == []
    assert prune_cache(tmp_path / "nowhere") == []


def test_entries_tell_their_size_shards_age_and_what_made_them(filled):
    age(filled, "features", 3)
    pixels, features = list_cache(filled)
    assert pixels.name.startswith("pixels/grey-32-")
    assert features.name.startswith("features/toy_net.v1-")
    assert (pixels.shards, features.shards) == (2, 2)
    assert pixels.bytes == sum(path.stat().st_size for path in pixels.path.iterdir())
    assert pixels.age_days < 0.1
    assert abs(features.age_days - 3) < 0.1
    assert pixels.description == "32 px, resize squash, colour auto, channels 1"
    assert features.description == "toy/net.v1 32 px float32, squash"


def test_an_entry_without_a_readable_description_is_listed_all_the_same(filled):
    for entry, text in zip(list_cache(filled), ("{", None), strict=True):
        key = entry.path / "key.json"
        key.unlink() if text is None else key.write_text(text, encoding="utf-8")
    assert [entry.description for entry in list_cache(filled)] == ["no description"] * 2


@pytest.mark.parametrize("with_sort", [True, False])
def test_a_name_with_or_without_its_sort_prunes_that_entry_alone(filled, with_sort):
    pixels, features = list_cache(filled)
    removed = prune_cache(filled, [features.name if with_sort else features.path.name])
    assert [entry.name for entry in removed] == [features.name]
    assert [entry.name for entry in list_cache(filled)] == [pixels.name]


def test_an_unknown_name_prunes_nothing(filled):
    assert prune_cache(filled, ["features/other"]) == []
    assert len(list_cache(filled)) == 2


def test_age_prunes_what_is_old_enough(filled):
    age(filled, "pixels", 10)
    age(filled, "features", 5)
    assert prune_cache(filled, older_than_days=11) == []
    assert [entry.path.parent.name for entry in prune_cache(filled, older_than_days=7)] == ["pixels"]
    (features,) = list_cache(filled)
    assert prune_cache(filled, [features.name], older_than_days=7) == []
    assert len(prune_cache(filled, [features.name], older_than_days=4)) == 1


def test_without_names_and_age_everything_goes(filled):
    assert len(prune_cache(filled)) == 2
    assert list_cache(filled) == []


def test_the_environment_names_the_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("INKFOLD_HOME", str(tmp_path / "here"))
    assert home() == tmp_path / "here"
    assert not home().exists()


def test_a_tilde_is_the_user_s_home(monkeypatch):
    monkeypatch.setenv("INKFOLD_HOME", "~/ink")
    assert home() == Path.home() / "ink"


def test_without_it_the_platform_s_cache_directory_is_taken(monkeypatch):
    for unset in (lambda: monkeypatch.setenv("INKFOLD_HOME", ""), lambda: monkeypatch.delenv("INKFOLD_HOME")):
        unset()
        assert home() == Path(platformdirs.user_cache_dir("inkfold", False))
