import itertools

import numpy as np
import pytest
import torch

from inkfold.augment.curriculum import Curriculum, Stage
from inkfold.config.sections import FinetuneSettings
from inkfold.finetune import step_time
from inkfold.finetune.distributed import ProcessGroup
from inkfold.finetune.plan import FinetunePlan
from inkfold.finetune.step_time import FoldSize, StepTime, measure_step_time
from inkfold.finetune.train_state import TrainState
from toy_network import CLASSES, MLP, heads_for, info_of


class Loader:
    """Gives squares of noise, and remembers which drawings were wanted."""

    def __init__(self, size_px):
        self.size_px, self.wanted = size_px, []

    def batches(self, rows, view):
        for batch in rows:
            self.wanted.append((batch.tolist(), str(view)))
            yield np.random.default_rng(0).integers(0, 255, (len(batch), self.size_px, self.size_px), np.uint8)


def plan_of(**changes):
    info = info_of("test_resnet")
    settings = FinetuneSettings(part="all", epochs=3, batch_size=4, precision="float32", **changes)
    curriculum = Curriculum([Stage(2), Stage(1, (), 1)], 0)
    targets = np.arange(10) % CLASSES
    loader = Loader(info.image_size)
    return FinetunePlan(info, MLP, heads_for(info), settings, curriculum, loader, targets, targets.astype(str), 0)


def ticking(monkeypatch, seconds_of):
    """A clock that moves only in steps, predictions and checkpoints, so many seconds in each; the first steps take longer."""
    now, steps = [100.0], itertools.count()

    def update(self, rate, step):
        assert rate == 0.0, "weights stay as they are"
        now[0] += seconds_of["first step" if next(steps) < 2 else "step"]
        return 0.0

    monkeypatch.setattr(TrainState, "update", update)

    def predict(network, plan, rows, process_group):
        now[0] += seconds_of["drawing"] * len(rows)

    monkeypatch.setattr(step_time, "evaluate", predict)

    def save(path, tensors, plain):
        assert any(name.startswith("network.") for name in tensors)
        now[0] += seconds_of["save"]

    monkeypatch.setattr(step_time, "save_checkpoint", save)
    return lambda: now[0]


@pytest.mark.parametrize(("limit_s", "steps"), [(0.0, 5), (40.0, 7), (1e9, 14)])
def test_each_part_is_measured_and_the_first_steps_only_count_once(monkeypatch, limit_s, steps):
    clock = ticking(monkeypatch, {"first step": 11.0, "step": 4.0, "drawing": 0.25, "save": 3.0})
    plan = plan_of(micro_batch=2)
    found = measure_step_time(plan, np.arange(10), ProcessGroup(0, 1, torch.device("cpu")), limit_s, clock)
    assert found == StepTime(step_s=4.0, predict_s=0.25, save_s=3.0, start_s=14.0, batch_size=4)
    assert len(plan.loader.wanted) == steps, "at least three beside the first two, at most twelve"
    assert plan.loader.wanted[0][0] == [0, 1, 2, 3]
    assert plan.loader.wanted[2][0] == [8, 9, 0, 1], "again from the first drawing where there are few"


def test_a_fold_of_fewer_drawings_than_a_batch_is_measured_with_what_there_is(monkeypatch):
    clock = ticking(monkeypatch, {"first step": 1.0, "step": 1.0, "drawing": 1.0, "save": 1.0})
    found = measure_step_time(plan_of(), np.arange(3), ProcessGroup(0, 1, torch.device("cpu")), 0.0, clock)
    assert found.batch_size == 3


def test_seconds_add_up_over_steps_epochs_and_parts():
    time = StepTime(step_s=2.0, predict_s=0.5, save_s=1.0, start_s=10.0, batch_size=8)
    size = FoldSize(trained_on=17, held_out=4, tests=6, views=3)
    assert time.epoch_s(size) == 3 * 2 + 4 * 0.5 + 1
    own = 10 + 5 * 9 + 3 * 10 * 0.5 + 10  # start, epochs, predictions under three views, and the network once more for them
    assert time.training_s(size, epochs=5, parts=2) == 2 * own
