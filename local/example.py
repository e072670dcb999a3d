"""An example app on the local stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from local.stack import HOST, ROOT, LocalError, LocalStack, cdk, environment
from serverless_sessions.operate.deployment import execute_api_url

_WEB_APPS = ("django", "flask", "fastapi")


def run_example(stack: LocalStack, app: str) -> None:
    """Run `app` until it ends. Raises `LocalError`."""
    if app == "protected_api":
        _deploy_protected_api(stack)
    else:
        _serve(stack, app)


def require_example(app: str) -> None:
    if app not in (*_WEB_APPS, "protected_api"):
        raise LocalError(f"APP must be django, flask, fastapi or protected_api, not '{app}'.")


def _serve(stack: LocalStack, app: str) -> None:
    port = os.environ.get("WEB_PORT") or "8000"
    keys = stack.credentials(app, "execute-api:Invoke")
    file = f"examples/{app}_app/app.py"
    print(f"\nOpen http://{HOST}:{port} in two browsers; the app is {file}.\n", flush=True)
    process = subprocess.run(  # noqa: S603
        [sys.executable, ROOT / file],
        env=environment() | stack.environment(keys) | {"WEB_PORT": port},
    )
    if process.returncode:
        raise LocalError(f"{file} failed; its output is above.")


def _deploy_protected_api(stack: LocalStack) -> None:
    folder = "examples/protected_api"
    arn = stack.outputs["AuthorizerArn"]
    outputs = cdk(
        stack, ROOT / folder, "deploy", "ProtectedApi", "--context", f"authorizer_arn={arn}"
    )
    url = execute_api_url(stack.endpoint, outputs["ApiUrl"])
    with stack.sessions(stack.credentials("web", "execute-api:Invoke")) as sessions:
        issued = sessions.create("ada")
    bearer = f"curl -H 'Authorization: Bearer {issued.token}'"
    print(f"\n{folder}/app.py is deployed. It requires a token:\n")
    print(f"  {bearer} {url}/whoami\n  curl {url}/whoami\n")
    print("Serving until Ctrl-C.", flush=True)
    signal.pause()
