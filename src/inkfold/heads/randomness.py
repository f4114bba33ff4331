"""What is random in one step of fitting heads: a function of seed, epoch and step, whichever heads are fitted side by side."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64

from inkfold.heads.losses import Mixture

_MIXING, _DROPPING = 3, 4  # 1 starts weights, 2 orders drawings


class StepRandomness:
    """Mixup and dropout of one step.

    Args:
        seed: The recipe's seed, 0 to 2**32 - 1.
        epoch: Number of the epoch, from 0.
        step: Number of the step in its epoch, from 0.
        batch_size: How many drawings the minibatch has, those included that no head is trained on.
        device: Where the random numbers are used: a CPU or a GPU.
        used_positions: Positions in the minibatch of the drawings that some head is trained on; None uses all. The others are
            drawn for too, so that leaving them out changes nothing for these.
    """

    def __init__(
        self,
        seed: int,
        epoch: int,
        step: int,
        *,
        batch_size: int,
        device: torch.device,
        used_positions: Int64[np.ndarray, " used"] | None = None,
    ) -> None:
        self._entropy, self._batch_size, self._device, self._used = (seed, epoch, step), batch_size, device, used_positions

    def mixture(self, alphas: Sequence[float], mask: torch.Tensor) -> Mixture | None:
        """Draw by how much each drawing is mixed with which other.

        Heads of equal alpha mix alike, each only where it is trained on both drawings.

        Args:
            alphas: Parameter of each head's beta distribution, at least 0; 0 mixes nothing.
            mask: (heads, batch), 1 where a head is trained on the drawing.

        Returns:
            The mixture; None if no head mixes.

        Source: Zhang et al., "mixup", arXiv 1710.09412; on features, Verma et al., arXiv 1806.05236.
        """
        if not any(alphas):
            return None
        permuted = self._generator(_MIXING).permutation(self._batch_size)
        used = np.arange(self._batch_size) if self._used is None else self._used
        index = np.full(self._batch_size, -1)
        index[used] = np.arange(len(used))
        partner = index[permuted[used]]  # -1 where the partner is left out
        partners = torch.from_numpy(np.where(partner >= 0, partner, np.arange(len(used)))).to(self._device)
        share_of = {alpha: self._generator(_MIXING, 1).beta(alpha, alpha) if alpha else 1.0 for alpha in {*alphas}}
        shares = torch.tensor([[share_of[alpha]] for alpha in alphas], dtype=torch.float32, device=self._device)
        both = mask * mask[:, partners] * torch.from_numpy(partner >= 0).to(self._device)
        return Mixture(partners, torch.where(both > 0, shares, 1.0))

    def dropped(self, z: torch.Tensor, layer: int, starts: Sequence[int], shares: torch.Tensor | None) -> torch.Tensor:
        """Set outputs of a hidden layer to zero, and scale the others up.

        Args:
            z: Outputs of the hidden layer, (heads, batch, width).
            layer: Number of the hidden layer, from 1.
            starts: Number of each head's start; equal starts drop the same outputs.
            shares: Share of each head's outputs that is dropped, (heads, 1, 1), in 0..1; None drops nothing.

        Returns:
            A new tensor; `z` itself if nothing is dropped.
        """
        if shares is None:
            return z
        uniform = {start: self._uniform(layer, start, z.shape[2]) for start in dict.fromkeys(starts)}
        kept = torch.stack([uniform[start] for start in starts]) >= shares
        return z * kept / (1 - shares)

    def _uniform(self, layer: int, start: int, width: int) -> torch.Tensor:
        generator = torch.Generator(self._device)
        generator.manual_seed(
            int(np.random.SeedSequence([*self._entropy, _DROPPING, layer, start]).generate_state(1, np.uint64)[0] >> 1)
        )
        uniform = torch.rand((self._batch_size, width), generator=generator, device=self._device)
        return uniform if self._used is None else uniform[torch.from_numpy(self._used).to(self._device)]

    def _generator(self, *purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([*self._entropy, *purpose])))
