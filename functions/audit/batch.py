"""How a consumer of a stream ends a batch: what Lambda repeats, and what the bucket keeps."""

from __future__ import annotations

from typing import Any

from audit import failed_events


def answer(missed: list[Any], refused: list[Any], *, bucket: str) -> dict[str, Any]:
    """Return the answer that makes Lambda repeat the batch from the first of the `missed` records.

    The `refused` records will never be taken. Those that Lambda does not repeat anyway are kept
    whole in the bucket; if the bucket does not take them either, Lambda repeats them as well.
    https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html
    """
    lowest = _lowest(missed)
    passed = [record for record in refused if not _comes_again(record, lowest)]
    if passed and not failed_events.keep(passed, bucket=bucket):
        lowest = _lowest(missed + passed)
    return {"batchItemFailures": [] if lowest is None else [{"itemIdentifier": lowest}]}


def _lowest(records: list[Any]) -> str | None:
    """The first of these in the stream's order, None if there are none.

    Empty, which makes Lambda repeat the whole batch, if one of them does not tell its place.
    """
    if not records:
        return None
    try:
        lowest: str = min((each["dynamodb"]["SequenceNumber"] for each in records), key=int)
    except (KeyError, TypeError, ValueError):
        return ""
    return lowest


def _comes_again(record: Any, lowest: str | None) -> bool:
    """Whether Lambda repeats `record` when it repeats from `lowest` on."""
    if not lowest:
        return lowest == ""
    try:
        return int(record["dynamodb"]["SequenceNumber"]) >= int(lowest)
    except (KeyError, TypeError, ValueError):
        return False
