"""Kills at random moments of a fine-tuning run, and a filesystem that fills up: does the run go on, to the same bytes?

Kills: `inkfold train` is started again and again in the same run directory and killed (SIGKILL; every sixth time it is SIGINT,
as Ctrl-C sends it) a random time after its start, until the given number of kills has been reached. A run that comes to its end
between two kills is compared with one that nothing disturbed, and the next begins; the last one is left alone to its end.

Full disk: the run directory and the bank lie on a filesystem of their own (tmpfs in a mount namespace, which needs no rights
where users may make namespaces) that is too small by a random amount. The command must fail with a message that says what to
do; then the filesystem is enlarged, and the same command must end with the same bytes.

    .venv/bin/python benchmarks/kills.py [--kills N] [--disks N] [--weights DIR] [--backbone NAME] [--quick]
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
RESULTS = ("metrics.json", "curve.json", "submission.csv", "heads.safetensors", "predictions/out_of_fold.parquet")
WEIGHTS = tuple(f"weights/fold{fold}.safetensors" for fold in range(3))
SIZES_MIB = (2, 90)  # what is left for the run: from less than the pixel store to nearly enough


def main() -> None:
    """Run both parts and print the RESULT line."""
    given = parse()
    if given.disk:
        print(json.dumps(fill(Path(given.disk), given.seed)))
        return
    with tempfile.TemporaryDirectory() as temp:
        root = Path(temp)
        prepare(given, root)
        started = time.perf_counter()
        whole = launch(root, root / "whole", root / "home-whole", root / "whole.log")
        if whole.wait() != 0:
            raise SystemExit((root / "whole.log").read_text(encoding="utf-8"))
        seconds = time.perf_counter() - started
        print(f"nothing disturbs it: {seconds:.1f} s")
        result = kill_many(given, root, seconds)
        result |= fill_disks(given, root)
    print("RESULT " + " ".join(f"{name}={value}" for name, value in result.items()))


def parse() -> argparse.Namespace:
    """Parse the command line; `--disk` is how the script calls itself in a namespace of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--disks", type=int, default=8, help="filesystems that fill up")
    parser.add_argument("--weights", type=Path, help="directory of NAME.safetensors; random weights without it")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="3 kills, 1 full disk; a minute")
    parser.add_argument("--disk", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.quick:
        given.kills, given.disks = 3, 1
    return given


def prepare(given: argparse.Namespace, root: Path) -> None:
    """Write drawings and the recipe."""
    write_sketches(root / "data", train_per_class=6 if given.quick else 20, test_per_class=3)
    text = RECIPE.replace("NAME", given.backbone).replace("EPOCHS", "2" if given.quick else "4")
    weights = f"weights: {given.weights.absolute() / given.backbone}.safetensors, " if given.weights else "weights: untrained, "
    (root / "recipe.yaml").write_text(text.replace("WEIGHTS", weights), encoding="utf-8")


def launch(root: Path, out: Path, home: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the command in a process group of its own."""
    command = [
        sys.executable,
        "-m",
        "inkfold.cli.main",
        "train",
        str(root / "recipe.yaml"),
        f"data={root / 'data'}",
        f"out={out}",
    ]
    with log.open("wb") as file:
        return subprocess.Popen(
            command, env={**os.environ, "INKFOLD_HOME": str(home)}, stdout=file, stderr=file, start_new_session=True
        )


def same(out: Path, whole: Path) -> bool:
    """Compare what came out, byte by byte."""
    return all((out / name).read_bytes() == (whole / name).read_bytes() for name in (*RESULTS, *WEIGHTS))


def kill_many(given: argparse.Namespace, root: Path, seconds: float) -> dict[str, int]:
    """Kill as often as asked; see the module's docstring."""
    rng = random.Random(given.seed)
    struck: collections.Counter[str] = collections.Counter()
    ended = equal = kills = 0
    out, home, log = root / "run0", root / "home0", root / "run.log"
    while True:
        process = launch(root, out, home, log)
        try:
            code: int | None = process.wait(rng.uniform(0.2, 0.6 * seconds) if kills < given.kills else None)
        except subprocess.TimeoutExpired:
            polite = kills % 6 == 5
            os.killpg(process.pid, signal.SIGINT if polite else signal.SIGKILL)
            process.wait()
            kills += 1
            struck[stage(log) + (" (Ctrl-C)" if polite else "")] += 1
            continue
        if code != 0:
            raise SystemExit(f"a run did not go on after {kills} kills:\n{log.read_text(encoding='utf-8')[-3000:]}")
        ended, equal = ended + 1, equal + same(out, root / "whole")
        if kills >= given.kills:
            break
        out, home = root / f"run{ended}", root / f"home{ended}"
    files = [path for made in (*root.glob("run[0-9]*"), *root.glob("home[0-9]*")) for path in made.rglob("*")]
    left = sum(TEMP_MARK in path.name or path.name == "checkpoints" for path in files)
    print(f"{kills} kills, {ended} runs came to their end, {equal} with the same bytes; {left} temporary files left")
    print("  struck: " + ", ".join(f"{name} {count}" for name, count in struck.most_common()))
    return {"kills": kills, "runs": ended, "runs_equal": equal, "files_left": left}


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
        failed = launch(root, disk / "run", disk / "home", log).wait() != 0
        said = " ".join(log.read_text(encoding="utf-8").split("error:")[-1].split()) if failed else ""
        clear = failed and "Traceback" not in log.read_text(encoding="utf-8") and "pace" in said
        subprocess.run(["mount", "-o", "remount,size=2g", str(disk)], check=True)
        again = launch(root, disk / "run", disk / "home", log).wait()
        equal = again == 0 and same(disk / "run", root / "whole")
        return {"mib": mib, "failed": failed, "clear": clear, "equal": equal, "said": said[-200:]}
    finally:
        subprocess.run(["umount", str(disk)], check=True)
        shutil.rmtree(disk)


if __name__ == "__main__":
    main()
