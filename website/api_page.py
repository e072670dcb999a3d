"""Write the page of the site that shows docs/openapi.yaml: python website/api_page.py

The document stands in the page itself, and Redoc's script beside it, so the page works without a
server and loads nothing from elsewhere.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SCRIPT = ROOT / "website/node_modules/redoc/bundles/redoc.standalone.js"
PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>HTTP API - serverless-sessions</title>
<link rel="icon" href="assets/images/favicon.png">
<style>
  body {{ margin: 0 }}
  /* Redoc has no dark theme. Inverted colors keep it readable beside a dark site. */
  @media (prefers-color-scheme: dark) {{
    html {{ background: #fff; filter: invert(0.92) hue-rotate(180deg) }}
  }}
  nav {{ font: 15px system-ui, sans-serif; padding: 12px 20px; border-bottom: 1px solid #d1d9e0 }}
</style>
<nav><a href=".">serverless-sessions</a> / <a href="api/">HTTP API</a> / Reference</nav>
<main id="redoc"></main>
<script src="{script}"></script>
<script>
  Redoc.init({document}, {options}, document.getElementById("redoc"));
</script>
</html>
"""
OPTIONS = {
    "hideDownloadButton": True,
    "disableSearch": True,
    "theme": {
        "rightPanel": {"backgroundColor": "#eff1f3", "textColor": "#1f2328"},
        "typography": {
            "fontFamily": "system-ui, sans-serif",
            "headings": {"fontFamily": "system-ui, sans-serif"},
        },
    },
}


def script_literal(value: object) -> str:
    """Return a JavaScript literal that is safe inside a `script` element."""
    return json.dumps(value, default=str).replace("<", "\\u003c")


def main() -> None:
    document = yaml.safe_load((DOCS / "openapi.yaml").read_text())
    page = PAGE.format(
        script=SCRIPT.name, document=script_literal(document), options=script_literal(OPTIONS)
    )
    (DOCS / "api-reference.html").write_text(page)
    # Redoc would load this picture from its maker's server.
    script = SCRIPT.read_text().replace("https://cdn.redoc.ly/redoc/logo-mini.svg", "data:,")
    if "//cdn." in script:
        sys.exit("Redoc's script loads something else from its maker's server.")
    (DOCS / SCRIPT.name).write_text(script)


if __name__ == "__main__":
    main()
