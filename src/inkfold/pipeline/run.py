"""A finished run: a directory whose manifest was written last. Loaded, it predicts new drawings."""

import csv
import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias

import numpy as np
from jaxtyping import Float16, Float32, Int64
from safetensors import SafetensorError, safe_open

from inkfold.augment.views import IDENTITY, View, parse_view
from inkfold.config.load import load_recipe
from inkfold.config.recipe import Recipe
from inkfold.config.sections import NetworkSettings
from inkfold.data.class_prior import ClassPrior
from inkfold.data.spreadsheets import PREDICTION_COLUMNS, as_text
from inkfold.errors import PredictionError
from inkfold.evaluation.decision import Decision
from inkfold.evaluation.formatting import with_interval
from inkfold.features.executors import Executor, InlineExecutor
from inkfold.features.extractor import Extractor
from inkfold.heads.head import HeadSpec, mean_probs, rows_at_once, shape_problem
from inkfold.images.preprocess import ImageOptions
from inkfold.models.weights import BackboneInfo, BackboneSpec, resolve_backbone
from inkfold.pipeline.manifest import MANIFEST, read_manifest
from inkfold.pipeline.predict import predict_folds
from inkfold.pipeline.run_files import METRICS, RECIPE, RunFiles, headline
from inkfold.runtime.display import fit_line, show
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.cache import home
from inkfold.storage.files import json_text
from inkfold.storage.outputs import write_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from inkfold.explain.explanation import Explanation
    from inkfold.pipeline.answers import Answers

HEADS = "heads.safetensors"
REPR_COUNTS = {"num_classes": "classes", "n_train": "training drawings", "n_test": "test drawings"}
Images: TypeAlias = Any  # drawings in any form that `data.from_memory.read_drawings` takes


class DecidesClasses(Protocol):
    """What turns probabilities into answers: a run, an ensemble or an exported model."""

    @property
    def classes_(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities' columns."""

    @property
    def class_targets(self) -> np.ndarray:
        """The number that each class has in the data's tables."""

    def decide(self, probs: Float32[np.ndarray, "n classes"]) -> Int64[np.ndarray, " n"]:
        """Decide on one class for each drawing."""


class Model(ABC):
    """What predicts drawings: a run, or an ensemble of runs."""

    __slots__ = ()
    path: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def files(self) -> RunFiles:
        """The files in its directory, which are read when they are first needed."""
        return RunFiles(self.path, self.manifest)

    @property
    def classes_(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities' columns."""
        return tuple(self.manifest["class_names"])

    @property
    def class_targets(self) -> np.ndarray:
        """The number that each class has in the data's tables and in submissions."""
        return np.array(self.manifest["class_targets"], np.int64)

    @property
    def decision(self) -> Decision | None:
        """The rule that turns probabilities into one answer; None where that is the most probable class."""
        raw = self.manifest.get("decision")
        return None if raw is None else Decision.from_json(raw, len(self.classes_), str(self.path / MANIFEST))

    def decide(self, probs: Float32[np.ndarray, "n classes"]) -> Int64[np.ndarray, " n"]:
        """Decide on one class for each drawing: the most probable one, unless the run has a rule that suits its metric better.

        Args:
            probs: Class probabilities, as `predict_proba` returns them.

        Returns:
            Class ids, from 0.
        """
        decision = self.decision
        preds: np.ndarray = probs.argmax(1) if decision is None else decision.preds(probs)
        return preds

    @abstractmethod
    def predict_proba(
        self,
        images: Images,
        progress: Progress = silent,
        on_broken: str = "error",
        *,
        cache: bool = False,
        blank: list[int] | None = None,
    ) -> Float32[np.ndarray, "n classes"]:
        """Predict the class probabilities of drawings.

        Each drawing is read once, in batches, so that memory for pixels doesn't grow with the number of drawings.

        Args:
            images: One drawing or many: a directory, paths, files' bytes, Pillow images, arrays, open files, strokes, a
                generator, or a table with a column of them; see `inkfold.data.from_memory.read_drawings`.
            progress: Called with the stage and the forward passes done.
            on_broken: `error` raises when all drawings have been read; `skip` gives a drawing that can't be read a row of NaN.
            cache: Whether to take features from the feature bank where it has them, and to store new ones there. Without it
                nothing is written.
            blank: A list to which the row numbers of drawings without ink are added, from 0. They are predicted like the
                others, and their answers mean nothing.

        Returns:
            One row for each drawing, which sums to 1; a directory's drawings in the order of `paths.list_images`.

        Raises:
            DataError: With every drawing that can't be read, or the first thing that isn't a drawing, with its place.
            WeightsError: If a backbone's weights are missing or have changed.
            PredictionError: If the model is an ensemble with a member that is only a file of predictions.
        """

    def save(self, path: str | Path) -> Self:
        """Copy the run to where it is kept, as a whole or not at all; a run without `out` lies in a temporary directory.

        Args:
            path: A directory that is missing or empty, or holds this very run.

        Returns:
            The run that lies there.

        Raises:
            PredictionError: If `path` holds another run or anything else.
            OSError: If it can't be written.
        """
        from inkfold.pipeline.save import save_run  # noqa: PLC0415

        save_run(self.files, Path(path))
        return self._loaded(Path(path))

    @abstractmethod
    def _loaded(self, path: Path) -> Self:
        """Load a copy of this model."""

    def predict(self, images: Images) -> list[str]:
        """Name the class of each drawing; see `decide`."""
        return [self.classes_[i] for i in self.decide(self.predict_proba(images))]

    def answers(
        self,
        drawings: Images,
        *,
        column: str | None = None,
        on_broken: str = "error",
        cache: bool = False,
        progress: Progress = silent,
    ) -> "Answers":
        """Predict drawings, and keep the probabilities with them; notebooks show each drawing with its likeliest classes.

        Args:
            drawings: What `predict_proba` takes.
            column: The table's column that holds the drawings; None looks for it.
            on_broken: `error` raises when all drawings have been read; `skip` keeps one that can't be read, unanswered.
            cache: Whether features are taken from the feature bank where it has them, and new ones are stored there.
            progress: Called with the stage and the forward passes done.

        Returns:
            Names, probabilities and answers, in the drawings' order; `to_pandas()` makes a frame of them.

        Raises:
            DataError: With every drawing that can't be read, or the first thing that isn't a drawing, with its place.
            WeightsError: If a backbone's weights are missing or have changed.
            PredictionError: If the model is an ensemble with a member that is only a file of predictions.
        """
        from inkfold.data.from_memory import read_drawings  # noqa: PLC0415 - only those pay who ask
        from inkfold.pipeline.answers import Answers  # noqa: PLC0415
        from inkfold.pipeline.predict import thumbnail  # noqa: PLC0415

        source, blank = read_drawings(drawings, column).with_names(), list[int]()
        probs = self.predict_proba(source, progress, on_broken, cache=cache, blank=blank)
        pictures = tuple(thumbnail(drawing, self.member_runs()[0]) for drawing in source.first or [])
        return Answers(
            tuple(source.names or ()), self.classes_, probs, self.decide(np.nan_to_num(probs)), tuple(blank), pictures
        )

    def show_mistakes(self, most: int = 24) -> "Figure":
        """Draw the most confident mistakes: drawings with their label and what they were taken for.

        One of every class is taken before a second of any class.

        Args:
            most: Greatest number of drawings, 1 to 100.

        Returns:
            A matplotlib figure.

        Raises:
            PredictionError: If no true classes are known, or a number is out of range.
        """
        figure: Figure = show("mistakes", self.files, most=most)
        return figure

    def plot_confusion(self, most: int = 20) -> "Figure":
        """Draw the confusion matrix: which class (row) is taken for which (column), in shares of the row's drawings.

        Args:
            most: Greatest number of classes, 2 to 60. Of more classes those are drawn that are confused most.

        Returns:
            A matplotlib figure.

        Raises:
            PredictionError: If no true classes are known, or a number is out of range.
        """
        figure: Figure = show("confusion", self.files, most=most)
        return figure

    def map(
        self,
        colour: Literal["class", "doubt"] = "class",
        *,
        method: Literal["tsne", "pca"] = "tsne",
        drawings: int = 800,
        thumbnails: int = 60,
        progress: Progress = silent,
    ) -> "Figure":
        """Draw a map of training drawings on which those lie together that the backbone finds similar.

        Features come from the bank; those that it doesn't have are computed. The same run gives the same map.

        Args:
            colour: `class`, or `doubt`: how unlikely the drawing's own label is out of fold.
            method: `tsne` keeps neighbours together, `pca` shows the two directions of most variance.
            drawings: Greatest number of drawings, 10 to 3,000, evenly of all classes; t-SNE's time grows with the square.
            thumbnails: Greatest number of drawings that are shown as pictures, 0 to 200.
            progress: Called with the stage, what is done and the total.

        Returns:
            A matplotlib figure.

        Raises:
            PredictionError: If an argument is none of these, or the drawings aren't those that the run was trained on.
            DataError: If the drawings can't be read any more.
            WeightsError: If features are missing and the backbone's weights are gone.
        """
        from inkfold.pipeline.map_features import check_map_options, read_map_features  # noqa: PLC0415 - it imports this module

        check_map_options(colour, method, drawings, thumbnails)
        found = read_map_features(self.member_runs()[0], drawings, progress)
        figure: Figure = show("map", self.files, found, colour=colour, method=method, thumbnails=thumbnails)
        return figure

    def __repr__(self) -> str:
        data, place = self.metrics.get("data", {}), fit_line(str(self.path), 90)
        counts = [f"{data[key]:,} {name}" for key, name in REPR_COUNTS.items() if data.get(key)]
        names = {"out_of_fold": self.files.held_out_name, "test": "test"}
        accuracies = [
            f"\n  {names[part]}: accuracy {with_interval(own['accuracy'], own['accuracy_ci95'])}"
            for part in names
            if part in self.metrics and (own := headline(self.metrics[part]))
        ]
        return f"<{type(self).__name__} {place}\n  {', '.join(counts)}{''.join(accuracies)}>"

    def _repr_html_(self) -> str:
        html: str = show("run", self.files)
        return html

    @abstractmethod
    def member_runs(self) -> tuple["Run", ...]:
        """Return the runs that predict: a run itself, or an ensemble's members.

        Raises:
            PredictionError: If the model is an ensemble with a member that is only a file of predictions.
        """

    @abstractmethod
    def pool_folds(self, fold_probs: list[Float32[np.ndarray, "folds n classes"]]) -> Float32[np.ndarray, "n classes"]:
        """Make one prediction of those of all folds.

        Args:
            fold_probs: For each of `member_runs`, class probabilities by fold; rows of NaN for drawings that can't be read.

        Returns:
            Class probabilities as `predict_proba` returns them.
        """

    def explain(
        self,
        drawing: Any,
        against: str | None = None,
        *,
        class_name: str | None = None,
        strokes: int | None = None,
        method: Literal["occlusion", "gradients"] = "occlusion",
        progress: Progress = silent,
    ) -> "Explanation":
        """Find out which strokes of a drawing the answer rests on.

        The ink is split into strokes: connected parts, and pieces of long ones. Each is erased by itself from the square that
        the model sees, and the model predicts all these drawings in one batch.

        Args:
            drawing: One drawing, in any form that `predict_proba` takes.
            against: A second class: strokes are then judged by how much they raise the first one's probability compared with
                the second one's.
            class_name: The class that is explained; None takes the model's answer.
            strokes: The most strokes that the ink is split into, 1 to 256; None takes 24. Each costs as much as
                predicting a drawing.
            method: `occlusion` erases strokes; `gradients` adds up integrated gradients over strokes, which a linear head or
                an mlp on one network has, and which agrees less with erasing (docs/explain.md).
            progress: Called with the number of forward passes done.

        Returns:
            The strokes with their effects in nats; it shows itself as a picture in notebooks, and `to_image` returns that.

        Raises:
            DataError: If the drawing can't be read.
            PredictionError: If a class isn't the model's, a number is out of range, or the model has no gradients.
            WeightsError: If a backbone's weights are missing or have changed.
        """
        from inkfold.pipeline.explain import explain  # noqa: PLC0415 - OpenCV and SciPy: only those pay who ask

        return explain(self, drawing, against, class_name=class_name, strokes=strokes, method=method, progress=progress)


@dataclass(frozen=True, slots=True, repr=False)
class Run(Model):
    """A finished run.

    Attributes:
        path: The directory that training wrote, in which all files of the run lie.
        recipe: The recipe that the run was trained by, with every key written out.
        manifest: Content of `manifest.json`: files with digests, classes, backbone, versions.
        metrics: Content of `metrics.json`: accuracies and other figures by part of the data.
        heads: The fitted tensors by name; their first axis is the number of heads over all folds.
    """

    path: Path
    recipe: Recipe
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    heads: dict[str, np.ndarray]

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Load a finished run of one model; `inkfold.load_run` loads ensembles too.

        Args:
            path: The directory that training wrote.

        Returns:
            The run.

        Raises:
            PredictionError: If it is not finished or an ensemble, or with every file that is missing or not as it was written.
        """
        path = Path(path)
        return cls.from_checked(path, read_manifest(path))

    @classmethod
    def from_checked(cls, path: Path, manifest: dict[str, Any]) -> "Run":
        """Load a finished run of one model whose files have just been checked.

        Args:
            path: The directory that training wrote.
            manifest: Content of its `manifest.json`, against which all files were found to be as they were written.

        Returns:
            The run.

        Raises:
            PredictionError: If it is an ensemble, or its files don't fit together.
        """
        if manifest.get("kind", "run") != "run":
            raise PredictionError(f"{path}: is an ensemble. Load it with inkfold.load_run.")
        unnamed = [str(name) for name in (RECIPE, HEADS, METRICS, *manifest.get("tuned", ())) if name not in manifest["files"]]
        if unnamed:  # whose digests nobody has checked, and which may lie anywhere
            raise PredictionError(f"{path / MANIFEST}: its files don't name {', '.join(unnamed)}. Train again.")
        heads = _load_heads(path / HEADS, list(manifest["class_names"]))
        metrics, recipe = RunFiles(path, manifest).metrics, load_recipe(path / RECIPE)
        problem = shape_problem(heads, head_spec(recipe), len(manifest["members"]), len(manifest["class_names"]))
        if problem is not None:
            raise PredictionError(f"{path / HEADS}: {problem}, which don't fit the recipe and {MANIFEST}. Train again.")
        return cls(path, recipe, manifest, metrics, heads)

    def predict_fold_proba(
        self,
        images: Images,
        progress: Progress = silent,
        on_broken: str = "error",
        *,
        cache: bool = False,
        blank: list[int] | None = None,
    ) -> Float32[np.ndarray, "folds n classes"]:
        """Predict drawings with each fold by itself; see `predict_proba`."""
        return predict_folds([self], images, progress, on_broken, cache=cache, blank=blank)[0]

    def predict_proba(
        self,
        images: Images,
        progress: Progress = silent,
        on_broken: str = "error",
        *,
        cache: bool = False,
        blank: list[int] | None = None,
    ) -> Float32[np.ndarray, "n classes"]:
        """Predict drawings by the mean of the folds' probabilities; see `Model.predict_proba`."""
        return self.pool_folds([self.predict_fold_proba(images, progress, on_broken, cache=cache, blank=blank)])

    def member_runs(self) -> tuple["Run", ...]:
        """Return the run itself."""
        return (self,)

    def pool_folds(self, fold_probs: list[Float32[np.ndarray, "folds n classes"]]) -> Float32[np.ndarray, "n classes"]:
        """Average the probabilities of the run's folds."""
        probs: np.ndarray = fold_probs[0].mean(0)
        return probs

    def _loaded(self, path: Path) -> "Run":
        return Run.load(path)

    @property
    def look(self) -> Mapping[str, Any]:
        """The line style of the training drawings, in which strokes are drawn; see `pipeline.look`."""
        from inkfold.pipeline.look import look_of  # noqa: PLC0415 - it imports this module

        return look_of(self)

    @property
    def is_finetuned(self) -> bool:
        """Whether each fold has a backbone of its own."""
        return "tuned" in self.manifest

    @property
    def folds(self) -> tuple[tuple[int, ...], ...]:
        """The numbers of each fold's heads, from 0."""
        fold_of_head = self.manifest["members"]
        return tuple(tuple(i for i, name in enumerate(fold_of_head) if name == fold) for fold in dict.fromkeys(fold_of_head))

    @property
    def views(self) -> tuple[View, ...]:
        """The views whose predictions are averaged."""
        return prediction_views(self.recipe)

    def fold_probs(self, features: Sequence[Float16[np.ndarray, "n d"]], fold: int) -> Float32[np.ndarray, "n classes"]:
        """Predict with one fold's heads.

        Args:
            features: The drawings' features, one array for each of `views`.
            fold: Number of the fold, from 0, whose heads predict.

        Returns:
            Class probabilities, the mean over the fold's heads and the views, corrected for the run's prior if it has one.
        """
        spec, heads = head_spec(self.recipe), self.folds[fold]
        probs: np.ndarray = np.mean([mean_probs(self.heads, spec, view, heads) for view in features], axis=0)
        prior = self.prior
        return probs if prior is None else prior.correct(probs)

    @property
    def prior(self) -> ClassPrior | None:
        """How frequent the classes are among drawings to predict, by which probabilities are corrected; None as in training."""
        raw = self.manifest.get("prior")
        return None if raw is None else ClassPrior.from_json(raw, len(self.classes_), str(self.path / MANIFEST))

    def rows_at_once(self, fold: int) -> int:
        """Return how many drawings go through a fold's heads at once; see `heads.head.rows_at_once`."""
        return rows_at_once(self.heads, head_spec(self.recipe), self.folds[fold][0])

    def extractors(self, *, remember: bool = True) -> list[tuple[Extractor, list[int]]]:
        """Return each backbone with the folds that use it: one for all folds, or one per fold if they were fine-tuned.

        Args:
            remember: Whether a description of the backbone may be written into inkfold's directory; see `resolve_backbone`.

        Returns:
            Pairs of an extractor and fold numbers, from 0.
        """
        bare = self._extractor(remember=remember)
        if not self.is_finetuned:
            return [(bare, list(range(len(self.folds))))]
        files = [self.path / name for name in self.manifest["tuned"]]
        return [(replace(bare, backbone=bare.backbone.tuned(file)), [fold]) for fold, file in enumerate(files)]

    def frozen_extractor(self) -> Extractor:
        """Return the backbone as it was before any fine-tuning, reading pages as the run does.

        Raises:
            WeightsError: If its weights can't be had.
            PredictionError: If they are not those that the run was trained with.
        """
        return self._extractor(remember=True)

    def _extractor(self, *, remember: bool) -> Extractor:
        all_trained = [BackboneInfo.from_json(raw) for raw in (self.manifest["backbone"], *self.manifest.get("beside", ()))]
        specs = backbone_specs(self.recipe, all_trained[0].precision)
        if len(all_trained) != len(specs):
            raise PredictionError(f"{self.path / MANIFEST}: beside doesn't have the recipe's backbones. Train again.")
        backbones = [resolve_backbone(spec, home() / "backbones", remember=remember) for spec in specs]
        for backbone, trained in zip(backbones, all_trained, strict=True):
            self._check_unchanged(backbone, trained)
        return build_extractor(self.recipe, backbones, self.recipe.backbone.device, InlineExecutor(), self._image_choices)

    def _check_unchanged(self, backbone: BackboneInfo, trained: BackboneInfo) -> None:
        """Refuse a backbone that gives other features than the one that the run was trained with."""
        key, trained_key = backbone.key(), trained.key()
        changed = [name for name in {**trained_key, **key} if key.get(name) != trained_key.get(name) and name != "timm_version"]
        if changed:
            raise PredictionError(
                f"{self.path}: the backbone is not the one that this run was trained with; changed: {', '.join(changed)}. "
                f"Trained with {trained.weights_source}; found {backbone.weights_source}. Put the old weights back "
                "or train again."
            )

    @property
    def _image_choices(self) -> Mapping[str, Any]:
        choices: Mapping[str, Any] = self.manifest.get("image", {"paper": "keep"})
        return choices

    def image_options(self, backbone: BackboneInfo) -> ImageOptions:
        """Return how the run's drawings became squares; runs from before paper was read keep it as it is."""
        return image_options(self.recipe, backbone, self._image_choices)


def class_digest(class_names: Sequence[str]) -> str:
    """Compute a digest of a class order, by which heads that were fitted for another one are found."""
    return hashlib.blake2b("\0".join(class_names).encode(), digest_size=16).hexdigest()


def write_predictions(
    path: Path,
    names: Sequence[str],
    probs: Float32[np.ndarray, "n classes"],
    run: DecidesClasses,
    blank: Collection[int] = (),
    *,
    raw: bool = False,
) -> None:
    """Write predictions: image_path; class_name, target and probability of the class that the model decides on; and blank.

    Args:
        path: The file, replaced if it exists: a list of objects if its name ends in .json, otherwise a CSV.
        names: Name of each drawing, which becomes its `image_path`, in the order of `probs`.
        probs: Class probabilities of each drawing; a row of NaN leaves the class, number and probability empty.
        run: The model that predicted them; its class names and numbers are written.
        blank: Row numbers of drawings without ink, whose answers mean nothing: `blank` is true there, false for the other
            answers, and empty (null) for drawings that can't be read.
        raw: Whether names in a CSV are written as they are, also those that a spreadsheet would compute; otherwise these get an
            apostrophe before them.
    """
    rows: list[tuple[Any, ...]] = []
    for place, (name, best, row) in enumerate(zip(names, run.decide(probs).tolist(), probs, strict=True)):
        is_blank = True if place in blank else None
        if np.isnan(row[best]):
            rows.append((name, None, None, None, is_blank))
        else:
            rows.append((name, run.classes_[best], int(run.class_targets[best]), round(float(row[best]), 6), is_blank or False))
    if path.suffix.lower() == ".json":
        write_output(path, json_text([dict(zip(PREDICTION_COLUMNS, row, strict=True)) for row in rows]))
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)  # which the other forgets for a carriage return
    writer.writerow(PREDICTION_COLUMNS)
    for name, class_name, target, probability, is_blank in rows:
        share = None if probability is None else f"{probability:.6f}"
        cells = [text if raw or text is None else as_text(text) for text in (name, class_name)]
        line = [*cells, target, share, None if is_blank is None else str(is_blank).lower()]
        (quoting if any("\r" in (cell or "") for cell in cells) else writer).writerow(line)
    write_output(path, text.getvalue())


def head_spec(recipe: Recipe) -> HeadSpec:
    """Combine the recipe's head with the scaling of its features."""
    return HeadSpec(recipe.head, recipe.train_head.scaling)


def prediction_views(recipe: Recipe) -> tuple[View, ...]:
    """Return the views whose predictions are averaged; drawings as they are if the recipe names none."""
    views = [parse_view(text, recipe.seed, index) for index, text in enumerate(recipe.tta)]
    return tuple(dict.fromkeys(views)) or (IDENTITY,)


def backbone_spec(recipe: Recipe, precision: str) -> BackboneSpec:
    """Combine the recipe's backbone with the image size, the seed and the precision that was chosen for the device."""
    section = recipe.backbone.model_dump(exclude={"beside"}) | {"precision": precision}
    return BackboneSpec(**section, image_size=recipe.image.size, seed=recipe.seed)


def backbone_specs(recipe: Recipe, precision: str) -> list[BackboneSpec]:
    """Return the recipe's backbone and those beside it, in the order of their features; see `backbone_spec`."""
    settings, seed = recipe.backbone, recipe.seed
    shared = settings.model_dump(exclude={*NetworkSettings.model_fields, "beside"}) | {"precision": precision, "seed": seed}
    return [backbone_spec(recipe, precision), *(BackboneSpec(**one.model_dump(), **shared) for one in settings.beside)]


def build_extractor(
    recipe: Recipe,
    backbones: Sequence[BackboneInfo],
    device: str,
    executor: Executor,
    chosen: Mapping[str, Any] | None = None,
) -> Extractor:
    """Put the recipe's backbones together, each with drawings of its own size.

    Args:
        recipe: A validated recipe.
        backbones: The resolved backbones, in the order of `backbone_specs`; at least one.
        device: Device that they run on: `auto`, `cpu`, `cuda` or `mps`.
        executor: Computes the features.
        chosen: Settings of the reading that were chosen on the training drawings; see `image_options`.

    Returns:
        The first backbone's extractor, with the others beside it.
    """
    images = [image_options(recipe, backbone, chosen) for backbone in backbones]
    batch_size = recipe.backbone.batch_size
    first, *others = (
        Extractor(home(), backbone, image, device, batch_size, executor)
        for backbone, image in zip(backbones, images, strict=True)
    )
    return replace(first, others=tuple(others))


def image_options(recipe: Recipe, backbone: BackboneInfo, chosen: Mapping[str, Any] | None = None) -> ImageOptions:
    """Choose what the recipe leaves open of how drawings become squares.

    Args:
        recipe: A validated recipe, whose `auto` may still be open.
        backbone: Decides the size and interpolation where the recipe doesn't; a grey backbone gets grey drawings.
        chosen: Settings that were chosen on the training drawings, `resize` and `paper`; without them, `auto` crops to the ink.

    Returns:
        The image options, with nothing left open.
    """
    section = {**recipe.image.model_dump(exclude={"size", "stored_size"}), **(chosen or {})}
    if section["resize"] == "auto":
        section["resize"] = "crop_to_ink"
    if len(backbone.mean) == 1:
        section["colour"] = "grey"
    size_px = recipe.image.stored_size or backbone.image_size
    return ImageOptions(**section, size_px=size_px, interpolation=backbone.interpolation)


def _load_heads(path: Path, class_names: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            heads = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise PredictionError(f"{path}: not fitted heads: {error}. Train again.") from None
    if metadata.get("classes") != class_digest(class_names):
        raise PredictionError(f"{path}: fitted for another class order than {MANIFEST} says. Train again.")
    return heads
