"""Which backbones a search may try, and in which order: those whose weights are at hand, then those that can be fetched."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from inkfold.errors import InkfoldError, WeightsError
from inkfold.models import ink_small as inksmall
from inkfold.models.at_hand import cached_names, hub_answers, local_names
from inkfold.models.hub import download, timm_config
from inkfold.models.published import PUBLISHED, PublishedBackbone
from inkfold.runtime.progress import Progress

log = logging.getLogger("inkfold.auto")

Source = Literal["comes with inkfold", "INKFOLD_WEIGHTS", "hub's cache", "hub", "recipe"]
INK_SMALL_GMACS = 0.085
ASSUMED_GMACS = 2.0  # of a backbone whose cost can't be counted
SKILL_MARGIN = 2.0  # percent on ImageNet-Sketch: one that is dearer and worse by more than this is not tried
TRIED_AT_MOST = 24
POLL_S = 0.2
# What is worth fetching: of each size the best on sketches, from several families, the cheapest first.
SHORTLIST = (
    "convnext_zepto_rms.ra4_e3600_r224_in1k",
    "tf_efficientnet_lite0.in1k",
    "hgnetv2_b1.ssld_stage1_in22k_in1k",
    "hgnetv2_b2.ssld_stage1_in22k_in1k",
    "tiny_vit_5m_224.dist_in22k_ft_in1k",
    "tiny_vit_11m_224.dist_in22k_ft_in1k",
    "hgnetv2_b4.ssld_stage2_ft_in1k",
    "tiny_vit_21m_224.dist_in22k_ft_in1k",
    "resnext50_32x4d.fb_swsl_ig1b_ft_in1k",
    "vit_base_patch16_clip_224.laion2b_ft_in1k",
    "convnext_base.clip_laion2b_augreg_ft_in1k",
    "convnext_large_mlp.clip_laion2b_augreg_ft_in1k",
    "vit_so400m_patch14_siglip_gap_378.webli_ft_in1k",
    "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k",
)


@dataclass(frozen=True, slots=True)
class BackboneAtHand:
    """A backbone that a search may try.

    Attributes:
        name: What a recipe's `backbone.name` is set to.
        full_name: timm's full name, with the tag of its weights, or `ink-small`.
        source: Where its weights are.
        published: Its row of the table of published figures; None if it has none.
        problem: Why it can't be tried, for the user; empty where it can.
        counted_gmacs: What one forward pass costs, in 10^9 multiplications with an addition, where no table says it.
    """

    name: str
    full_name: str
    source: Source
    published: PublishedBackbone | None = None
    problem: str = ""
    counted_gmacs: float = ASSUMED_GMACS

    @property
    def gmacs(self) -> float:
        """What one forward pass at its own size costs, in 10^9 multiplications with an addition."""
        if self.full_name == inksmall.NAME:
            return INK_SMALL_GMACS
        return self.counted_gmacs if self.published is None else self.published.gmacs

    @property
    def download_bytes(self) -> int:
        """Bytes that have to be fetched before it can be used."""
        return self.published.download_bytes if self.source == "hub" and self.published is not None else 0

    @property
    def imagenet_sketch_top1(self) -> float | None:
        """Published accuracy on ImageNet-Sketch, percent; None if unknown, or where a file may hold other weights."""
        return None if self.published is None or self.source == "INKFOLD_WEIGHTS" else self.published.imagenet_sketch_top1


def backbones_at_hand(only: str | None = None, *, fetch: bool = True) -> list[BackboneAtHand]:
    """List the backbones that a search may try, the cheapest first.

    Args:
        only: The backbone that the user has fixed, as `backbone.name` has it; None lists all: the one that comes with inkfold,
            those in INKFOLD_WEIGHTS and in the hub's cache, and, where the hub answers, a shortlist.
        fetch: Whether the hub is asked at all.

    Returns:
        The backbones, each once; those that can't be tried have a `problem`.
    """
    if only is not None:
        return [_look_up(only, "recipe")]
    listed: list[tuple[str, Source]] = [(inksmall.NAME, "comes with inkfold")]
    listed += [(name, "INKFOLD_WEIGHTS") for name in local_names()]
    listed += [(name, "hub's cache") for name in cached_names()]
    if fetch and hub_answers():
        listed += [(name, "hub") for name in SHORTLIST]
    backbones: dict[str, BackboneAtHand] = {}
    for name, source in listed:
        backbone = _look_up(name, source)
        backbones.setdefault(backbone.full_name, backbone)
    ordered = sorted(backbones.values(), key=lambda backbone: (backbone.gmacs, backbone.full_name))
    log.info("backbones at hand: %s", ", ".join(f"{backbone.full_name} ({backbone.source})" for backbone in ordered))
    return ordered


def _look_up(name: str, source: Source) -> BackboneAtHand:
    if name == inksmall.NAME:
        return BackboneAtHand(name, name, source)
    try:
        full_name, _ = timm_config(name)
    except InkfoldError as error:
        return BackboneAtHand(name, name, source, problem=f"{error}")
    if (row := PUBLISHED.get(full_name)) is not None:
        return BackboneAtHand(name, full_name, source, row)
    from inkfold.models.backbone import count_gmacs  # noqa: PLC0415 - torch takes a second

    return BackboneAtHand(name, full_name, source, counted_gmacs=count_gmacs(full_name) or ASSUMED_GMACS)


def fetch_weights(name: str, limit_s: float, progress: Progress) -> float:
    """Fetch a backbone's weights from the hub into its cache, or give up after a time.

    The hub's client can't be interrupted: where it takes too long, it goes on beside the search until that ends, and the hub's
    cache keeps what it has fetched by then.

    Args:
        name: The backbone's full name in timm.
        limit_s: Seconds to wait for it, above 0.
        progress: Called several times a second, with the seconds that are over.

    Returns:
        Seconds that it took.

    Raises:
        WeightsError: If they can't be had, or not in time.
    """
    began, problems = time.monotonic(), list[BaseException]()

    def fetch() -> None:
        try:
            download(*timm_config(name))
        except InkfoldError as error:
            problems.append(error)

    fetching = threading.Thread(target=fetch, daemon=True)
    fetching.start()
    while fetching.is_alive() and (waited := time.monotonic() - began) < limit_s:
        fetching.join(POLL_S)
        progress("weights", min(int(waited), int(limit_s)), max(int(limit_s), 1))
    if fetching.is_alive():
        raise WeightsError(f"its weights were not fetched within {limit_s:,.0f} s")
    if problems:
        raise problems[0]
    return time.monotonic() - began


def worth_trying(backbones: Sequence[BackboneAtHand]) -> tuple[list[BackboneAtHand], dict[str, str]]:
    """Leave out backbones of which a cheaper one is published to be better on sketches.

    What comes with inkfold, what is in INKFOLD_WEIGHTS and what has no published figure is always tried, up to 24 in all.

    Args:
        backbones: The backbones at hand, the cheapest first.

    Returns:
        The backbones to try, the cheapest first, and by full name why others are not.
    """
    tried: list[BackboneAtHand] = []
    left_out: dict[str, str] = {}
    best, best_name = 0.0, ""
    for backbone in backbones:
        skill = backbone.imagenet_sketch_top1
        if backbone.problem:
            left_out[backbone.full_name] = backbone.problem
        elif skill is not None and backbone.source != "recipe" and skill < best - SKILL_MARGIN:
            left_out[backbone.full_name] = f"not tried: {best_name} is cheaper and better on ImageNet-Sketch"
        else:
            tried.append(backbone)
            if skill is not None and skill > best:
                best, best_name = skill, backbone.full_name
    for backbone in _least_skilled(tried[1:], len(tried) - TRIED_AT_MOST):
        tried.remove(backbone)
        left_out[backbone.full_name] = f"not tried: {TRIED_AT_MOST} others come first"
    return tried, left_out


def _least_skilled(backbones: Iterable[BackboneAtHand], count: int) -> list[BackboneAtHand]:
    """Choose so many backbones to leave out: those without a published figure and the dearest first."""
    order = sorted(
        backbones, key=lambda backbone: (backbone.source == "INKFOLD_WEIGHTS", backbone.published is not None, -backbone.gmacs)
    )
    return order[: max(0, count)]
