"""A classifier of drawings that scikit-learn's pipelines, cross-validation and searches take."""

import contextlib
import inspect
import unicodedata
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np
from filelock import FileLock
from jaxtyping import Float32
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from inkfold.api.inputs import data_overrides
from inkfold.api.settings import as_overrides
from inkfold.auto.train import train_any
from inkfold.config.keys import is_key, nearest_key
from inkfold.config.load import raw_keys
from inkfold.data.dataset import Dataset
from inkfold.data.given import read_any_dataset
from inkfold.ensemble.model import Ensemble
from inkfold.estimators.required import (
    BaseEstimator,
    ClassifierMixin,
    InvalidDataError,
    InvalidSettingError,
    as_drawings,
    contents,
    value_errors,
)
from inkfold.evaluation.predictions import Predictions
from inkfold.pipeline.run import Run
from inkfold.pipeline.run_files import OUT_OF_FOLD
from inkfold.runtime.progress import console_progress, silent
from inkfold.storage.cache import home
from inkfold.storage.hashing import key_digest

RUNS, SETTINGS = "estimators", "settings"
LARGEST_SEED = 2**31 - 1


@final
class DrawingClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Classifies drawings as a recipe says.

    Fitting trains one head per fold on folds that split copies of a drawing apart, so that `out_of_fold_` holds honest
    probabilities. Runs and features are kept in inkfold's directory: fitting twice on the same drawings trains once.

    Args:
        recipe: A shipped recipe's name (`inkfold recipes`), a YAML file, or a recipe's keys as a mapping. `auto` searches for
            the best classifier within the budget.
        budget: The search's time for `auto`, such as `10m` or seconds; None takes the recipe's. Other recipes have none.
        out: The run's directory; None keeps it in inkfold's directory, one for each training.
        random_state: The recipe's seed, as an int; a RandomState draws one in each `fit`; None leaves the recipe's.
        verbose: Whether progress is shown on standard error.
        settings: Keys of the recipe, two underscores standing for a dot, as in `train_head__epochs=20` and
            `image__size=128`; searches vary them by these names.

    Attributes:
        classes_: The classes in sorted order, as `y` had them.
        run_: The finished run or ensemble; it predicts, explains and reports.
        out_of_fold_: For each training drawing, in the order of X, the class probabilities by the fold that held it out,
            (n, classes), NaN for drawings that weren't held out or were left out.

    Example:
        >>> from sklearn.model_selection import cross_val_score
        >>> cross_val_score(inkfold.DrawingClassifier("first", train_head__epochs=20), images, labels, cv=3)
    """

    def __init__(
        self,
        recipe: str | Path | Mapping[str, Any] = "first",
        *,
        budget: str | float | None = None,
        out: str | Path | None = None,
        random_state: Any = None,
        verbose: bool = False,
        **settings: Any,
    ) -> None:
        self.recipe, self.budget, self.out = recipe, budget, out
        self.random_state, self.verbose, self.settings = random_state, verbose, settings

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, the recipe's settings among them.

        Args:
            deep: Without effect: no parameter is an estimator.
        """
        return {**{name: getattr(self, name) for name in _OWN}, **self.settings}

    def set_params(self, **params: Any) -> "DrawingClassifier":
        """Set parameters and settings of the recipe, `train_head__epochs=20`; others stay as they are.

        Raises:
            ValueError: If a name is neither a parameter nor a key of a recipe's section.
        """
        for name in params:
            _check_name(name)
        for name, value in params.items():
            if name == SETTINGS:  # all of them at once, as the constructor's argument
                self.settings = dict(value) if isinstance(value, Mapping) else {SETTINGS: value}
            elif name in _OWN:
                setattr(self, name, value)
            else:
                self.settings = {**self.settings, name: value}
        return self

    def fit(self, X: Any, y: Any, groups: Any = None) -> "DrawingClassifier":  # noqa: N803 - scikit-learn's name
        """Train on drawings.

        Args:
            X: The drawings: a list, column or array of paths, Pillow images, arrays, bytes or strokes, or an array (n, h, w)
                or (n, h, w, channels).
            y: The class of each drawing.
            groups: Who drew each, or what else the drawings share: those of one group are held out together.

        Returns:
            The classifier itself.

        Raises:
            ValueError: If the drawings, labels or settings can't be used.
        """
        drawings = as_drawings(X)
        targets = _labels(y, len(drawings))
        self.classes_, rows = np.unique(targets, return_inverse=True)
        names = _class_names(self.classes_)
        with value_errors():
            dataset = _read(drawings, [names[row] for row in rows.tolist()], groups)
            self.run_ = self._train(dataset)
        self._columns = _columns(self.run_, dataset, rows)
        self.out_of_fold_ = _out_of_fold(self.run_, dataset, len(drawings))[:, self._columns]
        return self

    def predict_proba(self, X: Any) -> Float32[np.ndarray, "n classes"]:  # noqa: N803 - scikit-learn's name
        """Predict the class probabilities of drawings, in the order of `classes_`.

        Args:
            X: The drawings, as `fit` takes them.

        Raises:
            ValueError: If a drawing can't be read.
        """
        return self._run_probs(X)[:, self._columns]

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803 - scikit-learn's name
        """Predict the class of each drawing, as `y` had it, by the run's rule for decisions.

        Args:
            X: The drawings, as `fit` takes them.

        Raises:
            ValueError: If a drawing can't be read.
        """
        probs = self._run_probs(X)
        preds = self.run_.decide(probs)
        place_of = np.argsort(self._columns)
        answers: np.ndarray = self.classes_[place_of[preds]]
        return answers

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that X holds drawings rather than rows of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.three_d_array = False, True, True
        tags.input_tags.string = True
        return tags

    def _run_probs(self, x: Any) -> Float32[np.ndarray, "n classes"]:
        """Predict in the order of the run's own classes; features are taken from the bank and kept there."""
        check_is_fitted(self, "run_")
        drawings = as_drawings(x)
        with value_errors():
            return self.run_.predict_proba(contents(drawings), cache=True)

    def _train(self, dataset: Dataset) -> Run | Ensemble:
        for name in self.settings:
            _check_name(name)
        if SETTINGS in self.settings:
            got = self.settings[SETTINGS]
            raise InvalidSettingError(
                f"settings: got {got!r}, expected keys of a recipe with their values. Name them one by one."
            )
        overrides = [*data_overrides(dataset), *self._own_overrides()]
        recipe = dict(self.recipe) if isinstance(self.recipe, Mapping) else self.recipe
        out = self._place(overrides) if self.out is None else Path(self.out)
        with contextlib.ExitStack() as stack:
            if self.out is None:
                out.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(f"{out}.lock"))  # a search may train the same twice at once
            progress = stack.enter_context(console_progress()) if self.verbose else silent
            return train_any(recipe, *overrides, out=out, progress=progress)

    def _own_overrides(self) -> list[str]:
        overrides = [*as_overrides(self.settings)]
        if self.budget is not None:
            if "auto" not in raw_keys(self.recipe):
                text = "for a recipe without a search. Take recipe='auto', or leave it out."
                raise InvalidSettingError(f"budget: got {self.budget!r} {text}")
            overrides += as_overrides({"auto.budget": self.budget})
        if self.random_state is not None:
            is_seed = isinstance(self.random_state, int | np.integer)
            seed = int(self.random_state) if is_seed else check_random_state(self.random_state).randint(LARGEST_SEED)
            overrides += as_overrides({"seed": seed})
        return overrides

    def _place(self, overrides: list[str]) -> Path:
        """Choose the directory of a training: the same for the same drawings, whose directory's name says their content."""
        key = {"recipe": raw_keys(self.recipe), "overrides": sorted(overrides), "inkfold": version("inkfold")}
        return home() / RUNS / key_digest(key)


_OWN = tuple(
    name
    for name, parameter in inspect.signature(DrawingClassifier.__init__).parameters.items()
    if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
)


def _check_name(name: str) -> None:
    """Refuse a name that neither the classifier nor a recipe has."""
    if name in (*_OWN, SETTINGS) or is_key(name.replace("__", ".")):
        return
    near = nearest_key(name.replace("__", "."), _OWN)
    known = f"Take {', '.join(_OWN)}, or a recipe's key such as train_head__epochs."
    hint = f"Did you mean {near.replace('.', '__')!r}?" if near else known
    raise InvalidSettingError(f"DrawingClassifier has no parameter {name!r}. {hint}")


def _labels(y: Any, count: int) -> np.ndarray:
    """Check that there is one label for each drawing, and that they are classes.

    Raises:
        ValueError: If they aren't; scikit-learn's own for numbers that are no classes.
    """
    if y is None:
        raise InvalidDataError("y: requires y to be passed, but the target y is None. Expected the class of each drawing.")
    targets = np.asarray(y)
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = column_or_1d(targets, warn=True)
    if targets.ndim != 1:
        raise InvalidDataError(f"y: got an array {targets.shape}, expected one class for each drawing: (n,).")
    if len(targets) != count:
        raise InvalidDataError(f"y: got {len(targets)} labels for {count} drawings, expected one for each.")
    if targets.dtype.kind == "f" and not np.isfinite(targets).all():
        raise InvalidDataError("y: has NaN or infinity, expected classes. Leave out drawings without a class.")
    check_classification_targets(targets)
    if len(np.unique(targets)) < 2:
        raise InvalidDataError(
            "y: got one class, expected two at least: the classifier can't tell drawings apart by one class."
        )
    return targets


def _class_names(classes: np.ndarray) -> list[str]:
    """Name the run's classes: by the labels where they are texts apart, else by their number."""
    names = [str(value).strip() for value in classes.tolist()]
    apart = {unicodedata.normalize("NFKC", name).casefold() for name in names}
    own = len(apart) == len(names) and all(name.isprintable() and name for name in names)
    return names if own else [f"class {i}" for i in range(len(names))]


def _read(drawings: list[Any], labels: list[str], groups: Any) -> Dataset:
    """Keep the drawings as a dataset; a file that occurs twice counts as two drawings."""
    given = contents(drawings)
    paths = [content for content in given if isinstance(content, str)]
    names = None if len({*paths}) == len(paths) else [f"{i:07d}" for i in range(len(given))]
    return read_any_dataset(given, labels, groups=groups, names=names)


def _columns(run: Run | Ensemble, dataset: Dataset, rows: np.ndarray) -> list[int]:
    """Find each class's column of the run's probabilities: datasets clean names and sort them in their own way."""
    assert dataset.train.targets is not None
    first = [int(np.flatnonzero(rows == number)[0]) for number in range(rows.max() + 1)]
    return [run.classes_.index(dataset.class_names[target]) for target in dataset.train.targets[first].tolist()]


def _out_of_fold(run: Run | Ensemble, dataset: Dataset, count: int) -> Float32[np.ndarray, "n classes"]:
    """Read the out-of-fold probabilities in the order of the drawings; NaN where there are none."""
    probs = np.full((count, len(run.classes_)), np.nan, np.float32)
    place_of = {path: place for place, path in enumerate(dataset.train.image_paths.tolist())}
    file = run.path / OUT_OF_FOLD
    if file.is_file():
        found = Predictions.load(file)
        columns = [found.class_names.index(name) for name in run.classes_]
        probs[[place_of[path] for path in found.image_paths.tolist()]] = found.probs[:, columns]
    return probs
