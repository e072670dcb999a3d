"""The HTTP API. One function per route parses the request, calls the domain and answers."""

from __future__ import annotations

import gc

gc.disable()  # the reason is at the end of the file

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.utilities.typing import LambdaContext
from msgspec import UNSET, UnsetType

import clock
from audit.trail import AuditTrail, EventPosition
from session_api import problems, requests
from session_api.problems import NO_STORE, NO_SUCH_ROUTE, RequestProblem
from session_api.requests import accepted_versions, read_body, read_query
from sessions import cursor
from sessions.cursor import AnyPosition, Position
from sessions.dynamodb import connect
from sessions.errors import (
    DocumentTooLarge,
    InvalidField,
    InvalidToken,
    SessionExists,
    SessionNotFound,
    Unavailable,
)
from sessions.limits import SESSION_ID
from sessions.rotation import Rotation
from sessions.session import Limits, Session, new_session_id
from sessions.store import SessionStore
from sessions.table import Writer
from sessions.token import Hashes, Token
from sessions.user_sessions import SessionPosition, SignOutPosition, UserSessions

logger = Logger()
app = APIGatewayHttpResolver()
client = connect()
table_name = os.environ["SESSIONS_TABLE"]
not_before = int(os.environ["NOT_BEFORE"])
sessions = SessionStore(client, table_name, not_before=not_before)
user_sessions = UserSessions(client, table_name, sessions, not_before=not_before)
trail = AuditTrail(client, os.environ["AUDIT_TABLE"])
limits = Limits(
    default_ttl_seconds=int(os.environ["DEFAULT_TTL_SECONDS"]),
    default_absolute_ttl_seconds=int(os.environ["DEFAULT_ABSOLUTE_TTL_SECONDS"]),
    max_absolute_ttl_seconds=int(os.environ["MAX_ABSOLUTE_TTL_SECONDS"]),
    max_impersonation_seconds=int(os.environ["MAX_IMPERSONATION_SECONDS"]),
    max_data_bytes=int(os.environ["MAX_DATA_BYTES"]),
)
renewal_fraction = float(os.environ["RENEWAL_FRACTION"])
record_anonymous = os.environ["RECORD_ANONYMOUS"] == "true"
# The stack sets these variables only if the settings are used. Without a limit, the latter is 0.
prompt_expiry = os.environ.get("PROMPT_EXPIRY") == "true"
max_sessions_per_user = int(os.environ.get("MAX_SESSIONS_PER_USER", 0))
default_grace_seconds = int(os.environ["ROTATION_GRACE_SECONDS"])
# Clients that read the table themselves need these settings. The number must not have an exponent.
_fraction = f"{Decimal(os.environ['RENEWAL_FRACTION']):f}"
policy = {"Sessions-Policy": f"not_before={not_before}, renewal_fraction={_fraction}"}
# API Gateway waits 30 s. The other 10 s are for the request that is under way, which takes at most
# 7 s, and for the answer.
SIGN_OUT_SECONDS = 20
# Characters that are invalid in every path. The router would accept some of them in an id.
_INVALID_IN_PATH = re.compile("[^A-Za-z0-9_/-]")
# A Decimal is encoded as a JSON number, as it was in the request.
encode = msgspec.json.Encoder(decimal_format="number").encode


@app.post("/sessions")
def create_session() -> Response[str]:
    read_query(app.current_event, requests.NoParameters)
    body = read_body(app.current_event, requests.CreateSession)
    session = Session.start(
        body.user_id,
        session_id=new_session_id() if body.session_id is UNSET else body.session_id,
        data=_checked_size(body.data),
        client=msgspec.to_builtins(body.client),
        ttl_seconds=body.ttl_seconds,
        absolute_ttl_seconds=body.absolute_ttl_seconds,
        authenticated_at=body.authenticated_at,
        methods=None if body.methods is UNSET else body.methods,
        impersonator=(
            None if body.impersonator is UNSET else msgspec.structs.asdict(body.impersonator)
        ),
        limits=limits,
        now=clock.now(),
    )
    token, hashes = _secret(Token.issue(session.session_id), body)
    try:
        session = sessions.create(session, hashes, by=_writer())
    except SessionExists as exists:
        if token:
            # The client sent the write twice, and the session ended in between. The next call gets
            # another id.
            raise Unavailable("ended before its creation was answered") from exists
        raise
    # Somebody who acts as the user must not sign the user out.
    if session.user_id is not None and not session.impersonator and (most := _max_sessions(body)):
        failure = user_sessions.enforce_limit(session.user_id, most=most, new=session, by=_writer())
        if failure:
            _log_failure("session limit not enforced", failure)
    # Relative to the URL of the request, because only the caller knows what precedes `/sessions`.
    location = {"Location": f"sessions/{session.session_id}"}
    return _answer(201, _with_token(session, token), location | _etag(session))


@app.post("/sessions/verify")
def verify_token() -> Response[str]:
    read_query(app.current_event, requests.NoParameters)
    body = read_body(app.current_event, requests.VerifyToken)
    token = Token.parse(body.token)
    if token is None:
        raise InvalidToken
    if body.inspect:
        session = sessions.inspect(token)
        return _answer(200, session, policy | _etag(session))
    session, failure = sessions.verify(
        token,
        renew=body.renew,
        renewal_fraction=renewal_fraction,
        client=msgspec.to_builtins(body.client),
        by=_writer(),
    )
    if failure:
        _log_failure("renewal or first use not written", failure)
    return _answer(200, session, policy | _etag(session))


@app.get("/sessions/<session_id>")
def get_session(session_id: str) -> Response[str]:
    read_query(app.current_event, requests.NoParameters)
    session = sessions.get(_checked_id(session_id))
    return _answer(200, session, _etag(session))


@app.patch("/sessions/<session_id>")
def change_session(session_id: str) -> Response[str]:
    return _write_data(session_id, requests.ChangeData, sessions.change)


@app.put("/sessions/<session_id>")
def replace_session(session_id: str) -> Response[str]:
    return _write_data(session_id, requests.ReplaceData, sessions.replace)


def _write_data(
    session_id: str,
    form: type[requests.ChangeData | requests.ReplaceData],
    write: Callable[..., Session],
) -> Response[str]:
    read_query(app.current_event, requests.NoParameters)
    body = read_body(app.current_event, form)
    session = write(
        _checked_id(session_id),
        _checked_size(body.data),
        versions=accepted_versions(app.current_event.headers),
        by=_writer(),
    )
    return _answer(200, session, _etag(session))


@app.post("/sessions/<session_id>/renew")
def renew_session(session_id: str) -> Response[str]:
    read_query(app.current_event, requests.NoParameters)
    body = read_body(app.current_event, requests.RenewSession, optional=True)
    window = None if body.ttl_seconds is UNSET else _checked_window(body.ttl_seconds)
    session = sessions.renew(
        _checked_id(session_id), ttl_seconds=window, final=body.final, by=_writer()
    )
    return _answer(200, session, _etag(session))


@app.post("/sessions/<session_id>/rotate")
def rotate_token(session_id: str) -> Response[str]:
    read_query(app.current_event, requests.NoParameters)
    body = read_body(app.current_event, requests.RotateToken, optional=True)
    return _rotate(session_id, body, methods=None)


@app.post("/sessions/<session_id>/authenticate")
def authenticate(session_id: str) -> Response[str]:
    read_query(app.current_event, requests.NoParameters)
    body = read_body(app.current_event, requests.Authenticate)
    return _rotate(session_id, body, methods=body.methods)


def _rotate(
    session_id: str, body: requests.RotateToken, *, methods: list[str] | None
) -> Response[str]:
    presented = _presented_token(_checked_id(session_id), body)
    fresh = presented.successor() if presented else Token.issue(session_id)
    token, hashes = _secret(fresh, body)
    grace = default_grace_seconds if body.grace_seconds is UNSET else body.grace_seconds
    rotation = Rotation(
        hashes,
        presented,
        grace_seconds=grace,
        retired_seconds=default_grace_seconds,
        methods=methods,
    )
    session = sessions.rotate(session_id, rotation, by=_writer())
    return _answer(200, _with_token(session, token), _etag(session))


@app.delete("/sessions/<session_id>")
def revoke_session(session_id: str) -> Response[str]:
    parameters = read_query(app.current_event, requests.RevokeSession)
    with suppress(SessionNotFound):
        sessions.revoke(_checked_id(session_id), reason=parameters.reason, by=_writer())
    return Response(status_code=204, headers=NO_STORE, body="")


@app.get("/sessions")
def list_sessions() -> Response[str]:
    parameters = read_query(app.current_event, requests.ListSessions)
    query = {"user_id": parameters.user_id}
    page = user_sessions.list_live(
        parameters.user_id,
        limit=parameters.limit,
        after=_position(parameters.cursor, SessionPosition, query),
    )
    return _answer(200, _page(page.sessions, page.position, query))


@app.delete("/sessions")
def revoke_sessions() -> Response[str]:
    parameters = read_query(app.current_event, requests.RevokeSessions)
    query = {
        "user_id": parameters.user_id,
        "except": parameters.keep,
        "reason": parameters.reason,
    }
    sign_out = user_sessions.end_all(
        parameters.user_id,
        keep=parameters.keep,
        reason=parameters.reason,
        seconds=SIGN_OUT_SECONDS,
        after=_position(parameters.cursor, SignOutPosition, query),
        by=_writer(),
    )
    next_cursor = cursor.encode(sign_out.position, query) if sign_out.position else None
    return _answer(
        200,
        {
            "revoked": sign_out.revoked,
            "complete": sign_out.position is None,
            "next_cursor": next_cursor,
        },
    )


@app.get("/events")
def read_events() -> Response[str]:
    parameters = read_query(app.current_event, requests.ReadEvents)
    query = {name: getattr(parameters, name) for name in ("since", "until", "order")}
    query |= parameters.owner
    [(owner, name)] = parameters.owner.items()
    position = _position(parameters.cursor, EventPosition, query)
    # The pending event is read first. Otherwise, if the item was deleted in between, the answer
    # would have neither the pending event nor the recorded one.
    by_session = owner == "session_id" and position is None
    pending = None
    if by_session:
        pending = sessions.pending_expiry(
            name, record_anonymous=record_anonymous, prompt_expiry=prompt_expiry
        )
    page = trail.read(
        "UserId" if owner == "user_id" else "SessionId",
        name,
        since=parameters.since,
        until=parameters.until,
        newest_first=parameters.order == "desc",
        limit=parameters.limit,
        after=position,
    )
    if any(event.type == "expired" for event in page.events):
        pending = None
    extra = {"pending": pending} if by_session else {}
    return _answer(200, _page(page.events, page.position, query) | extra)


@app.not_found
def answer_no_route(_: NotFoundError) -> Response[str]:
    """API Gateway refuses requests that match none of its routes, but a function URL does not."""
    return _problem(RequestProblem(NO_SUCH_ROUTE))


@app.exception_handler(Exception)  # type: ignore[untyped-decorator]
def answer_problem(error: Exception) -> Response[str]:
    return _problem(error)


def _problem(error: Exception) -> Response[str]:
    return problems.answer(error, app.current_event.request_context.request_id)


def _log_failure(message: str, failure: Exception) -> None:
    """Log a failure that the answer does not show."""
    logger.warning(
        message,
        cause=str(failure) or type(failure).__name__,
        api_request_id=app.current_event.request_context.request_id,
    )


def _writer() -> Writer:
    context = app.current_event.request_context
    return Writer(actor=context["authorizer"]["iam"]["userArn"], request_id=context.request_id)


def _checked_id(session_id: str) -> str:
    """A malformed id is refused without a request to DynamoDB."""
    if not SESSION_ID.fullmatch(session_id):
        raise SessionNotFound
    return session_id


def _checked_size(data: dict[str, Any]) -> dict[str, Any]:
    """The limit is for compact JSON in UTF-8, regardless of how the caller formatted it."""
    if len(encode(data)) > limits.max_data_bytes:
        raise DocumentTooLarge
    return data


def _checked_window(ttl_seconds: int) -> int:
    most = limits.max_absolute_ttl_seconds
    if not 1 <= ttl_seconds <= most:
        raise InvalidField("/ttl_seconds", f"1 to {most} seconds")
    return ttl_seconds


def _max_sessions(body: requests.CreateSession) -> int:
    """Return the limit for the sessions of the user, or 0 if there is none.

    A call can only lower the limit of the setting.
    """
    if body.max_sessions is UNSET:
        return max_sessions_per_user
    return min(body.max_sessions, max_sessions_per_user or body.max_sessions)


def _presented_token(session_id: str, body: requests.RotateToken) -> Token | None:
    """Return the end user's token, or None if a backend rotates by the session's id alone."""
    if body.token is UNSET:
        return None
    token = Token.parse(body.token)
    if token is None or token.session_id != session_id:
        raise InvalidToken
    return token


def _secret(fresh: Token, body: requests.HashedSecret) -> tuple[Token | None, Hashes]:
    """Return the new token and its hashes.

    The token is `fresh`, or None if the caller has made the secret and sent only its hashes.
    """
    if body.token_sha256 is UNSET:
        return fresh, fresh.hashes
    family = fresh.hashes.family
    if body.family_sha256 is not UNSET:
        family = requests.read_hash(body.family_sha256)
    return None, Hashes(requests.read_hash(body.token_sha256), family)


def _with_token(session: Session, token: Token | None) -> dict[str, Any]:
    """Return the session for the answer. `token` is None if the caller has made the secret."""
    return msgspec.structs.asdict(session) | ({"token": str(token)} if token else {})


def _etag(session: Session) -> dict[str, str]:
    return {"ETag": f'"v{session.version}"'}


def _position(
    text: str | UnsetType, kind: type[AnyPosition], query: Mapping[str, object]
) -> AnyPosition | None:
    return None if text is UNSET else cursor.decode(text, kind, query)


def _page(
    items: list[Any], position: Position | None, query: Mapping[str, object]
) -> dict[str, Any]:
    return {"items": items, "next_cursor": cursor.encode(position, query) if position else None}


def _answer(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response[str]:
    return Response(
        status_code=status,
        content_type="application/json",
        headers={**NO_STORE, **(headers or {})},
        body=encode(body).decode(),
    )


def _path(event: dict[str, Any]) -> str:
    """Return the path that `app` routes by. It is the path of the route that API Gateway matched.

    `rawPath` can begin with something else, such as the mapping key of a custom domain. It is used
    only if no route was matched (`$default`, as from a function URL), or if the match has no id. If
    the id is malformed, the path contains the text `{session_id}` instead: it is malformed as well,
    but the router accepts it.
    """
    route = event["routeKey"].partition(" ")[2]
    if "{" in route:
        session_id = (event.get("pathParameters") or {}).get("session_id")
        if not session_id:
            route = ""
        elif SESSION_ID.fullmatch(session_id):
            route = route.replace("{session_id}", session_id)
    if not route:
        return _INVALID_IN_PATH.sub("~", event["rawPath"])
    stage = event["requestContext"]["stage"]
    # The router removes the name of a stage from the path.
    return route if stage == "$default" else f"/{stage}{route}"


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event | {"rawPath": _path(event)}, context)


# Imported objects are never freed. Looking for garbage among them would take a tenth of a cold
# start and delay a later request.
gc.freeze()
gc.enable()
