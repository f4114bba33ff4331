import dataclasses

import numpy as np
import pytest
import torch

from inkfold.config.sections import FinetuneSettings
from inkfold.errors import RecipeError
from inkfold.finetune.network import (
    HeadModule,
    Network,
    check_trainable,
    interpolated,
    pretrained_values,
    trainable_backbone,
)
from inkfold.heads.head import head_probs, init_heads, start_heads
from inkfold.models.backbone import build_model
from inkfold.models.torchvision_compat import declare_missing_operators
from inkfold.models.weights import BackboneSpec, resolve_backbone
from toy_heads import head_spec, replace
from toy_network import CLASSES, MLP, heads_for, images_for, info_of

declare_missing_operators()  # peft brings torchvision in
torch.set_num_threads(1)

MODELS = ("test_resnet", "test_vit", "test_efficientnet")
PARTS = ("last_blocks", "lora", "all")

LORA = FinetuneSettings(part="lora", lora_rank=2)


def trained(name, part, steps=2):
    info = info_of(name)
    network = Network(info, HeadModule(MLP, heads_for(info)), FinetuneSettings(part=part)).train()
    groups = network.parameter_groups(0.05, 0.8, 2.0)
    optimiser = torch.optim.SGD(groups, 0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(images_for(info))[0], torch.tensor([0, 1, 2, 3])).backward()
        optimiser.step()
    return info, network.eval()


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_a_head_on_all_layers_is_trained_with_them(name):
    info = dataclasses.replace(info_of(name), features="layers")
    network = Network(info, HeadModule(MLP, heads_for(info)), FinetuneSettings(part="all")).train()
    targets = torch.tensor([0, 1, 2, 3])
    torch.nn.functional.cross_entropy(network(images_for(info))[0], targets).backward()
    with torch.no_grad():
        for values in network.parameters():
            if values.grad is not None:
                values.sub_(0.05 * values.grad)
    network.eval()
    plain = Network(info, HeadModule(MLP, network.head.tensors())).eval()
    before = plain(images_for(info))[1].clone()
    assert not plain.backbone.load_state_dict(network.changes(), strict=False).unexpected_keys
    with torch.no_grad():
        scores, features = plain(images_for(info))
        np.testing.assert_allclose(scores, network(images_for(info))[0], atol=2e-5)
    last = build_model(dataclasses.replace(info, features="last"))(images_for(info)).shape[1]
    moved = (features - before).abs().amax(0) > 1e-6
    assert moved[last:].any(), "training reached the layers before the last"


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", MODELS)
def test_the_backbone_with_its_changes_is_the_trained_network(name, part):
    if part == "lora":
        pytest.importorskip("peft", reason="LoRA needs the extra inkfold[lora]")
    info, network = trained(name, part)
    plain = Network(info, HeadModule(MLP, network.head.tensors())).eval()
    before = plain.backbone(images_for(info)).clone()
    found = plain.backbone.load_state_dict(network.changes(), strict=False)
    assert not found.unexpected_keys
    with torch.no_grad():
        features = plain.backbone(images_for(info))
        np.testing.assert_allclose(plain(images_for(info))[0], network(images_for(info))[0], atol=2e-5)
        expected = network(images_for(info))[0].softmax(1)
    assert not torch.allclose(before, features, atol=1e-5), "training changed something"
    np.testing.assert_allclose(head_probs(network.head.tensors(), MLP, features.numpy(), 0), expected, atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
def test_only_the_last_blocks_change_and_what_is_frozen_keeps_its_statistics(name):
    info, network = trained(name, "last_blocks")
    own, changes = build_model(info).state_dict(), network.changes()
    now = network.backbone.state_dict()
    assert 0 < len(changes) < len(own)
    assert all(torch.equal(now[name], values) for name, values in own.items() if name not in changes)
    assert any(not torch.equal(now[name], own[name]) for name in changes)


def test_more_last_blocks_are_more_parameters_up_to_all_blocks():
    info = info_of("test_resnet")
    heads = heads_for(info)
    counts = [
        len(Network(info, HeadModule(MLP, heads), FinetuneSettings(part="last_blocks", blocks=n)).changes())
        for n in (1, 2, 3, 99)
    ]
    everything = len(Network(info, HeadModule(MLP, heads), FinetuneSettings(part="all")).changes())
    assert counts == sorted(counts)
    assert counts[0] < counts[1] < counts[-1] == everything


def test_lora_trains_a_small_part_and_the_head():
    pytest.importorskip("peft", reason="LoRA needs the extra inkfold[lora]")
    info = info_of("test_vit")
    network = Network(info, HeadModule(MLP, heads_for(info)), LORA)
    names = [name for name, values in network.named_parameters() if values.requires_grad]
    assert all(".lora_" in name or name.startswith("head.") for name in names)
    assert any(".lora_" in name for name in names)
    again, other = (Network(info, HeadModule(MLP, heads_for(info)), LORA, seed) for seed in (0, 1))
    first = next(name for name in names if ".lora_A" in name)
    assert torch.equal(network.get_parameter(first), again.get_parameter(first))
    assert not torch.equal(network.get_parameter(first), other.get_parameter(first))
    before = build_model(info).state_dict()
    for name, values in network.changes().items():  # the additions start at zero
        torch.testing.assert_close(values, before[name])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("beit_base_patch16_224", {"embed_dim": 32, "depth": 2, "num_heads": 2}),  # takes layers' weights past the layers
        ("test_nfnet", {}),  # standardises its convolutions' weights
    ],
)
def test_lora_merges_into_whatever_it_adds_to(name, arguments):
    pytest.importorskip("peft", reason="LoRA needs the extra inkfold[lora]")
    info = resolve_backbone(BackboneSpec(name=name, weights="untrained", model_args=arguments))
    network = Network(info, HeadModule(MLP, heads_for(info)), LORA)
    for parameter, values in network.named_parameters():
        if ".lora_B" in parameter:
            torch.nn.init.normal_(values)
    plain = Network(info, HeadModule(MLP, network.head.tensors()))
    plain.backbone.load_state_dict(network.changes(), strict=False)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images_for(info)), plain.eval()(images_for(info)), atol=1e-4, rtol=1e-4)


def test_rates_fall_from_layer_to_layer_and_norms_and_biases_have_no_decay():
    info = info_of("test_vit")
    network = Network(info, HeadModule(MLP, heads_for(info)), FinetuneSettings(part="all"))
    groups = network.parameter_groups(0.05, 0.5, 3.0)
    placed = [one for group in groups for one in group["params"]]
    assert len(placed) == len({id(one) for one in placed}) == len(list(network.parameters()))
    for group in groups:
        assert group["weight_decay"] in (0.0, 0.05)
        if group["weight_decay"]:
            assert all(one.ndim > 1 for one in group["params"])
    scales = {group["lr_scale"] for group in groups[:-2]}
    assert max(scales) == 1.0
    assert all(any(abs(scale - 0.5**power) < 1e-9 for power in range(20)) for scale in scales)
    assert [group["lr_scale"] for group in groups[-2:]] == [3.0, 3.0]


@pytest.mark.parametrize("scaling", ["none", "standardise", "normalise"])
@pytest.mark.parametrize("spec", [head_spec(), MLP, head_spec("mlp", (8,), activation="gelu"), head_spec("cosine")], ids=str)
def test_a_head_as_a_module_predicts_as_in_numpy(spec, scaling):
    rng = np.random.default_rng(0)
    spec = replace(spec, scaling=scaling)
    fitted = init_heads(spec, 6, CLASSES, [(1,), (2,)])
    if spec.kind == "cosine":
        fitted.pop("temperature")
    if scaling == "standardise":
        fitted |= {name: rng.uniform(0.5, 2, (2, 1, 6)).astype(np.float32) for name in ("mean", "scale")}
    heads, features = start_heads(spec, fitted, [(1,), (2,)]), rng.normal(size=(7, 6)).astype(np.float32)
    for head in range(2):
        module = HeadModule(spec, heads, head).eval()
        with torch.no_grad():
            probs = module(torch.from_numpy(features)).softmax(1).numpy()
        np.testing.assert_allclose(probs, head_probs(heads, spec, features, head), atol=2e-6)
        np.testing.assert_allclose(head_probs(module.tensors(), spec, features, 0), probs, atol=2e-6)


def test_interpolation_ends_where_it_says():
    info, network = trained("test_resnet", "all")
    changes = {name: values.clone() for name, values in network.changes().items()}
    start = pretrained_values(info, changes)
    own = build_model(info).state_dict()
    for name, values in interpolated(start, changes, 1.0).items():
        assert torch.equal(values, changes[name])
    for name, values in interpolated(start, changes, 0.0).items():
        if values.is_floating_point():
            torch.testing.assert_close(values, own[name])
    half = interpolated(start, changes, 0.5)
    name = next(name for name, values in changes.items() if values.is_floating_point())
    torch.testing.assert_close(half[name], (own[name] + changes[name]) / 2)


declare_missing_operators()  # peft brings torchvision in

BEIT = "beit_base_patch16_224"


def untrained_info(name):
    return resolve_backbone(BackboneSpec(name=name, weights="untrained"))


@pytest.mark.parametrize(
    ("name", "part", "checkpointing", "message"),
    [
        ("vgg11", FinetuneSettings(part="all"), True, r"finetune\.checkpointing: timm can't do so with 'vgg11"),
        (
            "poolformer_s12",
            FinetuneSettings(part="last_blocks"),
            False,
            r"timm doesn't know the blocks of 'poolformer_s12",
        ),
        ("test_resnet", FinetuneSettings(part="all", drop_path=0.1), False, None),
        ("vgg11", FinetuneSettings(part="all", drop_path=0.1), False, "can't be built with {'drop_path_rate': 0.1}"),
    ],
)
def test_what_a_backbone_cant_be_trained_for_is_refused(name, part, checkpointing, message):
    if message is None:
        check_trainable(untrained_info(name), part.model_copy(update={"checkpointing": checkpointing}))
        return
    with pytest.raises(RecipeError, match=message):
        check_trainable(untrained_info(name), part.model_copy(update={"checkpointing": checkpointing}))


@pytest.mark.parametrize("kind", ["last_blocks", "lora", "all"])
@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet", "test_nfnet", BEIT, "eva02_tiny_patch14_224"])
def test_what_can_be_trained_passes(name, kind):
    if kind == "lora":
        pytest.importorskip("peft", reason="LoRA needs the extra inkfold[lora]")
    check_trainable(untrained_info(name), FinetuneSettings(part=kind, checkpointing=True))


def test_additions_that_nothing_goes_through_are_refused(monkeypatch):
    pytest.importorskip("peft", reason="LoRA needs the extra inkfold[lora]")

    def bypassing_the_additions(info, part):
        model = trainable_backbone(info, part)
        for module in model.modules():
            if hasattr(module, "qkv_bias_separate"):
                module.qkv_bias_separate = False
        return model

    monkeypatch.setattr("inkfold.finetune.network.trainable_backbone", bypassing_the_additions)
    with pytest.raises(RecipeError, match=r"24 of LoRA's additions to 'beit_base.* \(blocks\.0\.attn\.qkv\.lora_A"):
        check_trainable(untrained_info(BEIT), FinetuneSettings(part="lora"))


def test_nothing_is_computed_and_nothing_random_is_drawn():
    before = torch.random.get_rng_state()
    check_trainable(untrained_info("eva_giant_patch14_336"), FinetuneSettings(part="all", drop_path=0.1, checkpointing=True))
    assert torch.equal(torch.random.get_rng_state(), before)
