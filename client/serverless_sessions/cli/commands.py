"""The command `sessions`: shows and ends sessions, shows their trail, and operates deployments.

Exit codes: 0 success; 1 failure, or no such session; 2 wrong usage, or no terminal on which to ask
for confirmation; 4 missing permission.
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
from serverless_sessions.operate.smoke import SETTLING_SECONDS, smoke

_NOT_ALLOWED = 4
_AGO = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_SECONDS = {"s": 1} | {unit[0]: length for unit, length in UNITS}
# An event can reach the trail later than a newer event.
_LATE_SECONDS = 120
_POLL_SECONDS = 2


class Failed(click.ClickException):
    """A message for the user of the command line, and the exit code."""

    def __init__(self, sentence: str, code: int = 1) -> None:
        super().__init__(" ".join(sentence.split()))  # AWS's messages can have several lines
        self.exit_code = code  # type: ignore[misc]  # a class variable in click


class SessionId(click.ParamType[Any]):
    """The public handle of a session. A token is rejected, and the message does not repeat it."""

    name = "id"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if "." in value:
            self.fail("this looks like a token; a session id is the part before the dot", param)
        if not SESSION_ID.fullmatch(value):
            self.fail("a session id has 12 letters, digits, - and _", param)
        return str(value)


class Since(click.ParamType[Any]):
    """A time as epoch seconds, from a duration before now (90s, 10m, 2h, 3d) or a time in UTC."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if ago := _AGO.fullmatch(value):
            return clock.now() - int(ago[1]) * _SECONDS[ago[2]]
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail("use a form such as 2h, 3d, 2026-11-22 or 2026-11-22T10:30", param)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


class Service:
    """The service that the global options select. AWS is called only if a command needs it."""

    def __init__(self, account: Account, stage: str | None, url: str | None, as_json: bool) -> None:
        self.account = account
        self.as_json = as_json
        self.stage = stage
        self._url = url

    @property
    def url(self) -> str:
        if not self._url:
            if not self.stage:
                raise click.UsageError(
                    "Select a service: use --stage or --url, or set SESSIONS_URL."
                )
            self._url = Deployment(self.account, self.stage).url
        return self._url

    @property
    def region(self) -> str:
        """The region of `--region`, or else the API's region, or else the configured region."""
        return self.account.chosen_region or region_of(self.url) or self.account.region

    def sessions(self) -> Sessions:
        return Sessions(self.url, profile=self.account.profile, region=self.region)

    def deployment(self) -> Deployment:
        if not self.stage:
            raise click.UsageError("Select a deployment with --stage.")
        return Deployment(self.account, self.stage)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn errors of the service and of AWS into a message and an exit code."""
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
@click.option("--stage", help="The deployed stage to use.")
@click.option(
    "--url", envvar="SESSIONS_URL", help="The API's URL, instead of --stage (or SESSIONS_URL)."
)
@click.option("--profile", envvar="AWS_PROFILE", help="A profile of your AWS configuration.")
@click.option("--region", help="The AWS region.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
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
    """Show and end users' sessions, show their trail, and operate a deployment.

    Times are in UTC. The trail records every change with your ARN.
    """
    account = Account(profile=profile, region=region)
    # `--stage` takes precedence over SESSIONS_URL.
    context.obj = Service(account, stage, None if stage else url, as_json)


def command(function: Callable[..., None]) -> click.Command:
    """Make `function` a command. A session id or user id that begins with a dash is no option."""

    @wraps(function)
    def with_translated_errors(*arguments: Any, **options: Any) -> None:
        with translated_errors():
            function(*arguments, **options)

    name = function.__name__.strip("_").replace("_", "-")
    settings = {"ignore_unknown_options": True}
    return main.command(name, context_settings=settings)(click.pass_obj(with_translated_errors))


_REASON = click.option("--reason", required=True, help="The reason, for the trail: a-z 0-9 _ . -")


@command
@click.argument("user")
def _list(service: Service, user: str) -> None:
    """List the live sessions of a user, newest first."""
    with service.sessions() as sessions:
        rows = map(session_row, sessions.list(user))
        if not show(SESSION_TITLES, rows, as_json=service.as_json):
            click.echo("This user has no live session.", err=True)


@command
@click.argument("id", type=SessionId())
@click.option("--data", "with_data", is_flag=True, help="Include the session's data.")
def _show(service: Service, id: str, with_data: bool) -> None:
    """Show one live session, by default without its data."""
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
@click.option("--session", "session_id", type=SessionId(), help="One session, instead of a user.")
@click.option("--since", type=Since(), help="2h, 3d, 2026-11-22 or 2026-11-22T10:30 (UTC).")
def trail(service: Service, user: str | None, session_id: str | None, since: int | None) -> None:
    """Show the events of a user or of a session, oldest first."""
    if (user is None) == (session_id is None):
        raise click.UsageError("Use either USER or --session ID.")
    with service.sessions() as sessions:
        # The order matters. If TTL removes the session between the two calls, its expiry is in both
        # results. In the other order it could be missing from both.
        pending = sessions.pending(session_id) if session_id else None
        rows = map(
            event_row,
            sessions.events(user_id=user, session_id=session_id, since=since, newest_first=False),
        )
        if not show(EVENT_TITLES, rows, as_json=service.as_json):
            click.echo("The trail has no such events.", err=True)
    if pending:
        when = Moment(pending.at).in_words()
        click.echo(
            f"It expired {when}, cause {pending.cause}. TTL has not removed it yet.", err=True
        )


@command
@click.argument("id", type=SessionId())
@_REASON
def revoke(service: Service, id: str, reason: str) -> None:
    """End one session."""
    with service.sessions() as sessions:
        # The response of `revoke` does not tell whether the session was live.
        try:
            session = sessions.get(id)
        except SessionNotFound:
            click.echo("Nothing to end: no live session has this id.", err=True)
            return
        sessions.revoke(id, reason=reason)
    click.echo(f"Ended a session of {text(session.user_id or 'no user')}.", err=True)


@command
@click.argument("user")
@click.option("--except", "keep", type=SessionId(), help="A session that does not end.")
@_REASON
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def sign_out(service: Service, user: str, keep: str | None, reason: str, yes: bool) -> None:
    """End all sessions of a user, or all but one."""
    with service.sessions() as sessions:
        ending = [session for session in sessions.list(user) if session.session_id != keep]
        if not ending:
            click.echo("Nothing to end: this user has no live session.", err=True)
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
    """Show new events of a user until Ctrl-C."""
    with service.sessions() as sessions:
        for event in _follow(sessions, user):
            show(EVENT_TITLES, [event_row(event)], as_json=service.as_json)


def _follow(sessions: Sessions, user: str) -> Iterator[Event]:
    started_at = clock.now()
    seen: set[str] = set()
    while True:
        since = max(started_at, clock.now() - _LATE_SECONDS)
        for event in sessions.events(user_id=user, since=since, newest_first=False):
            if event.event_id not in seen:
                seen.add(event.event_id)
                yield event
        clock.sleep(_POLL_SECONDS)


@command
@click.option("--stage", help="The deployed stage to use. It can also precede the command.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="By default any free port.")
@click.option("--no-browser", is_flag=True, help="Print the URL, but do not open it.")
def console(service: Service, stage: str | None, port: int, no_browser: bool) -> None:
    """Serve the console for a browser on this machine, until Ctrl-C."""
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
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=SETTLING_SECONDS,
    show_default=True,
    help="Repeat calls that fail for this many seconds: AWS spreads a deployment slowly.",
)
def _smoke(service: Service, wait: float) -> None:
    """Check that a deployment works, with one short session."""
    deployment = service.deployment()
    with deployment.sessions() as sessions:
        smoke(deployment, sessions, settling_seconds=wait)


@command
@click.option("--dry-run", is_flag=True, help="Only print what there is.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def _redrive(service: Service, dry_run: bool, yes: bool) -> None:
    """Play failed events back into the audit trail."""
    deployment = service.deployment()
    sys.exit(max(redrive(failed, dry_run=dry_run, yes=yes) for failed in buckets(deployment)))


@command
def whoami(service: Service) -> None:
    """Print your ARN and the URL of the service."""
    click.echo(f"{service.account.arn()}\n{service.url}")
