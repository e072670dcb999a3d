"""Draws docs/performance.svg from the peers of docs/performance.json: python -m bench.chart"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from bench.peers import dollars
from local.stack import ROOT

RESULTS = ROOT / "docs/performance.json"
CHART = ROOT / "docs/performance.svg"
WIDTH, LEFT, TOP, ROW, BAR = 800, 320, 84, 40, 13
PIXELS_PER_DOLLAR = 0.061
TICKS = range(0, 7000, 2000)
PARTS = ("reads", "writes", "audit trail")
# The chart has a background of its own, because GitHub's theme may differ from the browser's.
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 14px; font-weight: 600 }
  .small { font-size: 11px; fill: #59636e; stroke: #ffffff; stroke-width: 3px; paint-order: stroke }
  .panel { fill: #ffffff; stroke: #d1d9e0 }
  .tick { stroke: #d1d9e0 }
  .reads { fill: #56b4e9 } .writes { fill: #e69f00 } .audit { fill: #009e73 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .small { fill: #9198a1; stroke: #0d1117 }
    .panel { fill: #0d1117; stroke: #3d444d }
    .tick { stroke: #3d444d }
  }
"""


def draw(peers: Mapping[str, Any]) -> str:
    """Draw two bars for every store: web requests that load the session, and that change it too."""
    height = TOP + ROW * len(peers["stores"]) + 30
    title = "DynamoDB, dollars a month at 1,000 web requests a second"
    shapes = [
        f'<rect class="panel" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
        _text(16, 26, title, "title"),
    ]
    for i, part in enumerate(PARTS):
        shapes += [_bar(part, LEFT + 90 * i, 42, 12), _text(LEFT + 18 + 90 * i, 52, part)]
    for tick in TICKS:
        x = LEFT + tick * PIXELS_PER_DOLLAR
        shapes += [
            f'<line class="tick" x1="{x:g}" y1="{TOP - 8}" x2="{x:g}" y2="{height - 26}"/>',
            _text(x, height - 12, f"${tick:,}", "small", "middle"),
        ]
    for i, store in enumerate(peers["stores"]):
        shapes.append(_text(16, TOP + ROW * i + 18, store))
        for j, request in enumerate(("load", "change")):
            y = TOP + ROW * i + (BAR + 2) * j
            shapes.append(_text(LEFT - 8, y + 10, request, "small", "end"))
            end = float(LEFT)
            amounts = dollars(peers, store, request)
            for part, amount in zip(PARTS, amounts, strict=True):
                if amount:
                    shapes.append(_bar(part, end, y, amount * PIXELS_PER_DOLLAR))
                    end += amount * PIXELS_PER_DOLLAR
            shapes.append(_text(end + 6, y + 10, f"${sum(amounts):,.0f}", "small"))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{title}</title>",
            f"<style>{STYLE}</style>",
            *shapes,
            "</svg>\n",
        ]
    )


def _bar(part: str, x: float, y: float, width: float) -> str:
    kind = part.partition(" ")[0]
    return f'<rect class="{kind}" x="{x:g}" y="{y}" width="{width:.1f}" height="{BAR}"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


if __name__ == "__main__":
    CHART.write_text(draw(json.loads(RESULTS.read_text())["peers"]))
