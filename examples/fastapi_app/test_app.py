"""Tests of the app on the embedded service.

pytest -p serverless_sessions.testing examples/fastapi_app
"""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app import app
from serverless_sessions.testing import SessionsService


@pytest.fixture
def browser(sessions_service: SessionsService) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def test_counts_for_a_user(browser: TestClient) -> None:
    assert browser.post("/count").status_code == 401
    browser.post("/log-in", data={"user": "ada"})
    assert "Signed in: ada. Counted: 1." in browser.post("/count").text


def test_session_expires(browser: TestClient, sessions_service: SessionsService) -> None:
    browser.post("/log-in", data={"user": "ada"})
    sessions_service.advance(13 * 86_400, browser)
    assert "Signed in: ada" in browser.get("/").text
    sessions_service.advance(15 * 86_400, browser)
    assert "Signed in" not in browser.get("/").text
    assert [event.type for event in sessions_service.events("ada")] == ["created", "expired"]


def test_sign_out_everywhere(browser: TestClient, sessions_service: SessionsService) -> None:
    for _ in range(2):
        sessions_service.sessions.create("ada")
    browser.post("/log-in", data={"user": "ada"})
    browser.post("/sign-out-everywhere")
    assert "Signed in" not in browser.get("/").text
    assert list(sessions_service.sessions.list("ada")) == []


def test_other_device_is_signed_out(browser: TestClient, sessions_service: SessionsService) -> None:
    phone = sessions_service.sessions.create("ada").session.session_id
    browser.post("/log-in", data={"user": "ada"})
    assert "(this device)" in browser.get("/account/devices/").text
    answer = browser.post(
        "/account/devices/", data={"sign_out": phone}, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert "The device is signed out." in answer.text
    [end] = [event for event in sessions_service.events("ada") if event.type == "revoked"]
    assert (end.session_id, end.reason) == (phone, "device_signed_out")


def test_outage_signs_nobody_out(browser: TestClient, sessions_service: SessionsService) -> None:
    browser.post("/log-in", data={"user": "ada"})
    sessions_service.fail("unavailable")
    assert browser.get("/").status_code == 503
    sessions_service.recover()
    assert "Signed in: ada" in browser.get("/").text
