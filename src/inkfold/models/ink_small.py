"""`ink-small`, a backbone for drawings: its architecture, registered with timm, and its weights, which come with inkfold.

It is built of timm's own blocks, so that whatever works on a timm model works on it. docs/ink-small.md has its training data
and its limits.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inkfold.errors import WeightsError
from inkfold.models.torchvision_compat import declare_missing_operators
from inkfold.storage.files import write_bytes

if TYPE_CHECKING:
    import torch

NAME = "ink-small"
TIMM_NAME = "ink_small"  # timm takes a function's name
WEIGHTS = Path(__file__).with_name("ink-small.safetensors")
SIZE_PX = 64


def timm_name(name: str) -> str:
    """Return timm's name of a backbone; registers `ink-small` with timm if that is the one."""
    if name != NAME:
        return name
    _register()
    return TIMM_NAME


def _register() -> None:
    declare_missing_operators()
    from timm.models import is_model, register_model  # noqa: PLC0415 - seconds

    if not is_model(TIMM_NAME):
        sys.modules[__name__].default_cfgs = _configurations()  # type: ignore[attr-defined]
        register_model(ink_small)


def ink_small(pretrained: bool = False, **arguments: Any) -> Any:
    """Build `ink-small`; called by timm as its own model functions are.

    Args:
        pretrained: Whether weights are loaded from the file that timm's configuration or its overlay names.
        arguments: Arguments of timm's `build_model_with_cfg` and of `ByobNet`.

    Returns:
        The model; its input has one grey channel unless `in_chans` says otherwise.
    """
    from timm.models import build_model_with_cfg  # noqa: PLC0415 - seconds
    from timm.models.byobnet import ByobNet  # noqa: PLC0415

    arguments = {"in_chans": 1, **arguments}
    return build_model_with_cfg(
        ByobNet, TIMM_NAME, pretrained, model_cfg=_architecture(), feature_cfg={"flatten_sequential": True}, **arguments
    )


def _architecture() -> Any:
    """Residual blocks of plain 3 x 3 convolutions: on a CPU they do several times the work a second of depthwise ones."""
    from timm.models.byobnet import ByoBlockCfg, ByoModelCfg  # noqa: PLC0415 - seconds

    stages = ((1, 32, 1, 1.0), (2, 64, 2, 1.0), (2, 128, 2, 0.5), (2, 256, 2, 0.375))
    return ByoModelCfg(
        blocks=tuple(ByoBlockCfg("basic", d=depth, c=width, s=stride, br=ratio) for depth, width, stride, ratio in stages),
        stem_chs=32,
        stem_type="3x3",
        stem_pool="",
        num_features=512,
    )


def _configurations() -> Any:
    from timm.models import generate_default_cfgs  # noqa: PLC0415 - seconds

    size = (1, SIZE_PX, SIZE_PX)
    configuration = {
        "input_size": size,
        "num_classes": 0,
        "mean": (1.0,),  # paper becomes 0, which is also what convolutions pad with
        "std": (0.5,),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "first_conv": "stem.conv",
        "classifier": "head.fc",
        "license": "apache-2.0",
    }
    return generate_default_cfgs({f"{TIMM_NAME}.inkfold": configuration})


def write_weights(changes: Path, out: Path) -> None:
    """Write the weights of a trained `ink-small` in the package's format: float16, including the norms' statistics.

    Args:
        changes: A fold's weights in the run that trained it from scratch, `weights/fold0.safetensors`.
        out: Path of the file; an existing one is replaced.

    Raises:
        WeightsError: If a value doesn't fit into float16.
    """
    from safetensors.torch import load_file  # noqa: PLC0415 - torch takes a second

    write_state(load_file(changes), out, str(changes))


def write_state(state: "Mapping[str, torch.Tensor]", out: Path, source: str) -> None:
    """Write tensors of `ink-small` in the package's format: float16, including the norms' statistics.

    Args:
        state: The network's parameters and statistics by their names in timm's model.
        out: Path of the file; an existing one is replaced.
        source: Where the tensors come from, for error messages.

    Raises:
        WeightsError: If a value doesn't fit into float16.
    """
    from safetensors.torch import save  # noqa: PLC0415 - torch takes a second

    tensors = {name: (values.half() if values.is_floating_point() else values).contiguous() for name, values in state.items()}
    lost = [name for name, values in tensors.items() if not values.isfinite().all()]
    if lost:
        raise WeightsError(f"{source}: {', '.join(lost[:5])}: too large for float16. Train again with a lower finetune.lr.")
    write_bytes(out, save(tensors, {"name": NAME}))


if __name__ == "__main__":
    run, path = sys.argv[1:]
    write_weights(Path(run) / "weights/fold0.safetensors", Path(path))
