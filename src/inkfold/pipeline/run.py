"""A finished run: a directory whose manifest was written last. Loaded, it predicts new drawings."""

import csv
import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open

from inkfold.augment.views import IDENTITY, View, parse_view, render_batch
from inkfold.config.load import load_recipe
from inkfold.config.recipe import Recipe
from inkfold.data.paths import list_images
from inkfold.errors import DataError, PredictionError
from inkfold.features.extractor import Extractor, read_drawing_files, refuse_broken, whole_drawings
from inkfold.heads.head import HeadSpec, mean_probs
from inkfold.images.preprocess import ImageOptions, preprocess, stack_squares
from inkfold.models.weights import BackboneInfo, BackboneSpec, resolve_backbone
from inkfold.pipeline.manifest import MANIFEST, read_manifest
from inkfold.pipeline.run_files import RECIPE, RunFiles
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import Progress, silent
from inkfold.storage.cache import home
from inkfold.storage.files import write_text
from inkfold.storage.hashing import digest

HEADS = "heads.safetensors"
PREDICTION_COLUMNS = ("image_path", "class_name", "target", "probability")


class Model(ABC):
    """What answers for drawings: a run, or an ensemble of runs."""

    __slots__ = ()
    path: Path
    manifest: dict[str, Any]

    @property
    def files(self) -> RunFiles:
        """The files of its directory, which are read when they are first needed."""
        return RunFiles(self.path, self.manifest)

    @property
    def classes_(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities' columns."""
        return tuple(self.manifest["class_names"])

    @property
    def class_targets(self) -> np.ndarray:
        """The number that each class has in the data's tables and in submissions."""
        return np.array(self.manifest["class_targets"], np.int64)

    @abstractmethod
    def predict_proba(
        self, images: str | Path | Sequence[Any], progress: Progress = silent, on_broken: str = "error"
    ) -> Float32[np.ndarray, "n classes"]:
        """Predict drawings; a row a drawing."""

    def predict(self, images: str | Path | Sequence[Any]) -> list[str]:
        """Name the most probable class of each drawing."""
        return [self.classes_[i] for i in self.predict_proba(images).argmax(1)]


@dataclass(frozen=True, slots=True)
class Run(Model):
    """A finished run.

    Attributes:
        path: Its directory.
        recipe: As it was resolved.
        manifest: Files with digests, classes, backbone, versions.
        metrics: What `metrics.json` holds.
        heads: The fitted tensors, a member a fold.
    """

    path: Path
    recipe: Recipe
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    heads: dict[str, np.ndarray]

    def predict_proba(
        self, images: str | Path | Sequence[Any], progress: Progress = silent, on_broken: str = "error"
    ) -> Float32[np.ndarray, "n classes"]:
        """Predict drawings: the mean of the folds' probabilities.

        Args:
            images: A directory, a file, or a sequence of files, uint8 arrays (h, w) or (h, w, 3), or Pillow images.
            progress: Told of each stage.
            on_broken: `skip` gives a file that can't be read a row of NaN instead of an error.

        Returns:
            Class probabilities, a row a drawing; a directory's drawings in the order of `paths.list_images`.

        Raises:
            DataError: With every drawing that can't be read.
            WeightsError: If the backbone's weights are gone or changed.
        """
        probs: np.ndarray = self.predict_fold_proba(images, progress, on_broken).mean(0)
        return probs

    def predict_fold_proba(
        self, images: str | Path | Sequence[Any], progress: Progress = silent, on_broken: str = "error"
    ) -> Float32[np.ndarray, "folds n classes"]:
        """Predict drawings with each fold by itself; see `predict_proba`."""
        if isinstance(images, str | Path):
            images = files_of(Path(images))[1]
        if all(isinstance(image, str | Path) for image in images):
            return self._predict_files([str(image) for image in images], progress, on_broken)
        return self._predict_arrays([_as_array(image, i) for i, image in enumerate(images)])

    def _predict_files(self, files: list[str], progress: Progress, on_broken: str) -> np.ndarray:
        probs = np.full((len(self.folds), len(files), len(self.classes_)), np.nan, np.float32)
        if not files:
            return probs
        seers, cost, views = self.seers(), Cost(), prediction_views(self.recipe)
        source, broken = read_drawing_files(np.array(files, np.dtypes.StringDType()), np.array(files, np.dtypes.StringDType()))
        broken += seers[0][0].decode(source, cost, progress, views, pixels=len(seers) > 1)
        refuse_broken([("drawing", source, broken)], on_broken, "on_broken")
        whole = whole_drawings(source, broken)
        for extractor, folds in seers if whole.any() else ():
            features = extractor.extract(source.digests[whole], cost, progress, views)
            answers = [self._fold_probs(features.read(view), folds) for view in views]
            probs[np.ix_(np.array(folds), np.flatnonzero(whole))] = np.mean(answers, axis=0)
        return probs

    def _predict_arrays(self, arrays: list[np.ndarray]) -> np.ndarray:
        from inkfold.models.backbone import Backbone, choose_device, keep_freed_memory  # noqa: PLC0415

        seers, device = self.seers(), choose_device(self.recipe.backbone.device)
        extractor = seers[0][0]
        fitted = [preprocess(array, extractor.image) for array in arrays]
        drawings = [digest(one.tobytes()).encode() for one in fitted]
        pixels = stack_squares(fitted)
        views, size_px = prediction_views(self.recipe), extractor.backbone.image_size
        probs = np.empty((len(self.folds), len(arrays), len(self.classes_)), np.float32)
        with keep_freed_memory():
            for seer, folds in seers:
                backbone = Backbone(seer.backbone, device, self.recipe.backbone.batch_size)
                shown = (render_batch(pixels, view, drawings, size_px) for view in views)
                probs[folds] = np.mean([self._fold_probs(backbone.extract(one), folds) for one in shown], axis=0)
        return probs

    @property
    def is_tuned(self) -> bool:
        """Whether each fold has a backbone of its own."""
        return "tuned" in self.manifest

    @property
    def folds(self) -> tuple[tuple[int, ...], ...]:
        """The members of each fold."""
        of_member = self.manifest["members"]
        return tuple(tuple(i for i, one in enumerate(of_member) if one == fold) for fold in dict.fromkeys(of_member))

    def _fold_probs(self, features: np.ndarray, folds: Sequence[int]) -> np.ndarray:
        spec = head_spec(self.recipe)
        return np.stack([mean_probs(self.heads, spec, features, self.folds[fold]) for fold in folds])

    def seers(self) -> list[tuple[Extractor, list[int]]]:
        """Give the backbones, and the folds that see through each: one for all, or, fine-tuned, one each."""
        bare = self._extractor()
        if not self.is_tuned:
            return [(bare, list(range(len(self.folds))))]
        files = [self.path / name for name in self.manifest["tuned"]]
        return [(replace(bare, backbone=bare.backbone.tuned(file)), [fold]) for fold, file in enumerate(files)]

    def _extractor(self) -> Extractor:
        trained = BackboneInfo.from_json(self.manifest["backbone"])
        found = resolve_backbone(backbone_spec(self.recipe, trained.precision), home() / "backbones")
        now, then = found.key(), trained.key()
        changed = [name for name in now if now[name] != then[name] and name != "timm_version"]
        if changed:
            raise PredictionError(
                f"{self.path}: the backbone is not the one that this run was trained with; changed: {', '.join(changed)}. "
                f"Trained with {trained.weights_source}; found {found.weights_source}. Put the old weights back or train again."
            )
        return Extractor(
            home(), found, image_options(self.recipe, found), self.recipe.backbone.device, self.recipe.backbone.batch_size
        )


def load_run(path: str | Path) -> Run:
    """Load a finished run.

    Args:
        path: Its directory.

    Returns:
        The run.

    Raises:
        PredictionError: If it is not finished, or with every file that is missing or not as it was written.
    """
    path = Path(path)
    manifest = read_manifest(path)
    if manifest.get("kind", "run") != "run":
        raise PredictionError(f"{path}: is an ensemble. Load it with inkfold.load_run.")
    unnamed = [str(name) for name in manifest.get("tuned", ()) if name not in manifest["files"]]
    if unnamed:  # whose digests nobody has checked, and which may lie anywhere
        raise PredictionError(f"{path / MANIFEST}: tuned names {', '.join(unnamed)}, which its files don't. Train again.")
    heads = _load_heads(path / HEADS, list(manifest["class_names"]))
    return Run(path, load_recipe(path / RECIPE), manifest, RunFiles(path, manifest).metrics, heads)


def class_digest(class_names: Sequence[str]) -> str:
    """Name a class order, so that heads and names that don't belong together are told apart."""
    return hashlib.blake2b("\0".join(class_names).encode(), digest_size=16).hexdigest()


def files_of(path: Path) -> tuple[list[str], list[str]]:
    """List what there is to predict.

    Args:
        path: A drawing or a directory of drawings.

    Returns:
        Names relative to the directory, and files.

    Raises:
        DataError: If there is none.
    """
    if path.is_file():
        return [path.name], [str(path)]
    if not path.is_dir():
        raise DataError(f"{path}: neither a drawing nor a directory. Check the path.")
    names, problems = list_images(path)
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise DataError(errors)
    if not len(names):
        raise DataError(f"{path}: no drawings below it. Expected files such as .png or .jpg.")
    return names.tolist(), [str(path / name) for name in names.tolist()]


def write_predictions(path: Path, names: Sequence[str], probs: Float32[np.ndarray, "n classes"], run: Model) -> None:
    """Write a CSV with image_path, class_name, target and probability of the best class; empty for rows of NaN.

    Args:
        path: Replaced when it exists.
        names: Of the drawings.
        probs: A row a drawing.
        run: Whose class names and numbers to write.
    """
    best = probs.argmax(1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PREDICTION_COLUMNS)
    for name, i, row in zip(names, best, probs, strict=True):
        answer = [run.classes_[i], int(run.class_targets[i]), f"{row[i]:.6f}"] if not np.isnan(row[i]) else ["", "", ""]
        writer.writerow([name, *answer])
    write_text(path, text.getvalue())


def head_spec(recipe: Recipe) -> HeadSpec:
    """Turn the recipe's head into the plain parameters that heads take."""
    given = recipe.head.model_dump(exclude={"dropout"})
    return HeadSpec(**given, scaling=recipe.fit.scaling)


def prediction_views(recipe: Recipe) -> tuple[View, ...]:
    """Give the views whose predictions are averaged; drawings as they are if the recipe names none."""
    views = [parse_view(text, recipe.seed, index) for index, text in enumerate(recipe.tta)]
    return tuple(dict.fromkeys(views)) or (IDENTITY,)


def backbone_spec(recipe: Recipe, precision: str) -> BackboneSpec:
    """Turn the recipe's backbone into the plain parameters that weights take."""
    asked = recipe.backbone
    return BackboneSpec(
        name=asked.name,
        weights=asked.weights,
        mean=asked.mean,
        std=asked.std,
        interpolation=asked.interpolation,
        image_size=recipe.image.size,
        model_args=asked.model_args,
        precision=precision,
        seed=recipe.seed,
    )


def image_options(recipe: Recipe, backbone: BackboneInfo) -> ImageOptions:
    """Settle the size, interpolation and colour by the backbone; one that takes grey drawings gets them grey."""
    return ImageOptions(
        size_px=recipe.image.stored_size or backbone.image_size,
        fit=recipe.image.fit,
        colour="grey" if len(backbone.mean) == 1 else recipe.image.colour,
        invert=recipe.image.invert,
        interpolation=backbone.interpolation,  # type: ignore[arg-type]
        pixel_limit=recipe.image.pixel_limit,
    )


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


def _as_array(image: Any, index: int) -> np.ndarray:
    if isinstance(image, str | Path):
        from inkfold.images.decode import BrokenImage, decode_image  # noqa: PLC0415

        try:
            return decode_image(Path(image).read_bytes())
        except (BrokenImage, OSError) as error:
            raise DataError(f"images[{index}]: {image}: {error}") from None
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or not array.size:
        raise DataError(f"images[{index}]: got {array.dtype} {array.shape}, expected uint8 (h, w) or (h, w, 3).")
    return array
