"""Mixup and cutmix of the drawings of a batch, timm's, for any number of drawings."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64

from inkfold.config.sections import FinetuneSettings
from inkfold.models.torchvision_compat import declare_missing_operators


class Mixing:
    """Mixes drawings and their labels in pairs.

    Args:
        settings: How much, and by how much labels are smoothed.
        num_classes: Of the labels.
    """

    def __init__(self, settings: FinetuneSettings, num_classes: int) -> None:
        declare_missing_operators()
        from timm.data import Mixup  # noqa: PLC0415 - seconds

        self._smoothing, self._num_classes = settings.label_smoothing, num_classes
        self._mixup = Mixup(settings.mixup, settings.cutmix, label_smoothing=settings.label_smoothing, num_classes=num_classes)

    def mixed(
        self, images: Float32[torch.Tensor, "n channels size size"], targets: Int64[torch.Tensor, " n"]
    ) -> tuple[Float32[torch.Tensor, "n channels size size"], Float32[torch.Tensor, "n classes"]]:
        """Mix drawings in pairs; of an odd number the last one stays alone.

        Args:
            images: Normalised; they are changed in place.
            targets: Their class ids.

        Returns:
            The mixed drawings, and how much each class has of them, smoothed.
        """
        even = len(images) // 2 * 2
        alone = torch.nn.functional.one_hot(targets[even:], self._num_classes)
        alone = alone * (1 - self._smoothing) + self._smoothing / self._num_classes
        mixed, wanted = self._mixup(images[:even], targets[:even]) if even else (images[:0], alone[:0])
        return torch.cat([mixed, images[even:]]), torch.cat([wanted, alone.to(wanted.dtype)])


@contextlib.contextmanager
def seeded(entropy: Sequence[int], device: torch.device) -> Iterator[None]:
    """Let PyTorch and numpy draw from `entropy` while the block runs, and leave their own generators as they were."""
    seed, other = np.random.SeedSequence(list(entropy)).generate_state(2, np.uint64).tolist()
    before = np.random.get_state()  # noqa: NPY002 - timm's mixup draws there
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed >> 1)
        np.random.seed(other % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
