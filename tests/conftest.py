"""Keeps tests off real accounts, whatever the environment of whoever runs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.dynamodb import dynamodb_local
from local.stack import ROOT

for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    # The CDK finds the Node.js of this environment, however pytest was started.
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


@pytest.fixture(scope="session")
def dynamodb() -> Iterator[str]:
    """The endpoint of AWS's own DynamoDB Local, one for the whole run."""
    if not (ROOT / ".venv-dynamodb/.ready").exists():
        pytest.skip("DynamoDB Local is not installed; 'make test' does so")
    with dynamodb_local() as endpoint:
        yield endpoint
