"""What tests of several folders run on: DynamoDB Local, the service on it, the deployed stack."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from dynamodb import client as lean
from local.dynamodb import dynamodb_local
from local.stack import ROOT, LocalStack, running
from tests.support.embedded import Embedded, embedded_service
from tests.support.environment import replace_aws_settings
from tests.support.functions import function
from tests.support.ports import free_port
from tests.support.seam import seam
from tests.support.service import Service
from tests.support.tables import created_tables, sdk
from tests.support.template import app_folder

replace_aws_settings()
# `make test` runs tests in the background, where a shell lets Ctrl-C be ignored. The programs that
# the tests start would inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def dynamodb() -> Iterator[str]:
    """The endpoint of AWS's own DynamoDB Local, one for the whole run."""
    if not (ROOT / ".venv-dynamodb/.ready").exists():
        # Skipping these tests would leave out half of all without anybody noticing.
        pytest.exit(
            "These tests need DynamoDB Local. 'make test TESTS=…' installs it and runs them.", 2
        )
    with dynamodb_local() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def embedded_process() -> Iterator[Embedded]:
    """The embedded service, one for the whole run."""
    with embedded_service() as service:
        yield service


@pytest.fixture
def embedded(embedded_process: Embedded) -> Embedded:
    """The embedded service, empty, at the present time and without faults."""
    embedded_process.control("reset")
    return embedded_process


@pytest.fixture
def tables(dynamodb: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Both tables on DynamoDB Local, empty; see `created_tables`."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamodb)
    with created_tables(sdk(dynamodb)) as tables, closing(lean.connect()) as client:
        seam.reset(client)
        yield tables


@pytest.fixture
def service(tables: Any, dynamodb: str) -> Iterator[Service]:
    """The service, empty, on a port of its own; see `tests/support/service.py` for its faults.

    The environment has credentials that it takes, and its region.
    """
    assert os.environ["AWS_ACCESS_KEY_ID"] == "testing"
    service = Service(function("session_api"), tables, dynamodb)
    yield service
    service.stop()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The real CDK app, deployed to a local AWS once for the whole run.

    Its settings are those that tests rely on, whatever a deployer has set in `cdk.json`.
    """
    folder = tmp_path_factory.mktemp("local")
    stack = LocalStack(free_port(), folder, app=app_folder(folder / "app"))
    with running(stack):
        yield stack
