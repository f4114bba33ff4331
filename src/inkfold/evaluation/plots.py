"""Charts as SVG files, drawn by matplotlib without a display."""

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inkfold.storage.files import write_text
from inkfold.storage.outputs import write_output

INK, SHADE, ACCENT = "#1b1b1b", "#9a9a9a", "#0072b2"  # Okabe and Ito's blue: told apart by the colour-blind
SIZE_INCHES = (7.0, 4.0)


def plot_history(path: Path, values: Sequence[float | None], baseline: float, label: str = "accuracy") -> None:
    """Draw the score of each trial of a search in order, and the best so far.

    Args:
        path: An .svg file; replaced when it exists.
        values: Score of each trial, such as its accuracy, greater for better ones; None for one that was stopped early.
        baseline: Score of the recipe before the search, drawn as a line.
        label: Name of the score, such as `accuracy` or `log loss`, for the vertical axis.
    """
    done = [(i, value) for i, value in enumerate(values) if value is not None]
    best: list[float] = []
    for _, value in done:
        best.append(max([value, *best[-1:]]))
    with _figure(path) as axes:
        axes.axhline(baseline, color=SHADE, linewidth=1, linestyle="--", label="the recipe as it is")
        axes.scatter([i for i, _ in done], [value for _, value in done], s=14, color=SHADE, label="trials")
        axes.step([i for i, _ in done], best, where="post", color=ACCENT, label="best so far")
        axes.set(xlabel="trial", ylabel=f"{label} in cross-validation", title="Trials")
        # not loc="best", which warns where looking for the place takes a busy core a second
        axes.figure.legend(frameon=False, ncols=3, loc="outside lower center")


def plot_importance(path: Path, importance: Mapping[str, float]) -> None:
    """Draw how much each hyper-parameter matters, as horizontal bars, the largest on top.

    Args:
        path: An .svg file; replaced when it exists.
        importance: Importance of each hyper-parameter, 0 to 1 and together 1, by its dotted key in the recipe.
    """
    ordered = sorted(importance.items(), key=lambda item: item[1])
    with _figure(path) as axes:
        axes.barh([name for name, _ in ordered], [value for _, value in ordered], color=ACCENT)
        axes.set(xlabel="importance for being among the best tenth", title="What matters")


def plot_costs(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the accuracy of backbones with its 95 % interval against their cost.

    Args:
        path: An .svg file; replaced when it exists.
        rows: One row per backbone, at least one, with `name`, `accuracy`, `accuracy_ci95` and `images_per_s`.
    """
    ordered = sorted(rows, key=lambda row: -row["images_per_s"])
    costs = [1000 / row["images_per_s"] for row in ordered]
    middle = math.sqrt(costs[0] * costs[-1])
    with _figure(path, write_output) as axes:
        for i, (row, seconds) in enumerate(zip(ordered, costs, strict=True)):
            low, high = row["accuracy_ci95"]
            spread = [[row["accuracy"] - low], [high - row["accuracy"]]]
            axes.errorbar(seconds, row["accuracy"], yerr=spread, fmt="o", color=ACCENT, ecolor=SHADE, markersize=5)
            side, shift = ("left", 5) if seconds <= middle else ("right", -5)  # names stay inside
            place = {"xytext": (shift, 4 if i % 2 else -10), "textcoords": "offset points", "ha": side, "fontsize": 8}
            axes.annotate(row["name"], (seconds, row["accuracy"]), **place).set_in_layout(False)
        axes.set(xscale="log", xlabel="seconds for 1,000 drawings", ylabel="out-of-fold accuracy (95 %)")
        axes.set_title("Backbones on these drawings")


@contextmanager
def canvas(size_inches: tuple[float, float] = SIZE_INCHES) -> Iterator[tuple[Any, io.StringIO]]:
    """Open matplotlib axes, and write what is drawn on them as SVG when the block ends.

    Args:
        size_inches: Width and height in inches, of 72 SVG units each.

    Yields:
        The axes, and a text buffer that contains the SVG once the block has ended.
    """
    import matplotlib as mpl  # noqa: PLC0415 - half a second that only plots need to pay
    from matplotlib.figure import Figure  # noqa: PLC0415

    # Text stays text, and equal data give equal bytes.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "inkfold", "font.size": 10, "axes.edgecolor": INK}):
        figure = Figure(figsize=size_inches, layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        text = io.StringIO()
        yield axes, text
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": "inkfold"})


@contextmanager
def _figure(path: Path, write: Callable[[Path, str], None] = write_text) -> Iterator[Any]:
    with canvas() as (axes, text):
        yield axes
    write(path, text.getvalue())
