"""Check the links of the built site: python website/links.py SITE

A link to a page, a file or an anchor that is not there is printed, and the exit code is 1. Links to
other hosts are left alone, but nothing may be loaded from another host.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, what it loads, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors = {"", "__skip"}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.anchors |= {attributes.get("id", ""), attributes.get("name", "")}
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if tag in ("script", "img", "iframe") and "src" in attributes:
            self.loads.append(attributes["src"])
        if tag == "link" and attributes.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(attributes["href"])


def problems(site: Path) -> Iterator[str]:
    """Yield a sentence for each link that leads nowhere."""
    # 404.html can be shown at any path, so its links begin with that of the site's URL.
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    for path, page in pages.items():
        name = path.relative_to(site)
        for link in page.links + page.loads:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                if link in page.loads and url.scheme != "data":
                    yield f"{name} loads {link}"
                continue
            start = site if url.path.startswith("/") else path.parent
            target = (start / unquote(url.path).lstrip("/")).resolve() if url.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                yield f"{name} links to {link}, which does not exist"
            elif target in pages and unquote(url.fragment) not in pages[target].anchors:
                yield f"{name} links to {link}, which has no such anchor"


def main() -> None:
    dead = sorted(problems(Path(sys.argv[1]).resolve()))
    print(*dead, sep="\n")
    sys.exit(bool(dead))


if __name__ == "__main__":
    main()
