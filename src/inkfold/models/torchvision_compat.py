"""Lets torchvision, and so timm, be imported where its compiled operators don't fit the installed PyTorch.

PyPI's torchvision wheel is linked with CUDA. Beside a CPU build of PyTorch its library doesn't load, and `import torchvision`
fails on `operator torchvision::nms does not exist`. inkfold uses no compiled operator, so declaring the two schemas is enough.
"""

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept_alive: list[torch.library.Library] = []  # a Library's declarations go when it is collected


def declare_missing_operators() -> bool:
    """Declare torchvision's operators when importing it fails on them, and return whether; call it before `import timm`."""
    if _kept_alive:
        return True
    try:
        import torchvision  # noqa: F401, PLC0415
    except (RuntimeError, ImportError, AttributeError) as error:
        if "torchvision" not in str(error):
            raise
        _declare()
        return True
    return False


def _declare() -> None:
    import sys  # noqa: PLC0415

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # the failed import leaves half-made modules
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _kept_alive.append(library)
