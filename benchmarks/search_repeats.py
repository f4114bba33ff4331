"""Whether a search repeats: the same study several times, with one thread and with two, and killed on the way.

Compares `tune.json` and the other files byte by byte, and each trial's values, state and accuracies in the journal. Each study
is a process of its own, with other hashes of strings.

    .venv/bin/python benchmarks/search_repeats.py --quick
    .venv/bin/python benchmarks/search_repeats.py --data DIR [--recipe cpu-small] [--set tune.trials=64]
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage

from inkfold.data.synthetic import CLASS_NAMES, write_sketches

FILES = ("tune.json", "history.svg", "importance.svg", "best.yaml", "candidate.yaml")
SPACE = (
    "tune.space={train_head.lr: {low: 1.0e-4, high: 1.0e-1, log: true}, train_head.batch_size: {choices: [32, 64]}, "
    "head: {choices: [{kind: linear}, {kind: mlp, hidden: [64]}, {kind: knn, neighbours: 5}]}, "
    "head.dropout: {low: 0, high: 0.5}, train_head.scaling: {choices: [none, standardise]}}"
)


QUICK = ("image.size=32", "train_head.epochs=8", "tune.trials=12", "tune.batch=6", SPACE)


def main() -> None:
    """Run the studies, print a table, and exit with 1 if any two differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three small studies of drawn doodles, in under a minute")
    parser.add_argument("--data", help="a folder of drawings; without it, doodles are drawn")
    parser.add_argument("--recipe", default="first")
    parser.add_argument("--repeats", type=int, help="number of studies, at least 3; the last one is killed once on the way")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes of the recipe")
    arguments = parser.parse_args()
    repeats = arguments.repeats or (3 if arguments.quick else 5)
    settings = [*(QUICK if arguments.quick else ()), *arguments.set]
    with tempfile.TemporaryDirectory() as directory:
        studies = run_studies(arguments.recipe, arguments.data, settings, repeats, Path(directory))
    first = studies[0]
    print(f"{'study':<24} {'seconds':>8} {'complete':>9} {'given up':>9}  {'files':<10}  decisions")
    for study in studies:
        print("{name:<24} {seconds:>8.1f} {complete:>9} {given_up:>9}  {files:.10}  {decisions:.10}".format(**study))
    equal = sum((study["files"], study["decisions"]) == (first["files"], first["decisions"]) for study in studies)
    seconds = {threads: [study["seconds"] for study in studies[:-1] if study["threads"] == threads] for threads in (1, 2)}
    print(
        f"RESULT studies={len(studies)} equal={equal} trials={first['complete'] + first['given_up']} "
        f"complete={first['complete']} gain={first['gain']:+.4f} recommended={first['recommended']} "
        + " ".join(f"seconds_{threads}_threads={min(values):.1f}" for threads, values in seconds.items())
    )
    sys.exit(equal < len(studies))


def run_studies(recipe: str, data: str | None, settings: list[str], repeats: int, directory: Path) -> list[dict[str, Any]]:
    """Repeat one study with one thread and with two, the last one killed on the way and continued."""
    if data is None:
        write_sketches(directory / "data", train_per_class=12, test_per_class=1, classes=CLASS_NAMES[:8])
        data = str(directory / "data")
    command = [sys.executable, "-m", "inkfold", "tune", recipe, f"data={data}", *settings]
    home = os.environ | {"INKFOLD_HOME": str(directory / "home")}
    run([*command, f"out={directory / 'features'}", "tune.trials=2"], home)
    studies = []
    for i in range(repeats):
        out, threads, is_killed = directory / f"study{i}", 1 + i % 2, i == repeats - 1
        environment = home | {"OMP_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(i)}
        began = time.monotonic()
        if is_killed:
            kill_on_the_way([*command, f"out={out}"], environment, out)
        run([*command, f"out={out}"], environment)
        name = f"{threads} thread{'s'[: threads - 1]}{', killed once' if is_killed else ''}"
        studies.append({"name": name, "threads": threads, "seconds": time.monotonic() - began, **outcome(out)})
    return studies


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a command, and show what it printed if it fails."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)


def kill_on_the_way(command: list[str], environment: dict[str, str], out: Path) -> None:
    """Start a study and kill it when the first trials have ended."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not ((out / "study.journal").is_file() and ended(out)):
        time.sleep(0.05)
    process.kill()
    process.wait()


def ended(out: Path) -> int:
    """Count the trials of a study that have ended."""
    return sum(trial.state.is_finished() for trial in journal(out))


def journal(out: Path) -> list[optuna.trial.FrozenTrial]:
    """Read a study's trials."""
    storage = JournalStorage(JournalFileBackend(str(out / "study.journal")))
    names = [study.study_name for study in storage.get_all_studies()]
    return optuna.load_study(study_name=names[0], storage=storage).trials if names else []


def outcome(out: Path) -> dict[str, Any]:
    """Digest a study's files, and what it drew, stopped and measured."""
    files = hashlib.sha256(b"".join(name.encode() + (out / name).read_bytes() for name in FILES if (out / name).is_file()))
    decisions = [(trial.number, trial.params, trial.state, trial.value, trial.intermediate_values) for trial in journal(out)]
    summary = json.loads((out / "tune.json").read_text())
    return {
        "files": files.hexdigest(),
        "decisions": hashlib.sha256(repr(decisions).encode()).hexdigest(),
        "gain": summary["set_aside"]["difference"],
        "recommended": summary["recommended"],
        **summary["trials"],
    }


if __name__ == "__main__":
    main()
