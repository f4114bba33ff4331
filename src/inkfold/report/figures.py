"""Figures of a run for notebooks: mistakes, confusions, a map of its drawings. Matplotlib's global state (`pyplot`) isn't used.

Texts from the data are never read as formulas.
"""

import colorsys
import io
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patheffects import withStroke

from inkfold.errors import PredictionError
from inkfold.evaluation.error_analysis import confused_pairs, failures, part_of
from inkfold.evaluation.predictions import Predictions
from inkfold.evaluation.projection import MapFeatures, principal_components, tsne
from inkfold.pipeline.run_files import RunFiles
from inkfold.report.thumbnails import Album
from inkfold.report.write import open_album_of
from inkfold.runtime.display import fit_line

PNG_DPI, CSS_DPI = 144, 96
COLUMNS = 6
COLUMN_INCHES, ROW_INCHES, PICTURE_INCHES, TITLE_INCHES = 1.55, 1.9, 1.35, 0.4
NAME_LENGTH = 22
NAMED_ON_MAP = 40  # classes
GREATEST_GRID = 36  # places for pictures along each side of a map
# Okabe and Ito's colours without yellow, which white paper hides; for more classes, hues.
FEW_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#1b1b1b")
BLUES = LinearSegmentedColormap.from_list("inkfold", ["#ffffff", "#c6dbef", "#4a90c4", "#0b3c6e"])


class NotebookFigure(Figure):
    """A matplotlib figure that notebooks show by itself, also where nobody imported pyplot, with a text for the blind."""

    about = "a figure"

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=PNG_DPI)
        width, height = (round(side * CSS_DPI) for side in self.get_size_inches())
        return data.getvalue(), {"width": width, "height": height, "alt": self.about, "needs_background": "light"}


def mistakes_figure(run: RunFiles, most: int = 24) -> NotebookFigure:
    """Draw the most confident mistakes; see `Run.show_mistakes`."""
    _check(run, "show_mistakes", "most", most, 1, 100)
    predictions, album = _evaluated(run, "show_mistakes"), open_album_of(run)
    wrong = failures(predictions, most)
    rows = max(-(-len(wrong) // COLUMNS), 1)
    height = rows * ROW_INCHES + TITLE_INCHES
    figure = _figure((COLUMNS * COLUMN_INCHES, height), f"{len(wrong)} mistakes of {run.name}, the most confident first")
    figure.set_layout_engine("none")  # places are known: laying out two dozen axes takes seconds
    names = predictions.class_names
    title = "the most confident mistakes: label, then answer" if wrong else "no mistakes"
    figure.text(0.5, 1 - TITLE_INCHES / 2 / height, title, fontsize=10, ha="center", va="center")
    side = PICTURE_INCHES / height
    for place, failure in enumerate(wrong):
        row, column = divmod(place, COLUMNS)
        bottom = 1 - (TITLE_INCHES + (row + 1) * ROW_INCHES - 0.08) / height
        left = (column + 0.5) / COLUMNS - PICTURE_INCHES / 2 / (COLUMNS * COLUMN_INCHES)
        axes = figure.add_axes((left, bottom, PICTURE_INCHES / (COLUMNS * COLUMN_INCHES), side))
        axes.set_axis_off()
        pixels = album.pixels(str(predictions.image_paths[failure.row]), part_of(predictions))
        _show(axes, pixels)
        label, answer = fit_line(names[failure.target], NAME_LENGTH), fit_line(names[failure.pred], NAME_LENGTH)
        axes.set_title(f"{label}\n→ {answer} {failure.confidence:.2f}", fontsize=8, parse_math=False)
    return figure


def confusion_figure(run: RunFiles, most: int = 20) -> NotebookFigure:
    """Draw the confusion matrix, of the classes that are confused most where there are many; see `Run.plot_confusion`."""
    _check(run, "plot_confusion", "most", most, 2, 60)
    predictions = _evaluated(run, "plot_confusion")
    k = len(predictions.class_names)
    chosen = _most_confused(predictions, most)
    table = np.bincount(_targets(predictions) * k + predictions.preds, minlength=k * k).reshape(k, k)
    totals = np.maximum(table.sum(1), 1)[chosen]
    counts = table[np.ix_(chosen, chosen)]
    side = 2.2 + 0.34 * len(chosen)
    figure = _figure((side + 0.9, side), f"which class of {run.name} is taken for which, {len(chosen)} of {k} classes")
    axes = figure.add_subplot()
    shares = counts / totals[:, None]
    image = axes.imshow(shares, cmap=BLUES, norm=Normalize(0, 1))
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.55 else "#1b1b1b"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7, color=colour)
    labels = [fit_line(predictions.class_names[i], NAME_LENGTH) for i in chosen]
    axes.set_xticks(range(len(chosen)), labels, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(chosen)), labels, fontsize=8, parse_math=False)
    axes.set(xlabel="answer", ylabel="label")
    figure.colorbar(image, ax=axes, label="share of the label's drawings", fraction=0.046, pad=0.02)
    if len(chosen) < k:
        axes.set_title(f"the {len(chosen)} of {k:,} classes that are confused most", fontsize=10)
    return figure


def map_figure(run: RunFiles, found: MapFeatures, *, colour: str, method: str, thumbnails: int) -> NotebookFigure:
    """Draw a map of a run's training drawings; see `Run.map`."""
    places = tsne(found.features) if method == "tsne" and len(found.features) > 3 else principal_components(found.features)
    paths = [str(path) for path in found.image_paths.tolist()]
    figure = _figure((9.0, 7.0), f"map of {len(paths)} training drawings of {run.name}, coloured by {colour}")
    axes = figure.add_subplot()
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"{len(paths):,} training drawings; neighbours have similar features ({_METHODS[method]})", fontsize=10)
    names = tuple(run.manifest["class_names"])
    colours = _class_colours(len(names))[found.targets] if colour == "class" else _doubt_colours(figure, axes, run, paths)
    axes.scatter(places[:, 0], places[:, 1], s=12, c=colours, linewidths=0, alpha=0.85)
    named = colour == "class" and len(names) <= NAMED_ON_MAP
    captions = [""] * len(paths) if named else [fit_line(names[i], NAME_LENGTH) for i in found.targets.tolist()]
    _add_thumbnails(axes, places, colours, [*zip(paths, captions, strict=True)], open_album_of(run), thumbnails)
    if named:
        _name_classes(axes, places, found.targets, names)
    return figure


_METHODS = {"tsne": "t-SNE", "pca": "principal components"}


def _figure(size_inches: tuple[float, float], about: str) -> NotebookFigure:
    figure = NotebookFigure(figsize=size_inches, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.about = about
    return figure


def _check(run: RunFiles, function: str, name: str, got: int, least: int, most: int) -> None:
    if not isinstance(got, int) or not least <= got <= most:
        raise PredictionError(f"{run.path}: {function}: got {name}={got!r}, expected a whole number from {least} to {most}.")


def _evaluated(run: RunFiles, function: str) -> Predictions:
    if (predictions := run.evaluated) is None:
        raise PredictionError(f"{run.path}: {function} needs drawings of known class that were held out, and there are none.")
    return predictions


def _targets(predictions: Predictions) -> Int64[np.ndarray, " n"]:
    assert predictions.targets is not None
    return predictions.targets


def _show(axes: Any, pixels: np.ndarray | None) -> None:
    """Show a drawing, or an empty frame where it can't be read any more."""
    if pixels is None:
        axes.text(0.5, 0.5, "not found", ha="center", va="center", fontsize=8, transform=axes.transAxes, color="#767676")
    else:
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")


def _most_confused(predictions: Predictions, most: int) -> list[int]:
    """Choose classes in the order of the pairs that are confused most, and order them so that confused ones are neighbours."""
    k = len(predictions.class_names)
    if k <= most:
        return list(range(k))
    ordered: list[int] = []
    for pair in confused_pairs(predictions, most):
        new = [i for i in (pair.first, pair.second) if i not in ordered]
        ordered += new if len(ordered) + len(new) <= most else []
    rest = (i for i in range(k) if i not in ordered)
    return [*ordered, *rest][:most] if len(ordered) < 2 else ordered[:most]


def _class_colours(count: int) -> Float[np.ndarray, "classes 4"]:
    from matplotlib.colors import to_rgba  # noqa: PLC0415

    if count <= len(FEW_COLOURS):
        return np.array([to_rgba(FEW_COLOURS[i]) for i in range(count)])
    hues = [(i * 0.618034) % 1 for i in range(count)]  # the golden ratio: neighbours in the order of names differ most
    return np.array([(*colorsys.hls_to_rgb(hue, (0.36, 0.5)[i % 2], 0.75), 1.0) for i, hue in enumerate(hues)])


def _doubt_colours(figure: Figure, axes: Any, run: RunFiles, paths: list[str]) -> Float[np.ndarray, "n 4"]:
    """Colour drawings by how unlikely their label is out of fold, grey where no fold held them out, and add the scale."""
    held_out = run.out_of_fold
    doubts: dict[str, float] = {}
    if held_out is not None and held_out.targets is not None:
        own = 1 - held_out.probs[np.arange(len(held_out.targets)), held_out.targets]
        doubts = dict(zip(map(str, held_out.image_paths.tolist()), own.tolist(), strict=True))
    norm, scale = Normalize(0, 1), colormaps["plasma_r"]
    from matplotlib.cm import ScalarMappable  # noqa: PLC0415

    figure.colorbar(ScalarMappable(norm, scale), ax=axes, label="1 - probability of the label, out of fold", fraction=0.04)
    return np.array([scale(norm(doubts[path])) if path in doubts else (0.6, 0.6, 0.6, 1.0) for path in paths])


def _add_thumbnails(
    axes: Any, places: Float[np.ndarray, "n 2"], colours: np.ndarray, named: list[tuple[str, str]], album: Album, most: int
) -> None:
    """Show drawings where they are, at most one in each cell of a grid, so that pictures don't hide each other."""
    for row in _spread(places, most):
        path, caption = named[row]
        if (pixels := album.pixels(path)) is not None:
            picture = OffsetImage(pixels, zoom=0.3, cmap="gray", norm=Normalize(0, 255))
            frame = {"edgecolor": colours[row], "facecolor": "white", "linewidth": 1.4, "boxstyle": "square,pad=0.05"}
            box = AnnotationBbox(picture, tuple(places[row]), frameon=True, pad=0.1, bboxprops=frame)
            axes.add_artist(box)
            below = {"xytext": (0, -17), "textcoords": "offset points", "ha": "center", "va": "top", "fontsize": 6.5}
            axes.annotate(caption, tuple(places[row]), zorder=6, parse_math=False, **below)


def _spread(places: Float[np.ndarray, "n 2"], most: int) -> list[int]:
    """Choose rows that are spread over the map: the one nearest to each cell's centre, of the finest grid that allows it."""
    chosen: list[int] = []
    low, size = places.min(0), np.maximum(np.ptp(places, axis=0), 1e-12)
    for cells in range(2, GREATEST_GRID // 2 + 1):
        scaled = (places - low) / size * (cells - 1e-9)
        number = scaled.astype(int) @ np.array([1, cells])
        off_centre = ((scaled % 1 - 0.5) ** 2).sum(1)
        order = np.lexsort((off_centre, number))
        first = order[np.r_[True, np.diff(number[order]) != 0]]
        if len(first) > most:
            break
        chosen = first.tolist()
    return chosen


def _name_classes(
    axes: Any, places: Float[np.ndarray, "n 2"], targets: Int64[np.ndarray, " n"], names: tuple[str, ...]
) -> None:
    """Write classes' names at the middle of their drawings."""
    for i in np.unique(targets).tolist():
        text = axes.text(
            *np.median(places[targets == i], axis=0),
            fit_line(names[i], NAME_LENGTH),
            fontsize=8,
            ha="center",
            va="center",
            zorder=6,
        )
        text.set_parse_math(False)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
