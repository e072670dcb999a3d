"""The synthesized CloudFormation template, without the code of the functions."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from deploy.bundle import CONTEXT

if TYPE_CHECKING:
    from aws_cdk import App
    from aws_cdk.assertions import Template

    from serverless_sessions_cdk import SessionsStack

ROOT = Path(__file__).parents[2]


# The tests use these default settings, no matter what a deployer sets in `cdk.json`.
SETTINGS: dict[str, Any] = {
    "default_ttl_seconds": 1800,
    "default_absolute_ttl_seconds": 86_400,
    "max_absolute_ttl_seconds": 34_560_000,
    "max_impersonation_seconds": 3600,
    "max_data_bytes": 65_536,
    "renewal_fraction": 0.1,
    "rotation_grace_seconds": 30,
    "not_before": 0,
    "session_cookie": "__Host-session",
    "authorize_anonymous": False,
    "audit_retention_days": 400,
    "unrecorded_events": ["renewed", "confirmed"],
    "record_anonymous": False,
    "prompt_expiry": False,
    "dynamodb_client": "lean",
    "function_url": False,
    "memory_mb": 512,
    "snap_start": False,
    "throttle_rate_per_second": 500,
    "throttle_burst": 1000,
    "log_retention": "ONE_MONTH",
    "removal_policy": "DESTROY",
    "deletion_protection": False,
}
STAGES: dict[str, dict[str, Any]] = {
    "dev": {},
    "prod": {"log_retention": "ONE_YEAR", "removal_policy": "RETAIN", "deletion_protection": True},
    "local": {"event_bus": "default", "function_url": True, "log_retention": "ONE_DAY"},
}
# A stage of the tests with everything that can be switched on.
FULL = "full"
_FULL_SETTINGS: dict[str, Any] = {
    "event_bus": "default",
    "function_url": True,
    "max_sessions_per_user": 3,
    "prompt_expiry": True,
}


def cdk_context() -> dict[str, Any]:
    """Return the context in `cdk.json`. The CDK CLI reads it, but the CDK library does not."""
    values: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
    return values


def context() -> dict[str, Any]:
    """Return the context of `cdk.json` with the settings and the stages that tests rely on."""
    return cdk_context() | {"settings": dict(SETTINGS), "stages": deepcopy(STAGES)}


def app_folder(folder: Path, **settings: Any) -> Path:
    """Make `folder` one from which the CDK CLI deploys `app.py` with the settings of `context`.

    `settings` are those that are different.
    """
    folder.mkdir()
    app = shlex.join((sys.executable, str(ROOT / "app.py")))
    values = context()
    values["settings"].update(settings)
    (folder / "cdk.json").write_text(json.dumps({"app": app, "context": values}))
    return folder


# The CDK is only imported where it is needed, because it starts Node.js.


def synthesize(stage: str = "dev", **settings: Any) -> tuple[App, SessionsStack]:
    """Create the app and its stack as `app.py` does, with some changed settings."""
    from aws_cdk import Tags

    from deploy.stages import settings_of
    from serverless_sessions_cdk import SessionsStack

    values = context()
    values["stages"][FULL] = _FULL_SETTINGS
    values["settings"].update(settings)
    app = app_without_bundle(cdk_context())
    stack = SessionsStack(app, f"Sessions-{stage}", settings=settings_of(stage, values))
    Tags.of(app).add("stage", stage)
    return app, stack


def app_without_bundle(values: Mapping[str, Any]) -> App:
    """Create an app with this context, whose functions have no code."""
    from aws_cdk import App

    file = ROOT / ".local/templates/empty.zip"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        # Another test process may write the same file at the same time.
        written = file.with_suffix(f".{os.getpid()}")
        with ZipFile(written, "w"):
            pass
        written.replace(file)
    return App(context={**values, CONTEXT: str(file)})


@cache
def template(stage: str = "dev", **settings: Any) -> Template:
    from aws_cdk.assertions import Template

    return Template.from_stack(synthesize(stage, **settings)[1])


def resources(kind: str, stage: str = "dev") -> dict[str, Any]:
    """Return the properties of all resources of a type, by their logical ids."""
    return {
        name: resource["Properties"]
        for name, resource in document(stage)["Resources"].items()
        if resource["Type"] == kind
    }


@cache
def document(stage: str) -> dict[str, Any]:
    """Return the template as JSON. It is cached on disk until one of its sources changes."""
    folder = ROOT / ".local/templates"
    file = folder / f"{stage}-{_digest()}.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for outdated in folder.glob(f"{stage}-*.json"):
            outdated.unlink(missing_ok=True)
        # Another test process may write the same file at the same time.
        written = file.with_suffix(f".{os.getpid()}")
        written.write_text(json.dumps(template(stage).to_json()))
        written.replace(file)
    kept: dict[str, Any] = json.loads(file.read_text())
    return kept


@cache
def _digest() -> str:
    """Return a digest of all sources of the template."""
    sources = [
        *sorted((ROOT / "infra").rglob("*.py")),
        *(ROOT / "deploy/stages.py", ROOT / "cdk.json", Path(__file__)),
    ]
    digest = hashlib.sha256(version("aws-cdk-lib").encode())
    for source in sources:
        digest.update(f"{source.relative_to(ROOT)}\0".encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def documented_rule() -> Template:
    """Return a stack with the rule that docs/events.md shows."""
    from aws_cdk import App, BootstraplessSynthesizer
    from aws_cdk.assertions import Template

    [snippet] = re.findall(
        "^```python\n(.*?)^```", (ROOT / "docs/events.md").read_text(), re.MULTILINE | re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(compile(snippet, "docs/events.md", "exec"), names)  # noqa: S102
    app = App(default_stack_synthesizer=BootstraplessSynthesizer())
    return Template.from_stack(names["Notices"](app, "Notices"))
