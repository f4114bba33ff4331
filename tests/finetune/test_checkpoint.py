import os
import zlib

import numpy as np
import pytest
import torch
from safetensors.torch import save

from inkfold.errors import CacheError
from inkfold.finetune.checkpoint import load_checkpoint, read_progress, save_checkpoint

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


def test_any_flipped_bit_of_a_checkpoint_is_noticed(tmp_path, caplog):
    path, noticed = tmp_path / "fold0.last.safetensors", 0
    save_checkpoint(path, TENSORS, {**PLAIN, "step": 5, "steps": 10})
    whole = path.read_bytes()
    [expected] = read_progress(tmp_path)
    assert (expected.epoch, expected.step, expected.steps) == (3, 5, 10)
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert read_progress(tmp_path) in ((), (expected,))
        found = load_checkpoint(path)
        noticed += found is None
        if found is not None:
            assert all(torch.equal(found[0][name], values) for name, values in TENSORS.items())
            assert found[1] == {**PLAIN, "step": 5, "steps": 10}
    assert noticed > 8 * len(whole) * 0.9
    assert f"{path}: not a whole checkpoint" in caplog.text


def test_a_checkpoint_of_a_version_without_a_digest_of_the_header_is_read(tmp_path):
    path = tmp_path / "last.safetensors"
    crc = zlib.crc32(np.arange(3, dtype=np.float32).tobytes(), zlib.crc32(b"a"))
    path.write_bytes(save({"a": torch.arange(3.0)}, {"plain": '{"epoch": 2}', "crc32": str(crc)}))
    tensors, plain = load_checkpoint(path)
    assert (tensors["a"].tolist(), plain) == ([0, 1, 2], {"epoch": 2})
