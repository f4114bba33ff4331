"""Which parts of a network are shared out; two processes that train so are in test_finetune."""

import pytest
import torch

from inkfold.sharding import blocks
from inkfold.torchvision_ops import declare_missing_operators

declare_missing_operators()
import timm  # noqa: E402

EXPECTED = {
    "test_vit": [*(f"blocks.{i}" for i in range(6))],
    "test_resnet": ["layer1.0", "layer2.0", "layer3.0", "layer4.0"],
    "test_convnext": ["x"],
    "test_efficientnet": ["x"],
    "eva02_tiny_patch14_224": [*(f"blocks.{i}" for i in range(12))],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_blocks_are_what_computes_one_after_the_other(name):
    model = timm.create_model(name, num_classes=0)
    names = {id(module): place for place, module in model.named_modules()}
    assert [names[id(module)] for module in blocks(model)] == EXPECTED[name]


def test_a_model_that_timm_cannot_group_has_none():
    assert blocks(torch.nn.Sequential(torch.nn.Linear(2, 2))) == []
