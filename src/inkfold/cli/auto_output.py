"""What commands print of a search within a budget: all that was tried, what was taken and why, what more time would bring."""

import shlex
from pathlib import Path

from inkfold.auto.record import AUTO, AutoRecord, RacedBackbone, Step
from inkfold.auto.wording import KINDS, STATES, compared_on, continue_command, gain_in_words, step_figure, title_of
from inkfold.cli.figures import print_table
from inkfold.evaluation.formatting import counted, duration

MOST_BACKBONES = 12


def print_search(record: AutoRecord, run: Path, *, data: str | None, spent_before_s: float = 0.0) -> None:
    """Print what a search tried, what it took, what another period of time would bring, and how the winner is repeated.

    Args:
        record: What the search did, over all calls.
        run: The search's directory, which holds the winner.
        data: The folder of drawings as the run names it; None where it isn't known.
        spent_before_s: Seconds that earlier calls had spent: a step that began later is this call's.
    """
    print_table("tried", ("step", "cost", f"{title_of(record)} (95 %)", "gain", "", "what it is"), [*map(_row, record.steps)])
    if drawings := compared_on(record):
        print(drawings)
    if len(record.backbones) > 1:
        _print_raced(record)
    _print_time(record, spent_before_s)
    if record.choice is not None:
        members = record.choice.get("members") or []
        votes = f", a vote of {', '.join(members)}" if len(members) > 1 else ""
        print(f"taken: {record.choice['step']}{votes}: {record.choice['why']}")
    if record.forecast is not None:
        print(f"forecast: {record.forecast['words']}")
    if command := continue_command(run, record):
        print(f"with more time: {command}")
    words = ["inkfold", "train", str(run / "recipe.yaml"), *([] if data is None else [f"data={data}"]), "out=NEW"]
    print(f"without the search: {shlex.join(words)}")


def _row(step: Step) -> tuple[str, ...]:
    expected = f"about {duration(step.expected_s)}" if step.state == "skipped" and step.expected_s is not None else ""
    figure = step_figure(step) or STATES.get(step.state, "")
    cost = expected if step.state == "skipped" else duration(step.seconds)
    return step.name, cost, figure, gain_in_words(step), "taken" if step.is_best else "", step.why or KINDS[step.kind]


def _print_raced(record: AutoRecord) -> None:
    """Print every backbone at hand: its speed here, its figure in the race, what is published of it, and why it was taken."""
    columns = ("backbone", "drawings/s", "in the race", "on", "sketch top-1", "", "why")
    shown = sorted(record.backbones, key=lambda backbone: (not backbone.taken, -backbone.rounds))[:MOST_BACKBONES]
    print_table("backbones", columns, [_backbone_row(backbone) for backbone in shown])
    if len(record.backbones) > len(shown):
        print(f"and {counted(len(record.backbones) - len(shown), 'backbone')} more, in {AUTO}")


def _backbone_row(backbone: RacedBackbone) -> tuple[str, ...]:
    return (
        backbone.name,
        "" if backbone.images_per_s is None else f"{backbone.images_per_s:.3g}",
        "" if backbone.accuracy is None else f"{backbone.accuracy:.3f}",
        "" if backbone.n is None else f"{backbone.n:,}",
        "" if backbone.imagenet_sketch_top1 is None else f"{backbone.imagenet_sketch_top1:.1f} %",
        "taken" if backbone.taken else "",
        ", ".join(part for part in (backbone.source, backbone.why) if part),
    )


def _print_time(record: AutoRecord, spent_before_s: float) -> None:
    """Print what of the budget is spent, and, where earlier calls spent some, what this one added."""
    begun = [step for step in record.steps if step.state != "skipped"]
    text = f"search: {duration(record.spent_s)} of {duration(record.budget_s)} spent, {counted(len(begun), 'step')}"
    if spent_before_s:
        new = sum(step.began_s >= spent_before_s for step in begun)
        text += f"; this call tried {counted(new, 'step')} in {duration(record.spent_s - spent_before_s)}"
        if not new:
            text += ": no time was left or nothing to try, and a larger budget goes on from here"
    print(text)
