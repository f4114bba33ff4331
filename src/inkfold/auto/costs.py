"""What the next step of a search will take, in seconds: from measured rates, corrected by what earlier steps took."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FIT_FLOPS = 2e10  # per second, of heads' training, until one was trained here
OVERHEAD_S = 3.0  # of a step beside features, heads and fine-tuning, until one was made here
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
        sizes: Side in px of the drawings that each backbone takes, by its name.
        resizable: Whether each backbone takes drawings of other sizes too, by its name.
    """

    size: Size
    images_per_s: dict[str, float] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    fit_flops: float = FIT_FLOPS
    overhead_s: float = OVERHEAD_S
    device: str = "cpu"
    sizes: dict[str, int] = field(default_factory=dict)
    resizable: dict[str, bool] = field(default_factory=dict)

    def features_s(self, backbone: str, train_views: int = 1, test_views: int = 1) -> float:
        """Estimate the seconds of a backbone's forward passes of all drawings, under views of which the bank has none."""
        rate = self.images_per_s.get(backbone)
        forwards = self.size.train * train_views + self.size.test * test_views
        return float("inf") if not rate else forwards / rate

    def fit_s(self, backbone: str, epochs: int, hidden: int = 0) -> float:
        """Estimate the seconds of training the heads of all folds."""
        return self._fit_operations(backbone, epochs, hidden) / self.fit_flops

    def note(self, backbone: str, cost: Mapping[str, Any], *, epochs: int, hidden: int, width: int) -> None:
        """Learn from a finished step.

        Args:
            backbone: Its backbone's name.
            cost: Content of its `cost.json`.
            epochs: Passes of its heads' training over the drawings.
            hidden: Width of its head's hidden layer; 0 without any.
            width: Number of its backbone's features.
        """
        self.widths[backbone] = width
        seconds = cost["seconds"]
        fit = seconds.get("fit", 0.0) + seconds.get("parted_duplicates", 0.0) + seconds.get("parted_groups", 0.0)
        fits = 1 + ("parted_duplicates" in seconds or "parted_groups" in seconds)
        if fit > 0.2:
            self.fit_flops = NEW * self._fit_operations(backbone, epochs, hidden) * fits / fit + OLD * self.fit_flops
        known = fit + sum(seconds.get(name, 0.0) for name in ("features", "finetune", "reading", "decode"))
        self.overhead_s = NEW * max(seconds["total"] - known, 0.1) + OLD * self.overhead_s
        if cost["forwards"] >= 500 and "finetune" not in seconds and seconds.get("features", 0.0) > 1:
            self.images_per_s[backbone] = cost["forwards"] / seconds["features"]

    def _fit_operations(self, backbone: str, epochs: int, hidden: int) -> float:
        width, classes = self.widths.get(backbone, WIDTH), self.size.classes
        weights = width * hidden + hidden * classes if hidden else width * classes
        return 6.0 * weights * epochs * self.size.train * max(self.size.folds - 1, 1)
