"""Finding credentials delays no call beyond its deadline, and fails with the client's errors."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import ClientError

from serverless_sessions import AsyncSessions, NoCredentials, Session, Sessions, Unavailable
from serverless_sessions.serve.gateway import Reply
from tests.support.ports import free_port
from tests.support.stand_in import TOKEN, Received, StandIn, reply, silence, stand_in
from tests.support.waiting import eventually

# A call with this deadline ends soon, and without it much later.
DEADLINE = 0.4
SOON = 15.0
# The deadline of a call that is to succeed.
PATIENT = 60.0

Verify = Callable[[], Session | None]


@pytest.fixture
def api() -> Iterator[StandIn]:
    with stand_in() as api:
        yield api


@pytest.fixture
def connect(connect_to: Callable[..., Sessions], api: StandIn) -> Callable[..., Verify]:
    """Makes a client that finds credentials by itself, and returns its `verify`."""

    def make(**options: Any) -> Verify:
        known = {"region": "us-east-1", "verify_deadline_seconds": DEADLINE}
        sessions = connect_to(api.url, **(known | options))
        return lambda: sessions.verify(TOKEN)

    return make


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment has no credentials; a test adds where to find some."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    # The tests do not wait for botocore's retries, and do not depend on its time limits.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.TIMEOUT_SECONDS", 60)


class Sources:
    """Sets up one way to find credentials. `url` is STS, or the endpoint of a container."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._environment = monkeypatch
        self._folder = folder

    def web_identity(self, url: str) -> None:
        (self._folder / "identity").write_text("a.b.c")
        self._environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(self._folder / "identity"))
        self._environment.setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/app")
        self._environment.setenv("AWS_ENDPOINT_URL_STS", url)

    def assumed_role(self, url: str) -> None:
        self._environment.setenv("AWS_ENDPOINT_URL_STS", url)
        self._configure(
            "role_arn = arn:aws:iam::111122223333:role/app\nsource_profile = own\n"
            "[profile own]\naws_access_key_id = own\naws_secret_access_key = own"
        )

    def container(self, url: str) -> None:
        self._environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/keys")

    def process(self, statements: str) -> Path:
        """A program that executes Python `statements`, then prints credentials.

        Returns a file to which the program adds a line each time it runs.
        """
        runs = self._folder / "runs"
        program = self._folder / "program.py"
        program.write_text(
            "import os, sys, time\n"
            f"open({str(runs)!r}, 'a').write('run\\n')\n{statements}\n"
            'print(\'{"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "secret"}\')\n'
        )
        self._configure(f"credential_process = {sys.executable} -S {program}")
        return runs

    def _configure(self, text: str) -> None:
        (self._folder / "config").write_text(f"[default]\n{text}\n")
        self._environment.setenv("AWS_CONFIG_FILE", str(self._folder / "config"))


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sources:
    return Sources(monkeypatch, tmp_path)


HTTP_SOURCES = [Sources.web_identity, Sources.assumed_role, Sources.container]


def seconds_until_unavailable(verify: Verify) -> float:
    started = time.monotonic()
    with pytest.raises(Unavailable, match="credentials"):
        verify()
    return time.monotonic() - started


def succeeds(verify: Verify) -> bool:
    try:
        return verify() is not None
    except Unavailable:
        return False


@pytest.mark.parametrize("source", HTTP_SOURCES)
def test_a_call_with_a_silent_provider_ends_at_its_deadline(
    connect: Callable[..., Verify], sources: Sources, source: Callable[[Sources, str], None]
) -> None:
    with silence() as url:
        source(sources, url)
        assert seconds_until_unavailable(connect()) < SOON


def test_waiting_calls_share_one_run_of_a_slow_program(
    connect: Callable[..., Verify], sources: Sources, tmp_path: Path
) -> None:
    """They wait at the same time, and the next call has the credentials."""
    runs = sources.process(f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.05)")
    verify = connect()
    with ThreadPoolExecutor(4) as threads:
        took = list(threads.map(lambda _: seconds_until_unavailable(verify), range(4)))
    assert max(took) < SOON
    (tmp_path / "go").touch()
    assert eventually(lambda: succeeds(verify))
    assert runs.read_text() == "run\n"


def test_the_thread_pool_of_the_event_loop_stays_free(api: StandIn, sources: Sources) -> None:
    with silence() as url:
        sources.web_identity(url)

        async def use() -> float:
            sessions = AsyncSessions(api.url, region="us-east-1", verify_deadline_seconds=PATIENT)
            calls = [asyncio.create_task(sessions.verify(TOKEN)) for _ in range(64)]
            await asyncio.sleep(0.1)
            started = time.monotonic()
            await asyncio.to_thread(lambda: None)
            took = time.monotonic() - started
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            return took

        assert asyncio.run(use()) < SOON / 2


FORK = """
import os, sys, threading, time, warnings
from botocore.credentials import RefreshableCredentials
from serverless_sessions import Sessions

warnings.simplefilter("ignore")  # Python warns of a fork while threads run
url, token, started, passes_credentials = sys.argv[1:]
parent = os.getpid()
keys = {"access_key": "AKIA", "secret_key": "secret", "token": "token"}


def renew():
    if os.getpid() == parent:
        open(started, "w").close()
        time.sleep(60)
    return keys | {"expiry_time": "4000-01-01T00:00:00Z"}


credentials = RefreshableCredentials.create_from_metadata(
    keys | {"expiry_time": "2000-01-01T00:00:00Z"}, renew, "test"
)
sessions = Sessions(
    url,
    region="us-east-1",
    credentials=credentials if passes_credentials == "True" else None,
    verify_deadline_seconds=60,
)
threading.Thread(target=sessions.verify, args=(token,), daemon=True).start()
while not os.path.exists(started):
    time.sleep(0.05)
child = os.fork()
if child == 0:
    os.environ |= {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}
    os._exit(0 if sessions.verify(token) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(
    "passes_credentials", [False, True], ids=["credentials looked up", "credentials passed"]
)
def test_a_process_forked_during_a_lookup_makes_its_own_lookup(
    api: StandIn, sources: Sources, passes_credentials: bool
) -> None:
    """During the fork, a thread of the parent holds the lock. The child has no such thread."""
    runs = sources.process("time.sleep(60)")
    done = subprocess.run(
        [sys.executable, "-c", FORK, api.url, TOKEN, str(runs), str(passes_credentials)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=50,
        check=False,
    )
    assert done.returncode == 0


class Renewing:
    """Temporary credentials that can be renewed. The access keys are AKIA0, AKIA1, …

    The first ones expire after `seconds`. A renewal waits for `may_renew`.
    """

    def __init__(self, seconds: float, token_suffix: str = "") -> None:
        self._token_suffix = token_suffix
        self.may_renew = threading.Event()
        self.is_broken = False
        self._count = 0
        self._seconds = seconds
        self.credentials = RefreshableCredentials.create_from_metadata(
            self._metadata(), self._renew, "test"
        )

    def _renew(self) -> dict[str, Any]:
        assert self.may_renew.wait(60)
        if self.is_broken:
            raise RuntimeError("broken")
        self._seconds = 3600
        return self._metadata()

    def _metadata(self) -> dict[str, Any]:
        expiry = datetime.now(UTC) + timedelta(seconds=self._seconds)
        key = f"AKIA{self._count}"
        self._count += 1
        return {
            "access_key": key,
            "secret_key": "secret",
            "token": f"token{self._token_suffix}",
            "expiry_time": expiry.isoformat(),
        }


def keys_of(api: StandIn) -> list[str]:
    return [
        request.headers["authorization"].partition("Credential=")[2].partition("/")[0]
        for request in api.requests
    ]


def test_credentials_due_for_renewal_are_used_until_they_are_renewed(
    connect: Callable[..., Verify], api: StandIn
) -> None:
    renewing = Renewing(seconds=300)
    verify = connect(credentials=renewing.credentials, verify_deadline_seconds=PATIENT)
    for _ in range(3):
        assert verify()
    assert keys_of(api) == ["AKIA0"] * 3
    renewing.may_renew.set()
    eventually(lambda: verify() and keys_of(api)[-1] == "AKIA1")


def test_a_failed_renewal_does_no_harm_until_the_credentials_expire(
    connect: Callable[..., Verify], api: StandIn
) -> None:
    renewing = Renewing(seconds=300)
    renewing.is_broken = True
    renewing.may_renew.set()
    verify = connect(credentials=renewing.credentials, verify_deadline_seconds=PATIENT)
    for _ in range(3):
        assert verify()

    expired = Renewing(seconds=-1)
    expired.is_broken = True
    expired.may_renew.set()
    with pytest.raises(NoCredentials, match="broken"):
        connect(credentials=expired.credentials, verify_deadline_seconds=PATIENT)()
    expired.is_broken = False
    assert connect(credentials=expired.credentials, verify_deadline_seconds=PATIENT)()
    assert keys_of(api)[-1] == "AKIA1"


def test_credentials_of_the_app_may_block(connect: Callable[..., Verify]) -> None:
    released = threading.Event()

    class Slow(Credentials):
        def get_frozen_credentials(self) -> ReadOnlyCredentials:
            assert released.wait(60)
            return super().get_frozen_credentials()

    verify = connect(credentials=Slow("AKIA", "secret"))
    assert seconds_until_unavailable(verify) < SOON
    released.set()
    assert eventually(lambda: succeeds(verify))


def sts_error(status: int, code: str) -> Callable[[Received], Reply]:
    body = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender'
        f"</Type><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
    )
    return lambda _: Reply(status, {"Content-Type": "text/xml"}, body.encode())


@pytest.mark.parametrize("source", [Sources.web_identity, Sources.assumed_role])
def test_a_role_that_sts_refuses_means_no_credentials(
    connect: Callable[..., Verify],
    sources: Sources,
    source: Callable[[Sources, str], None],
    api: StandIn,
) -> None:
    with stand_in(sts_error(403, "AccessDenied")) as sts:
        source(sources, sts.url)
        with pytest.raises(NoCredentials, match="AccessDenied") as refused:
            connect(verify_deadline_seconds=PATIENT)()
    assert isinstance(refused.value.__cause__, ClientError)
    assert api.requests == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "InternalFailure"), (503, "ServiceUnavailable"), (400, "IDPCommunicationError")]
    + [(400, "Throttling")],
)
def test_a_failure_of_sts_is_an_outage(
    connect: Callable[..., Verify],
    sources: Sources,
    status: int,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The retries of the call do not call STS again, because botocore has done so already."""
    monkeypatch.setattr("serverless_sessions._core.credentials._PAUSE_SECONDS", 3600.0)
    with stand_in(sts_error(status, code)) as sts:
        sources.web_identity(sts.url)
        with pytest.raises(Unavailable, match=code) as failed:
            connect(verify_deadline_seconds=PATIENT)()
        assert len(sts.requests) == 1
    assert isinstance(failed.value.__cause__, ClientError)


@pytest.mark.parametrize("source", HTTP_SOURCES)
def test_a_provider_that_is_not_there_is_an_outage(
    connect: Callable[..., Verify], sources: Sources, source: Callable[[Sources, str], None]
) -> None:
    port = free_port()
    source(sources, f"http://127.0.0.1:{port}")
    with pytest.raises(Unavailable, match=str(port)):
        connect(verify_deadline_seconds=PATIENT)()


KEYS = {"AccessKeyId": "AKIA", "SecretAccessKey": "secret", "Token": "token"}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply(200, KEYS | {"Expiration": "4000-01-01T00:00:00Z"}), None),
        (reply(200, {}), NoCredentials),
        (reply(200, []), NoCredentials),
        (reply(200, KEYS), NoCredentials),
        (reply(200, KEYS | {"Expiration": "tomorrow"}), NoCredentials),
        (reply(200, KEYS | {"Expiration": "2000-01-01T00:00:00Z"}), NoCredentials),
        (reply(200, KEYS | {"Expiration": "4000-01-01T00:00:00Z", "AccessKeyId": "A\nB"}),)
        + (NoCredentials,),
        (reply(403, {"message": "no"}), NoCredentials),
        (reply(500, {"message": "no"}), Unavailable),
        (Reply(200, {}, b"<html>"), NoCredentials),
    ],
)
def test_answers_of_a_container(
    connect: Callable[..., Verify], sources: Sources, answer: Reply, error: type[Exception] | None
) -> None:
    with stand_in(lambda _: answer) as container:
        sources.container(container.url)
        verify = connect(verify_deadline_seconds=PATIENT)
        if error is None:
            assert verify()
        else:
            with pytest.raises(error) as failed:
                verify()
            assert "secret" not in str(failed.value)


@pytest.mark.parametrize("statements", ["sys.exit(1)", "print('no JSON'); sys.exit()"])
def test_a_program_that_fails_means_no_credentials(
    connect: Callable[..., Verify], sources: Sources, statements: str
) -> None:
    sources.process(statements)
    with pytest.raises(NoCredentials):
        connect(verify_deadline_seconds=PATIENT)()


def test_a_missing_token_file_means_no_credentials(
    connect: Callable[..., Verify], sources: Sources, tmp_path: Path
) -> None:
    sources.web_identity("http://127.0.0.1:1")
    (tmp_path / "identity").unlink()
    with pytest.raises(NoCredentials, match="identity"):
        connect(verify_deadline_seconds=PATIENT)()


def test_the_error_names_the_environment_key_that_has_a_line_break(
    connect: Callable[..., Verify], monkeypatch: pytest.MonkeyPatch, api: StandIn
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden\n")
    with pytest.raises(NoCredentials, match="secret key .* line break") as refused:
        connect(verify_deadline_seconds=PATIENT)()
    assert "hidden" not in str(refused.value)
    assert api.requests == []


def test_an_error_does_not_show_renewable_keys_with_a_line_break(
    connect: Callable[..., Verify], api: StandIn
) -> None:
    renewing = Renewing(seconds=3600, token_suffix="hidden\n")
    with pytest.raises(Unavailable, match="malformed") as failed:
        connect(credentials=renewing.credentials)()
    assert "hidden" not in f"{failed.value} {failed.value.__cause__}"
    assert api.requests == []
