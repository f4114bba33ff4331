"""Ways to draw a drawing again, for the tests of what tells copies."""

import io

import numpy as np
from PIL import Image, ImageOps

from inkfold.data.synthetic import draw_sketch
from inkfold.images.preprocess import paper_colour


def drawing(name="fish", index=0, size_px=128):
    return draw_sketch(name, seed=5, index=index, size_px=size_px)


def turned(pixels, degrees):
    image = Image.fromarray(pixels).rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=int(paper_colour(pixels)))
    return np.asarray(image)


def scaled(pixels, factor):
    side = round(len(pixels) * factor)
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def with_margins(pixels):
    return np.asarray(ImageOps.expand(Image.fromarray(pixels), (40, 10, 5, 60), int(paper_colour(pixels))))


def as_jpeg(pixels, quality=60):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


COPIES = {
    "mirrored": lambda pixels: pixels[:, ::-1],
    "upside down": lambda pixels: pixels[::-1],
    "turned by 90 degrees": lambda pixels: np.rot90(pixels, -1),
    "turned by 180 degrees": lambda pixels: pixels[::-1, ::-1],
    "turned by -90 degrees": np.rot90,
    "turned by 7 degrees": lambda pixels: turned(pixels, -7),
    "mirrored and turned by 83 degrees": lambda pixels: turned(pixels[:, ::-1], 83),
    "the same picture": as_jpeg,
    "half": lambda pixels: scaled(pixels, 0.5),
    "larger": lambda pixels: scaled(pixels, 1.7),
    "margins": with_margins,
    "inverted": lambda pixels: 255 - pixels,
    "all": lambda pixels: as_jpeg(with_margins(scaled(turned(pixels[:, ::-1], -7), 0.7))),
}
