"""The plot of the page: two panels of horizontal bars, as hand-written SVG. Does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape

_WIDTH = 720
_LABEL = 190
_BAR = 22
_STEP = 30
_HEAD = 44
_ROOM = 90  # for the number after the longest bar
_OURS, _OTHERS, _INK = "#b5342b", "#8a97a6", "#1f2933"


@dataclass(frozen=True)
class Panel:
    """Bars of one unit on one linear scale from 0."""

    title: str
    bars: Mapping[str, float]
    show: Callable[[float], str]


def svg(panels: list[Panel], ours: str) -> str:
    """Return the picture. The bar named `ours` has a different colour."""
    heights = [_HEAD + _STEP * len(panel.bars) + 10 for panel in panels]
    parts = []
    top = 0
    for panel, height in zip(panels, heights, strict=True):
        parts += _panel(panel, top, ours)
        top += height
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}" '
        f'font-family="sans-serif" font-size="13" fill="{_INK}">'
    )
    return "\n".join([head, f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>', *parts, "</svg>", ""])


def _panel(panel: Panel, top: int, ours: str) -> list[str]:
    longest = max(panel.bars.values())
    lines = [f'<text x="10" y="{top + 26}" font-size="15" font-weight="bold">{escape(panel.title)}</text>']
    for number, (name, value) in enumerate(panel.bars.items()):
        y = top + _HEAD + number * _STEP
        length = max(1.0, (_WIDTH - _LABEL - _ROOM) * value / longest)
        colour = _OURS if name == ours else _OTHERS
        lines.append(f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        lines.append(f'<rect x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>')
        lines.append(f'<text x="{_LABEL + length + 6:.1f}" y="{y + 15}">{escape(panel.show(value))}</text>')
    return lines
