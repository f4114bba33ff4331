"""Training steps with inkfold's gradients of depthwise convolutions against PyTorch's own, in turn, on the CPU.

Two copies of a network with random weights learn from the same random images, forwards, backwards and a step of AdamW, as
fine-tuning does; one has its depthwise convolutions replaced (`inkfold.models.depthwise`). Both must lose the same at
first, and the gradients of all depthwise kernels together may not be farther from each other than rounding explains
(`difference`, relative).

    .venv/bin/python benchmarks/depthwise.py [--models NAME ...] [--size PX] [--batch N] [--rounds N] [--steps N] [--quick]
"""

import argparse
import copy
import statistics
import time

import torch

from inkfold.finetune.train_state import autocast
from inkfold.models.backbone import keep_freed_memory
from inkfold.models.depthwise import DepthwiseConv2d, learn_quickly
from inkfold.models.torchvision_compat import declare_missing_operators

CLASSES, WARM = 345, 2
MODELS = ("tf_efficientnet_lite0", "mobilenetv2_100", "convnext_atto")


class Side:
    """One network in training."""

    def __init__(self, model: torch.nn.Module, precision: str, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.model, self._precision, (self._images, self._targets) = model.train(), precision, batch
        self._optimiser = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
        self.seconds: list[float] = []

    def gradients(self) -> float:
        """Go forwards and backwards, and give the loss."""
        self._optimiser.zero_grad(set_to_none=True)
        with autocast(self._precision, torch.device("cpu")):
            scores = self.model(self._images)
        loss = torch.nn.functional.cross_entropy(scores.float(), self._targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def learn(self, steps: int) -> None:
        """Take some steps, and remember how long one took."""
        started = time.perf_counter()
        for _ in range(steps):
            self.gradients()
            self._optimiser.step()
        self.seconds.append((time.perf_counter() - started) / steps)


def main() -> None:
    """Measure every model in both precisions and print the table and the RESULT line."""
    given = parse()
    declare_missing_operators()
    print(f"{given.size} px, batch {given.batch}, {torch.get_num_threads()} threads, drawings a second")
    print(f"{'':<24}{'precision':<12}{'PyTorch':>9}{'inkfold':>9}{'ratio':>8}{'difference':>12}")
    ratios = []
    with keep_freed_memory():
        for model in given.models:
            for precision in ("bfloat16", "float32"):
                ratios.append(compare(model, precision, given))
    print(f"RESULT ratio={max(ratios):.2f} ratio_least={min(ratios):.2f}")


def compare(name: str, precision: str, given: argparse.Namespace) -> float:
    """Print one row and give its ratio."""
    import timm

    torch.manual_seed(given.seed)
    images = torch.randn(given.batch, 3, given.size, given.size).contiguous(memory_format=torch.channels_last)
    batch = images, torch.randint(0, CLASSES, (given.batch,))
    model = timm.create_model(name, num_classes=CLASSES).to(memory_format=torch.channels_last)
    other = copy.deepcopy(model)
    learn_quickly(other)
    sides = [Side(model, precision, batch), Side(other, precision, batch)]
    losses = [side.gradients() for side in sides]
    if losses[0] != losses[1]:
        raise SystemExit(f"{name}: the losses differ: {losses}")
    theirs, ours = kernels(model, other), kernels(other, other)
    difference = float((theirs - ours).norm() / theirs.norm())
    for side in sides:
        side.learn(WARM)
        side.seconds.clear()
    for _ in range(given.rounds):
        for side in sides:
            side.learn(given.steps)
    rates: list[float] = [given.batch / statistics.median(side.seconds) for side in sides]
    print(
        f"{name:<24}{precision:<12}{rates[0]:>9.1f}{rates[1]:>9.1f}{rates[1] / rates[0]:>8.2f}{difference:>12.1e}", flush=True
    )
    return rates[1] / rates[0]


def kernels(model: torch.nn.Module, replaced: torch.nn.Module) -> torch.Tensor:
    """Give a model's gradients of the kernels that are depthwise in another."""
    names = [name for name, module in replaced.named_modules() if isinstance(module, DepthwiseConv2d)]
    found = [model.get_submodule(name).weight.grad for name in names]
    return torch.cat([one.flatten() for one in found if isinstance(one, torch.Tensor)])


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--size", type=int, default=128, help="px")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="64 px, batch 16, one round of two steps")
    given = parser.parse_args()
    if given.quick:
        given.size, given.batch, given.rounds, given.steps = 64, 16, 1, 2
    return given


if __name__ == "__main__":
    main()
