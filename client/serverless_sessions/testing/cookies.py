"""Cookies in the test clients of frameworks, which do not expire by themselves."""

from __future__ import annotations

from dataclasses import replace
from http.cookiejar import CookieJar
from http.cookies import SimpleCookie
from typing import Any


def age_cookies(client: Any, seconds: int) -> None:
    """Let the cookies of a test client become older, and delete those whose time is over.

    `client` is Django's, Flask's or Starlette's test client, or a client of httpx or requests. A
    cookie without an age, which browsers keep until they are closed, remains.
    """
    # Flask: Werkzeug has no public way to list cookies.
    if isinstance(werkzeug_cookies := getattr(client, "_cookies", None), dict):
        _age_werkzeug(werkzeug_cookies, seconds)
    elif not hasattr(client, "cookies"):
        raise TypeError(f"{client!r} is no test client with cookies")
    elif isinstance(client.cookies, SimpleCookie):
        _age_django(client.cookies, seconds)
    else:
        _age_jar(getattr(client.cookies, "jar", client.cookies), seconds)


def _age_django(cookies: SimpleCookie, seconds: int) -> None:
    for name, cookie in list(cookies.items()):
        if age := cookie["max-age"]:
            cookie["max-age"] = int(age) - seconds
            if cookie["max-age"] <= 0:
                del cookies[name]


def _age_werkzeug(cookies: dict[Any, Any], seconds: int) -> None:
    for key, cookie in list(cookies.items()):
        if cookie.max_age is not None:
            cookies[key] = replace(cookie, max_age=cookie.max_age - seconds)
            if cookies[key].max_age <= 0:
                del cookies[key]


def _age_jar(jar: CookieJar, seconds: int) -> None:
    for cookie in list(jar):
        if cookie.expires is not None:
            cookie.expires -= seconds
            if cookie.is_expired():
                jar.clear(cookie.domain, cookie.path, cookie.name)
