"""The functions that begin with drawings: train, fit, tune, explore, check, augment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inkfold.api.inputs import Data, data_overrides
from inkfold.api.parts import names_missing_parts
from inkfold.api.settings import Settings, as_overrides
from inkfold.runtime.progress import ProgressOption, open_progress, silent

if TYPE_CHECKING:
    from PIL import Image

    from inkfold.audit.check import Checkup
    from inkfold.config.recipe import AutoRecipe, EnsembleRecipe, Recipe
    from inkfold.ensemble.model import Ensemble
    from inkfold.features.executors import Executor
    from inkfold.pipeline.run import Run
    from inkfold.search.backbones import BackboneScore

FIRST = "first"
PARAMETERS = ("data", "out", "progress", "on")


@names_missing_parts
def train(
    recipe: "Recipe | EnsembleRecipe | AutoRecipe | Mapping[str, Any] | str | Path" = FIRST,
    *overrides: Settings,
    data: Data = None,
    out: str | Path | None = None,
    progress: ProgressOption = None,
    on: "str | Executor" = "inline",
    **settings: Any,
) -> "Run | Ensemble":
    """Train what a recipe describes: one model, an ensemble, or the best that a search finds within a budget of time.

    The same as `inkfold train RECIPE data=DATA out=OUT`.

    Args:
        recipe: A recipe, its keys as nested mappings, a YAML file, or a shipped recipe's name.
        overrides: Changes of the recipe's keys: `"train_head.epochs=20"`, lists of such texts, or nested mappings.
        data: A folder or table of drawings; a dataset as `inkfold.read_dataset` returns it; or drawings with their labels,
            `(drawings, labels)` or `(drawings, labels, groups)`, in any form that `inkfold.read_dataset` takes.
        out: The run's directory. An unfinished run of the same recipe in it is continued, and a finished one is returned; a
            search goes on where it has time left. None takes a temporary directory, which goes when Python ends: keep the run
            with `run.save(path)`.
        progress: None shows bars in notebooks and terminals, and a line every ten seconds elsewhere; False shows nothing; a
            function receives each stage's name, what is done and the total.
        on: Where features are computed: `inline`, `pool[:N]` or `ray[:ADDRESS]`.
        settings: Changes of the recipe's keys: sections as mappings (`train_head={"epochs": 20}`), keys with two underscores
            for the dot (`train_head__epochs=20`), or with dots (`**{"train_head.epochs": 20}`). `seed=3` needs none.

    Returns:
        The finished run or ensemble.

    Raises:
        RecipeError: If the recipe or a setting isn't valid, with the nearest key for one that doesn't exist.
        DataError: With every problem of the data.
        WeightsError: If a backbone's weights can't be found or downloaded.
        PredictionError: If `out` holds another run, or another process is writing it.
    """
    from inkfold.auto.train import train_any  # noqa: PLC0415 - torch takes a second
    from inkfold.storage.temporary import temporary_directory  # noqa: PLC0415

    texts = (*as_overrides({}, overrides), *as_overrides(settings, parameters=PARAMETERS))
    texts = (*data_overrides(data), *texts)
    place = temporary_directory() / "run" if out is None else Path(out)
    with open_progress(progress) as report:
        return train_any(recipe, *texts, out=place, progress=report, on=on)


@names_missing_parts
def fit(
    drawings: Data,
    budget: str | float = "10m",
    *overrides: Settings,
    out: str | Path | None = None,
    progress: ProgressOption = None,
    **settings: Any,
) -> "Run | Ensemble":
    """Find the best classifier of some drawings that this machine can train within a budget of time.

    The same as `inkfold train auto data=DRAWINGS budget=BUDGET out=OUT`.

    Args:
        drawings: What `train` takes as `data`: a folder or table, a dataset, or drawings with their labels.
        budget: Wall-clock time for the whole search: a text such as `30s`, `10m`, `1h` or `12h`, or a number of seconds, 10 to
            2,592,000.
        overrides: Keys of a recipe, which hold for everything that is tried; see `train`.
        out: The run's directory, in which an unfinished search goes on, also with a larger budget. None makes a new one below
            the current directory: `runs/auto-1`, or the next number that is free.
        progress: What the search shows; see `train`.
        settings: Keys of a recipe, which hold for everything that is tried; see `train`.

    Returns:
        The best model, loaded: it predicts (`predict_proba`), and its `path`, `metrics` and `classes_` say what it is.

    Raises:
        RecipeError: If the budget or a setting is none.
        DataError: With every problem of the data.
        PredictionError: If `out` holds another run, or another process is searching in it.
    """
    from inkfold.auto.fit import fit as search  # noqa: PLC0415 - torch takes a second

    texts = (*as_overrides({}, overrides), *as_overrides(settings, parameters=("drawings", "budget", "out", "progress")))
    report = silent if progress is False else None if isinstance(progress, bool) else progress
    return search((*data_overrides(drawings), *texts), budget, out=out, progress=report)


@names_missing_parts
def tune(
    recipe: Mapping[str, Any] | str | Path,
    *overrides: Settings,
    data: Data = None,
    out: str | Path,
    progress: ProgressOption = None,
    on: "str | Executor" = "inline",
    **settings: Any,
) -> dict[str, Any]:
    """Search for better hyper-parameters, and measure what they gain on drawings that the search never saw.

    The same as `inkfold tune RECIPE data=DATA out=OUT`.

    Args:
        recipe: Raw keys, a YAML file, or a shipped recipe's name; its `tune` section defines the search space.
        overrides: Changes of the recipe's keys; see `train`.
        data: The drawings; see `train`.
        out: The study's directory. A study of the same recipe and drawings in it is continued, also with more trials.
        progress: Receives each stage's name, steps done and steps in total.
        on: Where features are computed; see `train`.
        settings: Changes of the recipe's keys; see `train`.

    Returns:
        The content of `tune.json`: the best values, cross-validated accuracies, and the gain on drawings never searched on.

    Raises:
        RecipeError: If the recipe or its space doesn't validate.
        DataError: With every problem of the data.
        PredictionError: If `out` holds anything else, or a study of another recipe or of other drawings.
    """
    from inkfold.search.study import tune as search  # noqa: PLC0415 - torch takes a second

    texts = (*as_overrides({}, overrides), *as_overrides(settings, parameters=PARAMETERS))
    with open_progress(progress) as report:
        return search(recipe, *data_overrides(data), *texts, out=out, progress=report, on=on)


@names_missing_parts
def explore(
    data: Data,
    backbones: Sequence[str] = (),
    *overrides: Settings,
    sample: int | None = None,
    progress: ProgressOption = None,
    on: "str | Executor" = "inline",
    **settings: Any,
) -> "tuple[list[BackboneScore], dict[str, str]]":
    """Compare backbones on drawings: accuracy and cost. Features that are in the bank are not computed again.

    The same as `inkfold explore DATA --backbones NAMES`.

    Args:
        data: The drawings; see `train`.
        backbones: timm's names, also with `*`; none compares the weights in INKFOLD_WEIGHTS and some usual backbones.
        overrides: Changes of the recipe that all backbones share; see `train`.
        sample: Approximate number of training drawings, in the classes' shares, but one of each class at least; None uses all.
        progress: Receives each stage's name, steps done and steps in total.
        on: Where features are computed; see `train`.
        settings: Changes of the recipe's keys; see `train`.

    Returns:
        The backbones' scores, the most accurate first, and, by name, why others could not be tried.

    Raises:
        RecipeError: If a setting doesn't validate or a pattern matches nothing.
        DataError: With every problem of the data.
    """
    from inkfold.search.backbones import explore as compare  # noqa: PLC0415 - torch takes a second

    names = [backbones] if isinstance(backbones, str) else [*backbones]
    parameters = ("data", "backbones", "sample", "progress", "on")
    texts = (*as_overrides({}, overrides), *as_overrides(settings, parameters=parameters))
    with open_progress(progress) as report:
        return compare(None, names, [*data_overrides(data), *texts], sample=sample, progress=report, on=on)


@names_missing_parts
def check(
    data: Data,
    *overrides: Settings,
    duplicates: bool = True,
    out: str | Path | None = None,
    progress: ProgressOption = None,
    **settings: Any,
) -> "Checkup":
    """Read and decode drawings, and list everything that is wrong; `ok` of the answer says whether they can be trained on.

    The same as `inkfold check DATA`.

    Args:
        data: The drawings; see `train`.
        overrides: Keys of the section `data`, `group_column`, `group_pattern` and `k`, the number of folds; see `train`.
        duplicates: Whether copies are looked for; the drawings' signatures are then kept in the cache.
        out: An HTML file that shows how pages are read, and copies; None writes none.
        progress: Receives each stage's name, what is done and the total.
        settings: The same keys; see `train`.

    Returns:
        All problems, counts and copies.

    Raises:
        DataError: If there are no drawings at all.
        RecipeError: If a setting isn't valid.
    """
    from inkfold.audit.check import check_data  # noqa: PLC0415
    from inkfold.pipeline.build import check_options  # noqa: PLC0415
    from inkfold.report.check_page import write_check_page  # noqa: PLC0415

    texts = (*as_overrides({}, overrides, known=None), *as_overrides(settings, known=None))
    options, k = check_options(None, [*data_overrides(data), *texts])
    with open_progress(progress) as report:
        checkup = check_data(options.root or "", options, k=k, duplicates=duplicates, progress=report)
    if out is not None:
        write_check_page(Path(out), checkup)
    return checkup


@names_missing_parts
def augment(
    recipe: "Recipe | Mapping[str, Any] | str | Path" = FIRST,
    *overrides: Settings,
    data: Data = None,
    out: str | Path | None = None,
    rows: int = 8,
    **settings: Any,
) -> "Image.Image":
    """Draw a contact sheet of a recipe's augmentation: some drawings under each operation and each stage.

    The same as `inkfold augment RECIPE data=DATA --out OUT`.

    Args:
        recipe: A recipe, its keys as nested mappings, a YAML file, or a shipped recipe's name.
        overrides: Changes of the recipe's keys, such as `"curriculum=winner"`; see `train`.
        data: The drawings; see `train`.
        out: A .png, .jpg or .webp file that is written, too; replaced when it exists. None writes none.
        rows: Number of drawings, at least 1, of as many classes as possible; the recipe's seed chooses them.
        settings: Changes of the recipe's keys; see `train`.

    Returns:
        The sheet, which notebooks show.

    Raises:
        RecipeError: If the recipe or a setting isn't valid.
        DataError: If no drawing can be read.
        ExportError: If the suffix of `out` is none of these.
    """
    from inkfold.pipeline.build import settle_recipe  # noqa: PLC0415
    from inkfold.report.contact_sheet import check_sheet_file, draw_preview, write_sheet  # noqa: PLC0415

    if out is not None:
        check_sheet_file(Path(out))
    texts = (*as_overrides({}, overrides), *as_overrides(settings, parameters=("data", "out", "rows")))
    sheet, _ = draw_preview(settle_recipe(recipe, (*data_overrides(data), *texts)), max(1, rows))
    if out is not None:
        write_sheet(sheet, Path(out))
    return sheet
