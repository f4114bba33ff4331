"""The race's decisions, with backbones whose predictions, speeds and clock are made up."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from inkfold.auto import race
from inkfold.auto.backbones import BackboneAtHand
from inkfold.auto.race import BackboneRace, RaceLimits
from inkfold.auto.racer import RaceEntry
from inkfold.auto.standing import Predicted
from inkfold.config.load import validate_recipe
from inkfold.errors import WeightsError
from toy_prepared import prepared

CLASSES, PER_CLASS = 10, 300
BASE = validate_recipe({"data": {"root": "nowhere"}, "backbone": {"name": "ink-small", "device": "cpu"}})


@dataclass
class World:
    """What backbones are like, by name: their accuracy, drawings per second, and drawings of their pretraining."""

    now: float = 0.0
    accuracy: dict = field(default_factory=dict)
    rate: dict = field(default_factory=dict)
    seen: dict = field(default_factory=dict)
    broken: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def left(self, budget):
        return lambda: budget - self.now


class StubRacer:
    """A backbone that is right on the drawings whose number, turned by its name, is below its accuracy."""

    world: World

    def __init__(self, backbone, entry, recipe, drawings):
        self.backbone, self.entry, self.recipe, self.prepared = backbone, entry, recipe, drawings
        self.seen, self.images_per_s, self.computed = self.world.seen.get(entry.name), None, 0

    @property
    def seconds_per_drawing(self):
        return 1 / self.world.rate.get(self.entry.name, 1000.0)

    @property
    def images_per_s_decoded(self):
        return 1 / self.seconds_per_drawing

    def _compute(self, count, progress):
        for _ in range(count):
            self.world.now += self.seconds_per_drawing
            progress("features", 0, count)
        self.computed += count
        self.entry.seconds_for_all = (len(self.prepared.rows) - self.computed) * self.seconds_per_drawing

    def probe(self, rows, limit_s, executor, progress):
        if (problem := self.world.broken.get(self.entry.name)) is not None:
            raise problem
        self.images_per_s = self.entry.found.images_per_s = 1 / self.seconds_per_drawing
        self._compute(10, progress)

    def predict(self, sample, progress):
        self.world.asked.append((self.entry.name, len(sample.rows)))
        self._compute(len(sample.rows) - self.computed, progress)
        turned = (sample.rows * 0.618 + len(self.entry.name) * 0.37) % 1
        right = turned < self.world.accuracy[self.entry.name]
        probs = np.full((len(right), sample.num_classes), 0.4 / sample.num_classes)
        probs[np.arange(len(right)), np.where(right, sample.targets, (sample.targets + 1) % sample.num_classes)] += 0.6
        seen = np.zeros(len(right), bool) if self.seen is None else self.seen[sample.rows]
        return Predicted(probs, right, seen, self.entry.seconds_for_all)


@pytest.fixture
def world(monkeypatch):
    world = World()
    StubRacer.world = world
    monkeypatch.setattr(race, "Racer", StubRacer)
    monkeypatch.setattr(BackboneRace, "_mark_seen", lambda self, progress: None)
    return world


@pytest.fixture(scope="module")
def drawings():
    return prepared(np.repeat(np.arange(CLASSES), PER_CLASS))


def at_hand(*names, source="INKFOLD_WEIGHTS", problem=""):
    return [BackboneAtHand(name, name, source, None, problem, counted_gmacs=0.1) for name in names]


def raced(world, drawings, names, budget=1000.0, share=0.5, **options):
    return BackboneRace(BASE, drawings, at_hand(*names), RaceLimits(world.left(budget), share)).run(**options)


def test_the_best_comes_first_and_the_worst_drop_out_early(world, drawings):
    world.accuracy = {"a": 0.8, "bb": 0.3, "ccc": 0.78, "dddd": 0.2, "eeeee": 0.79}
    result = raced(world, drawings, world.accuracy)
    assert [entry.name for entry in result.entries][:1] == ["a"]
    assert {entry.name for entry in result.entries if entry.is_out} >= {"bb", "dddd"}
    assert [name for name, size in world.asked if size == 800] == [*world.accuracy]
    assert {name for name, size in world.asked if size > 800} <= {"a", "ccc", "eeeee"}
    assert "distinguishably worse" in next(entry.found.why for entry in result.entries if entry.name == "bb")
    assert result.reason == "all drawings were in the last round"


def test_rounds_grow_threefold_up_to_all_drawings(world, drawings):
    world.accuracy = {"a": 0.5, "bb": 0.5}
    raced(world, drawings, world.accuracy)
    assert [size for name, size in world.asked if name == "a"] == [800, 2400, 3000]


def test_what_cannot_do_all_drawings_in_the_time_left_is_measured_and_left_out(world, drawings):
    world.accuracy, world.rate = {"quick": 0.5, "slow": 0.9}, {"slow": 4.0}
    result = raced(world, drawings, world.accuracy, budget=1000.0)
    slow = next(entry for entry in result.entries if entry.name == "slow")
    assert slow.is_out
    assert slow.found.why.startswith("too slow: at 4.0 drawings per second all drawings take 748 s")
    assert [name for name, _ in world.asked] == ["quick"]


def test_the_first_round_is_smaller_where_the_time_is_short(world, drawings):
    world.accuracy, world.rate = {"a": 0.5, "bb": 0.5}, {"a": 100.0, "bb": 100.0}
    result = raced(world, drawings, world.accuracy, budget=60.0, share=0.2)
    assert world.asked[0][1] < 800
    assert world.now <= 12.0 + 0.1
    assert result.n == world.asked[0][1]


def test_the_slowest_is_not_compared_where_it_leaves_no_time_for_the_others(world, drawings):
    world.accuracy, world.rate = {"a": 0.5, "bb": 0.5, "slow": 0.9}, {"slow": 50.0}
    result = raced(world, drawings, world.accuracy, budget=110.0, share=0.05)
    assert next(entry for entry in result.entries if entry.name == "slow").found.why.startswith("too slow to compare")
    assert {name for name, _ in world.asked} == {"a", "bb"}


def test_a_backbone_wins_nothing_by_drawings_of_its_pretraining(world, drawings):
    world.accuracy = {"memory": 0.95, "fair": 0.6}
    world.seen = {"memory": np.ones(len(drawings.rows), bool)}
    result = raced(world, drawings, world.accuracy)
    assert [entry.name for entry in result.entries] == ["fair", "memory"]
    memory = result.entries[1]
    assert (memory.is_judged, memory.is_out, memory.found.accuracy) == (False, False, None)
    assert memory.found.why == "nothing can be said of it: its weights were trained on these drawings"
    assert result.voters == ["fair"]


def test_broken_backbones_are_written_down_and_stop_nobody(world, drawings):
    world.accuracy = {"good": 0.5, "better": 0.7}
    world.broken = {
        "lost": WeightsError("no weights for 'lost': the hub can't give them\nGive them in one of these ways:"),
        "torn": RuntimeError("size mismatch"),
        "full": OSError(28, "No space left on device"),
    }
    result = raced(world, drawings, ["lost", "good", "torn", "better", "full"])
    reasons = {entry.name: entry.found.why for entry in result.entries if entry.is_out}
    assert reasons["lost"] == "can't be used: no weights for 'lost': the hub can't give them"
    assert reasons["torn"] == "can't be used: size mismatch"
    assert "No space left" in reasons["full"]
    assert result.entries[0].name == "better"


def test_where_none_can_be_used_all_say_why(world, drawings):
    world.broken = {"a": WeightsError("torn"), "bb": WeightsError("gone")}
    result = raced(world, drawings, ["a", "bb"])
    assert (result.voters, result.vote_accuracy, result.reason) == ([], None, "none could be tried")
    assert all(entry.is_out for entry in result.entries)


def test_a_backbone_with_a_problem_is_listed_last_and_never_built(world, drawings):
    world.accuracy = {"a": 0.5}
    backbones = [*at_hand("x", problem="timm has no 'x'."), *at_hand("a")]
    result = BackboneRace(BASE, drawings, backbones, RaceLimits(world.left(1000.0))).run()
    assert [entry.name for entry in result.entries] == ["a", "x"]
    assert (result.entries[1].is_out, result.entries[1].found.why) == (True, "timm has no 'x'.")


def test_it_ends_when_its_share_is_over_and_keeps_what_is_known(world, drawings):
    world.accuracy = {"a": 0.6, "bb": 0.5}
    world.rate = {"a": 300.0, "bb": 300.0}
    slowing = world.rate

    def progress(stage, done, total):
        if world.now > 3.0:
            slowing["bb"] = 5.0  # another program takes the cores

    result = raced(world, drawings, world.accuracy, budget=100.0, share=0.2, progress=progress)
    assert result.reason == "its share of the time was over"
    assert result.entries[0].name == "a"
    assert result.entries[0].found.accuracy is not None
    assert world.now <= 20.0 + 0.5


def test_a_deadline_of_the_caller_is_raised_and_leaves_a_result(world, drawings):
    class DeadlineError(RuntimeError):
        pass

    world.accuracy = {"a": 0.6, "bb": 0.5}

    def progress(stage, done, total):
        if world.now > 1.0:
            raise DeadlineError

    own = BackboneRace(BASE, drawings, at_hand("a", "bb"), RaceLimits(world.left(1000.0)))
    with pytest.raises(DeadlineError):
        own.run(progress)
    result = own.result()
    assert [entry.name for entry in result.entries] == ["a", "bb"]
    assert result.entries[0].found.rounds == 1
    assert result.entries[1].found.why == "not tried: the race's time was over"


def test_a_result_before_the_race_says_that_nothing_was_tried(world, drawings):
    result = BackboneRace(BASE, drawings, at_hand("a"), RaceLimits(world.left(1000.0))).result()
    assert [(entry.name, entry.found.why) for entry in result.entries] == [("a", "not tried: the race's time was over")]


def test_too_few_drawings_compare_nothing(world):
    world.accuracy = {"a": 0.6, "bb": 0.5}
    result = raced(world, prepared([0, 1] * 5), ["a", "bb"])
    assert result.reason == "there are too few drawings to compare backbones on"
    assert world.asked == []
    assert not any(entry.is_out for entry in result.entries)


def test_figures_of_all_are_of_the_same_drawings(world, drawings):
    world.accuracy = {"a": 0.6, "bb": 0.5, "ccc": 0.55}
    world.seen = {"a": np.arange(len(drawings.rows)) % 2 == 0}
    result = raced(world, drawings, world.accuracy)
    assert len({entry.found.n for entry in result.entries if entry.found.rounds == 3}) == 1
    assert result.n == next(entry.found.n for entry in result.entries)


def test_what_is_expected_of_all_drawings_is_no_less_than_the_sample_says(world, drawings):
    world.accuracy = {"a": 0.6}
    result = raced(world, drawings, ["a"])
    [entry] = result.entries
    assert entry.expected_accuracy == pytest.approx(entry.found.accuracy)  # as many classes, and half as many did as well
    assert entry.seconds_for_all == pytest.approx((3000 - 800) / 1000)


def test_the_keys_name_the_backbone_as_it_is_found():
    own = RaceEntry.of(BackboneAtHand("resnet18", "resnet18.a1_in1k", "INKFOLD_WEIGHTS"))
    assert (own.name, own.keys) == ("resnet18.a1_in1k", {"backbone": {"name": "resnet18"}})
    assert RaceEntry.of(BackboneAtHand("resnet18", "resnet18.a1_in1k", "recipe")).keys == {}


def test_weights_that_take_too_long_to_fetch_are_not_begun(world, drawings, monkeypatch):
    from inkfold.models.published import PublishedBackbone

    world.accuracy = {"small": 0.5}
    row = PublishedBackbone("huge", 100.0, 100.0, 0.1, 224, 60.0)  # 400 MB at 2 MB/s
    backbones = [*at_hand("small"), BackboneAtHand("huge", "huge", "hub", row)]
    monkeypatch.setattr(race, "fetch_weights", lambda *_: pytest.fail("it was fetched"))
    result = BackboneRace(BASE, drawings, backbones, RaceLimits(world.left(100.0))).run()
    assert "200 s of them to fetch its weights, of 100 s left" in result.entries[-1].found.why


def test_fetching_tells_how_fast_it_is(world, drawings, monkeypatch):
    from inkfold.models.published import PublishedBackbone

    rows = {name: PublishedBackbone(name, size, size, 0.1, 224, 60.0) for name, size in (("first", 1.0), ("second", 100.0))}
    world.accuracy = {"first": 0.5, "second": 0.6}
    fetched = []
    monkeypatch.setattr(race, "fetch_weights", lambda name, limit_s, progress: fetched.append(name) or 0.1)
    backbones = [BackboneAtHand(name, name, "hub", row) for name, row in rows.items()]
    BackboneRace(BASE, drawings, backbones, RaceLimits(world.left(200.0))).run()
    assert fetched == ["first", "second"], "4 MB took 0.1 s, so 400 MB take 10 s"
