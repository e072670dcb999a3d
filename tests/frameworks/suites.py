"""The test suites of the frameworks: the distributions, the tests, and how to run them."""

from __future__ import annotations

from typing import NamedTuple


class Suite(NamedTuple):
    """A test suite. `sdist` is the distribution with the tests. `command` runs them in its folder.

    If fewer than `at_least` tests run, some are missing, for example because a newer release has
    moved them. With `on_postgres`, the variable POSTGRES is the folder of the server's socket.
    """

    title: str
    sdist: str
    command: list[str]
    at_least: int
    folder: str = "."
    on_postgres: bool = False


def _django(title: str, at_least: int, *labels: str) -> Suite:
    options = ("--settings=django_settings", "--parallel=1", "--noinput", "--verbosity=0")
    return Suite(title, "django", ["runtests.py", *options, *labels], at_least, folder="tests")


def _pytest(title: str, sdist: str, at_least: int, *options: str) -> Suite:
    common = ("-m", "pytest", "-p", "pytest_outcomes", "-p", "no:cacheprovider", "--quiet")
    return Suite(title, sdist, [*common, *options], at_least)


def _flask(title: str, sdist: str, at_least: int, *paths: str) -> Suite:
    plugins = ("-p", "flask_sessions", "-p", "no:django", "-p", "no:asyncio")
    return _pytest(title, sdist, at_least, *plugins, *paths)


SUITES = {
    "django-sessions": _django(
        "Django's sessions",
        77,
        "sessions_tests.tests.SessionMiddlewareTests",
        "django_engine_tests.EngineTests",
    ),
    "django-sessions-tz": _django(
        "Django's sessions with time zones",
        65,
        # With a label in this folder, Django's runner adds `sessions_tests` to INSTALLED_APPS.
        "sessions_tests.tests.ClearSessionsCommandTests",
        "django_engine_tests.EngineWithTimeZoneTests",
    ),
    "django-auth": _django("Django's auth", 824, "auth_tests"),
    "django-messages": _django("Django's messages", 80, "messages_tests"),
    "django-csrf": _django("Django's CSRF protection", 100, "csrf_tests"),
    "django-client": _django("Django's test client", 200, "test_client", "test_client_regress"),
    "allauth": _pytest(
        "allauth",
        "django_allauth",
        850,
        "--ds=allauth_settings",
        *(f"tests/apps/{app}" for app in ("account", "core", "headless", "mfa", "usersessions")),
    ),
    "allauth-postgres": _pytest(
        "allauth's sessions of a user on PostgreSQL",
        "django_allauth",
        70,
        "--ds=allauth_settings",
        "tests/apps/usersessions",
        "tests/apps/headless/usersessions",
    )._replace(on_postgres=True),
    "flask": _flask("Flask", "flask", 490, "tests"),
    "flask-login": _flask("Flask-Login", "Flask-Login", 114, "tests"),
    "flask-wtf": _flask(
        "Flask-WTF's CSRF protection",
        "flask_wtf",
        25,
        "tests/test_csrf_extension.py",
        "tests/test_csrf_form.py",
    ),
}
