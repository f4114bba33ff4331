"""Files that are whole or absent, digests, and the cache on disk: rows in shards, and the pixel store on top of them."""

from typing import TYPE_CHECKING

from inkfold.lazy import lazy_names

if TYPE_CHECKING:
    from inkfold.storage.cache import home as home
    from inkfold.storage.cache import list_cache as list_cache
    from inkfold.storage.cache import prune_cache as prune_cache
    from inkfold.storage.pixels import ImageStore as ImageStore
    from inkfold.storage.shards import ShardSet as ShardSet

__getattr__, __dir__ = lazy_names(
    __name__, {"ImageStore": "pixels", "ShardSet": "shards", "home": "cache", "list_cache": "cache", "prune_cache": "cache"}
)
