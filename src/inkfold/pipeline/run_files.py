"""The files of a finished run, read from its directory when they are first needed, without PyTorch."""

import shlex
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, final

import yaml

from inkfold.config.parsing import parse_yaml
from inkfold.config.renamed import renamed_recipe
from inkfold.errors import PredictionError
from inkfold.evaluation.formatting import turned
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.manifest import AUDIT, EXPLAINED, MANIFEST, TRAIN_AGAIN, WEAKNESS, is_below, load_manifest, read_manifest
from inkfold.runtime.foreign import parse_json, read_whole
from inkfold.storage.hashing import digest
from inkfold.storage.sealed import unsealed

RECIPE = "recipe.yaml"
METRICS = "metrics.json"
COST = "cost.json"
CURVE = "curve.json"
VOTE = "vote.json"
CORRECTIONS = "corrections.csv"  # the decisions that the data were read with, as they were then
OUT_OF_FOLD = "predictions/out_of_fold.parquet"
BY_HEADS = "predictions/out_of_fold_by_heads.parquet"  # where `OUT_OF_FOLD` is with label propagation
TEST = "predictions/test.parquet"
SUBMISSION = "submission.csv"
SUBMISSION_FORM = "submission_form.json"  # where it isn't the usual one
READ = (RECIPE, METRICS, COST, CURVE, VOTE, OUT_OF_FOLD, BY_HEADS, TEST, SUBMISSION_FORM)


@final
class RunFiles:
    """Content of the files of a finished run or ensemble. Reading one that isn't as it was written raises PredictionError.

    Tables of predictions, which may be large, are those that were checked when the run was opened or loaded.

    Args:
        path: The directory that training or voting wrote.
        manifest: Content of `manifest.json`: classes, members, backbone, versions, and the names of the files.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.path.resolve().name

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Content of `metrics.json`."""
        return self._read(METRICS)

    @cached_property
    def cost(self) -> dict[str, Any]:
        """Content of `cost.json`."""
        return self._read(COST)

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The resolved recipe as nested mappings, not validated; keys of earlier versions have their present names."""
        return self._read(RECIPE)

    @cached_property
    def curve(self) -> dict[str, Any] | None:
        """Stages and epochs of the training curve; None for an ensemble."""
        return self._read(CURVE) if CURVE in self.manifest["files"] else None

    @cached_property
    def vote(self) -> dict[str, Any] | None:
        """Candidates of the vote, tests of each pair, and how much the members differ; None for a run of one model."""
        return self._read(VOTE) if VOTE in self.manifest["files"] else None

    @cached_property
    def out_of_fold(self) -> Predictions | None:
        """Predictions of the held-out drawings; None for an ensemble over predictions of test drawings alone."""
        return Predictions.load(self.path / OUT_OF_FOLD) if OUT_OF_FOLD in self.manifest["files"] else None

    @cached_property
    def out_of_fold_by_heads(self) -> Predictions | None:
        """Predictions of the held-out drawings one by one, as new drawings are predicted; see `out_of_fold`.

        They differ from it where the run's test drawings were predicted together.
        """
        return Predictions.load(self.path / BY_HEADS) if BY_HEADS in self.manifest["files"] else self.out_of_fold

    @cached_property
    def test(self) -> Predictions | None:
        """Predictions of the test drawings; None without any."""
        return Predictions.load(self.path / TEST) if TEST in self.manifest["files"] else None

    @cached_property
    def audit(self) -> dict[str, Any] | None:
        """Duplicates and doubtful labels; None where no audit was made, or one of other data."""
        return self._read_added(AUDIT)

    @cached_property
    def weakness(self) -> dict[str, Any] | None:
        """Accuracy on changed drawings; None where it was not measured, or measured on other data."""
        return self._read_added(WEAKNESS)

    @cached_property
    def explained(self) -> dict[str, Any] | None:
        """What the most confident mistakes rest on; None where nobody asked, or for other data."""
        return self._read_added(EXPLAINED)

    @property
    def corrections(self) -> str | None:
        """Path of the decisions on labels that the data were read with; None without any."""
        return str((self.path / CORRECTIONS).absolute()) if CORRECTIONS in self.manifest["files"] else None

    @cached_property
    def submission_summary(self) -> str | None:
        """The form of the submission in words; None where it has the usual columns, or there is none."""
        if SUBMISSION_FORM not in self.manifest["files"]:
            return None
        return str(self._read(SUBMISSION_FORM).get("summary", ""))

    @cached_property
    def model_recipes(self) -> list[dict[str, Any]]:
        """The recipes that define how drawings are read: those of an ensemble's member runs, else the run's own."""
        members = [member for member in self.manifest["members"] if isinstance(member, Mapping)]
        places = [self.path / member["run"] for member in members if member.get("run") and is_below(member["run"])]
        there = [place for place in places if (place / MANIFEST).is_file()]
        return [RunFiles(place, load_manifest(place)).recipe for place in there] or [self.recipe]

    @property
    def evaluated_part(self) -> str | None:
        """The part that the run is evaluated on: `out_of_fold`, else `test`; None where no true classes are known."""
        return next((part for part in ("out_of_fold", "test") if part in self.metrics), None)

    @property
    def evaluated(self) -> Predictions | None:
        """The predictions of the evaluated part, with their true classes; None where no true classes are known."""
        return None if self.evaluated_part is None else self.out_of_fold if self.evaluated_part == "out_of_fold" else self.test

    @property
    def held_out_name(self) -> str:
        """What the accuracy on held-out drawings is called: `held out` where a single part was, else `out of fold`."""
        return "out of fold" if self.metrics["split"] == "kfold" else "held out"

    @property
    def held_out_parts(self) -> str | None:
        """How many of the parts and of the drawings were held out, in words; None where all were, or a holdout was."""
        return parts_in_words(self.metrics)

    def _read(self, name: str, advice: str = TRAIN_AGAIN) -> dict[str, Any]:
        path, expected = self.path / name, self.manifest["files"].get(name)
        try:
            data = read_whole(path)
            if expected is not None and digest(data) != expected:
                raise ValueError("it isn't as it was written")
            if path.suffix == ".yaml":
                return renamed_recipe(parse_yaml(data.decode("utf-8-sig")))
            return unsealed(parse_json(data), must_be_sealed=False)
        except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
            raise PredictionError(f"{path}: not a run's {path.name}: {error}. {advice}") from None

    def _read_added(self, name: str) -> dict[str, Any] | None:
        """Read a file that was added to the finished run, unless it is about other data."""
        if not (self.path / name).is_file():
            return None
        content, own = self._read(name, rewrite_advice(self.path / name)), self.manifest["data_fingerprint"]
        return content if content.get("data_fingerprint", own) == own else None


def open_run_files(path: str | Path) -> RunFiles:
    """Open the directory of a finished run or ensemble, and check the digests of the files that reports read.

    Args:
        path: The directory that training or voting wrote.

    Returns:
        Its files. Heads and weights are neither checked nor read.

    Raises:
        PredictionError: If the run is not finished, or with every file that is missing or was changed.
    """
    return RunFiles(Path(path), read_manifest(Path(path), READ))


def headline(figures: Mapping[str, Any]) -> Mapping[str, Any]:
    """Choose the accuracy to report of a part's figures: the nested one where held-out drawings chose what they are scored by.

    Args:
        figures: `out_of_fold` or `test` of a run's `metrics.json`.

    Returns:
        A mapping with `accuracy` and `accuracy_ci95`.
    """
    nested: Mapping[str, Any] = figures.get("nested", figures)
    return nested


def parts_in_words(metrics: Mapping[str, Any]) -> str | None:
    """Say how many of the parts and of the drawings were held out.

    Args:
        metrics: Content of a run's or an ensemble's `metrics.json`.

    Returns:
        Such as `2 of 5 parts, 2,746 of 6,867 drawings`; None where all parts were held out, or a holdout was.
    """
    parts = metrics.get("parts")
    if parts is None:
        return None
    drawings = f"{parts['drawings']:,} of {metrics['data']['n_train']:,} drawings"
    return f"{parts['held_out']} of {parts['of']} parts, {drawings}"


def gain_of_vote(vote: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]] | None:
    """Find what the chosen vote gains over the best single member, on held-out drawings or else on test drawings.

    Args:
        vote: Content of `vote.json`.

    Returns:
        The member's name, the drawings (`out of fold` or `test`), and the paired test of the vote less the member; None where
        nothing was scored.
    """
    members = [one for one in vote["candidates"] if one["kind"] == "member"]
    for pairs, part in (("pairs", "out of fold"), ("test_pairs", "test")):
        scored = [(one if part == "out of fold" else one.get("test", {}), one["name"]) for one in members]
        known = [(figures["accuracy"], name) for figures, name in scored if "accuracy" in figures]
        best = max(known, key=lambda pair: pair[0], default=(0.0, ""))[1]
        for pair in vote[pairs]:
            if {pair["first"], pair["second"]} == {best, vote["taken"]}:
                return best, part, dict(pair) if pair["first"] == best else turned(pair)
    return None


def rewrite_advice(path: Path) -> str:
    """Write what to do about a broken file that was added to a finished run.

    Args:
        path: `audit.json` or `weakness.json` of a run. Each is named after the command that writes it.

    Returns:
        A sentence that ends an error message.
    """
    return f"Write it again: {shlex.join(['inkfold', path.stem, str(path.parent)])}; or remove the file."


def flat_recipe(raw: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten a recipe into dotted keys.

    Args:
        raw: The recipe's keys as nested mappings, as YAML has them.
        prefix: Put before every key as it is, such as `finetune.`; empty for a whole recipe.

    Returns:
        Values as they are typed on the command line, by dotted key; lists are YAML on one line.
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
