"""The examples run on the same service as the client's tests."""

from tests.client.conftest import service, tables

__all__ = ["service", "tables"]
