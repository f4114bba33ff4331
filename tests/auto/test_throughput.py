from pathlib import Path

import numpy as np
import pytest

from inkfold.augment.views import IDENTITY
from inkfold.auto import throughput
from inkfold.auto.throughput import PROBE_BATCHES, MachineSpeed, count_probed, measure_images_per_s
from inkfold.features.extractor import Extractor
from inkfold.images.preprocess import ImageOptions
from toy_bank import fill, info

BATCH = 4


class SimulatedCpu:
    """Computes one batch after the other, the first in 3 s and all others in 0.5 s of simulated time."""

    def __init__(self):
        self.now, self.chunks = 100.0, []

    def run(self, chunks, tracker):
        for chunk in chunks:
            seconds = 0.5 if self.chunks else 3.0
            self.now += seconds
            self.chunks.append(chunk)
            chunk.job.bank(chunk.view).shards.append(np.array(chunk.drawings), np.zeros((len(chunk), 2), np.float16))
            tracker.advance(len(chunk))
            tracker.finish(chunk, seconds)

    def close(self):
        pass


@pytest.fixture
def cpu(monkeypatch):
    cpu = SimulatedCpu()
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: cpu.now)
    monkeypatch.setattr(throughput, "count_concurrent", lambda job: 1)
    return cpu


def extractor_of(home: Path, cpu) -> Extractor:
    return Extractor(home, info(), ImageOptions(size_px=8), "cpu", BATCH, cpu)


def test_the_rate_leaves_out_the_first_batch(tmp_path, cpu):
    extractor, digests = extractor_of(tmp_path, cpu), fill(tmp_path, range(100))
    assert measure_images_per_s(extractor, digests, 60.0) == pytest.approx(BATCH / 0.5)
    assert len(cpu.chunks) == PROBE_BATCHES
    assert count_probed(extractor) == PROBE_BATCHES * BATCH


def test_what_was_computed_is_in_the_bank_and_not_computed_again(tmp_path, cpu):
    extractor, digests = extractor_of(tmp_path, cpu), fill(tmp_path, range(10))
    measure_images_per_s(extractor, digests, 60.0)
    assert not extractor.job().bank(IDENTITY).shards.missing(digests).any()
    assert measure_images_per_s(extractor, digests, 60.0) is None, "no run has noted a rate in this bank"
    assert sum(map(len, cpu.chunks)) == 10


def test_where_all_is_in_the_bank_its_own_rate_is_taken(tmp_path, cpu):
    extractor, digests = extractor_of(tmp_path, cpu), fill(tmp_path, range(10))
    measure_images_per_s(extractor, digests, 60.0)
    extractor.job().bank(IDENTITY).note_rate(64, 2.0, "cpu")
    assert measure_images_per_s(extractor, digests, 60.0) == 32.0


def test_a_slow_backbone_is_measured_for_the_time_only_and_what_is_done_is_kept(tmp_path, cpu):
    extractor, digests = extractor_of(tmp_path, cpu), fill(tmp_path, range(100))
    assert measure_images_per_s(extractor, digests, 2.0) == pytest.approx(BATCH / 3)
    assert len(cpu.chunks) == 1
    assert extractor.job().bank(IDENTITY).shards.missing(digests).sum() == 96


def test_what_progress_raises_ends_the_measuring(tmp_path, cpu):
    def over(*_):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        measure_images_per_s(extractor_of(tmp_path, cpu), fill(tmp_path, range(100)), 60.0, over)


def test_the_real_executor_computes_the_features_that_an_extraction_would(tmp_path):
    from inkfold.runtime.cost import Cost

    digests = fill(tmp_path / "probed", range(20), ImageOptions(size_px=32))
    fill(tmp_path / "whole", range(20), ImageOptions(size_px=32))
    probed, whole = (
        Extractor(tmp_path / name, info(32), ImageOptions(size_px=32), "cpu", BATCH) for name in ("probed", "whole")
    )
    assert measure_images_per_s(probed, digests, 600.0) > 0
    cost = Cost()
    features = [extractor.extract(digests, cost).read() for extractor in (probed, whole)]
    assert (features[0] == features[1]).all()
    assert cost.forwards_cached == 20


def test_the_machines_speed_is_guessed_and_then_the_median_of_what_was_measured():
    speed = MachineSpeed("cpu", cores=2)
    assert speed.images_per_s(0.3) == pytest.approx(100)  # 2 cores of 15e9 multiplications a second
    for images_per_s in (10, 300, 40):
        speed.note(0.5, images_per_s)
    assert speed.gmacs_per_s == 20
    assert speed.images_per_s(2.0) == 10


def test_an_accelerator_is_guessed_as_one_device_whatever_the_cores():
    assert MachineSpeed("cuda", 2).gmacs_per_s == MachineSpeed("cuda", 64).gmacs_per_s
