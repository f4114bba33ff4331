"""What is random in one step of fitting heads: a function of seed, epoch and step, whoever else is fitted beside."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64

from inkfold.heads.losses import Mixture

_MIXING, _DROPPING = 3, 4  # 1 starts weights, 2 orders drawings


class StepRandomness:
    """One step's draws.

    Args:
        when: The run's seed, the epoch and the step in it, from 0.
        size: Drawings in the minibatch.
        device: Where the draws are used.
        places: Those of the minibatch's drawings that are used at all, where nobody may see the others; None uses all. They
            are drawn for as if the others were there.
    """

    def __init__(
        self, when: tuple[int, int, int], size: int, device: torch.device, places: Int64[np.ndarray, " used"] | None = None
    ) -> None:
        self._entropy, self._size, self._device, self._places = when, size, device, places

    def mixture(self, alphas: Sequence[float], mask: torch.Tensor) -> Mixture | None:
        """Draw by how much each drawing is mixed with which other.

        Members of equal alpha mix alike, each only where it may see both drawings.

        Args:
            alphas: Of each member's beta distribution; 0 mixes nothing.
            mask: (members, batch), 1 where a member may see the drawing.

        Returns:
            The mixture; None if no member mixes.

        Source: Zhang et al., "mixup", arXiv 1710.09412; on features, Verma et al., arXiv 1806.05236.
        """
        if not any(alphas):
            return None
        drawn = self._generator(_MIXING).permutation(self._size)
        used = np.arange(self._size) if self._places is None else self._places
        place = np.full(self._size, -1)
        place[used] = np.arange(len(used))
        found = place[drawn[used]]
        partners = torch.from_numpy(np.where(found >= 0, found, np.arange(len(used)))).to(self._device)
        share_of = {alpha: self._generator(_MIXING, 1).beta(alpha, alpha) if alpha else 1.0 for alpha in {*alphas}}
        shares = torch.tensor([[share_of[alpha]] for alpha in alphas], dtype=torch.float32, device=self._device)
        both = mask * mask[:, partners] * torch.from_numpy(found >= 0).to(self._device)
        return Mixture(partners, torch.where(both > 0, shares, 1.0))

    def dropped(self, z: torch.Tensor, layer: int, starts: Sequence[int], shares: torch.Tensor | None) -> torch.Tensor:
        """Leave outputs of a hidden layer out, and scale the others up.

        Args:
            z: (members, batch, width).
            layer: From 1.
            starts: Of each member; equal starts drop alike.
            shares: Of each member, (members, 1, 1); None drops nothing.

        Returns:
            A new tensor; the given one if nothing is dropped.
        """
        if shares is None:
            return z
        drawn = {start: self._uniform(layer, start, z.shape[2]) for start in dict.fromkeys(starts)}
        kept = torch.stack([drawn[start] for start in starts]) >= shares
        return z * kept / (1 - shares)

    def _uniform(self, layer: int, start: int, width: int) -> torch.Tensor:
        generator = torch.Generator(self._device)
        generator.manual_seed(
            int(np.random.SeedSequence([*self._entropy, _DROPPING, layer, start]).generate_state(1, np.uint64)[0] >> 1)
        )
        drawn = torch.rand((self._size, width), generator=generator, device=self._device)
        return drawn if self._places is None else drawn[torch.from_numpy(self._places).to(self._device)]

    def _generator(self, *purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([*self._entropy, *purpose])))
