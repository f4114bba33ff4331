"""timm's mixup and cutmix of the drawings of a batch, for even and odd numbers of drawings."""

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
        settings: How much drawings are mixed and labels smoothed: `mixup`, `cutmix` and `label_smoothing`.
        num_classes: Number of classes, which is the width of the mixed labels.
    """

    def __init__(self, settings: FinetuneSettings, num_classes: int) -> None:
        declare_missing_operators()
        from timm.data import Mixup  # noqa: PLC0415 - seconds

        self._smoothing, self._num_classes = settings.label_smoothing, num_classes
        self._mixup = Mixup(settings.mixup, settings.cutmix, label_smoothing=settings.label_smoothing, num_classes=num_classes)

    def mixed(
        self, images: Float32[torch.Tensor, "n channels size size"], targets: Int64[torch.Tensor, " n"]
    ) -> tuple[Float32[torch.Tensor, "n channels size size"], Float32[torch.Tensor, "n classes"]]:
        """Mix drawings in pairs; of an odd number the last one stays as it is.

        Args:
            images: Normalised drawings; they are changed in place.
            targets: Class id of each drawing, in the order of `images`.

        Returns:
            The mixed drawings, and each class's share of their labels, smoothed; rows sum to 1.
        """
        even = len(images) // 2 * 2
        alone = torch.nn.functional.one_hot(targets[even:], self._num_classes)
        alone = alone * (1 - self._smoothing) + self._smoothing / self._num_classes
        mixed, labels = self._mixup(images[:even], targets[:even]) if even else (images[:0], alone[:0])
        return torch.cat([mixed, images[even:]]), torch.cat([labels, alone.to(labels.dtype)])


@contextlib.contextmanager
def seeded(entropy: Sequence[int], device: torch.device) -> Iterator[None]:
    """Seed PyTorch's and NumPy's global generators with `entropy` while the block runs, and restore them at its end."""
    seed, other = np.random.SeedSequence(list(entropy)).generate_state(2, np.uint64).tolist()
    before = np.random.get_state()  # noqa: NPY002 - timm's mixup draws from it
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed >> 1)
        np.random.seed(other % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
