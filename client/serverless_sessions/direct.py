"""Verify by reading the `Sessions` table itself."""

from __future__ import annotations


class DirectReader:
    """Lets `verify` read the table first; the API decides all that is not plain.

    Needs `dynamodb:GetItem` on the table, and nothing else.
    """

    def __init__(self, table: str, *, region: str | None = None) -> None:
        self.table = table
        self.region = region
