"""An example app on the local stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

from local.stack import (
    HOST,
    ROOT,
    LocalError,
    LocalStack,
    await_start,
    cdk,
    environment,
    require_free,
)
from serverless_sessions.operate.deployment import local_url

_WEB_APPS = ("django", "flask", "fastapi")
_END_SECONDS = 10
# The only origin whose pages may open live sockets.
ORIGIN = "https://app.example.com"


def run_example(stack: LocalStack, app: str) -> None:
    """Run `app` until it ends. Raises `LocalError`."""
    if app == "protected_api":
        _show_protected_api(stack)
    elif app == "live_sockets":
        _show_live_sockets(stack)
    else:
        _serve(stack, app)


def _web_port() -> int:
    port = os.environ.get("WEB_PORT") or "8000"
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise LocalError(f"WEB_PORT must be a port number, not '{port}'.")
    return int(port)


def require_example(app: str) -> None:
    """Raise `LocalError` if there is no such example, or its port can't be used."""
    if app not in (*_WEB_APPS, "protected_api", "live_sockets"):
        raise LocalError(
            f"APP must be django, flask, fastapi, protected_api or live_sockets, not '{app}'."
        )
    if app in _WEB_APPS:
        require_free(_web_port(), "WEB_PORT")


def _serve(stack: LocalStack, app: str) -> None:
    port = _web_port()
    keys = stack.credentials(app, "execute-api:Invoke")
    file = f"examples/{app}_app/app.py"
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, ROOT / file],
        env=environment() | stack.environment(keys) | {"WEB_PORT": str(port)},
    )
    try:
        if await_start(process, port):
            print(
                f"\nOpen http://{HOST}:{port} in two browsers; the app is {file}. In a second"
                " terminal, see what happened to a user's sessions:\n\n"
                f'make sessions STAGE=local PORT={stack.port} ARGS="trail USER"\n\n'
                "Serving until Ctrl-C.\n",
                flush=True,
            )
        if process.wait():
            raise LocalError(f"{file} failed; its output is above.")
    finally:
        # Ctrl-C in a terminal reaches the app as well, which ends by itself then.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
        process.kill()
        process.wait()


def _show_protected_api(stack: LocalStack) -> None:
    folder = "examples/protected_api"
    arn = stack.outputs["AuthorizerArn"]
    outputs = cdk(
        stack, ROOT / folder, "deploy", "ProtectedApi", "--context", f"authorizer_arn={arn}"
    )
    url = local_url(stack.endpoint, outputs["ApiUrl"])
    with stack.sessions(stack.credentials("web", "execute-api:Invoke")) as sessions:
        issued = sessions.create("ada")
    bearer = f"curl -H 'Authorization: Bearer {issued.token}'"
    print(f"\n{folder}/app.py is deployed. It requires a token:\n")
    print(f"  {bearer} {url}/whoami\n  curl {url}/whoami\n")
    print("Serving until Ctrl-C.", flush=True)
    signal.pause()


def deploy_live_sockets(stack: LocalStack) -> str:
    """Deploy this example, and return the HTTP URL of its sockets. Raises `LocalError`."""
    outputs = cdk(
        *(stack, ROOT / "examples/live_sockets", "deploy", "LiveSockets"),
        *("--context", f"authorizer_arn={stack.outputs['AuthorizerArn']}"),
        *("--context", f"origin={ORIGIN}"),
    )
    return local_url(stack.endpoint, outputs["SocketUrl"])


def _show_live_sockets(stack: LocalStack) -> None:
    url = deploy_live_sockets(stack)
    with stack.sessions(stack.credentials("web", "execute-api:Invoke")) as sessions:
        issued = sessions.create("ada")
    headers = (
        *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        *("Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", f"Origin: {ORIGIN}"),
        f"Cookie: __Host-session={issued.token}",
    )
    curl = " \\\n    ".join(("curl -iN", *(f"-H '{header}'" for header in headers), url))
    print("\nexamples/live_sockets/app.py is deployed. This opens a socket and waits:\n")
    print(f"  {curl}\n\nIn a second terminal, end the session. The socket is then closed:\n")
    print(f'  make sessions STAGE=local PORT={stack.port} ARGS="sign-out ada --reason logout"\n')
    print("Serving until Ctrl-C.", flush=True)
    signal.pause()
