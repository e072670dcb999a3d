"""`sessions`: look at sessions and their trail from a terminal, end them, and operate deployments.

Exit codes: 0 done; 1 it failed, or there is no such session; 2 the command line is wrong, or there
is no one to ask; 4 not allowed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import Any

try:
    import click
except ImportError:
    sys.exit("The command line needs more: pip install 'serverless-sessions[cli]'")
from botocore.exceptions import BotoCoreError, ClientError

from serverless_sessions import AsyncSessions, Event, Sessions
from serverless_sessions._core import clock
from serverless_sessions._core.signing import region_of
from serverless_sessions._core.token import SESSION_ID
from serverless_sessions.cli.output import (
    EVENT_TITLES,
    SESSION_TITLES,
    UNITS,
    Moment,
    event_row,
    on_terminal,
    session_facts,
    session_row,
    show,
    text,
)
from serverless_sessions.errors import NotAllowed, SessionNotFound, SessionsError
from serverless_sessions.operate.account import Account, NoRegion
from serverless_sessions.operate.deployment import Deployment
from serverless_sessions.operate.redrive import buckets, redrive
from serverless_sessions.operate.smoke import smoke

_NOT_ALLOWED = 4
_AGO = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_SECONDS = {"s": 1} | {unit[0]: length for unit, length in UNITS}
# An event may come to the trail after one that is younger.
_LATE_SECONDS = 120
_POLL_SECONDS = 2


class Failed(click.ClickException):
    """A sentence for the person at the terminal, and what the shell gets."""

    def __init__(self, sentence: str, code: int = 1) -> None:
        super().__init__(" ".join(sentence.split()))  # messages of AWS may have several lines
        self.exit_code = code  # type: ignore[misc]  # click's says 1 for all


class SessionId(click.ParamType[Any]):
    """The public handle of a session; a token is refused, and not repeated."""

    name = "id"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if "." in value:
            self.fail("this looks like a token; a session id is the part before the dot", param)
        if not SESSION_ID.fullmatch(value):
            self.fail("a session id has 12 letters, digits, - and _", param)
        return str(value)


class Since(click.ParamType[Any]):
    """A length of time ago (90s, 10m, 2h, 3d), or a day or moment in UTC; epoch seconds."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if ago := _AGO.fullmatch(value):
            return clock.now() - int(ago[1]) * _SECONDS[ago[2]]
        try:
            given = datetime.fromisoformat(value)
        except ValueError:
            self.fail("say 2h, 3d, 2026-11-22 or 2026-11-22T10:30", param)
        return int((given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp())


class Service:
    """What the options before the command name; AWS is asked once a command needs it."""

    def __init__(self, account: Account, stage: str | None, url: str | None, as_json: bool) -> None:
        self.account = account
        self.as_json = as_json
        self.stage = stage
        self._url = url

    @property
    def url(self) -> str:
        if not self._url:
            if not self.stage:
                raise click.UsageError("Say which service: --stage, or --url (or SESSIONS_URL).")
            self._url = Deployment(self.account, self.stage).url
        return self._url

    @property
    def region(self) -> str:
        """The API's own region goes before the one that the operator usually works in."""
        return self.account.chosen_region or region_of(self.url) or self.account.region

    def sessions(self) -> Sessions:
        return Sessions(self.url, profile=self.account.profile, region=self.region)

    def deployment(self) -> Deployment:
        if not self.stage:
            raise click.UsageError("Say which deployment: --stage.")
        return Deployment(self.account, self.stage)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what the service or AWS refuses into a sentence and an exit code, without a stack."""
    try:
        yield
    except NotAllowed as error:
        sentence = f"Not allowed: {str(error).rstrip('.')}. May this caller do execute-api:Invoke?"
        raise Failed(sentence, _NOT_ALLOWED) from error
    except NoRegion as error:
        raise click.UsageError(str(error)) from error
    except (SessionsError, BotoCoreError) as error:
        raise Failed(str(error)) from error
    except ClientError as error:
        code = error.response["Error"]["Code"]
        denied = code in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
        raise Failed(str(error), _NOT_ALLOWED if denied else 1) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--stage", help="The stage to ask, by its stack's outputs.")
@click.option("--url", envvar="SESSIONS_URL", help="The API's URL in its place (or SESSIONS_URL).")
@click.option("--profile", envvar="AWS_PROFILE", help="A profile of your AWS configuration.")
@click.option("--region", help="The AWS region.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.version_option(package_name="serverless-sessions")
@click.pass_context
def main(
    context: click.Context,
    stage: str | None,
    url: str | None,
    profile: str | None,
    region: str | None,
    as_json: bool,
) -> None:
    """Look at users' sessions and their trail, end them, and operate a deployment.

    Times are UTC. Every change is on record with your ARN.
    """
    account = Account(profile=profile, region=region)
    # Whoever names a stage means it, whatever the environment says.
    context.obj = Service(account, stage, None if stage else url, as_json)


def command(function: Callable[..., None]) -> click.Command:
    """Make `function` a command. Ids and users may begin with a dash, and are no options then."""

    @wraps(function)
    def with_sentences(*arguments: Any, **options: Any) -> None:
        with translated_errors():
            function(*arguments, **options)

    name = function.__name__.strip("_").replace("_", "-")
    settings = {"ignore_unknown_options": True}
    return main.command(name, context_settings=settings)(click.pass_obj(with_sentences))


_REASON = click.option("--reason", required=True, help="Why, for the trail: a-z 0-9 _ . -")


@command
@click.argument("user")
def _list(service: Service, user: str) -> None:
    """The live sessions of a user, newest first."""
    with service.sessions() as sessions:
        rows = map(session_row, sessions.list(user))
        if not show(SESSION_TITLES, rows, as_json=service.as_json):
            click.echo("No live session has this user.", err=True)


@command
@click.argument("id", type=SessionId())
@click.option("--data", "with_data", is_flag=True, help="With the session's data.")
def _show(service: Service, id: str, with_data: bool) -> None:
    """One live session, whole but for its data."""
    with service.sessions() as sessions:
        session = sessions.get(id)
    facts = session_facts(session, with_data=with_data)
    if service.as_json:
        click.echo(json.dumps(facts))
        return
    for name, fact in facts.items():
        if not name.endswith("_at"):
            cell = text(fact if isinstance(fact, str | int) else json.dumps(fact))
        else:
            cell = Moment(fact).in_words() if on_terminal() else str(Moment(fact))
        click.echo(f"{name:<20}  {cell}" if on_terminal() else f"{name}\t{cell}")


@command
@click.argument("user", required=False)
@click.option("--session", "session_id", type=SessionId(), help="Of one session in its place.")
@click.option("--since", type=Since(), help="2h, 3d, 2026-11-22 or 2026-11-22T10:30 (UTC).")
def trail(service: Service, user: str | None, session_id: str | None, since: int | None) -> None:
    """What happened to a user's sessions, or to one session; oldest first."""
    if (user is None) == (session_id is None):
        raise click.UsageError("Say whose trail: USER, or --session ID.")
    with service.sessions() as sessions:
        # Before the trail, or an expiry that TTL brings in between would be in neither.
        pending = sessions.pending(session_id) if session_id else None
        rows = map(
            event_row,
            sessions.events(user_id=user, session_id=session_id, since=since, newest_first=False),
        )
        if not show(EVENT_TITLES, rows, as_json=service.as_json):
            click.echo("The trail has nothing of that.", err=True)
    if pending:
        when = Moment(pending.at).in_words()
        click.echo(f"It expired {when}, {pending.cause}; TTL has yet to remove it.", err=True)


@command
@click.argument("id", type=SessionId())
@_REASON
def revoke(service: Service, id: str, reason: str) -> None:
    """End one session."""
    with service.sessions() as sessions:
        # The service answers alike whether there was anything to end.
        try:
            session = sessions.get(id)
        except SessionNotFound:
            click.echo("Nothing to end: no live session has this id.", err=True)
            return
        sessions.revoke(id, reason=reason)
    click.echo(f"Ended a session of {text(session.user_id or 'no user')}.", err=True)


@command
@click.argument("user")
@click.option("--except", "keep", type=SessionId(), help="The one session that stays.")
@_REASON
@click.option("--yes", is_flag=True, help="Do not ask.")
def sign_out(service: Service, user: str, keep: str | None, reason: str, yes: bool) -> None:
    """End all sessions of a user, or all but one."""
    with service.sessions() as sessions:
        ending = [session for session in sessions.list(user) if session.session_id != keep]
        if not ending:
            click.echo("Nothing to end: no live session has this user.", err=True)
            return
        if not yes:
            show(SESSION_TITLES, map(session_row, ending), as_json=service.as_json)
            plural = "s" if len(ending) > 1 else ""
            click.confirm(f"End {len(ending)} session{plural}?", abort=True, err=True)
        ended = sessions.revoke_all(user, keep=keep, reason=reason)
    click.echo(f"Ended {ended} session{'' if ended == 1 else 's'}.", err=True)


@command
@click.argument("user")
def tail(service: Service, user: str) -> None:
    """What happens to a user's sessions from now on, until Ctrl-C."""
    with service.sessions() as sessions:
        for event in _follow(sessions, user):
            show(EVENT_TITLES, [event_row(event)], as_json=service.as_json)


def _follow(sessions: Sessions, user: str) -> Iterator[Event]:
    began = clock.now()
    seen: set[str] = set()
    while True:
        since = max(began, clock.now() - _LATE_SECONDS)
        for event in sessions.events(user_id=user, since=since, newest_first=False):
            if event.event_id not in seen:
                seen.add(event.event_id)
                yield event
        clock.sleep(_POLL_SECONDS)


@command
@click.option("--stage", help="The stage to ask, as before the command.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="By default a free one.")
@click.option("--no-browser", is_flag=True, help="Print the URL, open nothing.")
def console(service: Service, stage: str | None, port: int, no_browser: bool) -> None:
    """Look at sessions in a browser; on this machine alone, until Ctrl-C."""
    try:
        from serverless_sessions.console.server import serve
    except ImportError as error:
        raise Failed(
            "The console needs more: pip install 'serverless-sessions[console]'"
        ) from error
    if stage:
        service = Service(service.account, stage, None, service.as_json)
    account, url = service.account, service.url
    sessions = AsyncSessions(url, profile=account.profile, region=service.region)
    name = f"{service.stage} · {url}" if service.stage else url
    try:
        serve(sessions, service=name, operator=account.arn(), port=port, browse=not no_browser)
    except OSError as error:
        raise Failed(f"Port {port} is taken; choose another one with --port.") from error


@command
def _smoke(service: Service) -> None:
    """Prove that a deployment works: live one short session on it."""
    deployment = service.deployment()
    with deployment.sessions() as sessions:
        smoke(deployment, sessions)


@command
@click.option("--dry-run", is_flag=True, help="Only say what there is.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def _redrive(service: Service, dry_run: bool, yes: bool) -> None:
    """Play failed events back into the audit trail."""
    deployment = service.deployment()
    sys.exit(max(redrive(failed, dry_run=dry_run, yes=yes) for failed in buckets(deployment)))


@command
def whoami(service: Service) -> None:
    """Who you are to the service, and which one you ask."""
    click.echo(f"{service.account.arn()}\n{service.url}")
