"""The app in `examples/your_stack`, and the snippets in docs/construct.md."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aws_cdk
import pytest

from tests.infra.foreign import findings
from tests.support.template import ROOT, app_without_bundle

EXAMPLE = ROOT / "examples/your_stack"
SERVICES = "Shop/Customers/", "Shop/Staff/"


@cache
def shop() -> tuple[dict[str, Any], set[tuple[str, str]]]:
    """Return the template of the example and cdk-nag's findings. Its layer is empty."""
    with TemporaryDirectory() as name:
        folder = Path(name) / "your_stack"
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("layer", "__pycache__"))
        (folder / "layer").mkdir()
        app = app_without_bundle({})
        runpy.run_path(str(folder / "app.py"))["Shop"](app, "Shop")
        reported = findings(app)
        template = json.loads((Path(app.outdir) / "Shop.template.json").read_text())
    return template, reported


def names(template: dict[str, Any], kind: str) -> list[str]:
    return [name for name, resource in template["Resources"].items() if resource["Type"] == kind]


def test_nag_finds_nothing_in_the_services_of_the_example() -> None:
    """It does find what the example itself does without."""
    _, reported = shop()

    assert reported
    assert not [path for _, path in reported if path.startswith(SERVICES)]
    assert not [rule for rule, _ in reported if "execute-api" in rule or "dynamodb" in rule]


def test_backend_of_the_example_may_call_its_routes_and_read_sessions() -> None:
    template, _ = shop()
    [policy] = [name for name in names(template, "AWS::IAM::Policy") if name.startswith("Backend")]

    document = template["Resources"][policy]["Properties"]["PolicyDocument"]
    allowed = {statement["Action"]: statement["Resource"] for statement in document["Statement"]}
    assert allowed.keys() == {"execute-api:Invoke", "dynamodb:GetItem"}
    assert [resource["Fn::Join"][1][-1] for resource in allowed["execute-api:Invoke"]] == [
        "/$default/POST/sessions",
        "/$default/POST/sessions/verify",
        "/$default/DELETE/sessions/*",
    ]


def test_only_two_routes_of_the_example_have_the_authorizer() -> None:
    template, _ = shop()
    [authorizer] = names(template, "AWS::ApiGatewayV2::Authorizer")

    protected = {
        resource["Properties"]["RouteKey"]
        for resource in template["Resources"].values()
        if resource.get("Properties", {}).get("AuthorizerId") == {"Ref": authorizer}
    }
    assert protected == {"GET /orders", "POST /log-out"}


def test_snippets_of_the_guide_can_be_synthesized(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are one program. The code of its function is that of the example."""
    guide = (ROOT / "docs/construct.md").read_text()
    blocks = re.findall("^```(python|json)\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    [cdk_json] = [json.loads(block) for language, block in blocks if language == "json"]
    app = app_without_bundle(cdk_json["context"])
    monkeypatch.setattr(aws_cdk, "App", lambda: app)
    namespace: dict[str, Any] = {}
    for snippet in [block for language, block in blocks if language == "python"]:
        code = snippet.replace('"backend")', f'"{EXAMPLE}/backend")')
        exec(compile(code, "docs/construct.md", "exec"), namespace)  # noqa: S102

    assembly = app.synth()

    outputs = {
        name: assembly.get_stack_by_name(name).template["Outputs"] for name in ("Shop", "Partners")
    }
    services = {
        match[1] for output in outputs["Shop"] if (match := re.match("(.+)ApiUrl.{8}$", output))
    }
    assert services == {"Sessions", "Customers", "Staff"}
    assert "ApiUrl" in outputs["Partners"]
    assert namespace["settings"].default_ttl_seconds == 3600
    # Those of the commands in the guide.
    assert set(re.findall(r"--stack (\w+)", guide)) == outputs.keys()
    assert set(re.findall(r"--service (\w+)", guide)) <= services
