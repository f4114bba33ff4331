"""What to do next, read off a run's own figures: each step with the figure that calls for it and the command to type."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from inkfold.config.sections import DataSettings
from inkfold.evaluation.error_analysis import ClassRow, ConfusedPair
from inkfold.evaluation.metrics import expected_calibration_error
from inkfold.report.run_data import RunRecord, flat_recipe

MOST = 5
HIGH_ACCURACY = 0.95
BY_HEART_NATS = 0.5
MISCALIBRATED = 0.05
CONFUSED_SHARE = 0.25
WEAK_CLASSES = 5
KEPT = ("folds.group_column", "backbone.weights", "backbone.mean", "backbone.std", "backbone.model_args")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        what: In a few words.
        why: The figures that call for it.
        command: What to type; None where it is done by hand.
    """

    what: str
    why: str
    command: str | None = None


def next_steps(record: RunRecord, classes: Sequence[ClassRow], pairs: Sequence[ConfusedPair]) -> list[Step]:
    """Say what to do next.

    Args:
        record: The run.
        classes: Its classes, the weakest first.
        pairs: Those that are taken for each other.

    Returns:
        At most five steps, those that are likely to give most first.
    """
    if record.judged is None:
        return [Step("Give the drawings' classes", "Without any nothing can be measured.", None)]
    found = [
        *_by_audit(record),
        *_by_backbone(record),
        *_by_weakness(record),
        *_by_heart(record),
        *_by_pairs(record, pairs),
        *_by_classes(record, classes),
        *_by_calibration(record),
        *_by_split(record),
        *_by_vote(record),
    ]
    return found[:MOST]


def _by_backbone(record: RunRecord) -> Iterator[Step]:
    backbone = record.models[0].get("backbone", {})
    if record.manifest.get("backbone", {}).get("weights_source", backbone.get("weights")) == "untrained" or (
        backbone.get("weights") == "untrained"
    ):
        yield Step(
            "Give the backbone trained weights",
            "Its weights are random: the accuracy shows that the path works, not what these drawings can reach.",
            _command(record, "explore", None, ["--backbones", "tf_efficientnet_lite0", "mobilenetv2_100"]),
        )
    elif _accuracy(record) < HIGH_ACCURACY and all(one.get("backbone", {}).get("train") == "frozen" for one in record.models):
        yield Step(
            "Train the backbone too",
            f"Its features are frozen, and what heads get out of them ends at {_percent(_accuracy(record))}. On 345 "
            "classes of Quick, Draw! training a small backbone whole brought 38.1 % to 50.1 %. Large ones want a GPU.",
            _command(record, "train", "cpu-finetune", [f"backbone.name={backbone.get('name')}"], "tuned"),
        )


def _by_audit(record: RunRecord) -> Iterator[Step]:
    if record.audit is None:
        return
    counts, labels = record.audit["duplicates"]["counts"], record.audit["labels"]
    found = [f"{_counted(counts['leak'], 'group')} of copies in train and test both"] if counts["leak"] else []
    found += [f"{_counted(counts['across'], 'group')} of copies with different labels"] if counts["across"] else []
    found += [_counted(len(labels["doubtful"]), "doubtful label")] if labels and labels["doubtful"] else []
    if found:
        yield Step("Settle what is wrong with the data", f"{', '.join(found)}. Shown below, the worst first.")


def _by_weakness(record: RunRecord) -> Iterator[Step]:
    rows = (record.weakness or {}).get("rows", [])
    clean = (record.weakness or {}).get("clean", {})
    lost = [row for row in rows if row["ci95"][1] < clean["ci95"][0] and row.get("augmentation")]
    for row in sorted(lost, key=lambda row: -row["drop"])[:1]:
        yield Step(
            f"Show it drawings under {row['augmentation']}",
            f"Under “{row['name']}” accuracy drops from {_percent(clean['accuracy'])} to {_percent(row['accuracy'])}.",
            row["command"],
        )


def _by_heart(record: RunRecord) -> Iterator[Step]:
    if record.curve is None or not record.curve["epochs"]:
        return
    last, stages = record.curve["epochs"][-1], record.curve["stages"]
    if last["held_out_loss"] - last["loss"] > BY_HEART_NATS and not any(stage["augment"] for stage in stages):
        yield Step(
            "Show it more views of each drawing",
            f"It ends with a loss of {last['loss']:.2f} on what it learns from and {last['held_out_loss']:.2f} on held-out "
            "drawings: it learns by heart, and nothing is augmented.",
            _command(
                record,
                "train",
                str(record.path / "recipe.yaml"),
                ["curriculum=[{augment: [hflip@0.5, rotate(15)@0.5], views: 8}]", "tta=[identity, hflip]"],
                "augmented",
                own=True,
            ),
        )


def _by_pairs(record: RunRecord, pairs: Sequence[ConfusedPair]) -> Iterator[Step]:
    names = record.manifest["class_names"]
    told = [pair for pair in pairs if pair.share >= CONFUSED_SHARE and pair.first_as_second and pair.second_as_first]
    for pair in sorted(told, key=lambda pair: -pair.share)[:1]:
        count = pair.first_as_second + pair.second_as_first
        yield Step(
            f"Look at “{names[pair.first]}” and “{names[pair.second]}” side by side",
            f"{count} of their {pair.n_first + pair.n_second} drawings are taken for the other. If you can't tell them apart "
            "either, merge them; if you can, say it with more drawings.",
        )


def _by_classes(record: RunRecord, classes: Sequence[ClassRow]) -> Iterator[Step]:
    known = [row for row in classes if row.recall is not None and row.ci95 is not None]
    accuracy = _accuracy(record)
    weak = [row for row in known if row.ci95 is not None and row.ci95[1] < accuracy][:WEAK_CLASSES]
    if weak:
        typical = int(np.median([row.n for row in known]))
        listed = ", ".join(f"{row.name} ({round((row.recall or 0) * row.n)} of {row.n})" for row in weak)
        yield Step(
            "Draw more of the weakest classes",
            f"{listed}: the whole interval of each is below the overall accuracy; the median class has {typical} "
            "drawings here. Only new drawings cost forwards.",
            _command(record, "train", str(record.path / "recipe.yaml"), [], "more", own=True) if record.vote is None else None,
        )


def _by_calibration(record: RunRecord) -> Iterator[Step]:
    assert record.judged is not None
    words, predictions = record.judged
    assert predictions.targets is not None
    ece = expected_calibration_error(predictions.probs, predictions.targets)
    confidence = float(predictions.probs.max(1).mean())
    if ece > MISCALIBRATED and record.vote is None:
        side = "too sure" if confidence > _accuracy(record) else "not sure enough"
        yield Step(
            "Don't read its confidence as a probability",
            f"It is {side}: {_percent(confidence)} on average where {_percent(_accuracy(record))} are right {words} "
            f"(ECE {ece:.3f}). A calibrated vote fits a temperature for each member.",
            f"inkfold vote {_quoted(record.path)} OTHER_RUN --calibrate --out {_quoted(f'{record.path}-calibrated')}",
        )


def _by_split(record: RunRecord) -> Iterator[Step]:
    if record.vote is None and record.metrics["split"] == "holdout" and record.curve is not None:
        assert record.judged is not None
        yield Step(
            "Hold out every part in turn",
            f"One part of {len(record.judged[1].image_paths):,} drawings was held out. Five folds judge every drawing, which "
            "halves the interval, and leave five models that vote, for five times the time.",
            _command(record, "train", str(record.path / "recipe.yaml"), ["folds.split=kfold"], "folds", own=True),
        )


def _by_vote(record: RunRecord) -> Iterator[Step]:
    if record.vote is None:
        yield Step(
            "Let a second model vote",
            "Models that err on different drawings correct each other; whether they do is tested out of fold.",
            f"inkfold vote {_quoted(record.path)} OTHER_RUN --out {_quoted(f'{record.path}-vote')}",
        )


def _accuracy(record: RunRecord) -> float:
    assert record.judged is not None
    _, predictions = record.judged
    return float((predictions.preds == predictions.targets).mean())


def _command(
    record: RunRecord, command: str, recipe: str | None, settings: Sequence[str], suffix: str = "", *, own: bool = False
) -> str:
    """Write a command line over the run's own data and weights.

    Args:
        record: The run.
        command: Of inkfold.
        recipe: The recipe to train; None for a command that takes the data.
        settings: Further words.
        suffix: Of the new run's directory.
        own: Whether the recipe is the run's own, which names all that itself.
    """
    flat = flat_recipe(record.models[0])
    root = flat.get("data.root", "DATA")
    words = ["inkfold", command, *([root] if recipe is None else [recipe])]
    if recipe is not None and not own:
        usual = flat_recipe({"data": DataSettings().model_dump(mode="json")})
        kept = [key for key in flat if key in KEPT or (key in usual and key != "data.root" and flat[key] != usual[key])]
        words += [f"data={root}", *(f"{key}={flat[key]}" for key in kept if flat[key] not in ("null", "{}"))]
    words += settings
    return shlex.join([*words, f"out={record.path}-{suffix}"] if suffix else words)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _quoted(path: object) -> str:
    return shlex.quote(str(path))
