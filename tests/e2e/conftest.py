"""A caller of the deployed API, or of the embedded service."""

from __future__ import annotations

import pytest

from local.stack import LocalStack
from tests.e2e.calls import ContractCaller
from tests.support.embedded import Embedded


@pytest.fixture(scope="session")
def call(request: pytest.FixtureRequest) -> ContractCaller:
    """A test runs on the embedded service as well if it is marked with `ALSO_EMBEDDED`."""
    if getattr(request, "param", "deployed") == "embedded":
        embedded: Embedded = request.getfixturevalue("embedded_process")
        return ContractCaller(embedded.url, embedded.credentials)
    stack: LocalStack = request.getfixturevalue("stack")
    return ContractCaller(stack.url, stack.credentials("tests", "execute-api:Invoke"))
