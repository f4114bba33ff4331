"""Advice on what to do next: each step with the figures of the run that call for it, and the command to type."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from inkfold.config.sections import DataSettings
from inkfold.evaluation.error_analysis import ClassRow, ConfusedPair
from inkfold.pipeline.run_files import RunFiles, flat_recipe
from inkfold.report.ladder import evaluated_name

MOST = 5
HIGH_ACCURACY = 0.95
OVERFITTING_NATS = 0.5
MISCALIBRATED = 0.05
PHOTOGRAPHED, SMALL = 0.05, 0.5  # of the drawings
CONFUSED_SHARE = 0.25
WEAK_CLASSES = 5
KEPT = ("folds.group_column", "backbone.weights", "backbone.mean", "backbone.std", "backbone.model_args")


@dataclass(frozen=True, slots=True)
class Step:
    """A piece of advice: what to do next, why, and the command for it.

    Attributes:
        what: What to do, in a few words: the step's heading.
        why: The figures of the run that call for it.
        command: Command to type; None where it is done by hand.
    """

    what: str
    why: str
    command: str | None = None


def next_steps(run: RunFiles, classes: Sequence[ClassRow], pairs: Sequence[ConfusedPair]) -> list[Step]:
    """Advise what to do next: at most five steps, the most promising first.

    The classes come with the lowest recall first.
    """
    if run.evaluated is None:
        return [Step("Add the drawings' classes", "Without true classes nothing can be measured.", None)]
    steps = [
        *_by_audit(run),
        *_by_reading(run),
        *_by_backbone(run),
        *_by_weakness(run),
        *_by_overfitting(run),
        *_by_pairs(run, pairs),
        *_by_classes(run, classes),
        *_by_calibration(run),
        *_by_split(run),
        *_by_vote(run),
    ]
    return steps[:MOST]


def _by_backbone(run: RunFiles) -> Iterator[Step]:
    backbone = run.model_recipes[0].get("backbone", {})
    if run.manifest.get("backbone", {}).get("weights_source", backbone.get("weights")) == "untrained" or (
        backbone.get("weights") == "untrained"
    ):
        yield Step(
            "Use a backbone with trained weights",
            "Its weights are random: the accuracy shows that the pipeline works, not what is possible with these drawings.",
            _command(run, "explore", None, ["--backbones", "tf_efficientnet_lite0", "--backbones", "mobilenetv2_100"]),
        )
    elif _accuracy(run) < HIGH_ACCURACY and all(
        recipe.get("finetune", {}).get("part", "none") == "none" for recipe in run.model_recipes
    ):
        yield Step(
            "Fine-tune the backbone",
            f"It is frozen, and a head on its features reaches {_reached(run)}. On 345 classes of Quick, Draw! "
            "fine-tuning a small backbone raised the accuracy from 38.1 % to 50.1 %. Large ones need a GPU.",
            _command(run, "train", "cpu-finetune", [f"backbone.name={backbone.get('name')}"], "tuned"),
        )


def _by_audit(run: RunFiles) -> Iterator[Step]:
    if run.audit is None:
        return
    counts, labels = run.audit["duplicates"]["counts"], run.audit["labels"]
    problems = [f"{_counted(counts['leak'], 'group')} of duplicates trained on and evaluated on"] if counts["leak"] else []
    problems += [f"{_counted(counts['across'], 'group')} of duplicates with different labels"] if counts["across"] else []
    problems += [_counted(len(labels["doubtful"]), "doubtful label")] if labels and labels["doubtful"] else []
    if problems:
        yield Step("Correct the data", f"{', '.join(problems)}. Shown below, the worst first.")


def _by_reading(run: RunFiles) -> Iterator[Step]:
    """Advise `auto` where the recipe fixes how pages are read, and what is known of the pages speaks against it."""
    pages, image = run.metrics.get("reading", {}).get("pages"), run.recipe.get("image", {})
    if pages is None:
        return
    filled, photographed = pages["filled"], pages["photographed"]
    if image.get("paper") == "keep" and photographed >= PHOTOGRAPHED:
        yield _reading_step(
            run, "paper", f"{photographed:.0%} of the drawings are photographed or scanned, and the paper is kept."
        )
    if image.get("resize") == "pad" and 1 - filled - photographed >= SMALL:
        small = (
            f"{1 - filled - photographed:.0%} of the drawings fill less than four fifths of their page, and none is cropped."
        )
        yield _reading_step(run, "resize", small)


def _reading_step(run: RunFiles, key: str, why: str) -> Step:
    setting = f"image.{key}=auto"
    command = _command(run, "train", str(run.path / "recipe.yaml"), [setting], key, own=True)
    return Step(f"Try {setting}", f"{why} It compares both ways out of fold, and takes the better one.", command)


def _by_weakness(run: RunFiles) -> Iterator[Step]:
    rows = (run.weakness or {}).get("rows", [])
    clean = (run.weakness or {}).get("clean", {})
    lost = [row for row in rows if row["ci95"][1] < clean["ci95"][0] and (row.get("setting") or row.get("augmentation"))]
    for row in sorted(lost, key=lambda row: -row["drop"])[:1]:
        yield Step(
            f"Read with {row['setting']}" if row.get("setting") else f"Augment with {row['augmentation']}",
            f"On drawings “{row['name']}” accuracy drops from {_percent(clean['accuracy'])} to {_percent(row['accuracy'])}.",
            row["command"],
        )


def _by_overfitting(run: RunFiles) -> Iterator[Step]:
    if run.curve is None or not run.curve["epochs"]:
        return
    last, stages = run.curve["epochs"][-1], run.curve["stages"]
    if last["held_out_loss"] - last["loss"] > OVERFITTING_NATS and not any(stage["augment"] for stage in stages):
        yield Step(
            "Augment the drawings",
            f"The loss ends at {last['loss']:.2f} on training drawings and at {last['held_out_loss']:.2f} on held-out ones: "
            "it overfits, and the recipe has no augmentation.",
            _command(
                run,
                "train",
                str(run.path / "recipe.yaml"),
                ["curriculum=[{augment: [hflip@0.5, rotate(15)@0.5], views: 8}]", "tta=[identity, hflip]"],
                "augmented",
                own=True,
            ),
        )


def _by_pairs(run: RunFiles, pairs: Sequence[ConfusedPair]) -> Iterator[Step]:
    names = run.manifest["class_names"]
    confused = [pair for pair in pairs if pair.share >= CONFUSED_SHARE and pair.first_as_second and pair.second_as_first]
    for pair in sorted(confused, key=lambda pair: -pair.share)[:1]:
        count = pair.first_as_second + pair.second_as_first
        yield Step(
            f"Look at “{names[pair.first]}” and “{names[pair.second]}” side by side",
            f"{count} of their {pair.n_first + pair.n_second} drawings are mistaken for the other class. If you can't tell "
            "them apart either, merge the classes; if you can, add more drawings of both.",
        )


def _by_classes(run: RunFiles, classes: Sequence[ClassRow]) -> Iterator[Step]:
    known = [row for row in classes if row.recall is not None and row.ci95 is not None]
    accuracy = _accuracy(run)
    weak = [row for row in known if row.ci95 is not None and row.ci95[1] < accuracy][:WEAK_CLASSES]
    if weak:
        typical = int(np.median([row.n for row in known]))
        listed = ", ".join(f"{row.name} ({round((row.recall or 0) * row.n)} of {row.n})" for row in weak)
        yield Step(
            "Add drawings of the weakest classes",
            f"{listed}: the whole interval of each is below the overall accuracy; the median class has {typical} "
            "drawings here. Only new drawings cost forward passes.",
            _command(run, "train", str(run.path / "recipe.yaml"), [], "more", own=True) if run.vote is None else None,
        )


def _by_calibration(run: RunFiles) -> Iterator[Step]:
    assert run.evaluated is not None
    assert run.evaluated_part is not None
    ece, accuracy = run.metrics[run.evaluated_part]["ece"], _accuracy(run)
    confidence = float(run.evaluated.probs.max(1).mean())
    if ece > MISCALIBRATED and run.vote is None:
        side = "over-confident" if confidence > accuracy else "under-confident"
        yield Step(
            "Don't read its confidence as a probability",
            f"It is {side}: {_percent(confidence)} confident on average, {_percent(accuracy)} right {evaluated_name(run)} "
            f"(ECE {ece:.3f}). A calibrated vote fits a temperature for each member.",
            f"inkfold vote {_quoted(run.path)} OTHER_RUN --calibrate --out {_quoted(f'{run.path}-calibrated')}",
        )


def _by_split(run: RunFiles) -> Iterator[Step]:
    if run.vote is None and run.metrics["split"] == "holdout" and run.curve is not None:
        assert run.evaluated is not None
        yield Step(
            "Cross-validate in five folds",
            f"One part of {len(run.evaluated.image_paths):,} drawings was held out. Five folds evaluate every drawing, which "
            "halves the interval, and give five models that vote, at five times the cost.",
            _command(run, "train", str(run.path / "recipe.yaml"), ["folds.split=kfold"], "folds", own=True),
        )


def _by_vote(run: RunFiles) -> Iterator[Step]:
    if run.vote is None:
        yield Step(
            "Combine it with a second model",
            "Models that are wrong on different drawings correct each other; the vote tests out of fold whether they do.",
            f"inkfold vote {_quoted(run.path)} OTHER_RUN --out {_quoted(f'{run.path}-vote')}",
        )


def _accuracy(run: RunFiles) -> float:
    assert run.evaluated_part is not None
    return float(run.metrics[run.evaluated_part]["accuracy"])


def _reached(run: RunFiles) -> str:
    """Name what the run reaches: by its metric first, with the accuracy beside."""
    assert run.evaluated_part is not None
    own = run.metrics[run.evaluated_part].get("metric")
    accuracy = _percent(_accuracy(run))
    return accuracy if own is None else f"a {run.metrics['metric']['title']} of {own['value']:.3f} ({accuracy} right)"


def _command(
    run: RunFiles, command: str, recipe: str | None, settings: Sequence[str], suffix: str = "", *, own: bool = False
) -> str:
    """Write a command that uses the run's own data and weights.

    Without a recipe it takes the data instead; the run's own recipe (`own`) has data and weights already; `suffix` is of the
    new run's directory.
    """
    flat = flat_recipe(run.model_recipes[0])
    root = flat.get("data.root", "DATA")
    words = ["inkfold", command, *([root] if recipe is None else [recipe])]
    if recipe is not None and not own:
        usual = flat_recipe({"data": DataSettings().model_dump(mode="json")})
        kept = [key for key in flat if key in KEPT or (key in usual and key != "data.root" and flat[key] != usual[key])]
        words += [f"data={root}", *(f"{key}={flat[key]}" for key in kept if flat[key] not in ("null", "{}"))]
    words += settings
    return shlex.join([*words, f"out={run.path}-{suffix}"] if suffix else words)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _quoted(path: object) -> str:
    return shlex.quote(str(path))
