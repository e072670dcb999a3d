"""A run of the sweeper, which looks at sessions whose timers are due and deletes the expired ones.

Deleting is not done until nothing can renew the session any more: a renewal that is under way takes
up to 7 s, and the clocks of hosts differ by up to 2 s. From then on, every write fails: before the
deletion because the session has expired, and after it because the item does not exist.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import clock
from dynamodb import batches
from dynamodb.batches import KEYS_PER_REQUEST, Failures, OutOfTime, check_time
from dynamodb.errors import DynamoDBError, RequestRefused, TransientError
from expiry.cursor import Cursor
from expiry.timers import Timer, Timers
from sessions.dynamodb import DynamoDB, Item
from sessions.errors import Unavailable
from sessions.lifetime import seconds

# A session is deleted this long after its expiration, and its timer is read as long after it is
# due.
_EXPIRED_SECONDS = 10
# A creation may be repeated for a minute, and its session must not have disappeared by then.
_CREATION_SECONDS = 60
# A cursor that does not exist yet starts this long ago.
_FIRST_SECONDS = 3600
# Timers from before this time have been deleted by TTL.
_LONGEST_SECONDS = 7 * 24 * 3600
# Every deletion takes two write units from the table that requests use. This is an eighth of what a
# new table on demand can take.
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html
_SESSIONS_PER_SECOND = 1000
# The attributes that decide about a deletion. `RevokedAt` is not there if the session is not
# revoked.
_ATTRIBUTES = "SessionId, ExpirationTime, CreatedAt, RevokedAt"

logger = logging.getLogger(__name__)


class Sweep:
    """A run. `deleted` and `failed` are numbers of sessions.

    `second` is the position of the cursor, in epoch seconds. It is None if it could not be read.
    """

    def __init__(
        self, client: DynamoDB, sessions_table: str, timers_table: str, *, deadline: float
    ) -> None:
        self.deleted = self.failed = 0
        self.second: int | None = None
        self._client = client
        self._table_name = sessions_table
        self._delete = (
            f'DELETE FROM "{sessions_table}"'  # noqa: S608 (the name is a setting)
            " WHERE SessionId = ? AND ExpirationTime <= ? AND RevokedAt IS MISSING"
        )
        self._timers = Timers(client, timers_table)
        self._cursor = Cursor(client, timers_table)
        self._deadline = deadline

    def run(self) -> None:
        """Do all that was due 10 s ago. Only the cursor is written after the deadline.

        If time runs out, or DynamoDB throttles or does not answer, the next run continues. Several
        runs at a time do no harm.
        """
        try:
            self._sweep()
        except OutOfTime:
            logger.warning("out of time", extra={"cursor": self.second})
        except (DynamoDBError, Unavailable) as failure:
            cause = failure.code if isinstance(failure, RequestRefused) else str(failure)
            logger.error("stopped", extra={"cursor": self.second, "cause": cause})

    def _sweep(self) -> None:
        now = clock.now()
        stop = now - _EXPIRED_SECONDS + 1
        done_before = self._cursor.read()
        if done_before is None:
            done_before = now - _FIRST_SECONDS
        self.second = max(done_before, now - _LONGEST_SECONDS)
        while self.second < stop:
            end = min((self.second // 60 + 1) * 60, stop)
            timers = self._timers.due(self.second, end, deadline=self._deadline)
            try:
                for group in _groups(timers):
                    self.second = group[0].due
                    self._look(group)
                self.second = end
            finally:
                self._cursor.move(self.second)

    def _look(self, timers: list[Timer]) -> None:
        """Look at these sessions. Those that are expired are deleted, the others get a new timer.

        A revoked session is left to TTL, and an item that has no expiration time is not a session.
        Raises `DynamoDBError` and `OutOfTime` if something has to be done again.
        """
        began = clock.monotonic()
        session_ids = list(dict.fromkeys(timer.session_id for timer in timers))
        items = {item["SessionId"]["S"]: item for item in self._read(session_ids)}
        now = clock.now()
        expired, times = list[str](), dict[str, int]()
        for session_id in session_ids:
            item = items.get(session_id, {})
            end, created = seconds(item, "ExpirationTime"), seconds(item, "CreatedAt")
            if end < 0 or "RevokedAt" in item:
                continue
            if end > now:
                times[session_id] = end
            elif end <= now - _EXPIRED_SECONDS and created <= now - _CREATION_SECONDS:
                expired.append(session_id)
            else:
                times[session_id] = max(
                    end + _EXPIRED_SECONDS, created + _CREATION_SECONDS + _EXPIRED_SECONDS
                )
        failures = batches.execute(self._client, expired, self._deletion, deadline=self._deadline)
        self.deleted += len(expired) - sum(map(len, failures[:3]))
        self._finish(failures)
        # Somebody has changed or deleted these sessions since they were read.
        times |= dict.fromkeys(failures.condition_failed, now)
        self._finish(self._timers.add(times, deadline=self._deadline))
        pause = len(expired) / _SESSIONS_PER_SECOND - (clock.monotonic() - began)
        if pause > 0:
            clock.sleep(pause)

    def _read(self, session_ids: list[str]) -> Iterator[Item]:
        try:
            yield from batches.read(
                self._client,
                self._table_name,
                [{"SessionId": {"S": session_id}} for session_id in session_ids],
                attributes=_ATTRIBUTES,
                deadline=self._deadline,
            )
        except RequestRefused as refusal:
            if not batches.is_permanent(refusal):
                raise
            if len(session_ids) == 1:
                self._give_up(session_ids)
                return
            # One bad key fails the whole request.
            for session_id in session_ids:
                yield from self._read([session_id])

    def _deletion(self, session_id: str) -> Item:
        expired_by = str(clock.now() - _EXPIRED_SECONDS)
        return {"Statement": self._delete, "Parameters": [{"S": session_id}, {"N": expired_by}]}

    def _finish(self, failures: Failures[str]) -> None:
        """Report permanent failures. Raises an error if there are temporary ones."""
        self._give_up(failures.permanent)
        if failures.temporary:
            check_time(self._deadline)
            raise TransientError(failures.cause)

    def _give_up(self, session_ids: list[str]) -> None:
        """Report timers for which DynamoDB refuses what has to be done, now and later."""
        self.failed += len(session_ids)
        for session_id in session_ids:
            logger.error("timer refused", extra={"session_id": session_id[:64]})


def _groups(timers: list[Timer]) -> Iterator[list[Timer]]:
    for start in range(0, len(timers), KEYS_PER_REQUEST):
        yield timers[start : start + KEYS_PER_REQUEST]
