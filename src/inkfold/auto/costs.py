"""What the next step of a search will take, in seconds: from measured rates, corrected by what earlier steps took."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inkfold.config.recipe import Recipe

FIT_FLOPS = 2e10  # per second, of heads' training, until one was trained here
OVERHEAD_S = 3.0  # of a step beside features, heads and fine-tuning, until one was made here
FORWARDS_PER_STEP = 4.0  # in whose time a drawing is trained on, until a backbone was trained here
LOST_S = 5.0
USUAL_PX = 224
WIDTH = 1280  # of features, until they are known
NEW, OLD = 0.5, 0.5  # weights of the last step's measurement and of what was known before


@dataclass(frozen=True, slots=True)
class Size:
    """How large a data set is.

    Attributes:
        train: Number of training drawings.
        test: Number of test drawings.
        classes: Number of classes.
        folds: Number of folds.
    """

    train: int
    test: int
    classes: int
    folds: int

    @property
    def per_class(self) -> float:
        """Training drawings of a class, on average."""
        return self.train / max(self.classes, 1)


@dataclass(slots=True)
class Costs:
    """What is known of the time that steps take on this machine.

    Attributes:
        size: How large the data set is.
        images_per_s: Drawings per second of each backbone, by its name.
        widths: Number of features of each backbone, by its name.
        fit_flops: Floating-point operations per second while heads are trained.
        overhead_s: Seconds of a step beside features, heads and fine-tuning.
        device: `cpu`, `cuda` or `mps`.
        sizes: Side in px of the drawings that each backbone takes, by its name; 224 where it isn't known.
        steps: Forward passes in whose time a drawing is trained on, by backbone, where one was trained.
    """

    size: Size
    images_per_s: dict[str, float] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    fit_flops: float = FIT_FLOPS
    overhead_s: float = OVERHEAD_S
    device: str = "cpu"
    sizes: dict[str, int] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)

    def features_s(self, backbone: str, train_views: int = 1, test_views: int = 1) -> float:
        """Estimate the seconds of a backbone's forward passes of all drawings, under views of which the bank has none."""
        rate = self.images_per_s.get(backbone)
        forwards = self.size.train * train_views + self.size.test * test_views
        return float("inf") if not rate else forwards / rate

    def fit_s(self, backbone: str, epochs: int, hidden: int = 0) -> float:
        """Estimate the seconds of training the heads of all folds."""
        return self._fit_operations(backbone, epochs, hidden) / self.fit_flops

    def trained_per_s(self, backbone: str, size_px: int | None = None) -> float:
        """Estimate how many drawings per second a backbone is trained on, at its own size or another; 0 if unknown."""
        return self._rate_at(backbone, size_px) / self.steps.get(backbone, FORWARDS_PER_STEP)

    def predict_part_s(self, backbone: str, size_px: int | None, views: int) -> float:
        """Estimate the seconds of one fold's predictions by its own backbone: its held-out drawings and all test drawings."""
        forwards = (self.size.train / self.size.folds + self.size.test) * views
        return forwards / max(self._rate_at(backbone, size_px), 1e-9)

    def predict_s(self, recipe: Recipe) -> float:
        """Estimate the seconds of all predictions of a fine-tuned recipe, and of training steps that a stop may lose."""
        part = self.predict_part_s(recipe.backbone.name, recipe.image.size, max(len(recipe.tta), 1))
        return recipe.folds.held_out_parts * part + LOST_S

    def _rate_at(self, backbone: str, size_px: int | None) -> float:
        """Estimate drawings per second at a size, where the cost goes with the area."""
        own = self.sizes.get(backbone, USUAL_PX)
        return self.images_per_s.get(backbone, 0.0) * (own / (size_px or own)) ** 2

    def note(
        self, backbone: str, cost: Mapping[str, Any], *, epochs: int, hidden: int, width: int, size_px: int | None
    ) -> None:
        """Learn from a finished step.

        Args:
            backbone: Its backbone's name.
            cost: Content of its `cost.json`.
            epochs: Passes of its heads' training over the drawings.
            hidden: Width of its head's hidden layer; 0 without any.
            width: Number of its backbone's features.
            size_px: Side in px of the drawings that it was trained on; None for the backbone's own.
        """
        self.widths[backbone] = width
        seconds = cost["seconds"]
        fit = seconds.get("fit", 0.0) + seconds.get("parted_duplicates", 0.0) + seconds.get("parted_groups", 0.0)
        fits = 1 + ("parted_duplicates" in seconds or "parted_groups" in seconds)
        if fit > 0.2:
            self.fit_flops = NEW * self._fit_operations(backbone, epochs, hidden) * fits / fit + OLD * self.fit_flops
        if seconds.get("finetune") and cost.get("trained"):
            rate = cost["trained"] / seconds["finetune"]
            self.steps[backbone] = self._rate_at(backbone, size_px) / rate
        known = fit + sum(seconds.get(name, 0.0) for name in ("features", "finetune", "reading", "decode"))
        self.overhead_s = NEW * max(seconds["total"] - known, 0.1) + OLD * self.overhead_s
        if cost["forwards"] >= 500 and "finetune" not in seconds and seconds.get("features", 0.0) > 1:
            self.images_per_s[backbone] = cost["forwards"] / seconds["features"]

    def _fit_operations(self, backbone: str, epochs: int, hidden: int) -> float:
        width, classes = self.widths.get(backbone, WIDTH), self.size.classes
        weights = width * hidden + hidden * classes if hidden else width * classes
        return 6.0 * weights * epochs * self.size.train * max(self.size.folds - 1, 1)
