"""What a browser's user may rely on, and effects that cannot be avoided.

Each answer of the app is compared with what the user did before. A broken promise is listed in
`breaks`, with its subject. Effects that the design cannot avoid are counted in `tolerated`, under
one of the names in `KINDS`. The model accepts no others.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from serverless_sessions.serve.expressions import Item
from tests.simulation.world import Request, World

# Effects that cannot be avoided, and why.
KINDS = {
    "before the last two rotations": "a request that was sent before them is refused",
    "before the last three rotations": "a request that was sent before them looks like a theft,"
    " because only the family of such an old token is known, and not when it was replaced",
    "written to the other log-in": "a double click on Log in creates two sessions. One of them"
    " expires, and what was written to it is lost",
    "log-in in progress at the log-out": "a log-out ends its session, but not a session whose"
    " log-in has not been answered yet",
    "log-out in progress at the log-in": "its answer arrives last and deletes the cookie",
    "switch of users": "a switch ends the former user's session. Until its answer arrives, and"
    " if that is lost, the browser's cookie is not valid",
    "log-ins of two users at the same time": "the answer that arrives last decides",
    "two first pages at the same time": "each creates a visitor's session with its own CSRF"
    " token, and the browser keeps one of them. The log-in from the other page is refused",
    "page from before a log-out": "a log-out in another tab removes the CSRF token of the page",
    "page from before a switch of users": "Django empties the session then",
    "rotation during another one": "two changes of privilege at the same time create one token",
    "rotation after a lost one": "for one grace period the token stays as it is",
    "a visitor's cookie in Django": "there is one cookie, so a late answer that creates a"
    " visitor's session replaces the cookie of a log-in",
    "the thief's rotation": "until the theft is detected, the user's token may be refused",
    "new session while a thief has the old one": "a user whose token is refused after the thief's"
    " rotations gets a new session before the old token counts as a theft. Nobody uses it again",
}


class Exchange:
    """A request of a browser and its answer."""

    def __init__(
        self,
        number: int,
        action: str,
        query: Mapping[str, str],
        cookies: list[tuple[str, str]],
        sent: float,
        group: int,
    ) -> None:
        self.number = number
        self.action = action
        self.query = query
        self.cookies = cookies
        self.sent = sent
        # Requests of one action of the user have the same number, for example both requests of a
        # double click.
        self.group = group
        self.answered = self.arrived = float("inf")
        self.status = 0
        self.body: dict[str, Any] = {}
        self.set_cookies: list[str] = []
        # The page has got the answer; the network has lost the answer.
        self.is_taken = self.is_lost = False
        self.is_wrong_stage = self.is_thief = False
        # The cookie with which the request was signed in, if it was.
        self.session_id: str | None = None
        # Whether a log-out ended the session whose token was sent.
        self.has_effect = True

    def __str__(self) -> str:
        who = "thief's " if self.is_thief else ""
        return f"{who}{self.action} {self.number}"

    @property
    def is_answered(self) -> bool:
        return self.status != 0

    @property
    def user(self) -> str | None:
        """The user who was signed in when the request began."""
        return self.body.get("user")

    @property
    def end(self) -> float:
        """The time of its last effect on the browser, or on the service if the answer was lost."""
        return self.answered if self.is_lost else self.arrived

    @property
    def changes_user(self) -> bool:
        """Whether the request changes the user. It does not if it was refused or had no effect."""
        return self.action in _CHANGES and self.status in (0, 200) and self.has_effect

    @property
    def after(self) -> str | None:
        """The user who is signed in after the request."""
        return self.query["user"] if self.action == "login" else None


# Reasons with which the user or an operator ends a session.
_OWN_ENDS = ("logout", "signed_in", "operator")
_CHANGES = ("login", "logout", "empty", "operator")


class Life:
    """The model's knowledge about one session."""

    def __init__(self, session_id: str, user_id: str | None, maker: Exchange | None) -> None:
        self.session_id = session_id
        self.user_id = user_id
        self.maker = maker
        self.hashes: list[str] = []
        self.reason: str | None = None
        self.has_thief = self.is_rotated_by_thief = False
        # A request from before its last three rotations has ended it.
        self.is_ended_by_old = False
        # The time when the log-out that ended it was answered.
        self.logged_out = float("inf")
        self.written: dict[str, Exchange] = {}


class BrowserModel:
    """Compares the app's answers with the user's actions."""

    world: World

    def __init__(self, *, is_one_cookie: bool, grace: int) -> None:
        self.lives: dict[str, Life] = {}
        self.exchanges: list[Exchange] = []
        self.breaks: list[tuple[str, str]] = []
        self.tolerated: Counter[str] = Counter()
        self._is_one_cookie = is_one_cookie
        self._grace = grace
        self._jars: dict[int, Any] = {}

    def broke(self, label: str, text: str) -> None:
        self.breaks.append((label, text))
        self.world.note(f"BROKEN: {label}: {text}")

    def tolerate(self, kind: str, exchange: Exchange) -> None:
        assert kind in KINDS
        self.tolerated[kind] += 1
        self.world.note(f"  tolerated: {exchange}: {kind}")

    # The service

    def wrote(self, old: Item, new: Item, request: Request | None) -> None:
        facts = request.call.facts if request else {}
        maker: Exchange | None = facts.get("exchange")
        is_thief = facts.get("is_thief") or (maker is not None and maker.is_thief)
        session_id = (new or old)["SessionId"]["S"]
        if not old:
            user_id = new.get("UserId", {}).get("S")
            self.lives[session_id] = Life(session_id, user_id, maker)
        life = self.lives[session_id]
        token_hash = new.get("TokenHash", {}).get("B")
        if token_hash and token_hash not in life.hashes:
            life.hashes.append(token_hash)
            life.is_rotated_by_thief |= bool(old) and bool(is_thief)
        if "RevokedAt" in new and life.reason is None:
            life.reason = new["RevokedReason"]["S"]
            self.world.note(f"  session {session_id[:4]} ends: {life.reason}")
            if life.reason == "token_reuse" and not life.has_thief:
                self._check_theft(life, maker)

    def _check_theft(self, life: Life, maker: Exchange | None) -> None:
        """Nobody has stolen a token.

        `maker` is the request that created the token that counts as reused.
        """
        is_old = maker is not None and len(life.hashes) - self._token_index(maker, life) > 3
        if maker and is_old and not self._was_newer(maker, life):
            life.is_ended_by_old = True
            self.tolerate("before the last three rotations", maker)
        else:
            self.broke("the user is treated as a thief", f"in session {life.session_id[:4]}")

    # The browser

    def sent(self, exchange: Exchange, jar: Mapping[Any, Any]) -> None:
        self.exchanges.append(exchange)
        self._jars[exchange.number] = dict(jar)
        if exchange.is_thief:
            for _, value in exchange.cookies:
                self.thief_presents(value)

    def answered(self, exchange: Exchange) -> None:
        if exchange.status == 503:
            return
        lives = self._lives(exchange)
        is_ended = any(
            life.reason in _OWN_ENDS or (life.reason and (life.has_thief or life.is_ended_by_old))
            for life in lives
        )
        if exchange.status == 400 and is_ended:
            return  # Django's SessionInterrupted: the session ended during the request
        if exchange.status not in (200, 401, 403):
            self.broke("the app fails", f"{exchange}: {exchange.status}")
            return
        if exchange.user:
            signed_in = [life for life in lives if life.user_id == exchange.user]
            if not signed_in:
                self.broke("signed in by nothing", f"{exchange}")
                return
            life = signed_in[0]
            exchange.session_id = life.session_id
            if life.logged_out < exchange.sent:
                self.broke("signed in after the log-out", f"{exchange}")
        if exchange.is_thief:
            return
        self._check_user(exchange)
        match exchange.action:
            case "logout" | "empty":
                self._log_out(exchange, lives)
            case "write" if exchange.status == 200 and exchange.session_id:
                life = self.lives[exchange.session_id]
                life.written[exchange.query["key"]] = exchange
            case "login" if exchange.status == 403:
                self._check_refusal(exchange)
        if exchange.user:
            self._check_values(exchange)

    def arrived(self, exchange: Exchange) -> None:
        if exchange.is_thief:
            return
        if exchange.action == "regenerate" and exchange.is_taken and exchange.status == 200:
            self._check_rotation(exchange)

    def operator_begins(self) -> None:
        now = self.world.time.now
        self.exchanges.append(Exchange(len(self.exchanges) + 1, "operator", {}, [], now, 0))

    # The promises

    def _check_user(self, exchange: Exchange) -> None:
        """Check who is signed in.

        This is the user after the last change whose answer the page has got, or after a change that
        was in progress at the same time or has begun since.
        """
        last, pending = self._changes(exchange)
        expected = last.after if last else None
        if exchange.user == expected:
            return
        if exchange.user is None and exchange.is_wrong_stage:
            return
        for other in pending:
            if other.after == exchange.user:
                if last and other.sent < last.arrived:
                    self.tolerate(_kind_of_overlap(last, other), exchange)
                return
        if exchange.user is None and last is not None:
            self._check_lost_user(exchange, last, pending)
            return
        self.broke("signed in as somebody else", f"{exchange}: {exchange.user}, not {expected}")

    def _check_lost_user(self, exchange: Exchange, last: Exchange, pending: list[Exchange]) -> None:
        """Check a request of a user who should be signed in but is not."""
        for other in pending:
            if other.action == "login" and other.after != last.after:
                self.tolerate("switch of users", exchange)
                return
        if any(
            life.reason == "token_reuse"
            and life.user_id == last.after
            and (life.has_thief or life.is_ended_by_old)
            for life in self.lives.values()
        ):
            return  # a detected theft, or something that looked like a theft
        users = [life for life in self._lives(exchange) if life.user_id == last.after]
        if not users:
            self._check_jar(exchange, last)
            return
        life = users[0]
        if life.is_rotated_by_thief and not life.reason:
            self.tolerate("the thief's rotation", exchange)
        elif life.reason:
            self.broke(f"the session is ended ({life.reason})", f"{exchange}")
        elif self._was_newer(exchange, life):
            self.broke("the browser has an older token again", f"{exchange}")
        elif len(life.hashes) - self._token_index(exchange, life) > 2:
            self.tolerate("before the last two rotations", exchange)
        else:
            self.broke("a good token is refused", f"{exchange}")

    def _check_jar(self, exchange: Exchange, last: Exchange) -> None:
        """Check why the jar has no cookie of the user."""
        jar = self._jars[exchange.number]
        visitors = [
            cookie.by
            for cookie in jar.values()
            for life in [self.lives.get(cookie.value.partition(".")[0])]
            if life and life.user_id is None
        ]
        for visitor in visitors:
            is_late = (
                visitor.sent < last.arrived or visitor.is_wrong_stage or self._was_refused(visitor)
            )
            # A log-in of a user who is already signed in sets no cookie.
            is_last = visitor.arrived > last.arrived or last.user is not None
            if self._is_one_cookie and is_late and is_last:
                self.tolerate("a visitor's cookie in Django", exchange)
                return
        if visitors:
            self.broke("a visitor's cookie takes the place of the user's", f"{exchange}")
        else:
            self.broke("the user's cookie is gone", f"{exchange}")

    def _check_refusal(self, login: Exchange) -> None:
        """A user who fills in a form, without any other action at the same time, must not be
        refused because of the CSRF token.
        """
        pages = [
            other
            for other in self.exchanges
            if other.group == login.group and other.action == "visit"
        ]
        since = pages[-1].sent if pages else login.sent
        others = [
            other
            for other in self.exchanges
            if other.group != login.group
            and not other.is_thief
            and other.action in (*_CHANGES, "visit")
            and other.sent < login.answered
            and other.end > since
        ]
        if login.is_wrong_stage or any(page.is_wrong_stage for page in pages):
            return
        if any(page.user not in (None, login.after) for page in pages):
            self.tolerate("switch of users", login)
        elif any(self._was_refused(page) for page in pages):
            self.tolerate("before the last two rotations", login)
        elif any(other.action in _CHANGES and other.after is None for other in others):
            self.tolerate("page from before a log-out", login)
        elif any(other.action == "visit" and self._made_visitor(other) for other in others):
            self.tolerate("two first pages at the same time", login)
        elif any(other.action == "login" and other.after != login.after for other in others) or any(
            other.action == "login" and other.user not in (None, other.after) for other in others
        ):
            self.tolerate("page from before a switch of users", login)
        elif others:
            self.broke("a log-in is refused during another action", f"{login}: {others[0]}")
        else:
            self.broke("a log-in is refused for its CSRF token", f"{login}")

    def _was_refused(self, exchange: Exchange) -> bool:
        """Return whether the request presented an invalid token of a user.

        `_check_user` has reported why.
        """
        return exchange.user is None and any(life.user_id for life in self._lives(exchange))

    def _made_visitor(self, exchange: Exchange) -> bool:
        return any(life.maker is exchange for life in self.lives.values())

    def _check_values(self, exchange: Exchange) -> None:
        """Check the values that earlier requests of this log-in wrote, if they were answered before
        this request was sent.
        """
        keys = set(exchange.body.get("keys", ()))
        last, pending = self._changes(exchange)
        for life in self.lives.values():
            for key, write in life.written.items():
                if write.answered > exchange.sent or key in keys:
                    continue
                if life.session_id == exchange.session_id:
                    self.broke("a written value is lost", f"{exchange}: {key} by {write}")
                    return
                is_since = last and last.arrived < write.sent and last.after == write.user
                if not is_since or exchange.user != write.user:
                    continue
                if any(other.after != exchange.user for other in pending):
                    continue
                makers = [life.maker, self.lives[exchange.session_id or ""].maker]
                if all(maker and maker.action == "login" for maker in makers):
                    self.tolerate("written to the other log-in", exchange)
                else:
                    self.broke("a written value is lost", f"{exchange}: {key} by {write}")
                    return

    def _check_rotation(self, exchange: Exchange) -> None:
        """A change of privileges must create a new token."""
        before = {value for _, value in exchange.cookies}
        new = {
            value
            for line in exchange.set_cookies
            if "." in (value := line.partition(";")[0].partition("=")[2]) and value not in before
        }
        # A session that ended in the meantime needs no new token.
        if new or exchange.session_id is None or self.lives[exchange.session_id].reason:
            return
        rotations = [
            rotation
            for rotation in self.exchanges
            if rotation.action in ("regenerate", "login")
            and rotation is not exchange
            and (not rotation.is_thief or self._has_thief(exchange))
        ]
        parallel = [
            rotation
            for rotation in rotations
            if rotation.sent < exchange.answered and rotation.end > exchange.sent
        ]
        now = exchange.answered
        lost = [
            rotation
            for rotation in rotations
            if rotation.is_lost and rotation.answered > now - self._grace - 2
        ]
        if parallel:
            self.tolerate("rotation during another one", exchange)
        elif lost:
            self.tolerate("rotation after a lost one", exchange)
        elif self._has_thief(exchange):
            self.tolerate("the thief's rotation", exchange)
        elif self._token_index(exchange, self.lives[exchange.session_id]) + 1 < len(
            self.lives[exchange.session_id].hashes
        ):
            self.broke("the browser has an older token again", f"{exchange}")
        else:
            self.broke("a change of privilege brings no new token", f"{exchange}")

    def _log_out(self, exchange: Exchange, lives: list[Life]) -> None:
        if exchange.status != 200:
            return
        if exchange.session_id:
            life = self.lives[exchange.session_id]
            life.logged_out = min(life.logged_out, exchange.answered)
            if life.reason is None:
                self.broke("a log-out ends nothing", f"{exchange}")
        elif any(life.user_id and life.reason is None for life in lives):
            # The request was refused. `_check_user` has reported why.
            exchange.has_effect = False

    # The thief

    def thief_presents(self, token: str) -> None:
        life = self.lives.get(token.partition(".")[0])
        if life:
            life.has_thief = True

    def thief_was_answered(self, token: str, began: float, is_signed_in: bool) -> None:
        life = self.lives.get(token.partition(".")[0])
        if life and is_signed_in and life.logged_out < began:
            self.broke("signed in after the log-out", "the thief")

    def stolen(self, user: Mapping[Any, Any], thief: Mapping[Any, Any]) -> tuple[str | None, str]:
        """Return a user's live session of which the thief has a token, and which token the user
        has.

        The user has the "same" token, "another" one, or "none".
        """
        ours, theirs = ({cookie.value for cookie in jar.values()} for jar in (user, thief))
        for token in sorted(theirs):
            session_id = token.partition(".")[0]
            life = self.lives.get(session_id)
            if life is None or life.user_id is None or life.reason:
                continue
            if token in ours:
                return session_id, "same"
            has_another = any(other.startswith(f"{session_id}.") for other in ours)
            return session_id, "another" if has_another else "none"
        return None, "none"

    def user_left(self, session_id: str) -> None:
        """The thief uses a session of which the user has no token any more."""
        life = self.lives[session_id]
        if life.is_rotated_by_thief:
            self.tolerated["new session while a thief has the old one"] += 1
        else:
            self.broke("the user's cookie is gone", f"of session {session_id}, and the thief's not")

    # Looking things up

    def _changes(self, exchange: Exchange) -> tuple[Exchange | None, list[Exchange]]:
        """Return the last change of the user that had arrived when this was sent, and the pending
        changes.

        Pending changes may have had an effect since then.
        """
        changes = [
            other
            for other in self.exchanges
            if other is not exchange and not other.is_thief and other.changes_user
        ]
        taken = [other for other in changes if other.is_taken and other.arrived <= exchange.sent]
        last = max(taken, key=lambda other: other.arrived, default=None)
        since = last.sent if last else -1.0
        pending = [
            other
            for other in changes
            if other is not last and other.sent < exchange.answered and other.end > since
        ]
        return last, pending

    def _lives(self, exchange: Exchange) -> list[Life]:
        ids = [value.partition(".")[0] for _, value in exchange.cookies]
        return [self.lives[session_id] for session_id in ids if session_id in self.lives]

    def _has_thief(self, exchange: Exchange) -> bool:
        return any(life.has_thief for life in self._lives(exchange))

    def _token_index(self, exchange: Exchange, life: Life) -> int:
        """Which of the session's tokens it was sent with, counted from 0."""
        return max(_token_index(value, life) for _, value in exchange.cookies)

    def _was_newer(self, exchange: Exchange, life: Life) -> bool:
        """Return whether the jar had had a newer token of the session when this was sent."""
        place = self._token_index(exchange, life)
        had = [
            cookie
            for other in self.exchanges
            if other.arrived <= exchange.sent and not other.is_thief
            for cookie in _tokens(other)
        ]
        return any(_token_index(value, life) > place for value in had)


def _kind_of_overlap(last: Exchange, other: Exchange) -> str:
    """Return the name of the effect that two changes of the user overlap."""
    if other.after is None:
        return "log-out in progress at the log-in"
    if last.after is None:
        return "log-in in progress at the log-out"
    return "log-ins of two users at the same time"


def _tokens(exchange: Exchange) -> list[str]:
    return [line.partition(";")[0].partition("=")[2] for line in exchange.set_cookies]


def _token_index(token: str, life: Life) -> int:
    session_id, _, secret = token.partition(".")
    if session_id != life.session_id:
        return -1
    digest = base64.b64encode(hashlib.sha256(secret.encode()).digest()).decode()
    return life.hashes.index(digest) if digest in life.hashes else -1
