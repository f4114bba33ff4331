import numpy as np
import pytest
from PIL import Image

from toy import CLASSES


@pytest.fixture(scope="session")
def drawings(frozen_run):
    """The toy's 18 training drawings, their classes and their files, class by class."""
    files = [file for name in CLASSES for file in sorted((frozen_run / "data/train" / name).iterdir())]
    pages = [Image.open(file).convert("L").copy() for file in files]
    return pages, [file.parent.name for file in files], files


@pytest.fixture(scope="session")
def stack(drawings):
    """The same as an array (n, h, w), in an order that mixes the classes, with number classes."""
    pages, names, _ = drawings
    order = np.random.default_rng(0).permutation(len(pages))
    return np.stack([np.asarray(page) for page in pages])[order], np.array([7 * CLASSES.index(name) for name in names])[order]
