"""Plots that stand in a page: SVG by matplotlib that takes the page's colours, light and dark, and its typeface.

No text from data goes into them but numbers: names are the page's to escape.
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
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    BAND: "--band",
    **{colour: f"--c{i + 1}" for i, colour in enumerate(SERIES)},
}


def draw_curves(lines: Mapping[str, Sequence[float]], label: str, name: str, stages: Sequence[tuple[int, int]] = ()) -> str:
    """Draw figures by epoch.

    Args:
        lines: By label, a value an epoch.
        label: Of the vertical axis.
        name: Of the plot, unique in the page.
        stages: First and last epoch of each stage of the curriculum, from 1.

    Returns:
        SVG.
    """
    with canvas(SIZE_INCHES) as (axes, text):
        _settle(axes)
        for i, (first, last) in enumerate(stages if len(stages) > 1 else ()):
            axes.axvspan(first - 0.5, last + 0.5, color=BAND if i % 2 == 0 else "none", linewidth=0, zorder=0)
            axes.text(
                (first + last) / 2, 1.0, str(i + 1), transform=axes.get_xaxis_transform(), color=MUTED, ha="center", va="bottom"
            )
        for i, (told, values) in enumerate(lines.items()):
            mark = {"marker": MARKERS[i % len(MARKERS)], "markersize": 3.5, "linestyle": DASHES[i % len(DASHES)]}
            axes.plot(range(1, len(values) + 1), values, color=SERIES[i % len(SERIES)], label=told, linewidth=1.6, **mark)
        axes.set_xlabel("epoch", color=MUTED)
        axes.set_ylabel(label, color=MUTED)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.set_xlim(0.5, max(map(len, lines.values())) + 0.5)
        if len(lines) > 1:
            axes.legend(frameon=False, labelcolor=INK)
    return embedded(text.getvalue(), name, f"{label} by epoch")


def draw_reliability(series: Mapping[str, Sequence[Mapping[str, Any]]], name: str) -> str:
    """Draw accuracy by confidence, with intervals, against the diagonal of a calibrated model; areas show how many drawings.

    Args:
        series: By label, bins as `exhibits.reliability` gives them.
        name: Of the plot, unique in the page.

    Returns:
        SVG.
    """
    with canvas((SIZE_INCHES[0], 4.2)) as (axes, text):
        _settle(axes)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", zorder=1)
        most = max(one["n"] for bins in series.values() for one in bins)
        for i, (told, bins) in enumerate(series.items()):
            colour = SERIES[i % len(SERIES)]
            x, y = [one["confidence"] for one in bins], [one["accuracy"] for one in bins]
            # Wilson's interval ends at the share itself where all or none are right, give or take the last bit.
            spread = np.maximum([[one["accuracy"] - one["ci95"][0], one["ci95"][1] - one["accuracy"]] for one in bins], 0).T
            axes.errorbar(x, y, yerr=spread, fmt="none", ecolor=colour, elinewidth=1, alpha=0.6)
            areas = [max(SMALLEST_AREA, LARGEST_AREA * one["n"] / most) for one in bins]
            axes.scatter(x, y, s=areas, color=colour, marker=MARKERS[i % len(MARKERS)], linewidth=0, label=told, zorder=3)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_xlabel("confidence", color=MUTED)
        axes.set_ylabel("accuracy", color=MUTED)
        if len(series) > 1:
            for handle in axes.legend(frameon=False, labelcolor=INK).legend_handles:
                handle.set_sizes([LEGEND_AREA])
    return embedded(text.getvalue(), name, "accuracy by confidence")


def embedded(svg: str, name: str, about: str) -> str:
    """Fit a plot into a page: its own names, the page's colours, any width.

    Args:
        svg: As matplotlib writes it.
        name: Put before every id, so that plots of a page don't take each other's parts.
        about: What it shows, for those who hear the page.

    Returns:
        The `svg` element.
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
    opened = (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {view[0]} role="img"'
    )
    return f'{opened} aria-label="{escape(about, quote=True)}">{rest.strip()}'


def _settle(axes: Any) -> None:
    """Leave the page's own ground, and only thin lines around."""
    axes.figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(color=LINE, labelcolor=MUTED, length=3)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
