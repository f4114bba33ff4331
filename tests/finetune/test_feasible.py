import pytest
import torch

from inkfold.errors import RecipeError
from inkfold.finetune.feasible import check_trainable
from inkfold.finetune.network import TrainedPart, trainable_backbone
from inkfold.models.torchvision_compat import declare_missing_operators
from inkfold.models.weights import BackboneSpec, resolve_backbone

declare_missing_operators()  # peft brings torchvision in

BEIT = "beit_base_patch16_224"


def info_of(name):
    return resolve_backbone(BackboneSpec(name, weights="untrained"))


@pytest.mark.parametrize(
    ("name", "part", "checkpointing", "message"),
    [
        ("vgg11", TrainedPart("all"), True, r"finetune\.checkpointing: timm can't do so with 'vgg11"),
        (
            "poolformer_s12",
            TrainedPart("last_blocks"),
            False,
            r"timm doesn't know the blocks of 'poolformer_s12",
        ),
        ("test_resnet", TrainedPart("all", drop_path=0.1), False, None),
        ("vgg11", TrainedPart("all", drop_path=0.1), False, "can't be built with {'drop_path_rate': 0.1}"),
    ],
)
def test_what_a_backbone_cant_be_trained_for_is_told(name, part, checkpointing, message):
    if message is None:
        check_trainable(info_of(name), part, checkpointing=checkpointing)
        return
    with pytest.raises(RecipeError, match=message):
        check_trainable(info_of(name), part, checkpointing=checkpointing)


@pytest.mark.parametrize("kind", ["last_blocks", "lora", "all"])
@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet", "test_nfnet", BEIT, "eva02_tiny_patch14_224"])
def test_what_can_be_trained_passes(name, kind):
    if kind == "lora":
        pytest.importorskip("peft", reason="LoRA needs the extra inkfold[lora]")
    check_trainable(info_of(name), TrainedPart(kind), checkpointing=True)


def test_additions_that_nothing_goes_through_are_refused(monkeypatch):
    pytest.importorskip("peft", reason="LoRA needs the extra inkfold[lora]")

    def past_the_additions(info, part):
        model = trainable_backbone(info, part)
        for module in model.modules():
            if hasattr(module, "qkv_bias_separate"):
                module.qkv_bias_separate = False
        return model

    monkeypatch.setattr("inkfold.finetune.feasible.trainable_backbone", past_the_additions)
    with pytest.raises(RecipeError, match=r"24 of LoRA's additions to 'beit_base.* \(blocks\.0\.attn\.qkv\.lora_A"):
        check_trainable(info_of(BEIT), TrainedPart("lora"), checkpointing=False)


def test_nothing_is_computed_and_nothing_random_is_drawn():
    before = torch.random.get_rng_state()
    check_trainable(info_of("eva_giant_patch14_336"), TrainedPart("all", drop_path=0.1), checkpointing=True)
    assert torch.equal(torch.random.get_rng_state(), before)
