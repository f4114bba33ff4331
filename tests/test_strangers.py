"""Changed files of a stranger's run, digests and all: refused in words or taken. benchmarks/fuzz_runs.py has 2,000 of them."""

import os
import random
import shutil

import pytest

from inkfold.cli.main import main
from strangers import mutate

CASES = 12


@pytest.mark.skipif(os.name == "nt", reason="there are no pipes and devices among files")
@pytest.mark.parametrize("case", range(CASES))
def test_a_strangers_run_is_refused_in_words_or_reported(frozen_run, tmp_path, capsys, case):
    out, rng = shutil.copytree(frozen_run / "run", tmp_path / "run"), random.Random(case)
    files = [file for file in sorted(out.rglob("*")) if file.is_file() and file.suffix in (".json", ".yaml", ".parquet")]
    change = mutate(out, rng.choice(files), rng)
    code = main(["report", str(out), "--out", str(tmp_path / "report.html")])
    error = capsys.readouterr().err
    assert code in (0, 2), change
    assert "Traceback" not in error
    assert code == 0 or "error: " in error
