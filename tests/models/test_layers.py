import numpy as np
import pytest
import torch

from inkfold.errors import RecipeError
from inkfold.models.backbone import Backbone, build_model, widths_of_layers
from inkfold.models.layers import HALF_MAX, features_of, layer_blocks, layer_widths
from inkfold.models.torchvision_compat import declare_missing_operators
from inkfold.models.weights import BackboneInfo, BackboneSpec, resolve_backbone

CPU = torch.device("cpu")
SIDE = 64
ARCHITECTURES = """
    resnetv2_50 efficientnet_b0 mobilenetv3_small_100 mobilenetv4_conv_small convnextv2_atto deit_tiny_patch16_224
    deit_tiny_distilled_patch16_224 deit3_small_patch16_224 beit_base_patch16_224 swin_tiny_patch4_window7_224
    tiny_vit_5m_224 hgnetv2_b0 caformer_s18 poolformer_s12 test_vit4 test_vit_relpos vit_base_patch16_siglip_224
    vit_small_patch14_reg4_dinov2 vit_small_patch16_dinov3 regnety_002 densenet121 vgg11 levit_128s xcit_nano_12_p16_224
    mixer_s32_224 pvt_v2_b0 fastvit_t8 repvit_m0_9 mobilevit_xxs inception_v3 test_byobnet test_nfnet test_mambaout
"""


def resolved(name: str, **options: object) -> BackboneInfo:
    return resolve_backbone(BackboneSpec(name=name, **{"weights": "untrained", "features": "layers", **options}))


def outputs_by_hooks(model: torch.nn.Module, names: list[str], images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    seen: list[torch.Tensor] = []
    hooks = [model.get_submodule(name).register_forward_hook(lambda m, i, output: seen.append(output)) for name in names]
    with torch.inference_mode():
        last = model(images)
    for hook in hooks:
        hook.remove()
    return last, seen


def images_for(info: BackboneInfo, side: int, n: int = 2) -> torch.Tensor:
    return torch.randn(n, len(info.mean), side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "stages", "dropped"),
    [
        ("test_efficientnet", [f"blocks.{i}" for i in range(5)], 0),
        ("test_resnet", ["act1", "layer1", "layer2", "layer3", "layer4"], 1),  # the last vector is the mean of layer4
        ("test_convnext", [f"stages.{i}" for i in range(4)], 1),
        ("mobilenetv2_100", ["blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6"], 0),
    ],
)
def test_a_convnet_gives_its_last_vector_and_the_mean_of_every_other_stage(name, stages, dropped):
    info = resolved(name)
    model = build_model(info)
    images = images_for(info, SIDE)
    last, outputs = outputs_by_hooks(model, stages, images)
    with torch.inference_mode():
        features = features_of(model, images, "layers")
    means = [output.mean((2, 3)) for output in outputs]
    torch.testing.assert_close(features, torch.cat([last, *means[: len(means) - dropped]], dim=1))


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("test_vit", "token"),  # the last vector is the last block's class token
        ("vit_tiny_patch16_224", "token"),
        ("test_vit2", "avg"),  # a register token, no class token
        ("test_vit3", "map"),  # pooled by attention, as SigLIP's are
        ("eva02_tiny_patch14_224", "avg"),  # class token, mean of the others
    ],
)
def test_a_vision_transformer_gives_the_class_token_and_the_mean_of_the_others_of_its_last_four_blocks(name, own):
    info = resolved(name)
    model = build_model(info)
    count = len(model.blocks)
    images = images_for(info, info.image_size)
    last, outputs = outputs_by_hooks(model, [f"blocks.{i}" for i in range(count - 4, count)], images)
    expected = [last]
    with torch.inference_mode():
        for i, output in enumerate(outputs):
            tokens = model.norm(output)
            pooled = {"avg": tokens[:, model.num_prefix_tokens :].mean(1)}
            if model.cls_token is not None:
                pooled = {"token": tokens[:, 0], **pooled}
            expected += [values for kind, values in pooled.items() if i < 3 or kind != own]
        features = features_of(model, images, "layers")
    torch.testing.assert_close(features, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit2", "ink-small"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_all_layers_features_begin_with_the_last_ones_and_are_finite(name, precision):
    info = resolved(name, precision=precision)
    pixels = np.random.default_rng(0).integers(0, 256, (3, info.image_size, info.image_size, 3), np.uint8)
    last = Backbone(resolved(name, precision=precision, features="last"), CPU, 2).extract(pixels)
    features = Backbone(info, CPU, 2).extract(pixels)
    np.testing.assert_array_equal(features[:, : last.shape[1]], last)
    assert features.shape[1] > last.shape[1]
    assert np.isfinite(features).all()


def test_a_layer_s_huge_values_are_limited_to_what_float16_holds():
    info = resolved("test_resnet")
    model = build_model(info)
    model.layer1[-1].register_forward_hook(lambda module, inputs, output: output * 0 + 1e6)
    model.maxpool.register_forward_hook(lambda module, inputs, output: output)
    model.layer2.register_forward_hook(lambda module, inputs, output: output * 1e-6)
    with torch.inference_mode():
        blocks = layer_blocks(model, images_for(info, SIDE))
    assert (blocks[2] == HALF_MAX).all()
    assert np.isfinite(blocks[2].numpy().astype(np.float16)).all()


def test_gradients_reach_every_stage():
    info = resolved("test_efficientnet")
    model = build_model(info).requires_grad_(True)
    for block in layer_blocks(model, images_for(info, SIDE))[1:2]:  # the first stage's alone
        block.sum().backward()
    assert model.conv_stem.weight.grad is not None
    assert model.blocks[-1][-1].bn1.weight.grad is None


def test_a_network_that_can_t_return_its_layers_is_refused_before_it_is_built():
    with pytest.raises(RecipeError, match=r"backbone\.features: timm can't return the layers of 'x' .*backbone\.features=last"):
        layer_widths(torch.nn.Flatten(), "x", 8, 3)


def test_the_key_of_the_last_vector_is_what_it_was_before_there_were_others():
    last, layers = resolved("test_resnet", features="last"), resolved("test_resnet")
    assert "features" not in last.key()
    assert layers.blocks == (96, 32, 32, 48, 192)
    assert last.blocks == ()
    assert layers.key() == {**last.key(), "features": "layers"}
    assert BackboneInfo.from_json(layers.as_json()).blocks == layers.blocks
    assert BackboneInfo.from_json(last.as_json()).features == "last"


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture",
    ARCHITECTURES.split(),
)
def test_timm_s_architectures_return_their_layers_beside_the_same_last_vector(architecture):
    declare_missing_operators()
    info = resolved(architecture)
    model = build_model(info)
    images = images_for(info, info.image_size, 1)
    with torch.inference_mode():
        expected = model(images)
        features = features_of(model, images, "layers")
    torch.testing.assert_close(features[:, : expected.shape[1]], expected, rtol=1e-4, atol=1e-5)
    assert features.shape[1] > expected.shape[1]
    assert sum(widths_of_layers(info)) == features.shape[1]
