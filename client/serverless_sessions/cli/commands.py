"""The command `sessions`: shows and ends sessions, shows their trail, and operates deployments.

Exit codes: 0 success; 1 failure, or nothing to show; 2 wrong usage, or no terminal on which to ask
for confirmation; 4 missing permission.
"""

from __future__ import annotations

import errno
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any, NoReturn

try:
    import click
except ImportError:
    sys.exit("The command line needs the extra 'cli' of serverless-sessions.")
from botocore.exceptions import BotoCoreError, ClientError

from serverless_sessions import AsyncSessions, Sessions
from serverless_sessions._core import clock
from serverless_sessions._core.signing import region_of
from serverless_sessions._core.token import SESSION_ID
from serverless_sessions.cli import streams
from serverless_sessions.cli.output import (
    EVENT_TITLES,
    EVENT_WIDTHS,
    SESSION_TITLES,
    event_row,
    notice,
    result,
    session_facts,
    session_row,
    show,
    show_facts,
    show_json,
    show_live,
)
from serverless_sessions.cli.tail import Tail
from serverless_sessions.errors import NotAllowed, SessionNotFound, SessionsError, Unavailable
from serverless_sessions.operate.account import Account, NoRegion
from serverless_sessions.operate.deployment import Deployment, local_stack_hint
from serverless_sessions.operate.redrive import buckets, redrive
from serverless_sessions.operate.report import as_json, ask, say
from serverless_sessions.operate.smoke import SETTLING_SECONDS, smoke
from serverless_sessions.serve import add_functions_to_path
from serverless_sessions.serve.settings import Settings
from serverless_sessions.wording import UNITS, Moment, outlook, text

_NOT_ALLOWED = 4
_AGO = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_SECONDS = {"s": 1} | {unit[0]: length for unit, length in UNITS}


class Failed(click.ClickException):
    """A message for the user of the command line, and the exit code.

    `code` is the service's name for the error, if it has one.
    """

    def __init__(self, sentence: str, exit_code: int = 1, *, code: str | None = None) -> None:
        super().__init__(" ".join(sentence.split()))  # AWS's messages can have several lines
        self.exit_code = exit_code  # type: ignore[misc]  # a class variable in click
        self.code = code


class SessionId(click.ParamType[Any]):
    """The public handle of a session. A token is rejected, and the message does not repeat it."""

    name = "id"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if "." in value:
            self.fail("this looks like a token; a session id is the part before the dot", param)
        if not SESSION_ID.fullmatch(value):
            self.fail("a session id has 12 letters, digits, - and _", param)
        return str(value)


class User(click.ParamType[Any]):
    """The id of a user. It is UTF-8, even if the locale says otherwise."""

    name = "user"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        try:
            # Python keeps the bytes that it can't decode as surrogates.
            return str(value).encode(errors="surrogateescape").decode()
        except UnicodeError:
            self.fail("this is not UTF-8", param)


class Time(click.ParamType[Any]):
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

    def __init__(
        self,
        account: Account,
        stack: str | None,
        url: str | None,
        name: str | None = None,
    ) -> None:
        self.account = account
        self.stack = stack
        self._name = name
        self._url = url

    @property
    def url(self) -> str:
        if not self._url:
            if not self.stack:
                raise click.UsageError(
                    "Select a service: use --stage, --stack or --url, or set SESSIONS_URL."
                )
            self._url = self.deployment().url
        return self._url

    @property
    def region(self) -> str:
        """The region of `--region`, or else the API's region, or else the configured region."""
        return self.account.chosen_region or region_of(self.url) or self.account.region

    def sessions(self) -> Sessions:
        return Sessions(self.url, profile=self.account.profile, region=self.region)

    def deployment(self) -> Deployment:
        if not self.stack:
            raise click.UsageError("Select a deployment with --stage or --stack.")
        return Deployment(self.account, self.stack, self._name)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn errors of the service and of AWS into a message and an exit code."""
    try:
        yield
    except NotAllowed as error:
        raise Failed(
            f"Not allowed: {str(error).rstrip('.')}. May this caller do execute-api:Invoke, or for"
            " a function URL lambda:InvokeFunctionUrl and lambda:InvokeFunction?",
            _NOT_ALLOWED,
        ) from error
    except NoRegion as error:
        raise click.UsageError(str(error)) from error
    except SessionsError as error:
        raise Failed(str(error), code=error.code) from error
    except BotoCoreError as error:
        raise Failed(str(error)) from error
    except ClientError as error:
        code = error.response["Error"]["Code"]
        denied = code in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
        sentence = str(error)
        if denied and (hint := local_stack_hint()):
            sentence = f"{sentence.rstrip('.')}.{hint}"
        raise Failed(sentence, _NOT_ALLOWED if denied else 1) from error
    except OSError as error:
        raise Failed(str(error)) from error
    except ValueError as error:
        # The client refuses a URL, a user id or credentials that no request can be made of.
        raise click.UsageError(str(error)) from error


class Commands(click.Group):
    """Commands that end with a sentence and an exit code, whatever their streams are.

    If the reader of a stream is gone, click ends them with 1.
    """

    def main(self, *arguments: Any, **options: Any) -> NoReturn:
        streams.prepare()
        token = as_json.set(False)
        try:
            sys.exit(self._exit_code(*arguments, **options | {"standalone_mode": False}))
        finally:
            streams.flush()
            as_json.reset(token)

    def _exit_code(self, *arguments: Any, **options: Any) -> int:
        try:
            with translated_errors():
                return super().main(*arguments, **options) or 0
        except click.Abort:
            error: click.ClickException = Failed("Aborted!")
        except click.ClickException as exception:
            error = exception
        with suppress(OSError):
            show_error(error)
        return error.exit_code


def show_error(error: click.ClickException) -> None:
    if as_json.get():
        facts = {"error": error.format_message(), "exit_code": error.exit_code}
        code = getattr(error, "code", None)
        show_json(facts | ({"code": code} if code else {}), err=True)
    else:
        error.show()


def _json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`, which the group and each of its commands take."""
    return click.option(
        "--json",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=lambda context, option, value: as_json.set(value or as_json.get()),
        help="Print one JSON object per line.",
    )(function)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--stage", help="The deployed stage to use: its stack is Sessions-STAGE.")
@click.option("--stack", help="The stack to use, instead of --stage.")
@click.option("--service", "name", help="The construct to use, if the stack has several services.")
@click.option(
    "--url", envvar="SESSIONS_URL", help="The API's URL, instead of --stage (or SESSIONS_URL)."
)
@click.option("--profile", envvar="AWS_PROFILE", help="A profile of your AWS configuration.")
@click.option("--region", help="The AWS region.")
@_json_option
@click.version_option(package_name="serverless-sessions")
@click.pass_context
def main(
    context: click.Context,
    stage: str | None,
    stack: str | None,
    name: str | None,
    url: str | None,
    profile: str | None,
    region: str | None,
) -> None:
    """Show and end users' sessions, show their trail, and operate a deployment.

    Times are in UTC. The trail records every change with your ARN.
    """
    account = Account(profile=profile, region=region)
    if stage and stack:
        raise click.UsageError("Use either --stage or --stack.")
    stack = stack or stack_of(stage)
    if name and not stack:
        raise click.UsageError("--service needs --stack.")
    # The stack takes precedence over SESSIONS_URL.
    context.obj = Service(account, stack, None if stack else url, name)


def stack_of(stage: str | None) -> str | None:
    return f"Sessions-{stage}" if stage else None


class Command(click.Command):
    """A command for which a session id or user id that begins with a dash is no option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # If -h were an option, an id that begins with it would be this option and others.
        ctx.help_option_names = ["--help"]
        args = ["--help" if word == "-h" else word for word in args]
        words = list(args)
        ctx.ignore_unknown_options = True
        try:
            return super().parse_args(ctx, args)
        except click.UsageError:
            # A misspelt option counts as an argument, so the error is about the wrong word.
            ctx.ignore_unknown_options = False
            try:
                self.make_parser(ctx).parse_args(words)
            except click.NoSuchOption as unknown:
                if unknown.option_name.startswith("--"):
                    raise unknown from None
            raise


def command(function: Callable[..., int | None]) -> click.Command:
    """Make `function` a command, which may return an exit code."""
    name = function.__name__.strip("_").replace("_", "-")
    return main.command(name, cls=Command)(_json_option(click.pass_obj(function)))


_REASON = click.option("--reason", required=True, help="The reason, for the trail: a-z 0-9 _ . -")


@command
@click.argument("user", type=User())
def _list(service: Service, user: str) -> None:
    """List the live sessions of a user, newest first."""
    with service.sessions() as sessions:
        if not show(SESSION_TITLES, map(session_row, sessions.list(user))):
            raise Failed("This user has no live session.", code=SessionNotFound.code)


@command
@click.argument("id", type=SessionId())
@click.option("--data", "with_data", is_flag=True, help="Include the session's data.")
def _show(service: Service, id: str, with_data: bool) -> None:
    """Show one live session, by default without its data."""
    with service.sessions() as sessions:
        show_facts(session_facts(sessions.get(id), with_data=with_data))


@command
@click.argument("user", type=User(), required=False)
@click.option("--session", "session_id", type=SessionId(), help="One session, instead of a user.")
@click.option("--since", type=Time(), help="2h, 3d, 2026-11-22 or 2026-11-22T10:30 (UTC).")
@click.option("--until", type=Time(), help="The end of the period, in the same forms. Exclusive.")
def trail(
    service: Service,
    user: str | None,
    session_id: str | None,
    since: int | None,
    until: int | None,
) -> None:
    """Show the events of a user or of a session, oldest first.

    The period applies to the time at which events were recorded.
    """
    if (user is None) == (session_id is None):
        raise click.UsageError("Use either USER or --session ID.")
    with service.sessions() as sessions:
        # The order matters. If the session is deleted between the two calls, its expiry is in both
        # results. In the other order it could be missing from both.
        pending = sessions.pending(session_id) if session_id else None
        events = sessions.events(
            user_id=user, session_id=session_id, since=since, until=until, newest_first=False
        )
        count = show(EVENT_TITLES, map(event_row, events))
    if pending:
        when = Moment(pending.at).in_words()
        notice(
            f"It expired {when}, cause {pending.cause}. This is not on record yet."
            f" {outlook(pending.cause, pending.expected_by)}",
            pending=asdict(pending),
        )
    elif not count:
        raise Failed("The trail has no such events.")


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
            result("Nothing to end: no live session has this id.", session_id=id, ended=0)
            return
        sessions.revoke(id, reason=reason)
    sentence = f"Ended a session of {text(session.user_id or 'no user')}."
    result(sentence, session_id=id, user_id=session.user_id, ended=1)


@command
@click.argument("user", type=User())
@click.option("--except", "keep", type=SessionId(), help="A session that does not end.")
@_REASON
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def sign_out(service: Service, user: str, keep: str | None, reason: str, yes: bool) -> None:
    """End all sessions of a user, or all but one."""
    with service.sessions() as sessions:
        ending = [session for session in sessions.list(user) if session.session_id != keep]
        if not ending:
            result("Nothing to end: this user has no live session.", user_id=user, ended=0)
            return
        if not yes:
            show(SESSION_TITLES, map(session_row, ending))
            plural = "s" if len(ending) > 1 else ""
            answer = ask(f"End {len(ending)} session{plural}?")
            if answer is None:
                raise click.UsageError("No session was ended: there is no one to ask; say --yes.")
            if not answer:
                raise click.Abort
        ended = sessions.revoke_all(user, keep=keep, reason=reason)
    result(f"Ended {ended} session{'' if ended == 1 else 's'}.", user_id=user, ended=ended)


@command
@click.argument("user", type=User())
def tail(service: Service, user: str) -> None:
    """Show new events of a user until Ctrl-C."""

    def on_outage(error: Unavailable | None) -> None:
        if error:
            notice(f"The service does not answer, and is tried again: {error}", outage=True)
        else:
            notice("The service answers again.", outage=False)

    with service.sessions() as sessions, suppress(KeyboardInterrupt):
        events = Tail(sessions, user, on_outage)
        show_live(EVENT_TITLES, EVENT_WIDTHS, map(event_row, events))


@contextmanager
def _translated_port_errors(port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"can't be used ({error})"
        raise Failed(f"Port {port} {reason}; choose another one with --port.") from error


@command
@click.option("--stage", help="The deployed stage to use. It can also precede the command.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="By default any free port.")
@click.option("--no-browser", is_flag=True, help="Print the URL, but do not open it.")
def console(service: Service, stage: str | None, port: int, no_browser: bool) -> None:
    """Serve the console for a browser on this machine, until Ctrl-C."""
    try:
        from serverless_sessions.console.server import listen, serve
    except ImportError as error:
        raise Failed("The console needs the extra 'console' of serverless-sessions.") from error
    if stage:
        service = Service(service.account, stack_of(stage), None)
    account, url = service.account, service.url
    sessions = AsyncSessions(url, profile=account.profile, region=service.region)
    name = f"{service.stack} · {url}" if service.stack else url
    operator = account.arn()
    with _translated_port_errors(port):
        listener = listen(port)
    serve(listener, sessions, service=name, operator=operator, browse=not no_browser)


def _settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each setting of the embedded service."""
    for field in reversed(fields(Settings)):
        name = field.name.replace("_", "-")
        function = click.option(
            f"--{name}/--no-{name}" if field.default is False else f"--{name}",
            default=field.default,
            show_default=True,
            help=field.metadata["help"],
        )(function)
    return function


@command
@click.option("--port", type=click.IntRange(0, 65535), default=4560, show_default=True)
@_settings_options
def serve(_: Service, port: int, **settings: Any) -> None:
    """Serve the embedded service on this machine, until Ctrl-C. It is for development only."""
    add_functions_to_path()
    from serverless_sessions.serve.server import environment_for, serving

    with ExitStack() as stack:
        with _translated_port_errors(port):
            url = stack.enter_context(serving(Settings(**settings), port))
        stack.enter_context(suppress(KeyboardInterrupt))
        say(
            "For development and tests, never for production: all data is in memory, and"
            " signatures are not checked."
        )
        environment = environment_for(url)
        exports = "\n".join(f"export {name}={value}" for name, value in environment.items())
        say(
            "In other terminals, for your app and for this command line:\n\n"
            f"unset AWS_PROFILE AWS_SESSION_TOKEN\n{exports}\n",
            environment=environment,
        )
        say("It serves until Ctrl-C.")
        threading.Event().wait()


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
def _redrive(service: Service, dry_run: bool, yes: bool) -> int:
    """Play failed events back into the audit trail."""
    deployment = service.deployment()
    return max(redrive(failed, dry_run=dry_run, yes=yes) for failed in buckets(deployment))


@command
def whoami(service: Service) -> None:
    """Print your ARN and the URL of the service."""
    arn, url = service.account.arn(), service.url
    if as_json.get():
        show_json({"arn": arn, "url": url})
    else:
        click.echo(f"{arn}\n{url}")
