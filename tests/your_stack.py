"""Tries `examples/your_stack` as another team would use it: from the wheels, on the local stack.

`make test-construct` runs it. `.local/your_stack` is then a copy of the example with an environment
that contains only the wheels and their dependencies.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from local.stack import ROOT, LocalStack, cdk, enable_ttl, started, step
from serverless_sessions.operate.deployment import local_url
from tests.support.caller import Answer, Caller
from tests.support.ports import free_port
from tests.support.waiting import eventually

APP = ROOT / ".local/your_stack"
SERVICES = "Customers", "Staff"
# CPU seconds, because another program may use the machine at the same time.
MAX_SECONDS = 20


def main() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        variables = only_python_and_node(folder / "tools")
        stack = LocalStack(free_port(), folder / "local")
        with started(stack):
            synthesize(stack, variables)
            with step("cdk deploy"):
                outputs = cdk(stack, APP, "deploy", "Shop", **variables)
                enable_ttl(stack, outputs)
            smoke(stack)
            with step("use the shop"):
                use(stack, outputs)


def only_python_and_node(folder: Path) -> dict[str, str]:
    """Return variables without paths to a compiler, Docker, uv or the modules of this checkout."""
    node = shutil.which("node")
    assert node, "Node.js is not on the PATH"
    folder.mkdir()
    (folder / "node").symlink_to(node)
    return {"PATH": f"{APP}/.venv/bin:{folder}", "PYTHONPATH": ""}


def synthesize(stack: LocalStack, variables: Mapping[str, str]) -> None:
    """Synthesize the app with the bundle of the wheel. The deployment has another one."""
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    with step("cdk synth"):
        cdk(stack, APP, "synth", "--quiet", **variables)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime
    print(f"    {seconds:.1f} s of CPU")
    assert seconds < MAX_SECONDS, f"synthesis takes more than {MAX_SECONDS} s of CPU"


def smoke(stack: LocalStack) -> None:
    """Run `sessions smoke` for both services, with the command of the wheel."""
    for service in SERVICES:
        with step(f"sessions --stack Shop --service {service} smoke"):
            done = subprocess.run(  # noqa: S603
                [
                    APP / ".venv/bin/sessions",
                    *("--stack", "Shop", "--service", service, "smoke"),
                ],
                env=stack.root_environment | {"PYTHONPATH": ""},
                capture_output=True,
                text=True,
            )
        assert done.returncode == 0, done.stdout + done.stderr


def use(stack: LocalStack, outputs: Mapping[str, str]) -> None:
    """Log a customer in and out. A token of the other service is not accepted."""
    shop = Caller(local_url(stack.endpoint, outputs["ApiUrl"]), None)

    def call(method: str, path: str, token: str) -> Answer:
        return shop(method, path, headers={"Authorization": f"Bearer {token}"})

    token = shop("POST", "/log-in", {"user": "ada"}).json["token"]
    assert call("GET", "/me", token).json["user"] == "ada"
    assert call("GET", "/orders", token).json == {"user": "ada", "orders": []}
    assert call("POST", "/log-out", token).status == 204
    assert call("GET", "/orders", token).status == 403
    assert call("GET", "/me", token).status == 401

    queue = stack.client("sqs")

    def log_outs() -> list[dict[str, Any]]:
        """Return events of the customer. The queue also has those of the smoke test."""
        answer = queue.receive_message(QueueUrl=outputs["LogOutsUrl"], MaxNumberOfMessages=10)
        events = [json.loads(message["Body"])["detail"] for message in answer.get("Messages", ())]
        return [event for event in events if event["user_id"] == "ada"]

    [event] = eventually(log_outs)
    assert event["reason"] == "logout"

    [name] = [name for name in outputs if re.fullmatch("StaffApiUrl[0-9A-F]{8}", name)]
    keys = stack.credentials("staff", "execute-api:Invoke")
    with stack.sessions(keys, local_url(stack.endpoint, outputs[name])) as staff:
        issued = staff.create("grace")
        assert call("GET", "/orders", issued.token).status == 403
        assert call("GET", "/me", issued.token).status == 401
        assert staff.verify(issued.token) == issued.session


if __name__ == "__main__":
    main()
