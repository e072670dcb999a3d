"""Tries an installed construct: the CDK app of another team, with nothing but this distribution.

`make test-wheels` runs it in clean environments, with the lowest and the newest dependencies.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

APP = """
from aws_cdk import App, Stack
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_iam as iam
from aws_cdk.aws_apigatewayv2_integrations import HttpUrlIntegration

from serverless_sessions_cdk import Sessions, Settings

app = App()
shop = Stack(app, "Shop")
role = iam.Role(shop, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
for name in ("Customers", "Admins"):
    sessions = Sessions(shop, name, settings=Settings(default_ttl_seconds=3600))
    sessions.grant_call(role, "POST /sessions/verify", "GET /sessions/{session_id}")
    sessions.grant_read_directly(role)
    apigw.HttpApi(shop, f"{name}Orders").add_routes(
        path="/orders",
        integration=HttpUrlIntegration("Orders", "https://example.com"),
        authorizer=sessions.http_authorizer(),
    )
app.synth()
"""
# CPU seconds, because another program may use the machine at the same time.
MAX_SECONDS = 20


def main() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "app.py").write_text(APP)
        # The first synthesis of a version of the CDK also unpacks it.
        seconds = next((took for _ in range(3) if (took := synthesize(folder)) < MAX_SECONDS), None)
        resources = json.loads((folder / "cdk.out/Shop.template.json").read_text())["Resources"]
        check_code(folder / "cdk.out", resources)
    assert seconds, f"synthesis takes more than {MAX_SECONDS} s of CPU"
    print(f"{len(resources)} resources of two services: {seconds:.1f} s of CPU")
    check_distribution()


def synthesize(folder: Path) -> float:
    """Run the app where only Python and Node.js are, and return the seconds of CPU that it used."""
    node = shutil.which("node")
    assert node, "Node.js is not on the PATH"
    environment = {"PATH": str(folder), "JSII_NODE": node, "HOME": os.environ["HOME"]}
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    subprocess.run(  # noqa: S603
        [sys.executable, "app.py"],
        cwd=folder,
        env=environment | {"CDK_OUTDIR": "cdk.out", "JSII_SILENCE_WARNING_END_OF_LIFE_NODE": "1"},
        check=True,
    )
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"synthesized within {time.monotonic() - started:.1f} s")
    return end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime


def check_code(assets: Path, resources: dict[str, Any]) -> None:
    """All functions have the one bundle, with a handler for each.

    It has byte code if a Python of the runtime's version was there to compile it.
    """
    functions = [
        resource["Properties"]
        for resource in resources.values()
        if resource["Type"] == "AWS::Lambda::Function"
    ]
    assert len(functions) == 6
    [key] = {function["Code"]["S3Key"] for function in functions}
    [file] = assets.glob("asset.*.zip")
    assert key == file.name.removeprefix("asset.")
    with ZipFile(file) as bundle:
        names = set(bundle.namelist())
    for function in functions:
        module = function["Handler"].removesuffix(".lambda_handler").replace(".", "/")
        assert f"{module}.py" in names
        tag = function["Runtime"].replace("python", "cpython-").replace(".", "")
        package, _, name = module.rpartition("/")
        byte_code = f"{package}/__pycache__/{name}.{tag}.pyc"
        assert byte_code in names or not any(name.endswith(".pyc") for name in names)
        assert function["Architectures"] == ["arm64"]
    assert any(name.endswith("aarch64-linux-gnu.so") for name in names)


def check_distribution() -> None:
    """It is typed, and has the licences of what the bundle contains."""
    files = [str(file) for file in distribution("serverless-sessions-cdk").files or ()]

    assert "serverless_sessions_cdk/py.typed" in files
    licensed = {name.split("/")[-2] for name in files if "/licenses/" in name}
    assert licensed == {
        "serverless-sessions",
        "aws_lambda_powertools",
        "jmespath",
        "msgspec",
        "typing_extensions",
    }


if __name__ == "__main__":
    main()
