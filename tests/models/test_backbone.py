import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from inkfold.errors import RecipeError, WeightsError
from inkfold.images.decode import to_grey
from inkfold.models import backbone as backbone_module
from inkfold.models.backbone import Backbone, NetworkInput, build_model, choose_device, choose_precision, keep_freed_memory
from inkfold.models.torchvision_compat import declare_missing_operators
from inkfold.models.weights import BackboneSpec, resolve_backbone

CPU = torch.device("cpu")
RESNET, VIT, EFFICIENTNET = "test_resnet.r160_in1k", "test_vit2.r160_in1k", "test_efficientnet.r160_in1k"
MOBILENET = "mobilenetv3_small_050.lamb_in1k"


def drawings(count: int, side: int, *, colour: bool = True, seed: int = 0) -> np.ndarray:
    shape = (count, side, side, 3) if colour else (count, side, side)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def extractor(name: str, weights: object = "untrained", batch_size: int = 4, **options: object) -> Backbone:
    return Backbone(resolve_backbone(BackboneSpec(name=name, weights=str(weights), **options)), CPU, batch_size)


def normalised_by_hand(pixels: np.ndarray, mean: object, std: object) -> torch.Tensor:
    scaled = (pixels.astype(np.float64) / 255 - np.array(mean)) / np.array(std)
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))


def timm_model(name: str, **arguments: object) -> torch.nn.Module:
    declare_missing_operators()
    import timm

    return timm.create_model(name, **arguments)


def load_without_classifier(model: torch.nn.Module, file: Path) -> None:
    from safetensors.torch import load_file

    own = model.state_dict()
    states = {name: value for name, value in load_file(file).items() if value.shape == own[name].shape}
    assert len(own) - len(states) == 2  # the classifier's weight and bias, for other numbers of classes
    model.load_state_dict(states, strict=False)


def seen_by_a_new_head(model: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    seen = []
    model.get_classifier().register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.eval()(images)
    return seen[0].numpy()


def assert_close(features: np.ndarray, expected: np.ndarray) -> None:
    """Close enough that two drawings' features can't be confused, as far as float16 tells."""
    assert np.abs(expected - expected.mean(axis=0)).max() > 0.02 * np.abs(expected).max(), "the reference can't tell them apart"
    np.testing.assert_allclose(features, expected, rtol=2e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("name", [RESNET, VIT, EFFICIENTNET, MOBILENET])
def test_features_are_what_a_new_head_on_timm_s_model_would_see(tmp_path, write_weights, name):
    file = write_weights(tmp_path / "a.safetensors", name)
    side = 160 if name == VIT else 64
    backbone = extractor(name, file, image_size=side, mean=(0.2, 0.5, 0.7), std=(0.2, 0.3, 0.4))
    reference = timm_model(name, num_classes=7)
    load_without_classifier(reference, file)
    pixels = drawings(3, side) // np.array([1, 2, 3], np.uint8)[:, None, None, None]
    expected = seen_by_a_new_head(reference, normalised_by_hand(pixels, (0.2, 0.5, 0.7), (0.2, 0.3, 0.4)))
    features = backbone.extract(pixels)
    assert features.dtype == np.float16
    assert features.shape == expected.shape
    assert_close(features.astype(np.float64), expected)


def test_position_embeddings_are_resampled_to_another_size(tmp_path, write_weights):
    from safetensors.torch import load_file

    file = write_weights(tmp_path / "a.safetensors", VIT)
    model = build_model(resolve_backbone(BackboneSpec(name=VIT, weights=str(file), image_size=96)))
    old = load_file(file)["pos_embed"]
    prefix = old.shape[1] - 10 * 10  # 160 px in patches of 16
    grid = old[:, prefix:].reshape(1, 10, 10, -1).permute(0, 3, 1, 2)
    small = torch.nn.functional.interpolate(grid, (6, 6), mode="bicubic", antialias=True)
    expected = torch.cat([old[:, :prefix], small.flatten(2).transpose(1, 2)], dim=1)
    torch.testing.assert_close(model.pos_embed, expected, rtol=1e-5, atol=1e-6)
    reference = timm_model(VIT, num_classes=7, img_size=96)
    states = {key: value for key, value in load_file(file).items() if not key.startswith("head.")}
    reference.load_state_dict(states | {"pos_embed": expected}, strict=False)
    pixels = drawings(2, 96)
    by_hand = seen_by_a_new_head(reference, normalised_by_hand(pixels, [0.5] * 3, [0.5] * 3))
    assert_close(extractor(VIT, file, image_size=96).extract(pixels).astype(np.float64), by_hand)


def test_weights_trained_at_another_size_are_resampled_to_the_model_s(tmp_path, write_weights):
    file = write_weights(tmp_path / "a.safetensors", VIT, img_size=96)
    assert extractor(VIT, file).extract(drawings(1, 160)).shape == (1, 64)


def test_a_grey_drawing_is_one_with_equal_channels(tmp_path, write_weights):
    backbone = extractor(RESNET, write_weights(tmp_path / "a.safetensors", RESNET), mean=(0.2, 0.5, 0.7))
    grey = drawings(5, 64, colour=False)
    coloured = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_array_equal(backbone.extract(grey), backbone.extract(coloured))


@pytest.mark.parametrize("name", [RESNET, VIT, MOBILENET])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_drawing_s_features_do_not_depend_on_its_companions(name, precision):
    backbone = extractor(name, precision=precision)
    side = backbone.info.image_size if name == VIT else 64
    pixels = drawings(10, side)  # two whole batches and a half one
    together = backbone.extract(pixels)
    order = np.random.default_rng(1).permutation(10)
    np.testing.assert_array_equal(backbone.extract(pixels[order]), together[order])
    for i in (0, 3, 9):
        np.testing.assert_array_equal(backbone.extract(pixels[i : i + 1])[0], together[i])
    np.testing.assert_array_equal(backbone.extract(pixels[7:]), together[7:])


def test_every_forward_has_the_same_shape():
    backbone, shapes = extractor(RESNET), []
    backbone.model.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    backbone.extract(drawings(6, 32, colour=False))
    assert shapes == [(4, 3, 32, 32)] * 2


def test_untrained_weights_depend_on_the_seed_alone_and_leave_the_caller_s_random_state():
    state = torch.random.get_rng_state()
    pixels = drawings(2, 64)
    features = [extractor(RESNET, seed=seed).extract(pixels) for seed in (0, 1, 0)]
    np.testing.assert_array_equal(features[0], features[2])
    assert not np.array_equal(features[0], features[1])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_model_is_frozen(tmp_path):
    model = extractor(RESNET).model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_vision_transformer_refuses_a_size_that_patches_do_not_fill():
    with pytest.raises(RecipeError, match=r"100 px.*divisible by patch size \(16\)"):
        extractor(VIT, image_size=100).extract(drawings(1, 100))


def test_arguments_that_the_model_does_not_take_are_refused():
    with pytest.raises(RecipeError, match=r"can't be built with .*no_such_argument"):
        extractor(RESNET, model_args={"no_such_argument": 1})


def test_model_arguments_reach_the_model():
    assert len(extractor(VIT, model_args={"depth": 2}).model.blocks) == 2


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_a_pickle_with_code_in_it_is_refused_and_its_code_not_run(tmp_path, suffix):
    file, ran = tmp_path / f"a{suffix}", tmp_path / "ran"
    torch.save({"conv1.weight": Touch(ran)}, file)
    with pytest.raises(WeightsError, match="weights_only"):
        extractor(RESNET, file)
    assert not ran.exists()
    torch.load(file, weights_only=False)  # this test's own file: shows that a reader with less care would have run it
    assert ran.exists(), "the trap itself must work"


def test_a_pth_of_tensors_gives_the_same_features_as_safetensors(tmp_path, write_weights):
    pixels = drawings(2, 64)
    features = [
        extractor(RESNET, write_weights(tmp_path / f"a{suffix}", RESNET)).extract(pixels) for suffix in (".pth", ".safetensors")
    ]
    np.testing.assert_array_equal(*features)


@pytest.mark.parametrize("arguments", [{}, {"num_classes": 345}, {"num_classes": 0}])
def test_a_checkpoint_loads_whatever_classifier_it_has(tmp_path, write_weights, arguments):
    file = write_weights(tmp_path / "a.safetensors", RESNET, **arguments)
    assert extractor(RESNET, file).extract(drawings(1, 64)).shape == (1, 96)


def test_a_checkpoint_of_another_model_is_refused_with_the_keys_it_lacks(tmp_path, write_weights):
    file = write_weights(tmp_path / "a.safetensors", VIT)
    with pytest.raises(WeightsError, match=r"a\.safetensors: not weights of 'test_resnet.*Missing keys \(conv1"):
        extractor(RESNET, file)


def test_a_checkpoint_without_one_tensor_is_refused(tmp_path, write_weights):
    from safetensors.torch import load_file, save_file

    states = load_file(write_weights(tmp_path / "a.safetensors", RESNET))
    del states["layer2.0.bn1.running_var"]
    save_file(states, tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match=r"Missing keys \(layer2\.0\.bn1\.running_var\)"):
        extractor(RESNET, tmp_path / "b.safetensors")


def test_a_checkpoint_of_a_larger_sister_is_refused(tmp_path, write_weights):
    file = write_weights(tmp_path / "a.safetensors", VIT, depth=2, embed_dim=32)
    with pytest.raises(WeightsError, match="not weights of 'test_vit2"):
        extractor(VIT, file)


@pytest.mark.parametrize("data", [b"", b"no tensors at all"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, data):
    (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(WeightsError, match="not weights of"):
        extractor(RESNET, tmp_path / "a.pth")


def test_timm_s_logger_is_left_as_it_was(tmp_path, write_weights):
    logger = logging.getLogger("timm.models")
    before = (list(logger.handlers), logger.level, logger.propagate)
    extractor(RESNET, write_weights(tmp_path / "a.safetensors", RESNET))
    with pytest.raises(WeightsError):
        extractor(VIT, tmp_path / "a.safetensors")
    assert (list(logger.handlers), logger.level, logger.propagate) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_features_that_float16_can_not_hold_are_refused(value):
    backbone = extractor(RESNET)
    with torch.no_grad():
        backbone.model.layer4[-1].register_forward_hook(lambda module, inputs, output: output * 0 + value)
    with pytest.raises(WeightsError, match=r"not all finite in float16.*backbone\.precision=float32"):
        backbone.extract(drawings(1, 64))


def test_bfloat16_features_are_close_to_those_of_float32(tmp_path, write_weights):
    file, pixels = write_weights(tmp_path / "a.safetensors", RESNET), drawings(8, 64)
    exact, rounded = (
        extractor(RESNET, file, precision=precision).extract(pixels).astype(np.float64) for precision in ("float32", "bfloat16")
    )
    cosines = (exact * rounded).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert cosines.min() > 0.99
    assert not np.array_equal(exact, rounded)


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"),
    [(True, False, "bfloat16"), (False, True, "bfloat16"), (True, True, "bfloat16"), (False, False, "float32")],
)
def test_on_a_processor_bfloat16_needs_its_instructions(monkeypatch, avx512, amx, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)  # raises where PyTorch renamed it
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert choose_precision("auto", CPU) == expected
    assert choose_precision("float32", CPU) == "float32"
    assert choose_precision("bfloat16", CPU) == "bfloat16"


def test_a_pytorch_without_the_probes_takes_float32(monkeypatch):
    for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, probe)
    assert choose_precision("auto", CPU) == "float32"


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_on_a_gpu_bfloat16_needs_ampere(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", torch.device("cuda")) == expected
    assert choose_precision("auto", torch.device("mps")) == "float32"


@pytest.mark.parametrize(("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_fastest_device_that_is_there_is_taken(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device().type == expected
    assert choose_device("cpu").type == "cpu"
    for name, there in (("cuda", cuda), ("mps", mps)):
        if not there:
            with pytest.raises(RecipeError, match=f"got '{name}', but PyTorch sees no such device"):
                choose_device(name)


def test_a_gpu_s_lack_of_memory_halves_the_batch_and_loses_no_drawing(monkeypatch):
    backbone, pixels = extractor(RESNET, batch_size=8), drawings(11, 32)
    expected = extractor(RESNET, batch_size=2).extract(pixels)
    forward = backbone._forward

    def with_little_memory(batch):
        if backbone.batch_size > 2:
            raise torch.OutOfMemoryError("no memory")
        return forward(batch)

    monkeypatch.setattr(backbone, "_forward", with_little_memory)
    np.testing.assert_array_equal(backbone.extract(pixels), expected)
    assert backbone.batch_size == 2


def test_freed_memory_is_kept_only_inside_the_block(monkeypatch):
    # mallopt(3): M_TRIM_THRESHOLD -1, M_TOP_PAD -2, M_MMAP_MAX -4; defaults 128 KiB, 128 KiB, 65536
    settings: dict[int, int] = {}
    monkeypatch.setattr(backbone_module, "_mallopt", lambda: settings.__setitem__)

    def fail_inside():
        with keep_freed_memory():
            assert settings[-4] == 0
            assert settings[-1] > 1 << 30
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail_inside()
    assert settings == {-1: 128 << 10, -2: 128 << 10, -4: 65536}


def test_keeping_freed_memory_changes_no_feature_and_may_be_nested(monkeypatch):
    backbone, pixels = extractor(RESNET), drawings(5, 64)
    expected = backbone.extract(pixels)
    with keep_freed_memory(), keep_freed_memory():
        np.testing.assert_array_equal(backbone.extract(pixels), expected)
    np.testing.assert_array_equal(backbone.extract(pixels), expected)
    monkeypatch.setattr(backbone_module, "_mallopt", lambda: None)
    with keep_freed_memory():
        np.testing.assert_array_equal(backbone.extract(pixels), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_processor_s_features(tmp_path, write_weights):
    info = resolve_backbone(BackboneSpec(name=RESNET, weights=str(write_weights(tmp_path / "a.safetensors", RESNET))))
    pixels = drawings(5, 160)
    on_cpu, on_gpu = (Backbone(info, torch.device(name), 4).extract(pixels) for name in ("cpu", "cuda"))
    assert_close(on_gpu.astype(np.float64), on_cpu.astype(np.float64))


def test_a_network_with_one_channel_sees_colours_as_their_luma():
    one = extractor(RESNET, model_args={"in_chans": 1}, mean=(0.5,), std=(0.25,))
    rgb = drawings(3, 32)
    grey = np.stack([to_grey(drawing) for drawing in rgb])
    np.testing.assert_array_equal(one.extract(rgb), one.extract(grey))
    given = NetworkInput(one.info, CPU).of(grey)
    torch.testing.assert_close(given, torch.from_numpy((grey[:, None] / 255 - 0.5) / 0.25).float())
