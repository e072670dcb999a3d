"""Bounds of what a session holds, for all that write items and all that read them."""

from __future__ import annotations

import re

SESSION_ID = re.compile(r"[A-Za-z0-9_-]{12}")
# Unicode's category Cc is exactly these 65; a lone surrogate has no UTF-8 form.
USER_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,256}")
REASON = re.compile(r"[a-z0-9_.-]{1,64}")
# A user agent as it is reported, and as a session keeps that of its last client: enough to name the
# browser and its version. A session of ordinary size stays within 1 KB with it, so its renewal
# costs one write unit.
MAX_USER_AGENT = 512
MAX_LAST_USER_AGENT = 128
# Of a session's data. DynamoDB refuses the 33rd level; the attribute itself and a scalar at the
# bottom count too.
MAX_LEVELS = 30
MAX_KEY_CHARACTERS = 255
# The longest absolute timeout that a deployment may allow, and so the longest window.
MAX_LIFETIME_SECONDS = 400 * 24 * 3600
# The longest grace period that a caller or a deployment may choose for a former token.
MAX_GRACE_SECONDS = 3600
# The last time that the ten digits of an event's id can hold, in epoch seconds. A time in
# milliseconds is later.
MAX_SECONDS = 10**10 - 1
# A write takes effect, and is recorded, within this time of the `:now` that it carries: a request
# waits up to 7 s, and hosts' clocks differ by up to 2 s. The rest is room.
WRITE_SECONDS = 60
