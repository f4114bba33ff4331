"""A flipped bit in any file of a run or of INKFOLD_HOME: is it noticed, or does it change what a command says?

Small runs are made (of one model, a second one, an ensemble of both, a fine-tuned one, one that was killed in its
middle, and a search), with a home of their own. Then, for every command and every file, one bit after the other is flipped, the
command is run in this process on that state, and what it wrote and printed is compared with what it gives on the whole state:

- mended: the output is the same, and a line names the file (it was computed again);
- refused: the command ended with exit code 2, and a line names the file;
- harmless: the output is the same to the byte, and nothing was said: the command doesn't need that bit;
- WRONG: any other output, a traceback, or an error that doesn't name the file.

    .venv/bin/python benchmarks/bit_flips.py [--bits N] [--commands NAME ...] [--seed N] [--list] [--quick]
"""

import argparse
import collections
import contextlib
import io
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

WORK = "work"
OUTCOMES = ("mended", "refused", "harmless", "WRONG")
TIMES = {"cost.json", "auto.json", "report.html"}  # hold seconds; a manifest holds their digests
SMALL = ("image.size=32", "backbone.name=ink-small", "backbone.device=cpu", "folds.k=3", "train_head.epochs=5")
FINETUNED = ("finetune.part=all", "finetune.epochs=2", "finetune.batch_size=8", "folds.parts=2")
# Starts a training in this program's interpreter, and ends it as a kill does once a checkpoint is there.
KILLED = """
import os, sys
from inkfold.finetune import train_fold
from inkfold.cli.main import main

save, calls = train_fold.save_checkpoint, []
def counted(*args):
    save(*args)
    calls.append(args)
    if len(calls) == 3:
        os._exit(9)
train_fold.save_checkpoint = counted
main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Command:
    """A command of the sweep.

    Attributes:
        name: What the table calls it.
        run: Runs it below a directory and returns the exit code.
        outputs: What it writes, relative to that directory: files, or directories with all their files.
        reads: Parts of the state whose files are damaged for it.
    """

    name: str
    run: Callable[[Path], int]
    outputs: tuple[str, ...]
    reads: tuple[str, ...]


def main() -> None:
    """Make the runs, sweep, and print the table and the RESULT line."""
    given = parse()
    with tempfile.TemporaryDirectory() as temp:
        root = Path(temp)
        os.environ["INKFOLD_HOME"] = str(root / WORK / "home")
        os.environ.pop("INKFOLD_WEIGHTS", None)
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.fsync = lambda fd: None  # nothing cuts the power here
        prepare(root, quick=given.quick)
        wanted = given.commands or []
        commands = [one for one in all_commands(root, quick=given.quick) if not wanted or one.name in wanted]
        total: collections.Counter[str] = collections.Counter()
        print(f"{'command':<18}{'files':>7}{'flips':>7}" + "".join(f"{name:>10}" for name in OUTCOMES), flush=True)
        for command in commands:
            counts, files = sweep(root, command, given)
            total += counts
            flips = sum(counts.values())
            print(f"{command.name:<18}{files:>7}{flips:>7}" + "".join(f"{counts[name]:>10}" for name in OUTCOMES), flush=True)
    print(
        "RESULT " + " ".join(f"{name.lower()}={total[name]}" for name in reversed(OUTCOMES)) + f" flips={sum(total.values())}"
    )


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, default=3, help="bits that are flipped in each file, for each command")
    parser.add_argument("--commands", nargs="*", help="only these rows of the table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="print every outcome but the harmless ones")
    parser.add_argument("--quick", action="store_true", help="one run, four commands, one bit in each file; under a minute")
    given = parser.parse_args()
    if given.quick:
        given.bits = 1
    return given


def inkfold(*arguments: object) -> int:
    """Run one command of the program in this process."""
    from inkfold.cli.main import main as run

    return run([str(argument) for argument in arguments])


def prepare(root: Path, *, quick: bool) -> None:
    """Write drawings and make the runs, and keep a copy of all that they consist of."""
    from inkfold.auto.record import AUTO, AutoRecord
    from inkfold.data.synthetic import write_sketches

    data, work = (
        write_sketches(root / "data", train_per_class=6, test_per_class=2, classes=("apple", "fish", "house")),
        root / WORK,
    )
    small = [f"data={data}", *SMALL]
    (root / "recipe.yaml").write_text("head: {kind: linear}\n", encoding="utf-8")
    recipe = root / "recipe.yaml"
    with silence():
        must(inkfold("train", recipe, *small, f"out={work / 'run'}"))
        must(inkfold("audit", work / "run"))
        must(inkfold("weakness", work / "run"))
        if not quick:
            must(inkfold("train", recipe, *small, "head={kind: mlp, hidden: [8]}", f"out={work / 'second'}"))
            must(inkfold("vote", work / "run", work / "second", "--out", work / "ensemble"))
            must(inkfold("train", recipe, *small, *FINETUNED, f"out={work / 'tuned'}"))
            killed = [sys.executable, "-c", KILLED, "train", str(recipe), *small, *FINETUNED, f"out={work / 'killed'}"]
            assert subprocess.run(killed, check=False, capture_output=True).returncode == 9, "killed in its middle"
            must(inkfold("train", "auto", f"data={data}", *SMALL[:1], "folds.k=3", "budget=10s", f"out={work / 'search'}"))
            record = AutoRecord.load(work / "search" / AUTO)
            record.spent_s = 3600.0  # so that its time is over
            record.save(work / "search")
            must(inkfold("export", work / "ensemble", "--set", "--out", work / "set"))
        served(work / "run", root / "data/test", io.StringIO())
    for lock in work.rglob("*lock"):
        lock.unlink()
    shutil.copytree(work, root / "whole")


def must(code: int) -> None:
    """Stop where the unharmed state can't even be made."""
    if code:
        raise SystemExit(f"a command on whole files ended with {code}")


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Hide what commands print."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def served(model: Path, drawings: Path, out: io.TextIOBase) -> int:
    """Do what `inkfold serve` does before it listens, and answer for one drawing."""
    from inkfold.errors import InkfoldError
    from inkfold.serve.model import OnnxModel
    from inkfold.serve.nearest import index_path, load_index
    from inkfold.serve.prepare import find_model

    def export(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        words = io.StringIO()
        with contextlib.redirect_stderr(words):
            return subprocess.CompletedProcess(arguments, inkfold("export", *arguments), "", words.getvalue())

    try:
        found = find_model(model, lambda text: None, export)
        loaded, drawing = OnnxModel(found), sorted(drawings.rglob("*.png"))[0].read_bytes()
        squares, _ = loaded.read(drawing, loaded.check(drawing))
        answer = loaded.predict([squares])
        print(loaded.about.as_json(), answer.probs.tolist(), file=out)
        if index_path(found).is_file() and found.is_file():
            assert answer.features is not None
            index = load_index(index_path(found), len(loaded.about.class_names), loaded.about.num_features)
            print([part.tolist() for part in index.find(answer.features, 3)], file=out)
    except InkfoldError as error:
        print("\n".join(map(str, error.problems)) or str(error), file=sys.stderr)
        return 2
    return 0


def all_commands(root: Path, *, quick: bool) -> list[Command]:
    """List the commands of the sweep."""
    data, recipe, tests = root / "data", root / "recipe.yaml", root / "data/test"

    def serve(model: str) -> Callable[[Path], int]:
        def run(work: Path) -> int:
            out = io.StringIO()
            code = served(work / model, tests, out)
            (work / "answer.txt").write_text(out.getvalue(), encoding="utf-8")
            return code

        return run

    def of(*words: object) -> Callable[[Path], int]:
        return lambda work: inkfold(*(work / word[1:] if isinstance(word, str) and word[0] == "@" else word for word in words))

    def train(out: str, *settings: str) -> Callable[[Path], int]:
        return lambda work: inkfold("train", recipe, f"data={data}", *SMALL, *settings, f"out={work / out}")

    commands = [
        Command("train", train("new"), ("new",), ("home",)),
        Command("train finished", train("run"), ("run",), ("home", "run")),
        Command("predict", of("predict", "@run", tests, "--out", "@p.csv"), ("p.csv",), ("home", "run")),
        Command("report", of("report", "@run", "--out", "@r.html"), ("r.html",), ("run",)),
        Command("audit", of("audit", "@run"), ("run/audit.json",), ("home", "run")),
        Command("weakness", of("weakness", "@run"), ("run/weakness.json",), ("home", "run")),
        Command(
            "export",
            of("export", "@run", "--nearest", "--out", "@m.onnx"),
            ("m.onnx", "m.nearest.safetensors"),
            ("home", "run"),
        ),
        Command("serve", serve("run"), ("answer.txt",), ("home", "run")),
        Command("vote", of("vote", "@run", "@second", "--out", "@new"), ("new",), ("run", "second")),
        Command(
            "vote finished", of("vote", "@run", "@second", "--out", "@ensemble"), ("ensemble",), ("run", "second", "ensemble")
        ),
        Command("ensemble predict", of("predict", "@ensemble", tests, "--out", "@p.csv"), ("p.csv",), ("home", "ensemble")),
        Command("ensemble report", of("report", "@ensemble", "--out", "@r.html"), ("r.html",), ("ensemble",)),
        Command("compare", of("report", "@run", "@second", "--out", "@r.html"), ("r.html",), ("run", "second")),
        Command("serve set", serve("set"), ("answer.txt",), ("set",)),
        Command("tuned predict", of("predict", "@tuned", tests, "--out", "@p.csv"), ("p.csv",), ("home", "tuned")),
        Command("continue tuning", train("killed", *FINETUNED), ("killed",), ("home", "killed")),
        Command("search report", of("report", "@search", "--out", "@r.html"), ("r.html",), ("search",)),
        Command(
            "search finished",
            lambda work: inkfold(
                "train", "auto", f"data={data}", *SMALL[:1], "folds.k=3", "budget=10s", f"out={work / 'search'}"
            ),
            ("search",),
            ("search",),
        ),
    ]
    if quick:
        own = [replace(one, reads=("run",)) for one in commands if one.name in ("train finished", "predict", "report")]
        return [commands[0], *own]
    return commands


def sweep(root: Path, command: Command, given: argparse.Namespace) -> tuple[collections.Counter[str], int]:
    """Flip bits in every file that the command may read; count the outcomes, and the files."""
    restore(root)
    code, expected, words = attempt(root, command)
    if code:
        raise SystemExit(f"{command.name}: ended with {code} on whole files:\n{words}")
    whole, counts = root / "whole", collections.Counter[str]()
    files = sorted(
        file for part in command.reads for file in (whole / part).rglob("*") if file.is_file() and file.stat().st_size
    )
    for file in files:
        name = file.relative_to(whole)
        rng = random.Random(f"{given.seed} {command.name} {name}")
        bits = 8 * file.stat().st_size
        for bit in sorted({rng.randrange(bits * i // given.bits, bits * (i + 1) // given.bits) for i in range(given.bits)}):
            restore(root)
            flip(root / WORK / name, bit)
            outcome = judge(name, expected, *attempt(root, command))
            counts[outcome[0]] += 1
            if outcome[0] == "WRONG" or (given.list and outcome[0] != "harmless"):
                print(f"  {outcome[0]}: {command.name}, bit {bit} of {name}: {outcome[1]}", flush=True)
    return counts, len(files)


def restore(root: Path) -> None:
    """Bring back the whole state."""
    shutil.rmtree(root / WORK, ignore_errors=True)
    shutil.copytree(root / "whole", root / WORK)


def flip(file: Path, bit: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(file.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def attempt(root: Path, command: Command) -> tuple[int, dict[str, bytes], str]:
    """Run a command; return the exit code (-1 for a traceback), what it wrote, and what it said on standard error."""
    said, printed = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setLevel(logging.WARNING)
    logging.getLogger("inkfold").addHandler(handler)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
            code = command.run(root / WORK)
    except Exception:
        code = -1
        said.write(traceback.format_exc())
    finally:
        logging.getLogger("inkfold").removeHandler(handler)
    work = root / WORK
    files = [
        file
        for name in command.outputs
        for file in (sorted((work / name).rglob("*")) if (work / name).is_dir() else [work / name])
    ]
    return (
        code,
        {str(file.relative_to(work)): content(file) for file in files if file.is_file() and "lock" not in file.name},
        said.getvalue(),
    )


def content(file: Path) -> bytes:
    """Read a file without what differs from one call to the next: seconds, and the digests of files that hold them."""
    data = file.read_bytes()
    if file.name in TIMES:
        return b""
    if file.name == "manifest.json":
        with contextlib.suppress(ValueError):
            raw = json.loads(data)
            raw.pop("digest", None)
            if isinstance(raw.get("files"), dict):
                raw["files"] = {
                    name: value for name, value in raw["files"].items() if Path(name).name not in {*TIMES, "manifest.json"}
                }
            return json.dumps(raw).encode()
    if file.name in ("audit.json", "weakness.json"):
        with contextlib.suppress(ValueError):
            return json.dumps(
                {name: value for name, value in json.loads(data).items() if name not in ("cost", "digest")}
            ).encode()
    return data


def judge(name: Path, expected: dict[str, bytes], code: int, got: dict[str, bytes], words: str) -> tuple[str, str]:
    """Say what became of a flip, with the reason where it is needed."""
    named = name.name in words
    lines = words.strip().splitlines() or ["nothing was said"]
    last = next((line for line in lines if name.name in line), lines[-1])
    if code == 2:
        return ("refused", last) if named else ("WRONG", f"refused without the file's name: {last}")
    if code:
        return "WRONG", f"exit code {code}: {last}"
    other = sorted(file for file in {*expected, *got} if expected.get(file) != got.get(file) and file != str(name))
    if str(name) in expected and str(name) in got and got[str(name)] != expected[str(name)] and not other:
        return "harmless", "only the damaged file itself differs, which the command doesn't read"
    if other:
        return "WRONG", f"other content of {', '.join(other[:3])}: {last}"
    return ("mended", last) if named else ("harmless", "")


if __name__ == "__main__":
    main()
