"""Makes pictures of drawings as people take them: on white, ruled or coloured paper, in uneven light, small, on a table.

A simulation for measuring how a classifier reads such pictures, not an augmentation for training. Each picture is a pure
function of the drawing, the kind, and the stream of random numbers. `PHOTOGRAPHS` documents the kinds by their parameters.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from inkfold.augment.camera import CameraSettings, SceneSettings, expose, lay_page, light_scene, page_corners
from inkfold.augment.page import Interval, PageSettings, draw_page
from inkfold.augment.rng import Draws
from inkfold.images.decode import Pixels

PHOTOGRAPHS_VERSION = 1  # part of what caches go by: raise it whenever a picture changes
HIDDEN = 0.1  # share of the picture's side that the page goes beyond each edge where no table is seen
EDGE_KEPT = 0.03  # share of a page's side that no drawing comes nearer to the page's edge than


@dataclass(frozen=True, slots=True)
class PhotographSettings:
    """One kind of picture.

    Attributes:
        about: What the pictures look like, in one line.
        page: What the paper looks like and where the drawing is on it.
        scene: Where the page lies and how it is lit.
        camera: What the camera or the scanner adds.
        aspect: Height by width of the picture, low and high.
        size_px: Longer side of the picture in px, low and high.
        view_mm: What the picture's longer side shows of the paper, in mm, low and high: it decides how far apart lines are.
    """

    about: str
    page: PageSettings = field(default_factory=PageSettings)
    scene: SceneSettings = field(default_factory=SceneSettings)
    camera: CameraSettings = field(default_factory=CameraSettings)
    aspect: Interval = (1, 1)
    size_px: Interval = (500, 1000)
    view_mm: Interval = (100, 297)


_DIGITAL = PageSettings(paper_shade=(5, 5), texture=(0, 0), pens=())  # 255 and the drawing's own colours
_EVEN = SceneSettings(turn_degrees=2, skew=0.01, light=(0.88, 1), vignette=(0, 0.06), exposure=(0.88, 1), warmth=(0, 0.05))
_UNEVEN = SceneSettings(
    turn_degrees=4, skew=0.03, light=(0.45, 0.85), vignette=(0.05, 0.35), exposure=(0.6, 1), warmth=(0, 0.2)
)
_SHARP = CameraSettings(focus=(0.3, 0.8), grain=(1, 3), jpeg=(75, 92))
_PHONE = CameraSettings(focus=(0.5, 1.6), motion=(0, 4), grain=(3, 10), spots=(0, 0.3), jpeg=(40, 90))
_PENS = ("felt_pen", "ball_pen", "weak_ink", "pencil")
_FRAMED: Interval = (0.75, 1.33)

PHOTOGRAPHS: dict[str, PhotographSettings] = {
    "clean": PhotographSettings("the drawing itself, unchanged"),
    "photographed": PhotographSettings(
        "a phone's picture: uneven light, weak ink, blur and grain", PageSettings(pens=_PENS), _UNEVEN, _PHONE, _FRAMED
    ),
    "shadow": PhotographSettings(
        "the shadow of a hand, a phone or a head falls on the page",
        PageSettings(pens=("felt_pen", "ball_pen")),
        SceneSettings(
            turn_degrees=3,
            skew=0.02,
            light=(0.7, 0.95),
            vignette=(0, 0.2),
            shadow=(0.4, 0.75),
            exposure=(0.75, 1),
            warmth=(0, 0.15),
        ),
        CameraSettings(focus=(0.3, 1), grain=(2, 6), jpeg=(60, 92)),
        _FRAMED,
    ),
    "grainy": PhotographSettings(
        "much noise on an evenly lit page",
        PageSettings(pens=()),
        camera=CameraSettings(focus=(0.2, 0.6), grain=(20, 32), spots=(0.3, 0.6)),
        size_px=(256, 512),
    ),
    "ruled": PhotographSettings(
        "lines 8 mm apart, mostly with a red margin", PageSettings(pens=_PENS[:2], ruling="ruled"), _EVEN, _SHARP, _FRAMED
    ),
    "squared": PhotographSettings("a grid of 5 mm", PageSettings(pens=_PENS[:2], ruling="squared"), _EVEN, _SHARP, _FRAMED),
    "dotted": PhotographSettings("dots 5 mm apart", PageSettings(pens=_PENS[:2], ruling="dots"), _EVEN, _SHARP, _FRAMED),
    "small": PhotographSettings(
        "20 to 50 % of a clean page's side, anywhere",
        PageSettings(paper_shade=(5, 5), texture=(0, 0), pens=(), fill=(0.2, 0.5)),
        view_mm=(297, 297),
    ),
    "small_photographed": PhotographSettings(
        "20 to 50 % of the side of a phone's picture",
        PageSettings(pens=_PENS, fill=(0.2, 0.5)),
        _UNEVEN,
        _PHONE,
        _FRAMED,
        size_px=(800, 1000),
        view_mm=(200, 297),
    ),
    "pencil": PhotographSettings("pencil, 90 to 170 of 255", PageSettings(pens=("pencil",)), _EVEN, _SHARP, _FRAMED),
    "coloured_paper": PhotographSettings(
        "cream, recycled, yellow, blue, pink or brown paper",
        PageSettings(
            papers=("cream", "recycled", "legal", "blue", "pink", "kraft"), texture=(1, 4), pens=("felt_pen", "ball_pen")
        ),
        _EVEN,
        _SHARP,
        _FRAMED,
    ),
    "page_on_table": PhotographSettings(
        "a whole page, turned, on a darker or lighter table",
        PageSettings(pens=("felt_pen", "ball_pen"), fill=(0.4, 0.9)),
        SceneSettings((0.05, 0.25), 6, 0.03, light=(0.7, 0.95), vignette=(0, 0.15), exposure=(0.75, 1), warmth=(0, 0.15)),
        CameraSettings(focus=(0.3, 1), grain=(2, 5), jpeg=(60, 92)),
        (0.75, 1.33),
        size_px=(700, 1000),
        view_mm=(297, 400),
    ),
    "holes": PhotographSettings(
        "four punched holes, and mostly a stamp or a page number in a corner",
        PageSettings(pens=_PENS[:2], fill=(0.5, 0.7), centred=True, holes=4, corner=0.5),
        _EVEN,
        _SHARP,
        (0.71, 1.41),
        view_mm=(250, 297),
    ),
    "specks": PhotographSettings(
        "10 to 40 specks of dust", PageSettings(pens=_PENS[:2], fill=(0.4, 0.8), specks=(10, 40)), _EVEN, _SHARP, _FRAMED
    ),
    "scanned": PhotographSettings(
        "a scan with a dark border, some dust and mostly a stamp or a page number",
        PageSettings(paper_shade=(0, 5), pens=_PENS, fill=(0.4, 0.8), centred=True, specks=(0, 8), corner=0.5),
        SceneSettings(turn_degrees=1.5),
        CameraSettings(focus=(0.2, 0.5), grain=(0, 2), jpeg=(60, 92), border=(0.01, 0.04)),
        (0.71, 1.41),
        view_mm=(200, 297),
    ),
}


def photograph(
    pixels: Pixels, kind: str | PhotographSettings, draws: Draws, size_px: int | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Make a picture of a drawing on paper.

    Args:
        pixels: The drawing, dark ink on white, (h, w) or (h, w, 3), of any size.
        kind: A name of `PHOTOGRAPHS`, or parameters.
        draws: Source of all randomness, such as `Draws(b"any name")`; it advances.
        size_px: Longer side of the picture, in px; None draws it from the kind's interval. `clean` keeps the drawing's own.

    Returns:
        The picture, RGB.
    """
    if kind == "clean":
        return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
    settings = PHOTOGRAPHS[kind] if isinstance(kind, str) else kind
    longer = draws.uniform(*settings.size_px)
    longer = longer if size_px is None else size_px
    aspect = draws.uniform(*settings.aspect)
    shape = round(longer * min(1, aspect)), round(longer * min(1, 1 / aspect))
    px_per_mm = longer / draws.uniform(*settings.view_mm)
    corners = page_corners(settings.scene, shape, HIDDEN, draws)
    height, width = (round(side) for side in _sides(corners))
    hidden = EDGE_KEPT if settings.scene.table else 0.5 - (0.5 - EDGE_KEPT) / (1 + 2 * HIDDEN)
    page = draw_page(pixels, settings.page, (height, width, round(hidden * height), round(hidden * width)), px_per_mm, draws)
    picture = lay_page(page, corners, shape, draws)
    return expose(light_scene(picture, settings.scene, draws), settings.camera, draws)


def _sides(corners: np.ndarray) -> tuple[float, float]:
    """Height and width of a page from its corners: the longer one of each two sides that face each other."""
    lengths = np.linalg.norm(corners - np.roll(corners, -1, 0), axis=1)
    return float(max(lengths[1], lengths[3])), float(max(lengths[0], lengths[2]))
