"""Runs the tests of the example apps and of docs/integrating/, and the README's first snippet."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.template import ROOT

_OPTIONS = "[pytest]\naddopts = -p serverless_sessions.testing -p no:cacheprovider -W error\n"

# pytest-django has these fixtures.
_DJANGO = """
    from collections.abc import Iterator

    import django
    import pytest
    from django.conf import settings

    settings.configure(
        SESSION_ENGINE="serverless_sessions.django",
        SESSION_COOKIE_NAME="__Host-sessionid",
        SERVERLESS_SESSIONS={"url": __import__("os").environ["SESSIONS_URL"]},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        SECRET_KEY="for tests",
    )
    django.setup()


    @pytest.fixture
    def django_user_model() -> type:
        from django.contrib.auth import get_user_model
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        return get_user_model()


    @pytest.fixture
    def client() -> object:
        from django.test import Client

        return Client()
"""


def without_aws() -> dict[str, str]:
    """Return an environment without the settings of AWS and of this run of pytest."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PYTEST_"))}
    return own | {"PYTHONPATH": str(ROOT / "client"), "AWS_PROFILE": "absent"}


def run_tests(folder: Path, *options: str) -> str:
    """Run pytest in a folder, without the settings of this repository and of AWS."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", folder, *options, folder],
        cwd=folder,
        env=without_aws(),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_first_snippet_of_the_readme() -> None:
    snippet, *_ = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S
    )
    run = subprocess.run(
        [sys.executable, "-c", snippet], env=without_aws(), capture_output=True, text=True
    )
    assert run.stderr == ""
    assert run.stdout.splitlines() == ["lin", "None", "created None", "expired idle"]
    assert re.findall("# (.*)", snippet) == ["lin", "None", "created None, then expired idle"]


def snippets(page: str) -> str:
    text = (ROOT / f"docs/integrating/{page}.md").read_text()
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(("name", "count"), [("django", 5), ("flask", 4), ("fastapi", 5)])
def test_example(name: str, count: int, tmp_path: Path) -> None:
    options = tmp_path / "pytest.ini"
    options.write_text(_OPTIONS)
    assert f"{count} passed" in run_tests(ROOT / f"examples/{name}_app", "-c", str(options))


@pytest.mark.parametrize("page", ["django", "flask", "starlette"])
def test_page_of_a_framework(page: str, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(_OPTIONS)
    (tmp_path / "test_page.py").write_text(snippets(page))
    if page == "django":
        (tmp_path / "conftest.py").write_text(dedent(_DJANGO))
    assert "1 passed" in run_tests(tmp_path)


def test_page_on_testing(tmp_path: Path) -> None:
    """The snippets need no plugin. A `conftest.py` can load it, too."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -W error\n")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["serverless_sessions.testing"]\n')
    (tmp_path / "test_page.py").write_text(
        snippets("testing")
        + dedent("""
            def test_settings(sessions_service: SessionsService) -> None:
                assert SERVERLESS_SESSIONS["url"] not in ("", sessions_service.url)


            from serverless_sessions import Sessions


            def test_reader(sessions_service: SessionsService) -> None:
                token = sessions_service.sessions.create("ada").token
                with Sessions(sessions_service.url, reader=reader) as sessions:
                    for _ in range(3):
                        assert sessions.verify(token)
        """)
    )
    assert "3 passed" in run_tests(tmp_path)
