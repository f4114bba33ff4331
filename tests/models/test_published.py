from itertools import pairwise

import pytest

from inkfold.models.published import PUBLISHED


def test_the_cheapest_comes_first_and_no_backbone_comes_twice():
    rows = [*PUBLISHED.values()]
    assert all(first.gmacs <= second.gmacs for first, second in pairwise(rows))
    assert all(name == row.name for name, row in PUBLISHED.items())


def test_figures_are_those_of_timms_table():
    # results/results-sketch.csv at commit aa4b5850c154, by hand: top1 and param_count at the size of training
    assert PUBLISHED["tiny_vit_21m_224.dist_in22k_ft_in1k"].imagenet_sketch_top1 == 44.823
    assert PUBLISHED["resnext50_32x4d.fb_swsl_ig1b_ft_in1k"].weights_m == 25.03
    assert PUBLISHED["tiny_vit_21m_224.dist_in22k_ft_in1k"].download_bytes == 84_800_000


def test_a_cost_is_that_of_one_forward_pass():
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    row = PUBLISHED["mobilenetv2_100.ra_in1k"]
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        timm.create_model("mobilenetv2_100", num_classes=0)(torch.zeros(1, 3, row.image_size, row.image_size))
    assert counter.get_total_flops() / 2e9 == pytest.approx(row.gmacs, abs=5e-4)
