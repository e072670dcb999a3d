"""Draws docs/dashboard.svg from the synthesized dashboard: python -m tests.infra.picture"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle
from typing import Any
from xml.sax.saxutils import escape

from tests.support.template import FULL, ROOT, resources

PICTURE = ROOT / "docs/dashboard.svg"
# The size of a unit of the dashboard's grid in pixels. The grid is 24 units wide.
WIDTH, HEIGHT, GAP = 34, 23, 4
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
# The picture has its own background, because GitHub's theme may differ from the browser's.
STYLE = """
  text { font: 11px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 }
  .page { fill: #f6f8fa }
  .widget { fill: #ffffff; stroke: #d1d9e0 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .page { fill: #010409 }
    .widget { fill: #0d1117; stroke: #3d444d }
  }
"""


def body(stage: str = FULL) -> dict[str, Any]:
    """Return the dashboard, with logical names instead of references."""
    [properties] = resources("AWS::CloudWatch::Dashboard", stage).values()
    parts = properties["DashboardBody"]["Fn::Join"][1]
    dashboard: dict[str, Any] = json.loads("".join(map(_resolve, parts)))
    return dashboard


def _resolve(part: Any) -> str:
    match part:
        case {"Ref": str(name)} | {"Fn::GetAtt": [str(name), _]}:
            return name
        case str():
            return part
    raise AssertionError(part)


def metrics(widget: dict[str, Any]) -> Iterator[tuple[list[str], str]]:
    """Return namespace, name and dimensions of a widget's metrics, each with its label."""
    for metric in widget["properties"].get("metrics", ()):
        yield metric[:-1], metric[-1]["label"]


def draw(dashboard: dict[str, Any]) -> str:
    """Draw the widgets at their positions, each with its title and its content."""
    widgets = dashboard["widgets"]
    width = 24 * WIDTH + GAP
    height = max(widget["y"] + widget["height"] for widget in widgets) * HEIGHT + GAP
    shapes = [f'<rect class="page" width="{width}" height="{height}"/>']
    for widget in widgets:
        x, y = widget["x"] * WIDTH + GAP, widget["y"] * HEIGHT + GAP
        size = f'width="{widget["width"] * WIDTH - GAP}" height="{widget["height"] * HEIGHT - GAP}"'
        shapes.append(f'<rect class="widget" x="{x}" y="{y}" {size} rx="4"/>')
        shapes.append(_text(x + 8, y + 18, widget["properties"]["title"], "title"))
        for i, _ in enumerate(widget["properties"].get("alarms", ())):
            shapes.append(_square(x + 8 + 30 * i, y + 36, COLORS[2], 22))
        for i, ((_, label), color) in enumerate(zip(metrics(widget), cycle(COLORS), strict=False)):
            shapes.append(_square(x + 8, y + 27 + 13 * i, color, 8))
            shapes.append(_text(x + 22, y + 35 + 13 * i, label))
    title = "The dashboard: alarms, sessions, API, tables, prompt expiry, functions"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"<title>{title}</title>",
            f"<style>{STYLE}</style>",
            *shapes,
            "</svg>\n",
        ]
    )


def _square(x: int, y: int, color: str, size: int) -> str:
    return f'<rect x="{x}" y="{y}" width="{size}" height="{size}" rx="2" fill="{color}"/>'


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(draw(body()))
