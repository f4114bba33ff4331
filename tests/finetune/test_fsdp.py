"""Which parts of a network are shared out; two processes that train so are in test_finetune."""

import torch

from inkfold.finetune.fsdp import blocks
from inkfold.models.torchvision_compat import declare_missing_operators

declare_missing_operators()
import timm  # noqa: E402

EXPECTED = {
    "test_vit": [f"blocks.{i}" for i in range(5)],
    "test_resnet": ["layer1.0", "layer2.0", "layer3.0", "layer4.0"],
    "test_efficientnet": [f"blocks.{i}.0" for i in range(4)],  # each stage has one block
    "test_convnext": [  # a stage's first block is one with the downsampling before it
        *("stages.0.blocks.0", "stages.1.blocks.1", "stages.2.blocks.1", "stages.2.blocks.2", "stages.2.blocks.3"),
        *("stages.3.blocks.1", "stages.1", "stages.2", "stages.3", "stem"),
    ],
    "eva02_tiny_patch14_224": [f"blocks.{i}" for i in range(12)],
}


def test_blocks_are_what_computes_one_after_the_other():
    for name, expected in EXPECTED.items():
        model = timm.create_model(name, num_classes=0)
        names = {id(module): place for place, module in model.named_modules()}
        assert [names[id(module)] for module in blocks(model)] == expected


def test_a_model_that_timm_cannot_group_has_none():
    assert blocks(torch.nn.Sequential(torch.nn.Linear(2, 2))) == []
