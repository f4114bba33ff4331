import threading

import pytest

from inkfold.auto import backbones
from inkfold.auto.backbones import SHORTLIST, BackboneAtHand, backbones_at_hand, fetch_weights, worth_trying
from inkfold.errors import WeightsError
from inkfold.models.hub import timm_config
from inkfold.models.published import PUBLISHED, PublishedBackbone


def backbone(name, gmacs=1.0, skill=None, source="hub's cache", problem=""):
    row = None if skill is None else PublishedBackbone(name, 1.0, 1.0, gmacs, 224, skill)
    return BackboneAtHand(name, name, source, row, problem)


@pytest.fixture
def at_hand(monkeypatch):
    """Say what is at hand: names in INKFOLD_WEIGHTS, names in the hub's cache, and whether the hub answers."""

    def say(local=(), cached=(), answers=False):
        monkeypatch.setattr(backbones, "local_names", lambda: [*local])
        monkeypatch.setattr(backbones, "cached_names", lambda: [*cached])
        monkeypatch.setattr(backbones, "hub_answers", lambda: answers)

    return say


@pytest.mark.parametrize("name", SHORTLIST)
def test_what_may_be_fetched_is_in_the_table_under_timms_full_name(name):
    assert timm_config(name)[0] == name
    assert timm_config(name)[1].input_size[-1] == PUBLISHED[name].image_size


def test_all_that_is_at_hand_is_listed_the_cheapest_first(at_hand):
    at_hand(local=["tf_efficientnet_lite0"], cached=["resnet18.a1_in1k", "mobilenetv3_small_100.lamb_in1k"])
    assert [(own.full_name, own.source) for own in backbones_at_hand()] == [
        ("mobilenetv3_small_100.lamb_in1k", "hub's cache"),
        ("ink-small", "comes with inkfold"),
        ("tf_efficientnet_lite0.in1k", "INKFOLD_WEIGHTS"),
        ("resnet18.a1_in1k", "hub's cache"),
    ]


def test_a_backbone_that_is_at_hand_twice_is_listed_once_as_its_weights_are_found(at_hand):
    at_hand(local=["resnet18", "resnet18.a1_in1k"], cached=["resnet18.a1_in1k"], answers=True)
    own = [own for own in backbones_at_hand() if own.full_name == "resnet18.a1_in1k"]
    assert [(each.name, each.source) for each in own] == [("resnet18", "INKFOLD_WEIGHTS")]


def test_what_can_be_fetched_is_listed_only_where_the_hub_answers(at_hand):
    at_hand(answers=True)
    assert {own.full_name for own in backbones_at_hand()} == {"ink-small", *SHORTLIST}
    assert {own.full_name for own in backbones_at_hand(fetch=False)} == {"ink-small"}


def test_a_fixed_backbone_is_the_only_one(at_hand):
    at_hand(local=["resnet18"], cached=["resnet50.a1_in1k"], answers=True)
    assert [own.name for own in backbones_at_hand("mobilenetv2_100")] == ["mobilenetv2_100"]


def test_a_file_named_after_no_model_is_listed_with_its_problem(at_hand):
    at_hand(local=["my-checkpoint"])
    tried, left_out = worth_trying(backbones_at_hand())
    assert [own.name for own in tried] == ["ink-small"]
    assert "has no 'my-checkpoint'" in left_out["my-checkpoint"]


def test_the_cost_of_a_backbone_in_no_table_is_counted(at_hand):
    at_hand(local=["test_resnet"])
    assert "test_resnet.r160_in1k" not in PUBLISHED
    assert [own.name for own in backbones_at_hand()] == ["ink-small", "test_resnet"]
    assert backbones_at_hand()[1].gmacs == pytest.approx(0.1, abs=0.005)  # by timm's own benchmark at 160 px 0.1


def test_a_file_of_the_user_has_no_published_skill_as_it_may_hold_other_weights():
    row = PUBLISHED["resnet18.a1_in1k"]
    assert BackboneAtHand("resnet18", row.name, "INKFOLD_WEIGHTS", row).imagenet_sketch_top1 is None
    assert BackboneAtHand("resnet18", row.name, "hub's cache", row).imagenet_sketch_top1 == row.imagenet_sketch_top1


def test_only_what_must_be_fetched_has_bytes_to_fetch():
    row = PUBLISHED["resnet18.a1_in1k"]
    assert BackboneAtHand("resnet18", row.name, "hub's cache", row).download_bytes == 0
    assert BackboneAtHand("resnet18", row.name, "hub", row).download_bytes == 46_760_000  # 11.69 M parameters of 4 bytes


def test_a_backbone_that_is_dearer_and_worse_on_sketches_is_not_tried():
    given = [backbone("small", 1, 30.0), backbone("worse", 2, 27.9), backbone("alike", 3, 28.1), backbone("better", 4, 40.0)]
    tried, left_out = worth_trying(given)
    assert [own.name for own in tried] == ["small", "alike", "better"]
    assert left_out == {"worse": "not tried: small is cheaper and better on ImageNet-Sketch"}


def test_of_many_the_dearest_without_a_published_figure_are_left_out():
    unknown = [backbone(f"unknown-{i:02}") for i in range(30)]
    tried, left_out = worth_trying([backbone("ink-small"), *unknown, backbone("known", 5.0, 40.0)])
    assert len(tried) == 24
    assert {"ink-small", "known"} <= {own.name for own in tried}
    assert len(left_out) == 8


def test_weights_are_fetched_and_the_seconds_returned(monkeypatch):
    fetched = []
    monkeypatch.setattr(backbones, "download", lambda name, config: fetched.append(name))
    assert fetch_weights("resnet18.a1_in1k", 60.0, lambda *_: None) >= 0
    assert fetched == ["resnet18.a1_in1k"]


def test_a_fetch_that_fails_raises_the_hubs_reason(monkeypatch):
    def fail(name, config):
        raise WeightsError("no such file")

    monkeypatch.setattr(backbones, "download", fail)
    with pytest.raises(WeightsError, match="no such file"):
        fetch_weights("resnet18.a1_in1k", 60.0, lambda *_: None)


def test_a_fetch_that_takes_too_long_is_given_up(monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(backbones, "download", lambda name, config: ended.wait(60))
    with pytest.raises(WeightsError, match="not fetched within 0 s"):
        fetch_weights("resnet18.a1_in1k", 0.01, lambda *_: None)
    ended.set()


def test_a_deadline_ends_the_waiting_for_a_fetch(monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(backbones, "download", lambda name, config: ended.wait(60))

    def over(*_):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        fetch_weights("resnet18.a1_in1k", 60.0, over)
    ended.set()
