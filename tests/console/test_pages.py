"""The console's pages for every kind of session, for every way in which one ends, and for every
error.
"""

from __future__ import annotations

import html
import re
import time
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from serverless_sessions import (
    Client,
    Impersonator,
    NoCredentials,
    SessionNotFound,
    Sessions,
)
from tests.console.entry import ORIGIN, Entry, location, text_of
from tests.support.functions import function
from tests.support.service import Fault, Service, frozen, gateway, lose_answer, unavailable
from tests.support.trail import WriteEvent

HOUR = 3600
NASTY = "<script>alert(1)</script>\"'>&{{12345678*87654321}}\u202e"
# A page contains this number only if a template evaluates `NASTY`. No id or time is so long.
PRODUCT = str(12345678 * 87654321)
GONE = "A" * 12


def row_labels(page: str) -> list[str]:
    """Return the labels that screen readers read for the rows of the picture."""
    labels = re.findall(r'role="img" aria-label="(.*?)"', page)
    return [label.replace("&#39;", "'") for label in labels]


def utc(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def test_user_page_shows_a_card_with_the_client_the_times_and_the_bars(
    browser: TestClient, sessions: Sessions
) -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"
    client = Client("203.0.113.7", agent)
    issued = sessions.create("ada", ttl_seconds=600, absolute_ttl_seconds=HOUR, client=client)

    page = browser.get("/user?id=ada").text

    text = text_of(page)
    session = issued.session
    assert "1 live session" in text
    assert "Created by Firefox on Linux from 203.0.113.7 Last used by unknown" in text
    assert f"Created {utc(session.created_at)}" in text
    assert utc(session.expires_at) in text
    assert utc(session.absolute_expires_at) in text
    bars = re.findall(r'<progress .*? max="(\d+)" value="(\d+)" data-until="(\d+)"', page)
    assert [(bar[0], bar[2]) for bar in bars] == [
        ("600", str(session.expires_at)),
        (str(HOUR), str(session.absolute_expires_at)),
    ]
    assert all(0 < int(left) <= int(full) for full, left, _ in bars)


def test_picture_shows_how_every_session_lived_and_ended(
    browser: TestClient, sessions: Sessions, write_event: WriteEvent
) -> None:
    """One session is live, one was revoked, and one expired. A change and a rotation are dots."""
    now = int(time.time())
    live = sessions.create("ada").session.session_id
    revoked, expired = "R" * 12, "E" * 12
    write_event("created", revoked, recorded_at=now - 5000)
    write_event("updated", revoked, recorded_at=now - 4500, changed=["theme"])
    write_event("rotated", revoked, recorded_at=now - 4200)
    write_event("revoked", revoked, recorded_at=now - 4000, reason="stolen")
    write_event("purged", revoked, recorded_at=now - 3000, ttl_lag_seconds=1000)
    write_event("created", expired, recorded_at=now - 9000)
    write_event("expired", expired, recorded_at=now - 1000, at=now - 6000, cause="idle")

    page = browser.get("/user?id=ada").text

    first, second, third = row_labels(page)
    assert live in page
    assert first.endswith("live")
    assert ", revoked " in second
    assert ", stolen, removed " in second
    assert second.endswith("2 changes or rotations")
    assert ", expired " in third
    assert ", idle, removed " in third
    assert page.count('<rect class="lag" x=') == 2
    assert len(re.findall(r'<circle class="mark updated" cx="[\d.]+%"', page)) == 1
    assert len(re.findall(r'<circle class="mark rotated" cx="[\d.]+%"', page)) == 1


def test_stolen_session_does_not_look_like_a_log_out(
    browser: TestClient, write_event: WriteEvent
) -> None:
    """Operators should not have to know the meaning of `token_reuse`."""
    now = int(time.time())
    for id, reason in (("R" * 12, "token_reuse"), ("L" * 12, "logout")):
        write_event("created", id, recorded_at=now - 5000)
        write_event("revoked", id, recorded_at=now - 4000, reason=reason)

    user = browser.get("/user?id=ada").text
    assert len(re.findall('<span class="badge stolen">', user)) == 1
    assert len(re.findall('<rect class="span stolen" x=', user)) == 1
    assert "stolen? token_reuse" in text_of(user)
    [stolen] = [row for row in row_labels(user) if "token_reuse" in row]
    assert "revoked as stolen" in stolen

    for path in (f"/session?id={'R' * 12}", "/trail?user=ada"):
        page = browser.get(path).text
        assert len(re.findall('<li class="stolen">', page)) == 1
        assert "A token was used again after it had been replaced" in text_of(page)
    assert "stolen" not in text_of(browser.get(f"/session?id={'L' * 12}").text)


def test_hatched_bar_begins_at_the_expiry_and_ends_at_the_removal(
    browser: TestClient, write_event: WriteEvent
) -> None:
    now = int(time.time())
    write_event("created", GONE, recorded_at=now - 10_000)
    write_event("expired", GONE, recorded_at=now - 2500, at=now - 5000, cause="idle")

    page = browser.get("/user?id=ada").text

    bar = re.search(r'<rect class="lag" x="([\d.]+)%" width="([\d.]+)%"', page)
    assert bar
    # The picture shows 10,000 s, and has a margin of 3 % of that on each of the two sides.
    start, width = float(bar[1]), float(bar[2])
    assert start == pytest.approx(100 * 5300 / 10_600, abs=0.1)
    assert width == pytest.approx(100 * 2500 / 10_600, abs=0.1)


@pytest.mark.parametrize(
    ("prompt_expiry", "outlook"),
    [
        (False, "The trail gets the event when DynamoDB's TTL deletes the session"),
        (True, "The event is late: it was expected by"),
    ],
)
def test_expired_session_that_is_not_deleted_is_shown_as_expired(
    browser: TestClient,
    sessions: Sessions,
    service: Service,
    write_event: WriteEvent,
    monkeypatch: pytest.MonkeyPatch,
    prompt_expiry: bool,
    outlook: str,
) -> None:
    """The session is in no list, and its expiry is not in the trail yet."""
    monkeypatch.setattr(function("session_api"), "prompt_expiry", prompt_expiry)
    id = sessions.create("ada").session.session_id
    now = int(time.time())
    write_event("created", id, recorded_at=now - HOUR)
    service.sdk.update_item(
        TableName=service.table,
        Key={"SessionId": {"S": id}},
        UpdateExpression="SET ExpirationTime = :past, CreatedAt = :earlier",
        ExpressionAttributeValues={
            ":past": {"N": str(now - 600)},
            ":earlier": {"N": str(now - HOUR)},
        },
    )

    [row] = row_labels(browser.get("/user?id=ada").text)
    assert ", expired " in row
    assert row.endswith("idle, not yet removed")
    for path in (f"/session?id={id}", f"/trail?session={id}"):
        text = text_of(browser.get(path).text)
        assert "expired" in text
        assert utc(now - 600) in text
        assert "not on record yet" in text
        assert outlook in html.unescape(text)


def test_time_window_limits_the_picture(browser: TestClient, write_event: WriteEvent) -> None:
    now = int(time.time())
    for id, ago in (("A" * 12, 100), ("B" * 12, 20 * 86_400)):
        write_event("created", id, recorded_at=now - ago)
        write_event("revoked", id, recorded_at=now - ago + 10, reason="logout")
        write_event("purged", id, recorded_at=now - ago + 20, ttl_lag_seconds=10)

    assert len(row_labels(browser.get("/user?id=ada").text)) == 2
    page = browser.get("/user?id=ada&window=5m").text
    [row] = row_labels(page)
    width = re.search(r'<rect class="span revoked" x="[\d.]+%" width="([\d.]+)%"', page)
    assert width
    assert float(width[1]) == pytest.approx(100 * 10 / 300, abs=0.1)
    past = browser.get(f"/user?id=ada&window=1d&until={now - 20 * 86_400 + HOUR}").text
    assert len(row_labels(past)) == 1
    assert "No session lived" in text_of(
        browser.get(f"/user?id=ada&window=1h&until={now - 10 * 86_400}").text
    )


def test_further_sessions_are_on_the_next_page(browser: TestClient, sessions: Sessions) -> None:
    for _ in range(16):
        sessions.create("ada")

    page = browser.get("/user?id=ada").text
    assert "16 live sessions" in text_of(page)
    assert page.count("<article") == 15
    assert browser.get("/user?id=ada&page=2").text.count("<article") == 1
    assert browser.get("/user?id=ada&page=0").text.count("<article") == 15


def test_trail_shows_all_details_newest_first(browser: TestClient, write_event: WriteEvent) -> None:
    now = int(time.time())
    write_event("created", GONE, expires_at=now + 60)
    write_event("updated", GONE, changed=["cart", "theme"])
    write_event("revoked", GONE, reason="stolen")
    write_event("purged", GONE, actor=None, removed_by="ttl")
    write_event("expired", "B" * 12, at=now - 60, cause="absolute", actor=None, removed_by="ttl")

    text = text_of(browser.get("/trail?user=ada").text)

    assert re.search(
        rf"expired cause absolute [\d:UTC -]+ {'B' * 12} on record .* "
        rf"purged [\d:UTC -]+ {GONE} removed by ttl "
        rf"revoked for stolen .* {GONE} by arn:aws:iam::111122223333:user/olga "
        rf"updated changed cart, theme .* created to expire ",
        text,
    )


def test_trail_is_filtered_by_type_and_time(browser: TestClient, write_event: WriteEvent) -> None:
    now = int(time.time())
    write_event("created", GONE, recorded_at=now - 2 * HOUR)
    write_event("updated", GONE, recorded_at=now - HOUR, changed=["a"])
    write_event("revoked", GONE, recorded_at=now, reason="logout")

    def types(query: str) -> list[str]:
        page = browser.get(f"/trail?user=ada&{query}").text
        return re.findall(r'<li class="(\w+)">', page)

    def field(seconds: int) -> str:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"

    assert types("") == ["revoked", "updated", "created"]
    assert types("type=created&type=revoked") == ["revoked", "created"]
    assert types("type=nonsense") == ["revoked", "updated", "created"]
    assert types(f"since={field(now - HOUR)}") == ["revoked", "updated"]
    assert types(f"until={field(now - HOUR)}") == ["created"]
    assert types("type=rotated") == []
    text = text_of(browser.get("/trail?user=ada&type=rotated").text)
    assert "None of the 3 events matches these types and times" in text
    assert browser.get("/trail?user=ada&since=yesterday").status_code == 422


def test_older_events_are_on_further_pages_and_none_is_missing(
    browser: TestClient, write_event: WriteEvent
) -> None:
    """The API filters by whole seconds, and many events can have the same second."""
    now = int(time.time())
    event_ids = {
        write_event("updated", GONE, recorded_at=now - n // 30, changed=[f"k{n:03}"])
        for n in range(95)
    }
    path, keys = "/trail?user=ada&type=updated", list[str]()
    for _ in range(3):
        page = browser.get(path).text
        keys += re.findall(r"<b>(k\d{3})</b>", page)
        older = re.search(r'<a href="([^"]+)">Older events', page)
        path = older[1].replace("&amp;", "&") if older else ""

    assert len(event_ids) == 95
    assert len(keys) == len(set(keys)) == 95
    assert path == ""


def test_data_is_shown_only_on_request(browser: TestClient, sessions: Sessions) -> None:
    id = sessions.create("ada", data={"theme": "dark"}).session.session_id

    assert "dark" not in browser.get(f"/session?id={id}").text
    assert "dark" not in browser.get("/user?id=ada").text
    assert "dark" in browser.get(f"/session?id={id}&data=show").text


def test_long_data_is_cut_and_the_page_stays_small(browser: TestClient, sessions: Sessions) -> None:
    id = sessions.create("ada", data={"long": "x" * 60_000}).session.session_id

    page = browser.get(f"/session?id={id}&data=show").text

    assert len(page.encode()) < 50_000
    assert "Only the beginning is shown" in page


def test_page_of_an_ended_session_says_how_it_ended(
    browser: TestClient, write_event: WriteEvent
) -> None:
    write_event("created", GONE)
    write_event("revoked", GONE, reason="token_reuse")

    text = text_of(browser.get(f"/session?id={GONE}").text)

    assert "It has ended: revoked" in text
    assert "token_reuse" in text


def test_anonymous_session_has_a_page_and_can_be_ended(
    browser: TestClient, sessions: Sessions
) -> None:
    id = sessions.create().session.session_id

    assert "User anonymous" in text_of(browser.get(f"/session?id={id}").text)
    assert "an anonymous visitor" in text_of(browser.get(f"/end?session={id}").text)
    done = browser.post("/end", data={"session": id, "reason": "stolen"})
    text = text_of(browser.get(location(done)).text)
    assert "Ended 1 session For stolen" in text
    assert "on the way" not in text
    with pytest.raises(SessionNotFound):
        sessions.get(id)


def test_one_session_ends_with_a_reason(
    browser: TestClient, sessions: Sessions, service: Service, write_event: WriteEvent
) -> None:
    client = Client("203.0.113.7", "curl/8")
    id, other = (sessions.create("ada", client=client).session.session_id for _ in range(2))

    confirmation = text_of(browser.get(f"/end?session={id}").text)
    assert "1 session of ada will end" in confirmation
    assert f"{id} curl from 203.0.113.7, created" in confirmation
    assert other not in confirmation
    outcome_path = location(browser.post("/end", data={"session": id, "reason": "stolen"}))
    page = browser.get(outcome_path).text
    assert "Ended 1 session Of ada , for stolen" in text_of(page)
    assert "1 event is on the way" in text_of(page)
    assert "data-reload" in page
    write_event("revoked", id, reason="stolen")
    page = browser.get(outcome_path).text
    assert "on the way" not in page
    assert re.search(r"revoked for stolen \d{4}-\d\d-\d\d .* UTC", text_of(page))
    assert [session.session_id for session in sessions.list("ada")] == [other]


def test_user_is_signed_out_everywhere(
    browser: TestClient, sessions: Sessions, write_event: WriteEvent
) -> None:
    ids = [sessions.create("ada").session.session_id for _ in range(3)]
    sessions.create("grace")

    confirmation = text_of(browser.get("/end?user=ada").text)
    assert "3 sessions of ada will end" in confirmation
    assert all(id in confirmation for id in ids)
    outcome_path = location(browser.post("/end", data={"user": "ada", "reason": "left"}))
    for id in ids:
        write_event("revoked", id, reason="left")
    text = text_of(browser.get(outcome_path).text)
    assert "Ended 3 sessions" in text
    assert all(id in text for id in ids)
    assert not list(sessions.list("ada"))
    assert len(list(sessions.list("grace"))) == 1


def test_user_is_signed_out_everywhere_except_on_one_device(
    browser: TestClient, sessions: Sessions
) -> None:
    keep, other = (sessions.create("ada").session.session_id for _ in range(2))

    confirmation = text_of(browser.get(f"/end?user=ada&keep={keep}").text)
    assert "1 session of ada will end" in confirmation
    assert f"This one stays: {keep}" in confirmation
    ended = browser.post("/end", data={"user": "ada", "keep": keep, "reason": "password"})
    assert "Ended 1 session" in text_of(browser.get(location(ended)).text)
    assert [session.session_id for session in sessions.list("ada")] == [keep]
    assert "No other session of ada is live" in text_of(
        browser.get(f"/end?user=ada&keep={keep}").text
    )
    assert other != keep


def test_notice_is_shown_if_the_session_to_keep_has_ended(
    browser: TestClient, sessions: Sessions
) -> None:
    sessions.create("ada")

    text = text_of(browser.get(f"/end?user=ada&keep={GONE}").text)

    assert "This ends all of the user's sessions" in text


def test_wrong_reason_ends_nothing_and_asks_again(
    browser: TestClient, sessions: Sessions, service: Service
) -> None:
    sessions.create("ada")

    for reason in ("", "Stolen", "a b", "x" * 65, "<script>", "stolen\n"):
        answer = browser.post("/end", data={"user": "ada", "reason": reason})
        assert answer.status_code == 422, reason
        assert "Give a reason" in text_of(answer.text)
        assert "<script>" not in answer.text
    assert not any(call.startswith("DELETE") for call in service.calls)


def test_page_says_that_there_is_nothing_to_end(browser: TestClient, service: Service) -> None:
    assert "Nothing to end" in text_of(browser.get("/end?user=ada").text)
    assert "Nothing to end" in text_of(browser.get(f"/end?session={GONE}").text)
    done = browser.post("/end", data={"session": GONE, "reason": "stolen"})
    assert "There was nothing to end" in text_of(browser.get(location(done)).text)


def test_link_cannot_forge_an_outcome(browser: TestClient) -> None:
    """The page only shows outcomes that this console has stored."""
    answer = browser.get("/ended?outcome=made-up&ended=7")

    assert answer.status_code == 422
    assert "7" not in text_of(answer.text)


def test_mistyped_user_has_a_hint(browser: TestClient) -> None:
    answer = browser.get("/user?id=Ada%20")

    assert answer.status_code == 200
    assert "check upper and lower case, spaces at the beginning and end" in text_of(answer.text)


def test_invalid_user_id_gives_a_message(browser: TestClient) -> None:
    for user in ("", "x" * 257, "a\u0000b"):
        answer = browser.get(f"/user?id={quote(user)}")
        assert answer.status_code == 422, user
        assert text_of(answer.text).startswith("That did not work")


def test_unknown_session_gives_a_message(browser: TestClient) -> None:
    answer = browser.get(f"/session?id={GONE}")

    assert answer.status_code == 404
    assert "No live session has this id" in text_of(answer.text)
    assert browser.get("/nowhere").status_code == 404


def test_any_user_id_can_be_shown(browser: TestClient, sessions: Sessions) -> None:
    for user in ("auth0|1", "a/b@c", "a&b=c#d?", "é%2F+", "-", "../x", NASTY):
        id = sessions.create(user).session.session_id
        page = browser.get(location(browser.post("/find", data={"user": user}))).text
        assert id in page
        assert "1 live session" in text_of(page), user
        for link in re.findall(r'href="(/(?:trail|end|user)[^"]*)"', page):
            assert browser.get(link.replace("&amp;", "&")).status_code == 200, link


def test_session_is_found_by_its_id(browser: TestClient, sessions: Sessions) -> None:
    id = sessions.create("ada").session.session_id

    assert location(browser.post("/find", data={"session": f" {id} "})) == f"/session?id={id}"


def test_pasted_token_is_refused_and_not_repeated(
    browser: TestClient, sessions: Sessions, service: Service
) -> None:
    token = sessions.create("ada").token
    secret = token.partition(".")[2]
    service.calls.clear()

    fields = ({name: f"{before}{token}"} for name in ("user", "session") for before in (" ", "s="))
    for field in fields:
        answer = browser.post("/find", data=field)
        assert answer.status_code == 422
        assert "looks like a user's token" in answer.text.replace("&#39;", "'")
        assert secret not in answer.text
        assert secret not in str(answer.headers)
    for path in ("/user?id=", "/session?id=", "/trail?user=", "/trail?session=", "/end?user="):
        answer = browser.get(path + token)
        assert answer.status_code == 422
        assert secret not in answer.text
    assert not service.calls


def test_text_of_users_and_browsers_is_escaped(
    browser: TestClient, sessions: Sessions, write_event: WriteEvent
) -> None:
    secret = sessions.create("grace").token
    agent = f"{NASTY} {secret}"
    issued = sessions.create(NASTY, data={NASTY: NASTY}, client=Client(user_agent=agent))
    id = issued.session.session_id
    write_event("updated", id, NASTY, changed=[NASTY, secret], actor=NASTY)
    write_event("revoked", "B" * 12, NASTY, reason=NASTY)
    write_event("tampered", "C" * 12, NASTY, changed=[NASTY])

    user = quote(NASTY)
    for path in (
        *(f"/user?id={user}", f"/trail?user={user}", f"/session?id={id}&data=show"),
        *(f"/end?user={user}", f"/end?session={id}", f"/trail?user={user}&type={user}"),
    ):
        page = browser.get(path).text
        assert "&lt;script&gt;alert(1)" in page
        assert "<script>alert" not in page
        assert "\u202e" not in re.sub(r'value="[^"]*"', "", page)
        assert "{{12345678*87654321}}" in page
        assert PRODUCT not in page
        assert secret.partition(".")[2] not in page


@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        (unavailable, 503, "does not answer at the moment"),
        (gateway(403, "Forbidden"), 403, "execute-api:Invoke"),
        (gateway(403, "The security token included in the request is expired"), 403, "expired"),
        (gateway(404, "Not Found"), 502, "does not belong to a session service"),
    ],
)
def test_failed_call_gives_a_message(
    browser: TestClient, service: Service, fault: Fault, status: int, message: str
) -> None:
    service.plan(always=fault)

    for path in ("/user?id=ada", f"/session?id={GONE}", "/trail?user=ada", "/end?user=ada"):
        answer = browser.get(path)
        assert answer.status_code == status, path
        assert message in text_of(answer.text)
        assert "Traceback" not in answer.text


def test_frozen_service_gives_a_message(browser: TestClient, service: Service) -> None:
    service.plan(always=frozen)

    answer = browser.get("/user?id=ada")

    assert answer.status_code == 503
    assert "does not answer at the moment" in text_of(answer.text)


def test_missing_credentials_give_a_message(
    browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_none(_: object) -> None:
        raise NoCredentials("botocore finds no AWS credentials")

    monkeypatch.setattr("serverless_sessions._core.credentials.Keys.current", find_none)

    answer = browser.get("/user?id=ada")

    assert answer.status_code == 403
    assert "no AWS credentials" in text_of(answer.text)


def test_fault_of_the_console_shows_no_traceback(
    entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("inner detail")

    monkeypatch.setattr("serverless_sessions.AsyncSessions.list", fail)
    guard = entry.guard
    with TestClient(
        guard, base_url=ORIGIN, raise_server_exceptions=False, follow_redirects=True
    ) as browser:
        browser.get(guard.url)
        answer = browser.get("/user?id=ada")

    assert answer.status_code == 500
    assert "The console itself failed" in text_of(answer.text)
    assert "inner detail" not in answer.text
    assert "content-security-policy" in answer.headers


def test_revocation_whose_answer_is_lost_is_sent_again(
    browser: TestClient, sessions: Sessions, service: Service
) -> None:
    id = sessions.create("ada").session.session_id
    service.plan(lambda call: call.send(call.forward()), lose_answer)

    done = browser.post("/end", data={"session": id, "reason": "stolen"})

    assert "Ended 1 session" in text_of(browser.get(location(done)).text)
    assert not list(sessions.list("ada"))


def test_pages_show_when_and_how_the_user_proved_who_they_are(
    browser: TestClient, sessions: Sessions, write_event: WriteEvent
) -> None:
    issued = sessions.create("ada", methods=["pwd", "otp"], authenticated_at=1_790_000_000)
    session_id = issued.session.session_id
    write_event("authenticated", session_id, methods=["pwd", "otp"])

    for path in (f"/session?id={session_id}", "/user?id=ada"):
        text = text_of(browser.get(path).text)
        assert f"Authenticated {utc(1_790_000_000)} with pwd, otp" in text
        assert "Impersonated" not in text
    trail = text_of(browser.get("/trail?user=ada&type=authenticated").text)
    assert "authenticated with pwd, otp" in trail


BANNER = "Impersonated: this is not the user. grace acts as the user, for ticket-42 ."


def test_banner_says_that_a_session_is_impersonated(
    browser: TestClient, sessions: Sessions
) -> None:
    """Otherwise an operator would take the agent's actions for the user's."""
    sessions.create("ada")
    issued = sessions.create("ada", impersonator=Impersonator("grace", "ticket-42"))
    session_id = issued.session.session_id

    page = browser.get(f"/session?id={session_id}").text
    assert text_of(page).count(BANNER) == 1
    assert page.index('<p class="acting">') < page.index('aria-label="Session"')
    assert text_of(browser.get("/user?id=ada").text).count(BANNER) == 1
    ending = text_of(browser.get(f"/end?session={session_id}").text)
    assert "grace acting as the user" in ending
    assert "Authenticated" not in text_of(page)


def test_banner_stays_when_the_session_has_ended(
    browser: TestClient, write_event: WriteEvent
) -> None:
    write_event("created", GONE, impersonator={"id": "grace", "reason": "ticket-42"})
    write_event("revoked", GONE, reason="logout", impersonator={"id": "grace"})

    page = text_of(browser.get(f"/session?id={GONE}").text)

    assert "Impersonated: this is not the user. grace acts as the user" in page
    assert "grace acting as the user: ticket-42" in page
    assert page.count("grace acting as the user") == 2


def test_impersonator_is_text(browser: TestClient, sessions: Sessions) -> None:
    nasty = NASTY.replace("\u202e", "")
    issued = sessions.create("ada", impersonator=Impersonator(nasty, "support"))

    page = browser.get(f"/session?id={issued.session.session_id}").text

    assert "<script>alert" not in page
    assert PRODUCT not in page
