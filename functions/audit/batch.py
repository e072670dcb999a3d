"""How a stream consumer finishes a batch: what Lambda retries, and what the bucket keeps."""

from __future__ import annotations

from typing import Any

from audit import failed_events


def response(unfinished: list[Any], refused: list[Any], *, bucket: str) -> dict[str, Any]:
    """Return the response that makes Lambda retry the batch from the first `unfinished` record.

    Retrying does not help the `refused` records. Those that Lambda will not deliver again anyway
    are put into the bucket. If that fails, Lambda retries them as well.
    https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html
    """
    lowest = _lowest(unfinished)
    to_keep = [record for record in refused if not _is_retried(record, lowest)]
    if to_keep and not failed_events.keep(to_keep, bucket=bucket):
        lowest = _lowest(unfinished + to_keep)
    return {"batchItemFailures": [] if lowest is None else [{"itemIdentifier": lowest}]}


def _lowest(records: list[Any]) -> str | None:
    """Return the lowest sequence number of these records, or None if there are no records.

    If a record has no valid number, the result is empty, which makes Lambda retry the whole batch.
    """
    if not records:
        return None
    try:
        lowest: str = min((record["dynamodb"]["SequenceNumber"] for record in records), key=int)
    except (KeyError, TypeError, ValueError):
        return ""
    return lowest


def _is_retried(record: Any, lowest: str | None) -> bool:
    """Whether Lambda delivers `record` again when it retries the batch from `lowest` on."""
    if not lowest:
        return lowest == ""
    try:
        return int(record["dynamodb"]["SequenceNumber"]) >= int(lowest)
    except (KeyError, TypeError, ValueError):
        return False
