"""Bounds on the contents of a session, shared by all code that writes or reads items."""

from __future__ import annotations

import re

SESSION_ID = re.compile(r"[A-Za-z0-9_-]{12}")
# A user id has neither control characters (Unicode's category Cc has exactly these 65) nor lone
# surrogates, which have no UTF-8 form.
USER_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,256}")
REASON = re.compile(r"[a-z0-9_.-]{1,64}")
# The reasons that only the service itself uses.
OWN_REASONS = ("token_reuse", "session_limit")
# The largest limit for the sessions of a user. A creation reads as many entries in one request.
MAX_SESSIONS = 100
# The name of a way to prove who one is, such as those of RFC 8176: pwd, otp, hwk.
METHOD = re.compile(r"[a-z0-9_.-]{1,32}")
MAX_METHODS = 8
# The longest user agent that a caller may report, and the longest that a session stores for its
# last client. The shorter one still names the browser and its version. It keeps a session of
# ordinary size within 1 KB, so that a renewal costs one write unit.
MAX_USER_AGENT = 512
MAX_LAST_USER_AGENT = 128
# The nesting of a session's data. DynamoDB refuses the 33rd level, and it counts the attribute
# itself and a scalar at the bottom as well.
MAX_LEVELS = 30
MAX_KEY_CHARACTERS = 255
# The longest absolute timeout that a deployment may allow. A window can't be longer either.
MAX_LIFETIME_SECONDS = 400 * 24 * 3600
# The longest grace period that a caller or a deployment may choose for a former token.
MAX_GRACE_SECONDS = 3600
# The latest time in epoch seconds that the ten digits of an event's id can hold. A time in
# milliseconds exceeds it.
MAX_SECONDS = 10**10 - 1
# A write takes effect and is recorded within this time of its `:now`. A request waits up to 7 s,
# and the clocks of hosts differ by up to 2 s; the rest is a margin.
WRITE_SECONDS = 60
