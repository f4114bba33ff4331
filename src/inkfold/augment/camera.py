"""Takes a picture of a sheet: its place on a table, the light on it, and what a camera or a scanner adds.

Colours are sRGB values 0..255 as float32. sRGB is nearly a power law, so that light of half the strength is a factor of
0.5 ** (1 / 2.2) here; all ratios of light below are such factors of sRGB values.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from jaxtyping import Float, Float32

from inkfold.augment.page import Interval, Sheet, cloudy_noise, normal_noise
from inkfold.augment.rng import Draws
from inkfold.images.decode import Pixels

TABLES = ((120, 84, 52), (70, 50, 38), (45, 45, 48), (165, 130, 92), (225, 222, 215), (90, 95, 100))
TABLE_CONTRAST = 35  # grey levels between table and paper, so that the page's edge can be seen


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """Where the page lies and how it is lit; every interval is low and high of a uniform distribution.

    Attributes:
        table: Share of the picture's side that the table takes beside the page, on each side; None shows no edge.
        turn_degrees: Largest turn of the page, to either side.
        skew: Largest shift of each of the page's corners, as a share of the picture's side: perspective.
        light: The darkest corner's light by the lightest one's, along a line in any direction, 0..1.
        vignette: Light lost in the corners of the picture, 0..1.
        shadow: Light left within a shadow, 0..1; (1, 1) casts none. It is a hand's, a phone's or that of someone's head.
        shadow_edge: Softness of the shadow's edge: its standard deviation, as a share of the side.
        exposure: Factor of all values: how bright white paper becomes in the best light.
        warmth: Share by which blue is weakened, and green by a third of it, as under a lamp; 0..1.
    """

    table: Interval | None = None
    turn_degrees: float = 0.0
    skew: float = 0.0
    light: Interval = (1, 1)
    vignette: Interval = (0, 0)
    shadow: Interval = (1, 1)
    shadow_edge: Interval = (0.01, 0.05)
    exposure: Interval = (1, 1)
    warmth: Interval = (0, 0)


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """What a camera or a scanner adds; every interval is low and high of a uniform distribution.

    Attributes:
        focus: Standard deviation of the blur, in thousandths of the picture's longer side.
        motion: Length of the camera's motion, in thousandths of the longer side.
        grain: Standard deviation of the sensor's noise, in grey levels.
        spots: Share of the noise's variance that lies in soft spots 3 to 8 px wide, as a camera's smoothing leaves it.
        jpeg: Quality of the JPEG file; None keeps the pixels.
        border: Width of a scanner's dark border along one to three sides, as a share of the side; (0, 0) has none.
    """

    focus: Interval = (0, 0)
    motion: Interval = (0, 0)
    grain: Interval = (0, 0)
    spots: Interval = (0, 0)
    jpeg: Interval | None = None
    border: Interval = (0, 0)


def lay_page(page: Sheet, corners: Float[np.ndarray, "4 2"], shape: tuple[int, int], draws: Draws) -> Sheet:
    """Put a page on a table, as the camera sees it.

    Args:
        page: The page as seen from straight above, RGB.
        corners: Where its upper left, upper right, lower right and lower left corners are in the picture: x and y in px.
        shape: Height and width of the picture, in px.
        draws: Source of all randomness; it advances.
    """
    height, width = page.shape[:2]
    own = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    matrix = cv2.getPerspectiveTransform(own, corners.astype(np.float32))
    size = shape[1], shape[0]
    seen = cv2.warpPerspective(page, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = np.zeros(shape, np.float32)
    cv2.fillConvexPoly(mask, np.round(corners * 16).astype(np.int32), 1.0, cv2.LINE_AA, 4)
    if mask.min() == 1:
        return seen
    table = _table(shape, page.mean((0, 1)), draws)
    soft = cv2.GaussianBlur(mask, (0, 0), max(shape) * 0.008)
    table *= 1 - 0.45 * soft[..., None]  # the page's own shadow
    return np.asarray(table + (seen - table) * mask[..., None], np.float32)


def page_corners(settings: SceneSettings, shape: tuple[int, int], hidden: float, draws: Draws) -> Float[np.ndarray, "4 2"]:
    """Choose where the page's corners are in the picture.

    Args:
        settings: How much of the table is seen, and how far the page is turned and skewed.
        shape: Height and width of the picture, in px.
        hidden: Share of the picture's side by which the page goes beyond it where no table is seen.
        draws: Source of all randomness; it advances.

    Returns:
        x and y of the upper left, upper right, lower right and lower left corner, in px.
    """
    insets = [-hidden if settings.table is None else draws.uniform(*settings.table) for _ in range(4)]
    left, top, right, bottom = insets[0], insets[1], 1 - insets[2], 1 - insets[3]
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    corners += [[draws.uniform(-settings.skew, settings.skew) for _ in range(2)] for _ in range(4)]
    corners *= shape[1], shape[0]
    angle = math.radians(draws.uniform(-settings.turn_degrees, settings.turn_degrees))
    turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    centre = corners.mean(0)
    return np.asarray((corners - centre) @ turn + centre)


def light_scene(picture: Sheet, settings: SceneSettings, draws: Draws) -> Sheet:
    """Light a scene: a gradient, a vignette, a shadow, the exposure and the lamp's colour."""
    height, width = picture.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32), indexing="ij")
    angle = draws.uniform(0, 2 * math.pi)
    along = (math.cos(angle) * x + math.sin(angle) * y) / (abs(math.cos(angle)) + abs(math.sin(angle)))  # -1..1
    light = 1 - (1 - draws.uniform(*settings.light)) * (along + 1) / 2
    centre = draws.uniform(-0.3, 0.3), draws.uniform(-0.3, 0.3)
    light *= 1 - draws.uniform(*settings.vignette) * ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 2
    left = draws.uniform(*settings.shadow)
    if left < 1:
        edge_px = draws.uniform(*settings.shadow_edge) * max(height, width)
        light *= 1 - (1 - left) * _shadow((height, width), edge_px, draws)
    light *= draws.uniform(*settings.exposure)
    warmth = draws.uniform(*settings.warmth)
    return np.asarray(picture * light[..., None] * np.array([1, 1 - warmth / 3, 1 - warmth], np.float32), np.float32)


def expose(picture: Sheet, settings: CameraSettings, draws: Draws) -> Pixels:
    """Blur a scene by focus and motion, add the sensor's noise, and save it as the camera does."""
    height, width = picture.shape[:2]
    thousandth = max(height, width) / 1000
    focus = draws.uniform(*settings.focus) * thousandth
    if focus > 0.1:
        picture = cv2.GaussianBlur(picture, (0, 0), focus)
    motion = draws.uniform(*settings.motion) * thousandth
    if motion > 1:
        picture = cv2.filter2D(picture, -1, _motion_kernel(motion, draws.uniform(0, math.pi)))
    border = draws.uniform(*settings.border)
    if border > 0:
        _darken_border(picture, border, draws)
    grain = draws.uniform(*settings.grain)
    if grain > 0:
        picture = picture + grain * _sensor_noise((height, width), draws.uniform(*settings.spots), draws)
    pixels: Pixels = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    if settings.jpeg is None:
        return pixels
    coded = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), round(draws.uniform(*settings.jpeg)), "RGB", "420", fastdct=False
    )
    decoded: Pixels = simplejpeg.decode_jpeg(coded, colorspace="RGB", fastdct=False)
    return decoded


def _table(shape: tuple[int, int], paper: np.ndarray, draws: Draws) -> Sheet:
    """Paint a table that differs from the paper: plain, or of wood with a grain along one direction."""
    far = [colour for colour in TABLES if abs(np.mean(colour) - paper.mean()) >= TABLE_CONTRAST]
    table = np.empty((*shape, 3), np.float32)
    table[:] = far[draws.whole(len(far) - 1)]
    stretch = 1 + draws.whole(1) * 11
    rows, columns = shape[0], max(8, shape[1] // stretch)
    wood = cv2.resize(cloudy_noise(draws, rows, columns, max(shape) / 60), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    table *= 1 + draws.uniform(0.02, 0.12) * wood[..., None]
    return table


def _shadow(shape: tuple[int, int], edge_px: float, draws: Draws) -> Float32[np.ndarray, "h w"]:
    """Cast the shadow of a head (half of the picture), a hand with fingers, or a phone; 1 where it is darkest."""
    height, width = shape
    side, mask = max(shape), np.zeros(shape, np.float32)
    angle = draws.uniform(0, 360)
    reach = math.radians(angle)
    # Everything that casts a shadow comes in from the picture's edge.
    x, y = width / 2 + 0.5 * width * math.cos(reach), height / 2 + 0.5 * height * math.sin(reach)
    match draws.whole(2):
        case 0:
            axes = round(side * draws.uniform(0.5, 0.9)), round(side * draws.uniform(0.35, 0.6))
            cv2.ellipse(mask, (round(x), round(y)), axes, angle + 90, 0, 360, 1.0, -1)
        case 1:
            palm = round(side * draws.uniform(0.15, 0.25))
            cv2.circle(mask, (round(x), round(y)), palm, 1.0, -1)
            for finger in (-0.5, -0.17, 0.17, 0.5):
                to = math.radians(angle + 180) + finger + draws.uniform(-0.08, 0.08)
                long = palm * draws.uniform(1.5, 2.2)
                end = round(x + long * math.cos(to)), round(y + long * math.sin(to))
                cv2.line(mask, (round(x), round(y)), end, 1.0, max(3, palm // 3))
        case _:
            size = side * draws.uniform(0.35, 0.5), side * draws.uniform(0.2, 0.3)
            box = cv2.boxPoints(((x, y), size, angle + draws.uniform(-20, 20)))
            cv2.fillConvexPoly(mask, np.round(box).astype(np.int32), 1.0)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(edge_px, 0.5)), np.float32)


def _sensor_noise(shape: tuple[int, int], spots: float, draws: Draws) -> Sheet:
    """Draw noise of deviation 1: part of it by pixel and channel, part by pixel, and a share of the variance in soft spots."""
    own, noise = [normal_noise(draws, *shape) for _ in range(3)], np.empty((*shape, 3), np.float32)
    shared = 0.8 * normal_noise(draws, *shape)
    for channel, fine in enumerate(own):
        noise[..., channel] = 0.6 * fine + shared
    if spots > 0:
        soft = cloudy_noise(draws, *shape, draws.uniform(3, 8))
        noise *= math.sqrt(1 - spots)
        noise += math.sqrt(spots) * soft[..., None]
    return noise


def _motion_kernel(length_px: float, angle: float) -> Float32[np.ndarray, "k k"]:
    side = 2 * math.ceil(length_px / 2) + 1
    kernel, half = np.zeros((side, side), np.float32), length_px / 2
    for step in np.linspace(-half, half, 8 * side):
        x, y = side // 2 + step * math.cos(angle), side // 2 + step * math.sin(angle)
        kernel[round(y), round(x)] += 1
    return np.asarray(kernel / kernel.sum())


def _darken_border(picture: Sheet, share: float, draws: Draws) -> None:
    """Blacken strips along one to three sides, as a scanner does beyond the page."""
    dark = draws.uniform(0, 60)
    height, width = picture.shape[:2]
    first = draws.whole(3)
    for side in range(1 + draws.whole(2)):
        strip = max(1, round(share * draws.uniform(0.5, 1) * (width if (first + side) % 2 else height)))
        turned = np.rot90(picture, first + side)  # a view of the same pixels
        turned[:strip] = dark
