"""Kills at random moments of every long command, and a filesystem that fills up: does each go on, to the same bytes?

Kills: a command is started again and again with the same output and killed (SIGKILL; every sixth time it is SIGINT, as Ctrl-C
sends it) a random time after its start, until the given number of kills has been shared out. What comes to its end between two
kills is compared with what nothing disturbed, and the next begins; the last one of each job is left alone to its end. The jobs:
training heads, a search (`tune`), fine-tuning, LoRA, an ensemble and an export.

Full disk: the run directory and the bank lie on a filesystem of their own (tmpfs in a mount namespace, which needs no rights
where users may make namespaces) that is too small by a random amount. Fine-tuning must fail with a message that says what to
do; then the filesystem is enlarged, and the same command must end with the same bytes.

    .venv/bin/python benchmarks/kills.py [--kills N] [--disks N] [--jobs NAME ...] [--weights DIR] [--backbone NAME] [--quick]
"""

import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inkfold.data.synthetic import write_sketches
from inkfold.storage.files import TEMP_MARK

RECIPE = """\
# A fine-tuning run of half a minute: three folds, averaged weights, mixup, a view an epoch.
backbone: {name: NAME, WEIGHTSdevice: cpu}
image: {size: 64}
folds: {k: 3}
train_head: {epochs: 5, batch_size: 64, lr: 1.0e-2}
finetune: {part: all, drop_path: 0.1, epochs: EPOCHS, batch_size: 32, ema: 0.99, mixup: 0.2}
curriculum:
  - {until_epoch: 1}
  - {augment: [hflip@0.5, "rotate(15)"]}
"""
RESULTS = ("metrics.json", "curve.json", "submission.csv", "heads.safetensors", "predictions/*.parquet")
SIZES_MIB = (2, 90)  # what is left for the run: from less than the pixel store to nearly enough


@dataclass(frozen=True)
class Job:
    """A command that is killed.

    Attributes:
        name: What is done.
        command: Makes the command's words from the directory of all and the output.
        results: Patterns of the files that must be equal, within the output.
    """

    name: str
    command: Callable[[Path, Path], list[str]]
    results: tuple[str, ...]


def trained(recipe: str, *settings: str) -> Callable[[Path, Path], list[str]]:
    """Make the words of a training."""
    return lambda root, out: [
        "train", recipe.replace("ROOT", str(root)), f"data={root / 'data'}", f"out={out}", *settings
    ]  # fmt: skip


FINETUNE = Job("finetune", trained("ROOT/recipe.yaml"), (*RESULTS, "weights/*.safetensors"))
SMALL = "backbone.name=ink-small"
JOBS = (
    Job("train", trained("first", SMALL), RESULTS),
    Job(
        "tune",
        lambda root, out: ["tune", "first", f"data={root / 'data'}", f"out={out}", SMALL, "tune.trials=12"],
        ("tune.json", "recipe.yaml"),
    ),
    FINETUNE,
    Job("lora", trained("ROOT/recipe.yaml", "finetune.part=lora", "finetune.lora_rank=2"), FINETUNE.results),
    Job(
        "ensemble",
        lambda root, out: ["vote", *(str(root / "members" / name) for name in ("first", "second")), "--out", str(out)],
        ("metrics.json", "submission.csv", "vote.json", "predictions/*.parquet", "members/*/heads.safetensors"),
    ),
    Job(
        "export",
        lambda root, out: ["export", str(root / "members" / "first"), "--out", str(out / "model.onnx")],
        ("model.onnx",),
    ),
)


def main() -> None:
    """Run both parts and print the RESULT line."""
    given = parse()
    if given.disk:
        print(json.dumps(fill(Path(given.disk), given.seed)))
        return
    with tempfile.TemporaryDirectory() as temp:
        root = Path(temp)
        prepare(given, root)
        result: dict[str, int] = collections.Counter()
        for number, job in enumerate(job for job in JOBS if job.name in given.jobs):
            share = given.kills // len(given.jobs) + (number < given.kills % len(given.jobs))
            result |= {key: result[key] + value for key, value in kill_many(job, share, root, given.seed + number).items()}
        if given.disks and "finetune" in given.jobs:
            result |= fill_disks(given, root)
    print("RESULT " + " ".join(f"{name}={value}" for name, value in result.items()))


def parse() -> argparse.Namespace:
    """Parse the command line; `--disk` is how the script calls itself in a namespace of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--jobs", nargs="+", choices=[job.name for job in JOBS], default=[job.name for job in JOBS])
    parser.add_argument("--disks", type=int, default=8, help="filesystems that fill up")
    parser.add_argument("--weights", type=Path, help="directory of NAME.safetensors; random weights without it")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="6 kills of less work, 1 full disk; some minutes")
    parser.add_argument("--disk", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.quick:
        given.kills, given.disks = 6, 1
    return given


def prepare(given: argparse.Namespace, root: Path) -> None:
    """Write drawings and the recipe."""
    write_sketches(root / "data", train_per_class=6 if given.quick else 20, test_per_class=3)
    text = RECIPE.replace("NAME", given.backbone).replace("EPOCHS", "2" if given.quick else "4")
    weights = f"weights: {given.weights.absolute() / given.backbone}.safetensors, " if given.weights else "weights: untrained, "
    (root / "recipe.yaml").write_text(text.replace("WEIGHTS", weights), encoding="utf-8")

    for name, seed in (("first", 1), ("second", 2)):
        if {"ensemble", "export"} & set(given.jobs):
            out = root / "members" / name
            undisturbed(Job(name, trained("first", SMALL, f"seed={seed}"), RESULTS), root, out)


def launch(job: Job, root: Path, out: Path, home: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the command in a process group of its own."""
    command = [sys.executable, "-m", "inkfold.cli.main", *job.command(root, out)]
    environment = {**os.environ, "INKFOLD_HOME": str(home)}
    with log.open("wb") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)


def undisturbed(job: Job, root: Path, out: Path) -> float:
    """Run a command to its end, and say how long it took."""
    started, log = time.perf_counter(), root / "whole.log"
    if launch(job, root, out, root / f"home-{job.name}", log).wait() != 0:
        raise SystemExit(log.read_text(encoding="utf-8"))
    return time.perf_counter() - started


def same(job: Job, out: Path, whole: Path) -> bool:
    """Compare what came out, byte by byte."""
    names = {path.relative_to(at) for at in (out, whole) for pattern in job.results for path in at.glob(pattern)}
    if not names:
        raise SystemExit(f"{job.name}: nothing of {job.results} in {whole}")
    return all((at / name).is_file() for at in (out, whole) for name in names) and all(
        (out / name).read_bytes() == (whole / name).read_bytes() for name in names
    )


def kill_many(job: Job, wanted: int, root: Path, seed: int) -> dict[str, int]:
    """Kill a command as often as asked; see the module's docstring."""
    rng = random.Random(seed)
    whole = root / f"{job.name}-whole"
    seconds = undisturbed(job, root, whole)
    struck: collections.Counter[str] = collections.Counter()
    ended = equal = kills = 0
    log = root / "run.log"
    while True:
        out, home = (root / f"{job.name}-{kind}{ended}" for kind in ("run", "home"))
        process = launch(job, root, out, home, log)
        try:
            code: int | None = process.wait(rng.uniform(0.2, 0.9 * seconds) if kills < wanted else None)
        except subprocess.TimeoutExpired:
            polite = kills % 6 == 5
            os.killpg(process.pid, signal.SIGINT if polite else signal.SIGKILL)
            process.wait()
            kills += 1
            struck[stage(log) + (" (Ctrl-C)" if polite else "")] += 1
            continue
        if code != 0:
            raise SystemExit(f"{job.name} did not go on after {kills} kills:\n{log.read_text(encoding='utf-8')[-3000:]}")
        ended, equal = ended + 1, equal + same(job, out, whole)
        if kills >= wanted:
            break
    made = (path for kind in ("run", "home") for path in root.glob(f"{job.name}-{kind}[0-9]*"))
    files = [path for directory in made for path in directory.rglob("*")]
    left = sum(TEMP_MARK in path.name or path.name == "checkpoints" for path in files)
    print(
        f"{job.name}: {seconds:.1f} s undisturbed; {kills} kills, {ended} ends, {equal} with the same bytes; {left} files left"
    )
    print("  struck: " + ", ".join(f"{name} {count}" for name, count in struck.most_common()), flush=True)
    return {"kills": kills, "ends": ended, "equal": equal, "files_left": left}


def stage(log: Path) -> str:
    """Say what a killed command had last told of."""
    told = re.findall(r"^([^:\n]+): \d+/\d+$", log.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return str(told[-1]) if told else "start"


def fill_disks(given: argparse.Namespace, root: Path) -> dict[str, int]:
    """Run on filesystems that are too small, each in a mount namespace of its own."""
    tries = failed_clearly = equal = 0
    for number in range(given.disks):
        command = [sys.executable, __file__, "--disk", str(root), "--seed", str(given.seed + number)]
        done = subprocess.run(["unshare", "--map-root-user", "--mount", *command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"no filesystem of its own could be made here: {done.stderr.strip().splitlines()[-1]}")
            break
        answer = json.loads(done.stdout.splitlines()[-1])
        tries, failed_clearly = tries + 1, failed_clearly + answer["clear"]
        equal += answer["equal"]
        outcome = "failed" if answer["failed"] else "sufficed"
        print(f"  {answer['mib']:3d} MiB: {outcome}; same bytes {answer['equal']}; {answer['said']}")
    print(f"{tries} full disks: {failed_clearly} failed with a clear message, {equal} ended with the same bytes")
    return {"full_disks": tries, "clear": failed_clearly, "full_disks_equal": equal}


def fill(root: Path, seed: int) -> dict[str, object]:
    """Run in a filesystem that is too small, enlarge it, and run again."""
    mib = random.Random(seed).randint(*SIZES_MIB)
    disk = root / f"disk{seed}"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(disk)], check=True)
    try:
        log = root / f"disk{seed}.log"
        failed = launch(FINETUNE, root, disk / "run", disk / "home", log).wait() != 0
        said = " ".join(log.read_text(encoding="utf-8").split("error:")[-1].split()) if failed else ""
        clear = failed and "Traceback" not in log.read_text(encoding="utf-8") and "pace" in said
        subprocess.run(["mount", "-o", "remount,size=2g", str(disk)], check=True)
        again = launch(FINETUNE, root, disk / "run", disk / "home", log).wait()
        equal = again == 0 and same(FINETUNE, disk / "run", root / "finetune-whole")
        return {"mib": mib, "failed": failed, "clear": clear, "equal": equal, "said": said[-200:]}
    finally:
        subprocess.run(["umount", str(disk)], check=True)
        shutil.rmtree(disk)


if __name__ == "__main__":
    main()
