"""Plots for a page: SVG by matplotlib in the page's colours, light and dark, and its typeface.

They contain no text from data but numbers, so that only the page has names to escape.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from inkfold.evaluation.plots import INK, canvas

SIZE_INCHES = (5.0, 3.1)
MUTED, LINE, BAND = "#767676", "#d8d8d8", "#f0f0f0"
# Okabe and Ito's colours, told apart by the colour-blind; lines differ in their dashes and markers too.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
SMALLEST_AREA, LARGEST_AREA, LEGEND_AREA = 4.0, 90.0, 24.0
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P")
MARKS_S = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000, 43200, 86400, 3 * 86400, 10 * 86400)
MOST_MARKS = 7
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    BAND: "--band",
    **{colour: f"--c{i + 1}" for i, colour in enumerate(SERIES)},
}


def draw_curves(lines: Mapping[str, Sequence[float]], label: str, name: str, stages: Sequence[tuple[int, int]] = ()) -> str:
    """Draw curves over the epochs, as an `svg` element.

    Args:
        lines: Values of each epoch, by label of the curve.
        label: Text beside the vertical axis: what the curves measure.
        name: Name of the plot, unique in the page.
        stages: First and last epoch of each stage of the curriculum, counted from 1.
    """
    with canvas(SIZE_INCHES) as (axes, text):
        _style(axes)
        for i, (first, last) in enumerate(stages if len(stages) > 1 else ()):
            axes.axvspan(first - 0.5, last + 0.5, color=BAND if i % 2 == 0 else "none", linewidth=0, zorder=0)
            axes.text(
                (first + last) / 2, 1.0, str(i + 1), transform=axes.get_xaxis_transform(), color=MUTED, ha="center", va="bottom"
            )
        for i, (curve, values) in enumerate(lines.items()):
            mark = {"marker": MARKERS[i % len(MARKERS)], "markersize": 3.5, "linestyle": DASHES[i % len(DASHES)]}
            axes.plot(range(1, len(values) + 1), values, color=SERIES[i % len(SERIES)], label=curve, linewidth=1.6, **mark)
        axes.set_xlabel("epoch", color=MUTED)
        axes.set_ylabel(label, color=MUTED)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.set_xlim(0.5, max(map(len, lines.values())) + 0.5)
        if len(lines) > 1:
            axes.legend(frameon=False, labelcolor=INK)
    return embedded(text.getvalue(), name, f"{label} by epoch")


def draw_search(best: Sequence[Mapping[str, Any]], tried: Sequence[Mapping[str, float]], label: str, name: str) -> str:
    """Draw a search, as an `svg` element: the best figure over time with its interval, and what every step reached.

    Args:
        best: The best figure over time: `seconds`, `accuracy` and `accuracy_ci95` or None; at least one.
        tried: What was tried: `seconds` at which it ended, and its `accuracy`.
        label: Text beside the vertical axis: what the figures measure.
        name: Name of the plot, unique in the page.
    """
    times = [max(point["seconds"], 1.0) for point in best]
    end_s = max(times[-1] * 1.02, *(step["seconds"] for step in tried))
    bounds = [point["accuracy_ci95"] or (point["accuracy"], point["accuracy"]) for point in best]
    with canvas(SIZE_INCHES) as (axes, text):
        _style(axes)
        low, high = ([*(bound[end] for bound in bounds), bounds[-1][end]] for end in (0, 1))
        steps = {"step": "post", "color": SERIES[0]}
        axes.fill_between([*times, end_s], low, high, alpha=0.15, linewidth=0, **steps)
        figures = [*(point["accuracy"] for point in best), best[-1]["accuracy"]]
        axes.step([*times, end_s], figures, where="post", color=SERIES[0], linewidth=1.6, label="best so far")
        place = {"s": 22, "color": SERIES[1], "marker": MARKERS[1], "linewidth": 0, "zorder": 3, "label": "each step"}
        axes.scatter([max(step["seconds"], 1.0) for step in tried], [step["accuracy"] for step in tried], **place)
        _time_axis(axes, min([*times, *(max(step["seconds"], 1.0) for step in tried)]), end_s)
        axes.set_xlabel("time of the search (log scale)", color=MUTED)
        axes.set_ylabel(label, color=MUTED)
        axes.legend(frameon=False, labelcolor=INK, loc="lower right")
    return embedded(text.getvalue(), name, f"{label} over the time of the search")


def draw_step_costs(tried: Sequence[Mapping[str, float]], label: str, name: str) -> str:
    """Draw what each step of a search reached by what it cost, as an `svg` element.

    Args:
        tried: What was tried, at least one: its `cost` in seconds, its `accuracy`, and `is_best`: whether it was taken.
        label: Text beside the vertical axis: what the figures measure.
        name: Name of the plot, unique in the page.
    """
    costs = [max(step["cost"], 0.1) for step in tried]
    with canvas(SIZE_INCHES) as (axes, text):
        _style(axes)
        for taken, legend in ((True, "taken"), (False, "not taken")):
            own = [i for i, step in enumerate(tried) if bool(step["is_best"]) == taken]
            place = {"s": 26, "color": SERIES[0 if taken else 1], "marker": MARKERS[0 if taken else 1], "linewidth": 0}
            if own:
                axes.scatter([costs[i] for i in own], [tried[i]["accuracy"] for i in own], label=legend, zorder=3, **place)
        _time_axis(axes, min(costs) / 1.3, max(costs) * 1.3)
        axes.set_xlabel("time that the step took (log scale)", color=MUTED)
        axes.set_ylabel(label, color=MUTED)
        axes.legend(frameon=False, labelcolor=INK)
    return embedded(text.getvalue(), name, f"{label} of each step by the time that it took")


def draw_reliability(series: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Draw a reliability diagram, as an `svg` element: accuracy by confidence with intervals, and the calibrated diagonal.

    Args:
        series: Bins with `count`, `confidence`, `accuracy` and `ci95`, by label of the model; areas show the counts.
    """
    with canvas((SIZE_INCHES[0], 4.2)) as (axes, text):
        _style(axes)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", zorder=1)
        most = max(one["count"] for bins in series.values() for one in bins)
        for i, (model, bins) in enumerate(series.items()):
            colour = SERIES[i % len(SERIES)]
            x, y = [one["confidence"] for one in bins], [one["accuracy"] for one in bins]
            # Wilson's interval ends at the share itself where all or none are right, give or take the last bit.
            spread = np.maximum([[one["accuracy"] - one["ci95"][0], one["ci95"][1] - one["accuracy"]] for one in bins], 0).T
            axes.errorbar(x, y, yerr=spread, fmt="none", ecolor=colour, elinewidth=1, alpha=0.6)
            areas = [max(SMALLEST_AREA, LARGEST_AREA * one["count"] / most) for one in bins]
            axes.scatter(x, y, s=areas, color=colour, marker=MARKERS[i % len(MARKERS)], linewidth=0, label=model, zorder=3)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_xlabel("confidence", color=MUTED)
        axes.set_ylabel("accuracy", color=MUTED)
        if len(series) > 1:
            for handle in axes.legend(frameon=False, labelcolor=INK).legend_handles:
                handle.set_sizes([LEGEND_AREA])
    return embedded(text.getvalue(), "reliability", "accuracy by confidence")


def embedded(svg: str, name: str, about: str) -> str:
    """Adapt a plot to a page, as an `svg` element: unique ids, the page's colours, any width.

    Args:
        svg: An SVG document that matplotlib wrote.
        name: Prefix of every id, so that the plots of a page don't refer to each other's parts.
        about: What the plot shows in one sentence, for screen readers.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"<!--.*?-->|<style.*?</style>", "", body, flags=re.S)  # a style would reach the whole page
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub(r"font-family: [^;\"]*; ?", "", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    head, rest = body.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    assert view is not None
    tag = (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {view[0]} role="img"'
    )
    return f'{tag} aria-label="{escape(about, quote=True)}">{rest.strip()}'


def _time_axis(axes: Any, start_s: float, end_s: float) -> None:
    """Make the horizontal axis one of time, in log scale, with at most seven round marks."""
    inside = [seconds for seconds in MARKS_S if start_s <= seconds <= end_s] or [end_s]
    marks = inside[:: -(-len(inside) // MOST_MARKS)]
    axes.set_xscale("log")
    axes.set_xlim(start_s / 1.05, end_s * 1.05)
    axes.set_xticks(marks, [_mark(seconds) for seconds in marks])
    axes.set_xticks([], minor=True)


def _mark(seconds: float) -> str:
    for unit_s, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.3g} {unit}"
    return f"{seconds:.3g} s"


def _style(axes: Any) -> None:
    """Make the background transparent, and axes and grid thin."""
    axes.figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(color=LINE, labelcolor=MUTED, length=3)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
