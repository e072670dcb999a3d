"""A pytest plugin that runs an app's tests on the embedded service, without AWS.

Add it to the options of pytest, so that it is loaded before your app is imported:

    [tool.pytest.ini_options]
    addopts = ["-p", "serverless_sessions.testing"]

It starts the service once for each run, or once for each worker of pytest-xdist, and sets
`SESSIONS_URL`, the region and the credentials in the environment. A test that takes the fixture
`sessions_service` starts without any session. `SessionsService` does the same for `unittest`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from serverless_sessions.testing.service import SessionsService

__all__ = ["SessionsService"]

_RUNNING = pytest.StashKey[SessionsService]()


# As a wrapper, this is called before pytest-django imports the settings, which read the URL.
@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    _start(early_config)
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Start the service if a `conftest.py` has loaded this plugin."""
    _start(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    if service := config.stash.get(_RUNNING, None):
        service.stop()


def _start(config: pytest.Config) -> None:
    if _RUNNING not in config.stash:
        config.stash[_RUNNING] = SessionsService().start()


@pytest.fixture
def sessions_service(pytestconfig: pytest.Config) -> Iterator[SessionsService]:
    """The embedded service, without sessions, events or faults, and with the current time."""
    service = pytestconfig.stash[_RUNNING]
    service.reset()
    yield service
    service.reset()
