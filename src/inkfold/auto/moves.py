"""What a search can try next, with what it is expected to cost and to gain.

Gains are shares of what is wrong so far. Their first values are what these steps gained on the data sets that docs/auto.md
names; a step of a kind that gained nothing on a backbone makes the next one of that kind less expected.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inkfold.auto.costs import Costs
from inkfold.auto.finetuning import FinetuneTime, guess_time, plan_effort
from inkfold.auto.record import Kind, Step
from inkfold.finetune.effort import finetune_recipe
from inkfold.models import ink_small as inksmall

EPOCHS, LAYERS_EPOCHS, MLP_EPOCHS, MLP_WIDTH = 12, 20, 20, 1024
ADAMW: Mapping[str, Any] = {"optimiser": "adamw", "weight_decay": 0.1, "label_smoothing": 0.1}
TRAIN_LAST: Mapping[str, Any] = {"epochs": EPOCHS, "batch_size": 256, "lr": 8e-3, **ADAMW}
TRAIN_LAYERS: Mapping[str, Any] = {**TRAIN_LAST, "epochs": LAYERS_EPOCHS, "weight_decay": 10, "scaling": "blocks"}
MLP_HEAD: Mapping[str, Any] = {"kind": "mlp", "hidden": [MLP_WIDTH], "activation": "gelu", "dropout": 0.5}
TRAIN_MLP: Mapping[str, Any] = {"epochs": MLP_EPOCHS, "batch_size": 128, "lr": 1e-3, **ADAMW}
VIEWS = 8
FLIPPED, TURNED = ["hflip@0.5", "rotate(15)@0.5"], ["rotate(15)@0.7", "scale(0.85,1.1)@0.5"]
FLIPPED_TEST = ["identity", "hflip", "rotate(8,8)", "rotate(-8,-8)", "hflip + rotate(8,8)", "hflip + rotate(-8,-8)"]
TURNED_TEST = ["identity", "rotate(8,8)", "rotate(-8,-8)"]
# Shares of what is wrong that a step is expected to mend, the first of its kind.
FROZEN_GAIN, VIEWS_GAIN, MLP_GAIN = 0.10, 0.05, 0.02
FINETUNE_GAIN, SLOW_EPOCHS = 0.15, 12.0  # for ten drawings a class, more for more; after so many epochs two thirds of it
LONGER = 2.5  # times as much training as before makes another fine-tuning of a backbone worth trying
JOINED_GAIN, PROPAGATED_GAIN = 0.01, 0.01  # a vote of the backbones gains as much
MOST_JOINED, PROPAGATED = 3, "-propagated"
FEWER = 0.6  # each further member of a vote gains this share of the one before it


@dataclass(frozen=True, slots=True)
class Move:
    """Something to try.

    Attributes:
        name: Its name in the record, and of its directory.
        kind: What it is; see `record.Step`.
        backbone: Name of the backbone.
        recipe: Raw recipe without data, folds, metric and seed.
        why: Why it is worth trying, for the user.
        seconds: Seconds that it is expected to take.
        gain: By how much it is expected to raise the accuracy, 0 to 1.
    """

    name: str
    kind: Kind
    backbone: str
    recipe: Mapping[str, Any]
    why: str
    seconds: float
    gain: float

    @property
    def gain_per_s(self) -> float:
        """Expected gain per second."""
        return self.gain / max(self.seconds, 1e-3)


@dataclass(slots=True)
class Known:
    """What a search knows when it decides on its next step.

    Attributes:
        backbones: Names of the backbones that models are trained on, the most promising first.
        costs: What steps take here.
        steps: What was tried so far.
        wrong: Share of the drawings that the best so far answers wrongly, 0 to 1.
        reading: How pages are read, as raw recipe keys of the section `image`.
        finetune_times: What is known of the time that fine-tuning each backbone takes; None where it can't be.
        unjudged: Backbones that were trained on these drawings, so that nothing can be said of them here.
        pretrained_here: Backbones that were trained on most of these drawings, from which training them again gains nothing.
    """

    backbones: Sequence[str]
    costs: Costs
    steps: Sequence[Step]
    wrong: float = 0.5
    reading: Mapping[str, Any] = field(default_factory=dict)
    finetune_times: dict[str, FinetuneTime | None] = field(default_factory=dict)
    unjudged: set[str] = field(default_factory=set)
    pretrained_here: set[str] = field(default_factory=set)

    def tried(self, name: str) -> Step | None:
        """Find a step that was begun."""
        return next((step for step in self.steps if step.name == name and step.state != "skipped"), None)

    def mirrored(self, backbone: str) -> bool:
        """Return whether drawings are mirrored in training: unless views that did so were worse than views that didn't."""
        with_it, without = (self.tried(f"{short(backbone)}-{kind}") for kind in ("views", "turned"))
        if with_it is None or with_it.accuracy is None:
            return all(self.mirrored(other) for other in self.backbones if other != backbone and self._has_views(other))
        return without is None or without.accuracy is None or with_it.accuracy >= without.accuracy

    def _has_views(self, backbone: str) -> bool:
        step = self.tried(f"{short(backbone)}-views")
        return step is not None and step.accuracy is not None

    def gained_less(self, kind: Kind) -> float:
        """Return the factor of a kind's expected gain: below 1 where earlier ones gained nothing."""
        done = [step for step in self.steps if step.kind == kind and step.state == "done"]
        return math.prod(FEWER if step.is_best else FEWER / 3 for step in done)


def first_move(known: Known) -> Move:
    """Return the step that a search begins with: the cheapest backbone, frozen, with a linear head."""
    return _frozen(known, min(known.backbones, key=known.costs.features_s))


def possible_moves(known: Known, left_s: float) -> list[Move]:
    """List what can be tried next.

    Args:
        known: What the search knows so far.
        left_s: Seconds that are left, by which the length of a fine-tuning is planned.

    Returns:
        Moves that were not begun yet, in no order.
    """
    moves = []
    for name in known.backbones:
        moves.append(_frozen(known, name))
        if known.tried(short(name)) is None:
            continue
        moves.append(_views(known, name, flipped=True))
        if (flipped := known.tried(f"{short(name)}-views")) is not None and (flipped.gain or 0) <= 0:
            moves.append(_views(known, name, flipped=False))
        moves.append(_mlp(known, name))
        if (move := _finetune(known, name, left_s)) is not None:
            moves.append(move)
    moves += [move for move in (_joined(known), _propagated(known)) if move is not None]
    return [move for move in moves if known.tried(move.name) is None]


def short(backbone: str) -> str:
    """Shorten a backbone's name to what names its steps: without the tag of its weights."""
    return backbone.partition(".")[0]


def _frozen(known: Known, name: str) -> Move:
    costs = known.costs
    seconds = costs.features_s(name) + costs.fit_s(name, EPOCHS) + costs.overhead_s
    gain = known.wrong * FROZEN_GAIN * known.gained_less("frozen")
    recipe = {**_base(known, name), "train_head": _train_head(name)}
    return Move(short(name), "frozen", name, recipe, f"{short(name)}, frozen, with a linear head", seconds, gain)


def _views(known: Known, name: str, *, flipped: bool) -> Move:
    costs, tests = known.costs, FLIPPED_TEST if flipped else TURNED_TEST
    seconds = costs.features_s(name, VIEWS + len(tests), len(tests)) + costs.overhead_s
    seconds += costs.fit_s(name, EPOCHS)
    augment = FLIPPED if flipped else TURNED
    recipe = {
        **_base(known, name),
        "train_head": _train_head(name),
        "curriculum": [{"augment": augment, "views": VIEWS}],
        "tta": tests,
    }
    gain = known.wrong * VIEWS_GAIN * known.gained_less("views")
    title = f"{short(name)}-views" if flipped else f"{short(name)}-turned"
    why = f"{short(name)} under {VIEWS} views in training and {len(tests)} in prediction"
    return Move(title, "views", name, recipe, f"{why}, {'with' if flipped else 'without'} mirroring", seconds, gain)


def _mlp(known: Known, name: str) -> Move:
    """A head with a hidden layer, on the views that were best for this backbone."""
    costs = known.costs
    views = [step for step in known.steps if step.kind == "views" and step.name.startswith(f"{short(name)}-")]
    best = max((step for step in views if step.accuracy is not None), key=lambda step: step.accuracy or 0, default=None)
    seconds = costs.fit_s(name, MLP_EPOCHS, MLP_WIDTH) + costs.overhead_s
    recipe: dict[str, Any] = {
        **_base(known, name),
        "head": MLP_HEAD,
        "train_head": _train_mlp(name),
    }
    if best is not None and best.recipe is not None:
        recipe |= {key: best.recipe[key] for key in ("curriculum", "tta") if key in best.recipe}
        if "curriculum" in recipe:
            recipe["curriculum"] = [{**stage, "until_epoch": None} for stage in recipe["curriculum"]]
    gain = known.wrong * MLP_GAIN * known.gained_less("head")
    return Move(f"{short(name)}-mlp", "head", name, recipe, f"{short(name)} with a hidden layer", seconds, gain)


def _joined(known: Known) -> Move | None:
    """Put the features of the best backbones, which the bank has by now, under one head."""
    names = [name for name in known.backbones if _is_done(known, short(name)) and name not in known.unjudged][:MOST_JOINED]
    if len(names) < 2:
        return None
    first, *others = names
    costs = known.costs
    seconds = sum(costs.fit_s(name, EPOCHS) for name in names) + costs.overhead_s
    backbone = {**backbone_keys(first), "beside": [backbone_keys(name) for name in others]}
    recipe = {"backbone": backbone, "image": dict(known.reading), "train_head": TRAIN_LAYERS}
    gain = known.wrong * JOINED_GAIN * known.gained_less("joined")
    why = f"{' and '.join(map(short, names))} under one head"
    return Move(f"joined-{len(names)}", "joined", first, recipe, why, seconds, gain)


def _propagated(known: Known) -> Move | None:
    """Predict the test drawings together by the best model of frozen features, where held-out drawings show that it helps."""
    kinds = ("frozen", "views", "head", "joined")
    done = [step for step in known.steps if step.kind in kinds and step.state == "done" and step.accuracy is not None]
    best = max(done, key=lambda step: step.accuracy or 0.0, default=None)
    if best is None or best.recipe is None or not known.costs.size.test or best.name.endswith(PROPAGATED):
        return None
    name = best.recipe["backbone"]["name"]
    seconds = best.seconds if best.kind != "views" else known.costs.fit_s(name, EPOCHS) + 2 * known.costs.overhead_s
    recipe = {**best.recipe, "predict": {**(best.recipe.get("predict") or {}), "transductive": "propagate"}}
    gain = known.wrong * PROPAGATED_GAIN * known.gained_less("propagated")
    why = f"{best.name}, with the test drawings' neighbours where held-out drawings show a gain"
    return Move(best.name + PROPAGATED, "propagated", name, recipe, why, seconds, gain)


def _is_done(known: Known, name: str) -> bool:
    step = known.tried(name)
    return step is not None and step.state == "done"


def _finetune(known: Known, name: str, left_s: float) -> Move | None:
    """Train the backbone too, for as long as fits into the time that is left."""
    costs = known.costs
    if name not in known.finetune_times:
        known.finetune_times[name] = guess_time(name, costs)
    time = known.finetune_times[name]
    if time is None or costs.size.folds < 2 or name in known.pretrained_here:
        return None
    effort = plan_effort(time, costs, left_s)
    if effort is None:
        return None
    earlier = [step for step in known.steps if step.name.startswith(f"{short(name)}-finetuned") and step.state == "done"]
    if any(effort.epochs * effort.parts < LONGER * _trained_epochs(step) for step in earlier):
        return None
    per_class = max(costs.size.per_class, 1.0)
    raw = finetune_recipe(name, time.image_size, effort, mirrored=known.mirrored(name))
    recipe = {**raw, "image": {**known.reading, **raw["image"]}}
    most = FINETUNE_GAIN * min(max(math.log10(per_class), 0.5), 3.0)
    gain = known.wrong * most * (1 - math.exp(-effort.epochs * effort.parts / SLOW_EPOCHS)) * known.gained_less("finetune")
    why = f"{short(name)} trained whole, {effort.epochs} epochs of {effort.parts} of {costs.size.folds} folds"
    title = f"{short(name)}-finetuned" + (f"-{len(earlier) + 1}" if earlier else "")
    return Move(title, "finetune", name, recipe, why, effort.seconds + costs.overhead_s, gain)


def _trained_epochs(step: Step) -> int:
    """Return the number of epochs that a fine-tuning trained, over all of its folds."""
    recipe = step.recipe or {}
    settings, folds = recipe.get("finetune") or {}, recipe.get("folds") or {}
    return int(settings.get("stop_epoch") or settings.get("epochs") or 1) * int(folds.get("parts") or 1)


def _base(known: Known, name: str) -> dict[str, Any]:
    """Return what all recipes on a backbone share."""
    return {"backbone": backbone_keys(name), "image": dict(known.reading)}


def _train_head(name: str) -> dict[str, Any]:
    """Return the settings of a linear head on a backbone's features, as docs/backbones.md measured them."""
    return dict(TRAIN_LAST if name == inksmall.NAME else TRAIN_LAYERS)


def _train_mlp(name: str) -> dict[str, Any]:
    return {**TRAIN_MLP, **({} if name == inksmall.NAME else {"scaling": "blocks"})}


def backbone_keys(name: str) -> dict[str, Any]:
    """Return the raw keys of the section `backbone` by which features of a frozen backbone are computed.

    The outputs of all layers raise the accuracy of networks that were trained on photographs; ink-small gains nothing by them.
    """
    return {"name": name} if name == inksmall.NAME else {"name": name, "features": "layers"}
