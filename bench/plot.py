"""Small multiples as SVG: one panel for each curve, logarithmic to the right, all of one height."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

PANEL_WIDTH, PANEL_HEIGHT = 230, 150
LEFT, TOP, GAP, BOTTOM = 44, 34, 34, 42
COLUMNS = 3
NICE = (1, 2, 2.5, 5, 10)
LINES = 4

STYLE = """
  text { font: 11px sans-serif; fill: #57606a }
  .title { font-weight: bold; fill: #24292f }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .curve { fill: none; stroke: #0969da; stroke-width: 2 }
  .point { fill: #0969da }
  .end { text-anchor: end } .middle { text-anchor: middle }
  .page { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #8b949e } .title { fill: #e6edf3 } .grid { stroke: #30363d }
    .curve { stroke: #58a6ff } .point { fill: #58a6ff } .page { fill: #0d1117 }
  }
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """A curve: its title, and points (x, y) with ascending x; 0 stands left of the smallest."""

    title: str
    points: Sequence[tuple[float, float]]


def draw(panels: Sequence[Panel], what: str) -> str:
    """Return the SVG. *what* is the label of the vertical axis, which all panels share."""
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = LEFT + columns * (PANEL_WIDTH + GAP)
    height = TOP + rows * (TOP + PANEL_HEIGHT + BOTTOM)
    step = _step(max(y for panel in panels for _, y in panel.points))
    body = [f'<text class="title" x="{LEFT}" y="20">{escape(what)}</text>']
    for number, panel in enumerate(panels):
        left = LEFT + number % columns * (PANEL_WIDTH + GAP)
        top = 2 * TOP + number // columns * (TOP + PANEL_HEIGHT + BOTTOM)
        body += [f'<g transform="translate({left} {top})">', *_panel(panel, step), "</g>"]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            f"<title>{escape(what)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" width="{width}" height="{height}"/>',
            *body,
            "</svg>\n",
        ]
    )


def _step(highest: float) -> float:
    """Return a round distance between LINES lines that reach *highest*."""
    rough = highest / LINES
    scale = math.pow(10, math.floor(math.log10(rough)))
    return next(nice * scale for nice in NICE if nice * scale >= rough)


def _panel(panel: Panel, step: float) -> Iterator[str]:
    yield f'<text class="title" x="0" y="-10">{escape(panel.title)}</text>'
    for number in range(LINES + 1):
        y = PANEL_HEIGHT * (1 - number / LINES)
        yield f'<line class="grid" x1="0" x2="{PANEL_WIDTH}" y1="{y:g}" y2="{y:g}"/>'
        yield f'<text class="end" x="-6" y="{y + 4:g}">{number * step:g}</text>'
    places = [
        (x, PANEL_HEIGHT * (1 - value / (step * LINES)))
        for x, (_, value) in zip(_across(panel), panel.points, strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield f'<polyline class="curve" points="{line}"/>'
    for (x, y), (size, value) in zip(places, panel.points, strict=True):
        yield (
            f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="3">'
            f"<title>{size:,}: {value:.1f}</title></circle>"
        )
        yield f'<text class="middle" x="{x:.1f}" y="{PANEL_HEIGHT + 16}">{size:,}</text>'


def _across(panel: Panel) -> list[float]:
    """Return the horizontal positions of the points, on a logarithmic scale."""
    smallest = min(size for size, _ in panel.points if size)
    zero = math.log10(smallest) - 0.7
    logs = [math.log10(size) if size else zero for size, _ in panel.points]
    span = max(logs) - min(logs) or 1.0
    margin = 12
    return [margin + (PANEL_WIDTH - 2 * margin) * (one - min(logs)) / span for one in logs]
