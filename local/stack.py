"""The whole stack on this machine: MiniStack, `cdk bootstrap`, `cdk deploy`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.credentials import Credentials

from deploy import bundle
from serverless_sessions import Sessions
from serverless_sessions.operate.deployment import local_url

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"
REGION = "us-east-1"
ACCOUNT = "000000000000"
STACK = "Sessions-local"
# The keys of MiniStack's root user, who may do everything.
_ROOT_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
_API_ID = "5e551045"
_START_SECONDS = 120
# AWS answers within seconds. MiniStack may take longer on a busy machine, because it starts a
# process for every parallel call.
_DEADLINE_SECONDS = 120


class LocalError(Exception):
    """The local stack can't run. The message says why."""


class LocalStack:
    """The stack at `port`, used with the rights of its root user. Its files are in `folder`.

    It is deployed from the `cdk.json` in the folder `app`, which has the settings. Without `ttl`,
    TTL deletes nothing, as on AWS in the first hours or days after the expiry.
    """

    def __init__(
        self, port: int, folder: Path | None = None, *, app: Path = ROOT, ttl: bool = True
    ) -> None:
        self.port = port
        self.app = app
        self.ttl = ttl
        self.endpoint = f"http://{HOST}:{port}"
        self.folder = folder or ROOT / ".local" / str(port)
        self.outputs_file = self.folder / "outputs.json"

    def client(self, service: str, credentials: Credentials | None = None) -> Any:
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=credentials.access_key if credentials else "test",
            aws_secret_access_key=credentials.secret_key if credentials else "test",
        )

    @property
    def is_running(self) -> bool:
        """Whether this stack is deployed and its port is open."""
        return _is_open(self.port) and self.outputs_file.exists()

    def require_running(self) -> None:
        """Raise `LocalError` unless this stack is running."""
        if not self.is_running:
            raise LocalError(f"No local stack runs at port {self.port}; start one with 'make run'.")

    @property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs by name."""
        outputs: dict[str, str] = json.loads(self.outputs_file.read_text())
        return outputs

    @property
    def url(self) -> str:
        """The session service's base URL."""
        return local_url(self.endpoint, self.outputs["ApiUrl"])

    @property
    def function_url(self) -> str:
        """The URL of the API's function."""
        return local_url(self.endpoint, self.outputs["FunctionUrl"])

    def credentials(self, user: str, *actions: str) -> Credentials:
        """Create keys of an IAM user who may do `actions` and nothing else."""
        iam = self.client("iam")
        with suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_user(UserName=user)
        if actions:
            statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.put_user_policy(UserName=user, PolicyName="may", PolicyDocument=policy)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        return Credentials(key["AccessKeyId"], key["SecretAccessKey"])

    def sessions(self, credentials: Credentials, url: str | None = None) -> Sessions:
        """Return a client of the API, or of `url`, that waits long enough for a busy machine."""
        return Sessions(
            url or self.url,
            region=REGION,
            credentials=credentials,
            deadline_seconds=_DEADLINE_SECONDS,
            verify_deadline_seconds=_DEADLINE_SECONDS,
        )

    def environment(self, credentials: Credentials) -> dict[str, str]:
        """Return the environment variables that the client, the command line and curl use."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "SESSIONS_URL": self.url,
        }

    @property
    def root_environment(self) -> dict[str, str]:
        """The environment of this process, with access to this stack as its root user."""
        return environment() | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            **_ROOT_KEYS,
        }


@contextmanager
def running(stack: LocalStack) -> Iterator[None]:
    """Start MiniStack, deploy the stack to it, and stop everything afterwards.

    Raises `LocalError` if the port is taken, a tool is missing or the deployment fails.
    """
    with started(stack):
        _deploy(stack)
        yield


@contextmanager
def started(stack: LocalStack) -> Iterator[None]:
    """Start MiniStack, prepare it for the CDK, and stop it afterwards. Raises `LocalError`."""
    require_free(stack.port, "PORT")
    stack.folder.mkdir(parents=True, exist_ok=True)
    stack.outputs_file.unlink(missing_ok=True)
    log = stack.folder / "ministack.log"
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: S603
            [tool(ROOT / ".venv-local/bin/python"), ROOT / "local/emulator.py"],
            env={
                **environment(),
                "GATEWAY_PORT": str(stack.port),
                "BIND_HOST": HOST,
                "AUTH": "true",
                "IOT_MTLS_ENABLED": "0",
                "SFTP_ENABLED": "0",
                "STATE_DIR": str(stack.folder / "state"),
                "TMPDIR": str(stack.folder),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with step("start MiniStack"):
            if not await_start(process, stack.port):
                raise LocalError(
                    f"{log.read_text()}\nMiniStack did not start; its output is above."
                )
        with step("cdk bootstrap"):
            # Without a `cdk.json` in the folder, the CDK synthesizes no app.
            cdk(stack, stack.folder, "bootstrap", f"aws://{ACCOUNT}/{REGION}")
        yield
    finally:
        stack.outputs_file.unlink(missing_ok=True)
        _end(process)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print the title of a step, and its duration when it is finished."""
    print(f"  {title} …", end="", flush=True)
    begin = time.monotonic()
    try:
        yield
    except BaseException:
        print()
        raise
    print(f" {time.monotonic() - begin:.1f} s", flush=True)


def _deploy(stack: LocalStack) -> None:
    with step("cdk deploy"):
        outputs = cdk(
            *(stack, stack.app, "deploy", STACK, "--context", "stage=local"),
            *("--tags", f"ms-custom-id={_API_ID}"),
        )
        stack.outputs_file.write_text(json.dumps(outputs))
    if stack.ttl:
        enable_ttl(stack, outputs)


def enable_ttl(stack: LocalStack, outputs: Mapping[str, str]) -> None:
    """Enable the TTL of the tables of all services that have these outputs.

    MiniStack's CloudFormation ignores the TTL of a table. tests/infra check it in the template.
    """
    for name, table in outputs.items():
        if re.search("(Sessions|Audit|Timers)TableName", name):
            stack.client("dynamodb").update_time_to_live(
                TableName=table,
                TimeToLiveSpecification={"Enabled": True, "AttributeName": "ExpirationTime"},
            )


def environment() -> dict[str, str]:
    """Return this process's environment without variables that point to a real AWS account."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def tool(path: Path) -> str:
    """Return the path of a program that `make setup` installs. Raises `LocalError` without it."""
    if not path.exists():
        raise LocalError(f"{path.relative_to(ROOT)} is missing; 'make setup' installs it.")
    return str(path)


def cdk(
    stack: LocalStack, folder: Path, command: str, *arguments: str, **variables: str
) -> dict[str, str]:
    """Run a command of the CDK for the app in `folder`, against the local stack.

    `variables` are added to the environment. Returns the outputs of the stack if one was deployed.
    Raises `LocalError`.
    """
    work = stack.folder / "-".join(("cdk", command, *arguments[:1])).replace("/", "-")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    outputs = work / "outputs.json"
    if command == "deploy":
        arguments += ("--output", str(work / "cdk.out"), "--outputs-file", str(outputs))
        arguments += ("--require-approval", "never")
        # This machine runs the functions, which those of a deployment are not built for.
        archive = bundle.archive(bundle.THIS_MACHINE)
        arguments += ("--context", f"{bundle.CONTEXT}={archive}")
    process = subprocess.run(  # noqa: S603
        [tool(ROOT / "node_modules/.bin/cdk"), command, *arguments],
        cwd=folder,
        env=stack.root_environment | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if process.returncode:
        raise LocalError(f"{process.stdout}\n'cdk {command}' failed; its output is above.")
    if not outputs.exists():
        return {}
    [stack_outputs] = json.loads(outputs.read_text()).values()
    return dict(stack_outputs)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def require_free(port: int, variable: str) -> None:
    """Raise `LocalError` if nothing can listen on the port, which `variable` sets."""
    with socket.socket() as probe:
        # As servers do, so that connections that were closed a moment ago don't matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError as error:
            raise LocalError(
                f"You may not listen on port {port}; choose one above 1023 with {variable}=…."
            ) from error
        except OSError as error:
            raise LocalError(
                f"Port {port} is taken; choose another one with {variable}=…."
            ) from error


def await_start(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the process listens on the port. Returns False if it ends or takes too long."""
    deadline = time.monotonic() + _START_SECONDS
    while not _is_open(port):
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """End MiniStack and the functions' processes, which share its process group."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, ending)
            process.wait(timeout=5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
