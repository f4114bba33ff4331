"""A search in words: what commands, logs and reports say of its steps and of its best figure."""

import shlex
from pathlib import Path

from inkfold.auto.record import REQUEST, AutoRecord, Kind, Step
from inkfold.evaluation.formatting import counted, duration, p_equation, signed, with_interval

KINDS: dict[Kind, str] = {
    "reading": "how pages are read",
    "race": "race of backbones",
    "frozen": "frozen backbone",
    "views": "more views",
    "head": "another head",
    "joined": "backbones joined",
    "propagated": "test drawings together",
    "finetune": "fine-tuning",
    "vote": "vote",
}
STATES = {"running": "interrupted", "stopped": "time was over", "skipped": "not begun", "failed": "failed"}
SIGNIFICANT = 0.05
BUDGETS = {
    **{f"{minutes}m": 60.0 * minutes for minutes in (1, 2, 5, 10, 20, 30)},
    **{f"{hours}h": 3600.0 * hours for hours in (1, 2, 4, 8, 12, 24, 48, 96, 192, 384, 720)},
}


def title_of(record: AutoRecord) -> str:
    """Name what all figures of a search are: its metric's title, or accuracy."""
    return "accuracy" if record.metric is None else record.metric["title"]


def figure_in_words(value: float, ci95: list[float] | None) -> str:
    """Write a figure with its 95 % interval: `0.540 (0.500-0.580)`; without, where it isn't known."""
    return f"{value:.3f}" if ci95 is None else with_interval(value, ci95)


def step_figure(step: Step) -> str:
    """Write a step's figure with its interval, or, of a race, on how few drawings it is; empty where it has none."""
    if step.accuracy is None:
        return ""
    if step.kind == "race" and step.n is not None:
        return f"{step.accuracy:.3f} on {counted(step.n, 'drawing')}"
    return figure_in_words(step.accuracy, step.accuracy_ci95)


def best_in_words(record: AutoRecord) -> str:
    """Write the best figure so far, what reached it, and when; empty where there is none yet."""
    if not record.best:
        return ""
    best = record.best[-1]
    figure = figure_in_words(best["accuracy"], best["accuracy_ci95"])
    members = [] if record.choice is None else record.choice.get("members") or []
    by = f"a vote of {len(members)} models" if len(members) > 1 else best["step"]
    return f"{title_of(record)} {figure} by {by}, after {duration(best['seconds'])}"


def outcome_in_words(step: Step) -> str:
    """Write what came of a step: its figure, its gain, whether it was taken and what it cost; or why there is none."""
    match step.state:
        case "running":
            return "running"
        case "skipped":
            return f"not begun{f': {step.why}' if step.why else ''}"
        case "failed":
            return f"failed after {duration(step.seconds)}{f': {step.why}' if step.why else ''}"
    parts = [step_figure(step)] if step.accuracy is not None else []
    parts += [gain_in_words(step)] if step.gain is not None else []
    parts += ["taken"] if step.is_best else []
    return ", ".join([*parts, ("stopped after " if step.state == "stopped" else "") + duration(step.seconds)])


def gain_in_words(step: Step) -> str:
    """Write a step's gain over the best before it, and its p-value or that it isn't distinguishable; empty for none."""
    if step.gain is None:
        return ""
    gain = signed(step.gain, 3)
    if step.p_value is None:
        return gain
    return f"{gain} ({p_equation(step.p_value) if step.p_value <= SIGNIFICANT else 'not distinguishable'})"


def compared_on(record: AutoRecord) -> str:
    """Say on how few of the drawings steps are compared, where it isn't on all; empty where it is."""
    n = max((step.n for step in record.steps if step.n is not None and step.kind != "race"), default=0)
    of = record.data.get("n_train")
    if not n or not isinstance(of, int) or n >= of:
        return ""
    return f"compared on {n:,} of {counted(of, 'drawing')}: those that were held out and that no backbone was pretrained on"


def continue_command(run: Path, record: AutoRecord) -> str:
    """Write the command that goes on with a search, its budget large enough for the period of the forecast.

    Args:
        run: The search's directory, which holds its own recipe, `auto.yaml`.
        record: What the search did so far.

    Returns:
        A command line; empty where more time would bring nothing, or more isn't possible.
    """
    if record.forecast is None or record.forecast["high"] == 0:
        return ""
    wanted_s = max(record.spent_s, record.budget_s) + record.forecast["seconds"]
    budget = next((text for text, seconds in BUDGETS.items() if seconds >= wanted_s), None)
    return "" if budget is None else shlex.join(["inkfold", "train", str(run / REQUEST), f"out={run}", f"budget={budget}"])
