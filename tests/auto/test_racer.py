"""One backbone in a race, with ink-small on drawings that were written for the test."""

import numpy as np
import pytest

from inkfold.auto.backbones import BackboneAtHand
from inkfold.auto.racer import LONGEST_REASON, RaceEntry, Racer, held_out_probs
from inkfold.auto.sample import draw_sample
from inkfold.config.load import validate_recipe
from inkfold.data.dataset import read_dataset
from inkfold.pipeline.build import build_plan, data_options
from inkfold.pipeline.inputs import prepare_drawings
from inkfold.pipeline.prepare import read_files
from inkfold.runtime.cost import Cost
from inkfold.runtime.progress import silent
from toy import toy_data
from toy_prepared import prepared


@pytest.fixture
def racer(tmp_path):
    root = toy_data(tmp_path / "data", train_per_class=16)
    recipe = validate_recipe(
        {
            "data": {"root": str(root)},
            "backbone": {"name": "ink-small", "device": "cpu", "batch_size": 8, "precision": "float32"},
            "image": {"resize": "pad", "paper": "keep"},
            "folds": {"group_duplicates": False},
        }
    )
    read = read_files(read_dataset(str(root), data_options(recipe)), Cost())
    drawings = prepare_drawings(build_plan(recipe), read, Cost(), silent)
    backbone = BackboneAtHand("ink-small", "ink-small", "comes with inkfold")
    return Racer(backbone, RaceEntry.of(backbone), recipe, drawings)


def test_a_probe_measures_and_a_prediction_computes_only_what_is_missing(racer):
    racer.probe(np.arange(48)[:16], lambda: 600.0, None, silent)
    assert racer.entry.found.images_per_s == racer.images_per_s > 0
    assert racer.lacking_share == pytest.approx((48 + 6 - 16) / (48 + 6))  # 3 x 16 training and 3 x 2 test drawings
    assert racer.entry.seconds_for_all > 0
    sample = draw_sample(racer.prepared, np.arange(48), 3, 0)
    predicted = racer.predict(sample, silent)
    assert racer.lacking_share == pytest.approx(6 / 54)
    assert predicted.probs.sum(1) == pytest.approx(1)
    assert (predicted.probs.argmax(1) == sample.targets).mean() > 0.6, "circles, fish and houses are told apart"
    assert not predicted.seen.any()


def test_drawings_of_its_pretraining_are_marked_unless_too_few_to_matter(racer):
    racer.probe(np.arange(16), lambda: 600.0, None, silent)
    sample = draw_sample(racer.prepared, np.arange(0, 48, 2), 3, 0)
    racer.seen = np.arange(48) < 10
    assert racer.predict(sample, silent).seen.tolist() == [True] * 5 + [False] * 19
    racer.seen = np.zeros(48, bool)
    assert not racer.predict(sample, silent).seen.any()


def test_held_out_drawings_are_predicted_by_heads_that_did_not_see_them():
    drawings = prepared(np.arange(60) % 3)
    sample = draw_sample(drawings, np.arange(60), 3, 0)
    features = np.random.default_rng(0).normal(size=(60, 200)).astype(np.float16)  # each drawing could be remembered
    probs = held_out_probs(sample, features, 0)
    assert (probs.argmax(1) == sample.targets).mean() < 0.6
    features[:, :3] += 30 * np.eye(3)[sample.targets].astype(np.float16)
    assert (held_out_probs(sample, features, 0).argmax(1) == sample.targets).mean() > 0.9


def test_a_reason_is_its_first_line_and_short():
    entry = RaceEntry.of(BackboneAtHand("a", "a", "hub"))
    entry.drop("no weights:\n  - a file\n")
    assert (entry.is_out, entry.found.why) == (True, "no weights:")
    entry.drop("missing key " * 100)
    assert len(entry.found.why) <= LONGEST_REASON
