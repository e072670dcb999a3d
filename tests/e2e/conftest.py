"""A caller of the deployed API."""

from __future__ import annotations

import pytest

from local.stack import LocalStack
from tests.e2e.calls import ContractCaller


@pytest.fixture(scope="session")
def call(stack: LocalStack) -> ContractCaller:
    return ContractCaller(stack.url, stack.credentials("tests", "execute-api:Invoke"))
