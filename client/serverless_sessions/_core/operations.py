"""The methods of `Sessions` and `AsyncSessions` as plans."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from types import NoneType
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from serverless_sessions._core import clock, exact_json
from serverless_sessions._core.calls import (
    Answer,
    Attempts,
    Deadline,
    Plan,
    Repeat,
    Request,
    Wait,
    call,
    jitter,
    unknown_outcome,
)
from serverless_sessions._core.checks import check_string, check_text, names
from serverless_sessions._core.client_details import normalize
from serverless_sessions._core.direct import DirectReader
from serverless_sessions._core.secret import Secret
from serverless_sessions._core.signing import service_of
from serverless_sessions._core.token import SESSION_ID, Token, new_session_id
from serverless_sessions.errors import (
    InvalidToken,
    SessionNotFound,
    Unavailable,
    VersionMismatch,
)
from serverless_sessions.models import (
    Client,
    Data,
    Event,
    Impersonator,
    IssuedSession,
    PendingExpiry,
    Session,
    member,
)

_MAX_CONFLICTS = 30
_PAGE = 100

Item = TypeVar("Item")


@dataclass(frozen=True)
class Page(Generic[Item]):
    """One page of a list. `cursor` requests the next page; it is None on the last page."""

    items: Iterable[Item]
    cursor: str | None


class Operations:
    """Creates plans for calls to the service at `url`. Every plan has its own deadline."""

    def __init__(
        self,
        url: str,
        region: str,
        *,
        deadline_seconds: float,
        verify_deadline_seconds: float,
        sign_out_deadline_seconds: float,
        reader: DirectReader | None,
    ) -> None:
        self._url = url
        self._region = region
        self._aws_service = service_of(url)
        self._deadline_seconds = deadline_seconds
        self._verify_deadline_seconds = verify_deadline_seconds
        self._sign_out_deadline_seconds = sign_out_deadline_seconds
        self._reader = reader

    def create(
        self,
        user_id: str | None,
        *,
        data: Secret[Mapping[str, Any] | None],
        ttl_seconds: int | None,
        absolute_ttl_seconds: int | None,
        client: Client | None,
        max_sessions: int | None = None,
        methods: Collection[str] | None = None,
        authenticated_at: int | None = None,
        impersonator: Impersonator | None = None,
        token: Token | None = None,
    ) -> Plan[IssuedSession]:
        """`token` must be a new token that an adapter has generated, never one from an end user."""
        token = token or Token.issue(new_session_id())
        body = Secret(
            {
                "user_id": user_id,
                "data": data.value,
                "ttl_seconds": ttl_seconds,
                "absolute_ttl_seconds": absolute_ttl_seconds,
                "client": normalize(client) or None,
                "max_sessions": max_sessions,
                "methods": None if methods is None else names(methods),
                "authenticated_at": authenticated_at,
                "impersonator": None if impersonator is None else asdict(impersonator),
                "session_id": token.session_id,
                "token_sha256": token.token_sha256,
                "family_sha256": token.family_sha256,
            }
        )
        request = self._request("POST", "/sessions", body, status=201)
        session = yield from call(request, self._deadline(), _session_of(token.session_id))
        return IssuedSession(session, token.text)

    def inspect(self, text: Secret[str]) -> Plan[Session | None]:
        """Return the session whose newest token is `text`. The service writes nothing."""
        token = Token.parse(text.value)
        if token is None:
            return None
        body = Secret({"token": token.text, "inspect": True})
        request = self._request("POST", "/sessions/verify", body)
        deadline = Deadline(self._verify_deadline_seconds)
        try:
            return (yield from call(request, deadline, _session_of(token.session_id)))
        except InvalidToken:
            return None

    def verify(
        self, text: Secret[str], *, renew: bool, client: Client | None
    ) -> Plan[Session | None]:
        token = Token.parse(text.value)
        if token is None:
            return None
        deadline = Deadline(self._verify_deadline_seconds)
        if self._reader:
            session = yield from self._reader.read(token, self._region, deadline, renew=renew)
            if session:
                return session
        body = Secret({"token": token.text, "renew": renew, "client": normalize(client) or None})
        request = self._request("POST", "/sessions/verify", body)
        read_session = _session_of(token.session_id)

        def read(answer: Answer) -> tuple[Session, str]:
            return read_session(answer), answer.headers.get("sessions-policy", "")

        sent_at = clock.time()
        try:
            session, policy = yield from call(request, deadline, read)
        except InvalidToken:
            return None
        if self._reader:
            self._reader.learn(policy, sent_at)
        return session

    def get(self, session_id: str) -> Plan[Session]:
        return self._get(session_id, self._deadline())

    def _get(self, session_id: str, deadline: Deadline) -> Plan[Session]:
        request = self._request("GET", _path(session_id))
        return (yield from call(request, deadline, _session_of(session_id)))

    def change(
        self, session_id: str, changes: Secret[Mapping[str, Any]], *, version: int | None
    ) -> Plan[Session]:
        return self._write("PATCH", session_id, changes, version, self._deadline())

    def replace(
        self, session_id: str, data: Secret[Mapping[str, Any]], *, version: int | None
    ) -> Plan[Session]:
        return self._write("PUT", session_id, data, version, self._deadline())

    def _write(
        self,
        method: str,
        session_id: str,
        data: Secret[Mapping[str, Any]],
        version: int | None,
        deadline: Deadline,
    ) -> Plan[Session]:
        """Change or replace the data.

        A retry could overwrite what another writer stored in between, so the request is only
        retried with a `version`. If its outcome is unknown, the session is read: the change was
        made if the session has the intended data. Otherwise this raises `OutcomeUnknown`.
        """
        headers = {} if version is None else {"If-Match": f'"v{version}"'}
        body = Secret({"data": data.value})
        request = self._request(method, _path(session_id), body, headers=headers)
        attempts = Attempts()
        try:
            return (
                yield from call(
                    request,
                    deadline,
                    _session_of(session_id),
                    repeat=Repeat.NEVER if version is None else Repeat.AGAIN,
                    attempts=attempts,
                )
            )
        except (Unavailable, VersionMismatch) as error:
            if attempts.last_unknown is None:
                raise
            unknown = unknown_outcome(attempts.last_unknown)
            try:
                session = yield from self._get(session_id, deadline)
            except Unavailable:
                raise unknown from error
            is_next_version = version is None or session.version == version + 1
            if is_next_version and _has_data(session, method, data.value):
                return session
            raise unknown from error

    def update(self, session_id: str, function: Callable[[Data], Data | None]) -> Plan[Session]:
        deadline = self._deadline()
        for count in range(_MAX_CONFLICTS):
            session = yield from self._get(session_id, deadline)
            after = _apply(function, Secret(copy.deepcopy(session.data or {})))
            changes = _changes(session, after)
            if changes.value == {}:
                return session
            if changes.value is None:
                method, data = "PUT", after
            else:
                method, data = "PATCH", Secret(changes.value)
            try:
                return (yield from self._write(method, session_id, data, session.version, deadline))
            except VersionMismatch:
                if count == _MAX_CONFLICTS - 1:
                    raise
            yield Wait(min(jitter(count), max(deadline.left, 0)))
        raise AssertionError("unreachable")

    def renew(
        self, session_id: str, *, ttl_seconds: int | None, final: bool = False
    ) -> Plan[Session]:
        body = Secret({"ttl_seconds": ttl_seconds, "final": final or None})
        request = self._request("POST", _path(session_id, "/renew"), body)
        return (yield from call(request, self._deadline(), _session_of(session_id)))

    def rotate(
        self,
        session_id: str,
        *,
        token: Secret[str] | None,
        grace_seconds: int | None,
        successor: Token | None = None,
    ) -> Plan[IssuedSession]:
        """`token` is the token that the end user presented.

        `successor` is a new token of the same family, if an adapter has generated one.
        """
        return self._rotate(
            "/rotate", session_id, token, {"grace_seconds": grace_seconds}, successor
        )

    def authenticate(
        self,
        session_id: str,
        *,
        methods: Collection[str],
        token: Secret[str] | None,
        grace_seconds: int | None,
        successor: Token | None = None,
    ) -> Plan[IssuedSession]:
        """The tokens are those of `rotate`."""
        body = {"methods": names(methods), "grace_seconds": grace_seconds}
        return self._rotate("/authenticate", session_id, token, body, successor)

    def _rotate(
        self,
        suffix: str,
        session_id: str,
        token: Secret[str] | None,
        members: Mapping[str, Any],
        successor: Token | None,
    ) -> Plan[IssuedSession]:
        body = dict(members)
        if token is None:
            new_token = Token.issue(session_id)
            body["family_sha256"] = new_token.family_sha256
        else:
            old_token = Token.parse(token.value)
            if old_token is None or old_token.session_id != session_id:
                raise InvalidToken("The token is malformed or belongs to another session.")
            new_token = successor or old_token.successor()
        body["token_sha256"] = new_token.token_sha256
        secret_body = Secret(body | {"token": token.value if token else None})
        request = self._request("POST", _path(session_id, suffix), secret_body)
        session = yield from call(request, self._deadline(), _session_of(session_id))
        return IssuedSession(session, new_token.text)

    def revoke(self, session_id: str, *, reason: str) -> Plan[None]:
        check_string("session_id", session_id)
        if SESSION_ID.fullmatch(session_id):
            request = self._request(
                "DELETE", _path(session_id), query={"reason": reason}, status=204
            )
            yield from call(request, self._deadline(), lambda _: None)

    def revoke_all(self, user_id: str, *, keep: str | None, reason: str) -> Plan[int]:
        count = 0
        cursor: str | None = None
        while True:
            query = {"user_id": user_id, "except": keep, "reason": reason, "cursor": cursor}
            request = self._request("DELETE", "/sessions", query=query)
            attempts = Attempts()
            try:
                revoked, next_cursor = yield from call(
                    request,
                    Deadline(self._sign_out_deadline_seconds),
                    _sign_out,
                    repeat=Repeat.ANSWERED,
                    attempts=attempts,
                )
            except Unavailable as error:
                if attempts.last_unknown is None:
                    raise
                raise unknown_outcome(attempts.last_unknown) from error
            count += revoked
            if next_cursor is None:
                return count
            if not revoked and next_cursor == cursor:
                raise Unavailable("the service ended no session, but says that some are left")
            cursor = next_cursor

    def list_page(self, user_id: str, cursor: str | None) -> Plan[Page[Session]]:
        query = {"user_id": user_id, "limit": _PAGE, "cursor": cursor}
        request = self._request("GET", "/sessions", query=query)
        return call(request, self._deadline(), _page_after(cursor, Session.from_json))

    def events_page(self, query: Mapping[str, Any], cursor: str | None) -> Plan[Page[Event]]:
        query = dict(query) | {"limit": _PAGE, "cursor": cursor}
        request = self._request("GET", "/events", query=query)
        return call(request, self._deadline(), _page_after(cursor, Event.from_json))

    def pending(self, session_id: str) -> Plan[PendingExpiry | None]:
        check_string("session_id", session_id)
        query = {"session_id": session_id, "limit": 1}
        request = self._request("GET", "/events", query=query)
        return call(request, self._deadline(), _pending)

    def _deadline(self) -> Deadline:
        return Deadline(self._deadline_seconds)

    def _request(
        self,
        method: str,
        path: str,
        body: Secret[Mapping[str, Any]] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        status: int = 200,
    ) -> Request:
        """Build a request, without the members of `body` and of `query` that are None."""
        url = self._url + path
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        for name, value in parameters.items():
            check_text(name, value)
        if parameters:
            url += "?" + urlencode(parameters, quote_via=quote, safe="")
        content_type = {} if body is None else {"Content-Type": "application/json"}
        return Request(
            method,
            url,
            content_type | dict(headers or {}),
            Secret(b"") if body is None else body.map(_encode),
            region=self._region,
            aws_service=self._aws_service,
            status=status,
        )


def _path(session_id: str, suffix: str = "") -> str:
    """Return the path of a session. Raises `SessionNotFound` for a malformed session id."""
    check_string("session_id", session_id)
    if not SESSION_ID.fullmatch(session_id):
        raise SessionNotFound("No live session has this id.")
    return f"/sessions/{session_id}{suffix}"


def _encode(members: Mapping[str, Any]) -> bytes:
    for name, value in members.items():
        check_text(name, value)
    return exact_json.encode({name: members[name] for name in members if members[name] is not None})


def _apply(function: Callable[[Data], Data | None], draft: Secret[Data]) -> Secret[Data]:
    result = function(draft.value)
    return draft if result is None else Secret(result)


def _changes(session: Session, after: Secret[Data]) -> Secret[Data | None]:
    """Return the changes that `change` must send, or a secret None if it cannot express them."""
    return after.map(lambda data: exact_json.changes(session.data or {}, data))


def _session_of(session_id: str) -> Callable[[Answer], Session]:
    """Return the function that reads an answer with this session."""

    def read(answer: Answer) -> Session:
        session = Session.from_json(answer.json)
        if session.session_id != session_id:
            raise ValueError("session_id is that of another session")
        if session.data is None:
            raise ValueError("data is missing")
        return session

    return read


def _page_after(
    cursor: str | None, read_item: Callable[[Any], Item]
) -> Callable[[Answer], Page[Item]]:
    """Return the function that reads the page which `cursor` has requested."""

    def read(answer: Answer) -> Page[Item]:
        page = answer.json
        items = [read_item(item) for item in member(page, "items", list)]
        next_cursor = member(page, "next_cursor", str, NoneType)
        if next_cursor is not None and next_cursor == cursor:
            raise ValueError("next_cursor is that of the same page")
        return Page(items, next_cursor)

    return read


def _sign_out(answer: Answer) -> tuple[int, str | None]:
    """Read the number of ended sessions, and the cursor with which to continue, or None."""
    document = answer.json
    revoked = member(document, "revoked", int)
    is_complete = member(document, "complete", bool)
    cursor = member(document, "next_cursor", *((str, NoneType) if is_complete else (str,)))
    return revoked, None if is_complete else cursor


def _pending(answer: Answer) -> PendingExpiry | None:
    document = member(answer.json, "pending", dict, NoneType)
    return None if document is None else PendingExpiry.from_json(document)


def _has_data(session: Session, method: str, data: Mapping[str, Any]) -> bool:
    """Return whether the session has the data that the change was meant to write."""
    current = session.data or {}
    if method == "PUT":
        return exact_json.same(current, data)
    return all(
        key not in current
        if value is None
        else key in current and exact_json.same(current[key], value)
        for key, value in data.items()
    )
