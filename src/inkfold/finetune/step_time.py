"""How long a fine-tuning will take on this device: measured with a few real steps that leave nothing behind."""

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from inkfold.finetune.checkpoint import save_checkpoint
from inkfold.finetune.distributed import ProcessGroup
from inkfold.finetune.plan import FinetunePlan
from inkfold.finetune.train_state import TrainState, evaluate, release_memory
from inkfold.models.backbone import NetworkInput, keep_freed_memory

LIMIT_S = 4.0
MOST_STEPS, FEWEST_STEPS, DISCARDED = 12, 3, 2  # the first steps find kernels and memory


@dataclass(frozen=True, slots=True)
class FoldSize:
    """What one fold of a fine-tuning has to do, as a mean over the folds.

    Attributes:
        trained_on: Number of drawings that it trains on.
        held_out: Number of drawings that it holds out, which are predicted after each epoch.
        tests: Number of test drawings, which are predicted at the end.
        views: Number of views under which drawings are predicted at the end, drawings as they are included.
    """

    trained_on: int
    held_out: int
    tests: int = 0
    views: int = 1


@dataclass(frozen=True, slots=True)
class StepTime:
    """How long the parts of a fine-tuning take, in seconds.

    Attributes:
        step_s: One training step of a whole batch, loading included.
        predict_s: Predicting one drawing.
        save_s: Writing a checkpoint, as is done after each epoch.
        start_s: Building the network and its optimiser, and what the first steps take longer, as in each fold.
        batch_size: Number of drawings of a step, at least 1.
    """

    step_s: float
    predict_s: float
    save_s: float
    start_s: float
    batch_size: int

    def epoch_s(self, size: FoldSize) -> float:
        """Predict the seconds of one epoch of a fold: its steps, the prediction of held-out drawings, a checkpoint."""
        return math.ceil(size.trained_on / self.batch_size) * self.step_s + size.held_out * self.predict_s + self.save_s

    def training_s(self, size: FoldSize, epochs: int, parts: int) -> float:
        """Predict the seconds of training a network for each of some parts, and of predicting with them.

        Args:
            size: What each fold trains on and predicts.
            epochs: Number of epochs that each network is trained for, at least 1.
            parts: Number of parts that are held out, each by one network, at least 1.
        """
        end_s = size.views * (size.held_out + size.tests) * self.predict_s + self.start_s
        return parts * (self.start_s + epochs * self.epoch_s(size) + end_s)


def measure_step_time(
    plan: FinetunePlan,
    rows: Int64[np.ndarray, " rows"],
    process_group: ProcessGroup,
    limit_s: float = LIMIT_S,
    clock: Callable[[], float] = time.perf_counter,
) -> StepTime:
    """Measure the parts of a fine-tuning with a few real steps, of which nothing is kept.

    Args:
        plan: The network, the drawings and the settings; the view of its last epoch is rendered.
        rows: Rows of the drawings that a fold trains on; some of them are taken.
        process_group: The process that trains, alone.
        limit_s: Seconds after which no further step is begun; three are made at least, after two that don't count.
        clock: Returns seconds; another one than the wall's measures the processor's time.

    Returns:
        The seconds of each part: medians of the steps.

    Raises:
        torch.OutOfMemoryError: If memory doesn't suffice for a step.
    """
    batch_size = min(plan.settings.batch_size, len(rows))
    started = clock()
    with keep_freed_memory():
        state = TrainState(plan, 0, process_group)
        start_s = clock() - started
        steps = list(_timed_steps(plan, state, _batches(rows, batch_size), process_group, clock, limit_s))
        few = rows[: 2 * batch_size]
        started = clock()
        evaluate(state.prediction_network, plan, few, process_group)
        predict_s = (clock() - started) / len(few)
    save_s = _save_s(state, clock)
    step_s = statistics.median(steps[DISCARDED:])
    start_s += max(0.0, sum(steps[:DISCARDED]) - DISCARDED * step_s)
    del state
    release_memory(process_group.device)
    return StepTime(step_s, predict_s, save_s, start_s, batch_size)


def _batches(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Take batches of the rows, from the beginning again where they are few."""
    places = np.arange((MOST_STEPS + DISCARDED) * size) % len(rows)
    return np.array_split(rows[places], MOST_STEPS + DISCARDED)


def _timed_steps(
    plan: FinetunePlan,
    state: TrainState,
    batches: list[np.ndarray],
    process_group: ProcessGroup,
    clock: Callable[[], float],
    limit_s: float,
) -> Iterator[float]:
    """Take steps at a rate of 0 and give the seconds of each, loading included."""
    device = process_group.device
    to_input, begun = NetworkInput(plan.info, device), clock()
    micro_batch = plan.settings.micro_batch or len(batches[0])
    loaded = plan.loader.batches(batches, plan.curriculum.view(plan.settings.epochs - 1))
    state.network.train()
    started = clock()
    for number, (batch, pixels) in enumerate(zip(batches, loaded, strict=True)):
        state.zero_grad()
        targets = torch.from_numpy(plan.targets[batch]).to(device)
        for start in range(0, len(batch), micro_batch):
            part = slice(start, start + micro_batch)
            scores, _ = state.forward(to_input.of(pixels[part]))
            state.backward(torch.nn.functional.cross_entropy(scores, targets[part]))
        state.update(0.0, number)
        ended = clock()
        yield ended - started
        if number + 1 >= DISCARDED + FEWEST_STEPS and ended - begun > limit_s:
            break
        started = ended
    loaded.close()


def _save_s(state: TrainState, clock: Callable[[], float]) -> float:
    started = clock()
    with tempfile.TemporaryDirectory() as directory:
        save_checkpoint(Path(directory) / "checkpoint.safetensors", state.save()[0], {})
    return clock() - started
