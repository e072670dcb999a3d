"""Every limit of the API, just inside and just outside, and inputs without a limit."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import pytest

from tests.support.api import THROUGH_BOTH, Answer, Api
from tests.support.functions import lambda_context, sample
from tests.support.gateway import api_event
from tests.support.seam import seam

ABSENT = "AAAAAAAAAAAA"


def nested(levels: int) -> dict[str, Any]:
    """Return a document with this number of levels, including itself."""
    document: dict[str, Any] = {}
    for _ in range(levels - 1):
        document = {"a": document}
    return document


def sized(size: int) -> dict[str, str]:
    """Return a document with this number of bytes as compact JSON."""
    return {"k": "x" * (size - len('{"k":""}'))}


def number(text: str) -> str:
    return f'{{"user_id": "ada", "data": {{"n": {text}}}}}'


def exact(answer: Answer) -> Any:
    """Return the body with exact numbers."""
    return json.loads(answer.body, parse_float=Decimal)


# (body, status, pointer of the first error). A string is sent unchanged.
CREATE = {
    "smallest": ({"user_id": "a"}, 201, None),
    "longest user": ({"user_id": "u" * 256}, 201, None),
    "longest user of 4-byte characters": ({"user_id": "😀" * 256}, 201, None),
    "user over": ({"user_id": "u" * 257}, 422, "/user_id"),
    "user empty": ({"user_id": ""}, 422, "/user_id"),
    "user missing": ({}, 201, None),
    "user null": ({"user_id": None}, 201, None),
    "user number": ({"user_id": 7}, 422, "/user_id"),
    "user with a bar": ({"user_id": "auth0|1"}, 201, None),
    "user with a slash": ({"user_id": "a/b@c"}, 201, None),
    "user of a space": ({"user_id": " "}, 201, None),
    "user with a newline": ({"user_id": "ada\n"}, 422, "/user_id"),
    "user with NUL": ({"user_id": "a\0"}, 422, "/user_id"),
    "user with the last C0 control": ({"user_id": "a\x1f"}, 422, "/user_id"),
    "user with a tilde": ({"user_id": "a~"}, 201, None),
    "user with DEL": ({"user_id": "a\x7f"}, 422, "/user_id"),
    "user with C1 control": ({"user_id": "a\x85"}, 422, "/user_id"),
    "user with the last C1 control": ({"user_id": "a\x9f"}, 422, "/user_id"),
    "user with a no-break space": ({"user_id": "a\xa0"}, 201, None),
    "user with a line separator": ({"user_id": "a\u2028"}, 201, None),
    "user with a lone surrogate": (r'{"user_id": "\ud800"}', 400, None),
    "window smallest": ({"user_id": "a", "ttl_seconds": 1}, 201, None),
    "window zero": ({"user_id": "a", "ttl_seconds": 0}, 422, "/ttl_seconds"),
    "window negative": ({"user_id": "a", "ttl_seconds": -1}, 422, "/ttl_seconds"),
    "window up to the absolute timeout": ({"user_id": "a", "ttl_seconds": 86_400}, 201, None),
    "window over it": ({"user_id": "a", "ttl_seconds": 86_401}, 422, "/ttl_seconds"),
    "window as text": ({"user_id": "a", "ttl_seconds": "60"}, 422, "/ttl_seconds"),
    "window with a fraction": ({"user_id": "a", "ttl_seconds": 1.5}, 422, "/ttl_seconds"),
    "window true": ({"user_id": "a", "ttl_seconds": True}, 422, "/ttl_seconds"),
    "window null": ({"user_id": "a", "ttl_seconds": None}, 422, "/ttl_seconds"),
    "window in milliseconds": ({"user_id": "a", "ttl_seconds": 1_800_000}, 422, "/ttl_seconds"),
    "window huge": ('{"user_id": "a", "ttl_seconds": 1e999}', 422, "/ttl_seconds"),
    "window beyond any exponent": (
        '{"user_id": "a", "ttl_seconds": 1e99999999999999999999}',
        *(422, "/ttl_seconds"),
    ),
    "absolute longest": ({"user_id": "a", "absolute_ttl_seconds": 34_560_000}, 201, None),
    "absolute over": (
        {"user_id": "a", "absolute_ttl_seconds": 34_560_001},
        *(422, "/absolute_ttl_seconds"),
    ),
    "absolute zero": ({"user_id": "a", "absolute_ttl_seconds": 0}, 422, "/absolute_ttl_seconds"),
    "absolute below the default window": ({"user_id": "a", "absolute_ttl_seconds": 60}, 201, None),
    "absolute below the window": (
        {"user_id": "a", "ttl_seconds": 61, "absolute_ttl_seconds": 60},
        *(422, "/ttl_seconds"),
    ),
    "data largest": ({"user_id": "a", "data": sized(65_536)}, 201, None),
    "data over": ({"user_id": "a", "data": sized(65_537)}, 413, None),
    "data of a list": ({"user_id": "a", "data": []}, 422, "/data"),
    "data null": ({"user_id": "a", "data": None}, 422, "/data"),
    "data deepest": ({"user_id": "a", "data": nested(30)}, 201, None),
    "data too deep": ({"user_id": "a", "data": nested(31)}, 422, "/data" + "/a" * 30),
    "data deepest by lists": (number("[" * 29 + "]" * 29), 201, None),
    "data too deep by lists": (number("[" * 30 + "]" * 30), 422, "/data/n" + "/0" * 29),
    "data very deep": ('{"user_id": "a", "data": ' + '{"a":' * 5000 + "1" + "}" * 5001, 422, None),
    "key longest": ({"user_id": "a", "data": {"k" * 255: 1}}, 201, None),
    "key over": ({"user_id": "a", "data": {"k" * 256: 1}}, 422, "/data/" + "k" * 256),
    "key empty": ({"user_id": "a", "data": {"": 1}}, 422, "/data/"),
    "key empty below": ({"user_id": "a", "data": {"a/b": [{"": 1}]}}, 422, "/data/a~1b/0/"),
    "number of 38 digits": (number("9" * 38), 201, None),
    "number of 39 digits": (number("9" * 39), 422, "/data/n"),
    "number of 39 digits, one a zero": (number("9" * 38 + "0"), 201, None),
    "number of 5,000 zeros": (number("1." + "0" * 5000), 201, None),
    "number with a long fraction": (number("0." + "1" * 38), 201, None),
    "number with too long a fraction": (number("1." + "1" * 38), 422, "/data/n"),
    "number smallest": (number("1E-130"), 201, None),
    "number too small": (number("9.9E-131"), 422, "/data/n"),
    "number largest": (number("9." + "9" * 37 + "E125"), 201, None),
    "number too large": (number("1E126"), 422, "/data/n"),
    "number far too large": (number("-1E999999999"), 422, "/data/n"),
    "number beyond any exponent": (number("[1, 1E99999999999999999999]"), 422, "/data"),
    "number beyond any negative exponent": (number("-1E-99999999999999999999"), 422, "/data"),
    "number zero of any scale": (number("-0.0E-200"), 201, None),
    "number of 5,000 digits": (number("1" * 5000), 422, "/data"),
    "NaN": (number("NaN"), 400, None),
    "client largest": (
        {"user_id": "a", "client": {"ip": "2001:db8::1", "user_agent": "x" * 512}},
        *(201, None),
    ),
    "client agent over": (
        {"user_id": "a", "client": {"user_agent": "x" * 513}},
        *(422, "/client/user_agent"),
    ),
    "client ip wrong": ({"user_id": "a", "client": {"ip": "1.2.3.256"}}, 422, "/client/ip"),
    "client ip of version 4": ({"user_id": "a", "client": {"ip": "203.0.113.9"}}, 201, None),
    "client ip longest": (
        {"user_id": "a", "client": {"ip": "0000:0000:0000:0000:0000:ffff:255.255.255.255"}},
        *(201, None),
    ),
    "client ip empty": ({"user_id": "a", "client": {"ip": ""}}, 422, "/client/ip"),
    "client ip of letters": ({"user_id": "a", "client": {"ip": "cafe"}}, 422, "/client/ip"),
    "client ip with a mask": ({"user_id": "a", "client": {"ip": "10.0.0.0/8"}}, 422, "/client/ip"),
    "client ip of octal digits": (
        {"user_id": "a", "client": {"ip": "1.2.3.04"}},
        422,
        "/client/ip",
    ),
    "client ip a number": ({"user_id": "a", "client": {"ip": 16909060}}, 422, "/client/ip"),
    "client ip with a zone": ({"user_id": "a", "client": {"ip": "fe80::1%0"}}, 422, "/client/ip"),
    "client ip endless": (
        {"user_id": "a", "client": {"ip": "fe80::1%" + "x" * 99}},
        *(422, "/client/ip"),
    ),
    "client unknown field": ({"user_id": "a", "client": {"os": "x"}}, 422, "/client/os"),
    "unknown field": ({"user_id": "a", "userid": "b"}, 422, "/userid"),
    "unknown field of a strange name": ({"user_id": "a", "a/b~`\n": 1}, 422, "/a~1b~0`\n"),
    "with an expiration time": ({"user_id": "a", "expires_at": 1}, 422, "/expires_at"),
    "list": ([], 422, ""),
    "text": ('"ada"', 422, ""),
    "null": ("null", 422, ""),
    "nothing": ("", 400, None),
    "no JSON": ("user_id=ada", 400, None),
    "cut off": ('{"user_id": "ada"', 400, None),
    "two documents": ('{"user_id": "a"} {}', 400, None),
    "byte order mark": ('\ufeff{"user_id": "a"}', 400, None),
    "unpaired surrogate in the event": ('{"user_id": "\ud800"}', 400, None),
    "largest body": ('{"user_id": "a"}'.ljust(131_072), 201, None),
    "body over": ('{"user_id": "a"}'.ljust(131_073), 413, None),
    "body over and no JSON": ("x" * 131_073, 413, None),
}


@pytest.mark.parametrize("case", CREATE)
def test_bodies_of_create(api: Api, case: str) -> None:
    """A wrong body gets a clear answer and never a 500. An accepted body reads back."""
    body, status, pointer = CREATE[case]

    answer = api("POST", "/sessions", body)

    assert answer.status == status
    if pointer is not None:
        assert answer.json["errors"][0]["pointer"] == pointer
    if status == 201:
        read = api("GET", f"/{answer.headers['location']}")
        assert read.status == 200
        assert exact(read) | {"token": answer.json["token"]} == exact(answer)
    else:
        assert api.requests == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"data": {"k": 1}}, 200),
        ({"data": {}}, 422),
        ({"data": {str(i): i for i in range(100)}}, 200),
        ({"data": {str(i): i for i in range(101)}}, 422),
        ({"data": sized(65_536)}, 200),
        ({"data": sized(65_537)}, 413),
        ({"data": {"a": nested(29)}}, 200),
        ({"data": {"a": nested(30)}}, 422),
        ({"data": {"": 1}}, 422),
        ({"data": {"": None}}, 422),
        ({"data": {"k" * 255: 1}}, 200),
        ({"data": {"k" * 256: None}}, 422),
        ({"data": {"a": None}}, 200),
        ({"data": None}, 422),
        ({"data": {"#data": 1, ":now": 2, "a.b[0]": 3}}, 200),
        ({}, 422),
        ({"data": {"a": 1}, "version": 1}, 422),
        ("{", 400),
    ],
)
def test_bodies_of_patch(api: Api, body: Any, status: int) -> None:
    session_id = api.create()

    assert api("PATCH", f"/sessions/{session_id}", body).status == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"data": {}}, 200),
        ({"data": sized(65_536)}, 200),
        ({"data": sized(65_537)}, 413),
        ({"data": nested(30)}, 200),
        ({"data": nested(31)}, 422),
        ({"data": {str(i): i for i in range(1000)}}, 200),
        ({"data": []}, 422),
        ({"data": {}, "version": 1}, 422),
        ({}, 422),
    ],
)
def test_bodies_of_put(api: Api, body: Any, status: int) -> None:
    session_id = api.create()

    assert api("PUT", f"/sessions/{session_id}", body).status == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (None, 200),
        ("", 200),
        ("{}", 200),
        ({"final": False}, 200),
        ({"final": True}, 422),
        ({"final": 1, "ttl_seconds": 60}, 422),
        ({"final": None, "ttl_seconds": 60}, 422),
        ({"ttl": 1}, 422),
        ("x", 400),
    ],
)
def test_renew_needs_no_body(api: Api, body: Any, status: int) -> None:
    session_id = api.create()

    assert api("POST", f"/sessions/{session_id}/renew", body).status == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (None, 200),
        ("", 200),
        ({}, 200),
        ({"grace_seconds": 0}, 200),
        ({"grace_seconds": 3600}, 200),
        ({"grace_seconds": 3601}, 422),
        ({"grace_seconds": -1}, 422),
        ({"grace_seconds": "1"}, 422),
        ({"grace_seconds": None}, 422),
        ({"grace": 1}, 422),
        ({"token": ""}, 401),
        ({"token": "x" * 100_000}, 401),
        ({"token": "a\0b"}, 401),
        ({"token": 7}, 422),
        ({"token": None}, 422),
        ("x", 400),
    ],
)
def test_bodies_of_rotate(api: Api, body: Any, status: int) -> None:
    session_id = api.create()

    assert api("POST", f"/sessions/{session_id}/rotate", body).status == status


@THROUGH_BOTH
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"token": ""}, 401),
        ({"token": "x" * 100_000}, 401),
        ({"token": "a\0b"}, 401),
        ({"token": 7}, 422),
        ({"token": None}, 422),
        ({}, 422),
        ({"token": "x", "renew": "no"}, 422),
        ({"token": "x", "renew": None}, 422),
        ({"token": "x", "session_id": "y"}, 422),
        (None, 400),
        ("x", 400),
    ],
)
def test_bodies_of_verify(api: Api, body: Any, status: int) -> None:
    assert api("POST", "/sessions/verify", body).status == status
    assert api.requests == []


def test_size_does_not_depend_on_the_json_encoding(api: Api) -> None:
    """Escapes and white space count for the body's limit, but not for the data's limit."""
    spelled = '{"user_id": "a", "data": {"k":   "' + r"\u0078" * 20_000 + '"}}'

    assert len(spelled) > 65_536
    assert api("POST", "/sessions", spelled).status == 201


@pytest.mark.parametrize(
    "text",
    [
        "1.10",
        "0.1",
        "12345678901234567890.123456789012345678",
        "1E+125",
        "1e-130",
        "-7",
        "0.0",
        "-0.0",
        "1e39",
    ],
)
def test_numbers_come_back_equal_in_value(api: Api, text: str) -> None:
    created = api("POST", "/sessions", number(text))

    read = api("GET", f"/{created.headers['location']}")

    for answer in (created, read):
        assert exact(answer)["data"]["n"] == Decimal(text)


@pytest.mark.parametrize("text", ["1E125", "-1E125", "1E-130", "1E38", "9E37", "1.5E100"])
def test_answer_is_hardly_longer_than_the_request(api: Api, text: str) -> None:
    """However large a number is, an answer has at most 38 digits of it."""
    numbers = f"[{','.join([text] * 1000)}]"
    created = api("POST", "/sessions", number(numbers))
    assert len(created.body) <= 500 + 1000 * max(len(text) + 2, 39)

    path = created.headers["location"]
    for key in ("a", "b", "c"):
        answer = api("PATCH", path, f'{{"data": {{"{key}": {numbers}}}}}')
        assert answer.status == 200
    assert len(answer.body) <= 500 + 4 * 1000 * max(len(text) + 2, 39)


def test_size_counts_numbers_as_in_answers(api: Api) -> None:
    """A short number in a request may have many digits in an answer."""
    body = number(f"[{','.join(['9E37'] * 1700)}]")

    assert len(body) < 10_000
    assert api("POST", "/sessions", body).status == 413


@pytest.mark.parametrize(
    "value",
    [{"N": "1" + "0" * 37}, {"N": "1" + "0" * 125}, {"S": "\x01" * 99}],
    ids=["digits", "exponent", "escapes"],
)
def test_largest_item_fits_into_an_answer_of_lambda(
    api: Api, stored: Any, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    """An item of 400 KB may contain the data with the longest answer.

    DynamoDB counts three bytes for such a number, including one for each element of a list:
    https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    session_id = api.create()
    size = 3 if "N" in value else 1 + len(value["S"])
    values = {"L": [value] * (400 * 1024 // size)}
    item = stored(session_id) | {"Data": {"M": {"k": values}}}
    monkeypatch.setattr(seam.client, "get_item", lambda **_: {"Item": item})

    # This does not use `api`, because it takes ten seconds to check such an answer against the
    # contract.
    event = api_event("GET", f"/sessions/{session_id}")
    answer = api.handler.lambda_handler(event, lambda_context())

    assert answer["statusCode"] == 200
    assert len(json.dumps(answer, ensure_ascii=False).encode()) < 6 * 1024 * 1024


@pytest.mark.parametrize(
    "text",
    [
        *("1.0", "1.50", "100", "1E2", "1e+2", "10.00", "12.5E1", "0.5e1", "5E-1"),
        *("0", "-0", "0.00", "-0.0E-200", "0e9"),
        *("1E-7", "0.0000001", "0.00000012300", "1E-130", "-1.50E-10"),
        *("1E125", "9." + "9" * 37 + "E125", "9" * 38, "9" * 38 + "0", "0." + "1" * 38),
        *("true", '[1.0, {"a": 1E2}]'),
    ],
)
def test_numbers_look_alike_in_every_answer(api: Api, text: str) -> None:
    """A caller that compares or signs the text of `data` must not see a change if there is none."""

    def document(answer: Answer) -> str:
        return answer.body.partition('"data":')[2].partition(',"token"')[0].rstrip("}")

    created = api("POST", "/sessions", number(text))
    assert api.requests == ["PutItem"]
    path, token = f"/{created.headers['location']}", created.json["token"]
    data = number(text).partition('"data": ')[2].removesuffix("}")

    for answer in (
        api("GET", path),
        api("POST", "/sessions/verify", {"token": token}),
        api("PATCH", path, f'{{"data": {data}}}'),
        api("PUT", path, f'{{"data": {data}}}'),
        api("GET", path),
        api("POST", f"{path}/rotate"),
    ):
        assert document(answer) == document(created)


def test_absolute_timeout_below_the_default_window_shortens_it(api: Api) -> None:
    answer = api("POST", "/sessions", {"user_id": "a", "absolute_ttl_seconds": 60}).json

    assert answer["ttl_seconds"] == 60
    assert answer["expires_at"] == answer["absolute_expires_at"]


@THROUGH_BOTH
@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 201),
        ("Application/JSON; charset=UTF-8", 201),
        ('application/json;charset="utf-8"', 201),
        ("application/json; charset=latin-1", 415),
        ("application/problem+json", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
    ],
)
def test_content_type(api: Api, content_type: str, status: int) -> None:
    headers = {"content-type": content_type}

    assert api("POST", "/sessions", {"user_id": "a"}, headers=headers).status == status


@THROUGH_BOTH
@pytest.mark.parametrize(
    ("encoded", "status"),
    [
        (base64.b64encode(b'{"user_id": "a"}').decode(), 201),
        (base64.b64encode(b'{"user_id": "\xff"}').decode(), 400),
        ("no base64!", 400),
        ("!" + base64.b64encode(b'{"user_id": "a"}').decode(), 400),
        (base64.b64encode(b" " * 131_073).decode(), 413),
    ],
)
def test_base64_bodies(api: Api, encoded: str, status: int) -> None:
    """API Gateway and Lambda encode bodies that they consider binary."""
    event = sample("api_create_session")
    event["body"], event["isBase64Encoded"] = encoded, True
    api.entrance(event)

    assert api.send(event).status == status


@pytest.mark.parametrize(
    ("method", "path", "query", "pointer"),
    [
        ("GET", "/sessions", "", "/user_id"),
        ("GET", "/sessions", "user_id=", "/user_id"),
        ("GET", "/sessions", "user_id=a%0a", "/user_id"),
        ("GET", "/sessions", "user_id=%ff", ""),
        ("GET", "/sessions", "user_id=a&user_id=b", "/user_id"),
        ("GET", "/sessions", "user_id=a&user_id=a", "/user_id"),
        ("GET", "/sessions", "user_id=a&b/c=1&b/c=1", "/b~1c"),
        ("GET", "/sessions", "user_id=a&limit=0", "/limit"),
        ("GET", "/sessions", "user_id=a&limit=101", "/limit"),
        ("GET", "/sessions", "user_id=a&limit=ten", "/limit"),
        ("GET", "/sessions", "user_id=a&limit=1.0", "/limit"),
        ("GET", "/sessions", "user_id=a&limit=01", "/limit"),
        ("GET", "/sessions", "user_id=a&limit=1e1", "/limit"),
        ("GET", "/sessions", "user_id=a&limit=" + "9" * 5000, "/limit"),
        ("GET", "/sessions", "user_id=a&limit=", "/limit"),
        ("GET", "/sessions", "user_id=a&limit=%D9%A3", "/limit"),
        ("GET", "/sessions", "user_id=a&sort=asc", "/sort"),
        ("GET", "/sessions", "user_id=a&cursor=x", "/cursor"),
        ("GET", "/sessions", "user_id=a&cursor=", "/cursor"),
        ("GET", "/events", "", ""),
        ("GET", "/events", "user_id=a&session_id=" + ABSENT, ""),
        ("GET", "/events", "session_id=x", "/session_id"),
        ("GET", "/events", "user_id=a&since=-1", "/since"),
        ("GET", "/events", "user_id=a&since=1795435200000", "/since"),
        ("GET", "/events", "user_id=a&since=now", "/since"),
        ("GET", "/events", "user_id=a&until=1795435200000", "/until"),
        ("GET", "/events", "user_id=a&until=1.5", "/until"),
        ("GET", "/events", "user_id=", "/user_id"),
        ("GET", "/events", "user_id=a&sort=asc", "/sort"),
        ("GET", "/events", "user_id=a&since=2&until=1", "/since"),
        ("GET", "/events", "user_id=a&order=up", "/order"),
        ("GET", "/events", "user_id=a&cursor=AAAA", "/cursor"),
        ("DELETE", "/sessions/" + ABSENT, "reason=", "/reason"),
        ("DELETE", "/sessions/" + ABSENT, "reason=Log out", "/reason"),
        ("DELETE", "/sessions/" + ABSENT, "reason=logout%0a", "/reason"),
        ("DELETE", "/sessions/" + ABSENT, "reason=" + "x" * 65, "/reason"),
        ("DELETE", "/sessions/" + ABSENT, "reason=token_reuse", "/reason"),
        ("DELETE", "/sessions/" + ABSENT, "why=x", "/why"),
        ("DELETE", "/sessions/x", "why=x", "/why"),
        ("DELETE", '/sessions/"', "why=x", "/why"),
        ("DELETE", "/sessions", "", "/user_id"),
        ("DELETE", "/sessions", "reason=x", "/user_id"),
        ("DELETE", "/sessions", "user_id=", "/user_id"),
        ("DELETE", "/sessions", "user_id=a&user_id=b", "/user_id"),
        ("DELETE", "/sessions", "user_id=a&except=b", "/except"),
        ("DELETE", "/sessions", "user_id=a&except=", "/except"),
        ("DELETE", "/sessions", "user_id=a&but=" + ABSENT, "/but"),
        ("DELETE", "/sessions", "user_id=a&reason=A", "/reason"),
        ("DELETE", "/sessions", "user_id=a&limit=1", "/limit"),
        ("POST", "/sessions/verify", "x=1", "/x"),
        ("POST", f"/sessions/{ABSENT}/rotate", "x=1", "/x"),
        ("GET", "/sessions/" + ABSENT, "x=1", "/x"),
        ("PATCH", "/sessions/" + ABSENT, "x=1", "/x"),
        ("PUT", "/sessions/" + ABSENT, "x=1", "/x"),
        ("POST", "/sessions", "x=1", "/x"),
        ("POST", f"/sessions/{ABSENT}/renew", "x=1", "/x"),
    ],
)
def test_wrong_parameters(api: Api, method: str, path: str, query: str, pointer: str) -> None:
    """The answer is a 422 that names the wrong parameter, and DynamoDB is not called."""
    answer = api(method, path, query=query)

    assert answer.status == 422
    assert answer.json["code"] == "invalid_request"
    assert answer.json["errors"][0]["pointer"] == pointer
    assert answer.json["errors"][0]["detail"]
    assert api.requests == []


@pytest.mark.parametrize("reason", ["a", "x" * 64, "a-b_c.9"])
def test_reasons(api: Api, stored: Any, reason: str) -> None:
    session_id = api.create()

    assert api("DELETE", f"/sessions/{session_id}", query={"reason": reason}).status == 204
    assert stored(session_id)["RevokedReason"] == {"S": reason}
