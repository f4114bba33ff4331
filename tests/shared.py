"""Directories that tests read together, such as finished runs: made once per test run and never written to."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from filelock import FileLock


@dataclass(frozen=True)
class SharedDirectories:
    """Directories below `root` that any worker makes and all workers read."""

    root: Path
    _states: dict[Path, dict[str, list[int]]] = field(default_factory=dict)

    def get(self, name: str, make: Callable[[Path], object]) -> Path:
        """Give a directory that `make` fills unless another worker has; features go into its own `home`."""
        directory = self.root / name
        if directory not in self._states:
            directory.parent.mkdir(parents=True, exist_ok=True)
            record = directory.with_name(f"{name}.json")
            with FileLock(directory.with_name(f"{name}.lock")):
                if not record.is_file():
                    shutil.rmtree(directory, ignore_errors=True)  # of a worker that failed half-way
                    directory.mkdir()
                    with pytest.MonkeyPatch.context() as patch:
                        patch.setenv("INKFOLD_HOME", str(directory / "home"))
                        make(directory)
                    record.write_text(json.dumps(state_of(directory)))
                self._states[directory] = json.loads(record.read_text())
        return directory

    def check(self) -> None:
        """Fail where a test has written into a directory that others read."""
        for directory, made in self._states.items():
            now = state_of(directory)
            changed = sorted(name for name in made.keys() | now.keys() if made.get(name) != now.get(name))
            assert not changed, f"a test of this file, or one that ran beside it, changed {directory}: {changed}"


def state_of(directory: Path) -> dict[str, list[int]]:
    """Give size and time of all files, but for what a reader may leave."""
    files = ((path.relative_to(directory).as_posix(), path) for path in directory.rglob("*") if path.is_file())
    return {name: [path.stat().st_size, path.stat().st_mtime_ns] for name, path in files if not name.endswith(".lock")}
