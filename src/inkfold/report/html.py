"""Renders a template as one self-contained HTML page, with a Content-Security-Policy that allows nothing from outside."""

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from inkfold.evaluation import formatting
from inkfold.report.thumbnails import Picture

TEMPLATES = Path(__file__).parent / "templates"
NONE = "–"
# Inline styles: matplotlib writes them, and intervals are placed by them.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render_page(template: str, context: Mapping[str, Any], pictures: Iterable[Picture] = ()) -> str:
    """Render a template as a page.

    Args:
        template: Name of a file in `templates`, such as `run.html.j2`.
        context: Variables of the template; everything but `Markup` is escaped.
        pictures: Pictures that the template refers to by name; each is embedded once.

    Returns:
        HTML that refers to nothing outside itself. Its policy allows only inkfold's own script, by digest.
    """
    css, js = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    script = base64.b64encode(hashlib.sha256(js.encode()).digest()).decode()
    policy = f"{POLICY}; script-src 'sha256-{script}'"
    page: str = (
        _environment()
        .get_template(template)
        .render(
            **context,
            css=Markup(css),  # noqa: S704 - inkfold's own files
            js=Markup(js),  # noqa: S704
            policy=policy,
            version=version("inkfold"),
            pictures=list(pictures),
        )
    )
    return page


def render_part(template: str, context: Mapping[str, Any]) -> str:
    """Render a template as an element of somebody else's page, such as a notebook's; everything but `Markup` is escaped."""
    part: str = _environment().get_template(template).render(**context)
    return part


def common_scale(intervals: Iterable[Sequence[float]]) -> tuple[float, float]:
    """Find the ends of a round scale, multiples of 0.05, that contains all intervals of shares, 0 to 1."""
    bounds = [bound for interval in intervals for bound in interval]
    if not bounds:
        return 0.0, 1.0
    return max(math.floor(min(bounds) * 20 - 0.01) / 20, 0.0), min(math.ceil(max(bounds) * 20 + 0.01) / 20, 1.0)


def svg_markup(svg: str) -> Markup:
    """Mark a plot by `report.plots`, which contains no text from data, as safe to embed without escaping."""
    return Markup(svg)  # noqa: S704


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        share=lambda value: NONE if value is None else f"{value:.3f}",
        whole=lambda value: NONE if value is None else f"{100 * value:.0f}",
        name=lambda text: Markup(str(escape(text)).replace("_", "_<wbr>")),  # noqa: S704 - escaped; may break after a _
        span=lambda ci: f"{ci[0]:.3f}–{ci[1]:.3f}",
        percent=lambda value: f"{100 * value:.1f}".replace("-", "−"),
        percent_span=lambda ci: f"{100 * ci[0]:.1f}–{100 * ci[1]:.1f}",
        points=_points,
        count=lambda value: f"{value:,}",
        p=lambda value: formatting.p_text(value).replace(" ", "\u00a0"),
        p_equation=p_equation,
        place=_place,
        duration=duration,
        size=size,
    )
    return environment


def p_equation(value: float) -> str:
    """Format a p-value as an equation, such as `p = 0.040`, with non-breaking spaces."""
    return formatting.p_equation(value).replace(" ", "\u00a0")


def duration(seconds: float) -> str:
    """Format seconds as `5.2 s`, `1 min 1 s` or `2 h 2 min`, with non-breaking spaces."""
    return formatting.duration(seconds).replace(" ", "\u00a0")


def size(count_bytes: int | None) -> str:
    """Format bytes of memory as `5 MiB` or `1.5 GiB`, with a non-breaking space; a dash if the number is not known."""
    if count_bytes is None:
        return NONE
    return f"{count_bytes / 2**30:.1f}\u00a0GiB" if count_bytes >= 2**30 else f"{count_bytes / 2**20:.0f}\u00a0MiB"


def _points(value: float) -> str:
    """Format a difference of shares in points with its sign, which what rounds to zero doesn't have."""
    text = f"{100 * value:+.1f}"
    return text.replace("-", "−") if float(text) else text[1:]


def _place(value: float, scale: Sequence[float]) -> str:
    low, high = scale
    return f"{100 * (value - low) / (high - low):.2f}%"
