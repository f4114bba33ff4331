"""A flipped bit in any file that inkfold keeps: noticed and mended, or refused by name. benchmarks/bit_flips.py has more."""

import shutil

import pytest

from inkfold.audit.run_audit import audit_run
from inkfold.ensemble.model import load_run
from inkfold.errors import PredictionError
from inkfold.pipeline.train import train
from inkfold.report.write import write_report
from toy import RUN_FILES

READ_BY_REPORTS = RUN_FILES - {"heads.safetensors", "submission.csv", "events/events.out.tfevents.0.inkfold"}
KEPT = {
    "a page's pixels": "pixels/grey-*/*.safetensors",
    "features": "features/*/*.safetensors",
    "an ink signature": "signatures/ink-*/*.safetensors",
    "copies": "signatures/ink-*/copies-*.json",
    "lines": "signatures/lines-*/*.safetensors",
    "statistics": "statistics/*/*.safetensors",
    "what made features": "features/*/key.json",
}


def flip(path, share=0.6):
    """Flip the lowest bit of a byte, so far into the file."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", sorted(RUN_FILES))
def test_a_run_with_a_flipped_bit_is_neither_loaded_nor_reported(frozen_run, tmp_path, name):
    out = shutil.copytree(frozen_run / "run", tmp_path / "run")
    flip(out / name)
    with pytest.raises(PredictionError, match=rf"{out / name}: .*not "):
        load_run(out)
    if name in READ_BY_REPORTS:
        with pytest.raises(PredictionError, match=rf"{out / name}: .*not "):
            write_report([out], tmp_path / "report.html")
    else:
        write_report([out], tmp_path / "report.html")


def test_an_audit_with_a_flipped_bit_is_not_reported_and_can_be_written_again(frozen_run, tmp_path, monkeypatch):
    out = shutil.copytree(frozen_run / "run", tmp_path / "run")
    monkeypatch.setenv("INKFOLD_HOME", str(shutil.copytree(frozen_run / "home", tmp_path / "home")))
    audit_run(out)
    flip(out / "audit.json", 0.5)
    with pytest.raises(PredictionError, match=r"audit\.json: not a run's .* Write it again: inkfold audit "):
        write_report([out], tmp_path / "report.html")
    audit_run(out)
    write_report([out], tmp_path / "report.html")


@pytest.mark.parametrize("pattern", KEPT.values(), ids=KEPT)
def test_what_was_kept_with_a_flipped_bit_is_computed_again_and_said_so(frozen_run, tmp_path, monkeypatch, caplog, pattern):
    home = shutil.copytree(frozen_run / "home", tmp_path / "home")
    monkeypatch.setenv("INKFOLD_HOME", str(home))
    damaged = sorted(home.glob(pattern))[0]
    whole = damaged.read_bytes()
    flip(damaged)
    if pattern == KEPT["a page's pixels"]:  # which nobody reads while there are features
        shutil.rmtree(home / "features")
    train(frozen_run / "toy.yaml", data=frozen_run / "data", out=tmp_path / "run")
    for name in RUN_FILES - {"cost.json", "manifest.json"}:
        assert (tmp_path / "run" / name).read_bytes() == (frozen_run / "run" / name).read_bytes()
    assert f"{damaged}: " in caplog.text
    assert not damaged.exists() or damaged.read_bytes() == whole
