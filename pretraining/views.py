"""Random views of drawings in batches, for pretraining: how a drawing may lie on its page, by which pen, on what paper.

All is done on ink (0 paper, 1 full ink), on whole batches, at 128 px; the view is halved to the network's 64 px at the end.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone knows

from inkfold.config.sections import Section

STORED_PX, VIEW_PX = 128, 64
KNOTS = 32  # a side: positions are computed there and interpolated between


class ViewSettings(Section):
    """How strongly views differ; shares are those of the views that get the change."""

    degrees: float = 12.0
    """Standard deviation of the rotation, in degrees; cut at 30."""
    small_share: float = 0.35
    """Share of views whose drawing fills 35 to 80 % of the square; the others' fill 75 to 100 %."""
    elastic: float = 0.05
    """Largest displacement of the bending, as a share of the side."""
    thick_share: float = 0.4
    """Share of views with thicker lines, by 1 to 4 px at 128 px."""
    thin_share: float = 0.15
    """Share of views with thinner or weaker lines."""
    paper_share: float = 0.25
    """Share of views on grey, unevenly lit or grained paper."""
    grain: float = 0.2
    """Largest standard deviation of the grain, of the drawing's ink."""
    erased_share: float = 0.25
    """Share of views with one to three erased patches."""


def make_views(pages: torch.Tensor, mirrored: torch.Tensor, settings: ViewSettings, generator: torch.Generator) -> torch.Tensor:
    """Make a random view of each drawing.

    Args:
        pages: Drawings, (n, 128, 128) uint8, dark ink on white.
        mirrored: Whether each drawing may be mirrored, (n,) bool.
        settings: How strongly views differ.
        generator: Source of all randomness; it advances.

    Returns:
        Ink of the views, (n, 1, 64, 64) in [0, 1].
    """
    draw = _Draws(len(pages), generator)
    ink = 1 - pages[:, None].float() / 255
    ink = _pen(ink, settings, draw)
    ink = F.grid_sample(ink, _positions(mirrored, settings, draw), mode="bilinear", padding_mode="zeros", align_corners=False)
    ink = F.avg_pool2d(ink, STORED_PX // VIEW_PX)
    ink = _erase(ink, settings, draw)
    return _on_paper(ink, settings, draw).clamp_(0, 1)


class _Draws:
    """Random numbers for a batch."""

    def __init__(self, n: int, generator: torch.Generator) -> None:
        self.n, self.generator = n, generator

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(self.n, *shape, generator=self.generator)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(self.n, *shape, generator=self.generator)

    def chosen(self, share: float) -> torch.Tensor:
        return torch.rand(self.n, generator=self.generator) < share


def _pen(ink: torch.Tensor, settings: ViewSettings, draw: _Draws) -> torch.Tensor:
    """Thicken or thin the lines of some drawings, by part of a pixel to some pixels."""
    sort = torch.rand(draw.n, generator=draw.generator)
    blend = draw.uniform(0.3, 1.0)[:, None, None, None]
    out = ink.clone()
    thick = settings.thick_share
    for size, low, high in ((3, 0.0, 0.45), (5, 0.45, 0.75), (7, 0.75, 0.92), (9, 0.92, 1.0)):
        rows = ((sort >= low * thick) & (sort < high * thick)).nonzero()[:, 0]
        if len(rows):
            wide = F.max_pool2d(ink[rows], size, 1, size // 2)
            out[rows] += blend[rows] * (wide - ink[rows])
    rows = (sort > 1 - settings.thin_share).nonzero()[:, 0]
    if len(rows):
        thin = -F.max_pool2d(-ink[rows], 3, 1, 1)
        out[rows] += 0.8 * blend[rows] * (thin - ink[rows])
    return out


def _positions(mirrored: torch.Tensor, settings: ViewSettings, draw: _Draws) -> torch.Tensor:
    """Say where each pixel of the views comes from: rotation, size, shear, place, perspective and bending."""
    angle = (draw.normal() * settings.degrees).clamp(-30, 30) * torch.pi / 180
    small = draw.chosen(settings.small_share)
    fill = torch.where(small, draw.uniform(0.35, 0.8), draw.uniform(0.75, 1.0))
    stretch = torch.exp(0.12 * draw.normal().clamp(-2, 2))
    flip = torch.where(mirrored & draw.chosen(0.5), -1.0, 1.0)
    shear = draw.uniform(-0.15, 0.15)
    cos, sin = torch.cos(angle), torch.sin(angle)
    across, down = flip / (fill * stretch), stretch / fill
    matrix = torch.stack(
        [
            torch.stack([across * cos, across * (shear * cos - sin)], 1),
            torch.stack([down * sin, down * (shear * sin + cos)], 1),
        ],
        1,
    )
    room = (1 - fill).clamp(min=0.04)[:, None] * draw.uniform(-1, 1, 2)
    edge = 1 - 1 / STORED_PX  # the outer pixels' centres
    line = torch.linspace(-edge, edge, KNOTS)
    x, y = line[None, None] - room[:, 0, None, None], line[None, :, None] - room[:, 1, None, None]
    entries = [matrix[:, row, column, None, None] for row in (0, 1) for column in (0, 1)]
    x, y = entries[0] * x + entries[1] * y, entries[2] * x + entries[3] * y
    tilt = torch.where(draw.chosen(0.3)[:, None], draw.uniform(-0.2, 0.2, 2), torch.zeros(draw.n, 2))[:, :, None, None]
    depth = (1 + x * tilt[:, :1, 0] + y * tilt[:, 1:, 0]).clamp(min=0.3)
    amount = torch.where(draw.chosen(0.6), draw.uniform(0, 2 * settings.elastic), torch.zeros(draw.n))
    bend = F.interpolate(draw.uniform(-1, 1, 2, 5, 5) * amount[:, None, None, None], KNOTS, mode="bicubic", align_corners=True)
    grid = torch.stack([x / depth, y / depth], 1) + bend
    grid = F.interpolate(grid, STORED_PX, mode="bilinear", align_corners=True)
    return grid.permute(0, 2, 3, 1)


def _erase(ink: torch.Tensor, settings: ViewSettings, draw: _Draws) -> torch.Tensor:
    """Erase up to three ellipses of some views."""
    chosen = draw.chosen(settings.erased_share)
    line = torch.arange(VIEW_PX) / VIEW_PX
    for _ in range(3):
        centre, radius = draw.uniform(0, 1, 2), draw.uniform(0.02, 0.14, 2)
        x = ((line - centre[:, :1]) / radius[:, :1]) ** 2
        y = ((line - centre[:, 1:]) / radius[:, 1:]) ** 2
        inside = (y[:, :, None] + x[:, None, :] < 1) & (chosen & draw.chosen(0.6))[:, None, None]
        ink = ink.masked_fill(inside[:, None], 0.0)
    return ink


def _on_paper(ink: torch.Tensor, settings: ViewSettings, draw: _Draws) -> torch.Tensor:
    """Make some views' ink weaker, some pencil, some blurred, and lay some on grey, uneven, grained or ruled paper."""
    strength = torch.where(draw.chosen(0.5), draw.uniform(0.35, 1.0), torch.ones(draw.n))
    ink = ink * strength[:, None, None, None]
    rows = draw.chosen(0.12).nonzero()[:, 0]
    if len(rows):  # pencil: the paper's teeth take the ink
        teeth = torch.rand(len(rows), 1, VIEW_PX, VIEW_PX, generator=draw.generator)
        ink[rows] *= 0.35 + 0.65 * teeth
    rows = draw.chosen(0.15).nonzero()[:, 0]
    if len(rows):
        ink[rows] = F.avg_pool2d(ink[rows], 3, 1, 1, count_include_pad=False)
    rows = draw.chosen(settings.paper_share).nonzero()[:, 0]
    if len(rows):
        light = (
            0.25
            * torch.rand(len(rows), 1, 3, 3, generator=draw.generator)
            * torch.rand(len(rows), 1, 1, 1, generator=draw.generator)
        )
        page = F.interpolate(light, VIEW_PX, mode="bicubic", align_corners=True)
        sigma = (
            settings.grain * torch.rand(len(rows), 1, 1, 1, generator=draw.generator) ** 2 * strength[rows, None, None, None]
        )
        grain = torch.randn(len(rows), 1, VIEW_PX, VIEW_PX, generator=draw.generator) * sigma
        ink[rows] = ink[rows] + (1 - ink[rows]) * page + grain
    rows = draw.chosen(0.04).nonzero()[:, 0]
    if len(rows):  # ruled paper
        every, phase = (
            4 + 8 * torch.rand(len(rows), 1, generator=draw.generator),
            torch.rand(len(rows), 1, generator=draw.generator),
        )
        on_rule = ((torch.arange(VIEW_PX) / every + phase) % 1 < 1 / every).float() * 0.25
        ink[rows] = torch.maximum(ink[rows], on_rule[:, None, :, None])
    return ink
