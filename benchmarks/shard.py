"""What fine-tuning holds in each of several processes: whole copies (DDP) against shares (`finetune.shard: full`, FSDP2).

For one to four processes on the CPU (gloo) and both ways, a network with random weights takes some steps of AdamW on random
images, the same global batch in each case, and each process counts the bytes of its parameters, gradients, moments and moving
average. The largest process is told. Steps a second are those of processes that share this machine's cores and memory: they
say that sharding works and what its messages cost here, not how fast GPUs would be. Activations, and the block that is
together while it computes, come on top.

    .venv/bin/python benchmarks/shard.py [--backbone NAME] [--size PX] [--batch N] [--steps N] [--quick]
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from inkfold.config.sections import FinetuneSettings
from inkfold.finetune.distributed import ProcessGroup, joined_processes
from inkfold.finetune.plan import FinetunePlan
from inkfold.finetune.train_state import TrainState
from inkfold.heads.head import HeadSpec, init_heads
from inkfold.models.backbone import build_model
from inkfold.models.weights import BackboneSpec, resolve_backbone

CASES = (("none", 1), ("none", 2), ("full", 2), ("none", 4), ("full", 4))
CLASSES, WARM = 345, 1


def main() -> None:
    """Start the processes of each case, and print the table and the RESULT line."""
    given = parse()
    if given.shard:
        member(given)
        return
    found = {case: processes(given, *case) for case in CASES if not given.quick or case[1] != 2}
    print(f"{given.backbone}, {given.size} px, batches of {given.batch}, AdamW, moving average, float32, gloo")
    print("| sharing | processes | parameters | gradients | moments | average | together, MB a process | steps/s | loss |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (shard, count), one in found.items():
        parts = [one[name] / 1e6 for name in ("parameters", "gradients", "moments", "average")]
        cells = [
            shard,
            count,
            *(f"{part:.1f}" for part in parts),
            f"{sum(parts):.1f}",
            f"{one['rate']:.2f}",
            f"{one['loss']:.5f}",
        ]
        print("| " + " | ".join(map(str, cells)) + " |")
    ratio = total(found["none", 4]) / total(found["full", 4])
    print(f"RESULT ratio={ratio:.2f} speed_ratio={found['full', 4]['rate'] / found['none', 4]['rate']:.2f}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="vit_small_patch16_224")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--shard", default="", help=argparse.SUPPRESS)  # this is one of the processes
    given = parser.parse_args()
    if given.quick:
        given.backbone, given.size, given.batch, given.steps = "test_vit", 160, 8, 2
    return given


def processes(given: argparse.Namespace, shard: str, count: int) -> dict[str, float]:
    """Run one case; give what its largest process holds, and the first one's rate and loss."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    options = [f"--{name}={getattr(given, name)}" for name in ("backbone", "size", "batch", "steps", "precision")]
    members = [
        subprocess.Popen(
            [sys.executable, __file__, *options, f"--shard={shard}"],
            env={**os.environ, **place, "RANK": str(rank)},
            stdout=subprocess.PIPE,
        )
        for rank in range(count)
    ]
    answers: list[dict[str, float]] = [json.loads(one.communicate()[0].decode().splitlines()[-1]) for one in members]
    largest: dict[str, float] = max(answers, key=total)
    return {**largest, **{name: answers[0][name] for name in ("rate", "loss")}}


def total(held: dict[str, float]) -> float:
    """Add up what a process holds."""
    return sum(held[name] for name in ("parameters", "gradients", "moments", "average"))


def member(given: argparse.Namespace) -> None:
    """Be one of the processes."""
    settings = FinetuneSettings(part="all", batch_size=given.batch, shard=given.shard, ema=0.999, precision=given.precision)
    info = resolve_backbone(BackboneSpec(name=given.backbone, weights="untrained", image_size=given.size))
    heads = init_heads(HeadSpec(), build_model(info).num_features, CLASSES, [(0,)])  # type: ignore[arg-type]
    unused: Any = None  # drawings: the images here are random
    rows = np.arange(given.batch)
    plan = FinetunePlan(info, HeadSpec(), heads, settings, unused, unused, rows % CLASSES, rows.astype(str), 0)
    with joined_processes(torch.device("cpu")) as world:
        engine = TrainState(plan, 0, world)
        engine.network.train()
        started, loss = time.perf_counter(), 0.0
        for step in range(WARM + given.steps):
            started = time.perf_counter() if step == WARM else started
            loss = take_step(engine, plan, world, step)
        rate = given.steps / (time.perf_counter() - started)
    print(json.dumps({**held(engine), "rate": rate, "loss": loss}))


def take_step(engine: TrainState, plan: FinetunePlan, world: ProcessGroup, step: int) -> float:
    """Learn from one batch of random images, the same in each case; give its mean loss."""
    engine.zero_grad()
    size = plan.info.image_size
    images = torch.randn(len(plan.targets), 3, size, size, generator=torch.Generator().manual_seed(step))
    mine = world.share(np.arange(len(images)))
    wanted = torch.from_numpy(plan.targets[mine])
    loss = torch.nn.functional.cross_entropy(engine.forward(images[mine])[0], wanted, reduction="sum")
    engine.backward(loss * world.size / len(images))
    engine.update(1e-3, step)
    return float(world.total(np.array(float(loss.detach())))) / len(images)


def held(engine: TrainState) -> dict[str, float]:
    """Count the bytes that lie in this process; what is put together for a block's time is none of them."""
    parameters = [*engine.network.parameters()]
    moments = [one for of in engine._optimiser.state.values() for one in of.values() if torch.is_tensor(one)]
    kinds = {
        "parameters": [*engine.network.state_dict().values()],
        "gradients": [one.grad for one in parameters if one.grad is not None],
        "moments": moments,
        "average": [*engine.prediction_network.state_dict().values()],
    }
    return {name: float(sum(_bytes(one) for one in tensors)) for name, tensors in kinds.items()}


def _bytes(values: torch.Tensor) -> int:
    local = values.to_local() if isinstance(values, DTensor) else values
    return local.numel() * local.element_size()


if __name__ == "__main__":
    main()
