"""The bodies, query parameters and `If-Match` that callers may send, with their bounds."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2
from msgspec import UNSET, Meta, Struct, UnsetType, field

from audit.event import UNKNOWN_SESSION
from session_api.problems import (
    BODY_TOO_LARGE,
    CONTENT_TYPE_NOT_JSON,
    INVALID_IF_MATCH,
    INVALID_JSON,
    RequestProblem,
)
from sessions.document import read_number
from sessions.errors import InvalidField, member
from sessions.limits import (
    MAX_GRACE_SECONDS,
    MAX_METHODS,
    MAX_SECONDS,
    MAX_SESSIONS,
    MAX_USER_AGENT,
    METHOD,
    OWN_REASONS,
    REASON,
    SESSION_ID,
)
from sessions.session import check_user_id

MAX_BODY_BYTES = 128 * 1024
# The integers of a query. msgspec would accept 1.0 and 1e1 as well.
_INTEGERS = ("limit", "since", "until")
_INTEGER = re.compile("-?(0|[1-9][0-9]{0,17})")

Form = TypeVar("Form", bound=Struct)
_Limit = Annotated[int, Meta(ge=1, le=100)]
_Seconds = Annotated[int, Meta(ge=0, le=MAX_SECONDS)]


class Client(Struct, frozen=True, forbid_unknown_fields=True):
    # The pattern excludes IPv6 zones, which may be any text and mean nothing on another host.
    ip: Annotated[str, Meta(max_length=45, pattern="^[0-9A-Fa-f.:]+$")] | UnsetType = UNSET
    user_agent: Annotated[str, Meta(max_length=MAX_USER_AGENT)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.ip is not UNSET:
            try:
                ipaddress.ip_address(self.ip)
            except ValueError:
                raise InvalidField("/client/ip", "an IPv4 or IPv6 address") from None


class Impersonator(Struct, forbid_unknown_fields=True):
    id: str
    reason: str

    def __post_init__(self) -> None:
        check_user_id(self.id, "/impersonator/id")
        _check_reason(self.reason, "/impersonator/reason")


_HASH = re.compile("[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")  # 32 bytes: the last 2 bits are zero


class HashedSecret(Struct, forbid_unknown_fields=True, kw_only=True):
    """The hashes of a secret that the caller has made, so that the call can be sent again.

    `token_sha256` is the SHA-256 of the secret's 27 characters. `family_sha256` is that of its
    family, the first 12 characters.
    """

    token_sha256: str | UnsetType = UNSET
    family_sha256: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        for name in ("token_sha256", "family_sha256"):
            text = getattr(self, name)
            if text is not UNSET and not _HASH.fullmatch(text):
                raise InvalidField(f"/{name}", "a SHA-256 in base64url: 43 characters, no padding")


def read_hash(text: str) -> bytes:
    """Return the 32 bytes of a hash that `HashedSecret` has checked."""
    return base64.urlsafe_b64decode(f"{text}=")


class CreateSession(HashedSecret, kw_only=True):
    user_id: str | None = None
    session_id: str | UnsetType = UNSET
    ttl_seconds: int | UnsetType = UNSET
    absolute_ttl_seconds: int | UnsetType = UNSET
    data: dict[str, Any] = {}
    client: Client = Client()
    max_sessions: Annotated[int, Meta(ge=1, le=MAX_SESSIONS)] | UnsetType = UNSET
    methods: list[str] | UnsetType = UNSET
    authenticated_at: int | UnsetType = UNSET
    impersonator: Impersonator | UnsetType = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_sessions", "methods", "authenticated_at", "impersonator"):
            if getattr(self, name) is not UNSET and self.user_id is None:
                raise InvalidField(f"/{name}", "requires user_id")
        for name in ("methods", "authenticated_at"):
            if getattr(self, name) is not UNSET and self.impersonator is not UNSET:
                raise InvalidField(f"/{name}", "not allowed with impersonator")
        if self.methods is not UNSET:
            _check_methods(self.methods)
        if len({self.session_id is UNSET, *_missing(self)}) > 1:
            raise InvalidField("", "all or none of session_id, family_sha256, token_sha256")
        if self.session_id is not UNSET and not SESSION_ID.fullmatch(self.session_id):
            raise InvalidField("/session_id", "12 characters of base64url")
        if self.session_id == UNKNOWN_SESSION:
            raise InvalidField("/session_id", "reserved for records that name no session")


def _missing(body: HashedSecret) -> tuple[bool, bool]:
    return body.token_sha256 is UNSET, body.family_sha256 is UNSET


class ChangeData(Struct, forbid_unknown_fields=True):
    data: Annotated[dict[str, Any], Meta(min_length=1, max_length=100)]


class ReplaceData(Struct, forbid_unknown_fields=True):
    data: dict[str, Any]


class NoParameters(Struct, forbid_unknown_fields=True):
    """A query without parameters."""


class VerifyToken(Struct, forbid_unknown_fields=True):
    token: str
    inspect: bool = False
    renew: bool = True
    client: Client = Client()


class RenewSession(Struct, forbid_unknown_fields=True):
    ttl_seconds: int | UnsetType = UNSET
    final: bool = False

    def __post_init__(self) -> None:
        if self.final and self.ttl_seconds is UNSET:
            raise InvalidField("/final", "requires ttl_seconds")


class RotateToken(HashedSecret, kw_only=True):
    token: str | UnsetType = UNSET
    grace_seconds: Annotated[int, Meta(ge=0, le=MAX_GRACE_SECONDS)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.token is not UNSET:
            if self.family_sha256 is not UNSET:
                raise InvalidField("/family_sha256", "not allowed with token, whose family is used")
        elif len(set(_missing(self))) > 1:
            raise InvalidField(
                "", "both or neither of family_sha256 and token_sha256, if token is absent"
            )


class Authenticate(RotateToken, kw_only=True):
    methods: list[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_methods(self.methods)


class RevokeSession(Struct, forbid_unknown_fields=True):
    reason: str = "logout"

    def __post_init__(self) -> None:
        _check_reason(self.reason)


class RevokeSessions(Struct, forbid_unknown_fields=True):
    user_id: str
    keep: str | None = field(default=None, name="except")
    reason: str = "logout"
    cursor: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_user_id(self.user_id)
        _check_reason(self.reason)
        if self.keep is not None and not SESSION_ID.fullmatch(self.keep):
            raise InvalidField("/except", "not a session id")


class ListSessions(Struct, forbid_unknown_fields=True):
    user_id: str
    limit: _Limit = 25
    cursor: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_user_id(self.user_id)


class ReadEvents(Struct, forbid_unknown_fields=True):
    session_id: str | UnsetType = UNSET
    user_id: str | UnsetType = UNSET
    since: _Seconds = 0
    until: _Seconds = MAX_SECONDS
    order: Literal["asc", "desc"] = "desc"
    limit: _Limit = 25
    cursor: str | UnsetType = UNSET

    @property
    def owner(self) -> dict[str, str]:
        """The session or the user whose events are requested: the parameter's name and value."""
        owners = {"session_id": self.session_id, "user_id": self.user_id}
        return {name: value for name, value in owners.items() if value is not UNSET}

    def __post_init__(self) -> None:
        if len(self.owner) != 1:
            raise InvalidField("", "either session_id or user_id")
        if self.session_id is not UNSET and not SESSION_ID.fullmatch(self.session_id):
            raise InvalidField("/session_id", "not a session id")
        if self.user_id is not UNSET:
            check_user_id(self.user_id)
        if self.since > self.until:
            raise InvalidField("/since", "must not be later than until")


def _check_reason(reason: str, pointer: str = "/reason") -> None:
    if not REASON.fullmatch(reason) or reason in OWN_REASONS:
        raise InvalidField(pointer, f"1 to 64 of a-z 0-9 _ . -, and not {' or '.join(OWN_REASONS)}")


def _check_methods(methods: list[str]) -> None:
    are_names = all(METHOD.fullmatch(method) for method in methods)
    if len(methods) > MAX_METHODS or len(set(methods)) < len(methods) or not are_names:
        raise InvalidField(
            "/methods", f"up to {MAX_METHODS} different names, each 1 to 32 of a-z 0-9 _ . -"
        )


def read_body(event: APIGatewayProxyEventV2, form: type[Form], *, optional: bool = False) -> Form:
    """Return the JSON body as `form`. If an `optional` body is missing, the defaults apply.

    Raises `RequestProblem`, `InvalidField`.
    """
    body = _body_bytes(event)
    if optional and not body:
        return form()
    content_type = event.headers.get("content-type", "").lower().replace(" ", "").replace('"', "")
    if content_type not in ("application/json", "application/json;charset=utf-8"):
        raise RequestProblem(CONTENT_TYPE_NOT_JSON)
    try:
        decoded: Form = _decoder(form).decode(body)
        return decoded
    except msgspec.ValidationError as error:
        raise _invalid(error) from None
    except RecursionError:
        raise InvalidField("", "the body nests too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RequestProblem(INVALID_JSON) from None


@cache
def _decoder(form: type[Form]) -> msgspec.json.Decoder[Form]:
    return msgspec.json.Decoder(form, float_hook=read_number)


def _body_bytes(event: APIGatewayProxyEventV2) -> bytes:
    text = event.body or ""
    try:
        body = (
            base64.b64decode(text, validate=True)
            if event.is_base64_encoded
            else text.encode(errors="surrogatepass")
        )
    except (binascii.Error, ValueError):
        raise RequestProblem(INVALID_JSON) from None
    if len(body) > MAX_BODY_BYTES:
        raise RequestProblem(BODY_TOO_LARGE)
    return body


def read_query(event: APIGatewayProxyEventV2, form: type[Form]) -> Form:
    """Return the query parameters as `form`. Raises `InvalidField`, also for repeated parameters.

    The raw string is parsed because payload 2.0 joins repeated parameters with commas.
    """
    parameters: dict[str, str | int] = {}
    try:
        pairs = parse_qsl(event.raw_query_string, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise InvalidField("", "the query is not UTF-8") from None
    for name, value in pairs:
        if name in parameters:
            raise InvalidField(member("", name), "given more than once")
        parameters[name] = int(value) if name in _INTEGERS and _INTEGER.fullmatch(value) else value
    try:
        return msgspec.convert(parameters, form)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None


# RFC 9110, 8.8.3. According to 5.6.1, elements of the list may be empty.
_ENTITY_TAG = re.compile(r'(W/)?"([^\x00-\x20\x7f"]*)"')
_OPTIONAL_TAG = rf"[ \t]*({_ENTITY_TAG.pattern}[ \t]*)?"
_ENTITY_TAGS = re.compile(f"{_OPTIONAL_TAG}(,{_OPTIONAL_TAG})*")
_VERSION = re.compile("v([1-9][0-9]{0,17})")


def accepted_versions(headers: Mapping[str, str]) -> list[int] | None:
    """Return the versions that `If-Match` accepts, or None if it accepts any (RFC 9110, 13.1.1).

    Weak tags, and tags that are not versions, are ignored. If no version is left, the result is
    [0], which matches no session, because versions count from 1.
    Raises `RequestProblem` if the header is not a list of entity tags.
    """
    field = headers.get("if-match")
    if field is None or field.strip() == "*":
        return None
    if not _ENTITY_TAGS.fullmatch(field):
        raise RequestProblem(INVALID_IF_MATCH)
    strong = [tag for weak, tag in _ENTITY_TAG.findall(field) if not weak]
    versions = sorted({int(match[1]) for tag in strong if (match := _VERSION.fullmatch(tag))})
    # DynamoDB's IN takes at most 100 operands, so more versions are treated like none.
    return versions if versions and len(versions) <= 100 else [0]


_FIELD = re.compile("field `(.*)`$", re.DOTALL)
_PATH = re.compile(r"^(.*) - at `\$(.*)`$", re.DOTALL)


def _invalid(error: msgspec.ValidationError) -> InvalidField:
    """Translate msgspec's message, `Expected … - at `$.client.ip``, to a pointer and a detail."""
    detail, pointer = str(error), ""
    if path := _PATH.match(detail):
        detail, pointer = path[1], path[2].partition("[")[0].replace(".", "/")
    if field_name := _FIELD.search(detail):
        pointer = member(pointer, field_name[1])
    return InvalidField(pointer, detail)
