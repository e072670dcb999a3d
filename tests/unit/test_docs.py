"""Links and names in the documentation refer to existing files and tests."""

from __future__ import annotations

import re

import pytest

from tests.support.template import ROOT

SECURITY = (ROOT / "docs/security.md").read_text()


def named_tests() -> list[tuple[str, str]]:
    """Return (file, test) for each test in docs/security.md.

    A name without a file belongs to the file before it.
    """
    tests, file = [], ""
    for new_file, test in re.findall(r"`((?:\w+/)+\w+\.py)?(?:::)?(test_\w+)`", SECURITY):
        file = new_file or file
        tests.append((file, test))
    return tests


def test_more_than_25_tests_are_named_in_the_security_document() -> None:
    assert len(named_tests()) > 25


@pytest.mark.parametrize(("file", "test"), named_tests())
def test_named_test_exists(file: str, test: str) -> None:
    assert f"def {test}(" in (ROOT / "tests" / file).read_text()


@pytest.mark.parametrize(
    "document",
    sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))
    + [
        *("README.md", "CONTRIBUTING.md", "SECURITY.md"),
        *(f"examples/{app}/README.md" for app in ("protected_api", "live_sockets", "your_stack")),
    ],
)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / link).exists(), link
