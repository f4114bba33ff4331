"""A transformer that turns drawings into the features of a frozen backbone, for scikit-learn's pipelines."""

from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Float32
from sklearn.utils.validation import check_is_fitted

from inkfold.estimators.required import BaseEstimator, TransformerMixin, as_drawings, contents, value_errors
from inkfold.pipeline.extract import extract_features, open_extractor
from inkfold.runtime.progress import console_progress, silent


@final
class FeatureExtractor(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Turns drawings into features of a backbone whose weights stay as they are.

    Each drawing's features are computed once and kept in inkfold's feature bank, where runs of the same backbone, size and
    way of reading pages find them too.

    Args:
        backbone: timm's name of the network, or `ink-small`, which comes with inkfold; `auto` takes that, since nothing can be
            compared without labels.
        features: `last` gives the vector that a classifier would get; `layers` adds the pooled outputs of all layers.
        weights: A file of weights; None looks in INKFOLD_WEIGHTS and on the hub; `untrained` draws random ones.
        image_size: Side of the square that the network sees, in px; None takes the network's own.
        resize: How pages become squares: `pad`, `squash`, `crop_to_ink`, or `auto`, which crops to the ink.
        paper: What is done about photographed paper: `auto`, `keep` or `flatten`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        cache: Whether features are taken from the bank and kept there.
        verbose: Whether progress is shown on standard error.

    Attributes:
        backbone_: The backbone that was taken, by timm's full name.
        n_features_out_: The number of features d.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> make_pipeline(inkfold.FeatureExtractor("ink-small"), LogisticRegression()).fit(images, labels)
    """

    def __init__(  # noqa: PLR0913 - scikit-learn's parameters stand by themselves
        self,
        backbone: str = "auto",
        features: Literal["last", "layers"] = "last",
        *,
        weights: str | Path | None = None,
        image_size: int | None = None,
        resize: str = "auto",
        paper: str = "auto",
        device: str = "auto",
        cache: bool = True,
        verbose: bool = False,
    ) -> None:
        self.backbone, self.features, self.weights, self.image_size = backbone, features, weights, image_size
        self.resize, self.paper, self.device, self.cache, self.verbose = resize, paper, device, cache, verbose

    def fit(self, X: Any, y: Any = None) -> "FeatureExtractor":  # noqa: N803 - scikit-learn's name
        """Find the backbone and its weights, and count its features on the first drawing; nothing is trained.

        Args:
            X: The drawings: a list, column or array of paths, Pillow images, arrays, bytes or strokes, or an array (n, h, w)
                or (n, h, w, channels).
            y: Ignored.

        Raises:
            ValueError: If the drawings or settings can't be used.
            WeightsError: If the backbone's weights can't be had.
        """
        first = contents(as_drawings(X)[:1])
        section = {"name": self.backbone, "features": self.features, "device": self.device}
        section |= {} if self.weights is None else {"weights": str(self.weights)}
        image = {"size": self.image_size, "resize": self.resize, "paper": self.paper}
        with value_errors():
            self._extractor = open_extractor(section, image)
            self.n_features_out_ = extract_features(self._extractor, first, cache=self.cache).shape[1]
        self.backbone_ = self._extractor.backbone.title
        return self

    def transform(self, X: Any) -> Float32[np.ndarray, "n d"]:  # noqa: N803 - scikit-learn's name
        """Compute the features of drawings.

        Args:
            X: The drawings, as `fit` takes them.

        Raises:
            ValueError: With every drawing that can't be read.
        """
        check_is_fitted(self, "n_features_out_")
        given = contents(as_drawings(X))
        if not given:
            return np.empty((0, self.n_features_out_), np.float32)
        with value_errors():
            if not self.verbose:
                return extract_features(self._extractor, given, silent, cache=self.cache).astype(np.float32)
            with console_progress() as progress:
                return extract_features(self._extractor, given, progress, cache=self.cache).astype(np.float32)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the features: the backbone's name and their numbers, from 0.

        Args:
            input_features: Ignored, as drawings have no columns.
        """
        check_is_fitted(self, "n_features_out_")
        name = self.backbone_.partition(" ")[0]
        return np.array([f"{name}_{i}" for i in range(self.n_features_out_)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that X holds drawings rather than rows of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.three_d_array = False, True, True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
