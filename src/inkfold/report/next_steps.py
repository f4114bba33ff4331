"""Advice on what to do next: each step with the figures that call for it, what it is expected to gain, and the command.

A gain is one that the run measured, the most that its mistakes leave to gain, or what the step gained on other drawings, which
the step says; where none is known it says so. Steps that gain nothing here are left out.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from inkfold.auto.wording import continue_command
from inkfold.evaluation.error_analysis import ClassRow, ConfusedPair
from inkfold.evaluation.formatting import counted, duration, p_equation
from inkfold.evaluation.paired import SIGNIFICANT
from inkfold.pipeline.run_files import RunFiles, flat_recipe
from inkfold.report.ladder import evaluated_name
from inkfold.report.search_section import load_search
from inkfold.report.steps import (
    KEPT,
    Gain,
    Step,
    accuracy_of,
    command_for,
    evaluated_drawings,
    percent,
    quoted,
)

MOST = 5
HIGH_ACCURACY = 0.95
LEAST_GAIN = 0.005  # of the accuracy: less is not seen on a few thousand drawings
OVERFITTING_NATS = 0.5
MISCALIBRATED = 0.05
PHOTOGRAPHED, SMALL = 0.05, 0.5  # of the drawings
CONFUSED_SHARE = 0.25
WEAK_CLASSES = 5
OTHER_BACKBONES = ("ink-small", "tf_efficientnet_lite0", "mobilenetv2_100")


def next_steps(run: RunFiles, classes: Sequence[ClassRow], pairs: Sequence[ConfusedPair]) -> list[Step]:
    """Advise what to do next: at most five steps, those first that make the figures true, then the greatest gain.

    Steps whose expected gain is less than half a point are left out. The classes come with the lowest recall first.
    """
    if run.evaluated is None:
        return [Step("Add the drawings' classes", "Without true classes nothing can be measured.", None)]
    steps = [
        *_by_audit(run),
        *_by_groups(run),
        *_by_what_lost(run),
        *_by_reading(run),
        *_by_what_is_untried(run),
        *_by_weakness(run),
        *_by_pairs(run, pairs),
        *_by_classes(run, classes),
        *_by_split(run),
        *_by_calibration(run),
    ]
    steps = [step for step in steps if step.is_first or step.gain is None or _possible(run, step.gain) >= LEAST_GAIN]
    return sorted(steps, key=lambda step: _rank(run, step))[:MOST]


def _rank(run: RunFiles, step: Step) -> tuple[bool, float]:
    """Order steps: what makes figures true, then the greatest gain; what mistakes leave is seldom had, and counts half."""
    gain = 0.0 if step.gain is None else _possible(run, step.gain) * (0.5 if step.gain.source == "at most" else 1)
    return not step.is_first, -gain


def _possible(run: RunFiles, gain: Gain) -> float:
    """Limit a gain that was measured elsewhere to half of what is left to 100 %; from 95 % on, nothing is known of it."""
    left = 1 - accuracy_of(run) if accuracy_of(run) < HIGH_ACCURACY else 0.0
    return min(gain.accuracy, left / 2) if gain.source == "elsewhere" else gain.accuracy


def _by_what_is_untried(run: RunFiles) -> Iterator[Step]:
    """Advise other models: what a run by itself hasn't tried, or more time for the search that found it."""
    if (record := load_search(run)) is None:
        for advise in (_by_backbone, _by_overfitting, _by_vote, _by_tuning):
            yield from advise(run)
    elif command := continue_command(run.path, record):
        tried = sum(step.state != "skipped" for step in record.steps)
        why = (
            f"A search of {counted(tried, 'step')} in {duration(record.spent_s)} found it. With more time it goes on from here."
        )
        words = "" if record.forecast is None else record.forecast["words"].partition(";")[0]
        yield Step("Search longer", why, command, expected=f"Forecast: {words}.")


def _by_backbone(run: RunFiles) -> Iterator[Step]:
    backbone = run.model_recipes[0].get("backbone", {})
    if run.manifest.get("backbone", {}).get("weights_source", backbone.get("weights")) == "untrained" or (
        backbone.get("weights") == "untrained"
    ):
        yield Step(
            "Use a backbone with trained weights",
            "Its weights are random: the accuracy shows that the pipeline works, not what is possible with these drawings.",
            command_for(run, "explore", None, ["--backbones", "ink-small", "--backbones", "tf_efficientnet_lite0"]),
            expected="This command measures it on these drawings.",
            is_first=True,
        )
        return
    frozen = all(recipe.get("finetune", {}).get("part", "none") == "none" for recipe in run.model_recipes)
    if not frozen or run.vote is not None:
        return
    name = backbone.get("name") or run.manifest.get("backbone", {}).get("name")
    yield Step(
        "Fine-tune the backbone",
        f"It is frozen, and a head on its features reaches {percent(accuracy_of(run))}. Large backbones need a GPU.",
        command_for(run, "train", "cpu-finetune", [f"backbone.name={name}"], "tuned"),
        Gain("elsewhere", 0.12, "a small backbone on 345 classes of Quick, Draw! went from 38.1 % to 50.1 %"),
    )
    if name != "ink-small" and backbone.get("features", "last") == "last" and not backbone.get("beside"):
        yield Step(
            "Use the features of all its layers",
            "The head sees its last vector alone. The pooled outputs of all its layers come out of the same forward pass.",
            command_for(run, "train", "layers", [f"backbone.name={name}"], "layers"),
            Gain(
                "elsewhere", 0.025, "EfficientNet-Lite0 went from 56.0 % to 58.5 % on two sets of 115 classes of Quick, Draw!"
            ),
        )
    others = [other for other in OTHER_BACKBONES if other != name]
    yield Step(
        "Compare other backbones",
        f"Only {name} was tried. This compares backbones on these drawings, with their cost.",
        command_for(run, "explore", None, [word for other in (name, *others) for word in ("--backbones", str(other))]),
        None if name == "ink-small" else Gain("elsewhere", 0.058, "ink-small against MobileNetV2 on classes new to both"),
        "This command measures it out of fold.",
    )


def _by_audit(run: RunFiles) -> Iterator[Step]:
    if run.audit is None:
        return
    counts, labels = run.audit["duplicates"]["counts"], run.audit["labels"]
    problems = [f"{counted(counts['leak'], 'group')} of duplicates trained on and evaluated on"] if counts["leak"] else []
    problems += [f"{counted(counts['across'], 'group')} of duplicates with different labels"] if counts["across"] else []
    problems += [counted(len(labels["doubtful"]), "doubtful label")] if labels and labels["doubtful"] else []
    if problems:
        wrong = labels["estimated_wrong_fraction"] if labels and labels["doubtful"] else 0.0
        expected = f"About {wrong:.1%} of the labels are estimated to be wrong. " if wrong else ""
        why = f"{', '.join(problems)}. Shown below, the worst first."
        yield Step("Correct the data", why, expected=f"{expected}It makes the figures true.", is_first=True)


def _by_groups(run: RunFiles) -> Iterator[Step]:
    """Advise the groups that a warning proposes and that the run didn't use."""
    if "groups" in run.metrics:
        return
    found = (re.search(r"folds\.group_(?:pattern|column)=[^`\s]+", text) for text in run.manifest["warnings"])
    if (setting := next((match.group() for match in found if match is not None), None)) is not None:
        yield Step(
            "Keep groups of drawings together",
            "Names or columns suggest groups, such as who drew it, and folds part them: new people or photos may be recognised "
            "less often than the figure says.",
            command_for(run, "train", str(run.path / "recipe.yaml"), [setting], "groups", own=True),
            expected="It makes the figure true, which it may lower.",
            is_first=True,
        )


def _by_what_lost(run: RunFiles) -> Iterator[Step]:
    """Advise to leave out what the run measured as a loss."""
    tta, tuned, recipe = run.metrics.get("tta"), run.metrics.get("finetune"), str(run.path / "recipe.yaml")
    if tta is not None and tta["p_value"] < SIGNIFICANT and tta["accuracy_with"] < tta["accuracy_without"]:
        lost = tta["accuracy_without"] - tta["accuracy_with"]
        yield Step(
            "Leave out the test-time views",
            f"{percent(tta['accuracy_with'])} are right out of fold, and {percent(tta['accuracy_without'])} without them.",
            command_for(run, "train", recipe, ["tta=[]"], "plain", own=True),
            Gain("measured", lost, p_equation(tta["p_value"])),
        )
    if tuned is not None and tuned["p_value"] < SIGNIFICANT and tuned["accuracy"] < tuned["frozen_accuracy"]:
        yield Step(
            "Keep the backbone frozen",
            f"Fine-tuned {percent(tuned['accuracy'])} are right, with a head on frozen features "
            f"{percent(tuned['frozen_accuracy'])}.",
            command_for(run, "train", recipe, ["finetune.part=none"], "frozen", own=True),
            Gain("measured", tuned["frozen_accuracy"] - tuned["accuracy"], p_equation(tuned["p_value"])),
        )


def _by_reading(run: RunFiles) -> Iterator[Step]:
    """Advise `auto` where the recipe fixes how pages are read, and what is known of the pages speaks against it."""
    pages, image = run.metrics.get("reading", {}).get("pages"), run.recipe.get("image", {})
    if pages is None:
        return
    filled, photographed = pages["filled"], pages["photographed"]
    if image.get("paper") == "keep" and photographed >= PHOTOGRAPHED:
        why = f"{photographed:.0%} of the drawings are photographed or scanned, and the paper is kept."
        yield _reading_step(
            run, "paper", why, Gain("elsewhere", 0.09, "photographed doodles (simulated), from 9.3 % to 18.5 %")
        )
    if image.get("resize") == "pad" and 1 - filled - photographed >= SMALL:
        small = (
            f"{1 - filled - photographed:.0%} of the drawings fill less than four fifths of their page, and none is cropped."
        )
        yield _reading_step(run, "resize", small, Gain("elsewhere", 0.051, "hand-drawn emoji, people held out"))


def _reading_step(run: RunFiles, key: str, why: str, gain: Gain) -> Step:
    setting = f"image.{key}=auto"
    command = command_for(run, "train", str(run.path / "recipe.yaml"), [setting], key, own=True)
    why = f"{why} It compares both ways out of fold, and takes the better one."
    return Step(f"Try {setting}", why, command, gain)


def _by_weakness(run: RunFiles) -> Iterator[Step]:
    rows = (run.weakness or {}).get("rows", [])
    clean = (run.weakness or {}).get("clean", {})
    lost = [row for row in rows if row["ci95"][1] < clean["ci95"][0] and (row.get("setting") or row.get("augmentation"))]
    for row in sorted(lost, key=lambda row: -row["drop"])[:1]:
        yield Step(
            f"Read with {row['setting']}" if row.get("setting") else f"Augment with {row['augmentation']}",
            f"On drawings “{row['name']}” accuracy drops from {percent(clean['accuracy'])} to {percent(row['accuracy'])}.",
            row["command"],
            expected=f"On such drawings {100 * row['drop']:.1f} points are lost; inkfold weakness measures what is won back.",
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
            command_for(
                run,
                "train",
                str(run.path / "recipe.yaml"),
                ["curriculum=[{augment: [hflip@0.5, rotate(15)@0.5], views: 8}]", "tta=[identity, hflip]"],
                "augmented",
                own=True,
            ),
            Gain("elsewhere", 0.027, "Lite0 on 345 classes of Quick, Draw! with flips, rotation and mirrored test-time views"),
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
            gain=Gain("at most", count / evaluated_drawings(run), "all these mistakes"),
        )


def _by_classes(run: RunFiles, classes: Sequence[ClassRow]) -> Iterator[Step]:
    known = [row for row in classes if row.recall is not None and row.ci95 is not None]
    accuracy = accuracy_of(run)
    weak = [row for row in known if row.ci95 is not None and row.ci95[1] < accuracy][:WEAK_CLASSES]
    if weak:
        typical = int(np.median([row.n for row in known]))
        listed = ", ".join(f"{row.name} ({round((row.recall or 0) * row.n)} of {row.n})" for row in weak)
        yield Step(
            "Add drawings of the weakest classes",
            f"{listed}: the whole interval of each is below the overall accuracy; the median class has {typical} "
            "drawings here. Only new drawings cost forward passes.",
            command_for(run, "train", str(run.path / "recipe.yaml"), [], "more", own=True) if run.vote is None else None,
            Gain(
                "at most",
                sum((accuracy - (row.recall or 0)) * row.n for row in weak) / evaluated_drawings(run),
                "as the rest",
            ),
        )


def _by_calibration(run: RunFiles) -> Iterator[Step]:
    assert run.evaluated is not None
    assert run.evaluated_part is not None
    ece, accuracy = run.metrics[run.evaluated_part]["ece"], accuracy_of(run)
    confidence = float(run.evaluated.probs.max(1).mean())
    if ece > MISCALIBRATED and run.vote is None:
        side = "over-confident" if confidence > accuracy else "under-confident"
        yield Step(
            "Don't read its confidence as a probability",
            f"It is {side}: {percent(confidence)} confident on average, {percent(accuracy)} right {evaluated_name(run)} "
            f"(ECE {ece:.3f}). A vote with --calibrate fits a temperature for each member.",
            None,
            expected="Accuracy stays as it is; probabilities mean what they say.",
        )


def _by_split(run: RunFiles) -> Iterator[Step]:
    if run.vote is None and (parts := run.held_out_parts) is not None and run.curve is not None:
        yield Step(
            "Hold out all parts",
            f"Only {parts} were held out. The others evaluate every drawing, and give more models that vote on new ones.",
            command_for(run, "train", str(run.path / "recipe.yaml"), ["folds.parts=null"], "parts", own=True),
            expected="The figure gets a narrower interval, and new drawings the vote of more networks.",
        )
    if run.vote is None and run.metrics["split"] == "holdout" and run.curve is not None:
        assert run.evaluated is not None
        yield Step(
            "Cross-validate in five folds",
            f"One part of {len(run.evaluated.image_paths):,} drawings was held out. Five folds evaluate every drawing, which "
            "halves the interval, and give five models that vote, at five times the cost.",
            command_for(run, "train", str(run.path / "recipe.yaml"), ["folds.split=kfold"], "folds", own=True),
            expected="The figure gets an interval half as wide.",
        )


def _by_vote(run: RunFiles) -> Iterator[Step]:
    """Advise a vote with a second backbone, on the same folds."""
    name = run.manifest.get("backbone", {}).get("name")
    if run.vote is not None or name is None:
        return
    other = next(other for other in OTHER_BACKBONES[1:] if other != name)
    second = f"{run.path}-{other}"
    flat = flat_recipe(run.recipe)
    own = [key for key in KEPT if key.startswith("backbone.") and flat.get(key, "null") not in ("null", "{}")]
    settings = [f"backbone.name={other}", *(f"{key}=null" for key in own)]
    train = command_for(run, "train", str(run.path / "recipe.yaml"), settings, other, own=True)
    yield Step(
        "Combine it with a second model",
        "Models that are wrong on different drawings correct each other. The vote tests out of fold whether they do.",
        f"{train}\ninkfold vote {quoted(run.path)} {quoted(second)} --out {quoted(f'{run.path}-vote')}",
        Gain("elsewhere", 0.04, "two backbones with two heads each on 345 classes of Quick, Draw! went from 47.2 % to 51.2 %"),
    )


def _by_tuning(run: RunFiles) -> Iterator[Step]:
    if run.vote is None and run.curve is not None and "finetune" not in run.metrics:
        yield Step(
            "Search hyper-parameters",
            "The recipe's rates and widths were not chosen on these drawings. The gain is measured on drawings set aside.",
            command_for(run, "tune", str(run.path / "recipe.yaml"), [], "study", own=True),
            Gain("elsewhere", 0.016, "four searches on 345 classes of Quick, Draw! gained 0.9 to 2.5"),
        )
