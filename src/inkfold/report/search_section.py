"""The section about the search that found a run: what it tried, what that cost and gave, and what more time would bring."""

from typing import Any

from inkfold.auto.record import AUTO, AutoRecord, RacedBackbone, Step
from inkfold.auto.wording import KINDS, STATES, compared_on, continue_command, gain_in_words, title_of
from inkfold.evaluation.formatting import counted
from inkfold.pipeline.run_files import RunFiles
from inkfold.report.html import NONE, duration, svg_markup
from inkfold.report.plots import draw_search, draw_step_costs

MOST_STEPS, MOST_BACKBONES, MOST_CHARS = 100, 60, 300
LARGEST = 1e9


def load_search(run: RunFiles) -> AutoRecord | None:
    """Read the record of the search that found a run; None for a run that was trained by itself.

    Raises:
        PredictionError: If there is an `auto.json` that is none.
    """
    return AutoRecord.load(run.path / AUTO) if (run.path / AUTO).is_file() else None


def search_view(run: RunFiles) -> dict[str, Any] | None:
    """Gather what the page shows of the search that found a run; None for a run that was trained by itself."""
    record = load_search(run)
    if record is None:
        return None
    as_percent = record.metric is None
    return {
        "title": title_of(record) + (", %" if as_percent else ""),
        "time": f"{duration(record.spent_s)} of {duration(record.budget_s)}" + _calls(record),
        "machine": ", ".join(_short(f"{key} {value}") for key, value in record.machine.items()),
        "compared_on": _sentence(compared_on(record)),
        "plots": _plots(record),
        "points": [_point(point, as_percent) for point in record.best[-MOST_STEPS:]],
        "has_test": any(point.get("test") is not None for point in record.best),
        "steps": [_step(step, as_percent) for step in record.steps[:MOST_STEPS]],
        "more_steps": max(len(record.steps) - MOST_STEPS, 0),
        "backbones": [_backbone(backbone) for backbone in record.backbones[:MOST_BACKBONES]],
        "more_backbones": max(len(record.backbones) - MOST_BACKBONES, 0),
        "choice": None if record.choice is None else _choice(record),
        "forecast": "" if record.forecast is None else _sentence(_short(record.forecast["words"], 3 * MOST_CHARS)),
        "command": continue_command(run.path, record),
    }


def _calls(record: AutoRecord) -> str:
    return f", in {len(record.calls)} calls" if len(record.calls) > 1 else ""


def _plots(record: AutoRecord) -> list[Any]:
    """Draw the best figure over time, and each step's by its cost; nothing where nothing was measured."""
    tried = [
        {"seconds": step.began_s + step.seconds, "cost": step.seconds, "accuracy": step.accuracy, "is_best": step.is_best}
        for step in record.steps[:MOST_STEPS]
        if step.accuracy is not None and step.kind != "race" and _can_be_drawn(step.accuracy, step.seconds, step.began_s)
    ]
    best = [
        point
        for point in record.best[-MOST_STEPS:]
        if _can_be_drawn(point["accuracy"], point["seconds"], *(point["accuracy_ci95"] or ()))
    ]
    if not best or not tried:
        return []
    title = "accuracy" if record.metric is None else "the metric"  # plots contain no text from files
    over_time = draw_search(sorted(best, key=lambda point: point["seconds"]), tried, title, "search-time")
    return [svg_markup(over_time), svg_markup(draw_step_costs(tried, title, "search-cost"))]


def _can_be_drawn(*values: float) -> bool:
    """Say whether values are of a size that a plot's axes can have."""
    return all(abs(value) < LARGEST for value in values)


def _point(point: Any, as_percent: bool) -> dict[str, Any]:
    return {
        "seconds": point["seconds"],
        "step": _short(point["step"]),
        "figure": _figure(point["accuracy"], point["accuracy_ci95"], as_percent),
        "test": NONE if point.get("test") is None else _figure(point["test"], None, as_percent),
    }


def _step(step: Step, as_percent: bool) -> dict[str, Any]:
    is_skipped = step.state == "skipped"
    return {
        "name": _short(step.name),
        "kind": KINDS[step.kind],
        "why": _short(step.why),
        "members": [_short(member) for member in step.members[:MOST_STEPS]],
        "seconds": step.expected_s if is_skipped else step.seconds,
        "is_skipped": is_skipped,
        "state": STATES.get(step.state, ""),
        "accuracy": None if step.kind == "race" else step.accuracy,
        "figure": _step_figure(step, as_percent),
        "gain": gain_in_words(step),
        "is_best": step.is_best,
    }


def _step_figure(step: Step, as_percent: bool) -> str:
    if step.accuracy is None:
        return ""
    few = f" on {counted(step.n, 'drawing')}" if step.kind == "race" and step.n is not None else ""
    return _figure(step.accuracy, step.accuracy_ci95, as_percent) + few


def _backbone(backbone: RacedBackbone) -> dict[str, Any]:
    rate, skill = backbone.images_per_s, backbone.imagenet_sketch_top1
    return {
        "name": _short(backbone.name),
        "source": _short(backbone.source),
        "rate": NONE if rate is None else f"{rate:,.3g}" if rate < 100 else f"{rate:,.0f}",
        "accuracy": backbone.accuracy,
        "n": backbone.n,
        "skill": NONE if skill is None else f"{skill:.1f}",
        "taken": backbone.taken,
        "why": _short(backbone.why),
    }


def _choice(record: AutoRecord) -> str:
    assert record.choice is not None
    members = record.choice.get("members") or []
    votes = f", a vote of {', '.join(members)}" if len(members) > 1 else ""
    return _sentence(_short(f"Taken: {record.choice['step']}{votes}: {record.choice['why']}", 3 * MOST_CHARS))


def _figure(value: float, ci95: Any, as_percent: bool) -> str:
    """Write a figure with its interval: an accuracy in percent, another metric as it is."""
    digits, factor = (1, 100) if as_percent else (3, 1)
    text = f"{factor * value:.{digits}f}"
    if ci95 is None:
        return text
    between = " to " if ci95[0] < 0 else "–"
    return f"{text} ({factor * ci95[0]:.{digits}f}{between}{factor * ci95[1]:.{digits}f})"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text == "" or text.endswith((".", "…")) else ".")


def _short(text: str, most: int = MOST_CHARS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
