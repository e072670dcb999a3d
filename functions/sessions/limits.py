"""Bounds that several modules share."""

from __future__ import annotations

# The longest grace period that a caller or a deployment may choose for a former token.
MAX_GRACE_SECONDS = 3600
# The last time that the ten digits of an event's id can hold, in epoch seconds. A time in
# milliseconds is later.
MAX_SECONDS = 10**10 - 1
# A write takes effect, and is recorded, within this time of the `:now` that it carries: a request
# waits up to 7 s, and hosts' clocks differ by up to 2 s. The rest is room.
WRITE_SECONDS = 60
