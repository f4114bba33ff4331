"""A run, an ensemble, a search, an exported model or predictions of a stranger: is each refused in words, whatever is in it?

Small ones are made as by benchmarks/bit_flips.py. Case by case, one file is changed where a stranger could: a value of its
JSON or YAML, its safetensors, Parquet, NPY or ZIP header, a column, a tensor, the ONNX graph or its description, its bytes, or
the file itself becomes a link, a pipe, a directory. Digests are written anew, so that the change reaches whoever reads the
file. A command then reads it, in a process of its own:

- refused: exit code 2, and an error in words;
- taken: exit code 0;
- WRONG: a traceback, a crash, more than 60 s of computing, or more than 1 GiB of memory.

    .venv/bin/python benchmarks/fuzz_runs.py [--cases 2000] [--seed N] [--state DIRECTORY] [--case N] [--quick]

A case is made by its number and the seed: `--case N` repeats one, and prints what it does. `--state` keeps what was made.
"""

import argparse
import collections
import contextlib
import io
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tests")]
import bit_flips  # noqa: E402
from strangers import mutate  # type: ignore[import-not-found]  # noqa: E402

MOST_BYTES, MOST_SECONDS, WALL_SECONDS = 1 << 30, 60, 600
OUTCOMES = ("refused", "taken", "WRONG")
QUICK_CASES = 60
PREPARE = """
import os, sys
from pathlib import Path
sys.path.insert(0, {here!r})
import fuzz_runs
fuzz_runs.prepare(Path({state!r}))
"""


@dataclass(frozen=True)
class Reader:
    """A command that reads files of a stranger.

    Attributes:
        name: What the table calls it.
        part: The directory of the state that the stranger made.
        run: Runs it on that directory and returns the exit code.
        files: Pattern of the files that are changed.
        weight: How often it is chosen.
    """

    name: str
    part: str
    run: Callable[[Path], int]
    files: str = "**/*"
    weight: int = 1


@dataclass(frozen=True)
class Outcome:
    """What became of a case: one of `OUTCOMES`, the most bytes of memory, and what was printed."""

    kind: str
    peak_bytes: int
    words: str


def prepare(state: Path) -> None:
    """Make what strangers could give: runs, an ensemble, a search, exported models, predictions in several formats."""
    import numpy as np

    from inkfold.evaluation.predictions import Predictions

    os.environ["INKFOLD_HOME"] = str(state / "work" / "home")
    os.environ.pop("INKFOLD_WEIGHTS", None)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.fsync = lambda fd: None
    bit_flips.prepare(state, quick=False)
    whole = state / "whole"
    with bit_flips.silence():
        bit_flips.must(bit_flips.inkfold("export", whole / "run", "--nearest", "--out", whole / "model" / "model.onnx"))
    test = Predictions.load(whole / "run" / "predictions" / "test.parquet")
    for kind in ("csv", "npz", "npy", "parquet"):
        (whole / kind).mkdir()
    (whole / "parquet" / "test.parquet").write_bytes((whole / "run" / "predictions" / "test.parquet").read_bytes())
    rows = zip(test.image_paths.tolist(), test.probs.tolist(), strict=True)
    lines = [",".join(["image_path", *test.class_names]), *(",".join([path, *map(str, probs)]) for path, probs in rows)]
    (whole / "csv" / "test.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    paths, class_names = np.array(test.image_paths.tolist()), np.array(test.class_names)
    np.savez_compressed(whole / "npz" / "test.npz", probs=test.probs, image_paths=paths, class_names=class_names)
    np.save(whole / "npy" / "test.npy", test.probs)
    (whole / "npy" / "test.csv").write_text("\n".join(["image_path", *test.image_paths.tolist()]) + "\n", encoding="utf-8")
    (state / "ready").touch()


def readers(state: Path) -> list[Reader]:
    """List the commands that read, each on a copy of a part of the state."""
    whole, tests, inkfold = state / "whole", state / "data/test", bit_flips.inkfold
    recipe, data = state / "recipe.yaml", f"data={state / 'data'}"

    def serve(path: Path) -> int:
        return bit_flips.served(path / "model.onnx" if (path / "model.onnx").exists() else path, tests, io.StringIO())

    def predict(path: Path) -> int:
        return inkfold("predict", path, tests, "--out", path.parent / "p.csv")

    def report(path: Path) -> int:
        return inkfold("report", path, "--out", path.parent / "r.html")

    def vote(path: Path) -> int:
        return inkfold("vote", path, whole / "second", "--out", path.parent / "new")

    def member(path: Path) -> int:
        files = sorted(path.glob("test.*"), key=lambda file: file.suffix != ".npy")
        return inkfold("vote", whole / "run", files[0], "--out", path.parent / "new")

    return [
        Reader("report", "run", report, weight=6),
        Reader("predict", "run", predict, weight=4),
        Reader(
            "compare", "run", lambda path: inkfold("report", path, whole / "second", "--out", path.parent / "r.html"), weight=3
        ),
        Reader("audit", "run", lambda path: inkfold("audit", path), weight=2),
        Reader("weakness", "run", lambda path: inkfold("weakness", path), weight=1),
        Reader("export", "run", lambda path: inkfold("export", path, "--out", path.parent / "m.onnx"), weight=1),
        Reader("train finished", "run", lambda path: inkfold("train", recipe, data, *bit_flips.SMALL, f"out={path}"), weight=2),
        Reader("vote", "run", vote, weight=3),
        Reader("ensemble report", "ensemble", report, weight=3),
        Reader("ensemble predict", "ensemble", predict, weight=2),
        Reader("tuned predict", "tuned", predict, weight=1),
        Reader("tuned report", "tuned", report, weight=2),
        Reader("search report", "search", report, "*", weight=2),
        Reader("serve", "model", serve, weight=5),
        Reader("serve set", "set", serve, weight=2),
        *(Reader(f"member {kind}", kind, member, weight=1) for kind in ("csv", "npz", "npy", "parquet")),
    ]


def attempt(state: Path, case: int, seed: int) -> tuple[Reader, str, Outcome]:
    """Make a case, run it in a process of its own, and judge it; also say what was changed."""
    rng = random.Random(f"{seed} {case}")
    chosen = [reader for reader in readers(state) if (state / "whole" / reader.part).exists()]
    reader = rng.choices(chosen, [one.weight for one in chosen])[0]
    with tempfile.TemporaryDirectory(dir=state) as temp:
        part = Path(temp) / reader.part
        shutil.copytree(state / "whole" / reader.part, part)
        files = sorted(file for file in part.glob(reader.files) if file.is_file() and not file.name.endswith("lock"))
        change = mutate(part, rng.choice(files), rng)
        return reader, change, in_child(lambda: reader.run(part), Path(temp) / "words")


def in_child(work: Callable[[], int], words: Path) -> Outcome:
    """Run a command in a forked process; it has 60 s of computing and a few GiB of addresses, and is judged by less."""
    pid = os.fork()
    if not pid:
        code = 70
        try:
            with words.open("w") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
            resource.setrlimit(resource.RLIMIT_DATA, (4 * MOST_BYTES, 4 * MOST_BYTES))
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    end = time.monotonic() + WALL_SECONDS
    while True:
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.kill(pid, 9)
        time.sleep(0.01)
    text, peak, code = words.read_text(errors="replace"), used.ru_maxrss * 1024, os.waitstatus_to_exitcode(status)
    is_silent = code == 2 and not text.strip()
    wrong = code not in (0, 2) or "Traceback" in text or "not enough memory" in text or peak > MOST_BYTES or is_silent
    return Outcome("WRONG" if wrong else "refused" if code else "taken", peak, f"exit code {code}, {peak >> 20} MiB\n{text}")


def warm_up() -> None:
    """Import what commands import, so that a forked process needn't; nothing is computed, whose threads a fork would lose."""
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import torch

    import inkfold.audit.run_audit
    import inkfold.cli.main
    import inkfold.export.export
    import inkfold.report.write
    import inkfold.serve.predict  # noqa: F401

    torch.set_num_threads(1)


def main() -> None:
    """Make the state, run the cases, and print the table and the RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="where what is read is made, or was made before")
    parser.add_argument("--case", type=int, help="only this one, and print what it says")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CASES} cases")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temp:
        state = (options.state or Path(temp)).absolute()
        if not (state / "ready").exists():
            code = PREPARE.format(here=str(Path(__file__).parent), state=str(state))
            subprocess.run([sys.executable, "-c", code], check=True)
        os.environ |= {"INKFOLD_HOME": str(state / "work" / "home"), "HF_HUB_OFFLINE": "1"}
        os.environ.pop("INKFOLD_WEIGHTS", None)
        warm_up()
        if options.case is not None:
            reader, change, outcome = attempt(state, options.case, options.seed)
            print(f"{reader.name}: {change}: {outcome.kind}, {outcome.words}")
            return
        numbers = range(options.first, options.first + (QUICK_CASES if options.quick else options.cases))
        table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        peak = 0
        for case in numbers:
            reader, change, outcome = attempt(state, case, options.seed)
            table[reader.name][outcome.kind] += 1
            peak = max(peak, outcome.peak_bytes)
            if outcome.kind == "WRONG":
                last = " | ".join(line.strip() for line in outcome.words.strip().splitlines()[-2:])[:400]
                print(f"  WRONG: case {case}, {reader.name}: {change}: {last}", flush=True)
    print(f"{'reader':<18}" + "".join(f"{kind:>9}" for kind in OUTCOMES))
    for name, counts in sorted(table.items()):
        print(f"{name:<18}" + "".join(f"{counts[kind]:>9}" for kind in OUTCOMES))
    total: Any = sum(table.values(), collections.Counter())
    print(
        "RESULT "
        + " ".join(f"{kind.lower()}={total[kind]}" for kind in reversed(OUTCOMES))
        + f" cases={len(numbers)} peak_mib={peak >> 20}"
    )


if __name__ == "__main__":
    main()
