"""Files that are whole or absent, digests, and the cache on disk: rows in shards, and the pixel store on top of them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inkfold.storage.cache import home as home
    from inkfold.storage.cache import list_cache as list_cache
    from inkfold.storage.cache import prune_cache as prune_cache
    from inkfold.storage.pixels import ImageStore as ImageStore
    from inkfold.storage.shards import ShardSet as ShardSet

_HOMES = {"ImageStore": "pixels", "ShardSet": "shards", "home": "cache", "list_cache": "cache", "prune_cache": "cache"}
__all__ = ["ImageStore", "ShardSet", "home", "list_cache", "prune_cache"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing a module of the package imports no other."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
