"""A finished run as its files tell it: figures and predictions, without a backbone. Reading it needs no PyTorch."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from inkfold.config.renamed import renamed_recipe
from inkfold.errors import PredictionError
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.manifest import AUDIT, WEAKNESS, is_below, read_manifest

FILES = (
    "recipe.yaml",
    "metrics.json",
    "cost.json",
    "curve.json",
    "vote.json",
    "predictions/out_of_fold.parquet",
    "predictions/test.parquet",
)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run's files say.

    Attributes:
        path: The run's directory.
        manifest: Classes, members, backbone, versions.
        metrics: What `metrics.json` holds.
        cost: What `cost.json` holds.
        recipe: The resolved recipe's keys, nested.
        curve: Stages and epochs; None for a vote.
        vote: Candidates, pairs and how members differ; None for one model.
        out_of_fold: What was said of drawings that weren't learnt from; None for a vote over mere test predictions.
        test: What was said of the test drawings; None without any.
        audit: Duplicates and doubtful labels; None where nobody looked, or the data are no longer those that were looked at.
        weakness: Accuracy under transformations; None likewise.
        members: The recipes of a vote's runs.
    """

    path: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    cost: dict[str, Any]
    recipe: dict[str, Any]
    curve: dict[str, Any] | None = None
    vote: dict[str, Any] | None = None
    out_of_fold: Predictions | None = None
    test: Predictions | None = None
    audit: dict[str, Any] | None = None
    weakness: dict[str, Any] | None = None
    members: tuple[dict[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The directory's own name."""
        return self.path.resolve().name

    @property
    def judged(self) -> tuple[str, Predictions] | None:
        """What the findings are taken from: out of fold, else test drawings with known classes, else nothing."""
        if self.out_of_fold is not None and self.out_of_fold.targets is not None and len(self.out_of_fold.targets):
            return self.words, self.out_of_fold
        if self.test is not None and self.test.targets is not None and len(self.test.targets):
            return "test", self.test
        return None

    @property
    def words(self) -> str:
        """How its held-out drawings are called."""
        return "out of fold" if self.metrics["split"] == "kfold" else "held out"

    @property
    def models(self) -> list[dict[str, Any]]:
        """The recipes that say how drawings were read: its own, or its members' that are runs."""
        return [*self.members] or [self.recipe]


def read_run_record(path: str | Path) -> RunRecord:
    """Read a finished run of one model or of several.

    Args:
        path: Its directory.

    Returns:
        What its files say; weights aren't looked at.

    Raises:
        PredictionError: If it isn't finished, or with every file that is missing or not as it was written.
    """
    path = Path(path)
    manifest = read_manifest(path, FILES)
    there = {name for name in FILES if name in manifest["files"]}
    optional = {name: _read(path / name, "json") if name in there else None for name in ("curve.json", "vote.json")}
    tables = {name: Predictions.load(path / name) if name in there else None for name in FILES[-2:]}
    members = [one["run"] for one in manifest["members"] if isinstance(one, Mapping) and one.get("run")]
    recipes = [_read(path / member / "recipe.yaml", "yaml") for member in members if _is_inside(path, member)]
    return RunRecord(
        path=path,
        manifest=manifest,
        metrics=_read(path / "metrics.json", "json"),
        cost=_read(path / "cost.json", "json"),
        recipe=_read(path / "recipe.yaml", "yaml"),
        curve=optional["curve.json"],
        vote=optional["vote.json"],
        out_of_fold=tables[FILES[-2]],
        test=tables[FILES[-1]],
        audit=_later(path / AUDIT, manifest["data_fingerprint"]),
        weakness=_later(path / WEAKNESS, manifest["data_fingerprint"]),
        members=tuple(recipes),
    )


def flat_recipe(raw: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Give a recipe's keys in dotted form, lists as YAML on one line.

    Args:
        raw: Nested mappings.
        prefix: Of all keys.

    Returns:
        Values as they would be typed.
    """
    flat: dict[str, str] = {}
    for name, value in raw.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat |= flat_recipe(value, f"{key}.")
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
            flat[key] = text.removesuffix("...\n").strip()
    return flat


def found_again(path: Path) -> str:
    """Say how a file that was added to a finished run is mended.

    Args:
        path: `audit.json` or `weakness.json` in the run's directory; each is named after the command that writes it.

    Returns:
        A sentence for an error's end.
    """
    return f"Write it again: {shlex.join(['inkfold', path.stem, str(path.parent)])}; or remove the file."


def _read(path: Path, kind: str, mend: str = "Train again into another directory.") -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        return dict(json.loads(text)) if kind == "json" else renamed_recipe(yaml.safe_load(text))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise PredictionError(f"{path}: not a run's {path.name}: {error}. {mend}") from None


def _later(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Read what was added to a finished run, unless it was found in other data."""
    if not path.is_file():
        return None
    found = _read(path, "json", found_again(path))
    return found if found.get("data_fingerprint", fingerprint) == fingerprint else None


def _is_inside(path: Path, member: Any) -> bool:
    return is_below(member) and (path / member / "recipe.yaml").is_file()
