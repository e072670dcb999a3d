"""Checks the costs in the table of docs/costs.md, row by row, with the units that DynamoDB Local
reports.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.backend import ON_DYNAMODB_LOCAL
from tests.support.functions import function, lambda_context, sample
from tests.support.meter import Meter
from tests.support.seam import seam
from tests.support.template import ROOT
from tests.support.tokens import successor, token_of

COSTS = (ROOT / "docs/costs.md").read_text()

pytestmark = ON_DYNAMODB_LOCAL


@pytest.fixture
def meter(api: Api) -> Iterator[Meter]:
    """Meter all requests from now on. A session of about half a kilobyte exists already."""
    meter = Meter(seam.client)
    seam.client = meter
    yield meter
    seam.client = meter.client


def row(operation: str) -> list[str]:
    """Return the cells of the cost table's row for `operation`."""
    table = COSTS.partition("## A million operations")[2].partition("\n#")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    [cells_of_row] = [
        cells for cells in rows if cells and operation in re.split(", (?:also )?", cells[0])
    ]
    return cells_of_row


CLIENT = {"ip": "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "user_agent": "x" * 120}


# The longest list of methods of an ordinary log-in.
STEP_UP = {"methods": ["pwd", "otp", "mfa"]}
IMPERSONATOR = {"id": "u" * 36, "reason": "ticket-42"}


def step_up(api: Api, token: str) -> str:
    path = f"/sessions/{token.partition('.')[0]}/authenticate"
    return token_of(api("POST", path, STEP_UP | {"token": token}))


def verify(api: Api, token: str) -> None:
    api("POST", "/sessions/verify", {"token": token})


def authorize(api: Api, token: str) -> None:
    event = sample("authorizer_http_api") | {"identitySource": [f"Bearer {token}"]}
    handler = function("session_authorizer")
    assert handler.lambda_handler(event, lambda_context())["isAuthorized"]


def call(method: str, suffix: str = "", body: Any = None) -> Callable[[Api, str], None]:
    def act(api: Api, token: str) -> None:
        answer = api(method, f"/sessions/{token.partition('.')[0]}{suffix}", body)
        assert answer.status in (200, 204)

    return act


@pytest.mark.parametrize(
    ("operation", "act"),
    [
        ("create", lambda api, _: api.create("u" * 36, client=CLIENT, data={"theme": "dark"})),
        ("create anonymous", lambda api, _: api.create(None, client=CLIENT, data={"a": 1})),
        ("read", call("GET")),
        ("verify", verify),
        ("authorize", authorize),
        ("change", call("PATCH", body={"data": {"theme": "light"}})),
        ("change", call("PUT", body={"data": {}})),
        ("renew", call("POST", "/renew")),
        ("rotate", call("POST", "/rotate")),
        ("rotate", lambda api, token: successor(api, token)),
        ("step up", call("POST", "/authenticate", body=STEP_UP)),
        ("step up", lambda api, token: step_up(api, token)),
        ("create", lambda api, _: api.create("u" * 36, client=CLIENT, impersonator=IMPERSONATOR)),
        ("revoke", call("DELETE")),
    ],
)
def test_operation_costs_what_the_readme_says(
    api: Api, meter: Meter, operation: str, act: Callable[[Api, str], None]
) -> None:
    token = api.log_in("u" * 36, client=CLIENT, data={"theme": "dark"})
    api.clock.now += 60
    meter.reset()

    act(api, token)

    assert [meter.units, meter.dollars] == row(operation)[1:3]


def test_renewal_by_verify_costs_a_read_and_a_write(api: Api, meter: Meter) -> None:
    token = api.log_in()
    api.clock.now += 600
    meter.reset()

    verify(api, token)

    assert api.requests == ["GetItem", "UpdateItem"]
    assert (meter.table, meter.index) == (2, 0)
    assert row("by verify") == row("renew")


@pytest.mark.parametrize("use", [verify, authorize])
@pytest.mark.parametrize("after", [60, 600])
def test_first_use_of_a_rotated_token_costs_a_read_and_a_write(
    api: Api, meter: Meter, use: Callable[[Api, str], None], after: int
) -> None:
    """The write happens once, and includes a renewal that is due."""
    token = successor(api, api.log_in())
    api.clock.now += after
    meter.reset()
    seam.calls.clear()

    use(api, token)

    assert api.requests == ["GetItem", "UpdateItem"]
    assert (meter.table, meter.index) == (2, 0)
    assert row("at the first use of a rotated token") == row("renew")
    meter.reset()
    use(api, token)
    assert meter.units == "1 read"


def test_rotation_in_place_of_a_lost_token_costs_what_the_readme_says(
    api: Api, meter: Meter
) -> None:
    token = api.log_in("u" * 36, client=CLIENT, data={"theme": "dark"})
    successor(api, token)
    api.clock.now += 60
    meter.reset()

    successor(api, token)

    assert api.requests == ["UpdateItem", "UpdateItem"]
    assert [meter.units, meter.dollars] == row("rotate in place of a lost token")[1:3]
    api.clock.now += 60
    meter.reset()

    step_up(api, token)

    assert [meter.units, meter.dollars] == row("step up in place of a lost token")[1:3]


def test_renewal_with_a_long_user_agent_costs_one_unit(api: Api, meter: Meter, stored: Any) -> None:
    """The item is large for one with little data: it was rotated and stepped up, and its writer has
    a long ARN.
    """
    token = api.log_in("u" * 36, client=CLIENT, data={"theme": "dark"}, **STEP_UP)
    token = step_up(api, successor(api, token))
    api.clock.now += 600
    meter.reset()

    answer = api(
        "POST",
        "/sessions/verify",
        {"token": token, "client": CLIENT | {"user_agent": "y" * 512}},
        actor="arn:aws:sts::111122223333:assumed-role/production-backend/i-0123456789abcdef0",
    )

    assert answer.json["last_client"] == CLIENT | {"user_agent": "y" * 128}
    assert (meter.table, meter.index) == (2, 0)  # the read, which costs one unit up to 4 KB


def test_list_costs_what_the_readme_says(api: Api, meter: Meter) -> None:
    """Each session is read with strong consistency. The index is read at half the price."""
    for _ in range(25):
        api.create("u" * 36, client=CLIENT, data={"theme": "dark"})
    meter.reset()

    page = api("GET", "/sessions", query={"user_id": "u" * 36, "limit": 25})

    assert len(page.json["items"]) == 25
    assert [meter.units, meter.dollars] == row("list of 25")[1:3]


def test_dead_entries_cost_what_the_readme_says(api: Api, meter: Meter) -> None:
    """A dead session is read like a live one until TTL removes it."""
    for _ in range(100):
        api("DELETE", f"/sessions/{api.create('u' * 36)}")
    meter.reset()

    page = api("GET", "/sessions", query={"user_id": "u" * 36, "limit": 100})

    assert page.json == {"items": [], "next_cursor": None}
    assert [meter.units, meter.dollars] == row("100 dead entries")[1:3]


def test_limit_costs_what_the_readme_says(api: Api, meter: Meter) -> None:
    """The user has ten entries, with the new one. Some of their sessions have ended."""
    for number in range(9):
        session_id = api.create("u" * 36, client=CLIENT, data={"theme": "dark"})
        if number % 2:
            api("DELETE", f"/sessions/{session_id}")
    creation = [0.0, 0.0]

    def after_creation() -> None:
        if api.requests == ["PutItem"]:
            creation[:] = meter.table, meter.index
            meter.reset()

    seam.after = after_creation
    meter.reset()
    api.create("u" * 36, client=CLIENT, data={"theme": "dark"}, max_sessions=6)

    assert creation == [1, 1]
    assert api.requests == ["PutItem", "Query", "BatchGetItem"]
    assert [meter.units, meter.dollars] == row("apply a limit to 10 entries")[1:3]


def test_end_by_a_limit_costs_what_a_revocation_costs(api: Api, meter: Meter) -> None:
    for _ in range(3):
        api.create("u" * 36, client=CLIENT, data={"theme": "dark"})
        api.clock.now += 1

    def before_the_end() -> None:
        if api.requests == ["PutItem", "Query", "BatchGetItem"]:
            meter.reset()

    seam.after = before_the_end
    api.create("u" * 36, max_sessions=2)

    assert api.requests[3:] == ["UpdateItem"] * 2
    assert (meter.table, meter.index) == (2, 0)
    assert row("revoke")[1] == "1 write"


def test_audit_event_costs_what_the_readme_says(api: Api, tables: Any, meter: Meter) -> None:
    """The test writes the event again under another key, because DynamoDB Local counts nothing for
    a PartiQL INSERT.
    """
    function("session_audit").lambda_handler(sample("stream_created"), lambda_context())
    [event] = tables.client.scan(TableName=tables.audit)["Items"]

    meter.put_item(TableName=tables.audit, Item=event | {"EventId": {"S": "another"}})

    assert meter.units == "1 write + 1 of the index"
    for operation in ("create", "change", "rotate", "step up", "expire"):
        assert row(operation)[3] == meter.dollars

    meter.reset()
    del event["UserId"]
    meter.put_item(TableName=tables.audit, Item=event | {"EventId": {"S": "nobody's"}})

    assert meter.units == "1 write"
    assert row("create anonymous")[3] == f"none by default, else {meter.dollars}"
