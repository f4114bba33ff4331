"""What surrounds Ray Train; the processes themselves train in test_cluster."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from inkfold.data.splits import Folds
from inkfold.errors import CacheError, RecipeError
from inkfold.finetune.ray_train import _progress_writer, share_out, train_folds_on_ray
from inkfold.finetune.train_folds import FinetunedFolds, FinetuneJob
from inkfold.runtime.ray import worker_losses

LOSSES = ("WorkerCrashedError", "ObjectLostError", "NodeDiedError", "LocalRayletDiedError", "OutOfMemoryError")
DONE = FinetunedFolds(None, (), None, (), 3, 0.0)


def node(cores, gpus=0, alive=True):
    return {"Alive": alive, "Resources": {"CPU": float(cores), "GPU": float(gpus)}}


@pytest.mark.parametrize(
    ("nodes", "wanted", "device", "expected"),
    [
        ([node(2)], None, "cpu", (1, 2)),
        ([node(2)], 2, "cpu", (2, 1)),
        ([node(7)], 2, "cpu", (2, 3)),
        ([node(3), node(1)], 2, "cpu", (2, 1)),  # two cores each would leave the second process without a place
        ([node(8), node(8)], 3, "cpu", (3, 4)),
        ([node(16, 4), node(16, 4)], None, "cuda", (8, 4)),
        ([node(16, 4), node(16, 4)], 5, "cuda", (5, 5)),  # three and three would fit
        ([node(16, 4), node(2, 4)], None, "cuda", None),  # a core each is needed too
        ([node(16, 4), node(16, 4, alive=False)], None, "cuda", (4, 4)),
        ([node(16, 4)], 5, "cuda", None),
        ([node(2)], 3, "cpu", None),
        ([node(2)], None, "cuda", None),
        ([], None, "cpu", None),
    ],
)
def test_all_processes_have_room_at_once_or_none_starts(nodes, wanted, device, expected):
    if expected is None:
        with pytest.raises(RecipeError, match=r"no room for \d+ processes that train on .* together. Take fewer"):
            share_out(nodes, wanted, device)
    else:
        assert share_out(nodes, wanted, device) == expected


def test_every_exception_of_ray_for_a_lost_machine_is_known():
    ray = pytest.importorskip("ray", reason="Ray is the extra inkfold[ray]")
    assert [kind.__name__ for kind in worker_losses(ray)] == list(LOSSES)
    assert all(issubclass(kind, ray.exceptions.RayError) for kind in worker_losses(ray))


class Ray:
    """Behaves as Ray would whose processes end with one outcome after the other."""

    class LostError(Exception):
        pass

    exceptions = SimpleNamespace(**dict.fromkeys(LOSSES, LostError))

    def __init__(self, *outcomes) -> None:
        self.outcomes, self.arguments, self.cancelled, self.polls = list(outcomes), [], [], iter(range(1000))
        self.done = False

    def nodes(self):
        return [node(2)]

    def remote(self, **needs):
        assert needs == {"num_cpus": 0, "max_retries": 0}, "what only waits takes no core from those that train"
        return lambda function: SimpleNamespace(remote=self.start)

    def start(self, *arguments):
        self.arguments.append(arguments[1:])
        return len(self.arguments)

    def wait(self, tasks, timeout):
        self.done = self.done if timeout == 0 else bool(next(self.polls) % 2)
        return (tasks, []) if self.done else ([], tasks)

    def get(self, task):
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, (Ray.LostError, ZeroDivisionError)):
            raise outcome
        return outcome

    def cancel(self, task, force):
        self.cancelled.append(task)


@pytest.fixture
def job(tmp_path):
    return FinetuneJob(None, Folds.of(np.ones((1, 2), bool)), tmp_path, (1.0,), "cpu")


def test_processes_that_were_lost_are_started_again(job):
    ray = Ray("a worker died", Ray.LostError("the machine went"), DONE)
    assert train_folds_on_ray(ray, job, 2) is DONE
    assert ray.arguments == [(2, 1)] * 3
    assert ray.cancelled == [], "Ray aborts this process when a task that is done is cancelled"


def test_the_third_loss_is_an_error_with_the_last_message(job):
    with pytest.raises(CacheError, match=r"ended 3 times before they were done\. Run again: .* The last error was: no luck 3"):
        train_folds_on_ray(Ray("no luck 1", "no luck 2", "no luck 3"), job, None)


def test_what_the_user_can_mend_is_raised_at_once(job):
    ray = Ray(RecipeError("finetune.lr: lower it"), DONE)
    with pytest.raises(RecipeError, match=r"finetune\.lr: lower it"):
        train_folds_on_ray(ray, job, None)
    assert len(ray.arguments) == 1


def test_ctrl_c_ends_the_processes(job):
    (job.out / "checkpoints").mkdir()
    (job.out / "checkpoints/progress.json").write_text('["fine-tuning fold 1", 1, 2]')

    def interrupted(*report):
        raise KeyboardInterrupt

    ray = Ray(DONE)
    with pytest.raises(KeyboardInterrupt):
        train_folds_on_ray(ray, job, None, interrupted)
    assert ray.cancelled == [1]


def test_what_is_done_is_not_cancelled_whatever_it_ended_with(job):
    ray = Ray(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        train_folds_on_ray(ray, job, None)
    assert ray.cancelled == []


def test_progress_crosses_by_a_file_but_not_after_every_step(job, monkeypatch):
    path, clock = job.out / "checkpoints/progress.json", iter([5.0, 5.2, 9.0, 9.1])
    monkeypatch.setattr("inkfold.finetune.ray_train.time.monotonic", lambda: next(clock))
    note, left = _progress_writer(path), []
    for done in (1, 2, 3, 4):
        note("fine-tuning fold 1", done, 4)
        left.append(json.loads(path.read_text())[1])
    assert left == [1, 1, 3, 4]
    reported = []
    train_folds_on_ray(Ray(DONE), job, None, lambda *report: reported.append(report))
    assert reported == [("fine-tuning fold 1", 4, 4)]
