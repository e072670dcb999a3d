"""The page "Where you are signed in": what it shows, and what its buttons do.

Every framework renders it with the same template. What differs comes from the framework's own
module: the template engine, the protection against CSRF, translations and the format of times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from serverless_sessions._core.calls import Plan
from serverless_sessions._core.operations import Operations
from serverless_sessions._web.mapping import SessionValues
from serverless_sessions.errors import SessionNotFound
from serverless_sessions.models import Session
from serverless_sessions.wording import browser_name

TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE = "serverless_sessions/devices.html"
BASE_TEMPLATE = "serverless_sessions/base.html"
# Another site must not show the page in a frame, where the user would not see what they click.
HEADERS = {"Cache-Control": "no-store", "X-Frame-Options": "DENY"}
# The size of the largest form that Flask and Starlette accept, in bytes. Django has a setting.
MAX_FORM_BYTES = 8192
# The number of other sessions that the page shows.
LIMIT = 100
# The form's field. Its value is the id of the session to end, or `OTHERS`.
FIELD = "sign_out"
OTHERS = "others"
# The outcome of `sign_out` if it has ended no session.
NOTHING = "nothing"

# Apps translate these texts. A placeholder such as `%(name)s` is replaced after the translation.
TEXTS = {
    "language": "en",
    "title": "Where you are signed in",
    "introduction": "Sign out every device that you do not recognize.",
    "read_only": "You are acting as this user. Only the user can sign out devices.",
    "this_device": "this device",
    "unknown_device": "Unknown device",
    "unknown_name": "Unknown device: “%(name)s”",
    "support": "Somebody who acts as you, for example support",
    "address": "Address",
    "signed_in": "Signed in",
    "last_activity": "Last recorded activity",
    "sign_out": "Sign out",
    "sign_out_device": "Sign out: %(device)s, signed in %(time)s",
    "sign_out_others": "Sign out all other devices",
    "no_others": "You are not signed in on any other device.",
    "more": "You are signed in on more devices than this page shows.",
    "outcome_device": "The device is signed out.",
    "outcome_others": "All other devices are signed out.",
    "outcome_nothing": "That device is not signed in any more.",
}

_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
_NOT_ASCII = re.compile("[^ -~]")


@dataclass(frozen=True)
class Device:
    """A row of the page. `name` contains text that the device itself has sent."""

    session_id: str
    name: str
    address: str | None
    signed_in: str
    last_activity: str
    # None for the current device.
    sign_out_label: str | None
    is_current: bool


@dataclass(frozen=True)
class Page:
    """What the template shows. `rows` starts with the device of the request, if it is stored."""

    texts: Mapping[str, str]
    message: str | None
    rows: list[Device]
    has_others: bool
    has_more: bool
    may_sign_out: bool


class Devices:
    """The devices on which the user of a request is signed in.

    `current` is the stored session of the request. After a log-in in the same request, it may be
    missing, or belong to a visitor or to another user.
    """

    def __init__(
        self,
        operations: Operations,
        user_id: str,
        current: Session | None,
        *,
        is_impersonated: bool,
    ) -> None:
        self.is_impersonated = is_impersonated
        self._operations = operations
        self._user_id = user_id
        self._current = current if current and current.user_id == user_id else None
        self._current_id = self._current.session_id if self._current else None

    @classmethod
    def of(cls, session: SessionValues, operations: Operations) -> Devices | None:
        """Return the devices of the user of a Flask or Starlette session. None without a user."""
        user_id = session._user_of(session)
        if user_id is None:
            return None
        is_impersonated = session.impersonator is not None
        return cls(operations, user_id, session.web.session, is_impersonated=is_impersonated)

    def page(
        self,
        outcome: str | None,
        *,
        translate: Callable[[str], str],
        format_time: Callable[[datetime], str],
    ) -> Plan[Page]:
        """Read the sessions for the page, which also reports the outcome of `sign_out`."""
        others, has_more = yield from self._others()
        texts = {name: str(translate(source)) for name, source in TEXTS.items()}
        sessions = [self._current, *others] if self._current else others
        # `outcome` comes from the URL, which an attacker may have written.
        is_true = outcome != OTHERS or not others
        return Page(
            texts,
            texts.get(f"outcome_{outcome}") if is_true else None,
            [
                _device(session, texts, format_time, is_current=session is self._current)
                for session in sessions
            ],
            bool(others),
            has_more,
            may_sign_out=not self.is_impersonated,
        )

    def sign_out(self, target: str) -> Plan[str]:
        """End another session of the user, or all of them if `target` is `OTHERS`.

        Return the outcome, which the next page reports. It is `NOTHING` if the user has no other
        session with this id.
        """
        if target == OTHERS:
            yield from self._operations.revoke_all(
                self._user_id, keep=self._current_id, reason="signed_out_elsewhere"
            )
            return OTHERS
        # The app's own log-out ends the current session. It also deletes the cookie.
        if target == self._current_id:
            return NOTHING
        try:
            session = yield from self._operations.get(target)
        except SessionNotFound:
            return NOTHING
        if session.user_id != self._user_id:
            return NOTHING
        yield from self._operations.revoke(target, reason="device_signed_out")
        return "device"

    def _others(self) -> Plan[tuple[list[Session], bool]]:
        """Return the newest other sessions, the most recently active first, and if there are more.

        A page of the list can be empty although another one follows.
        """
        others: list[Session] = []
        cursor: str | None = None
        while True:
            page = yield from self._operations.list_page(self._user_id, cursor)
            others += [item for item in page.items if item.session_id != self._current_id]
            cursor = page.cursor
            if cursor is None or len(others) > LIMIT:
                break
        newest = sorted(others[:LIMIT], key=lambda session: session.renewed_at, reverse=True)
        return newest, len(others) > LIMIT


def in_utc(time: datetime) -> str:
    """Return a time as in "3 May 2026, 10:12 UTC"."""
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def _device(
    session: Session,
    texts: Mapping[str, str],
    format_time: Callable[[datetime], str],
    *,
    is_current: bool,
) -> Device:
    name = _name(session, texts)
    address = session.last_client.ip or session.client.ip
    if session.impersonator:
        # The user sees neither the browser nor the address of the agent.
        name, address = texts["support"], None
    signed_in = format_time(datetime.fromtimestamp(session.created_at, UTC))
    sign_out_label = None
    if not is_current:
        device = f"{name}, {address}" if address else name
        sign_out_label = _fill("sign_out_device", texts, device=device, time=signed_in)
    return Device(
        session.session_id,
        name,
        address,
        signed_in,
        format_time(datetime.fromtimestamp(session.renewed_at, UTC)),
        sign_out_label,
        is_current,
    )


def _name(session: Session, texts: Mapping[str, str]) -> str:
    user_agent = session.last_client.user_agent or ""
    # The service stores fewer characters of the last user agent than of the first.
    if (first := session.client.user_agent or "").startswith(user_agent):
        user_agent = first
    if name := browser_name(user_agent):
        return name
    if not user_agent:
        return texts["unknown_device"]
    # Other characters could end the quotation or change its direction.
    quotable = _NOT_ASCII.sub("\N{REPLACEMENT CHARACTER}", user_agent)
    return _fill("unknown_name", texts, name=quotable[:60])


def _fill(text_name: str, texts: Mapping[str, str], **values: str) -> str:
    """Return a text with its values. A translation with an unknown placeholder is not used."""
    text = texts[text_name]
    if not values.keys() >= set(_PLACEHOLDER.findall(text)):
        text = TEXTS[text_name]
    return _PLACEHOLDER.sub(lambda placeholder: values[placeholder[1]], text)
