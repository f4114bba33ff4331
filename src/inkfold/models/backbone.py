"""timm's models as feature extractors: uint8 drawings in, the vectors that a classifier on the model would get out.

A backbone is resolved before it is built: its weights become a file, the file a digest, and everything that decides its
features a `BackboneInfo`, which is the main part of the feature bank's key. A run whose features are all in the bank
never imports timm.
"""

import contextlib
import ctypes
import logging
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, Float32, Shaped, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file

from inkfold.errors import RecipeError, WeightsError
from inkfold.images.decode import to_grey
from inkfold.models import ink_small as inksmall
from inkfold.models.layers import features_of, layer_widths
from inkfold.models.torchvision_compat import declare_missing_operators
from inkfold.models.weights import BackboneInfo, pretrained_overlay

log = logging.getLogger("inkfold.models")

# On a CPU as many forwards run at once as there are cores: large activations leave the caches, and glibc gives a thread's
# pieces of over 64 MB back after each layer. On small drawings the calls of a forward would weigh more than its work.
CPU_BATCH_SIZE, CPU_BATCH_SIZE_SMALL, SMALL_PX = 8, 32, 128
GPU_BATCH_SIZE = 128


def choose_device(wanted: str = "auto") -> torch.device:
    """Choose the device of the backbone: CUDA, otherwise Apple's MPS, otherwise the CPU.

    Args:
        wanted: `auto`, `cpu`, `cuda` or `mps`.

    Returns:
        An available device.

    Raises:
        RecipeError: If the wanted device isn't available.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, is_there in there.items() if is_there))
    if not there[wanted]:
        raise RecipeError(f"backbone.device: got '{wanted}', but PyTorch sees no such device. Use auto or cpu.")
    return torch.device(wanted)


def choose_precision(wanted: str, device: torch.device) -> str:
    """Choose the precision: bfloat16 where the processor has instructions for it, else float32.

    Emulated bfloat16 is several times slower than float32, so a processor without AVX512-BF16 or AMX takes float32.

    Args:
        wanted: `auto`, `float32` or `bfloat16`.
        device: Where the backbone runs; its kind and its instructions decide.

    Returns:
        `float32` or `bfloat16`.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device)[0] >= 8
    elif device.type == "mps":
        fast = False
    else:
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        fast = any(getattr(torch.cpu, probe)() for probe in probes if hasattr(torch.cpu, probe))
    chosen = "bfloat16" if fast else "float32"
    log.info(
        "precision auto: %s, as this %s computes bfloat16 %s", chosen, device.type, "fast" if fast else "slowly or not at all"
    )
    return chosen


def choose_batch_size(device: str, image_size: int) -> int:
    """Choose the number of drawings per forward pass.

    It depends on nothing else, since it can change the last bit of a few features.
    """
    if device != "cpu":
        return GPU_BATCH_SIZE
    return CPU_BATCH_SIZE if image_size > SMALL_PX else CPU_BATCH_SIZE_SMALL


def choose_training_precision(wanted: str, device: torch.device) -> str:
    """Choose the precision of training: as for features, but float16 on GPUs without bfloat16.

    Args:
        wanted: `auto`, `float32`, `bfloat16` or `float16`.
        device: Where the network is trained; its kind, and a GPU's support of bfloat16, decide.

    Returns:
        `float32`, `bfloat16` or `float16`.

    Raises:
        RecipeError: If float16 is wanted without a GPU, whose loss scaling it needs.
    """
    if wanted == "float16" and device.type != "cuda":
        raise RecipeError(f"finetune.precision: float16 needs a GPU, and this runs on {device.type}. Take auto.")
    chosen = choose_precision(wanted, device)
    return "float16" if wanted == "auto" and device.type == "cuda" and chosen == "float32" else chosen


class NetworkInput:
    """Normalises uint8 drawings to a network's input, with as many channels as its mean has.

    Args:
        info: The backbone, which has mean and std.
        device: Where the normalised drawings are put: a CPU or a GPU.
    """

    def __init__(self, info: BackboneInfo, device: torch.device) -> None:
        scale = 1 / (255 * torch.tensor(info.std))
        self.device = device
        self._scale = scale.view(1, -1, 1, 1).to(device)
        self._shift = (-255 * torch.tensor(info.mean) * scale).view(1, -1, 1, 1).to(device)

    def of(self, pixels: UInt8[np.ndarray, "n size size *channels"]) -> Float32[torch.Tensor, "n channels size size"]:
        """Scale pixels and normalise them by the network's mean and standard deviation.

        Args:
            pixels: Grey (n, size, size) or RGB (n, size, size, 3).

        Returns:
            The network's channels, three or, for a network of grey drawings, one; on the device.
        """
        if self._scale.shape[1] == 1 and pixels.ndim == 4:
            pixels = np.array(to_grey(pixels.reshape(-1, *pixels.shape[2:]))).reshape(pixels.shape[:3])  # as one tall picture
        return self.of_tensor(torch.from_numpy(pixels))

    def of_tensor(self, pixels: Shaped[torch.Tensor, "n size size *channels"]) -> Float32[torch.Tensor, "n channels size size"]:
        """Normalise pixels that are a tensor already, of which gradients may be wanted; see `of`.

        Args:
            pixels: Levels 0 to 255, grey (n, size, size) or RGB (n, size, size, 3); grey for a network of grey drawings.
        """
        images = pixels.to(self.device)
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
        return images.float() * self._scale + self._shift


class Backbone:
    """A frozen timm model, ready to extract.

    Args:
        info: The resolved backbone, from `weights.resolve_backbone`.
        device: Where it runs: a CPU or a GPU.
        batch_size: Drawings per forward pass; None chooses for the device.

    Raises:
        WeightsError: If the weights aren't this model's.
    """

    def __init__(self, info: BackboneInfo, device: torch.device, batch_size: int | None = None) -> None:
        self.info = info
        self.device = device
        self.batch_size = batch_size or choose_batch_size(device.type, info.image_size)
        self.dtype = torch.bfloat16 if info.precision == "bfloat16" else torch.float32
        model = build_model(info).to(device=device, dtype=self.dtype)
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._input = NetworkInput(info, device)

    def extract(self, pixels: UInt8[np.ndarray, "n size size *channels"]) -> Float16[np.ndarray, "n d"]:
        """Compute the features of drawings, in their order.

        All forward passes have the same shape, the last one is padded, so that a drawing's features don't depend on the
        other drawings.

        Args:
            pixels: Grey (n, size, size) or RGB (n, size, size, 3).

        Returns:
            float16 features, in the order of the drawings.

        Raises:
            WeightsError: If a feature isn't finite.
            RecipeError: If the model takes no drawings of this size.
        """
        parts = []
        start = 0
        while start < len(pixels):
            batch = pixels[start : start + self.batch_size]
            try:
                parts.append(self._forward(batch))
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise
                self.batch_size //= 2
                log.info("out of memory on %s: continuing with %d drawings in each forward pass", self.device, self.batch_size)
                torch.cuda.empty_cache()
                continue
            except AssertionError as error:  # timm's own checks of the input
                raise RecipeError(f"backbone '{self.info.name}' can't take {pixels.shape[1]} px drawings: {error}") from None
            start += len(batch)
        return np.concatenate(parts)

    @torch.inference_mode()
    def _forward(self, batch: np.ndarray) -> np.ndarray:
        count = len(batch)
        images = self._input.of(batch).to(self.dtype)
        if count < self.batch_size:
            images = torch.cat([images, images[:1].expand(self.batch_size - count, -1, -1, -1)])
        images = images.contiguous(memory_format=torch.channels_last)
        features = features_of(self.model, images, self.info.features).float()[:count].cpu().numpy()
        if features.ndim != 2 or not np.isfinite(features).all() or np.abs(features).max() > np.finfo(np.float16).max:
            raise WeightsError(
                f"backbone '{self.info.name}' gave features of shape {features.shape} that are not all finite in float16. "
                "Check mean and std, or try backbone.precision=float32."
            )
        halves: np.ndarray = features.astype(np.float16)
        return halves


def build_model(info: BackboneInfo, drop_path: float = 0.0) -> torch.nn.Module:
    """Build timm's model without a classifier, and load its weights and the parameters that fine-tuning changed.

    Args:
        info: The model's name in timm, its arguments, image size and weights.
        drop_path: Share of residual branches that training skips, 0 to 1.

    Returns:
        The model in eval mode, on the CPU, in float32.

    Raises:
        WeightsError: If weights are missing from the file or have other shapes.
        RecipeError: If the model can't be built with these arguments or this size.
    """
    declare_missing_operators()
    import timm  # noqa: PLC0415 - seconds

    arguments = dict(info.model_args)
    if info.resize_embeddings:
        arguments["img_size"] = info.image_size
    if drop_path:
        arguments["drop_path_rate"] = drop_path
    with torch.random.fork_rng(devices=[]), _watch_loading() as messages:
        torch.manual_seed(info.init_seed or 0)
        try:
            model = timm.create_model(
                inksmall.timm_name(info.name),
                pretrained=info.weights_file is not None,
                pretrained_cfg_overlay=pretrained_overlay(info),
                num_classes=0,
                **arguments,
            )
        except (TypeError, AssertionError) as error:
            raise RecipeError(f"backbone '{info.name}' can't be built with {arguments}: {error}") from None
        except Exception as error:
            raise WeightsError(f"{info.weights_source}: not weights of '{info.name}': {error}") from None
    if messages:
        raise WeightsError(f"{info.weights_source}: not weights of '{info.name}': {messages[0][:500]}")
    _load_changes(model, info)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


def _load_changes(model: torch.nn.Module, info: BackboneInfo) -> None:
    """Load the parameters that fine-tuning changed."""
    if info.changes_file is None:
        return
    try:
        missing = model.load_state_dict(load_file(info.changes_file), strict=False).unexpected_keys
    except (SafetensorError, OSError, RuntimeError) as error:
        raise WeightsError(f"{info.changes_file}: not what fine-tuning changed of '{info.name}': {error}") from None
    if missing:
        raise WeightsError(f"{info.changes_file}: '{info.name}' has no {', '.join(missing[:5])}. Train again.")


def takes_any_size(name: str) -> bool:
    """Return whether a model takes drawings of other sizes than its own, as convolutional networks do."""
    declare_missing_operators()
    import timm  # noqa: PLC0415 - seconds

    timm_name = inksmall.timm_name(name)
    if not timm.is_model(timm_name.partition(".")[0]):
        return False
    config = timm.get_pretrained_cfg(timm_name, allow_unregistered=True)
    return config is None or not config.fixed_input_size


def count_parameters(info: BackboneInfo) -> int:
    """Count a backbone's parameters without its classifier; allocates no memory for them."""
    return sum(parameter.numel() for parameter in model_without_memory(info).parameters())


def model_without_memory(info: BackboneInfo) -> torch.nn.Module:
    """Build a backbone on PyTorch's `meta` device, where tensors have shapes alone."""
    declare_missing_operators()
    import timm  # noqa: PLC0415 - seconds

    arguments = dict(info.model_args)
    if info.resize_embeddings:
        arguments["img_size"] = info.image_size
    with torch.device("meta"):
        model: torch.nn.Module = timm.create_model(inksmall.timm_name(info.name), pretrained=False, num_classes=0, **arguments)
    return model


def widths_of_layers(info: BackboneInfo) -> tuple[int, ...]:
    """Find the widths of the parts of a backbone's features, one per layer; its weights aren't read.

    Args:
        info: The resolved backbone, which takes features of its layers.

    Returns:
        The widths in the features' order; empty for a backbone that can't be built, since building it says why.

    Raises:
        RecipeError: If timm can't return them.
    """
    try:
        model = model_without_memory(info)
    except (TypeError, AssertionError, RuntimeError):
        return ()
    return layer_widths(model.eval(), info.name, info.image_size, len(info.mean))


def count_gmacs(name: str) -> float | None:
    """Count a model's multiplications with an addition in one forward pass at timm's own size, in 10^9.

    No weights are allocated. None where it can't be counted so, as with a few models that look at their input.
    """
    declare_missing_operators()
    import timm  # noqa: PLC0415 - seconds
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    try:
        with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model = timm.create_model(inksmall.timm_name(name), pretrained=False, num_classes=0).eval()
            model(torch.zeros(1, *model.pretrained_cfg["input_size"]))
    except Exception as error:  # whatever a model does that a tensor without values can't
        log.debug("%s: its cost can't be counted: %s", name, error)
        return None
    return float(counter.get_total_flops() / 2e9)


@contextlib.contextmanager
def _watch_loading() -> Iterator[list[str]]:
    """Collect timm's messages about missing keys: with another number of classes it loads non-strictly and only logs them."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if text.startswith("Missing keys"):
                messages.append(text)

    logger = logging.getLogger("timm.models")
    handler, level, propagate = Collector(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


@contextlib.contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep glibc from returning freed memory to the system while the block runs.

    Otherwise every large activation is mapped, zeroed page by page and unmapped again at each layer, which takes over
    half of a small network's time on a CPU (measured in benchmarks/extract.py). Does nothing without glibc.
    """
    mallopt = _mallopt()
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    defaults = {m_trim_threshold: 128 << 10, m_top_pad: 128 << 10, m_mmap_max: 65536}
    if mallopt is None:
        yield
        return
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)
    mallopt(m_top_pad, 64 << 20)
    try:
        yield
    finally:
        for parameter, value in defaults.items():
            mallopt(parameter, value)
        ctypes.CDLL(None).malloc_trim(0)


def _mallopt() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc.mallopt if hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version") else None
