"""Where the pixel store, the feature bank and the backbones' descriptions live: INKFOLD_HOME, else the cache directory."""

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """Find inkfold's directory for what can be computed again.

    Returns:
        `INKFOLD_HOME` where it is set, else the platform's cache directory; it need not exist yet.
    """
    given = os.environ.get("INKFOLD_HOME")
    return Path(given).expanduser() if given else platformdirs.user_cache_path("inkfold", appauthor=False)
