import pytest

from inkfold.runtime.ray import loss_reason

ray = pytest.importorskip("ray", reason="Ray is the extra inkfold[ray]")


@pytest.mark.parametrize("kind", ["WorkerCrashedError", "OutOfMemoryError"])
def test_a_worker_that_is_lost_alone_may_have_lacked_memory(kind):
    reason = loss_reason(ray, getattr(ray.exceptions, kind)("it was killed"))
    assert "lost 3 times" in reason
    assert "Give the workers more memory" in reason


@pytest.mark.parametrize("kind", ["LocalRayletDiedError", "NodeDiedError", "RaySystemError"])
def test_where_ray_itself_ended_more_memory_for_workers_is_not_the_advice(kind):
    exception = getattr(ray.exceptions, kind)
    reason = loss_reason(ray, exception() if kind == "LocalRayletDiedError" else exception("it is gone"))
    assert reason.startswith("Ray itself ended on a machine")
    assert "on=pool" in reason
    assert "memory" not in reason
