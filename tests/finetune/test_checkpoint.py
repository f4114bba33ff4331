import os

import pytest
import torch

from inkfold.errors import CacheError
from inkfold.finetune.checkpoint import load_checkpoint, save_checkpoint

TENSORS = {"a": torch.arange(6.0).view(2, 3), "counter": torch.tensor(7), "half": torch.ones(3, dtype=torch.bfloat16)}
PLAIN = {"epoch": 3, "sums": [0.1, 2.0], "best": None}


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    save_checkpoint(tmp_path / "deep/last.safetensors", TENSORS, PLAIN)
    tensors, plain = load_checkpoint(tmp_path / "deep/last.safetensors")
    assert plain == PLAIN
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], values) and tensors[name].dtype == values.dtype for name, values in TENSORS.items())


def test_what_is_missing_cut_or_changed_is_no_checkpoint(tmp_path):
    path = tmp_path / "last.safetensors"
    assert load_checkpoint(path) is None
    save_checkpoint(path, TENSORS, PLAIN)
    whole = path.read_bytes()
    for broken in (b"", whole[:50], whole[:-1], whole[:-3] + b"\x01\x02\x03"):
        path.write_bytes(broken)
        assert load_checkpoint(path) is None


def test_a_full_disk_leaves_the_old_checkpoint_and_no_remains(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, TENSORS, PLAIN)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(CacheError, match=r"No space left on device\. Free some space"):
            save_checkpoint(path, TENSORS, {"epoch": 4})
    assert load_checkpoint(path)[1] == PLAIN
    assert [one.name for one in tmp_path.iterdir()] == ["last.safetensors"]
